//! The states visited, packed: the words of each, the state it was discovered from, and an index by hash.
//!
//! Split in shards by hash, so that threads add to different shards at a time. A state takes `4 * width + 4`
//! bytes, and 5 more for each place of the index, which is between 7/16 and 7/8 full; the vectors grow by a
//! quarter.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Shards: a power of two.
pub(super) const SHARDS: usize = 32;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// Names a visited state: its place in its shard, and the shard.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct StateId(u32);

impl StateId {
    /// The origin of the states that the search starts from.
    pub(super) const NONE: StateId = StateId(u32::MAX);

    fn new(shard: usize, place: usize) -> Self {
        let place = u32::try_from(place).ok().filter(|&place| place < u32::MAX >> SHARD_BITS);
        let place = place.expect("2^32 states do not fit in any memory limit this engine is run with");
        StateId(place << SHARD_BITS | u32::try_from(shard).expect("a shard's number is small"))
    }

    pub(super) fn from_word(word: u32) -> Self {
        StateId(word)
    }

    pub(super) fn word(self) -> u32 {
        self.0
    }

    fn shard(self) -> usize {
        self.0 as usize % SHARDS
    }

    fn place(self) -> usize {
        (self.0 >> SHARD_BITS) as usize
    }
}

fn hash(state: &[u32]) -> u64 {
    FixedState::with_seed(0).hash_one(state)
}

/// The shard that a state belongs to. The index uses the other bits of the hash.
pub(super) fn shard_of(state: &[u32]) -> usize {
    (hash(state) >> 40) as usize % SHARDS
}

/// One shard.
pub(super) struct Shard {
    number: usize,
    width: usize,
    words: Vec<u32>,
    origins: Vec<u32>,
    index: HashTable<u32>,
}

impl Shard {
    fn len(&self) -> usize {
        self.origins.len()
    }

    fn state(&self, place: usize) -> &[u32] {
        &self.words[place * self.width..(place + 1) * self.width]
    }

    /// Adds a state unless it is known.
    pub(super) fn add(&mut self, state: &[u32], origin: StateId) {
        let (words, width) = (&self.words, self.width);
        let at = |place: u32| &words[place as usize * width..(place as usize + 1) * width];
        let place = StateId::new(self.number, self.origins.len()).0 >> SHARD_BITS;
        let entry = self.index.entry(hash(state), |&known| at(known) == state, |&known| hash(at(known)));
        if let hashbrown::hash_table::Entry::Vacant(vacant) = entry {
            vacant.insert(place);
            grow(&mut self.words, self.width);
            grow(&mut self.origins, 1);
            self.words.extend_from_slice(state);
            self.origins.push(origin.0);
        }
    }

    fn bytes(&self) -> usize {
        // A place of the index is a word and one byte of control.
        4 * (self.words.capacity() + self.origins.capacity()) + 5 * self.index.capacity() * 8 / 7
    }
}

/// Makes room for `more`, by a quarter at a time: doubling would leave half of the memory unused.
fn grow(vector: &mut Vec<u32>, more: usize) {
    if vector.capacity() - vector.len() < more {
        vector.reserve_exact((vector.len() / 4).max(1024).max(more));
    }
}

/// All shards.
pub(super) struct Store {
    pub(super) shards: Vec<Shard>,
}

impl Store {
    pub(super) fn new(width: usize) -> Self {
        let shard =
            |number| Shard { number, width, words: Vec::new(), origins: Vec::new(), index: HashTable::new() };
        Store { shards: (0..SHARDS).map(shard).collect() }
    }

    /// From now on no state is known: those added later may equal those added before.
    pub(super) fn forget_index(&mut self) {
        self.shards.iter_mut().for_each(|shard| shard.index.clear());
    }

    /// How many states there are.
    pub(super) fn len(&self) -> u64 {
        self.shards.iter().map(|shard| shard.len() as u64).sum()
    }

    /// How many states each shard has.
    pub(super) fn lengths(&self) -> Vec<usize> {
        self.shards.iter().map(Shard::len).collect()
    }

    /// The states that were added since the shards had these lengths, and before they had those.
    pub(super) fn between(&self, from: &[usize], to: &[usize]) -> Vec<StateId> {
        let of_shard = |shard: usize| (from[shard]..to[shard]).map(move |place| StateId::new(shard, place));
        (0..SHARDS).flat_map(of_shard).collect()
    }

    pub(super) fn state(&self, id: StateId) -> &[u32] {
        self.shards[id.shard()].state(id.place())
    }

    /// The states on the way to this one, from the start.
    pub(super) fn path(&self, id: StateId) -> Vec<Vec<u32>> {
        let mut path = Vec::new();
        let mut at = id;
        while at != StateId::NONE {
            path.push(self.state(at).to_vec());
            at = StateId(self.shards[at.shard()].origins[at.place()]);
        }
        path.reverse();
        path
    }

    pub(super) fn bytes(&self) -> usize {
        self.shards.iter().map(Shard::bytes).sum()
    }
}
