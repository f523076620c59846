//! OSDI'99 §4.4: choosing what a new view carries over, and entering it.

use super::noted::{Cells, note_v};
use super::{Bundle, Destination, Effects, Fact, Record, Replica, Setup, ViewChanges};
use crate::certificate::StableCertificate;
use crate::crypto::{Crypto, Signed};
use crate::message::{Message, NewView, PrePrepare, ViewChange};
use crate::parameters::MAX_WINDOW;
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::types::{Digest, SeqNo, View};
use serde::{Deserialize, Serialize, Serializer};
use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// What `V` determines: min-s with its proof, and `O`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Plan<C: Crypto> {
    /// The certificate of min-s, the latest stable checkpoint in `V`; none if that is the initial state.
    pub stable: Option<StableCertificate<C>>,
    /// For each sequence number above min-s up to max-s the digest to propose, ascending.
    pub entries: Vec<(SeqNo, Digest)>,
}

/// Computes min-s and `O` from `V`, as the new primary does and every backup checks.
///
/// Source: OSDI'99 §4.4: the digest comes from the certificate with the highest view; a sequence number
/// without one gets the null request.
pub fn compute_o<C: Crypto, R: Rules>(view_changes: &[Arc<Signed<ViewChange<C>, C>>], rules: &R) -> Plan<C> {
    let mut stable: Option<StableCertificate<C>> = None;
    for claimed in view_changes.iter().filter_map(|m| m.content.stable.as_ref()) {
        let best = stable.as_ref().map_or(SeqNo(0), |best| best.n);
        if rules.min_s_from_all(claimed.n, best) {
            stable = Some(claimed.clone());
        }
    }
    let min_s = stable.as_ref().map_or(SeqNo(0), |best| best.n);

    let mut chosen: BTreeMap<SeqNo, (View, Digest)> = BTreeMap::new();
    for certificate in view_changes.iter().flat_map(|m| &m.content.prepared) {
        let best = chosen.get(&certificate.n).map(|&(view, _)| view);
        let better = best.is_none_or(|best| rules.highest_view_wins(certificate.view, best));
        if certificate.n > min_s && better {
            chosen.insert(certificate.n, (certificate.view, certificate.digest));
        }
    }
    let max_s = chosen.last_key_value().map_or(min_s, |(&n, _)| n);
    let entries = (min_s.0..max_s.0)
        .take(usize::try_from(MAX_WINDOW).expect("the longest window is small"))
        .map(|before| SeqNo(before).next())
        .filter_map(|n| match chosen.get(&n) {
            Some(&(_, digest)) => Some((n, digest)),
            None => rules.null_fills_gaps().then_some((n, Digest::NULL)),
        })
        .collect();
    Plan { stable, entries }
}

/// `V` of a NEW-VIEW: a quorum of VIEW-CHANGEs for its view from distinct replicas.
///
/// To read it, to compare it and to print it is noted in a step that is [watched](super::noted::watch), and what it
/// determines ([`ViewChangeSet::plan`]) is not: a step of which no look is noted does the same for each `V` that
/// determines the same.
#[derive(Clone, Deserialize)]
#[serde(transparent, bound = "")]
pub struct ViewChangeSet<C: Crypto>(Vec<Arc<Signed<ViewChange<C>, C>>>);

impl<C: Crypto> ViewChangeSet<C> {
    /// What it determines.
    pub fn plan<R: Rules>(&self, rules: &R) -> Plan<C> {
        compute_o(&self.0, rules)
    }
}

impl<C: Crypto> From<Vec<Arc<Signed<ViewChange<C>, C>>>> for ViewChangeSet<C> {
    fn from(view_changes: Vec<Arc<Signed<ViewChange<C>, C>>>) -> Self {
        ViewChangeSet(view_changes)
    }
}

impl<C: Crypto> FromIterator<Arc<Signed<ViewChange<C>, C>>> for ViewChangeSet<C> {
    fn from_iter<I: IntoIterator<Item = Arc<Signed<ViewChange<C>, C>>>>(view_changes: I) -> Self {
        ViewChangeSet(view_changes.into_iter().collect())
    }
}

impl<C: Crypto> Deref for ViewChangeSet<C> {
    type Target = Vec<Arc<Signed<ViewChange<C>, C>>>;

    fn deref(&self) -> &Self::Target {
        note_v();
        &self.0
    }
}

impl<C: Crypto> fmt::Debug for ViewChangeSet<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<C: Crypto> PartialEq for ViewChangeSet<C> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<C: Crypto> Eq for ViewChangeSet<C> {}

impl<C: Crypto> PartialOrd for ViewChangeSet<C> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<C: Crypto> Ord for ViewChangeSet<C> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl<C: Crypto> Hash for ViewChangeSet<C> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<C: Crypto> Serialize for ViewChangeSet<C> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<B: Bundle> Replica<B> {
    /// At the primary of `target`: sends NEW-VIEW as soon as a quorum, itself included, has left for it.
    pub(super) fn try_new_view(&mut self, setup: &Setup<B>, target: View, effects: &mut Effects<B::Crypto>) {
        if !self.assembles_new_view(setup, target) {
            return;
        }
        let quorum = setup.rules.view_change_quorum(&setup.cluster);
        let for_target = Cells { from: target, to: target, ..ViewChanges::<B::Crypto>::all() };
        let known = self.view_changes.iter(for_target).map(|(_, view_change)| view_change.clone());
        // Our own VIEW-CHANGE first, then as many of the others' as are needed, in their order.
        let (own, others): (Vec<_>, Vec<_>) = known.partition(|m| m.content.replica == setup.id);
        if own.len() + others.len() < quorum {
            return;
        }
        let mut view_changes: Vec<_> = own.into_iter().chain(others).take(quorum).collect();
        view_changes.sort_by_key(|m| m.content.replica);
        let plan = compute_o(&view_changes, &setup.rules);
        let pre_prepares = plan.entries.iter();
        let pre_prepares =
            pre_prepares.map(|&(n, digest)| setup.sign(PrePrepare { view: target, n, digest })).collect();
        let view_changes = view_changes.into();
        let new_view = setup.sign(NewView { view: target, view_changes, pre_prepares });
        self.enter(setup, Arc::new(new_view), plan.stable, effects);
    }

    /// Whether this replica waits for VIEW-CHANGEs to send NEW-VIEW for `target`.
    #[doc(hidden)]
    pub fn assembles_new_view(&self, setup: &Setup<B>, target: View) -> bool {
        self.durable.leaving() == Some(target) && setup.cluster.primary(target) == setup.id
    }

    /// What every NEW-VIEW must satisfy: its view may still be entered, and by a message of somebody else.
    pub(super) fn check_new_view(&self, setup: &Setup<B>, view: View) -> Result<(), Rejection> {
        if !setup.rules.view_increases(view, self.view(), self.durable.leaving())
            || !setup.rules.first_new_view_wins(view, self.view())
        {
            return Err(Rejection::WrongView);
        }
        if setup.cluster.primary(view) == setup.id {
            // Ours, come back: we entered the view when we sent it.
            return Err(Rejection::Duplicate);
        }
        Ok(())
    }

    /// Handles a NEW-VIEW at a backup. OSDI'99 §4.4: it is accepted if
    /// - it is signed by the primary of v + 1, the VIEW-CHANGEs in V are valid for v + 1, and O is what V
    ///   determines: [`verify`](super::verify::verify) (`only_primary_proposes`, `view_change_quorum`,
    ///   `distinct_view_changes`, `view_changes_match_view`, `backups_recompute_o`);
    /// - the view may still be entered: `check_new_view` (`view_increases`, `first_new_view_wins`).
    ///
    /// It then enters the view: min-s becomes stable, O is the log, and it sends PREPARE for each entry:
    /// `enter`.
    pub(super) fn on_new_view(
        &mut self,
        setup: &Setup<B>,
        signed: Arc<Signed<NewView<B::Crypto>, B::Crypto>>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        self.check_new_view(setup, signed.content.view)?;
        let stable = signed.content.view_changes.plan(&setup.rules).stable;
        self.enter(setup, signed, stable, effects);
        Ok(())
    }

    /// Enters the view: min-s becomes stable here, `O` is the log, and a backup prepares all of it.
    fn enter(
        &mut self,
        setup: &Setup<B>,
        new_view: Arc<Signed<NewView<B::Crypto>, B::Crypto>>,
        stable: Option<StableCertificate<B::Crypto>>,
        effects: &mut Effects<B::Crypto>,
    ) {
        let view = new_view.content.view;
        if let Some(certificate) = stable.filter(|certificate| certificate.n > self.durable.h()) {
            self.make_stable(setup, certificate, effects);
        }
        self.persist(setup, Record::NewView(new_view.clone()), effects);
        self.forget_votes(|voted, _| !setup.rules.forget_old_votes(voted.view, view));
        self.committed.retain(|_, committed| !setup.rules.forget_old_votes(*committed, view));
        self.view_changes.retain(|left| left.view > view);
        let carried: Vec<PrePrepare> =
            (self.durable.log.values()).map(|m| m.content).filter(|m| m.view == view).collect();
        let entries = carried.iter().map(|m| (m.n, m.digest)).collect();
        effects.fact(Fact::ViewEntered { view, carried: entries });
        if self.is_primary(setup) {
            effects.send(Destination::Replicas, Message::NewView(new_view));
        }
        for pre_prepare in &carried {
            let &PrePrepare { n, digest, .. } = pre_prepare;
            effects.fact(Fact::PrePrepared { view, n, digest });
            if !self.is_primary(setup) {
                self.send_prepare(setup, *pre_prepare, effects);
            }
        }
        self.requeue(setup);
        for pre_prepare in &carried {
            self.try_prepared(setup, view, pre_prepare.n, effects);
        }
        self.fetch_batches(setup, effects);
        self.send_status(setup, Destination::Replicas, effects);
        self.propose(setup, effects);
    }

    /// At the primary of the view just entered: queues the known requests that `O` does not carry.
    pub(super) fn requeue(&mut self, setup: &Setup<B>) {
        self.requests.queue.set(VecDeque::new());
        self.proposed.clear();
        if !self.is_primary(setup) {
            return;
        }
        let carried: Vec<Digest> = (self.durable.log.iter())
            .filter(|((view, _), _)| *view == self.view())
            .map(|(_, signed)| signed.content.digest)
            .collect();
        let batches: Vec<_> = carried.into_iter().filter_map(|digest| self.batch(digest)).collect();
        for batch in batches {
            for request in &batch.requests {
                let proposed = self.proposed.entry(request.content.client).or_default();
                *proposed = (*proposed).max(request.content.timestamp);
            }
        }
        let clients: Vec<_> = self.requests.pool.keys().copied().collect();
        for client in clients {
            self.enqueue(setup, client);
        }
    }
}
