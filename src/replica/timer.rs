//! OSDI'99 §4.4 and §4.5.2: for what the progress timer runs, and what happens when it fires.

use super::noted::{Apart, Cells, apart};
use super::{Bundle, Effect, Effects, Replica, Setup, Timer, TimerReason, ViewChanges};
use crate::rules::Rules;
use crate::types::{ClientId, ReplicaId, Timestamp};
use std::collections::BTreeSet;

impl<B: Bundle> Replica<B> {
    /// Returns why the progress timer runs, or nothing if it does not. It restarts whenever this changes.
    ///
    /// OSDI'99 §4.4: in a view, for a request this replica waits to execute (the primary too, which may be
    /// cut off). §4.5.2: between views, once a quorum has left for this view or, going beyond the paper, for
    /// a later one: such a replica retransmits only its last VIEW-CHANGE, and if the earlier one was lost,
    /// nobody would ever time out.
    pub(super) fn timer_reason(&self, setup: &Setup<B>) -> Option<TimerReason> {
        match self.durable.leaving() {
            Some(target) => {
                let higher = Cells { from: target, ..ViewChanges::<B::Crypto>::all() };
                let left: BTreeSet<ReplicaId> =
                    self.view_changes.keys(higher).map(|left| left.replica).collect();
                (left.len() >= setup.rules.view_change_quorum(&setup.cluster)).then_some((target, None))
            }
            None => {
                setup.rules.timer_on_request(self.awaited.is_some()).then_some((self.view(), *self.awaited))
            }
        }
    }

    pub(super) fn adjust_timer(
        &mut self,
        setup: &Setup<B>,
        before: Apart<Option<TimerReason>>,
        effects: &mut Effects<B::Crypto>,
    ) {
        let awaited = apart(|| self.next_awaited());
        self.awaited.set_apart(awaited);
        let order = before.map(|&before| {
            let after = self.timer_reason(setup);
            (after != before).then(|| match after {
                Some(_) => Effect::SetTimer(Timer::Progress { backoff: *self.backoff }),
                None => Effect::CancelProgressTimer,
            })
        });
        order.order(effects);
    }

    /// Chooses the request to wait for: after the one awaited before, in the order of clients, so that no
    /// client is passed over for ever by a primary that serves the others.
    pub(super) fn next_awaited(&self) -> Option<(ClientId, Timestamp)> {
        let still_waiting = self.awaited.is_some_and(|(client, timestamp)| {
            self.requests.pool.get(&client).is_some_and(|request| request.content.timestamp == timestamp)
        });
        if still_waiting {
            return *self.awaited;
        }
        let after = self.awaited.map_or(ClientId(0), |(client, _)| ClientId(client.0.saturating_add(1)));
        (self.requests.pool.range(after..).next().or_else(|| self.requests.pool.iter().next()))
            .map(|(&client, request)| (client, request.content.timestamp))
    }

    /// The progress timer fires: OSDI'99 §4.4, the replica leaves its view. While it is leaving one, §4.5.2,
    /// it leaves for the view after that, and waits twice as long: `start_view_change`.
    pub(super) fn on_progress_timeout(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        let current = self.durable.leaving().unwrap_or(self.view());
        // After the last view there is no other. More than f must be faulty for a replica to be in it.
        if current.next() > current {
            self.start_view_change(setup, current.next(), effects);
        }
    }
}
