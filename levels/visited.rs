//! The states of all levels, and which of some candidates are new.

use super::disk::Disk;
use super::key::{Key, Layout};
use super::run::{CHUNK, Chunk, Cursor, Run, Stored, gallop};
use rayon::prelude::*;

/// A level: its runs have no key in common.
pub(crate) type Level = Vec<Run>;

/// The levels so far, and what has been found of the next.
#[derive(Default)]
pub(crate) struct Visited {
    pub(crate) levels: Vec<Level>,
    pub(crate) next: Level,
    /// The first level that candidates are held against.
    compared_from: usize,
    /// Where runs are kept, if not in memory.
    pub(crate) disk: Option<Disk>,
}

/// A candidate list that is so many times as long as a run is looked into from the run.
const LONGER: u64 = 8;

impl Visited {
    /// States of all levels, with those found of the next.
    pub(crate) fn len(&self) -> u64 {
        self.runs().map(Run::len).sum()
    }

    /// States found of the next level.
    pub(crate) fn len_of_next(&self) -> u64 {
        self.next.iter().map(Run::len).sum()
    }

    /// Bytes allocated for them.
    pub(crate) fn bytes(&self) -> usize {
        self.runs().map(Run::bytes).sum()
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.levels.iter().flatten().chain(&self.next)
    }

    /// The level after the last is complete.
    pub(crate) fn close_level(&mut self) {
        self.levels.push(std::mem::take(&mut self.next));
    }

    /// From now on nothing is compared with the levels so far.
    pub(crate) fn forget(&mut self) {
        self.compared_from = self.levels.len();
    }

    /// Adds those of the candidates to the next level that no level has.
    pub(crate) fn add<const W: usize>(&mut self, mut candidates: Vec<Key<W>>, layout: &Layout) {
        candidates.par_sort_unstable();
        candidates.dedup();
        let all = candidates.len() as u64;
        // The number of pieces must not depend on how many threads there are.
        let piece = (candidates.len() / 8).clamp(1 << 12, CHUNK);
        let compared = &self.levels[self.compared_from..];
        // Most of what has been met before was met lately.
        let runs: Vec<&Run> = compared.iter().flatten().chain(&self.next).rev().collect();
        let new = |piece: &[Key<W>]| {
            let mut left = piece.to_vec();
            runs.iter().for_each(|run| drop_known(&mut left, run, layout, all));
            (!left.is_empty()).then(|| Stored::new(Chunk::new(&left, layout.limbs())))
        };
        let chunks: Vec<_> = candidates.par_chunks(piece).filter_map(new).collect();
        if !chunks.is_empty() {
            let mut run = Run { layout: layout.clone(), chunks };
            if let Some(disk) = &mut self.disk {
                disk.write(self.levels.len(), &mut run);
            }
            self.next.push(run);
        }
    }
}

/// Leaves what is not in the run. `all` is how many candidates there are in all pieces.
fn drop_known<const W: usize>(candidates: &mut Vec<Key<W>>, run: &Run, layout: &Layout, all: u64) {
    let (Some(&first), Some(&last)) = (candidates.first(), candidates.last()) else { return };
    let mut cursor = Cursor::<W>::new(run, layout, first);
    if all < LONGER * run.len() {
        candidates.retain(|&candidate| cursor.seek(candidate) != Some(candidate));
        return;
    }
    let (mut at, mut known) = (0, Vec::new());
    let mut next = cursor.key();
    while let Some(key) = next.filter(|&key| key <= last) {
        at = gallop(at, candidates.len(), |at| candidates[at] < key);
        if candidates.get(at) == Some(&key) {
            known.push(at);
        }
        cursor.advance();
        next = cursor.key();
    }
    let (mut number, mut known) = (0, known.into_iter().peekable());
    candidates.retain(|_| {
        let is_known = known.next_if_eq(&number).is_some();
        number += 1;
        !is_known
    });
}
