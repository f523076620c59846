//! How many bytes sessions take: figures from above, compared with an allocator by tests.

use super::limits::{MAX_SESSIONS, SOURCES};
use super::peer::{Attempt, Link, PeerState};
use super::session::Session;
use super::tables::{Pending, Tables};
use super::{Sessions, lock};

impl Sessions {
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
