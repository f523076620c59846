//! States on which steps are taken: a core, with something in its cells.

use super::cells::{CellId, Cells, ValueId};
use crate::crypto::Symbolic;
use crate::world::{Local, MessageId, Modelled, Tables};
use pbft::replica::noted::{Cell, Watched, watch};
use pbft::replica::{Event, Replica, Setup};
use pbft::types::ReplicaId;
use std::sync::Arc;

/// A state of a core with something in its cells, twice: one to take steps on.
pub(super) struct Bench {
    pub(super) kept: Local,
    work: Local,
    /// What has been put into each cell.
    held: Vec<Option<ValueId>>,
    /// How often it has become another state.
    changes: u64,
}

impl Bench {
    pub(super) fn of(state: Local) -> Self {
        Bench { work: state.clone(), kept: state, held: Vec::new(), changes: 0 }
    }

    pub(super) fn put(&mut self, cells: &Cells, cell: CellId, value: ValueId) {
        if self.held.len() <= cell {
            self.held.resize(cells.count(), None);
        }
        if self.held[cell] == Some(value) {
            return;
        }
        self.held[cell] = Some(value);
        self.change(|replica| replica.put_receipt(cells.cell(cell), cells.value(cell, value)));
    }

    /// What has been put into a cell.
    pub(super) fn holds(&self, cell: CellId) -> Option<ValueId> {
        self.held.get(cell).copied().flatten()
    }

    /// Changes the state.
    pub(super) fn change(&mut self, change: impl Fn(&mut Replica<Modelled>)) {
        self.changes += 1;
        for state in [&mut self.kept, &mut self.work] {
            change(&mut state.replica);
        }
    }

    /// Remembers a step taken on this state.
    pub(super) fn known(&self, taken: Taken) -> Known {
        Known { changes: self.changes, taken }
    }

    /// A step that has been taken before, if this is still the state on which that was.
    pub(super) fn take_known(&self, known: Option<Known>) -> Option<Taken> {
        #[cfg(test)]
        let known = known.filter(|_| !FORGETS.get());
        known.filter(|known| known.changes == self.changes).map(|known| known.taken)
    }

    /// Takes a step: what it leads to, what it sends, and what was noted of it.
    pub(super) fn run(
        &mut self,
        tables: &mut Tables,
        replica: ReplicaId,
        event: &Event<Symbolic>,
        known: &Arc<[Cell]>,
    ) -> Taken {
        let before = tables.recorded();
        let (sends, seen) =
            watch(known, || tables.take_held(replica, (&self.kept.replica, &mut self.work), event.clone()));
        let records = tables.recorded() - before;
        self.work.replica.keep_services(&self.kept.replica);
        let after = (self.work != self.kept).then(|| std::mem::replace(&mut self.work, self.kept.clone()));
        Taken { after, sends, records, seen, reads_v: tables.reads_v }
    }
}

/// What a step came to.
#[derive(Eq, PartialEq)]
pub(super) struct Taken {
    /// What it leads to, if that is another state.
    pub(super) after: Option<Local>,
    pub(super) sends: Arc<[MessageId]>,
    /// How many records and facts it has among its effects.
    pub(super) records: u64,
    pub(super) seen: Watched,
    /// Whether it looks at `V` of a NEW-VIEW otherwise than for what that determines.
    pub(super) reads_v: bool,
}

#[cfg(test)]
thread_local! {
    /// Whether this thread takes each step anew.
    pub(super) static FORGETS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// A step that has been taken on a state of a bench.
pub(super) struct Known {
    changes: u64,
    taken: Taken,
}

/// Two states of a core that differ in what a step is not told, as far as they can: it must do the same on
/// both.
pub(super) struct Scratch {
    pub(super) one: Bench,
    pub(super) other: Bench,
}

impl Scratch {
    /// Whether steps from two states that differ in what is not looked at do the same.
    pub(super) fn do_the_same(
        &self,
        cells: &Cells,
        setup: &Setup<Modelled>,
        one: &Taken,
        other: &Taken,
    ) -> bool {
        if one.after.is_none() && other.after.is_none() {
            return one.sends == other.sends;
        }
        let (before, other_before) = (&self.one.kept, &self.other.kept);
        let (after, other_after) =
            (one.after.as_ref().unwrap_or(before), other.after.as_ref().unwrap_or(other_before));
        let same_cells = cells.all().all(|(_, cell)| {
            let goes_on = after.replica.holds_the_same(&before.replica, cell)
                && other_after.replica.holds_the_same(&other_before.replica, cell);
            goes_on || after.replica.holds_the_same(&other_after.replica, cell)
        });
        one.sends == other.sends
            && same_cells
            && after.history == other_after.history
            && after.stored == other_after.stored
            && after.replica.core(setup) == other_after.replica.core(setup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::WorldConfig;
    use pbft::types::Cluster;

    #[test]
    fn a_step_is_known_on_the_state_on_which_it_was_taken_and_on_no_other() {
        let mut tables = Tables::new(&WorldConfig::new(Cluster::new(4, 1), 1), false);
        let start = tables.start(ReplicaId(1)).to;
        let start = tables.local(start).clone();
        let cells = Cells::of(ReplicaId(1), [].into_iter(), &start);
        let mut bench = Bench::of(start);
        let taken = || Taken {
            after: None,
            sends: Arc::new([]),
            records: 3,
            seen: Watched::default(),
            reads_v: false,
        };
        let known = |bench: &Bench| bench.take_known(Some(bench.known(taken()))).map(|taken| taken.records);
        bench.put(&cells, 0, 0);
        assert_eq!((bench.holds(0), bench.holds(1), known(&bench)), (Some(0), None, Some(3)));
        let before = bench.known(taken());
        bench.put(&cells, 0, 0);
        assert!(bench.take_known(Some(before)).is_some(), "what is there is put there again");
        let before = bench.known(taken());
        bench.put(&cells, 1, 0);
        assert!(bench.take_known(Some(before)).is_none());
        let before = bench.known(taken());
        bench.change(Replica::disturb_services);
        assert!(bench.take_known(Some(before)).is_none());
        assert!(bench.take_known(None).is_none());
    }
}
