//! Batches of a level that is spread over the workers: the same as those of one process.
//!
//! One process expands a level in batches of so many states, ascending, and learns in between. The same
//! batches among workers make the same names, and a search that finds a violation stops at the same state.
//! So where a level has more states than one batch, the workers agree on the last state of each batch. Each
//! knows its own next states. All tell a sample of theirs, every so many; from the samples follows between
//! which two of them the last state lies, and of what lies between these all is told.

use super::alarm::Alarmed;
use super::post::Post;
use crate::piece::{Piece, STATES_AT_A_TIME};
use crate::run::Run;
use crate::search::PIECES_IN_A_BATCH;

/// States in a batch.
pub(crate) const BATCH: usize = PIECES_IN_A_BATCH * STATES_AT_A_TIME;

/// One state of so many is in a sample.
const SAMPLED: usize = if cfg!(test) { 16 } else { 256 };

/// The states of a worker's part of a level, ascending, those next that are known.
pub(crate) struct Upcoming<'a> {
    pieces: Box<dyn Iterator<Item = Piece<'a>> + 'a>,
    width: usize,
    words: Vec<u32>,
}

impl<'a> Upcoming<'a> {
    pub(crate) fn new(level: &'a [Run], width: usize) -> Self {
        Upcoming { pieces: Box::new(level.iter().flat_map(Piece::of_run)), width, words: Vec::new() }
    }

    /// The next states of a batch of `batch` in all, of `left` that are left of the level in all workers.
    ///
    /// # Errors
    /// If somebody is gone.
    pub(crate) fn take(&mut self, post: &mut Post<'_>, left: u64, batch: usize) -> Result<Vec<u32>, Alarmed> {
        while self.words.len() < batch * self.width
            && let Some(piece) = self.pieces.next()
        {
            piece.each(self.width, |state| self.words.extend_from_slice(state));
        }
        if left <= batch as u64 {
            return Ok(std::mem::take(&mut self.words));
        }
        let last = self.last(post, batch)?;
        let end = self.up_to(&last) * self.width;
        let rest = self.words.split_off(end);
        Ok(std::mem::replace(&mut self.words, rest))
    }

    fn states(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.words.chunks_exact(self.width)
    }

    /// How many of the next states are at most this one.
    fn up_to(&self, state: &[u32]) -> usize {
        let (mut low, mut high) = (0, self.words.len() / self.width);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.words[middle * self.width..][..self.width] <= *state {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }

    /// The last state of the batch.
    fn last(&self, post: &mut Post<'_>, batch: usize) -> Result<Vec<u32>, Alarmed> {
        let sample: Vec<u32> = self.states().skip(SAMPLED - 1).step_by(SAMPLED).flatten().copied().collect();
        post.tell(&[], &sample);
        let told = post.told()?;
        let mut samples: Vec<&[u32]> =
            told.iter().flat_map(|(_, states)| states.chunks_exact(self.width)).collect();
        samples.sort_unstable();
        // Up to the i-th sample there are at least i times as many states as one stands for, and at most
        // almost one sample more of each worker.
        let certain = (batch - 1).saturating_sub(post.workers() * (SAMPLED - 1)) / SAMPLED;
        let low = certain.checked_sub(1).and_then(|number| samples.get(number));
        let high = samples.get(batch.div_ceil(SAMPLED) - 1);
        let before = low.map_or(0, |low| self.up_to(low));
        let end = high.map_or(self.states().len(), |high| self.up_to(high));
        post.tell(&[before as u64], &self.words[before * self.width..end * self.width]);
        let told = post.told()?;
        let before: u64 = told.iter().map(|(numbers, _)| numbers[0]).sum();
        let mut between: Vec<&[u32]> =
            told.iter().flat_map(|(_, states)| states.chunks_exact(self.width)).collect();
        between.sort_unstable();
        let place = (batch as u64 - before).checked_sub(1).and_then(|place| usize::try_from(place).ok());
        // There are too few only if a list cannot be read, which is noted: then it does not matter.
        let last = place.and_then(|place| between.get(place)).or(between.last());
        Ok(last.map_or_else(|| vec![u32::MAX; self.width], |state| state.to_vec()))
    }
}
