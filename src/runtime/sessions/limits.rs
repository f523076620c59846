//! What a host allows, and why it dropped something.

use super::bucket::Rate;
use std::time::Duration;

/// The slots of each table of sources; a source has the slot that a keyed hash of its address names.
pub(super) const SOURCES: usize = 1024;
/// How long a session that waits for the initiator's first datagram is kept.
pub(super) const PENDING_LIFE: Duration = Duration::from_secs(2);
/// How long an own handshake is tried before it is given up, and a queued datagram is kept.
pub(super) const ATTEMPT_LIFE: Duration = Duration::from_secs(5);
/// The wait before a first message is sent again for the first time; it doubles up to [`LAST_RETRY`].
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest wait before a first message is sent again.
pub(super) const LAST_RETRY: Duration = Duration::from_secs(1);
/// The shortest time between the starts of two own handshakes with one peer.
pub(super) const ATTEMPT_PACE: Duration = Duration::from_millis(500);
/// How often one handshake may be sent again at once because a cookie came.
pub(super) const MAX_COOKIE_RETRIES: u8 = 4;
/// How long a received cookie is used: less than the life of the secret behind it.
pub(super) const COOKIE_USE: Duration = Duration::from_secs(110);
/// How soon a payload is answered by an empty datagram if nothing else is sent.
pub(super) const ACK_DELAY: Duration = Duration::from_millis(100);
/// The least and the most time for which nothing may come back before a sender initiates again.
pub(super) const PATIENCE: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(1));
/// The wait before an unheard confirmation is sent again; it doubles, [`MAX_PINGS`] times.
pub(super) const PING_RETRY: Duration = Duration::from_millis(100);
/// How often a confirmation is sent.
pub(super) const MAX_PINGS: u8 = 4;
/// How long a replaced session is still accepted after it was last heard.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// A session that has sent a payload so recently is worth a new handshake when it grows old.
pub(super) const RECENT: Duration = Duration::from_secs(10);
/// How much later than the initiator the responder of a session rekeys.
pub(super) const RESPONDER_LAG: Duration = Duration::from_secs(5);
/// Sessions of both ends confirmed within this time are simultaneous: their rank decides.
pub(super) const SIMULTANEOUS: Duration = Duration::from_secs(1);
/// How often a challenge is sent again.
pub(super) const CHALLENGE_RETRY: Duration = Duration::from_millis(250);
/// The most confirmed sessions with one peer.
pub(super) const MAX_SESSIONS: usize = 3;

/// What a host allows others, and itself. The default is meant for a replica with up to some hundred clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The age at which a session that is in use is replaced. It ends for good at one and a half times that.
    pub rekey_after: Duration,
    /// The datagrams sent in a session after which it is replaced. It ends for good at twice that many.
    pub rekey_after_datagrams: u64,
    /// The datagrams kept for one peer while no session stands.
    pub queue_datagrams: usize,
    /// The bytes kept for one peer while no session stands.
    pub queue_bytes: usize,
    /// The bytes kept for all peers together.
    pub queue_total_bytes: usize,
    /// The sessions that wait for the initiator's first datagram. A quarter of them is kept for configured
    /// addresses that showed a cookie.
    pub pending: usize,
    /// Handshakes taken without a cookie, from everybody together: more is load.
    pub unproven: Rate,
    /// Handshakes taken with a cookie, from everybody together but the configured addresses.
    pub proven: Rate,
    /// Handshakes taken from one IP address (IPv6: one /64), without a cookie and once more with one.
    pub source: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            rekey_after: Duration::from_secs(120),
            rekey_after_datagrams: 1 << 32,
            queue_datagrams: 16,
            queue_bytes: 64 * 1024,
            queue_total_bytes: 4 * 1024 * 1024,
            pending: 1024,
            unproven: Rate { per_second: 64, burst: 128 },
            proven: Rate { per_second: 128, burst: 256 },
            source: Rate { per_second: 32, burst: 64 },
        }
    }
}

impl Limits {
    /// The age at which a session ends for good.
    pub(super) fn session_life(&self) -> Duration {
        self.rekey_after + self.rekey_after / 2
    }

    /// The count at which a session sends nothing more.
    pub(super) fn last_counter(&self) -> u64 {
        self.rekey_after_datagrams.saturating_mul(2).min(1 << 62)
    }

    /// The pending sessions that others than configured addresses may have.
    pub(super) fn open_pending(&self) -> usize {
        self.pending - self.pending / 4
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)*) => {
        /// Why a datagram was dropped, for the caller to count.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[non_exhaustive]
        pub enum Why {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Why {
            /// Every reason, in the order of declaration.
            pub const ALL: &[Why] = &[$(Why::$name,)*];

            /// Its name in counters.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Why::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// No datagram of this version, or of a wrong length.
    Malformed = "session_malformed",
    /// Of no session or handshake known here; nothing is answered.
    UnknownIndex = "session_unknown_index",
    /// A handshake message that was not made for this host, or is damaged.
    BadHandshake = "session_bad_handshake",
    /// A first message whose static key is in no table.
    UnknownKey = "session_unknown_key",
    /// A first message that was answered with a cookie only.
    CookieDemanded = "session_cookie_demanded",
    /// A first message with a cookie, from a source that has too many handshakes, or among too many.
    RateLimited = "session_rate_limited",
    /// A first message for which there is no room.
    PendingFull = "session_pending_full",
    /// A cookie that answers no question of this host, or one too many.
    UnexpectedCookie = "session_unexpected_cookie",
    /// A datagram of a session that was received before, or too long ago to tell.
    Replayed = "session_replayed",
    /// A datagram that its session did not seal.
    Forged = "session_forged",
    /// A datagram of a session that has ended.
    Expired = "session_expired",
    /// The echo of no challenge, or from another address.
    BadEcho = "session_bad_echo",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_rates_let_in_finds_room() {
        let limits = Limits::default();
        let life = u32::try_from(PENDING_LIFE.as_secs()).unwrap();
        let most = |rate: Rate| (rate.burst + rate.per_second * life) as usize;
        assert!(most(limits.unproven) + most(limits.proven) <= limits.open_pending());
    }
}
