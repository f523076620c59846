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
    /// What it is an answer to, and which: its place among the answers to that.
    pub(super) fn place(self) -> (Seen, usize) {
        match self {
            Answer::Empty => (Seen::Presence, 0),
            Answer::Full => (Seen::Presence, 1),
            Answer::NamesNot(digest) => (Seen::Names(digest), 0),
            Answer::Names(digest) => (Seen::Names(digest), 1),
            Answer::Holds(value) => (Seen::Content, usize::from(value)),
        }
    }

    /// Whether it says that something has been received, and what.
    pub(super) fn is_content(self) -> bool {
        matches!(self, Answer::Names(_) | Answer::Holds(_))
    }
}

/// What a step has been told, in the order of its looks.
pub(super) type Chosen = SmallVec<[(CellId, Answer); 12]>;

/// Answers about cells, by their names ([`Cells::name_answers`]).
pub(super) type Named = Box<[(u8, u16)]>;

/// What has been tried of an event at a core, by what the step is told of cells.
#[derive(Default)]
pub(super) struct Tried {
    /// The answers to its first looks, by their names: so far there were no others.
    pub(super) only: Named,
    pub(super) then: Then,
}

/// What follows them.
#[derive(Default)]
pub(super) enum Then {
    /// Nothing yet.
    #[default]
    Not,
    /// The step looks at nothing else.
    Taken,
    /// It looks at a cell: what it does by each answer.
    Look(Box<Choice>),
}

/// What a step does by each answer about a cell.
pub(super) struct Choice {
    pub(super) cell: CellId,
    pub(super) seen: Seen,
    pub(super) with: Vec<Tried>,
}

impl Choice {
    /// What has been tried with the answer of this number.
    pub(super) fn with(&mut self, number: usize) -> &mut Tried {
        if self.with.len() <= number {
            self.with.reserve_exact(number + 1 - self.with.len());
            self.with.resize_with(number + 1, Tried::default);
        }
        &mut self.with[number]
    }
}

impl Tried {
    /// There are other answers to one of the first looks now: it is a choice from here on.
    pub(super) fn becomes_choice(&mut self, at: usize, cell: CellId, (seen, number): (Seen, usize)) {
        let rest = Tried { only: self.only[at + 1..].into(), then: std::mem::take(&mut self.then) };
        let mut choice = Choice { cell, seen, with: Vec::new() };
        *choice.with(number) = rest;
        self.only = self.only[..at].into();
        self.then = Then::Look(Box::new(choice));
    }
}

/// The cells, and everything that can be in each.
pub(super) struct Cells {
    cells: IndexSet<Cell, FixedState>,
    values: Vec<IndexSet<Receipt<Modelled>, FixedState>>,
    empty: Vec<Values>,
    /// All answers that any step has been given.
    answers: IndexSet<Answer, FixedState>,
}

impl Cells {
    /// The cells of others' messages to a replica, and those of parts that have one.
    pub(super) fn of<'a>(
        replica: ReplicaId,
        messages: impl Iterator<Item = &'a Message<Symbolic>>,
        start: &Local,
    ) -> Self {
        let (cells, answers) = (IndexSet::default(), IndexSet::default());
        let mut cells = Cells { cells, values: Vec::new(), empty: Vec::new(), answers };
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

    /// Names answers about cells.
    pub(super) fn name_answers<'a>(&mut self, told: impl IntoIterator<Item = &'a (CellId, Answer)>) -> Named {
        let name = |&(cell, answer): &(CellId, Answer)| {
            let answer = u16::try_from(self.answers.insert_full(answer).0);
            let cell = u8::try_from(cell).expect("there are at most 128 cells");
            (cell, answer.expect("there are as many answers as votes and values: few"))
        };
        told.into_iter().map(name).collect()
    }

    /// The cell and the answer with these names.
    pub(super) fn named(&self, (cell, answer): (u8, u16)) -> (CellId, Answer) {
        (cell.into(), self.answers[usize::from(answer)])
    }

    /// What a cell can hold by all that has been told of it.
    pub(super) fn told(&self, id: CellId, chosen: &[(CellId, Answer)]) -> Values {
        let about = chosen.iter().filter(|&&(cell, _)| cell == id);
        about.fold(ANY, |all, &(_, answer)| all & self.values(id, answer))
    }

    /// The same of every cell.
    pub(super) fn told_of_all(&self, chosen: &[(CellId, Answer)]) -> SmallVec<[Values; 64]> {
        let mut all = SmallVec::from_elem(ANY, self.count());
        chosen.iter().for_each(|&(cell, answer)| all[cell] &= self.values(cell, answer));
        all
    }

    /// The answers that a look at a cell can get, with their numbers, the one first that is true where the
    /// cell holds this.
    pub(super) fn answers_where(
        &self,
        id: CellId,
        seen: Seen,
        held: Option<ValueId>,
    ) -> SmallVec<[(usize, Answer); 8]> {
        let mut answers: SmallVec<[(usize, Answer); 8]> =
            self.answers(id, seen).into_iter().enumerate().collect();
        let is_true = |answer| held.is_some_and(|held| self.values(id, answer) & 1 << held != 0);
        if let Some(first) = answers.iter().position(|&(_, answer)| is_true(answer)) {
            answers[..=first].rotate_right(1);
        }
        answers
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Tables, WorldConfig};
    use pbft::message::Prepare;
    use pbft::types::{Cluster, SeqNo, View};

    fn cells() -> (Cells, CellId) {
        let mut tables = Tables::new(&WorldConfig::new(Cluster::new(4, 1), 1), false);
        let start = tables.start(ReplicaId(1)).to;
        let start = tables.local(start).clone();
        let vote = |digest| {
            let (view, n, replica) = (View(0), SeqNo(1), ReplicaId(2));
            let content = Prepare { view, n, digest: Digest([digest; 32]), replica };
            Message::Prepare(tables.setup(replica).sign(content))
        };
        let cells = Cells::of(ReplicaId(1), [vote(1), vote(2)].iter(), &start);
        let id =
            cells.all().find(|(_, cell)| cell.part == Part::Prepares).expect("there are two votes for it").0;
        (cells, id)
    }

    #[test]
    fn the_answer_that_is_true_comes_first() {
        let (cells, id) = cells();
        let first = |seen, held| cells.answers_where(id, seen, held)[0];
        let digest = |of| Digest([of; 32]);
        assert_eq!(first(Seen::Presence, Some(0)), (0, Answer::Empty));
        assert_eq!(first(Seen::Presence, Some(2)), (1, Answer::Full));
        assert_eq!(first(Seen::Names(digest(1)), Some(2)), (0, Answer::NamesNot(digest(1))));
        assert_eq!(first(Seen::Names(digest(2)), Some(2)), (1, Answer::Names(digest(2))));
        assert_eq!(first(Seen::Content, Some(1)), (1, Answer::Holds(1)));
        let all = |held| cells.answers_where(id, Seen::Content, held).into_vec();
        let [empty, one, two] = [0, 1, 2].map(|value: u8| (usize::from(value), Answer::Holds(value)));
        assert_eq!((all(Some(2)), all(None)), (vec![two, empty, one], vec![empty, one, two]));
    }

    #[test]
    fn an_answer_that_was_the_only_one_becomes_a_choice_and_what_follows_goes_on() {
        let (mut cells, id) = cells();
        let told = [(0, Answer::Empty), (id, Answer::Holds(1)), (1, Answer::Full)];
        let mut tried = Tried { only: cells.name_answers(&told), then: Then::Taken };
        assert_eq!(tried.only.iter().map(|&name| cells.named(name)).collect::<Vec<_>>(), told);
        tried.becomes_choice(1, id, Answer::Holds(1).place());
        assert_eq!(tried.only, cells.name_answers(&told[..1]));
        let Then::Look(mut choice) = tried.then else { panic!("it is a choice") };
        assert_eq!((choice.cell, choice.seen, choice.with.len()), (id, Seen::Content, 2));
        assert!(matches!(choice.with(0).then, Then::Not) && matches!(choice.with(3).then, Then::Not));
        assert!(matches!(choice.with(1).then, Then::Taken));
        assert_eq!(choice.with(1).only, cells.name_answers(&told[2..]));
    }
}
