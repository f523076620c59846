//! The part of a replica's state that its future depends on, when whatever was sent can arrive again.
//!
//! An exploration in which the network remembers everything may forget, at a replica, what the network can
//! deliver again, and what no rule reads any more. Nothing here takes part in the protocol: it is here because it
//! needs to see the state, and a model checks on every state that it changes nothing
//! (`normal_form(step(s, e)) = normal_form(step(normal_form(s), e))`, with the same messages and facts).

use super::{Bundle, Replica, Setup};
use crate::message::ViewChange;
use crate::types::{SeqNo, View};
use std::sync::Arc;

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

    /// This state when nothing more happens in the view that it is in, or has left.
    ///
    /// What was logged and voted in that view is over. The batches accepted in it stay for a new primary, which
    /// proposes the requests that it carries over no second time (`requeue`); all `superseded` does is to keep them.
    /// A replica that will be no primary again (`proposes_again`) fetches a batch when a new view names it, and its
    /// requests are waited for in vain.
    pub fn without_finished_view(&self, setup: &Setup<B>, proposes_again: bool) -> Self {
        let mut over = self.clone();
        over.votes.clear();
        over.committed.clear();
        over.queue.clear();
        over.proposed.clear();
        over.durable.log.clear();
        over.durable.superseded.clear();
        if proposes_again {
            let batches: Vec<_> = over.durable.batches.keys().copied().collect();
            let highest = over.watermarks(setup).high();
            over.durable.superseded.extend((!batches.is_empty()).then_some((highest, batches)));
        } else {
            over.durable.batches.clear();
            over.pool.clear();
            over.awaited = None;
        }
        over
    }

    /// This state, between two views, when only the target of the VIEW-CHANGE sent matters and not what was left.
    pub fn without_view_left(&self) -> Self {
        let mut left = self.clone();
        if let Some(target) = left.durable.leaving() {
            left.durable.view = View(target.0.saturating_sub(1));
        }
        left
    }

    /// This state when no VIEW-CHANGE will be sent or counted any more: certificates of views before the current
    /// one, and what the VIEW-CHANGE sent says, are over.
    pub fn without_old_certificates(&self, setup: &Setup<B>) -> Self {
        let mut last = self.clone();
        let view = last.durable.leaving().unwrap_or(last.view());
        last.durable.prepared.retain(|_, certificate| certificate.view == view);
        last.view_changes.clear();
        if let Some(sent) = &last.durable.view_change {
            let content = ViewChange {
                view: sent.content.view,
                n: SeqNo(0),
                stable: None,
                prepared: Vec::new(),
                replica: setup.id,
            };
            last.durable.view_change = Some(Arc::new(setup.sign(content)));
        }
        last
    }

    /// Both: what an exploration keeps between the steps at which something happens.
    pub fn normal_form(&self, setup: &Setup<B>) -> Self {
        self.without_dead_state(setup).without_receipts(setup)
    }
}
