//! States on which steps are taken: a core, with something in its cells.

use super::cells::{CellId, Cells, ValueId};
use crate::crypto::Symbolic;
use crate::world::{Local, MessageId, Modelled, Tables};
use pbft::replica::noted::{Cell, Watched, watch};
use pbft::replica::{Event, Replica, Setup};
use pbft::types::ReplicaId;
use std::rc::Rc;
use std::sync::Arc;

/// A state of a core with something in its cells, twice: one to take steps on.
pub(super) struct Bench {
    pub(super) kept: Local,
    work: Local,
}

impl Bench {
    pub(super) fn of(state: Local) -> Self {
        Bench { work: state.clone(), kept: state }
    }

    pub(super) fn put(&mut self, cells: &Cells, cell: CellId, value: ValueId) {
        for state in [&mut self.kept, &mut self.work] {
            state.replica.put_receipt(cells.cell(cell), cells.value(cell, value));
        }
    }

    /// Changes what no cell holds.
    pub(super) fn change(&mut self, change: impl Fn(&mut Replica<Modelled>)) {
        for state in [&mut self.kept, &mut self.work] {
            change(&mut state.replica);
        }
    }

    /// Takes a step: what it leads to, what it sends, and what was noted of it.
    pub(super) fn run(
        &mut self,
        tables: &mut Tables,
        replica: ReplicaId,
        event: &Event<Symbolic>,
        known: &Rc<[Cell]>,
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
            && (one.after.is_none() && other.after.is_none()
                || after.replica.core(setup) == other_after.replica.core(setup))
    }
}
