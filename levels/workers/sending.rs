//! Successors: those that a worker owns, and those on the way to the workers that own them.

use crate::candidates::{Candidates, with};
use crate::key::{Key, Layout};
use foldhash::quality::FixedState;
use std::hash::BuildHasher;

/// Keys in a letter.
const KEYS: usize = 1 << 16;

/// The worker that owns a state: by its words, whatever their bits.
pub(crate) fn owner(state: &[u32], workers: usize) -> usize {
    let hash = FixedState::with_seed(0).hash_one(state);
    usize::try_from(hash % workers as u64).expect("there are few workers")
}

/// What the level being expanded leads to and has not been held against what was visited, by owners. The
/// layout is this worker's: others may have another, and say so.
pub(crate) struct Successors {
    pub(crate) layout: Layout,
    /// Those of this worker.
    pub(crate) own: Candidates,
    /// Those of others, and of this one as long as the batch is not sorted.
    outgoing: Vec<Candidates>,
}

impl Successors {
    pub(crate) fn new(layout: Layout, workers: usize) -> Self {
        let empty = || Candidates::new(layout.limbs());
        Successors { own: empty(), outgoing: (0..workers).map(|_| empty()).collect(), layout }
    }

    /// Adds a state.
    pub(crate) fn push(&mut self, state: &[u32]) {
        let owner = owner(state, self.outgoing.len());
        if !self.push_to(owner, state) {
            let mut wider = self.layout.clone();
            wider.widen(state);
            self.widen(wider);
            self.push_to(owner, state);
        }
    }

    /// Whether there was room for each of its words; else nothing has happened.
    fn push_to(&mut self, owner: usize, state: &[u32]) -> bool {
        let layout = &self.layout;
        with!(&mut self.outgoing[owner], list => match layout.pack(state) {
            Some(key) => {
                list.push(key);
                true
            }
            None => false,
        })
    }

    fn widen(&mut self, wider: Layout) {
        for list in self.outgoing.iter_mut().chain([&mut self.own]) {
            *list = std::mem::take(list).widened(&self.layout, &wider);
        }
        self.layout = wider;
    }

    /// Takes what this worker has found and owns.
    pub(crate) fn keep(&mut self, worker: usize) {
        let found = self.take(worker);
        append(&mut self.own, found);
    }

    /// Calls `each` with the limbs of as many keys as go into a letter, of those that another owns.
    pub(crate) fn cut(&mut self, owner: usize, mut each: impl FnMut(Vec<u64>)) {
        with!(self.take(owner), list => {
            for keys in list.chunks(KEYS) {
                each(keys.iter().flat_map(|key| key.0).collect());
            }
        });
    }

    /// Takes what another has found, with the layout of that one.
    pub(crate) fn receive(&mut self, bits: &[u8], limbs: &[u64]) {
        let from = Layout { bits: bits.to_vec() };
        let joined = self.layout.clone().joined(from.clone());
        if joined != self.layout {
            self.widen(joined);
        }
        let mut arrived = Candidates::new(from.limbs());
        with!(&mut arrived, list => list.extend(limbs.chunks_exact(from.limbs()).map(Key::of_limbs)));
        if from != self.layout {
            arrived = arrived.widened(&from, &self.layout);
        }
        append(&mut self.own, arrived);
    }

    /// Those of one owner, sorted, each once.
    fn take(&mut self, owner: usize) -> Candidates {
        let empty = Candidates::new(self.layout.limbs());
        let mut taken = std::mem::replace(&mut self.outgoing[owner], empty);
        with!(&mut taken, list => {
            list.sort_unstable();
            list.dedup();
        });
        taken
    }
}

/// Adds candidates to those of the same layout.
fn append(to: &mut Candidates, more: Candidates) {
    match (to, more) {
        (Candidates::One(to), Candidates::One(mut more)) => to.append(&mut more),
        (Candidates::Two(to), Candidates::Two(mut more)) => to.append(&mut more),
        (Candidates::Three(to), Candidates::Three(mut more)) => to.append(&mut more),
        (Candidates::Four(to), Candidates::Four(mut more)) => to.append(&mut more),
        _ => unreachable!("candidates of one layout have as many limbs"),
    }
}
