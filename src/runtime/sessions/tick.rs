//! What happens as time passes: first messages again, old sessions replaced and forgotten, empty datagrams.

use super::header::FIRST_BYTES;
use super::limits::{
    ATTEMPT_LIFE, ATTEMPT_PACE, GRACE, LAST_RETRY, Limits, MAX_PINGS, RECENT, RESPONDER_LAG,
};
use super::peer::{Link, PeerState};
use super::session::{Content, TOKEN_BYTES};
use super::tables::{Job, Tables};
use super::{Outgoing, Peer, Sessions, lock};
use std::time::Duration;

/// The most handshakes begun in one tick; the others wait for the next one.
const MAX_BEGUN: usize = 32;

impl Sessions {
    /// What is to be sent because time has passed; to be called every 10 to 20 milliseconds. It looks at each
    /// peer: some nanoseconds for one without sessions, less than a microsecond for one with.
    pub fn tick(&self, now: Duration) -> Vec<Outgoing> {
        let (mut send, mut jobs, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        {
            let tables = &mut *lock(&self.tables);
            tables.expire_pending(now);
            let peers: Vec<Peer> =
                tables.peers.iter().filter(|(_, state)| state.is_busy()).map(|(&peer, _)| peer).collect();
            for peer in peers {
                tables.tick_attempt(peer, now, &mut send);
                tables.tick_links(peer, &self.limits, now, &mut jobs);
                tables.flush(peer, &self.limits, now, &mut jobs);
                if tables.wants_session(peer, &self.limits, now) {
                    wanted.push(peer);
                }
            }
        }
        self.seal_all(jobs, &mut send);
        for peer in wanted.into_iter().take(MAX_BEGUN) {
            send.extend(self.initiate(peer, now).map(|(to, first)| (to, first.to_vec())));
        }
        send
    }
}

impl PeerState {
    fn is_busy(&self) -> bool {
        self.attempt.is_some() || !self.links.is_empty() || !self.queue.is_empty()
    }
}

impl Link {
    /// Whether it is old enough to be replaced, and in use.
    fn is_due(&self, limits: &Limits, now: Duration) -> bool {
        // One of both begins, so that they seldom do so at once.
        let lag = RESPONDER_LAG.min(limits.rekey_after / 8);
        let lag = if self.session.initiator { Duration::ZERO } else { lag };
        let old = now >= self.session.created + limits.rekey_after + lag
            || self.session.sealed() >= limits.rekey_after_datagrams;
        old && self.is_used(now)
    }

    /// Whether a payload was sent in it of late, or it is new.
    fn is_used(&self, now: Duration) -> bool {
        now < self.payload_at.unwrap_or(self.session.created) + RECENT
    }

    /// Whether it was replaced, and nothing has come in it since for a while.
    fn is_over(&self, now: Duration) -> bool {
        let quiet = |at: Option<Duration>| at.is_none_or(|at| now >= at + GRACE);
        self.replaced_at.is_some() && quiet(self.replaced_at) && quiet(self.heard_at)
    }
}

impl Tables {
    /// Sends a first message again, or gives it up.
    fn tick_attempt(&mut self, peer: Peer, now: Duration, send: &mut Vec<Outgoing>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if let Some(given_up) = state.attempt.take_if(|attempt| now >= attempt.started + ATTEMPT_LIFE) {
            self.slots.remove(&given_up.index);
        }
        if let Some(attempt) = state.attempt.as_mut().filter(|attempt| now >= attempt.retry.0) {
            let wait = (attempt.retry.1 * 2).min(LAST_RETRY);
            attempt.retry = (now + wait, wait);
            if let Some(to) = state.path.spend_or_proven(FIRST_BYTES) {
                send.push((to, attempt.first.to_vec()));
            }
        }
    }

    /// Forgets sessions that are over, and sends what keeps the others alive.
    fn tick_links(&mut self, peer: Peer, limits: &Limits, now: Duration, jobs: &mut Vec<Job>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let best = state.best(limits, now).map(|best| state.links[best].session.local);
        for at in (0..state.links.len()).rev() {
            let link = &state.links[at];
            let local = link.session.local;
            if link.has_ended(limits, now) || (link.is_over(now) && best != Some(local)) {
                state.links.remove(at);
                self.slots.remove(&local);
            }
        }
        for at in 0..state.links.len() {
            let link = &state.links[at];
            if link.ping.is_some_and(|(due, sent)| now >= due && sent < MAX_PINGS) {
                state.send(at, Content::Ping, &[0; TOKEN_BYTES], now, jobs);
            } else if link.ack_due.is_some_and(|due| now >= due) {
                state.send(at, Content::KeepAlive, &[], now, jobs);
            }
        }
        if let Some(at) = state.best(limits, now)
            && let Some((to, token)) = state.path.challenge(now)
        {
            let link = &mut state.links[at];
            link.sends(Content::Challenge, now);
            let session = link.session.clone();
            jobs.push(Job { session, to, content: Content::Challenge, body: token.into() });
        }
        if now >= state.queue.since + ATTEMPT_LIFE {
            while state.queue.pop(&mut self.queued).is_some() {}
        }
    }

    /// Whether a new session is wanted with a peer, because there is none, or it grows old, or nothing comes
    /// back in it.
    fn wants_session(&mut self, peer: Peer, limits: &Limits, now: Duration) -> bool {
        let Some(state) = self.peers.get_mut(&peer) else { return false };
        let too_soon = state.attempted_at.is_some_and(|at| now < at + ATTEMPT_PACE);
        if state.attempt.is_some() || too_soon {
            return false;
        }
        let Some(best) = state.best(limits, now) else { return !state.queue.is_empty() };
        let patience = state.patience;
        let link = &mut state.links[best];
        let silent = link.is_used(now) && link.unanswered_since.is_some_and(|since| now >= since + patience);
        link.suspect |= silent;
        silent || link.is_due(limits, now)
    }
}
