//! A state taken apart into what it has received and what it is besides, for explorations.

use super::durable::LastNewView;
use super::noted::{Cell, Part};
use super::received::Key;
use super::state_transfer::Transfer;
use super::{Bundle, Durable, Replica, Setup, log};
use crate::crypto::{Crypto, Signed};
use crate::message::{Checkpoint, Commit, Message, Prepare, Request, ViewChange};
use crate::types::{ClientId, Digest, ReplicaId, SeqNo, Timestamp, View};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;

/// What a state holds in one [`Cell`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Receipt<B: Bundle>(Inner<B>);

/// Who has cast a vote, for which digest, and the signature.
pub type HeldVote<B> = (ReplicaId, Digest, <<B as Bundle>::Crypto as Crypto>::Signature);

type ViewChanges<B> = Vec<Arc<Signed<ViewChange<<B as Bundle>::Crypto>, <B as Bundle>::Crypto>>>;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Inner<B: Bundle> {
    Votes(Vec<log::Vote<B::Crypto>>),
    ViewChanges(ViewChanges<B>),
    Pool(BTreeMap<ClientId, Signed<Request, B::Crypto>>),
    Queue(VecDeque<ClientId>),
    Transfer(Option<Transfer>),
}

impl<B: Bundle> Receipt<B> {
    /// Where a receiver keeps a message of another that it waits for more of, and what is in that cell then.
    pub fn of(message: &Message<B::Crypto>) -> Option<(Cell, Self)> {
        let vote = |part, n, view, replica, digest, signature| {
            Some((
                Cell { part, n, view, replica },
                Receipt(Inner::Votes(vec![log::Vote { digest, signature }])),
            ))
        };
        match message {
            Message::Prepare(Signed { content: Prepare { view, n, digest, replica }, signature, .. }) => {
                vote(Part::Prepares, *n, *view, *replica, *digest, signature.clone())
            }
            Message::Commit(Signed { content: Commit { view, n, digest, replica }, signature, .. }) => {
                vote(Part::Commits, *n, *view, *replica, *digest, signature.clone())
            }
            Message::Checkpoint(Signed { content: Checkpoint { n, digest, replica }, signature, .. }) => {
                vote(Part::Checkpoints, *n, View(0), *replica, *digest, signature.clone())
            }
            Message::ViewChange(m) => {
                let ViewChange { view, replica, .. } = m.content;
                let cell = Cell { part: Part::ViewChanges, n: SeqNo(0), view, replica };
                Some((cell, Receipt(Inner::ViewChanges(vec![m.clone()]))))
            }
            _ => None,
        }
    }

    /// Whether this is a vote for a digest.
    pub fn names(&self, digest: Digest) -> bool {
        matches!(&self.0, Inner::Votes(votes) if votes.iter().any(|vote| vote.digest == digest))
    }

    /// Whether there is nothing in the cell.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Inner::Votes(votes) => votes.is_empty(),
            Inner::ViewChanges(all) => all.is_empty(),
            Inner::Pool(pool) => pool.is_empty(),
            Inner::Queue(queue) => queue.is_empty(),
            Inner::Transfer(transfer) => transfer.is_none(),
        }
    }
}

#[doc(hidden)]
impl<C: Crypto> Durable<C> {
    /// Whether both are the same, whatever NEW-VIEW they keep for whoever missed it.
    pub fn is_but_for_new_view(&self, other: &Self) -> bool {
        let Durable {
            view,
            view_change,
            new_view: _,
            log,
            superseded,
            batches,
            prepared,
            executed,
            stable,
            snapshot,
        } = self;
        (*view, view_change, log, superseded)
            == (other.view, &other.view_change, &other.log, &other.superseded)
            && (batches, prepared, executed) == (&other.batches, &other.prepared, &other.executed)
            && (stable, snapshot) == (&other.stable, &other.snapshot)
    }
}

#[doc(hidden)]
impl<B: Bundle> Replica<B> {
    /// The cells that hold something.
    pub fn cells(&self) -> impl Iterator<Item = Cell> {
        let votes = self.prepares.cells().chain(self.commits.cells()).chain(self.checkpoints.cells());
        let single = [Part::Pool, Part::Queue, Part::Transfer].map(Cell::only);
        let single = single.into_iter().filter(|cell| !self.receipt(cell).is_empty());
        votes.chain(self.view_changes.cells()).chain(single)
    }

    /// The votes of a part (PREPAREs, COMMITs or CHECKPOINTs) held for a number and a view: who cast each, for which
    /// digest, and the signature. Those of CHECKPOINTs are of view 0.
    pub fn held_votes(&self, part: Part, n: SeqNo, view: View) -> Vec<HeldVote<B>> {
        fn votes<B: Bundle, const PART: u8>(
            of: &super::Votes<B::Crypto, PART>,
            (n, view): (SeqNo, View),
        ) -> Vec<HeldVote<B>> {
            let about = of.cells().filter(|cell| (cell.n, cell.view) == (n, view));
            about
                .flat_map(|cell| {
                    let held = of.peek(Key::of(&cell)).iter();
                    held.map(move |vote| (cell.replica, vote.digest, vote.signature.clone()))
                })
                .collect()
        }
        match part {
            Part::Prepares => votes::<B, { super::PREPARES }>(&self.prepares, (n, view)),
            Part::Commits => votes::<B, { super::COMMITS }>(&self.commits, (n, view)),
            Part::Checkpoints => votes::<B, { super::CHECKPOINTS }>(&self.checkpoints, (n, view)),
            _ => Vec::new(),
        }
    }

    /// What this state holds in a cell.
    ///
    /// # Panics
    /// If its part is a [service](Part::is_service).
    pub fn receipt(&self, cell: &Cell) -> Receipt<B> {
        Receipt(match cell.part {
            Part::Prepares => Inner::Votes(self.prepares.peek(Key::of(cell)).to_vec()),
            Part::Commits => Inner::Votes(self.commits.peek(Key::of(cell)).to_vec()),
            Part::Checkpoints => Inner::Votes(self.checkpoints.peek(Key::of(cell)).to_vec()),
            Part::ViewChanges => Inner::ViewChanges(self.view_changes.peek(Key::of(cell)).to_vec()),
            Part::Pool => Inner::Pool((*self.requests.pool).clone()),
            Part::Queue => Inner::Queue((*self.requests.queue).clone()),
            Part::Transfer => Inner::Transfer((*self.transfer).clone()),
            part @ (Part::Awaited | Part::Backoff | Part::NewView) => panic!("{part:?} holds no receipts"),
        })
    }

    /// Whether this state holds the same as another in a cell.
    ///
    /// # Panics
    /// If its part is a [service](Part::is_service).
    pub fn holds_the_same(&self, other: &Self, cell: &Cell) -> bool {
        match cell.part {
            Part::Prepares => self.prepares.peek(Key::of(cell)) == other.prepares.peek(Key::of(cell)),
            Part::Commits => self.commits.peek(Key::of(cell)) == other.commits.peek(Key::of(cell)),
            Part::Checkpoints => {
                self.checkpoints.peek(Key::of(cell)) == other.checkpoints.peek(Key::of(cell))
            }
            Part::ViewChanges => {
                self.view_changes.peek(Key::of(cell)) == other.view_changes.peek(Key::of(cell))
            }
            Part::Pool => *self.requests.pool == *other.requests.pool,
            Part::Queue => *self.requests.queue == *other.requests.queue,
            Part::Transfer => *self.transfer == *other.transfer,
            part @ (Part::Awaited | Part::Backoff | Part::NewView) => panic!("{part:?} holds no receipts"),
        }
    }

    /// Puts something into a cell, in the place of what is there.
    ///
    /// # Panics
    /// If that is not what such a cell holds.
    pub fn put_receipt(&mut self, cell: &Cell, receipt: &Receipt<B>) {
        match (cell.part, &receipt.0) {
            (Part::Prepares, Inner::Votes(votes)) => self.prepares.put(Key::of(cell), votes),
            (Part::Commits, Inner::Votes(votes)) => self.commits.put(Key::of(cell), votes),
            (Part::Checkpoints, Inner::Votes(votes)) => self.checkpoints.put(Key::of(cell), votes),
            (Part::ViewChanges, Inner::ViewChanges(all)) => self.view_changes.put(Key::of(cell), all),
            (Part::Pool, Inner::Pool(pool)) => self.requests.pool.set(pool.clone()),
            (Part::Queue, Inner::Queue(queue)) => self.requests.queue.set(queue.clone()),
            (Part::Transfer, Inner::Transfer(transfer)) => self.transfer.set(transfer.clone()),
            (part, _) => panic!("this is no receipt for {part:?}"),
        }
    }

    /// This state without receipts, and without what serves timers and retransmission.
    #[must_use]
    pub fn core(&self, setup: &Setup<B>) -> Self {
        let mut core = self.without_receipts(setup);
        core.forget_services();
        core
    }

    /// Puts something else in the place of what serves timers.
    pub fn disturb_services(&mut self) {
        self.awaited.set(Some((ClientId(u32::MAX), Timestamp(u64::MAX))));
        self.backoff.set(1);
    }

    /// Makes what serves timers and retransmission what it is in another state.
    pub fn keep_services(&mut self, other: &Self) {
        self.awaited = other.awaited;
        self.backoff = other.backoff;
        self.durable.new_view.clone_from(&other.durable.new_view);
    }

    /// Puts this in the place of the NEW-VIEW by which the view was entered: for explorations.
    pub fn put_new_view(&mut self, new_view: LastNewView<B::Crypto>) {
        self.durable.new_view.set(new_view);
    }

    /// Whether the progress timer runs in this state: for whoever carries on from it.
    pub fn runs_timer(&self, setup: &Setup<B>) -> bool {
        self.timer_reason(setup).is_some()
    }

    /// Forgets what serves timers and retransmission.
    pub fn forget_services(&mut self) {
        self.awaited.set(None);
        self.backoff.set(0);
        self.durable.new_view.set(None);
    }
}
