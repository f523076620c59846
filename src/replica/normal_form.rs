//! The part of a replica's state that its future depends on, when whatever was sent can arrive again.
//!
//! An exploration in which the network remembers everything may forget, at a replica, what the network can
//! deliver again, and what no rule reads any more. Nothing here takes part in the protocol: it is here
//! because it needs to see the state, and a model checks on every state that it changes nothing
//! (`normal_form(step(s, e)) = normal_form(step(normal_form(s), e))`, with the same messages and facts).

use super::{Bundle, Replica, Requests, Setup};
use crate::message::ViewChange;
use crate::types::{SeqNo, View};
use std::collections::BTreeSet;
use std::sync::Arc;

#[doc(hidden)]
impl<B: Bundle> Replica<B> {
    /// This state without dead parts: what no step reads again, whatever arrives.
    ///
    /// Dead are the last NEW-VIEW, which serves retransmission only, what only the time-outs depend on, whom
    /// to ask for the state being fetched, and, between two views, the votes of the old one and what was
    /// queued and proposed in it.
    pub fn without_dead_state(&self, setup: &Setup<B>) -> Self {
        let mut alive = self.without_services(setup);
        alive.awaited.set(alive.next_awaited());
        if !self.is_active(setup) {
            alive.forget_votes(|_, _| false);
            alive.committed.clear();
            alive.requests.queue.clear();
            alive.proposed.clear();
        }
        alive
    }

    /// This state without what serves timers and retransmission alone: the last NEW-VIEW, the exponent of the
    /// time-out, the request waited for, and whom to ask for the state being fetched.
    pub fn without_services(&self, setup: &Setup<B>) -> Self {
        let mut without = self.clone();
        without.durable.new_view.set(None);
        without.backoff.set(0);
        without.awaited.set(None);
        let transfer = without.transfer.take().map(|transfer| transfer.without_requests(setup));
        without.transfer.set(transfer);
        without
    }

    /// This state without receipts: requests that wait, votes, checkpoints and view changes of others, and
    /// blocks of state, that have not yet made anything happen, and can arrive again.
    pub fn without_receipts(&self, setup: &Setup<B>) -> Self {
        let mut bare = self.clone();
        bare.forget_votes(|voted, _| voted.replica == setup.id);
        bare.checkpoints.retain(|voted| voted.replica == setup.id);
        bare.view_changes.retain(|left| left.replica == setup.id);
        bare.transfer.set(self.transfer_at_its_beginning(setup));
        bare.requests = Requests::default();
        bare.awaited.set(None);
        bare
    }

    /// This state when nothing more happens in the view that it is in, or has left: what was logged and voted
    /// in that view is over.
    pub fn without_finished_view(&self) -> Self {
        let mut over = self.clone();
        over.forget_votes(|_, _| false);
        over.committed.clear();
        over.durable.log.clear();
        over
    }

    /// This state without what matters to a future primary only, unless it will be one (`proposes_again`),
    /// and with the batches it has in a form that does not say where they come from.
    ///
    /// A new primary proposes no second time what it carries over, if it has the batch (`requeue`); all that
    /// `superseded` does is to keep batches. Everybody else can fetch a batch when a new view names it, and
    /// what it knows of requests is for its timer only.
    pub fn without_spare_batches(&self, setup: &Setup<B>, proposes_again: bool) -> Self {
        let mut bare = self.clone();
        bare.durable.superseded.clear();
        if proposes_again {
            let batches: Vec<_> = bare.durable.batches.keys().copied().collect();
            let highest = bare.watermarks(setup).high();
            bare.durable.superseded.extend((!batches.is_empty()).then_some((highest, batches)));
        } else {
            let named: BTreeSet<_> = bare.durable.log.values().map(|m| m.content.digest).collect();
            bare.durable.batches.retain(|digest, _| named.contains(digest));
            bare.requests = Requests::default();
            bare.proposed.clear();
            bare.awaited.set(None);
        }
        bare
    }

    /// This state, between two views, when only the target of the VIEW-CHANGE sent matters and not what was
    /// left.
    pub fn without_view_left(&self) -> Self {
        let mut left = self.clone();
        if let Some(target) = left.durable.leaving() {
            left.durable.view = View(target.0.saturating_sub(1));
        }
        left
    }

    /// This state when no VIEW-CHANGE will be sent or counted any more: certificates of views before the
    /// current one, and what the VIEW-CHANGE sent says, are over.
    pub fn without_old_certificates(&self, setup: &Setup<B>) -> Self {
        let mut last = self.clone();
        let view = last.durable.leaving().unwrap_or(last.view());
        last.durable.prepared.retain(|_, certificate| certificate.view == view);
        last.view_changes.retain(|_| false);
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
