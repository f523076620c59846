//! The three messages of a handshake: a question, its answer, and a cookie in place of the answer.

use super::header::{self, ANSWER_NOISE, Cookie, FIRST_BYTES, FIRST_NOISE, SEALED_INDEX};
use super::limits::{ATTEMPT_PACE, COOKIE_USE, FIRST_RETRY, MAX_COOKIE_RETRIES};
use super::noise::Progress;
use super::peer::Attempt;
use super::session::{Content, Session, TOKEN_BYTES};
use super::tables::{Pending, Slot};
use super::{Outgoing, Peer, Sessions, Why, lock};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

impl Sessions {
    /// Answers a first message. What is sent for it is shorter than it is.
    pub(super) fn on_first(
        &self,
        from: SocketAddr,
        sender: u32,
        noise: &[u8; FIRST_NOISE],
        cookie: &Cookie,
        now: Duration,
        send: &mut Vec<Outgoing>,
    ) -> Result<(), Why> {
        let ephemeral = {
            let tables = &mut *lock(&self.tables);
            tables.expire_pending(now);
            if let Some(pending) = tables.asked_before(sender, noise) {
                // Sent again by its sender, the network, or somebody who has copied it.
                pending.from = pending.from.filter(|&first| first == from);
                send.push((from, pending.answer.to_vec()));
                return Ok(());
            }
            if let Err(why) = tables.admit(from, cookie, &self.limits, now) {
                if why == Why::CookieDemanded {
                    let cookie = tables.admission.cookies.of(from, now, &mut tables.random);
                    send.push((from, header::cookie(sender, noise, &cookie).to_vec()));
                }
                return Err(why);
            }
            tables.random.bytes()
        };
        let knows = |key: &[u8; 32]| self.keys.get(key).copied();
        let (peer, keys, answer) = match self.identity.respond(noise, sender, ephemeral, knows) {
            Ok(found) => found,
            Err(why) => {
                if why == Why::UnknownKey {
                    lock(&self.tables).note_stranger(from, now);
                }
                return Err(why);
            }
        };
        let mut tables = lock(&self.tables);
        let index = tables.free_index();
        let answer = header::answer(sender, &answer, &keys.seal_index(index));
        let session = Arc::new(Session::new(peer, keys, index, sender, false, now));
        let pending = Pending { session, sender, question: *noise, answer, from: Some(from) };
        if !tables.add_pending(pending, self.limits.pending, now) {
            return Err(Why::PendingFull);
        }
        send.push((from, answer.to_vec()));
        Ok(())
    }

    /// Takes the answer to an own first message. The session is used at once: without a datagram in it, the
    /// responder would not take it up.
    pub(super) fn on_answer(
        &self,
        receiver: u32,
        noise: &[u8; ANSWER_NOISE],
        sender: &[u8; SEALED_INDEX],
        now: Duration,
        send: &mut Vec<Outgoing>,
    ) -> Result<(), Why> {
        let (peer, progress) = {
            let tables = lock(&self.tables);
            let Some(Slot::Attempt(peer)) = tables.slots.get(&receiver) else {
                return Err(Why::UnknownIndex);
            };
            let attempt = tables.peers.get(peer).and_then(|state| state.attempt.as_ref());
            (*peer, attempt.ok_or(Why::UnknownIndex)?.progress.clone())
        };
        let (keys, sender) = lock(&progress).answered(noise, sender)?;
        let session = Arc::new(Session::new(peer, keys, receiver, sender, true, now));
        let mut jobs = Vec::new();
        {
            let tables = &mut *lock(&self.tables);
            let state = tables.peers.get_mut(&peer).ok_or(Why::UnknownIndex)?;
            let Some(attempt) = state.attempt.take_if(|attempt| attempt.index == receiver) else {
                return Err(Why::UnknownIndex);
            };
            state.took(now.saturating_sub(attempt.started));
            tables.add_link(session.clone(), &self.limits, now);
            if let Some(state) = tables.peers.get_mut(&peer)
                && let Some(at) = state.link(receiver)
            {
                state.send(at, Content::Ping, &[0; TOKEN_BYTES], now, &mut jobs);
            }
            tables.flush(peer, &self.limits, now, &mut jobs);
        }
        self.seal_all(jobs, send);
        Ok(())
    }

    /// Takes a cookie, and asks again with it. Only who has seen the first message can have sent it: it holds
    /// half of a random key.
    pub(super) fn on_cookie(
        &self,
        receiver: u32,
        echo: &[u8; 16],
        cookie: &Cookie,
        now: Duration,
        send: &mut Vec<Outgoing>,
    ) -> Result<(), Why> {
        let tables = &mut *lock(&self.tables);
        let Some(Slot::Attempt(peer)) = tables.slots.get(&receiver) else {
            return Err(Why::UnknownIndex);
        };
        let Some(state) = tables.peers.get_mut(peer) else { return Err(Why::UnknownIndex) };
        let Some(attempt) = &mut state.attempt else { return Err(Why::UnknownIndex) };
        let is_new = header::cookie_of(&attempt.first) != cookie;
        if attempt.first[5..21] != *echo || attempt.cookie_retries >= MAX_COOKIE_RETRIES || !is_new {
            return Err(Why::UnexpectedCookie);
        }
        attempt.cookie_retries += 1;
        header::set_cookie(&mut attempt.first, cookie);
        state.cookie = Some((*cookie, now));
        if let Some(to) = state.path.spend_or_proven(FIRST_BYTES) {
            send.push((to, attempt.first.to_vec()));
        }
        Ok(())
    }

    /// Begins a handshake with a peer, unless one is under way or was begun just now. Returns the first
    /// message, and where it goes.
    pub(super) fn initiate(&self, peer: Peer, now: Duration) -> Option<(SocketAddr, [u8; FIRST_BYTES])> {
        let (key, to, index, ephemeral) = {
            let tables = &mut *lock(&self.tables);
            let index = tables.free_index();
            let state = tables.peers.get_mut(&peer)?;
            let too_soon = state.attempted_at.is_some_and(|at| now < at + ATTEMPT_PACE);
            if too_soon || state.attempt.is_some() {
                return None;
            }
            let to = state.path.spend_or_proven(FIRST_BYTES)?;
            // From here on nobody else begins one.
            state.attempted_at = Some(now);
            (state.key, to, index, tables.random.bytes())
        };
        let (handshake, message) = self.identity.initiate(&key, index, ephemeral);
        let mut first = header::first(index, &message);
        let tables = &mut *lock(&self.tables);
        let state = tables.peers.get_mut(&peer).filter(|state| state.attempt.is_none())?;
        if tables.slots.contains_key(&index) {
            return None;
        }
        if let Some((cookie, _)) = state.cookie.filter(|&(_, came)| now < came + COOKIE_USE) {
            header::set_cookie(&mut first, &cookie);
        }
        state.attempt = Some(Attempt {
            index,
            progress: Arc::new(Mutex::new(Progress::Asked(Box::new(handshake)))),
            first,
            started: now,
            retry: (now + FIRST_RETRY, FIRST_RETRY),
            cookie_retries: 0,
        });
        tables.slots.insert(index, Slot::Attempt(peer));
        Some((to, first))
    }
}
