//! The part of a replica's state that its future depends on, when whatever was sent can arrive again.
//!
//! An exploration in which the network remembers everything may forget, at a replica, what the network can
//! deliver again, and what no rule reads any more. Nothing here takes part in the protocol: it is here because it
//! needs to see the state, and a model checks on every state that it changes nothing
//! (`normal_form(step(s, e)) = normal_form(step(normal_form(s), e))`, with the same messages and facts).

use super::{Bundle, Replica, Setup};

impl<B: Bundle> Replica<B> {
    /// This state without dead parts: what no step reads again, whatever arrives.
    ///
    /// Dead are the last NEW-VIEW, which serves retransmission only, what only the time-outs depend on, whom to ask
    /// for the state being fetched, and, between two views, the votes of the old one.
    pub fn without_dead_state(&self, setup: &Setup<B>) -> Self {
        let mut alive = self.clone();
        alive.durable.new_view = None;
        alive.backoff = 0;
        alive.awaited = None;
        alive.await_some_request();
        alive.transfer = alive.transfer.map(|transfer| transfer.without_requests(setup));
        if !self.is_active(setup) {
            alive.votes.clear();
            alive.committed.clear();
        }
        alive
    }

    /// This state without receipts: votes, checkpoints and view changes of others, and blocks of state, that have
    /// not yet made anything happen, and can arrive again.
    pub fn without_receipts(&self, setup: &Setup<B>) -> Self {
        let mut bare = self.clone();
        bare.forget_votes(|_, vote, _| vote.replica == setup.id);
        for votes in bare.checkpoints.values_mut() {
            votes.retain(|vote| vote.replica == setup.id);
        }
        bare.checkpoints.retain(|_, votes| !votes.is_empty());
        for list in bare.view_changes.values_mut() {
            list.retain(|m| m.content.replica == setup.id);
        }
        bare.view_changes.retain(|_, list| !list.is_empty());
        bare.transfer = self.transfer_at_its_beginning(setup);
        bare
    }

    /// Both: what an exploration keeps between the steps at which something happens.
    pub fn normal_form(&self, setup: &Setup<B>) -> Self {
        self.without_dead_state(setup).without_receipts(setup)
    }
}
