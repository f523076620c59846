//! The states of all levels, and which of some candidates are new.

use super::disk::{Disk, DiskTrouble};
use super::key::{Key, Layout, MOST_LIMBS};
use super::run::{CHUNK, Chunk, Cursor, Run, Stored, gallop};
use rayon::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A level: one run, or several that have no key in common while it is being found.
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

/// Pieces of a short list of candidates.
const PIECES: usize = 8;
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

    /// What there is trouble with, if there is any.
    pub(crate) fn trouble(&self) -> Option<DiskTrouble> {
        self.disk.as_ref().and_then(Disk::trouble)
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.levels.iter().flatten().chain(&self.next)
    }

    /// The level after the last is complete: one run, in chunks that are full, whenever its candidates were
    /// held against what had been visited. So what is done with it does not depend on that.
    pub(crate) fn close_level(&mut self, layout: &Layout) {
        let mut level = std::mem::take(&mut self.next);
        if level.len() > 1 {
            level = vec![match layout.limbs() {
                1 => self.merged::<1>(level, layout),
                2 => self.merged::<2>(level, layout),
                _ => self.merged::<MOST_LIMBS>(level, layout),
            }];
        }
        self.levels.push(level);
    }

    /// The runs as one. Their chunks are gone one after the other, so both are never there whole.
    fn merged<const W: usize>(&mut self, runs: Level, layout: &Layout) -> Run {
        let mut taps: Vec<Tap<W>> = runs.into_iter().map(|run| Tap::new(run, layout)).collect();
        let mut least: BinaryHeap<_> = taps
            .iter_mut()
            .enumerate()
            .filter_map(|(number, tap)| Some(Reverse((tap.next()?, number))))
            .collect();
        let mut merged = Run { layout: layout.clone(), chunks: Vec::new() };
        let mut writer = self.disk.as_mut().and_then(|disk| disk.begin(self.levels.len()));
        let mut keys: Vec<Key<W>> = Vec::with_capacity(CHUNK);
        loop {
            let first = least.pop();
            if (first.is_none() || keys.len() == CHUNK) && !keys.is_empty() {
                let mut chunk = Stored::new(Chunk::new(&keys, layout.limbs()));
                if let Some(writer) = &mut writer {
                    writer.push(&mut chunk);
                }
                merged.chunks.push(chunk);
                keys.clear();
            }
            let Some(Reverse((key, number))) = first else { break };
            keys.push(key);
            least.extend(taps[number].next().map(|next| Reverse((next, number))));
        }
        if let Some(writer) = writer {
            writer.finish();
        }
        merged
    }

    /// From now on nothing is compared with the levels so far.
    pub(crate) fn forget(&mut self) {
        self.compared_from = self.levels.len();
    }

    /// Adds those of the candidates to the next level that no level has, and leaves none.
    pub(crate) fn add<const W: usize>(&mut self, candidates: &mut Vec<Key<W>>, layout: &Layout) {
        candidates.par_sort_unstable();
        candidates.dedup();
        let all = candidates.len() as u64;
        let piece = (candidates.len() / PIECES).clamp(1 << 12, CHUNK);
        let compared = &self.levels[self.compared_from..];
        // Most of what has been met before was met lately.
        let runs: Vec<&Run> = compared.iter().flatten().chain(&self.next).rev().collect();
        let new = |piece: &mut [Key<W>]| {
            runs.iter().fold(piece.len(), |left, run| drop_known(&mut piece[..left], run, layout, all))
        };
        let left: Vec<usize> = candidates.par_chunks_mut(piece).map(new).collect();
        let mut end = 0;
        for (number, left) in left.into_iter().enumerate() {
            candidates.copy_within(number * piece..number * piece + left, end);
            end += left;
        }
        candidates.truncate(end);
        if candidates.is_empty() {
            return;
        }
        let chunk = |keys: &[Key<W>]| Stored::new(Chunk::new(keys, layout.limbs()));
        let chunks = candidates.par_chunks(CHUNK).map(chunk).collect();
        let mut run = Run { layout: layout.clone(), chunks };
        if let Some(disk) = &mut self.disk {
            disk.write(self.levels.len(), &mut run);
        }
        self.next.push(run);
        candidates.clear();
    }
}

/// Keeps what is not in the run, at the beginning, and returns how much that is. `all` is how many candidates
/// there are in all pieces.
fn drop_known<const W: usize>(candidates: &mut [Key<W>], run: &Run, layout: &Layout, all: u64) -> usize {
    let (Some(&first), Some(&last)) = (candidates.first(), candidates.last()) else { return 0 };
    let mut cursor = Cursor::<W>::new(run, layout, first);
    if all < LONGER * run.len() {
        return keep(candidates, |_, candidate| cursor.seek(candidate) != Some(candidate));
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
    let mut known = known.into_iter().peekable();
    keep(candidates, |number, _| known.next_if_eq(&number).is_none())
}

/// Moves what is kept to the beginning, in order, and returns how much that is.
fn keep<T: Copy>(all: &mut [T], mut is_kept: impl FnMut(usize, T) -> bool) -> usize {
    let mut kept = 0;
    for number in 0..all.len() {
        if is_kept(number, all[number]) {
            all[kept] = all[number];
            kept += 1;
        }
    }
    kept
}

/// Gives the keys of a run in order, and gives up its chunks as it goes.
struct Tap<'a, const W: usize> {
    from: Layout,
    to: &'a Layout,
    chunks: std::vec::IntoIter<Stored>,
    keys: std::vec::IntoIter<Key<W>>,
}

impl<'a, const W: usize> Tap<'a, W> {
    fn new(run: Run, to: &'a Layout) -> Self {
        Tap { from: run.layout, to, chunks: run.chunks.into_iter(), keys: Vec::new().into_iter() }
    }

    /// The next key, in terms of the layout asked for.
    fn next(&mut self) -> Option<Key<W>> {
        loop {
            if let Some(key) = self.keys.next() {
                return Some(key);
            }
            let stored = self.chunks.next()?;
            // What cannot be read is noted where it is read.
            let Some(chunk) = stored.open() else { continue };
            let mut keys = Vec::with_capacity(stored.len);
            let is_same = self.from == *self.to;
            let mut words = vec![0; self.to.bits.len()];
            chunk.each::<W>(0..stored.blocks(), |key| {
                keys.push(match is_same {
                    true => key,
                    false => {
                        self.from.unpack(key, &mut words);
                        self.to.pack(&words).expect("it is no narrower")
                    }
                });
            });
            self.keys = keys.into_iter();
        }
    }
}
