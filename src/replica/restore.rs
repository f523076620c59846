//! Starting: from the initial state, or from what was durable when the replica stopped.

use super::log::{Vote, add_vote};
use super::noted::{Noted, apart};
use super::received::{Left, Received, Voted};
use super::state_transfer::split_state;
use super::{
    Bundle, Destination, Durable, Effect, Effects, Record, Replica, Requests, Setup, Snapshot, Timer,
};
use crate::message::{Commit, Prepare};
use crate::parameters::ConfigError;
use crate::rules::Rules;
use crate::types::{Digest, SeqNo, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The durable state is not one that this replica, with this configuration, can have written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StartRefusal {
    /// The snapshot is not the state of this service.
    #[error("the stored snapshot is not a state of this service")]
    Snapshot,
    /// The VIEW-CHANGE in it was sent by another replica.
    #[error("the stored VIEW-CHANGE is another replica's")]
    Foreign,
    /// A batch that was executed or prepared is missing.
    #[error("the store lacks the batch that executed or prepared at sequence number {0}")]
    MissingBatch(u64),
    /// A sequence number lies outside of the window that the stored checkpoint leaves.
    #[error("the store names sequence number {0}, which lies outside of its window")]
    OutOfWindow(u64),
    /// Something was executed without what comes before it.
    #[error("the store lacks what was executed before sequence number {0}")]
    Gap(u64),
    /// The configuration itself cannot be run.
    #[error("this configuration cannot be run: {0}")]
    Configuration(ConfigError),
    /// The NEW-VIEW is not that of the view, or the VIEW-CHANGE does not lead out of it.
    #[error("the view in the store does not fit the NEW-VIEW or the VIEW-CHANGE stored with it")]
    View,
    /// What is kept of the middle of a life is not of this replica's life.
    #[error("what is kept beside the durable state does not belong to it")]
    Volatile,
}

impl<B: Bundle> Replica<B> {
    /// A replica in its initial state, or as it was when the durable state was recorded.
    ///
    /// The effects set the status timer and tell the others what this replica has.
    ///
    /// # Errors
    /// If the durable state is damaged or another replica's (it is never taken as empty), or the
    /// configuration makes no sense ([`Setup::check_runnable`]).
    pub fn start(
        setup: &Setup<B>,
        stored: Option<Durable<B::Crypto>>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<Self, StartRefusal> {
        setup.check_runnable().map_err(StartRefusal::Configuration)?;
        let mut replica = match stored {
            None => Self::initial(setup),
            Some(durable) => Self::restored(setup, durable, effects)?,
        };
        effects.push(Effect::SetTimer(Timer::Status));
        replica.send_status(setup, Destination::Replicas, effects);
        replica.fetch_batches(setup, effects);
        let (h, executed) = (replica.durable.h(), replica.last_executed());
        if let Some(stable) = replica.durable.stable.clone().filter(|_| executed < h) {
            replica.start_transfer(setup, stable.n, stable.digest, effects);
        }
        replica.adjust_timer(setup, apart(|| None), effects);
        Ok(replica)
    }

    fn initial(setup: &Setup<B>) -> Self {
        let mut replica = Replica {
            durable: Durable::default(),
            prepares: Received::default(),
            commits: Received::default(),
            committed: BTreeMap::new(),
            checkpoints: Received::default(),
            snapshots: BTreeMap::new(),
            view_changes: Received::default(),
            service: setup.genesis.clone(),
            clients: super::ClientTable::default(),
            requests: Requests::default(),
            proposed: BTreeMap::new(),
            reads: BTreeMap::new(),
            awaited: Noted::default(),
            backoff: Noted::default(),
            transfer: Noted::default(),
        };
        replica.durable.snapshot = replica.snapshot(setup, SeqNo(0));
        replica
    }

    fn restored(
        setup: &Setup<B>,
        durable: Durable<B::Crypto>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<Self, StartRefusal> {
        let mut replica = Self::standing_on(setup, durable)?;
        replica.recover_snapshot(setup, effects);
        replica.recover_votes(setup);
        replica.requeue(setup);
        Ok(replica)
    }

    /// A replica with this durable state, what follows from that, and nothing else.
    pub(super) fn standing_on(setup: &Setup<B>, durable: Durable<B::Crypto>) -> Result<Self, StartRefusal> {
        check(setup, &durable)?;
        let mut replica = Self::at_snapshot(setup, &durable)?;
        let genesis = std::mem::replace(&mut replica.durable, durable);
        if replica.durable.snapshot.n == SeqNo(0) {
            // What records add up to has no snapshot before the first stable checkpoint.
            let unset = *replica.durable.snapshot == Snapshot::default();
            if !unset && replica.durable.snapshot != genesis.snapshot {
                return Err(StartRefusal::Snapshot);
            }
            replica.durable.snapshot = genesis.snapshot;
        }
        if !setup.rules.restart_keeps_view() {
            replica.durable.view = View(0);
            replica.durable.view_change = None;
            replica.durable.prepared.clear();
        }
        replica.execute_again(setup)?;
        Ok(replica)
    }

    /// A replica with the state of the stored snapshot, and nothing else of what is stored.
    fn at_snapshot(setup: &Setup<B>, durable: &Durable<B::Crypto>) -> Result<Self, StartRefusal> {
        let mut replica = Self::initial(setup);
        if durable.snapshot.n > SeqNo(0) {
            let chunks = durable.snapshot.tree.chunks();
            let state = split_state::<B>(setup, &chunks, &replica.clients);
            (replica.service, replica.clients) = state.ok_or(StartRefusal::Snapshot)?;
        }
        Ok(replica)
    }

    /// The state after `n`, executed again from a stored snapshot as a restart does it; none if the snapshot
    /// is later than `n`, or `n` had not executed. No key is used.
    ///
    /// # Errors
    /// If the snapshot is not a state of the service, or what executed after it is incomplete.
    pub fn state_after(
        setup: &Setup<B>,
        durable: &Durable<B::Crypto>,
        n: SeqNo,
    ) -> Result<Option<Arc<Snapshot>>, StartRefusal> {
        if n < durable.snapshot.n || n > durable.last_executed() {
            return Ok(None);
        }
        if n == durable.snapshot.n && n > SeqNo(0) {
            return Ok(Some(durable.snapshot.clone()));
        }
        let mut replica = Self::at_snapshot(setup, durable)?;
        replica.durable.batches = durable.batches.clone();
        if durable.snapshot.n > SeqNo(0) {
            // What has not changed since is not digested again.
            replica.durable.snapshot = durable.snapshot.clone();
        }
        let mut last = durable.snapshot.n;
        for (&next, &digest) in durable.executed.range(..=n) {
            if !setup.rules.in_order(next, last) {
                return Err(StartRefusal::Gap(next.0));
            }
            let batch = replica.batch(digest).ok_or(StartRefusal::MissingBatch(next.0))?;
            replica.run(&batch, setup);
            last = next;
        }
        Ok(Some(replica.snapshot(setup, n)))
    }

    /// The service and the client table in a snapshot; none if it is not a state of this service.
    pub fn state_in(setup: &Setup<B>, snapshot: &Snapshot) -> Option<(B::Service, super::ClientTable)> {
        split_state::<B>(setup, &snapshot.tree.chunks(), &super::ClientTable::default())
    }

    /// Executes on top of the snapshot what had been executed: the results were sent, so they must hold.
    fn execute_again(&mut self, setup: &Setup<B>) -> Result<(), StartRefusal> {
        for (n, digest) in self.durable.executed.clone() {
            let batch = self.batch(digest).ok_or(StartRefusal::MissingBatch(n.0))?;
            self.run(&batch, setup);
            if n.0 % setup.parameters.checkpoint_interval != 0 {
                continue;
            }
            if n > self.durable.h() {
                self.log_own_checkpoint(setup, n);
            } else if n == self.durable.h() {
                let own = self.snapshot(setup, n);
                self.snapshots.insert(n, own);
            }
        }
        Ok(())
    }

    /// Where the crash came between the proof of a checkpoint and the record of its state.
    fn recover_snapshot(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        let h = self.durable.h();
        let proved = self.durable.stable.as_ref().map(|stable| stable.digest);
        let own: Option<Arc<Snapshot>> = self.snapshots.get(&h).cloned();
        if let Some(own) = own.filter(|own| Some(own.tree.root()) == proved) {
            self.persist(setup, Record::Snapshot(own), effects);
        }
        self.snapshots.retain(|&n, _| n > h);
    }

    /// This replica's own votes, which it counts like any other's.
    fn recover_votes(&mut self, setup: &Setup<B>) {
        let accepted: Vec<_> = self.durable.log.values().map(|signed| signed.content).collect();
        for proposal in accepted {
            let (view, n, digest, replica) = (proposal.view, proposal.n, proposal.digest, setup.id);
            let (voted, bound) = (Voted { n, view, replica }, Self::repeats_bound(setup));
            let prepared = self.prepared(view, n);
            // A vote that is there already is the same vote.
            let _ = if prepared {
                let signature = setup.sign(Commit { view, n, digest, replica }).signature;
                add_vote(&mut self.commits, voted, Vote { digest, signature }, &setup.rules, bound)
            } else if setup.cluster.primary(view) != replica {
                let signature = setup.sign(Prepare { view, n, digest, replica }).signature;
                add_vote(&mut self.prepares, voted, Vote { digest, signature }, &setup.rules, bound)
            } else {
                Ok(())
            };
        }
        if let Some(own) = self.durable.view_change.clone() {
            self.view_changes.push(Left { view: own.content.view, replica: own.content.replica }, own);
        }
    }
}

pub(super) fn check<B: Bundle>(setup: &Setup<B>, durable: &Durable<B::Crypto>) -> Result<(), StartRefusal> {
    if durable.view_change.as_ref().is_some_and(|own| own.content.replica != setup.id) {
        return Err(StartRefusal::Foreign);
    }
    let entered = durable.new_view.as_ref().map_or(View(0), |new_view| new_view.content.view);
    if entered != durable.view || durable.leaving().is_some_and(|target| target <= durable.view) {
        return Err(StartRefusal::View);
    }
    let mut last = durable.snapshot.n;
    for &n in durable.executed.keys() {
        if !setup.rules.in_order(n, last) {
            return Err(StartRefusal::Gap(n.0));
        }
        last = n;
    }
    let high = durable.h().0.saturating_add(setup.parameters.window);
    let mut numbers = durable.log.keys().map(|&(_, n)| n).chain(durable.prepared.keys().copied());
    if let Some(n) = numbers.find(|n| n.0 > high || *n <= durable.h()) {
        return Err(StartRefusal::OutOfWindow(n.0));
    }
    // Execution relies on it: a committed batch prepared, so its batch is here.
    let batchless = durable.prepared.values().find(|certificate| {
        let digest = certificate.digest;
        let has_batch = digest == Digest::NULL || durable.batches.contains_key(&digest);
        !setup.rules.prepared_has_batch(has_batch)
    });
    match batchless {
        Some(certificate) => Err(StartRefusal::MissingBatch(certificate.n.0)),
        None => Ok(()),
    }
}
