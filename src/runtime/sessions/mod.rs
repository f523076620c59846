//! Sessions of datagrams between hosts: authenticated, encrypted, and without input or output.
//!
//! (module documentation follows)

pub mod binding;
mod bucket;
mod cookie;
mod handshake;
mod header;
mod limits;
mod noise;
mod path;
mod peer;
mod random;
mod session;
mod tables;
#[cfg(test)]
mod tests;
mod tick;
mod window;

pub use bucket::Rate;
pub use header::{ANSWER_BYTES, COOKIE_BYTES, FIRST_BYTES};
pub use limits::{Limits, Why};
pub use noise::HostKey;
pub use random::Random;
pub use window::WINDOW;

use super::counters::nanoseconds;
use super::transport::MAX_DATAGRAM_BYTES;
use header::{DATA_HEADER, Datagram, TAG_BYTES};
use limits::{MAX_SESSIONS, SOURCES};
use noise::Identity;
use path::Path;
use peer::{Attempt, Link, PeerState};
use session::{Content, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tables::{Job, Pending, Tables};

/// The bytes that a session adds to a payload.
pub const OVERHEAD: usize = DATA_HEADER + 1 + TAG_BYTES;
/// The longest payload, in bytes.
pub const MAX_PAYLOAD: usize = MAX_DATAGRAM_BYTES - OVERHEAD;

/// Another host, by a number that the caller chooses.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Peer(pub u32);

/// What is known of a peer beforehand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerEntry {
    /// Its number.
    pub peer: Peer,
    /// Its static key.
    pub public_key: [u8; 32],
    /// Where it is, if that is configured.
    pub address: Option<SocketAddr>,
    /// Whether it is nowhere else, whatever address its datagrams come from.
    pub fixed: bool,
}

/// Why a table of peers is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Two entries have this number.
    #[error("two hosts have the number {}", .0.0)]
    SamePeer(Peer),
    /// The key of this entry is that of another one, or this host's own.
    #[error("the static key of host {} is also that of another host", .0.0)]
    SameKey(Peer),
    /// Anybody can pose as the owner of this key.
    #[error("the static key of host {} is of small order: anybody could use it", .0.0)]
    WeakKey(Peer),
    /// There is no address that could be fixed.
    #[error("the address of host {} is fixed, but there is none", .0.0)]
    NoAddress(Peer),
}

/// A datagram, and where it is to be sent.
pub type Outgoing = (SocketAddr, Vec<u8>);

/// What came of a datagram.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Received {
    /// A payload of this peer.
    Payload {
        /// Who sealed it.
        peer: Peer,
    },
    /// Something that concerns sessions only.
    Nothing,
    /// Nothing, for this reason.
    Dropped(Why),
}

/// What came of a payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sealed {
    /// The datagram is to be sent there.
    Ready(SocketAddr),
    /// No session stands. The payload waits for one, and a first message is to be sent there.
    Asked(SocketAddr),
    /// The payload waits: for a session, or until the peer has shown where it is.
    Queued,
    /// It is lost, for this reason.
    Dropped(Unsent),
}

/// Why a payload was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Unsent {
    /// There is no such peer.
    UnknownPeer,
    /// Nobody knows where the peer is: it has sent nothing yet.
    NoAddress,
    /// It is longer than [`MAX_PAYLOAD`].
    TooLong,
    /// No session stands, and as much waits already as may.
    QueueFull,
    /// The session has sealed all that it may.
    Exhausted,
}

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

    fn seal_all(&self, jobs: Vec<Job>, send: &mut Vec<Outgoing>) {
        for job in jobs {
            let mut datagram = Vec::with_capacity(job.body.len() * 2 + OVERHEAD + 1);
            if job.session.seal(job.content, &job.body, self.limits.last_counter(), &mut datagram) {
                send.push((job.to, datagram));
            }
        }
    }

    /// The bytes that all this takes now: an estimate from above.
    pub fn memory(&self) -> usize {
        let tables = lock(&self.tables);
        let links: usize = tables.peers.values().map(|state| state.links.len()).sum();
        let attempts = tables.peers.values().filter(|state| state.attempt.is_some()).count();
        FIXED_BYTES
            + tables.peers.len() * PEER_BYTES
            + links * LINK_BYTES
            + attempts * ATTEMPT_BYTES
            + tables.pending.len() * PENDING_BYTES
            + tables.queued
    }

    /// The most bytes that all this ever takes, whatever is received: the figure of
    /// [`memory`](Sessions::memory) with everything full.
    pub fn memory_bound(&self) -> usize {
        FIXED_BYTES
            + self.keys.len() * (PEER_BYTES + MAX_SESSIONS * LINK_BYTES + ATTEMPT_BYTES)
            + self.limits.pending * PENDING_BYTES
            + self.limits.queue_total_bytes
    }
}

/// What a session takes beside its own fields: two keys, and the boxes around them.
const KEYS_BYTES: usize = 256;
/// What an entry in a tree takes beside its own fields, at most: nodes are at least half full.
const ENTRY_BYTES: usize = 128;
/// The tables of sources, and the rest that is there once.
const FIXED_BYTES: usize = 2 * SOURCES * size_of::<u64>() + size_of::<Tables>() + 4096;
/// A peer without sessions: its entries in two tables, and in that of configured addresses.
const PEER_BYTES: usize = 2 * size_of::<PeerState>() + 4 * ENTRY_BYTES;
/// A confirmed session.
const LINK_BYTES: usize = 2 * size_of::<Link>() + size_of::<Session>() + KEYS_BYTES + ENTRY_BYTES;
/// An own handshake.
const ATTEMPT_BYTES: usize = size_of::<Attempt>() + size_of::<snow::HandshakeState>() + 1024 + ENTRY_BYTES;
/// A pending session.
const PENDING_BYTES: usize = size_of::<Pending>() + size_of::<Session>() + KEYS_BYTES + 3 * ENTRY_BYTES;
