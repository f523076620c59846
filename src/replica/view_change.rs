//! OSDI'99 §4.4: leaving a view.

use super::normal::certify;
use super::noted::apart;
use super::{Bundle, Destination, Effects, Fact, Record, Replica, Setup, ViewChanges};
use crate::certificate::PreparedCertificate;
use crate::crypto::{Crypto, Signed};
use crate::message::{Message, ViewChange};
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::types::{ReplicaId, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// VIEW-CHANGEs kept of one sender, for different views. A correct replica sends them for ever higher
/// views, so the lowest is given up first.
const MAX_VIEWS_PER_SENDER: usize = 4;

impl<B: Bundle> Replica<B> {
    /// Sends VIEW-CHANGE for `target`; from here on nothing is prepared, committed or executed in the old
    /// view.
    pub(super) fn start_view_change(
        &mut self,
        setup: &Setup<B>,
        target: View,
        effects: &mut Effects<B::Crypto>,
    ) {
        self.backoff.set(apart(|| setup.rules.timeout_grows(*self.backoff)));
        let view_change = Arc::new(setup.sign(ViewChange {
            view: target,
            n: self.durable.h(),
            stable: self.durable.stable.clone(),
            prepared: self.certificates(setup),
            replica: setup.id,
        }));
        self.persist(setup, Record::ViewChange(view_change.clone()), effects);
        effects.fact(Fact::ViewLeft { view: self.view(), to: target });
        effects.send(Destination::Replicas, Message::ViewChange(view_change.clone()));
        self.view_changes.update(|known| {
            *known = known.split_off(&target);
            insert_by_sender(known.entry(target).or_default(), view_change.clone());
        });
        if !setup.rules.stop_after_view_change(Some(target)) {
            // Nothing can become of them any more.
            self.forget_votes(|_, _, _| false);
        }
        self.join(setup, effects);
        self.try_new_view(setup, target, effects);
    }

    /// `P`: what prepared here above the stable checkpoint.
    fn certificates(&self, setup: &Setup<B>) -> Vec<PreparedCertificate<B::Crypto>> {
        if !setup.rules.certificates_in_view_change() {
            return Vec::new();
        }
        let mut certificates: BTreeMap<SeqNo, PreparedCertificate<B::Crypto>> = self.durable.prepared.clone();
        for (&(view, n), signed) in &self.durable.log {
            let prepared = self.prepared(view, n);
            if !prepared && setup.rules.prepared_not_pre_prepared(prepared) {
                let quorum = setup.rules.prepare_quorum(&setup.cluster);
                let prepares = self.matching_prepares(setup, signed.content);
                certificates.insert(n, certify(setup, signed, prepares, quorum));
            }
        }
        certificates.into_values().collect()
    }

    /// What every VIEW-CHANGE must satisfy: it is for a view that this replica may still change to.
    pub(super) fn check_view_change(&self, view: View) -> Result<(), Rejection> {
        if view <= self.view() || self.durable.leaving().is_some_and(|target| view < target) {
            return Err(Rejection::WrongView);
        }
        Ok(())
    }

    pub(super) fn on_view_change(
        &mut self,
        setup: &Setup<B>,
        signed: Arc<Signed<ViewChange<B::Crypto>, B::Crypto>>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let (view, sender) = (signed.content.view, signed.content.replica);
        self.check_view_change(view)?;
        let known = self.view_changes.get(&view).map_or(&[][..], Vec::as_slice);
        let sent_before = known.iter().any(|m| m.content.replica == sender);
        if !setup.rules.distinct_view_changes(!sent_before) || known.len() >= Self::votes_bound(setup) {
            return Err(Rejection::Duplicate);
        }
        self.make_room_for(sender, view)?;
        insert_by_sender(self.view_changes.entry(view).or_default(), signed);
        self.join(setup, effects);
        self.try_new_view(setup, view, effects);
        Ok(())
    }

    /// Gives up a sender's VIEW-CHANGE for the lowest view if it has as many as are kept.
    fn make_room_for(&mut self, sender: ReplicaId, view: View) -> Result<(), Rejection> {
        let views: Vec<View> = (self.view_changes.iter())
            .filter(|(_, list)| list.iter().any(|m| m.content.replica == sender))
            .map(|(&view, _)| view)
            .collect();
        if views.len() < MAX_VIEWS_PER_SENDER {
            return Ok(());
        }
        let lowest = *views.first().expect("as many views as are kept");
        if view < lowest {
            return Err(Rejection::Duplicate);
        }
        if let Some(list) = self.view_changes.get_mut(&lowest) {
            list.retain(|m| m.content.replica != sender);
        }
        self.view_changes.retain(|_, list| !list.is_empty());
        Ok(())
    }

    /// OSDI'99 §4.5.2: f + 1 VIEW-CHANGEs of others for higher views make this replica join the smallest,
    /// so that it does not start its own too late; fewer move nobody.
    fn join(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        let current = self.durable.leaving().unwrap_or(self.view());
        let higher: Vec<_> = (self.view_changes.range(current..))
            .flat_map(|(&view, list)| list.iter().map(move |m| (view, m.content.replica)))
            .filter(|&(view, sender)| sender != setup.id && view > current)
            .collect();
        let senders: BTreeSet<_> = higher.iter().map(|&(_, sender)| sender).collect();
        if senders.len() < setup.rules.join_threshold(&setup.cluster) {
            return;
        }
        if let Some(&(smallest, _)) = higher.first() {
            self.start_view_change(setup, smallest, effects);
        }
    }
}

/// Keeps the list in the order of senders, so that the order of arrival is no part of the state.
fn insert_by_sender<C: Crypto>(list: &mut ViewChanges<C>, view_change: Arc<Signed<ViewChange<C>, C>>) {
    let position = list.partition_point(|m| m.content.replica <= view_change.content.replica);
    list.insert(position, view_change);
}
