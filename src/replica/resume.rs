//! Going on in the middle of a life: everything that a restart forgets, as a value beside what is durable.
//!
//! The service, the client table and the states above h follow from the [`Durable`] state: they are what the
//! batches executed since the snapshot make of it. The rest is what [`Volatile`] holds.

use super::{
    Bundle, CHECKPOINTS, COMMITS, Durable, PREPARES, Replica, Requests, Setup, Snapshot, StartRefusal,
    ViewChanges, Votes, WaitingRead,
};
use crate::crypto::{Crypto, Signed};
use crate::message::Request;
use crate::types::{Bytes, ClientId, Digest, SeqNo, Timestamp, View};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a replica holds beside its durable state and what follows from that.
#[derive(Deserialize, Serialize)]
#[serde(bound = "")]
struct Volatile<C: Crypto> {
    prepares: Votes<C, PREPARES>,
    commits: Votes<C, COMMITS>,
    committed: BTreeMap<SeqNo, View>,
    checkpoints: Votes<C, CHECKPOINTS>,
    /// Of which states, each of which follows.
    snapshots: BTreeMap<SeqNo, Digest>,
    view_changes: ViewChanges<C>,
    requests: Requests<C>,
    proposed: BTreeMap<ClientId, Timestamp>,
    reads: BTreeMap<ClientId, WaitingRead<C>>,
    awaited: Option<(ClientId, Timestamp)>,
    backoff: u8,
}

impl<B: Bundle> Replica<B> {
    /// What a replica that resumes needs beside the [`durable`](Self::durable) state, encoded. Nothing while
    /// it does not have the state at its stable checkpoint, which is then still to be fetched.
    pub fn volatile(&self, setup: &Setup<B>) -> Option<Bytes> {
        let follows = self.durable.snapshot.n == self.durable.h()
            && self.transfer.is_none()
            && self.snapshots.keys().eq(self.own_checkpoints(setup).iter());
        let volatile = || Volatile {
            prepares: self.prepares.clone(),
            commits: self.commits.clone(),
            committed: self.committed.clone(),
            checkpoints: self.checkpoints.clone(),
            snapshots: self.snapshots.iter().map(|(&n, snapshot)| (n, snapshot.tree.root())).collect(),
            view_changes: self.view_changes.clone(),
            requests: self.requests.clone(),
            proposed: self.proposed.clone(),
            reads: self.reads.clone(),
            awaited: *self.awaited,
            backoff: *self.backoff,
        };
        let encode = |volatile| postcard::to_stdvec(&volatile).expect("encoding into memory cannot fail");
        follows.then(|| Bytes::from(encode(volatile())))
    }

    /// The sequence numbers above h at which this replica has taken a checkpoint.
    fn own_checkpoints(&self, setup: &Setup<B>) -> Vec<SeqNo> {
        let interval = setup.parameters.checkpoint_interval;
        let h = self.durable.h();
        let executed = self.durable.executed.keys().copied();
        executed.filter(|&n| n > h && n.0.checked_rem(interval) == Some(0)).collect()
    }

    /// A replica as it was when its durable and its [`volatile`](Self::volatile) state were these.
    ///
    /// Nothing of the second is verified again: it is to come from where only the replica itself writes.
    ///
    /// # Errors
    /// If the configuration makes no sense, or these are not states that a replica with it can have had.
    pub fn resume(
        setup: &Setup<B>,
        durable: Durable<B::Crypto>,
        volatile: &[u8],
    ) -> Result<Self, StartRefusal> {
        setup.check_runnable().map_err(StartRefusal::Configuration)?;
        let volatile: Volatile<B::Crypto> =
            postcard::from_bytes(volatile).map_err(|_| StartRefusal::Volatile)?;
        let mut replica = Self::standing_on(setup, durable)?;
        replica.snapshots.retain(|&n, _| n > replica.durable.h());
        let roots = replica.snapshots.iter().map(|(&n, snapshot)| (n, snapshot.tree.root()));
        if !roots.eq(volatile.snapshots) {
            return Err(StartRefusal::Volatile);
        }
        replica.prepares = volatile.prepares;
        replica.commits = volatile.commits;
        replica.committed = volatile.committed;
        replica.checkpoints = volatile.checkpoints;
        replica.view_changes = volatile.view_changes;
        replica.requests = volatile.requests;
        replica.proposed = volatile.proposed;
        replica.reads = volatile.reads;
        replica.awaited.set(volatile.awaited);
        replica.backoff.set(volatile.backoff);
        Ok(replica)
    }

    /// The state after the last executed batch, as a checkpoint would have it.
    pub fn state(&self, setup: &Setup<B>) -> Arc<Snapshot> {
        self.snapshot(setup, self.last_executed())
    }

    /// The requests that wait, signed by their clients: those to be ordered, and reads.
    pub fn known_requests(&self) -> impl Iterator<Item = &Signed<Request, B::Crypto>> {
        self.requests.pool.values().chain(self.reads.values().map(|(request, _)| request))
    }
}
