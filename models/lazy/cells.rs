//! The cells of a local system, what can be in them, and what a step has been told of them.

use crate::crypto::Symbolic;
use crate::world::{Local, Modelled};
use foldhash::fast::FixedState;
use indexmap::IndexSet;
use pbft::message::Message;
use pbft::replica::Receipt;
use pbft::replica::noted::{Cell, Part, Seen};
use pbft::types::{Digest, ReplicaId};
use smallvec::SmallVec;

/// Names a cell of the replica walked.
pub(super) type CellId = usize;

/// Names what a cell can hold, among all that this cell can hold.
pub(super) type ValueId = u8;

/// A set of what a cell can hold, one bit each.
pub(super) type Values = u64;

/// All, those included that turn up later.
pub(super) const ANY: Values = Values::MAX;

/// A set of cells, one bit each.
pub(super) type CellSet = u128;

/// The most cells that a local system can have.
pub(super) const MOST_CELLS: usize = CellSet::BITS as usize;

/// The most different things that a cell can hold.
pub(super) const MOST_VALUES: usize = Values::BITS as usize;

/// What a step has been told of a cell, or of one that was dropped without a look.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Answer {
    /// It is empty.
    Empty,
    /// It is not.
    Full,
    /// It holds a vote for this digest.
    Names(Digest),
    /// It holds none.
    NamesNot(Digest),
    /// It holds this.
    Holds(ValueId),
}

impl Answer {
    /// Whether it says that something has been received, and what.
    pub(super) fn is_content(self) -> bool {
        matches!(self, Answer::Names(_) | Answer::Holds(_))
    }
}

/// What a step has been told, in the order of its looks.
pub(super) type Chosen = SmallVec<[(CellId, Answer); 12]>;

/// What has been tried of an event at a core, by what the step is told of cells.
pub(super) enum Tried {
    /// Nothing yet.
    Not,
    /// The step looks at nothing else.
    Taken,
    /// It looks at a cell: what it does by each answer.
    Look(CellId, Seen, Vec<Tried>),
}

/// The cells, and everything that can be in each.
pub(super) struct Cells {
    cells: IndexSet<Cell, FixedState>,
    values: Vec<IndexSet<Receipt<Modelled>, FixedState>>,
    empty: Vec<Values>,
}

impl Cells {
    /// The cells of others' messages to a replica, and those of parts that have one.
    pub(super) fn of<'a>(
        replica: ReplicaId,
        messages: impl Iterator<Item = &'a Message<Symbolic>>,
        start: &Local,
    ) -> Self {
        let mut cells = Cells { cells: IndexSet::default(), values: Vec::new(), empty: Vec::new() };
        for part in [Part::Pool, Part::Queue, Part::Transfer] {
            cells.add(Cell::only(part), start);
        }
        for (cell, value) in messages.filter_map(Receipt::of).filter(|(cell, _)| cell.replica != replica) {
            let id = cells.add(cell, start);
            cells.intern(id, value);
        }
        cells
    }

    /// Adds a cell, and what it holds at the start.
    pub(super) fn add(&mut self, cell: Cell, start: &Local) -> CellId {
        let (id, is_new) = self.cells.insert_full(cell);
        if is_new {
            self.values.push(IndexSet::default());
            self.empty.push(0);
            self.intern(id, start.replica.receipt(&cell));
        }
        id
    }

    fn intern(&mut self, id: CellId, value: Receipt<Modelled>) -> usize {
        let is_empty = value.is_empty();
        let (index, is_new) = self.values[id].insert_full(value);
        if is_new && is_empty && index < MOST_VALUES {
            self.empty[id] |= 1 << index;
        }
        index
    }

    /// Names what a state holds in a cell; nothing if it can hold more than there are names for.
    pub(super) fn held_by(&mut self, state: &Local, id: CellId) -> Option<ValueId> {
        let index = self.intern(id, state.replica.receipt(&self.cells[id]));
        ValueId::try_from(index).ok().filter(|&value| usize::from(value) < MOST_VALUES)
    }

    pub(super) fn count(&self) -> usize {
        self.cells.len()
    }

    /// How many different things have been seen in cells that are looked at otherwise than whole.
    pub(super) fn size(&self) -> usize {
        let is_single = |cell: &Cell| [Part::Pool, Part::Queue, Part::Transfer].contains(&cell.part);
        self.values
            .iter()
            .zip(&self.cells)
            .filter(|(_, cell)| !is_single(cell))
            .map(|(all, _)| all.len())
            .sum()
    }

    /// Whether every cell and all that they can hold have names.
    pub(super) fn have_names(&self) -> bool {
        self.count() <= MOST_CELLS && self.values.iter().all(|values| values.len() <= MOST_VALUES)
    }

    pub(super) fn cell(&self, id: CellId) -> &Cell {
        &self.cells[id]
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (CellId, &Cell)> {
        self.cells.iter().enumerate()
    }

    pub(super) fn contains(&self, cell: &Cell) -> bool {
        self.cells.contains(cell)
    }

    pub(super) fn value(&self, id: CellId, value: ValueId) -> &Receipt<Modelled> {
        &self.values[id][usize::from(value)]
    }

    pub(super) fn is_empty(&self, id: CellId, value: ValueId) -> bool {
        self.empty[id] & 1 << value != 0
    }

    /// What a cell can hold if an answer is true. Whatever turns up in a cell of votes later makes the walk
    /// begin again.
    pub(super) fn values(&self, id: CellId, answer: Answer) -> Values {
        let naming = |digest| {
            let values = self.values[id].iter().take(MOST_VALUES).enumerate();
            values.filter(|(_, value)| value.names(digest)).fold(0, |all, (index, _)| all | 1 << index)
        };
        match answer {
            Answer::Empty => self.empty[id],
            Answer::Full => !self.empty[id],
            Answer::Names(digest) => naming(digest),
            Answer::NamesNot(digest) => !naming(digest),
            Answer::Holds(value) => 1 << value,
        }
    }

    /// What a cell can hold by all that has been told of it.
    pub(super) fn told(&self, id: CellId, chosen: &[(CellId, Answer)]) -> Values {
        let about = chosen.iter().filter(|&&(cell, _)| cell == id);
        about.fold(ANY, |all, &(_, answer)| all & self.values(id, answer))
    }

    /// The answers that a look at a cell can get, in order; for contents those that have a name.
    pub(super) fn answers(&self, id: CellId, seen: Seen) -> Vec<Answer> {
        match seen {
            Seen::Presence => vec![Answer::Empty, Answer::Full],
            Seen::Names(digest) => vec![Answer::NamesNot(digest), Answer::Names(digest)],
            Seen::Content => {
                let names = (0..).take(self.values[id].len().min(MOST_VALUES));
                names.map(Answer::Holds).collect()
            }
        }
    }
}

/// The members of a set.
pub(super) fn each(mut values: Values) -> impl Iterator<Item = ValueId> {
    std::iter::from_fn(move || {
        let next = values.trailing_zeros();
        values &= values.wrapping_sub(1);
        ValueId::try_from(next).ok().filter(|_| next < Values::BITS)
    })
}
