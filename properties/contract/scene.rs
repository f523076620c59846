//! What the guards of one step are evaluated on: the ledger, what is in hand, and what the step names.

use super::hand::{Hand, Votes};
use super::ledger::Ledger;
use super::reading::{Element, Reading, StateName};
use crate::proof::formula::Sort;
use crate::proof::relations::Relation;
use pbft::message::{Batch, ViewChange};
use pbft::replica::Bundle;
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) type Slot = (View, SeqNo, Digest);

/// What a step's guards are evaluated on.
pub(super) struct Scene<'a, B: Bundle> {
    pub(super) ledger: &'a Ledger<B>,
    pub(super) hand: &'a Hand<'a, B>,
    /// The quorums that the step names.
    pub(super) quorums: Vec<BTreeSet<ReplicaId>>,
    pub(super) views: BTreeSet<View>,
    pub(super) numbers: BTreeSet<SeqNo>,
    pub(super) digests: BTreeSet<Digest>,
    /// Votes in hand.
    pub(super) prepares: BTreeMap<Slot, Votes>,
    pub(super) commits: BTreeMap<Slot, BTreeSet<ReplicaId>>,
    pub(super) checkpoints: BTreeMap<(SeqNo, Digest), BTreeSet<ReplicaId>>,
    pub(super) view_changes: BTreeMap<(ReplicaId, View), &'a ViewChange<B::Crypto>>,
    pub(super) batch: Option<Arc<Batch<B::Crypto>>>,
    pub(super) report: BTreeMap<SeqNo, View>,
    /// The number whose batch takes the ledger's state to the next.
    pub(super) applied: Option<SeqNo>,
}

impl<'a, B: Bundle> Scene<'a, B> {
    pub(super) fn new(ledger: &'a Ledger<B>, hand: &'a Hand<'a, B>) -> Self {
        Scene {
            ledger,
            hand,
            quorums: Vec::new(),
            views: BTreeSet::from([ledger.view]),
            numbers: BTreeSet::new(),
            digests: BTreeSet::new(),
            prepares: BTreeMap::new(),
            commits: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            view_changes: BTreeMap::new(),
            batch: None,
            report: BTreeMap::new(),
            applied: None,
        }
    }

    pub(super) fn about(mut self, (view, n, digest): Slot) -> Self {
        self.views.insert(view);
        self.numbers.insert(n);
        self.digests.insert(digest);
        if let Some(&(other, _)) = self.ledger.accepted.get(&n) {
            self.digests.insert(other);
        }
        self
    }

    /// Names a quorum: these, and as many others as are missing.
    pub(super) fn quorum(&mut self, of: &BTreeSet<ReplicaId>) -> Element {
        let mut quorum = of.clone();
        let others = self.hand.setup.cluster.replicas().filter(|replica| !of.contains(replica));
        quorum.extend(others.take(self.hand.quorum().saturating_sub(of.len())));
        self.quorums.push(quorum);
        Element::Quorum(self.quorums.len() - 1)
    }

    /// Takes these VIEW-CHANGEs of a NEW-VIEW to be in hand, and names their senders.
    pub(super) fn new_view(&mut self, view_changes: &[&'a ViewChange<B::Crypto>]) -> Element {
        let quorum = self.quorum(&view_changes.iter().map(|m| m.replica).collect());
        self.view_changes = view_changes.iter().map(|&m| ((m.replica, m.view), m)).collect();
        quorum
    }

    /// What the batch goes by: the digest that it really has.
    pub(super) fn named(&self) -> Element {
        Element::Batch(self.batch.as_ref().map_or(Digest([0xff; 32]), |batch| batch.digest()))
    }

    fn own_is(&self, replica: ReplicaId) -> bool {
        replica == self.hand.setup.id
    }

    fn message(&self, relation: Relation, of: &[Element]) -> bool {
        use Element::{Digest as D, Number as N, Replica as R, State as S, View as V};
        match (relation, of) {
            (Relation::preprepare, &[R(i), V(v), N(n), D(d)]) => {
                i == self.hand.primary(v) && self.prepares.get(&(v, n, d)).is_some_and(|votes| votes.proposal)
            }
            (Relation::prepare, &[R(i), V(v), N(n), D(d)]) => {
                self.prepares.get(&(v, n, d)).is_some_and(|votes| votes.voters.contains(&i))
            }
            (Relation::commit, &[R(i), V(v), N(n), D(d)]) => {
                self.commits.get(&(v, n, d)).is_some_and(|voters| voters.contains(&i))
            }
            (Relation::viewchange, &[R(i), V(v)]) => {
                // What a NEW-VIEW does not have in its V says nothing of what its sender reports.
                // None is sent for a view below that of the last one, of which alone the ledger knows.
                let left = self.ledger.left.is_some_and(|to| v <= to);
                let sent = self.quorums.is_empty() && self.own_is(i) && left;
                sent || self.view_changes.contains_key(&(i, v))
            }
            (Relation::reports, &[R(i), V(v), N(n), V(w)]) => {
                let certificates = self.view_changes.get(&(i, v)).into_iter().flat_map(|m| &m.prepared);
                certificates.into_iter().any(|of| of.n == n && of.view >= w)
            }
            (Relation::claims, &[R(i), V(v), N(n)]) => {
                self.view_changes.get(&(i, v)).is_some_and(|m| n <= m.n)
            }
            (Relation::checkpoint, &[R(i), N(n), S(StateName::Root(h))]) => {
                self.checkpoints.get(&(n, h)).is_some_and(|voters| voters.contains(&i))
            }
            _ => false,
        }
    }

    fn own(&self, relation: Relation, of: &[Element]) -> bool {
        use Element::{Digest as D, Number as N, Replica as R, State as S, View as V};
        let ledger = self.ledger;
        if !matches!(of, [R(i), ..] if self.own_is(*i)) {
            return false;
        }
        match (relation, &of[1..]) {
            (Relation::in_view, &[V(v)]) => ledger.view == v,
            (Relation::leaving, &[]) => ledger.leaving,
            (Relation::left, &[V(v)]) => ledger.left.is_some_and(|to| v < to),
            (Relation::accepted, &[V(v), N(n), D(d)]) => {
                ledger.view == v && ledger.accepted.get(&n).is_some_and(|&(of, _)| of == d)
            }
            (Relation::prepared, &[V(v), N(n), D(d)]) => ledger.prepared.get(&n) == Some(&(v, d)),
            (Relation::committed_local, &[N(n), D(d)]) => ledger.committed.get(&n) == Some(&d),
            (Relation::allowed, &[V(v), N(n), D(d)]) => {
                let entry = ledger.allowed.get(&n).is_some_and(|&(of, _)| of == d);
                ledger.view == v && (entry || (ledger.allowed.is_empty() && !ledger.closed.contains(&n)))
            }
            (Relation::carried, &[V(v), N(n), D(d)]) => {
                ledger.view == v && ledger.allowed.get(&n) == Some(&(d, true))
            }
            (Relation::low, &[N(n)]) => n <= ledger.low,
            (Relation::stable, &[N(n), S(StateName::Root(h))]) => ledger.low == n && ledger.stable == Some(h),
            (Relation::state, &[N(n), S(StateName::After(k))]) => n == k && ledger.executed == n,
            (Relation::state, &[N(n), S(StateName::Root(h))]) => ledger.roots.get(&n) == Some(&h),
            _ => false,
        }
    }
}

impl<B: Bundle> Reading for Scene<'_, B> {
    fn any(&self, sort: Sort, holds: impl FnMut(Element) -> bool) -> bool {
        match sort {
            Sort::Replica => self.hand.setup.cluster.replicas().map(Element::Replica).any(holds),
            Sort::View => self.views.iter().copied().map(Element::View).any(holds),
            Sort::Number => self.numbers.iter().copied().map(Element::Number).any(holds),
            Sort::Digest => self.digests.iter().copied().map(Element::Digest).any(holds),
            Sort::Quorum => (0..self.quorums.len()).map(Element::Quorum).any(holds),
            Sort::Batch | Sort::State => false,
        }
    }

    fn holds(&self, relation: Relation, of: &[Element]) -> bool {
        use Element::{
            Batch as B, Digest as D, Number as N, Quorum as Q, Replica as R, State as S, View as V,
        };
        match (relation, of) {
            // Nobody knows who is, and guards are harder to satisfy the more are.
            (Relation::correct, _) => true,
            (Relation::member, &[R(i), Q(q)]) => self.quorums[q].contains(&i),
            (Relation::primary, &[V(v), R(i)]) => self.hand.primary(v) == i,
            (Relation::le, &[V(v), V(w)]) => v <= w,
            (Relation::below, &[N(k), N(n)]) => k <= n,
            (Relation::next, &[N(k), N(n)]) => k.0.checked_add(1) == Some(n.0),
            (Relation::names, &[D(d), B(b)]) => d == b,
            (Relation::authentic, &[B(_)]) => {
                self.batch.as_ref().is_some_and(|batch| self.hand.is_authentic(batch))
            }
            (Relation::applies, &[S(StateName::After(k)), B(_), S(StateName::After(n))]) => {
                self.applied == Some(n) && k.0 + 1 == n.0
            }
            (Relation::report, &[N(n), V(w)]) => self.report.get(&n).is_some_and(|&of| of >= w),
            _ => self.message(relation, of) || self.own(relation, of),
        }
    }
}
