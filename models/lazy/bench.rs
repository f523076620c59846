//! States on which steps are taken: a core, with something in its cells.

use super::cells::{CellId, Cells, ValueId};
use crate::crypto::Symbolic;
use crate::world::{Local, MessageId, Modelled, Tables};
use pbft::replica::noted::{Watched, watch};
use pbft::replica::{Event, Setup};
use pbft::types::ReplicaId;
use std::sync::Arc;

/// What a step leads to, and what it sends.
pub(super) type Change = (Local, Arc<[MessageId]>);

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

    /// Takes a step: what it leads to and sends, if it changes anything, and what was noted of it.
    pub(super) fn run(
        &mut self,
        tables: &mut Tables,
        replica: ReplicaId,
        event: &Event<Symbolic>,
    ) -> (Option<Change>, Watched) {
        let (sends, seen) = watch(|| tables.take(replica, &mut self.work, event.clone()));
        self.work.replica.keep_services(&self.kept.replica);
        let changed = self.work != self.kept || !sends.is_empty();
        let changed = changed.then(|| (std::mem::replace(&mut self.work, self.kept.clone()), sends));
        (changed, seen)
    }
}

/// Two states of a core that differ in what a step is not told, as far as they can: it must do the same on both.
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
        one: Option<&Change>,
        other: Option<&Change>,
    ) -> bool {
        let (Some((one, sends)), Some((other, other_sends))) = (one, other) else {
            return one.is_none() && other.is_none();
        };
        let (before, other_before) = (&self.one.kept.replica, &self.other.kept.replica);
        let same_cells = cells.all().all(|(_, cell)| {
            let goes_on =
                one.replica.holds_the_same(before, cell) && other.replica.holds_the_same(other_before, cell);
            goes_on || one.replica.holds_the_same(&other.replica, cell)
        });
        sends == other_sends
            && same_cells
            && one.history == other.history
            && one.replica.core(setup) == other.replica.core(setup)
    }
}
