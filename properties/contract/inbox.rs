//! What has arrived at a replica and may still be evidence: instead of the replica's state, which is then not looked at.

use super::ledger::Ledger;
use pbft::crypto::Signed;
use pbft::message::{Batch, Message, PrePrepare, Request};
use pbft::parameters::MAX_WINDOW;
use pbft::replica::noted::Part;
use pbft::replica::{Bundle, Durable, Effect, Record, Replica};
use pbft::types::{ClientId, Digest, ReplicaId, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Slot = (View, SeqNo, Digest);
type Votes = BTreeMap<Slot, BTreeSet<ReplicaId>>;

/// Verified messages of the current view, in the window, and the batches that they name. Bounded by the window times n,
/// and by the clients.
#[derive(Clone, Debug)]
pub(super) struct Inbox<B: Bundle> {
    pub(super) prepares: Votes,
    pub(super) commits: Votes,
    pub(super) proposals: BTreeMap<(View, SeqNo), Signed<PrePrepare, B::Crypto>>,
    /// By the digest that each really has.
    pub(super) batches: BTreeMap<Digest, Arc<Batch<B::Crypto>>>,
    pub(super) reads: BTreeMap<ClientId, Signed<Request, B::Crypto>>,
}

impl<B: Bundle> Default for Inbox<B> {
    fn default() -> Self {
        let (prepares, commits, proposals) = Default::default();
        Inbox { prepares, commits, proposals, batches: BTreeMap::new(), reads: BTreeMap::new() }
    }
}

impl<B: Bundle> Inbox<B> {
    /// What a replica holds.
    pub(super) fn of(replica: &Replica<B>) -> Self {
        let mut inbox = Inbox::default();
        let cells: BTreeSet<_> = replica.cells().map(|cell| (cell.part, cell.n, cell.view)).collect();
        for (part, n, view) in cells {
            let votes = match part {
                Part::Prepares => &mut inbox.prepares,
                Part::Commits => &mut inbox.commits,
                _ => continue,
            };
            for (by, digest, _) in replica.held_votes(part, n, view) {
                votes.entry((view, n, digest)).or_default().insert(by);
            }
        }
        inbox.take_store(replica.durable());
        let reads = replica.known_requests().filter(|request| request.content.read_only);
        inbox.reads = reads.map(|request| (request.content.client, request.clone())).collect();
        inbox
    }

    /// Takes in what a replica has stored.
    pub(super) fn take_store(&mut self, durable: &Durable<B::Crypto>) {
        self.proposals.clone_from(&durable.log);
        let batches = durable.batches.iter().filter(|(digest, batch)| batch.digest() == **digest);
        self.batches = batches.map(|(&digest, batch)| (digest, batch.clone())).collect();
    }

    /// Takes in a verified message.
    pub(super) fn take(&mut self, message: &Message<B::Crypto>, ledger: &Ledger<B>) {
        let is_near = |view: View, n: SeqNo| {
            view == ledger.view && n > ledger.low && n.0 <= ledger.low.0.saturating_add(MAX_WINDOW)
        };
        match message {
            Message::Prepare(m) if is_near(m.content.view, m.content.n) => {
                let slot = (m.content.view, m.content.n, m.content.digest);
                self.prepares.entry(slot).or_default().insert(m.content.replica);
            }
            Message::Commit(m) if is_near(m.content.view, m.content.n) => {
                let slot = (m.content.view, m.content.n, m.content.digest);
                self.commits.entry(slot).or_default().insert(m.content.replica);
            }
            Message::PrePrepare(m, batch) if is_near(m.content.view, m.content.n) => {
                self.proposals.entry((m.content.view, m.content.n)).or_insert_with(|| m.clone());
                self.batches.insert(m.content.digest, batch.clone());
            }
            Message::Request(request) if request.content.read_only => {
                self.reads.insert(request.content.client, request.clone());
            }
            _ => {}
        }
    }

    /// After a step: its own batches are here too, and what is of no use any more is not.
    pub(super) fn settle(&mut self, effects: &[Effect<B::Crypto>], ledger: &Ledger<B>) {
        let mut moved = false;
        for effect in effects {
            match effect {
                Effect::Persist(Record::PrePrepared(m, batch)) => {
                    self.proposals.insert((m.content.view, m.content.n), m.clone());
                    let digest = m.content.digest;
                    if !self.batches.contains_key(&digest) && batch.digest() == digest {
                        self.batches.insert(digest, batch.clone());
                    }
                }
                Effect::Persist(Record::Batch(batch)) => {
                    self.batches.insert(batch.digest(), batch.clone());
                }
                Effect::Persist(Record::NewView(m)) => {
                    let entries = m.content.pre_prepares.iter();
                    self.proposals
                        .extend(entries.map(|entry| ((entry.content.view, entry.content.n), entry.clone())));
                    moved = true;
                }
                Effect::Persist(Record::Stable(_)) => moved = true,
                _ => {}
            }
        }
        if moved {
            let (view, low) = (ledger.view, ledger.low);
            self.prepares.retain(|&(of, n, _), _| of == view && n > low);
            self.commits.retain(|&(of, n, _), _| of == view && n > low);
            self.proposals.retain(|&(of, n), _| of == view && n > low);
            let named: BTreeSet<Digest> = (ledger.accepted.values().map(|&(digest, _)| digest))
                .chain(ledger.prepared.values().map(|&(_, digest)| digest))
                .chain(ledger.committed.values().copied())
                .chain(self.proposals.values().map(|m| m.content.digest))
                .collect();
            self.batches.retain(|digest, _| named.contains(digest));
        }
    }
}
