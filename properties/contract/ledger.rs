//! What one replica has sent and recorded, as far as it still binds.

use super::state::State;
use pbft::crypto::{Crypto, Signed};
use pbft::message::{Batch, NewView, ViewChange};
use pbft::parameters::MAX_WINDOW;
use pbft::replica::{Bundle, Durable, LastReply, Setup, Snapshot};
use pbft::types::{ClientId, Digest, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A VIEW-CHANGE as it was recorded.
pub(super) type Said<C> = Arc<Signed<ViewChange<C>, C>>;

/// How a digest was accepted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Role {
    /// By PRE-PREPARE.
    Primary,
    /// By PREPARE.
    Backup,
}

/// Relations that a crash does not take back, as records make them: `in_view_d`, `leaving_d`, `left_d`, `accepted_d`,
/// `prepared_d`; and what was executed.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Stored {
    pub(super) view: View,
    pub(super) left: Option<View>,
    pub(super) leaving: bool,
    pub(super) accepted: BTreeMap<SeqNo, (View, Digest)>,
    pub(super) prepared: BTreeMap<SeqNo, (View, Digest)>,
    pub(super) executed: SeqNo,
}

/// The ledger of one replica. Bounded: one view, the numbers of one window, and a copy of the state.
///
/// It is made of effects alone, and never of the replica's state: a replica that forgets what it has prepared, and says
/// so in its VIEW-CHANGE, does not pass by its own memory.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ledger<B: Bundle> {
    /// `in_view`.
    pub(super) view: View,
    /// `leaving`.
    pub(super) leaving: bool,
    /// The highest view of a VIEW-CHANGE: `left` holds of the views below.
    pub(super) left: Option<View>,
    /// That VIEW-CHANGE, until its view is entered: no other is sent for the view, nor is another in its `V`.
    pub(super) said: Option<Said<B::Crypto>>,
    /// `accepted`, in the current view.
    pub(super) accepted: BTreeMap<SeqNo, (Digest, Role)>,
    /// `prepared`: for each number the latest view. COMMIT was sent for it, or recorded to be.
    pub(super) prepared: BTreeMap<SeqNo, (View, Digest)>,
    /// `committed_local`, of numbers not executed yet.
    pub(super) committed: BTreeMap<SeqNo, Digest>,
    /// `allowed` at the numbers of an `O` while its entries are accepted; with whether it is `carried`.
    pub(super) allowed: BTreeMap<SeqNo, (Digest, bool)>,
    /// Numbers above h of which the `V` of the current view has certificates and its `O` no entry: nothing is `allowed`
    /// there. At all other numbers at which nothing is accepted anything is.
    pub(super) closed: BTreeSet<SeqNo>,
    /// `low` holds up to here.
    pub(super) low: SeqNo,
    /// `stable` of the last one.
    pub(super) stable: Option<Digest>,
    /// `executed` and `state`: up to here.
    pub(super) executed: SeqNo,
    /// The state after that.
    pub(super) state: State<B::Service>,
    /// `state` at checkpoints, by digest.
    pub(super) roots: BTreeMap<SeqNo, Digest>,
    /// The last of these states, so that the next is digested faster.
    pub(super) last: Arc<Snapshot>,
    pub(super) stored: Stored,
}

impl<B: Bundle> Ledger<B> {
    /// That of a replica that has done nothing yet.
    pub fn new(setup: &Setup<B>) -> Self {
        let state = State { service: setup.genesis.clone(), clients: BTreeMap::new() };
        Ledger {
            view: View(0),
            leaving: false,
            left: None,
            said: None,
            accepted: BTreeMap::new(),
            prepared: BTreeMap::new(),
            committed: BTreeMap::new(),
            allowed: BTreeMap::new(),
            closed: BTreeSet::new(),
            low: SeqNo(0),
            stable: None,
            executed: SeqNo(0),
            state,
            roots: BTreeMap::new(),
            last: Arc::new(Snapshot::default()),
            stored: Stored::default(),
        }
    }

    /// That of a replica of which nothing is known but what it finds in its store. None if that is no state that a
    /// replica can start from.
    pub fn of_durable(setup: &Setup<B>, durable: &Durable<B::Crypto>) -> Option<Self> {
        let mut ledger = Ledger::new(setup);
        ledger.take_store(setup, durable);
        if durable.snapshot.n > SeqNo(0) {
            ledger.take_state(State::of(&durable.snapshot)?, &durable.snapshot);
        }
        for (&n, &digest) in &durable.executed {
            if n != ledger.executed.next() {
                return None;
            }
            match durable.batches.get(&digest) {
                Some(batch) => ledger.apply(setup, n, batch),
                None if digest == Digest::NULL => ledger.apply(setup, n, &Batch { requests: Vec::new() }),
                None => return None,
            };
        }
        ledger.roots.retain(|&n, _| n >= durable.h());
        Some(ledger)
    }

    /// A state becomes the ledger's own.
    pub(super) fn take_state(&mut self, state: State<B::Service>, snapshot: &Snapshot) {
        (self.state, self.executed) = (state, snapshot.n);
        self.roots.insert(snapshot.n, snapshot.tree.root());
        self.last = Arc::new(snapshot.clone());
    }

    /// The batch of the next number is executed. Returns whom that answers what.
    pub(super) fn apply(
        &mut self,
        setup: &Setup<B>,
        n: SeqNo,
        batch: &Batch<B::Crypto>,
    ) -> Vec<(ClientId, LastReply)> {
        let answers = self.state.apply(batch);
        self.executed = n;
        if is_checkpoint(setup, n) {
            self.last = self.state.snapshot::<B::Crypto>(n, &self.last.tree);
            self.roots.insert(n, self.last.tree.root());
        }
        answers
    }

    /// Memory becomes the store; the states stay.
    fn take_store(&mut self, setup: &Setup<B>, durable: &Durable<B::Crypto>) {
        if self.view != durable.view {
            let new_view = durable.new_view.as_ref();
            self.closed = new_view.map_or_else(BTreeSet::new, |m| closed(&m.content, durable.h()));
        }
        self.view = durable.view;
        self.left = durable.leaving();
        self.said.clone_from(&durable.view_change);
        self.leaving = self.left.is_some();
        let role = match setup.cluster.primary(self.view) == setup.id {
            true => Role::Primary,
            false => Role::Backup,
        };
        let log = durable.log.iter().filter(|((view, _), _)| *view == self.view);
        self.accepted = log.map(|(&(_, n), signed)| (n, (signed.content.digest, role))).collect();
        let certificates = durable.prepared.values();
        self.prepared = certificates.map(|of| (of.n, (of.view, of.digest))).collect();
        self.low = durable.h();
        self.stable = durable.stable.as_ref().map(|certificate| certificate.digest);
        self.stored = Stored {
            view: self.view,
            left: self.left,
            leaving: self.leaving,
            accepted: self.accepted.iter().map(|(&n, &(digest, _))| (n, (self.view, digest))).collect(),
            prepared: self.prepared.clone(),
            executed: durable.last_executed(),
        };
    }

    /// The replica stops, and starts again from its store: the action `crash`. For a crash in the middle of a step, judge
    /// those effects first that were carried out.
    ///
    /// # Errors
    /// What was sent and is not in the store.
    pub fn restart(&mut self, setup: &Setup<B>, durable: &Durable<B::Crypto>) -> Result<(), String> {
        if let Some(lost) = self.promises().lost(durable) {
            return Err(lost);
        }
        let executed = durable.last_executed();
        if executed != self.executed {
            // Recorded, and not told to anybody; or everything after a state that was fetched since.
            *self = Ledger::of_durable(setup, durable).ok_or("the store is not one to start from")?;
            return Ok(());
        }
        self.take_store(setup, durable);
        self.committed.clear();
        self.roots.retain(|&n, _| n >= durable.h());
        Ok(())
    }

    /// What it has promised.
    pub(super) fn promises(&self) -> Promises {
        Promises {
            view: self.view,
            left: self.left.filter(|_| self.leaving),
            accepted: self.accepted.iter().map(|(&n, &(digest, _))| (n, digest)).collect(),
            prepared: self.prepared.clone(),
            executed: self.executed,
            low: self.low,
        }
    }

    /// `low` holds up to a checkpoint, which is stable.
    pub(super) fn collect(&mut self, n: SeqNo, digest: Digest) {
        if n < self.low || n == SeqNo(0) {
            return;
        }
        (self.low, self.stable) = (n, Some(digest));
        self.accepted.retain(|&k, _| k > n);
        self.prepared.retain(|&k, _| k > n);
        self.closed.retain(|&k| k > n);
        self.stored.accepted.retain(|&k, _| k > n);
        self.stored.prepared.retain(|&k, _| k > n);
        self.roots.retain(|&k, _| k >= n);
    }

    /// `in_view` of a view entered by a NEW-VIEW.
    pub(super) fn enter(&mut self, view: View) {
        if view != self.view {
            self.accepted.clear();
            self.closed.clear();
        }
        (self.view, self.leaving) = (view, false);
        // Of views below the one entered nothing depends on it any more.
        self.left = self.left.filter(|&left| left > view);
        // It can be shown again.
        self.committed.clear();
    }
}

/// What a replica must still know after a crash, as it has told others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Promises {
    view: View,
    /// The view of its VIEW-CHANGE, while it is between two views.
    left: Option<View>,
    accepted: BTreeMap<SeqNo, Digest>,
    prepared: BTreeMap<SeqNo, (View, Digest)>,
    executed: SeqNo,
    low: SeqNo,
}

impl Promises {
    /// The first thing that was sent and that the store does not have.
    pub(super) fn lost<C: Crypto>(&self, durable: &Durable<C>) -> Option<String> {
        let h = durable.h();
        let views = (durable.view, durable.leaving());
        if durable.view < self.view {
            return Some(format!(
                "view {} was entered, and the store says view {}",
                self.view.0, durable.view.0
            ));
        }
        if let Some(left) = self.left.filter(|left| durable.view < *left && views.1 < Some(*left)) {
            return Some(format!("VIEW-CHANGE for view {} was sent, and is not in the store", left.0));
        }
        for (&n, &digest) in self.accepted.iter().filter(|&(&n, _)| n > h && durable.view == self.view) {
            if durable.log.get(&(self.view, n)).is_none_or(|signed| signed.content.digest != digest) {
                return Some(format!("{digest:?} was accepted at n = {} and is not in the store", n.0));
            }
        }
        for (&n, &(view, digest)) in self.prepared.iter().filter(|&(&n, _)| n > h) {
            let kept = durable.prepared.get(&n).map(|kept| (kept.view, kept.digest));
            if kept.is_none_or(|(kept, same)| kept < view || (kept == view && same != digest)) {
                return Some(format!("COMMIT for n = {} was sent in view {}: not in the store", n.0, view.0));
            }
        }
        // What it has promised to report, or has executed, it cannot start again from without the batch.
        let prepared = durable.prepared.values().map(|of| (of.n, of.digest));
        let mut named = prepared.chain(durable.executed.iter().map(|(&n, &digest)| (n, digest)));
        let is_lost = |of: &(SeqNo, Digest)| of.1 != Digest::NULL && !durable.batches.contains_key(&of.1);
        if let Some((n, digest)) = named.find(is_lost) {
            return Some(format!("the batch of {digest:?} at n = {} is not in the store", n.0));
        }
        if durable.last_executed() < self.executed || h < self.low {
            return Some(format!("n = {} was executed, and the store ends before", self.executed.0));
        }
        None
    }
}

/// The highest number of which `V` has a certificate or claims that it is at or below h.
pub(super) fn open_above<C: Crypto>(new_view: &NewView<C>) -> SeqNo {
    let view_changes = new_view.view_changes.iter().map(|m| &m.content);
    let numbers = view_changes.flat_map(|m| m.prepared.iter().map(|of| of.n).chain([m.n]));
    numbers.max().unwrap_or(SeqNo(0))
}

/// The numbers above h up to that one of which `O` has no entry.
pub(super) fn closed<C: Crypto>(new_view: &NewView<C>, h: SeqNo) -> BTreeSet<SeqNo> {
    let has = |n: &SeqNo| new_view.pre_prepares.iter().any(|entry| entry.content.n == *n);
    let last = open_above(new_view).0.min(h.0.saturating_add(MAX_WINDOW));
    (h.0.saturating_add(1)..=last).map(SeqNo).filter(|n| !has(n)).collect()
}

/// Whether replicas send CHECKPOINT after this number.
pub(super) fn is_checkpoint<B: Bundle>(setup: &Setup<B>, n: SeqNo) -> bool {
    n > SeqNo(0) && n.0.checked_rem(setup.parameters.checkpoint_interval) == Some(0)
}
