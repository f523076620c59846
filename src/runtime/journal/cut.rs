//! When a segment ends, and which may be removed.

use super::{Entry, Limits, Start};
use std::collections::VecDeque;

/// What the entries of the last segment say of the whole journal.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// How often the replica has started.
    pub(super) lives: u64,
    /// The steps of the last life.
    pub(super) steps: u64,
    pub(super) faulty_from: Option<u64>,
    /// The bytes of states in this segment.
    state_bytes: u64,
    /// The pieces missing of the state that a life starts from.
    starting: Option<u64>,
    begun: Begun,
}

/// Whether a replay can begin with this segment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Begun {
    /// It can: it is the first, or it has a whole state that nothing takes back.
    #[default]
    Whole,
    /// So many pieces of its state are missing, and the steps up to this number are not carried out: a crash
    /// would take them back.
    InTheMiddle { pieces: u64, until: u64 },
    /// A start follows.
    BeforeStart,
    /// So many pieces of the state that it starts from are missing.
    Starting { pieces: u64 },
}

impl Standing {
    /// Takes note of an entry of so many bytes.
    pub(super) fn note(&mut self, entry: &Entry, bytes: u64) {
        match entry {
            Entry::Started { start, .. } => {
                let forgets = match start {
                    Start::Replacement => true,
                    Start::Memory => self.lives > 0,
                    Start::Fresh | Start::Stored { .. } => false,
                };
                if forgets {
                    self.faulty_from.get_or_insert(self.lives + 1);
                }
                self.steps = 0;
                self.state_bytes += bytes;
                let pieces = if let Start::Stored { pieces, .. } = start { *pieces } else { 0 };
                // A start counts when all of its state is written.
                self.starting = Some(pieces);
                if self.begun != Begun::Whole {
                    self.begun = Begun::Starting { pieces };
                }
            }
            Entry::Piece { .. } => {
                self.state_bytes += bytes;
                if let Begun::InTheMiddle { pieces, .. } | Begun::Starting { pieces } = &mut self.begun {
                    *pieces = pieces.saturating_sub(1);
                }
                if let Some(pieces) = &mut self.starting {
                    *pieces = pieces.saturating_sub(1);
                }
            }
            Entry::Step { .. } => self.steps += 1,
            Entry::CarriedOut(steps) => {
                if let Begun::InTheMiddle { until, .. } = &mut self.begun
                    && steps >= until
                {
                    *until = 0;
                }
            }
            Entry::GoesOn(head) => {
                (self.lives, self.steps, self.faulty_from) = (head.lives, head.steps, head.faulty_from);
                self.state_bytes = bytes;
                self.starting = None;
                self.begun = head.state.as_ref().map_or(Begun::BeforeStart, |state| Begun::InTheMiddle {
                    pieces: state.pieces,
                    until: head.steps,
                });
            }
        }
        if self.starting == Some(0) {
            self.starting = None;
            self.lives += 1;
        }
        if matches!(self.begun, Begun::InTheMiddle { pieces: 0, until: 0 } | Begun::Starting { pieces: 0 }) {
            self.begun = Begun::Whole;
        }
    }

    /// Whether a replay can begin with this segment: then those before it may be removed.
    pub(super) fn is_whole(&self) -> bool {
        self.begun == Begun::Whole
    }

    /// Whether a segment of so many bytes may end. So at most about half of what is written are states.
    pub(super) fn is_long(&self, length: u64, limits: &Limits) -> bool {
        self.is_whole()
            && length.saturating_sub(self.state_bytes) >= limits.segment_bytes.max(self.state_bytes)
    }
}

/// How many of the older segments, whose lengths these are, are to be removed beside a last one of so many
/// bytes. There is to be room for a whole one.
pub(super) fn surplus(older: &VecDeque<(u64, u64)>, last: u64, limits: &Limits) -> usize {
    let mut sum = last.max(limits.segment_bytes) + older.iter().map(|(_, bytes)| bytes).sum::<u64>();
    let removed = older.iter().take_while(|(_, bytes)| {
        let remove = sum > limits.keep_bytes;
        sum = sum.saturating_sub(*bytes);
        remove
    });
    removed.count()
}
