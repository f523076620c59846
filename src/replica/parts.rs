//! A state taken apart into what it has received and what it is besides, for explorations.

use super::noted::Part;
use super::state_transfer::Transfer;
use super::{Bundle, Replica, Requests, Setup, ViewChanges, Votes};
use crate::types::View;
use std::collections::BTreeMap;

/// What a state holds in one [`Part`] of its receipts.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Receipts<B: Bundle>(Inner<B>);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Inner<B: Bundle> {
    Votes(Votes<B::Crypto>),
    ViewChanges(BTreeMap<View, ViewChanges<B::Crypto>>),
    Requests(Requests<B::Crypto>),
    Transfer(Option<Transfer>),
}

impl<B: Bundle> Replica<B> {
    /// What this state holds in a part of its receipts.
    ///
    /// # Panics
    /// If the part is none of [`Part::RECEIPTS`].
    pub fn receipts(&self, part: Part) -> Receipts<B> {
        Receipts(match part {
            Part::Prepares => Inner::Votes((*self.prepares).clone()),
            Part::Commits => Inner::Votes((*self.commits).clone()),
            Part::Checkpoints => Inner::Votes((*self.checkpoints).clone()),
            Part::ViewChanges => Inner::ViewChanges((*self.view_changes).clone()),
            Part::Requests => Inner::Requests((*self.requests).clone()),
            Part::Transfer => Inner::Transfer((*self.transfer).clone()),
            Part::Awaited | Part::Backoff | Part::NewView => panic!("{part:?} holds no receipts"),
        })
    }

    /// Puts what another state holds in a part of its receipts in the place of what this one holds there.
    pub fn put_receipts(&mut self, part: Part, receipts: &Receipts<B>) {
        match (part, receipts.0.clone()) {
            (Part::Prepares, Inner::Votes(votes)) => self.prepares.set(votes),
            (Part::Commits, Inner::Votes(votes)) => self.commits.set(votes),
            (Part::Checkpoints, Inner::Votes(votes)) => self.checkpoints.set(votes),
            (Part::ViewChanges, Inner::ViewChanges(all)) => self.view_changes.set(all),
            (Part::Requests, Inner::Requests(requests)) => self.requests.set(requests),
            (Part::Transfer, Inner::Transfer(transfer)) => self.transfer.set(transfer),
            (part, _) => panic!("these are no receipts for {part:?}"),
        }
    }

    /// This state without receipts, and without what serves timers and retransmission.
    #[must_use]
    pub fn core(&self, setup: &Setup<B>) -> Self {
        let mut core = self.without_receipts(setup);
        core.awaited.set(None);
        core.backoff.set(0);
        core.durable.new_view.set(None);
        core
    }
}
