//! Levels in pieces, each for one thread to expand.

use super::key::MOST_LIMBS;
use super::run::{BLOCK, Run};
use std::ops::Range;

/// Blocks that one thread expands at a time.
const BLOCKS_AT_A_TIME: usize = 4;
/// States that one thread expands at a time, of those for which something had to be learnt.
pub(crate) const STATES_AT_A_TIME: usize = BLOCKS_AT_A_TIME * BLOCK;

/// States to expand.
pub(crate) enum Piece<'a> {
    /// Blocks of a chunk.
    Blocks(&'a Run, usize, Range<usize>),
    /// States themselves, the words of one after those of the other.
    States(Vec<u32>),
}

impl Piece<'_> {
    /// All of a run.
    pub(crate) fn of_run(run: &Run) -> impl Iterator<Item = Piece<'_>> {
        let chunks = run.chunks.iter().enumerate();
        chunks.flat_map(move |(number, chunk)| {
            let starts = (0..chunk.blocks()).step_by(BLOCKS_AT_A_TIME);
            let end = move |start: usize| (start + BLOCKS_AT_A_TIME).min(chunk.blocks());
            starts.map(move |start| Piece::Blocks(run, number, start..end(start)))
        })
    }

    /// Calls `each` with every state.
    pub(crate) fn each(&self, width: usize, mut each: impl FnMut(&[u32])) {
        match self {
            Piece::States(words) => words.chunks_exact(width).for_each(each),
            Piece::Blocks(run, chunk, blocks) => {
                let mut state = vec![0; width];
                let mut told = |state: &mut Vec<u32>| each(state);
                let layout = &run.layout;
                let Some(chunk) = run.chunks[*chunk].open() else { return };
                match layout.limbs() {
                    1 => chunk.each::<1>(blocks.clone(), |key| {
                        layout.unpack(key, &mut state);
                        told(&mut state);
                    }),
                    2 => chunk.each::<2>(blocks.clone(), |key| {
                        layout.unpack(key, &mut state);
                        told(&mut state);
                    }),
                    _ => chunk.each::<MOST_LIMBS>(blocks.clone(), |key| {
                        layout.unpack(key, &mut state);
                        told(&mut state);
                    }),
                }
            }
        }
    }
}
