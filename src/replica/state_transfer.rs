//! Catching up: fetching the state at a stable checkpoint, block by block.
//!
//! The digest of the checkpoint is the root of a tree of blocks, so each block is checked by itself and may
//! come from anybody. A transfer survives a newer checkpoint: blocks it shares with the old one stay.
//! Source: OSDI'99 §4.3; the tree takes the place of the thesis's §5.3.2 partitions.

use super::blocks::{Tree, children, tree_under};
use super::clients::ClientTable;
use super::{Bundle, Destination, Effects, Fact, Record, Replica, Setup, Snapshot};
use crate::crypto::Crypto;
use crate::message::{Fetch, Message, Wanted};
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::service::Service;
use crate::types::{Bytes, Digest, ReplicaId, SeqNo};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most blocks asked for at a time.
const MAX_FETCHES: usize = 16;

/// The state at a stable checkpoint, as far as it is here. Bounded by the size of the service's state, and of
/// what of it has changed since the first checkpoint that was to be fetched.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Transfer {
    /// The checkpoint.
    pub(super) n: SeqNo,
    root: Digest,
    have: BTreeMap<Digest, Bytes>,
    /// Blocks of older checkpoints, fetched before this one was known, which it may share.
    kept: BTreeMap<Digest, Bytes>,
    wanted: BTreeSet<Digest>,
    asked: BTreeSet<Digest>,
    source: ReplicaId,
}

impl Transfer {
    /// Wants everything under `root` that neither `local` nor an interrupted transfer has.
    fn begin<B: Bundle>(
        setup: &Setup<B>,
        n: SeqNo,
        root: Digest,
        interrupted: Option<Transfer>,
        local: &dyn Fn(&Digest) -> Option<Bytes>,
    ) -> Self {
        let kept = interrupted.map_or_else(BTreeMap::new, |old| {
            let mut kept = old.kept;
            kept.extend(old.have);
            kept
        });
        let mut transfer = Transfer {
            n,
            root,
            have: BTreeMap::new(),
            kept,
            wanted: BTreeSet::from([root]),
            asked: BTreeSet::new(),
            source: next_source(setup, setup.id),
        };
        if let Some(block) = transfer.kept.remove(&root).or_else(|| local(&root)) {
            transfer.take(root, block, local);
        }
        transfer
    }

    /// Without what only says whom to ask for what, and what need not be asked for.
    pub(super) fn without_requests<B: Bundle>(mut self, setup: &Setup<B>) -> Self {
        self.asked.clear();
        self.kept.clear();
        self.source = next_source(setup, setup.id);
        self
    }

    /// How many blocks are here.
    pub(super) fn blocks(&self) -> usize {
        self.have.len()
    }

    /// Takes a block in, and with it those of its descendants that are kept or that `local` has.
    fn take(&mut self, digest: Digest, block: Bytes, local: &dyn Fn(&Digest) -> Option<Bytes>) {
        let mut open = vec![(digest, block)];
        while let Some((digest, block)) = open.pop() {
            self.wanted.remove(&digest);
            self.asked.remove(&digest);
            for child in children(&block).unwrap_or_default() {
                if self.have.contains_key(&child) {
                    continue;
                }
                match self.kept.remove(&child).or_else(|| local(&child)) {
                    Some(block) => open.push((child, block)),
                    None => {
                        self.wanted.insert(child);
                    }
                }
            }
            self.have.insert(digest, block);
        }
    }
}

impl<B: Bundle> Replica<B> {
    pub(super) fn start_transfer(
        &mut self,
        setup: &Setup<B>,
        n: SeqNo,
        root: Digest,
        effects: &mut Effects<B::Crypto>,
    ) {
        let interrupted = self.transfer.take();
        let begun = Transfer::begin(setup, n, root, interrupted, &|digest| self.block(digest).cloned());
        self.transfer.set(Some(begun));
        self.continue_transfer(setup, effects);
    }

    /// The transfer as it was before the first block arrived, if there is one.
    pub(super) fn transfer_at_its_beginning(&self, setup: &Setup<B>) -> Option<Transfer> {
        let local = |digest: &Digest| self.block(digest).cloned();
        let transfer = self.transfer.as_ref()?;
        Some(Transfer::begin(setup, transfer.n, transfer.root, None, &local))
    }

    /// Asks another replica for everything still wanted; what was asked for may be lost.
    pub(super) fn retry_transfer(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        if let Some(transfer) = self.transfer.as_mut() {
            transfer.asked.clear();
            transfer.source = next_source(setup, transfer.source);
        }
        self.continue_transfer(setup, effects);
    }

    fn continue_transfer(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        let Some(transfer) = self.transfer.as_mut() else { return };
        let room = MAX_FETCHES.saturating_sub(transfer.asked.len());
        let next: Vec<Digest> = transfer.wanted.difference(&transfer.asked).take(room).copied().collect();
        for digest in next {
            transfer.asked.insert(digest);
            let fetch = setup.sign(Fetch { what: Wanted::Block(digest), replica: setup.id });
            effects.send(Destination::Replica(transfer.source), Message::Fetch(fetch));
        }
        if transfer.wanted.is_empty() {
            self.finish_transfer(setup, effects);
        }
    }

    /// Handles a block of state (OSDI'99 §4.3 leaves the transfer open; Castro's thesis, §5.3). It is taken
    /// if the tree that is being fetched names its digest: here (`transfer_verified`). The last one installs
    /// the state.
    pub(super) fn on_block(
        &mut self,
        setup: &Setup<B>,
        block: Bytes,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let Some(mut transfer) = self.transfer.take() else { return Err(Rejection::Unwanted) };
        let digest = B::Crypto::digest(&block);
        let wanted = transfer.wanted.contains(&digest);
        if !setup.rules.transfer_verified(wanted) {
            self.transfer.set(Some(transfer));
            return Err(Rejection::Unwanted);
        }
        let named = if wanted { Some(digest) } else { transfer.wanted.first().copied() };
        if let Some(named) = named {
            transfer.take(named, block, &|digest| self.block(digest).cloned());
        }
        self.transfer.set(Some(transfer));
        self.continue_transfer(setup, effects);
        Ok(())
    }

    /// Installs the fetched state and goes on executing from there.
    fn finish_transfer(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        let Some(transfer) = self.transfer.take() else { return };
        let Some((service, clients, tree)) = self.state_from(setup, &transfer) else {
            // A quorum vouched for this digest, so only a broken service gets here; nothing is lost.
            effects.reject(Rejection::BadState);
            return;
        };
        let (n, digest) = (transfer.n, transfer.root);
        self.persist(setup, Record::Snapshot(Arc::new(Snapshot { n, tree })), effects);
        self.service = service;
        self.clients = clients;
        effects.fact(Fact::StateTransferred { n, digest });
        self.drop_answered_requests();
        self.execute(setup, effects);
        self.propose(setup, effects);
    }

    fn state_from(&self, setup: &Setup<B>, transfer: &Transfer) -> Option<(B::Service, ClientTable, Tree)> {
        let tree = tree_under(transfer.root, &transfer.have).ok()?;
        let (service, clients) = split_state::<B>(setup, &tree.chunks(), &self.clients)?;
        Some((service, clients, tree))
    }

    /// The digests of the blocks that are still to be fetched, as far as they are known.
    pub fn wanted_blocks(&self) -> BTreeSet<Digest> {
        self.transfer.as_ref().map(|transfer| transfer.wanted.clone()).unwrap_or_default()
    }

    /// The states at the stable checkpoint and at those after it that this replica keeps.
    pub fn snapshots(&self) -> impl Iterator<Item = &Snapshot> {
        std::iter::once(&self.durable.snapshot).chain(self.snapshots.values()).map(Arc::as_ref)
    }

    /// Every block that this replica can be asked for.
    pub fn blocks(&self) -> Vec<Bytes> {
        self.snapshots().flat_map(|snapshot| snapshot.tree.blocks()).cloned().collect()
    }

    /// A block of a checkpoint that this replica has.
    pub(super) fn block(&self, digest: &Digest) -> Option<&Bytes> {
        let stable = std::iter::once(&self.durable.snapshot);
        stable.chain(self.snapshots.values()).find_map(|snapshot| snapshot.tree.block(digest))
    }
}

/// The service and the client table from the chunks of a snapshot.
pub(super) fn split_state<B: Bundle>(
    setup: &Setup<B>,
    chunks: &[Bytes],
    current: &ClientTable,
) -> Option<(B::Service, ClientTable)> {
    if !setup.rules.client_table_in_checkpoint() {
        return Some((B::Service::restore(chunks).ok()?, current.clone()));
    }
    let (clients, service) = chunks.split_last()?;
    Some((B::Service::restore(service).ok()?, ClientTable::from_bytes(clients)?))
}

/// The replica to ask after `last`, this one left out.
fn next_source<B: Bundle>(setup: &Setup<B>, last: ReplicaId) -> ReplicaId {
    let others: Vec<ReplicaId> = setup.cluster.replicas().filter(|&replica| replica != setup.id).collect();
    others.iter().copied().find(|&replica| replica > last).or(others.first().copied()).unwrap_or(setup.id)
}
