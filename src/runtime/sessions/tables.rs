//! Everything that changes and is shared: who has which session, what is pending, who may ask.
//!
//! It is locked for look-ups and notes only. Curve and cipher work is done without it.

use super::bucket::{Bucket, Sources};
use super::cookie::Cookies;
use super::header::{ANSWER_BYTES, Cookie, FIRST_NOISE};
use super::limits::{Limits, PENDING_LIFE};
use super::peer::{Link, PeerState};
use super::random::Random;
use super::session::{Content, Session};
use super::{OVERHEAD, Peer, Received, Why};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A datagram to be sealed once the tables are not locked any more.
pub struct Job {
    pub session: Arc<Session>,
    pub to: SocketAddr,
    pub content: Content,
    pub body: Vec<u8>,
}

/// What an index of this host's stands for.
pub enum Slot {
    /// An own handshake.
    Attempt(Peer),
    /// A session whose initiator has sent nothing in it yet.
    Pending(Box<Pending>),
    /// A confirmed session.
    Link(Arc<Session>),
}

/// A session that the peer has asked for. It has no effect before the peer's first datagram in it.
pub struct Pending {
    pub session: Arc<Session>,
    pub sender: u32,
    pub question: [u8; FIRST_NOISE],
    pub answer: [u8; ANSWER_BYTES],
    /// Where the answer went; none if it went to several addresses, and so proves none.
    pub from: Option<SocketAddr>,
}

/// The buckets and secrets that decide who may ask.
pub struct Admission {
    pub cookies: Cookies,
    unproven: Bucket,
    proven: Bucket,
    unproven_sources: Sources,
    proven_sources: Sources,
    /// Configured addresses have buckets of their own, for who shows a cookie.
    configured: BTreeMap<SocketAddr, Bucket>,
}

pub struct Tables {
    pub random: Random,
    pub peers: BTreeMap<Peer, PeerState>,
    pub slots: BTreeMap<u32, Slot>,
    /// The pending sessions, by the ephemeral key of their question.
    pub pending: BTreeMap<[u8; 32], u32>,
    /// And by the time at which they were asked for.
    pending_since: BTreeSet<(Duration, u32)>,
    pub admission: Admission,
    /// The bytes in the queues of all peers.
    pub queued: usize,
}

/// The ephemeral key of a first message.
pub fn ephemeral(noise: &[u8; FIRST_NOISE]) -> [u8; 32] {
    *noise.first_chunk().expect("a first message begins with its ephemeral key")
}

impl Tables {
    pub fn new(
        peers: BTreeMap<Peer, PeerState>,
        configured: impl Iterator<Item = SocketAddr>,
        mut random: Random,
    ) -> Self {
        let admission = Admission {
            cookies: Cookies::new(&mut random),
            unproven: Bucket::default(),
            proven: Bucket::default(),
            unproven_sources: Sources::new(random.bytes()),
            proven_sources: Sources::new(random.bytes()),
            configured: configured.map(|address| (address, Bucket::default())).collect(),
        };
        Tables {
            random,
            peers,
            slots: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_since: BTreeSet::new(),
            admission,
            queued: 0,
        }
    }

    /// An index that is not in use.
    pub fn free_index(&mut self) -> u32 {
        let mut index = u32::from_le_bytes(self.random.bytes());
        while self.slots.contains_key(&index) {
            index = index.wrapping_add(1);
        }
        index
    }

    // --- pending sessions ---

    /// Whether somebody may ask now, and for what reason not. A first message is nobody's until it has been
    /// decrypted, so neither a peer nor a key counts here, only where it came from.
    pub fn admit(
        &mut self,
        from: SocketAddr,
        cookie: &Cookie,
        limits: &Limits,
        now: Duration,
    ) -> Result<(), Why> {
        let admission = &mut self.admission;
        let mut room = limits.open_pending();
        let granted = if admission.cookies.check(cookie, from, now, &mut self.random) {
            if let Some(bucket) = admission.configured.get_mut(&from) {
                room = limits.pending;
                bucket.take(limits.source, now)
            } else {
                admission.proven.has(limits.proven, now)
                    && admission.proven_sources.of(from).take(limits.source, now)
                    && admission.proven.take(limits.proven, now)
            }
            .then_some(())
            .ok_or(Why::RateLimited)
        } else {
            // Somebody else may have used up what this address is allowed, in its name: so a cookie is
            // asked for, not silence kept.
            (admission.unproven.has(limits.unproven, now)
                && admission.unproven_sources.of(from).take(limits.source, now)
                && admission.unproven.take(limits.unproven, now))
            .then_some(())
            .ok_or(Why::CookieDemanded)
        };
        granted?;
        if self.pending.len() >= room { Err(Why::PendingFull) } else { Ok(()) }
    }

    /// The pending session that this question has already led to.
    pub fn asked_before(&mut self, sender: u32, noise: &[u8; FIRST_NOISE]) -> Option<&mut Pending> {
        match self.slots.get_mut(self.pending.get(&ephemeral(noise))?) {
            Some(Slot::Pending(pending)) if pending.sender == sender && pending.question == *noise => {
                Some(pending)
            }
            _ => None,
        }
    }

    /// Adds a pending session, if there still is room. Returns whether there was.
    pub fn add_pending(&mut self, pending: Pending, most: usize, now: Duration) -> bool {
        let key = ephemeral(&pending.question);
        if self.pending.len() >= most || self.pending.contains_key(&key) {
            return false;
        }
        let index = pending.session.local;
        self.pending.insert(key, index);
        self.pending_since.insert((now, index));
        self.slots.insert(index, Slot::Pending(Box::new(pending)));
        true
    }

    fn take_pending(&mut self, index: u32) -> Option<Pending> {
        if !matches!(self.slots.get(&index), Some(Slot::Pending(_))) {
            return None;
        }
        let Some(Slot::Pending(pending)) = self.slots.remove(&index) else { return None };
        self.pending.remove(&ephemeral(&pending.question));
        self.pending_since.remove(&(pending.session.created, index));
        Some(*pending)
    }

    pub fn expire_pending(&mut self, now: Duration) {
        while let Some(&(since, index)) = self.pending_since.first()
            && now >= since + PENDING_LIFE
        {
            self.take_pending(index);
            self.pending_since.remove(&(since, index));
        }
    }

    /// Somebody at this address has asked with a static key that is in no table. If the address is a peer's, it
    /// is remembered: the peer may have another key than is configured here, or somebody forges its address.
    pub fn note_stranger(&mut self, from: SocketAddr, now: Duration) {
        if !self.admission.configured.contains_key(&from) {
            return;
        }
        for state in self.peers.values_mut().filter(|state| state.path.is_fixed_at(from)) {
            state.strangers = (state.strangers.0 + 1, now);
        }
    }

    // --- sessions ---

    /// The session that a datagram with this index may be of.
    pub fn session(&self, index: u32) -> Option<Arc<Session>> {
        match self.slots.get(&index)? {
            Slot::Pending(pending) => Some(pending.session.clone()),
            Slot::Link(session) => Some(session.clone()),
            Slot::Attempt(_) => None,
        }
    }

    /// Adds a confirmed session of a peer; a handshake under way has become needless.
    pub fn add_link(&mut self, session: Arc<Session>, limits: &Limits, now: Duration) {
        let Some(state) = self.peers.get_mut(&session.peer) else { return };
        if let Some(attempt) = state.attempt.take() {
            self.slots.remove(&attempt.index);
        }
        if let Some(gone) = state.add(Link::new(session.clone(), now), limits, now) {
            self.slots.remove(&gone);
        }
        self.slots.insert(session.local, Slot::Link(session));
    }

    /// A datagram was opened: takes note of it, and of what is to be sent for it.
    ///
    /// # Errors
    /// If the session has been given up meanwhile, or the datagram is an echo that nobody asked for.
    #[expect(clippy::too_many_arguments, reason = "one datagram, taken apart")]
    pub fn opened(
        &mut self,
        session: &Arc<Session>,
        from: SocketAddr,
        bytes: usize,
        (content, newest): (Content, bool),
        body: &[u8],
        limits: &Limits,
        now: Duration,
        jobs: &mut Vec<Job>,
    ) -> Result<Received, Why> {
        let peer = session.peer;
        if let Some(pending) = self.take_pending(session.local) {
            self.add_link(pending.session, limits, now);
            // The answer went there alone, and without it nobody could have sent this.
            if let Some(state) = self.peers.get_mut(&peer).filter(|_| pending.from == Some(from)) {
                state.path.prove(from);
            }
        }
        let state = self.peers.get_mut(&peer).ok_or(Why::Expired)?;
        let at = state.link(session.local).ok_or(Why::Expired)?;
        state.links[at].hears(content, now);
        state.replace_others(at, limits, now);
        let newest = newest && state.locates(at, limits, now);
        state.path.heard(from, bytes, newest, now, &mut self.random);

        let result = match content {
            Content::Payload => Ok(Received::Payload { peer }),
            Content::Echo if !state.path.echoed(from, body) => Err(Why::BadEcho),
            _ => Ok(Received::Nothing),
        };
        if let Some((to, token)) = state.path.challenge(now) {
            state.links[at].sends(Content::Challenge, now);
            jobs.push(Job { session: session.clone(), to, content: Content::Challenge, body: token.into() });
        }
        match content {
            Content::Challenge => state.send(at, Content::Echo, body, now, jobs),
            Content::Ping => state.send(at, Content::KeepAlive, &[], now, jobs),
            Content::Payload | Content::KeepAlive | Content::Echo => {}
        }
        self.flush(peer, limits, now, jobs);
        result
    }

    /// Sends what waits for a peer, as far as it may be sent.
    pub fn flush(&mut self, peer: Peer, limits: &Limits, now: Duration, jobs: &mut Vec<Job>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(at) = state.best(limits, now) else { return };
        while let Some(bytes) = state.queue.front()
            && let Some(to) = state.path.spend(bytes + OVERHEAD)
            && let Some(body) = state.queue.pop(&mut self.queued)
        {
            let link = &mut state.links[at];
            link.sends(Content::Payload, now);
            jobs.push(Job { session: link.session.clone(), to, content: Content::Payload, body });
        }
    }
}

impl PeerState {
    /// Sends something small in a session, if its address has paid for it.
    pub fn send(&mut self, at: usize, content: Content, body: &[u8], now: Duration, jobs: &mut Vec<Job>) {
        if let Some(to) = self.path.spend(body.len() + OVERHEAD) {
            let link = &mut self.links[at];
            link.sends(content, now);
            jobs.push(Job { session: link.session.clone(), to, content, body: body.to_vec() });
        }
    }
}
