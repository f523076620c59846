//! Which actions a step takes, and with what: their guards are evaluated, and the ledger changes as their updates say.

use super::hand::{Hand, Votes};
use super::ledger::{Ledger, Role, Said, closed, open_above};
use super::reading::{Element, Environment, Reading, StateName, evaluate};
use super::state::State;
use super::{Breach, Judging, not_recorded, slot};
use crate::proof::formula::Sort;
use crate::proof::relations::Relation;
use pbft::certificate::StableCertificate;
use pbft::crypto::Signed;
use pbft::message::{Batch, Message, NewView, ViewChange};
use pbft::replica::blocks::Tree;
use pbft::replica::{Bundle, Snapshot};
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Slot = (View, SeqNo, Digest);

/// What a step's guards are evaluated on.
struct Scene<'a, B: Bundle> {
    ledger: &'a Ledger<B>,
    hand: &'a Hand<'a, B>,
    /// The quorums that the step names.
    quorums: Vec<BTreeSet<ReplicaId>>,
    views: BTreeSet<View>,
    numbers: BTreeSet<SeqNo>,
    digests: BTreeSet<Digest>,
    /// Votes in hand.
    prepares: BTreeMap<Slot, Votes>,
    commits: BTreeMap<Slot, BTreeSet<ReplicaId>>,
    checkpoints: BTreeMap<(SeqNo, Digest), BTreeSet<ReplicaId>>,
    view_changes: BTreeMap<(ReplicaId, View), &'a ViewChange<B::Crypto>>,
    batch: Option<Arc<Batch<B::Crypto>>>,
    report: BTreeMap<SeqNo, View>,
    /// The number whose batch takes the ledger's state to the next.
    applied: Option<SeqNo>,
}

impl<'a, B: Bundle> Scene<'a, B> {
    fn new(ledger: &'a Ledger<B>, hand: &'a Hand<'a, B>) -> Self {
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

    fn about(mut self, (view, n, digest): Slot) -> Self {
        self.views.insert(view);
        self.numbers.insert(n);
        self.digests.insert(digest);
        if let Some(&(other, _)) = self.ledger.accepted.get(&n) {
            self.digests.insert(other);
        }
        self
    }

    /// Names a quorum: these, and as many others as are missing.
    fn quorum(&mut self, of: &BTreeSet<ReplicaId>) -> Element {
        let mut quorum = of.clone();
        let others = self.hand.setup.cluster.replicas().filter(|replica| !of.contains(replica));
        quorum.extend(others.take(self.hand.quorum().saturating_sub(of.len())));
        self.quorums.push(quorum);
        Element::Quorum(self.quorums.len() - 1)
    }

    /// Takes the VIEW-CHANGEs of a NEW-VIEW to be in hand, and names their senders.
    fn new_view(&mut self, new_view: &'a NewView<B::Crypto>) -> Element {
        let view_changes = self.hand.view_changes(self.ledger, new_view);
        let quorum = self.quorum(&view_changes.iter().map(|m| m.replica).collect());
        self.view_changes = view_changes.into_iter().map(|m| ((m.replica, new_view.view), m)).collect();
        quorum
    }

    /// What the batch goes by: the digest that it really has.
    fn named(&self) -> Element {
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
    fn elements(&self, sort: Sort) -> Vec<Element> {
        match sort {
            Sort::Replica => self.hand.setup.cluster.replicas().map(Element::Replica).collect(),
            Sort::View => self.views.iter().copied().map(Element::View).collect(),
            Sort::Number => self.numbers.iter().copied().map(Element::Number).collect(),
            Sort::Digest => self.digests.iter().copied().map(Element::Digest).collect(),
            Sort::Quorum => (0..self.quorums.len()).map(Element::Quorum).collect(),
            Sort::Batch | Sort::State => Vec::new(),
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

impl<B: Bundle> Judging<'_, '_, B> {
    /// Evaluates the guards of an action, taken with these values of its parameters after the actor.
    fn guards(
        &self,
        action: &'static str,
        scene: &Scene<'_, B>,
        values: &[Element],
        words: impl FnOnce() -> String,
    ) -> Result<(), Breach> {
        let (parameters, guards) = &self.contract.actions[action];
        let actor = Element::Replica(self.hand.setup.id);
        let mut environment: Environment =
            parameters.iter().copied().zip(std::iter::once(actor).chain(values.iter().copied())).collect();
        debug_assert_eq!(environment.len(), parameters.len());
        match guards.iter().find(|guard| !evaluate(&guard.formula, scene, &mut environment)) {
            None => Ok(()),
            Some(guard) => Err(Breach { action, guard: guard.name, words: words() }),
        }
    }

    // --- normal case ---

    /// `pre_prepare` or `prepare`: a digest is accepted.
    pub(super) fn accept(&mut self, of: Slot) -> Result<(), Breach> {
        let (view, n, digest) = of;
        let primary = self.hand.primary(view);
        let is_primary = primary == self.hand.setup.id;
        let mut scene = Scene::new(self.ledger, &self.hand).about(of);
        scene.batch = self.hand.batch(digest);
        let named = scene.named();
        let (v, n_, d) = (Element::View(view), Element::Number(n), Element::Digest(digest));
        let what = if is_primary { "PRE-PREPARE" } else { "PREPARE" };
        let words = || format!("{what} for {digest:?} at {}", slot(view, n));
        if is_primary {
            self.guards("pre_prepare", &scene, &[v, n_, d, named], words)?;
        } else {
            let proposal = self.hand.is_proposed(self.ledger, of);
            scene.prepares.insert(of, Votes { proposal, voters: BTreeSet::new() });
            self.guards("prepare", &scene, &[Element::Replica(primary), v, n_, d, named], words)?;
        }
        self.taken.push(if is_primary { "pre_prepare" } else { "prepare" });
        let role = if is_primary { Role::Primary } else { Role::Backup };
        self.ledger.accepted.insert(n, (digest, role));
        Ok(())
    }

    /// PRE-PREPARE or PREPARE leaves.
    pub(super) fn sends_accepted(&mut self, what: &str, role: Role, of: Slot) -> Result<(), Breach> {
        let (view, n, digest) = of;
        if self.ledger.view != view || self.ledger.accepted.get(&n) != Some(&(digest, role)) {
            self.accept(of)?;
        }
        match self.ledger.stored.accepted.get(&n) == Some(&(view, digest)) {
            true => Ok(()),
            false => {
                let action = if role == Role::Primary { "pre_prepare" } else { "prepare" };
                Err(not_recorded(action, format!("{what} for {}", slot(view, n))))
            }
        }
    }

    /// `commit`: a digest is prepared.
    pub(super) fn commit(&mut self, of: Slot) -> Result<(), Breach> {
        let (view, n, digest) = of;
        let primary = self.hand.primary(view);
        let votes = self.hand.prepares(self.ledger, of);
        let others = votes.voters.iter().filter(|&&by| by != primary).count();
        let mut scene = Scene::new(self.ledger, &self.hand).about(of);
        let quorum = scene.quorum(&votes.voters.iter().copied().chain([primary]).collect());
        scene.batch = self.hand.batch(digest);
        let (needed, proposal) =
            (self.hand.quorum() - 1, if votes.proposal { "PRE-PREPARE and " } else { "" });
        scene.prepares.insert(of, votes);
        let values = [
            Element::View(view),
            Element::Number(n),
            Element::Digest(digest),
            scene.named(),
            Element::Replica(primary),
            quorum,
        ];
        self.guards("commit", &scene, &values, || {
            let in_hand = format!("{proposal}PREPAREs of {others} backups in hand, {needed} are needed");
            format!("COMMIT for {digest:?} at {}, with {in_hand}", slot(view, n))
        })?;
        self.taken.push("commit");
        self.ledger.prepared.insert(n, (view, digest));
        Ok(())
    }

    /// COMMIT leaves.
    pub(super) fn sends_commit(&mut self, of: Slot) -> Result<(), Breach> {
        let (view, n, digest) = of;
        if self.ledger.prepared.get(&n) != Some(&(view, digest)) {
            self.commit(of)?;
        }
        match self.ledger.stored.prepared.get(&n) == Some(&(view, digest)) {
            true => Ok(()),
            false => Err(not_recorded("commit", format!("COMMIT for {}", slot(view, n)))),
        }
    }

    /// `committed_local`.
    pub(super) fn committed(&mut self, of: Slot) -> Result<(), Breach> {
        let (view, n, digest) = of;
        let voters = self.hand.commits(self.ledger, of);
        let mut scene = Scene::new(self.ledger, &self.hand).about(of);
        let quorum = scene.quorum(&voters);
        let (have, needed) = (voters.len(), self.hand.quorum());
        scene.commits.insert(of, voters);
        let values = [Element::View(view), Element::Number(n), Element::Digest(digest), quorum];
        self.guards("committed_local", &scene, &values, || {
            format!("{digest:?} committed at {} with COMMITs of {have}, {needed} are needed", slot(view, n))
        })?;
        self.taken.push("committed_local");
        self.ledger.committed.insert(n, digest);
        Ok(())
    }

    /// `execute`; the batch is applied to the ledger's own state.
    pub(super) fn execute(&mut self, n: SeqNo, digest: Digest) -> Result<(), Breach> {
        if self.ledger.committed.get(&n) != Some(&digest) {
            self.committed((self.ledger.view, n, digest))?;
        }
        let before = SeqNo(n.0.saturating_sub(1));
        let batch = self.hand.batch(digest);
        let mut scene = Scene::new(self.ledger, &self.hand).about((self.ledger.view, n, digest));
        scene.applied = batch.is_some().then_some(n);
        scene.batch.clone_from(&batch);
        let values = [
            Element::Number(before),
            Element::Number(n),
            Element::Digest(digest),
            scene.named(),
            Element::State(StateName::After(before)),
            Element::State(StateName::After(n)),
        ];
        self.guards("execute", &scene, &values, || {
            let last = self.ledger.executed.0;
            format!("{digest:?} is executed at n = {}, and n = {last} was the last", n.0)
        })?;
        self.taken.push("execute");
        let ledger = &mut *self.ledger;
        ledger.committed.retain(|&k, _| k > n);
        if let Some(batch) = batch {
            self.answers.extend(ledger.apply(self.hand.setup, n, &batch));
        }
        Ok(())
    }

    // --- checkpoints ---

    /// `checkpoint`: CHECKPOINT leaves.
    pub(super) fn checkpoint(&mut self, n: SeqNo, digest: Digest) -> Result<(), Breach> {
        let scene = Scene::new(self.ledger, &self.hand).about((self.ledger.view, n, digest));
        let values = [Element::Number(n), Element::State(StateName::Root(digest))];
        self.guards("checkpoint", &scene, &values, || {
            format!("CHECKPOINT at n = {} for {digest:?}, which is not the state there", n.0)
        })?;
        if self.ledger.stored.executed < n {
            return Err(not_recorded("checkpoint", format!("CHECKPOINT at n = {}", n.0)));
        }
        self.taken.push("checkpoint");
        Ok(())
    }

    /// `stable`, or `adopt` if somebody else has put the certificate together.
    pub(super) fn stable(&mut self, certificate: &StableCertificate<B::Crypto>) -> Result<(), Breach> {
        let (n, digest) = (certificate.n, certificate.digest);
        let came = matches!(
            self.hand.message(),
            Some(Message::Stable(_) | Message::NewView(_) | Message::ViewChange(_))
        );
        let mut voters = self.hand.checkpoints(certificate).voters;
        // What it has put together itself has its own vote only if it has that state. What others have, it has sent.
        if !came && self.ledger.roots.get(&n).is_none_or(|&root| root != digest) {
            voters.remove(&self.hand.setup.id);
        }
        let mut scene = Scene::new(self.ledger, &self.hand).about((self.ledger.view, n, digest));
        let quorum = scene.quorum(&voters);
        let (have, needed) = (voters.len(), self.hand.quorum());
        scene.checkpoints.insert((n, digest), voters);
        let action = if came { "adopt" } else { "stable" };
        let values = [Element::Number(n), Element::State(StateName::Root(digest)), quorum];
        self.guards(action, &scene, &values, || {
            format!("h becomes {} with CHECKPOINTs of {have}, {needed} are needed", n.0)
        })?;
        if n < self.ledger.low {
            // What is above it is discarded already, and bound.
            let words = format!("h becomes {}, and was {}", n.0, self.ledger.low.0);
            return Err(Breach { action, guard: "h only grows", words });
        }
        self.taken.push(action);
        self.ledger.collect(n, digest);
        Ok(())
    }

    /// A snapshot is recorded: its own, or by `fetch` another's.
    pub(super) fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), Breach> {
        let n = snapshot.n;
        let words = || format!("the state after n = {} is taken over, which is not the one certified", n.0);
        if n <= self.ledger.executed {
            let own = self.ledger.roots.get(&n);
            return match own.is_none_or(|&own| own == snapshot.tree.root()) {
                true => Ok(()),
                false => Err(Breach { action: "fetch", guard: "executed", words: words() }),
            };
        }
        let root = Tree::build::<B::Crypto>(&snapshot.tree.chunks(), None).root();
        let scene = Scene::new(self.ledger, &self.hand).about((self.ledger.view, n, root));
        let certified = self.ledger.stable.unwrap_or(Digest::NULL);
        let (h, g) = (StateName::Root(certified), StateName::Root(root));
        self.guards("fetch", &scene, &[Element::Number(n), Element::State(h), Element::State(g)], words)?;
        let Some(state) = State::of(snapshot) else {
            return Err(Breach { action: "fetch", guard: "transfer-verified", words: words() });
        };
        self.taken.push("fetch");
        let ledger = &mut *self.ledger;
        ledger.take_state(state, snapshot);
        ledger.stored.executed = n;
        ledger.committed.retain(|&k, _| k > n);
        Ok(())
    }

    // --- view changes ---

    /// `view_change`.
    pub(super) fn leave(&mut self, signed: &Said<B::Crypto>) -> Result<(), Breach> {
        let of = &signed.content;
        let view = of.view;
        let ledger = &*self.ledger;
        let mut scene = Scene::new(ledger, &self.hand);
        scene.views.insert(view);
        for (&n, &(of, digest)) in &ledger.prepared {
            scene.views.insert(of);
            scene.numbers.insert(n);
            scene.digests.insert(digest);
        }
        // Of the view that the ledger has, a certificate for another digest is none.
        let contradicts = |n: SeqNo, view: View, digest: Digest| {
            ledger.prepared.get(&n).is_some_and(|&(own, prepared)| own == view && prepared != digest)
        };
        let reported = of.prepared.iter().filter(|of| !contradicts(of.n, of.view, of.digest));
        scene.report = reported.map(|of| (of.n, of.view)).collect();
        self.guards("view_change", &scene, &[Element::View(view)], || {
            let (has, reports) = (ledger.prepared.len(), scene.report.len());
            format!("VIEW-CHANGE for view {} with {reports} of {has} certificates", view.0)
        })?;
        if of.n != ledger.low {
            let words =
                format!("VIEW-CHANGE for view {} says h = {}, which is {}", view.0, of.n.0, ledger.low.0);
            return Err(Breach { action: "view_change", guard: "claims h", words });
        }
        self.taken.push("view_change");
        (self.ledger.left, self.ledger.leaving) = (Some(view), true);
        self.ledger.said = Some(signed.clone());
        Ok(())
    }

    /// VIEW-CHANGE leaves: the one that was recorded.
    pub(super) fn sends_view_change(&mut self, signed: &Said<B::Crypto>) -> Result<(), Breach> {
        let of = &signed.content;
        if self.ledger.said.as_ref().is_none_or(|said| said.content != *of) {
            self.leave(signed)?;
        }
        match self.ledger.stored.left == Some(of.view) {
            true => Ok(()),
            false => Err(not_recorded("view_change", format!("VIEW-CHANGE for view {}", of.view.0))),
        }
    }

    /// `enter`, and what accepting each entry of `O` is.
    pub(super) fn enter(
        &mut self,
        signed: &Arc<Signed<NewView<B::Crypto>, B::Crypto>>,
    ) -> Result<(), Breach> {
        let view = signed.content.view;
        let ledger = &*self.ledger;
        let mut scene = Scene::new(ledger, &self.hand);
        scene.views.insert(view);
        let quorum = scene.new_view(&signed.content);
        let (have, needed) = (scene.view_changes.len(), self.hand.quorum());
        self.guards("enter", &scene, &[Element::View(view), quorum], || {
            format!("view {} is entered with VIEW-CHANGEs of {have}, {needed} are needed", view.0)
        })?;
        self.taken.push("enter");
        self.ledger.enter(view);
        for entry in &signed.content.pre_prepares {
            let of = entry.content;
            if of.n > self.ledger.low {
                self.allow(&signed.content, of.n, of.digest)?;
                self.accept((of.view, of.n, of.digest))?;
            }
        }
        // Above everything that V speaks of any digest is allowed: what goes for one goes for all.
        let open_above = open_above(&signed.content);
        self.open(&signed.content, open_above.next(), Digest([0xff; 32]))?;
        self.ledger.allowed.clear();
        // Its own VIEW-CHANGE was evidence up to here.
        self.ledger.said = self.ledger.said.take().filter(|said| said.content.view > view);
        self.ledger.closed = closed(&signed.content, self.ledger.low);
        Ok(())
    }

    /// NEW-VIEW of this replica's own leaves: every PRE-PREPARE in it does.
    pub(super) fn sends_new_view(
        &mut self,
        signed: &Arc<Signed<NewView<B::Crypto>, B::Crypto>>,
    ) -> Result<(), Breach> {
        let view = signed.content.view;
        if self.ledger.view != view {
            self.enter(signed)?;
        }
        if self.ledger.stored.view != view {
            return Err(not_recorded("enter", format!("NEW-VIEW for view {}", view.0)));
        }
        let low = self.ledger.low;
        for entry in signed.content.pre_prepares.iter().filter(|entry| entry.content.n > low) {
            let of = entry.content;
            self.sends_accepted("PRE-PREPARE", Role::Primary, (of.view, of.n, of.digest))?;
        }
        Ok(())
    }

    /// `new_view_open`: the NEW-VIEW has neither certificate nor claim at a number.
    fn open(&mut self, new_view: &NewView<B::Crypto>, n: SeqNo, digest: Digest) -> Result<(), Breach> {
        let view = new_view.view;
        let mut scene = Scene::new(self.ledger, &self.hand).about((view, n, digest));
        let quorum = scene.new_view(new_view);
        let values = [Element::View(view), Element::Number(n), Element::Digest(digest), quorum];
        self.guards("new_view_open", &scene, &values, || {
            format!("{digest:?} is accepted at {}, which the NEW-VIEW does not allow", slot(view, n))
        })?;
        self.taken.push("new_view_open");
        Ok(())
    }

    /// `new_view_open` or `new_view_entry`: the NEW-VIEW of the view allows a digest at a number.
    fn allow(&mut self, new_view: &NewView<B::Crypto>, n: SeqNo, digest: Digest) -> Result<(), Breach> {
        let view = new_view.view;
        let view_changes = self.hand.view_changes(self.ledger, new_view);
        let mut scene = Scene::new(self.ledger, &self.hand).about((view, n, digest));
        let quorum = scene.new_view(new_view);
        let certificates = || view_changes.iter().flat_map(|m| &m.prepared).filter(|of| of.n == n);
        scene.views.extend(certificates().map(|of| of.view));
        let (v, n_, d) = (Element::View(view), Element::Number(n), Element::Digest(digest));
        // The best for this digest; or else the best, of which the guards then say that it is for another.
        let for_it = certificates().filter(|of| of.digest == digest).max_by_key(|of| of.view);
        let best = for_it.or_else(|| certificates().max_by_key(|of| of.view));
        let words =
            || format!("{digest:?} is accepted at {}, which the NEW-VIEW does not allow", slot(view, n));
        let carried = match best {
            None => {
                self.open(new_view, n, digest)?;
                false
            }
            Some(best) => {
                let primary = self.hand.primary(best.view);
                let votes = self.hand.certificate(best);
                let voters = votes.voters.iter().copied().chain([primary]).collect();
                let prepared_by = scene.quorum(&voters);
                scene.prepares.insert((best.view, n, best.digest), votes);
                let p = Element::Replica(primary);
                let values = [v, n_, d, quorum, Element::View(best.view), p, prepared_by];
                self.guards("new_view_entry", &scene, &values, words)?;
                self.taken.push("new_view_entry");
                true
            }
        };
        self.ledger.allowed.insert(n, (digest, carried));
        Ok(())
    }
}
