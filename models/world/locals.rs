//! Local states of replicas, each kept once, for as long as it is of use.

use super::tables::{Local, LocalId};
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// The states that were met, in the order of their names.
#[derive(Default)]
pub(super) struct Locals {
    /// A name is given once: what was forgotten leaves a gap.
    all: Vec<Option<Box<Local>>>,
    places: HashTable<Place>,
}

/// Where a state is. Its hash is kept, as a state takes long to be hashed.
struct Place {
    hash: u64,
    id: LocalId,
}

impl Locals {
    /// How many names have been given.
    pub(super) fn named(&self) -> usize {
        self.all.len()
    }

    /// How many are kept.
    pub(super) fn kept(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, id: LocalId) -> &Local {
        let known = self.all.get(id.index()).and_then(Option::as_deref);
        known.expect("names are given by this table, and not used when what they name is forgotten")
    }

    pub(super) fn hash(local: &Local) -> u64 {
        FixedState::default().hash_one(local)
    }

    /// The name of a state with this hash, if it has one.
    pub(super) fn find(&self, hash: u64, local: &Local) -> Option<LocalId> {
        let is_same =
            |place: &Place| place.hash == hash && self.all[place.id.index()].as_deref() == Some(local);
        self.places.find(hash, is_same).map(|known| known.id)
    }

    /// The name of a state, which has one afterwards.
    pub(super) fn insert(&mut self, local: Local) -> LocalId {
        let hash = Self::hash(&local);
        self.find(hash, &local).unwrap_or_else(|| self.add(hash, Box::new(local)))
    }

    /// The same of a state with this hash.
    pub(super) fn insert_hashed(&mut self, hash: u64, local: Box<Local>) -> LocalId {
        self.find(hash, &local).unwrap_or_else(|| self.add(hash, local))
    }

    fn add(&mut self, hash: u64, local: Box<Local>) -> LocalId {
        let id = LocalId::new(self.all.len());
        self.places.insert_unique(hash, Place { hash, id }, |place| place.hash);
        self.all.push(Some(local));
        id
    }

    /// Forgets those that were named after the first so many. Their names become others'.
    pub(super) fn truncate(&mut self, named: usize) {
        self.places.retain(|place| place.id.index() < named);
        self.all.truncate(named);
    }

    /// Forgets all but these.
    pub(super) fn keep_only(&mut self, kept: impl IntoIterator<Item = LocalId>) {
        let mut is_kept = vec![false; self.all.len()];
        kept.into_iter().for_each(|id| is_kept[id.index()] = true);
        self.places.retain(|place| is_kept[place.id.index()]);
        let gone = self.all.iter_mut().zip(is_kept).filter(|(_, is_kept)| !is_kept);
        gone.for_each(|(local, _)| *local = None);
    }
}
