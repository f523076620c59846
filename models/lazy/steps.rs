//! The steps of a local system that change something or send something.

use super::cells::{ANY, CellId, CellSet, Cells, Chosen, Named, ValueId, Values};
use super::local::CoreId;
use crate::world::MessageId;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use indexmap::map::Entry;
use smallvec::SmallVec;
use std::sync::Arc;

/// What goes on as it is in the cells from one core to another.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Onward {
    /// The cells that go on whatever they hold.
    pub(super) all: CellSet,
    /// What goes on of others.
    pub(super) some: SmallVec<[(CellId, Values); 4]>,
}

impl Onward {
    /// What goes on of a cell.
    pub(super) fn of(&self, cell: CellId) -> Values {
        let some = self.some.iter().filter(|&&(of, _)| of == cell);
        some.fold(if self.all & 1 << cell != 0 { ANY } else { 0 }, |all, &(_, values)| all | values)
    }

    pub(super) fn add(&mut self, cell: CellId, values: Values) {
        if values == ANY {
            self.all |= 1 << cell;
        } else if let Some((_, known)) = self.some.iter_mut().find(|(of, _)| *of == cell) {
            *known |= values;
        } else {
            self.some.push((cell, values));
        }
    }

    fn join(&mut self, other: &Onward) {
        self.all |= other.all;
        for &(cell, values) in &other.some {
            self.add(cell, values);
        }
    }
}

/// What is then in cells.
pub(super) type Left = Arc<[(CellId, ValueId)]>;

/// Steps that change something or send something, and differ in nothing else than in what they were told is
/// not there.
#[derive(Eq, Hash, PartialEq)]
pub(super) struct Step {
    pub(super) from: CoreId,
    /// The number of the event; the number after the last stands for a time-out.
    pub(super) event: u32,
    /// If it ends in a crash, after how many of its effects.
    pub(super) crash: Option<u8>,
    /// What they have been told is there. Where only cells change they are not told apart by it.
    pub(super) contents: Named,
    pub(super) to: CoreId,
    /// What is then in the cells that change.
    pub(super) left: Left,
    pub(super) sends: Arc<[MessageId]>,
}

/// What is common to them.
pub(super) struct Common {
    /// What each has been told.
    pub(super) told: Named,
    /// What goes on in any of them.
    pub(super) onward: Onward,
}

/// All of them.
#[derive(Default)]
pub(super) struct Steps(IndexMap<Step, Common, FixedState>);

impl Steps {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Step, &Common)> {
        self.0.iter()
    }

    /// Remembers a step, as one with those that do the same.
    pub(super) fn add(
        &mut self,
        (from, event, crash): (CoreId, u32, Option<u8>),
        to: CoreId,
        (cells, told): (&mut Cells, &Chosen),
        left: Left,
        onward: &Onward,
        sends: Arc<[MessageId]>,
    ) {
        let is_receipt = from == to && sends.is_empty();
        let contents = told.iter().filter(|(_, answer)| !is_receipt && answer.is_content());
        let (contents, told) = (cells.name_answers(contents), cells.name_answers(told));
        let step = Step { from, event, crash, contents, to, left, sends };
        match self.0.entry(step) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                if !known.told.iter().all(|answer| told.contains(answer)) {
                    known.told = known.told.iter().copied().filter(|answer| told.contains(answer)).collect();
                }
                known.onward.join(onward);
            }
            Entry::Vacant(new) => {
                new.insert(Common { told, onward: onward.clone() });
            }
        }
    }
}
