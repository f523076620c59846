//! Sessions of datagrams between hosts: authenticated, encrypted, and without input or output.
//!
//! [`Sessions`] stands between a socket and what is sent over it. It is given datagrams and the time, and says
//! what they hold, for certain from whom, and what is to be sent. It draws random bytes from a [`Random`] and
//! does nothing else that two runs could do differently.
//!
//! | file | holds |
//! |---|---|
//! | `noise` | host keys; the handshake, Noise_IK_25519_ChaChaPoly_BLAKE2s |
//! | `header` | the four kinds of datagrams, as bytes |
//! | `session`, `window` | one session: sealing and opening, what was received before |
//! | `peer`, `path` | one peer: its sessions, its queue, where it is |
//! | `tables` | what is shared and changes; notes of what was opened |
//! | `handshake` | question, answer, cookie |
//! | `tick` | what happens as time passes |
//! | `cookie`, `bucket`, `limits` | who may ask, how much, and why not |
//! | `memory` | how many bytes all this takes |
//! | `binding` | whose host a static key is: signed statements |
//! | `types`, `random` | what callers give and get; where random bytes come from |
//!
//! # A session, from beginning to end
//!
//! A host that has something to send and no session sends a first message, and keeps what it has: at most
//! [16 datagrams](Limits::queue_datagrams) and [64 KiB](Limits::queue_bytes) for one peer, 4 MiB for all, for
//! five seconds at most, so that a client's first request does not wait for a time-out. What finds no room is
//! lost, as on any network; the protocol sends again what matters. The first message is sent again, byte for
//! byte, after 250 ms, 500 ms, and then every second, for five seconds. Another attempt begins no sooner than
//! 500 ms after the one before began, and only for something to send.
//!
//! The responder decrypts the static key, looks it up, answers, and keeps the session as pending for two
//! seconds. The initiator sends a datagram in the session at once, an empty one if nothing waits: that alone
//! makes the session one of the peer's, and the responder says at once that it was heard. Pending sessions
//! have no effect on others, and a payload in a handshake is an error.
//!
//! **Which session is sent in.** The one confirmed last. If both ends have asked within a second of each other
//! the session with the higher rank is used, a number from the hash of the handshake that both know. A session
//! in which nothing came back (below) yields to any other. As both accept datagrams in all of their sessions
//! with a peer, at most three, they need not agree for anything to arrive. A replaced session is accepted
//! until five seconds after it was replaced and last heard in.
//!
//! **When one is replaced.** When it is two minutes old ([`Limits::rekey_after`]; the responder waits 5 s, or
//! an eighth of that time if it is less, longer) or has sealed 2^32 datagrams, if a payload was sent in it
//! within ten seconds. It ends for good at three minutes, or twice that many.
//!
//! **How a sender notices that the other end has forgotten it.** Who receives a payload, and sends nothing in
//! that session for 100 ms, sends an empty datagram. Empty datagrams are not answered, so there are at most
//! ten a second, and none in an idle session. Who has sent a payload and received nothing in that session
//! for 400 ms (three times the duration of the handshake if that is longer, but at most a second) begins a
//! handshake, and goes on in the old session meanwhile. So, after a restart of either end, a session stands
//! within a second once somebody speaks, if a round trip takes up to 120 ms: tested. Where round trips take
//! more than 0.9 s, sessions are replaced without need, at most twice a second.
//!
//! # What is promised, threat by threat
//!
//! | threat | promise |
//! |---|---|
//! | reading, altering, forging | a datagram of a session is made and read at its two ends only; who gets the static keys later reads nothing recorded |
//! | replay of a datagram | dropped: a window of [`WINDOW`] counters a session, told apart by counter alone |
//! | replay of a first message | one answer, 73 bytes for 117; one pending session for two seconds, none if it is already pending; no effect on any session or on its owner's handshakes |
//! | a stolen static key | lets its thief pose as the owner, not as others to the owner, and opens no session that was recorded; it shows who asked the owner for sessions |
//! | forged source addresses | at most one reply to a first message, shorter than it (73 or 37 bytes for 117), and none to anything else |
//! | a new address of a peer | gets no more bytes than valid datagrams brought from it until it echoes 8 random bytes from there; a fixed address never changes |
//! | a flood of first messages | [64 a second](Limits::unproven) are judged, at 0.3 to 0.5 ms; the others cost one block of SHA-256, 0.5 us in all, and are answered with a cookie |
//! | a flood with true addresses | [32 a second](Limits::source) for each, [128](Limits::proven) for all together; configured addresses have a share of their own, and room for a quarter of the pending sessions |
//! | a flood in another's name | uses up what its address may do *without* a cookie; the owner is asked for one, and goes on with that |
//! | forged cookies | must repeat 16 random bytes of the first message and its index; at most four a handshake are followed |
//! | guessing at sessions | unknown indices are not answered: no oracle, no reflection |
//! | exhaustion of memory | at most [`Sessions::memory_bound`]: 5.9 MB and 8 KB for each peer |
//! | another cluster, another version | the domain and the version are part of what is authenticated |
//!
//! Cookies are bound to address and port and are good while their secret is, up to two minutes. The idea, as
//! that of an explicit counter and of a session that begins with the initiator's first datagram, is that of
//! "WireGuard: Next Generation Kernel Network Tunnel" (NDSS 2017). It differs in that a cookie is sent in
//! clear: whoever can read it can read what it proves. Limits are never counted by the key that a first
//! message claims to be of, so nobody can use up what another key may do.
//!
//! # What is not promised
//!
//! - Who can drop datagrams can drop all of them. Who reads them can also spoil handshakes by forged cookies,
//!   make a host compute by forged answers (two multiplications on the curve each), use up an address's share
//!   of handshakes with its cookie, and hold back the newest datagram of a peer to send it from elsewhere:
//!   replies then wait for the peer's next datagram.
//! - With more attacking addresses than [`Limits::proven`] allows handshakes for, clients without a session
//!   get one late or never; those that have one, and configured addresses, are not touched.
//! - Clients behind one address, or one IPv6 /64, share its handshakes; and so do
//!   two sources whose hashes meet, one pair in 1,024.
//! - Lengths, times, addresses and indices are visible. Nothing is padded.
//! - Order and delivery: what the network loses is lost. A peer may send anything; it is known only who.
//! - A peer with a key may keep this host busy with payloads. Quotas of payloads are not made here.
//! - Keys are not wiped from memory. They are never written anywhere.
//!
//! # Cost
//!
//! A payload grows by [`OVERHEAD`] bytes, 30. Sealing and opening one take 3.6 to 5.4 us together for 100 bytes
//! and 5.3 to 7.9 us for 1,200: both ends on one processor, without a socket, in the development profile, on a
//! machine with other work (the ignored tests in `tests/timing.rs`, run twice). The tables are locked two or
//! three times for each datagram, for look-ups; curve, cipher and window work is done without.

pub mod binding;
mod bucket;
mod cookie;
mod handshake;
mod header;
mod limits;
mod memory;
mod noise;
mod path;
mod peer;
mod random;
mod session;
mod tables;
#[cfg(test)]
mod tests;
mod tick;
mod types;
mod window;

pub use bucket::{Bucket, Rate};
pub use header::{ANSWER_BYTES, COOKIE_BYTES, FIRST_BYTES};
pub use limits::{Limits, Why};
pub use noise::HostKey;
pub use random::Random;
pub use types::{Outgoing, Peer, PeerEntry, PeerView, Received, Sealed, TableError, Unsent};
pub use window::WINDOW;

use super::counters::nanoseconds;
use super::transport::MAX_DATAGRAM_BYTES;
use header::{DATA_HEADER, Datagram, TAG_BYTES};
use noise::Identity;
use path::Path;
use peer::PeerState;
use session::{Content, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tables::{Job, Tables};

/// The bytes that a session adds to a payload.
pub const OVERHEAD: usize = DATA_HEADER + 1 + TAG_BYTES;
/// The longest payload, in bytes.
pub const MAX_PAYLOAD: usize = MAX_DATAGRAM_BYTES - OVERHEAD;

/// All sessions of one host. Any number of threads may use it; curve and cipher work is done unlocked.
///
/// Times are those since a start of the caller's choice, and never go back.
pub struct Sessions {
    identity: Identity,
    /// Who has which static key.
    keys: BTreeMap<[u8; 32], Peer>,
    limits: Limits,
    tables: Mutex<Tables>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every section leaves the value whole, or panics on a mistake of its own.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// Sessions of the host with the key `own`, with these peers and nobody else, all of them in the cluster
    /// with this domain.
    ///
    /// # Errors
    /// If the table names a number or a key twice, or a peer cannot be told from others or be reached.
    pub fn new(
        own: HostKey,
        domain: [u8; 32],
        entries: &[PeerEntry],
        limits: Limits,
        random: Random,
    ) -> Result<Self, TableError> {
        let (mut peers, mut keys) = (BTreeMap::new(), BTreeMap::new());
        for entry in entries {
            let state = PeerState::new(entry.public_key, Path::new(entry.address, entry.fixed));
            if peers.insert(entry.peer, state).is_some() {
                return Err(TableError::SamePeer(entry.peer));
            }
            if entry.public_key == own.public() || keys.insert(entry.public_key, entry.peer).is_some() {
                return Err(TableError::SameKey(entry.peer));
            }
            if own.shares_nothing_with(&entry.public_key) {
                return Err(TableError::WeakKey(entry.peer));
            }
            if entry.fixed && entry.address.is_none() {
                return Err(TableError::NoAddress(entry.peer));
            }
        }
        let configured: BTreeSet<SocketAddr> = entries.iter().filter_map(|entry| entry.address).collect();
        let tables = Mutex::new(Tables::new(peers, configured.into_iter(), random));
        Ok(Sessions { identity: Identity::new(own, domain), keys, limits, tables })
    }

    /// Takes a datagram. A payload is in `plaintext` afterwards; what is to be sent is added to `send`.
    ///
    /// For a datagram of nobody's, at most one is sent, to where it came from, and shorter.
    pub fn receive(
        &self,
        from: SocketAddr,
        datagram: &[u8],
        now: Duration,
        plaintext: &mut Vec<u8>,
        send: &mut Vec<Outgoing>,
    ) -> Received {
        plaintext.clear();
        let result = match header::read(datagram) {
            None => Err(Why::Malformed),
            Some(Datagram::First { sender, noise, cookie }) => {
                self.on_first(from, sender, noise, cookie, now, send).map(|()| Received::Nothing)
            }
            Some(Datagram::Answer { receiver, noise, sender }) => {
                self.on_answer(receiver, noise, sender, now, send).map(|()| Received::Nothing)
            }
            Some(Datagram::Cookie { receiver, echo, cookie }) => {
                self.on_cookie(receiver, echo, cookie, now, send).map(|()| Received::Nothing)
            }
            Some(Datagram::Data { receiver, counter, sealed }) => {
                self.on_data(from, receiver, counter, sealed, now, plaintext, send)
            }
        };
        if !matches!(result, Ok(Received::Payload { .. })) {
            plaintext.clear();
        }
        result.unwrap_or_else(Received::Dropped)
    }

    #[expect(clippy::too_many_arguments, reason = "one datagram, taken apart")]
    fn on_data(
        &self,
        from: SocketAddr,
        receiver: u32,
        counter: u64,
        sealed: &[u8],
        now: Duration,
        plaintext: &mut Vec<u8>,
        send: &mut Vec<Outgoing>,
    ) -> Result<Received, Why> {
        let session = lock(&self.tables).session(receiver).ok_or(Why::UnknownIndex)?;
        if now >= session.created + self.limits.session_life() {
            return Err(Why::Expired);
        }
        let opened = session.open(counter, sealed, plaintext)?;
        let mut jobs = Vec::new();
        let bytes = sealed.len() + DATA_HEADER;
        let limits = &self.limits;
        let result =
            lock(&self.tables).opened(&session, from, bytes, opened, plaintext, limits, now, &mut jobs);
        self.seal_all(jobs, send);
        result
    }

    /// Seals a payload for a peer; what to send is in `out` afterwards, if anything.
    pub fn seal(&self, peer: Peer, payload: &[u8], now: Duration, out: &mut Vec<u8>) -> Sealed {
        out.clear();
        match self.route(peer, payload, now) {
            Err(sealed) => sealed,
            Ok(Some((session, to))) => {
                if session.seal(Content::Payload, payload, self.limits.last_counter(), out) {
                    Sealed::Ready(to)
                } else {
                    Sealed::Dropped(Unsent::Exhausted)
                }
            }
            Ok(None) => match self.initiate(peer, now) {
                None => Sealed::Queued,
                Some((to, first)) => {
                    out.extend_from_slice(&first);
                    Sealed::Asked(to)
                }
            },
        }
    }

    /// The session and the address for a payload; nothing if it waits for a session.
    fn route(
        &self,
        peer: Peer,
        payload: &[u8],
        now: Duration,
    ) -> Result<Option<(Arc<Session>, SocketAddr)>, Sealed> {
        if payload.len() > MAX_PAYLOAD {
            return Err(Sealed::Dropped(Unsent::TooLong));
        }
        let tables = &mut *lock(&self.tables);
        let state = tables.peers.get_mut(&peer).ok_or(Sealed::Dropped(Unsent::UnknownPeer))?;
        if state.path.is_nowhere() {
            return Err(Sealed::Dropped(Unsent::NoAddress));
        }
        let best = state.best(&self.limits, now);
        if let Some(at) = best
            && let Some(to) = state.path.spend(payload.len() + OVERHEAD)
        {
            let link = &mut state.links[at];
            link.sends(Content::Payload, now);
            return Ok(Some((link.session.clone(), to)));
        }
        if !state.queue.push(payload, &self.limits, &mut tables.queued, now) {
            return Err(Sealed::Dropped(Unsent::QueueFull));
        }
        if best.is_some() { Err(Sealed::Queued) } else { Ok(None) }
    }

    /// How the sessions with a peer stand.
    pub fn view(&self, peer: Peer, now: Duration) -> PeerView {
        let tables = lock(&self.tables);
        let Some(state) = tables.peers.get(&peer) else { return PeerView::default() };
        PeerView {
            has_session: state.best(&self.limits, now).is_some(),
            handshake: state.handshake,
            strangers: state.strangers.0,
            stranger_at: (state.strangers.0 > 0).then_some(state.strangers.1),
        }
    }

    fn seal_all(&self, jobs: Vec<Job>, send: &mut Vec<Outgoing>) {
        for job in jobs {
            let mut datagram = Vec::with_capacity(job.body.len() * 2 + OVERHEAD + 1);
            if job.session.seal(job.content, &job.body, self.limits.last_counter(), &mut datagram) {
                send.push((job.to, datagram));
            }
        }
    }
}
