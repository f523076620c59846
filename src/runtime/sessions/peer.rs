//! What is known of one peer: its sessions, the handshake under way, what waits for it.

use super::header::{Cookie, FIRST_BYTES};
use super::limits::{ACK_DELAY, Limits, MAX_SESSIONS, PATIENCE, PING_RETRY, SIMULTANEOUS};
use super::noise::Progress;
use super::path::Path;
use super::session::{Content, Session};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A confirmed session, and how it is used.
pub struct Link {
    pub session: Arc<Session>,
    /// When the answer came to the initiator, or the first datagram to the responder.
    confirmed_at: Duration,
    /// When a better one was heard.
    pub replaced_at: Option<Duration>,
    pub heard_at: Option<Duration>,
    /// When a payload was last sent.
    pub payload_at: Option<Duration>,
    /// Since when payloads are sent and nothing comes back.
    pub unanswered_since: Option<Duration>,
    /// When the peer is to be told that it was heard.
    pub ack_due: Option<Duration>,
    /// When the confirmation is sent again, and how often it has been.
    pub ping: Option<(Duration, u8)>,
    /// Nothing came back for too long: the peer may have forgotten it.
    pub suspect: bool,
}

impl Link {
    pub fn new(session: Arc<Session>, now: Duration) -> Self {
        Link {
            session,
            confirmed_at: now,
            replaced_at: None,
            heard_at: None,
            payload_at: None,
            unanswered_since: None,
            ack_due: None,
            ping: None,
            suspect: false,
        }
    }

    /// Whether to send in this one rather than in `other`. Both ends decide alike where they have heard in
    /// both: of simultaneous sessions, the higher rank; otherwise the one confirmed later.
    fn is_better(&self, other: &Link) -> bool {
        if self.suspect != other.suspect {
            return other.suspect;
        }
        let apart = self.confirmed_at.abs_diff(other.confirmed_at);
        if self.session.initiator != other.session.initiator && apart <= SIMULTANEOUS {
            return self.session.rank > other.session.rank;
        }
        self.confirmed_at >= other.confirmed_at
    }

    /// Takes note that something is sent in it now.
    pub fn sends(&mut self, content: Content, now: Duration) {
        self.ack_due = None;
        match content {
            Content::Payload => {
                self.payload_at = Some(now);
                self.unanswered_since.get_or_insert(now);
            }
            Content::Ping => {
                let sent = self.ping.map_or(0, |(_, sent)| sent);
                self.ping = Some((now + PING_RETRY * 2u32.pow(u32::from(sent)), sent + 1));
                self.unanswered_since.get_or_insert(now);
            }
            Content::KeepAlive | Content::Challenge | Content::Echo => {}
        }
    }

    /// Takes note that something was received in it now.
    pub fn hears(&mut self, content: Content, now: Duration) {
        self.heard_at = Some(now);
        self.unanswered_since = None;
        self.ping = None;
        self.suspect = false;
        if content == Content::Payload {
            self.ack_due.get_or_insert(now + ACK_DELAY);
        }
    }

    /// Whether it has ended for good.
    pub fn has_ended(&self, limits: &Limits, now: Duration) -> bool {
        now >= self.session.created + limits.session_life() || self.session.sealed() >= limits.last_counter()
    }
}

/// A handshake of this host's own.
pub struct Attempt {
    pub index: u32,
    /// Locked while an answer is tried, without the tables.
    pub progress: Arc<Mutex<Progress>>,
    /// Sent again as it is: so a late answer is still one.
    pub first: [u8; FIRST_BYTES],
    pub started: Duration,
    /// When it is sent again, and how long it is waited for then.
    pub retry: (Duration, Duration),
    pub cookie_retries: u8,
}

/// What waits for a session.
#[derive(Default)]
pub struct Queue {
    datagrams: VecDeque<Vec<u8>>,
    bytes: usize,
    /// When the first of them came.
    pub since: Duration,
}

/// What a queued datagram costs beside its bytes.
const QUEUED_EXTRA: usize = size_of::<Vec<u8>>();

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Keeps a datagram, if there is room for it here and in `total`, the bytes kept for everybody.
    pub fn push(&mut self, payload: &[u8], limits: &Limits, total: &mut usize, now: Duration) -> bool {
        let bytes = payload.len() + QUEUED_EXTRA;
        let fits = self.datagrams.len() < limits.queue_datagrams
            && self.bytes + payload.len() <= limits.queue_bytes
            && *total + bytes <= limits.queue_total_bytes;
        if fits {
            if self.datagrams.is_empty() {
                self.since = now;
            }
            self.datagrams.push_back(payload.to_vec());
            self.bytes += payload.len();
            *total += bytes;
        }
        fits
    }

    /// The length of the oldest.
    pub fn front(&self) -> Option<usize> {
        self.datagrams.front().map(Vec::len)
    }

    pub fn pop(&mut self, total: &mut usize) -> Option<Vec<u8>> {
        let payload = self.datagrams.pop_front()?;
        self.bytes -= payload.len();
        *total -= payload.len() + QUEUED_EXTRA;
        if self.datagrams.is_empty() {
            self.datagrams = VecDeque::new();
        }
        Some(payload)
    }
}

/// One peer.
pub struct PeerState {
    pub key: [u8; 32],
    pub path: Path,
    pub links: Vec<Link>,
    pub attempt: Option<Attempt>,
    pub attempted_at: Option<Duration>,
    /// A cookie of the peer's, and when it came.
    pub cookie: Option<(Cookie, Duration)>,
    pub queue: Queue,
    /// How long nothing may come back.
    pub patience: Duration,
    /// How long the last own handshake took.
    pub handshake: Option<Duration>,
    /// First messages from its address with a static key of nobody, and when the last came.
    pub strangers: (u64, Duration),
}

impl PeerState {
    pub fn new(key: [u8; 32], path: Path) -> Self {
        PeerState {
            key,
            path,
            links: Vec::new(),
            attempt: None,
            attempted_at: None,
            cookie: None,
            queue: Queue::default(),
            patience: PATIENCE.0,
            handshake: None,
            strangers: (0, Duration::ZERO),
        }
    }

    /// The session to send in.
    pub fn best(&self, limits: &Limits, now: Duration) -> Option<usize> {
        let live = self.links.iter().enumerate().filter(|(_, link)| !link.has_ended(limits, now));
        let best = live.reduce(|best, next| if next.1.is_better(best.1) { next } else { best });
        best.map(|(at, _)| at)
    }

    pub fn link(&self, index: u32) -> Option<usize> {
        self.links.iter().position(|link| link.session.local == index)
    }

    /// Adds a session. Returns the index of the one that must go for it, if any.
    pub fn add(&mut self, link: Link, limits: &Limits, now: Duration) -> Option<u32> {
        self.links.push(link);
        if self.links.len() <= MAX_SESSIONS {
            return None;
        }
        let best = self.best(limits, now);
        let last = self.links.len() - 1;
        let others = (0..last).filter(|&at| Some(at) != best);
        let oldest = others.min_by_key(|&at| self.links[at].confirmed_at)?;
        Some(self.links.remove(oldest).session.local)
    }

    /// Something was heard in the session at `at`: if it is the best, the others are replaced.
    pub fn replace_others(&mut self, at: usize, limits: &Limits, now: Duration) {
        if self.best(limits, now) == Some(at) {
            self.links[at].replaced_at = None;
            for (other, link) in self.links.iter_mut().enumerate() {
                if other != at {
                    link.replaced_at.get_or_insert(now);
                }
            }
        }
    }

    /// Whether a session says where the peer is: the best one, or one confirmed after it.
    pub fn locates(&self, at: usize, limits: &Limits, now: Duration) -> bool {
        self.best(limits, now).is_none_or(|best| self.links[at].confirmed_at >= self.links[best].confirmed_at)
    }

    /// Learns from the time that a handshake took how long to wait for anything.
    pub fn took(&mut self, time: Duration) {
        self.handshake = Some(time);
        self.patience = (time * 3).clamp(PATIENCE.0, PATIENCE.1);
    }
}
