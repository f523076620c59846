//! Which histories have been judged together, and with what verdict.
//!
//! There can be millions of such combinations (2,593,386 among 58,682,629 states of the bound in docs/ENGINE.md), and
//! the sound ones are kept by all names but the last. What has happened in any of those is kept once.

use super::judge::Joint;
use super::witnesses::Witnesses;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use indexmap::IndexMap;
use pbft_properties::Violation;
use serde::{Deserialize, Serialize};
use std::hash::BuildHasher;
use std::sync::{Mutex, MutexGuard};

/// Parts of the table, so that threads seldom wait for each other: a power of two.
const SHARDS: usize = 64;

/// Every combination of histories that has been judged.
pub(super) struct Judged {
    /// How many words of a joint have names in them; the others are nothing.
    width: usize,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    sound: Joints,
    /// What has happened in any of those.
    happened: Witnesses,
    unsound: IndexMap<Joint, Violation, FixedState>,
}

/// A set of joints: by all names but the last, the last ones.
///
/// States come in the order of their words, so what is asked one after the other differs in the last name, mostly, and
/// is close together here.
#[derive(Default)]
struct Joints {
    /// The names but the last, one list after the other.
    words: Vec<u32>,
    /// Where each of these lists is.
    places: HashTable<u32>,
    /// For each of them the last names, in ascending blocks of 64.
    last: Vec<Vec<(u32, u64)>>,
}

/// What has been judged, for another process.
#[derive(Deserialize, Serialize)]
pub(super) struct Noted {
    pub(super) sound: Vec<Joint>,
    /// What has happened in any of those.
    pub(super) happened: Witnesses,
    pub(super) unsound: Vec<Joint>,
}

fn hash(words: &[u32]) -> u64 {
    FixedState::with_seed(0).hash_one(words)
}

/// All names but the last, and that one.
fn split(joint: &[u32]) -> (&[u32], u32) {
    joint.split_last().map(|(last, before)| (before, *last)).unwrap_or_default()
}

impl Joints {
    fn at(words: &[u32], width: usize, place: u32) -> &[u32] {
        &words[place as usize * width..][..width]
    }

    fn find(&self, hash: u64, before: &[u32]) -> Option<usize> {
        let is_it = |&place: &u32| Self::at(&self.words, before.len(), place) == before;
        self.places.find(hash, is_it).map(|&place| place as usize)
    }

    fn contains(&self, hash: u64, joint: &[u32]) -> bool {
        let (before, last) = split(joint);
        let Some(place) = self.find(hash, before) else { return false };
        let blocks = &self.last[place];
        let block = blocks.binary_search_by_key(&(last / 64), |&(block, _)| block);
        block.is_ok_and(|block| blocks[block].1 & 1 << (last % 64) != 0)
    }

    fn insert(&mut self, hash: u64, joint: &[u32]) {
        let (before, last) = split(joint);
        let place = self.find(hash, before).unwrap_or_else(|| self.add(hash, before));
        let blocks = &mut self.last[place];
        let block = match blocks.binary_search_by_key(&(last / 64), |&(block, _)| block) {
            Ok(block) => block,
            Err(block) => {
                blocks.insert(block, (last / 64, 0));
                block
            }
        };
        blocks[block].1 |= 1 << (last % 64);
    }

    fn add(&mut self, hash: u64, before: &[u32]) -> usize {
        let place = self.last.len();
        self.words.extend(before);
        self.last.push(Vec::new());
        let words = &self.words;
        let hash_of = |&place: &u32| self::hash(Self::at(words, before.len(), place));
        let name = u32::try_from(place).expect("a table of more than 2^32 entries does not fit in memory");
        self.places.insert_unique(hash, name, hash_of);
        place
    }

    /// Each of them, all with so many names.
    fn each(&self, width: usize, mut each: impl FnMut(&[u32])) {
        let mut joint = vec![0; width];
        for (place, blocks) in self.last.iter().enumerate() {
            let before = width.saturating_sub(1);
            joint[..before].copy_from_slice(&self.words[place * before..][..before]);
            for &(block, bits) in blocks {
                for bit in (0..64).filter(|bit| bits & 1 << bit != 0) {
                    joint[before] = block * 64 + bit;
                    each(&joint);
                }
            }
        }
    }
}

impl Judged {
    /// None yet; in each so many histories are judged together.
    pub(super) fn new(width: usize) -> Self {
        Judged { width, shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
        shard.lock().expect("nobody panics while judging")
    }

    /// Where a joint is kept, if it is; the hash of all names but the last; and its names.
    fn place<'a>(&self, joint: &'a Joint) -> (MutexGuard<'_, Shard>, u64, &'a [u32]) {
        let names = &joint[..self.width];
        let hash = hash(split(names).0);
        // Tables tell their entries apart by the lowest and by the highest bits.
        (Self::locked(&self.shards[(hash >> 40) as usize % SHARDS]), hash, names)
    }

    /// The verdict on these histories, if they have been judged.
    pub(super) fn verdict(&self, joint: &Joint) -> Option<Result<(), Violation>> {
        let (shard, hash, names) = self.place(joint);
        match shard.sound.contains(hash, names) {
            true => Some(Ok(())),
            false => shard.unsound.get(joint).map(|violation| Err(violation.clone())),
        }
    }

    /// Whether these histories have been judged, and are sound.
    pub(super) fn is_sound(&self, joint: &Joint) -> bool {
        let (shard, hash, names) = self.place(joint);
        shard.sound.contains(hash, names)
    }

    /// Keeps the verdict on these histories.
    pub(super) fn note(&self, joint: &Joint, verdict: &Result<Witnesses, Violation>) {
        let (mut shard, hash, names) = self.place(joint);
        match verdict {
            Ok(happened) => {
                shard.happened.add(*happened);
                shard.sound.insert(hash, names);
            }
            Err(violation) => drop(shard.unsound.insert(*joint, violation.clone())),
        }
    }

    /// Also takes these for sound, in which all this has happened.
    pub(super) fn add_sound(&self, joints: &[Joint], happened: Witnesses) {
        for joint in joints {
            let (mut shard, hash, names) = self.place(joint);
            shard.sound.insert(hash, names);
        }
        Self::locked(&self.shards[0]).happened.add(happened);
    }

    /// What has happened in any that are sound.
    pub(super) fn happened(&self) -> Witnesses {
        let mut all = Witnesses::default();
        self.shards.iter().for_each(|shard| all.add(Self::locked(shard).happened));
        all
    }

    /// Those that violate something.
    pub(super) fn unsound(&self) -> Vec<Joint> {
        let of = |shard| Self::locked(shard).unsound.keys().copied().collect::<Vec<_>>();
        self.shards.iter().flat_map(of).collect()
    }

    fn sound(&self) -> impl Iterator<Item = Joint> + '_ {
        self.shards.iter().flat_map(|shard| {
            let mut all = Vec::new();
            Self::locked(shard).sound.each(self.width, |names| {
                let mut joint = Joint::default();
                joint[..self.width].copy_from_slice(names);
                all.push(joint);
            });
            all
        })
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = Joint> + '_ {
        self.sound().chain(self.unsound())
    }

    pub(super) fn noted(&self) -> Noted {
        Noted { sound: self.sound().collect(), happened: self.happened(), unsound: self.unsound() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_was_judged_is_found_again_with_its_verdict_and_nothing_else_is() {
        let judged = Judged::new(3);
        let joint = |number: u32| -> Joint { [number, number % 7, number / 3, 0, 0, 0, 0] };
        let violation = Violation { property: "agreement", what: "no".into() };
        let is_sound = |number: u32| !number.is_multiple_of(1_000);
        for number in 0..20_000 {
            let happened =
                Witnesses { stable: number == 77, transfers: number == 1_000, ..Witnesses::default() };
            let verdict = if is_sound(number) { Ok(happened) } else { Err(violation.clone()) };
            // Two threads may have judged the same.
            judged.note(&joint(number), &verdict);
            judged.note(&joint(number), &verdict);
        }
        let other = Judged::new(3);
        let noted = judged.noted();
        other.add_sound(&noted.sound, noted.happened);
        for number in 0..20_000 {
            let expected = if is_sound(number) { Ok(()) } else { Err(violation.clone()) };
            assert_eq!(judged.verdict(&joint(number)), Some(expected), "{number}");
            assert_eq!(judged.is_sound(&joint(number)), is_sound(number), "{number}");
            assert_eq!(other.verdict(&joint(number)), is_sound(number).then_some(Ok(())), "{number}");
        }
        assert_eq!((judged.verdict(&joint(20_000)), judged.is_sound(&joint(20_000))), (None, false));
        assert_eq!(judged.all().collect::<BTreeSet<_>>(), (0..20_000).map(joint).collect());
        assert_eq!((judged.all().count(), judged.unsound().len()), (20_000, 20));
        assert_eq!(other.all().count(), 20_000 - 20);
        let expected = Witnesses { stable: true, ..Witnesses::default() };
        assert_eq!((judged.happened(), other.happened()), (expected, expected));
    }
}
