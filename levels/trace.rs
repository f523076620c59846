//! The way to a state, found by expanding the levels before it once more.

use super::Space;
use super::piece::Piece;
use super::search::Search;
use rayon::prelude::*;
use std::sync::PoisonError;

impl<S: Space> Search<'_, S> {
    /// A shortest way to a state of level `depth`: of all states that lead to one, the first in the order of
    /// states. None if a level cannot be read.
    pub(crate) fn path(&self, state: Vec<u32>, depth: usize) -> Option<Vec<Vec<u32>>> {
        let mut path = vec![state];
        for level in (0..depth).rev() {
            let to = path.last().expect("it ends somewhere");
            path.push(self.before(level, to)?);
        }
        path.reverse();
        Some(path)
    }

    /// The first state of a level that leads to this one.
    fn before(&self, level: usize, to: &[u32]) -> Option<Vec<u32>> {
        let pieces: Vec<Piece<'_>> = self.visited.levels[level].iter().flat_map(Piece::of_run).collect();
        let leads = |piece: &Piece<'_>| {
            let scratch = &self.scratches[rayon::current_thread_index().unwrap_or_default()];
            let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
            let mut first: Option<Vec<u32>> = None;
            piece.each(self.space.width(), |state| {
                let mut leads = false;
                let expanded = self.space.expand(level, state, &mut scratch, &mut |next| leads |= next == to);
                // Whatever there was to learn about a level left behind has been learnt.
                if expanded.is_ok() && leads && first.is_none() {
                    first = Some(state.to_vec());
                }
            });
            first
        };
        self.pool.install(|| pieces.par_iter().filter_map(leads).min())
    }
}
