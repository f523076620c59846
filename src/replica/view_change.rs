//! OSDI'99 §4.4: leaving a view.

use super::normal::certify;
use super::noted::{Cells, apart};
use super::received::Left;
use super::{Bundle, Destination, Effects, Fact, Record, Replica, Setup, ViewChanges};
use crate::certificate::PreparedCertificate;
use crate::crypto::Signed;
use crate::message::{Message, ViewChange};
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::types::{ReplicaId, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// VIEW-CHANGEs kept of one sender, for different views. A correct replica sends them for ever higher
/// views, so the lowest is given up first.
pub(super) const MAX_VIEWS_PER_SENDER: usize = 4;

impl<B: Bundle> Replica<B> {
    /// Sends VIEW-CHANGE for `target`; from here on nothing is prepared, committed or executed in the old
    /// view.
    pub(super) fn start_view_change(
        &mut self,
        setup: &Setup<B>,
        target: View,
        effects: &mut Effects<B::Crypto>,
    ) {
        let grown = apart(|| setup.rules.timeout_grows(*self.backoff));
        self.backoff.set_apart(grown);
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
        self.view_changes.retain(|left| left.view >= target);
        self.view_changes.push(Left { view: target, replica: setup.id }, view_change);
        if !setup.rules.stop_after_view_change(Some(target)) {
            // Nothing can become of them any more.
            self.forget_votes(|_, _| false);
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

    /// Handles a VIEW-CHANGE. OSDI'99 §4.4: it is logged if
    /// - its signature, C and P are right: [`verify`](super::verify::verify) (`checkpoint_proof`,
    ///   `certificates_verified`, `certificate_in_window`, `certificate_view_below_target`,
    ///   `one_certificate_per_n`);
    /// - it is for a view above the current one: `check_view_change`;
    /// - it is the sender's first for that view: here (`distinct_view_changes`).
    ///
    /// §4.5.2: f + 1 for higher views make this replica join the lowest of them: `join` (`join_threshold`).
    /// §4.4: a quorum at the primary of the view makes the NEW-VIEW: `try_new_view` (`view_change_quorum`).
    pub(super) fn on_view_change(
        &mut self,
        setup: &Setup<B>,
        signed: Arc<Signed<ViewChange<B::Crypto>, B::Crypto>>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let (view, sender) = (signed.content.view, signed.content.replica);
        self.check_view_change(view)?;
        let left = Left { view, replica: sender };
        let sent_before = self.view_changes.contains(left);
        let repeats = || self.view_changes.get(left).len();
        if !setup.rules.distinct_view_changes(!sent_before)
            || sent_before && repeats() >= Self::repeats_bound(setup)
        {
            return Err(Rejection::Duplicate);
        }
        self.make_room_for(sender, view)?;
        self.view_changes.push(left, signed);
        self.join(setup, effects);
        self.try_new_view(setup, view, effects);
        Ok(())
    }

    /// Gives up a sender's VIEW-CHANGE for the lowest view if it has as many as are kept.
    fn make_room_for(&mut self, sender: ReplicaId, view: View) -> Result<(), Rejection> {
        let of_sender = Cells { replica: Some(sender), ..ViewChanges::<B::Crypto>::all() };
        let views: Vec<View> = self.view_changes.keys(of_sender).map(|left| left.view).collect();
        if views.len() < MAX_VIEWS_PER_SENDER {
            return Ok(());
        }
        let lowest = *views.first().expect("as many views as are kept");
        if view < lowest {
            return Err(Rejection::Duplicate);
        }
        self.view_changes.retain(|left| left != Left { view: lowest, replica: sender });
        Ok(())
    }

    /// OSDI'99 §4.5.2: f + 1 VIEW-CHANGEs of others for higher views make this replica join the smallest,
    /// so that it does not start its own too late; fewer move nobody.
    fn join(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        let current = self.durable.leaving().unwrap_or(self.view());
        let higher = Cells { from: current.next(), ..ViewChanges::<B::Crypto>::all() };
        // After the last view there is that view again.
        let is_higher = |left: &Left| left.replica != setup.id && left.view > current;
        let higher: Vec<_> = self.view_changes.keys(higher).filter(is_higher).collect();
        let senders: BTreeSet<_> = higher.iter().map(|left| left.replica).collect();
        if senders.len() < setup.rules.join_threshold(&setup.cluster) {
            return;
        }
        if let Some(&Left { view: smallest, .. }) = higher.first() {
            self.start_view_change(setup, smallest, effects);
        }
    }
}
