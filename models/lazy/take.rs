//! One step of a local system: what it looks at, and what becomes of the state.

use super::bench::{Known, Scratch, Taken};
use super::cells::{Answer, CellId, Choice, Chosen, Then, Tried, ValueId, Values};
use super::conditions::Conditions;
use super::local::{CoreId, LocalSystem};
use super::steps::Onward;
use super::theorem::{ANY_V, CONTRACT, FRAME, SERVICES};
use crate::crypto::Symbolic;
use crate::world::{Local, Tables};
use pbft::replica::Event;
use pbft::replica::noted::{Cell, Part, Seen, Watched};
use std::fmt::Debug;

impl LocalSystem {
    /// Takes one step, unless it is known, or finds out what it looks at. Then the step is known.
    pub(super) fn take(
        &mut self,
        tables: &mut Tables,
        (core, event): (CoreId, u32),
        scratch: &mut Scratch,
        (chosen, known): (&Chosen, Option<Known>),
        conditions: &mut Conditions,
    ) -> (Tried, Option<Known>) {
        let input = &self.events[event as usize];
        let one = match scratch.one.take_known(known) {
            Some(known) => known,
            None => {
                let one = scratch.one.run(tables, self.replica, input, &self.known);
                self.taken += 1;
                self.is_contract_kept(tables, (core, input), conditions);
                one
            }
        };
        let (mut told, first) = (chosen.clone(), chosen.len());
        let mut known = None;
        let then = match self.looks(core, &one.seen, &mut told, conditions) {
            Some((cell, seen)) => {
                known = Some(scratch.one.known(one));
                Then::Look(Box::new(Choice { cell, seen, with: Vec::new() }))
            }
            None => {
                let other = scratch.other.run(tables, self.replica, input, &self.known);
                self.is_contract_kept(tables, (core, input), conditions);
                let same = scratch.do_the_same(&self.cells, tables.setup(self.replica), &one, &other);
                conditions.note(FRAME, same, || self.difference(tables, (core, event)));
                self.try_others(tables, (core, event), scratch, &one, conditions);
                let changes = one.after.is_some() || !one.sends.is_empty();
                let has_effects = changes || one.records > 0;
                if has_effects && tables.crashes().is_some_and(|crashes| !crashes.between_steps) {
                    self.crash_during(tables, (core, event), scratch, &told, conditions);
                }
                if (changes || self.drops(&told, &one.seen)) && !self.is_outgrown {
                    self.record(tables, (core, event), &scratch.one.kept, &told, one, conditions);
                }
                Then::Taken
            }
        };
        // What there was no choice about is remembered: there may be others later.
        (Tried { only: self.cells.name_answers(&told[first..]), then }, known)
    }

    /// Takes the step with each NEW-VIEW that differs from this one in `V` alone, unless it is known to do the
    /// same (`alike`).
    fn try_others(
        &mut self,
        tables: &mut Tables,
        (core, event): (CoreId, u32),
        scratch: &mut Scratch,
        one: &Taken,
        conditions: &mut Conditions,
    ) {
        let others = match self.others.get(event as usize) {
            Some(others) if !others.is_empty() => others.clone(),
            _ => return,
        };
        let acts = one.after.is_some() || !one.sends.is_empty() || one.records > 0;
        let is_first = acts && self.is_judged_with_others.insert((core, event));
        let inside = tables.crashes().is_some_and(|crashes| !crashes.between_steps);
        let kept = scratch.one.kept.replica.clone();
        let units = |tables: &Tables, event: &Event<Symbolic>| {
            inside.then(|| tables.units_but_new_views(&kept, self.replica, event.clone()))
        };
        let mut expected = None;
        for other in others.iter().filter(|other| is_first || one.reads_v || !other.determines_the_same) {
            let expected = expected.get_or_insert_with(|| units(tables, &self.events[event as usize]));
            let taken = scratch.one.run(tables, self.replica, &other.event, &self.known);
            self.is_contract_kept(tables, (core, &other.event), conditions);
            // In the same order, so that a crash in the middle leaves the same.
            let same = taken == *one && units(tables, &other.event) == *expected;
            conditions.note(ANY_V, same, || {
                format!(
                    "r{}: NEW-VIEWs that differ in V alone do not do the same\n  core: {:?}\n  event: {:?}\n  other: {:?}",
                    self.replica.0,
                    self.core(core).replica,
                    self.events[event as usize],
                    other.event
                )
            });
        }
    }

    /// Notes whether the step just taken is one of the abstract protocol.
    pub(super) fn is_contract_kept(
        &self,
        tables: &mut Tables,
        (core, event): (CoreId, &dyn Debug),
        conditions: &mut Conditions,
    ) {
        if self.start.0.ledger.is_none() {
            return;
        }
        let breach = tables.take_breach();
        conditions.note(CONTRACT, breach.is_none(), || {
            let core = &self.core(core).replica;
            format!("{}\n  core: {core:?}\n  event: {event:?}", breach.unwrap_or_default())
        });
    }

    fn difference(&self, tables: &Tables, (core, event): (CoreId, u32)) -> String {
        let event = tables.tell(self.input(event));
        let core = &self.core(core).replica;
        format!(
            "r{}: what a step does not look at makes a difference\n  core: {core:?}\n  event: {event}",
            self.replica.0
        )
    }

    /// Whether a step empties a cell that can hold something by what it was told, though there may be nothing
    /// in it yet.
    fn drops(&self, told: &Chosen, seen: &Watched) -> bool {
        let known = |cell: &Cell| self.cells.all().find(|&(_, of)| of == cell);
        let known = seen.dropped.iter().filter_map(known);
        let mut full = known.map(|(id, _)| self.cells.told(id, told) & self.cells.values(id, Answer::Full));
        full.any(|values| values != 0)
    }

    /// Goes through what was looked at: adds to what is told where there is no choice, and stops where there
    /// is one.
    pub(super) fn looks(
        &self,
        core: CoreId,
        seen: &Watched,
        told: &mut Chosen,
        conditions: &mut Conditions,
    ) -> Option<(CellId, Seen)> {
        let mut known_of = self.cells.told_of_all(told);
        for (look, dropped) in &seen.looks {
            let is_receipt = !look.cells.part.is_service();
            conditions.note(SERVICES, is_receipt, || {
                format!("r{}: a step uses {:?}", self.replica.0, look.cells.part)
            });
            let before = |cell: &Cell| !seen.dropped[..*dropped].contains(cell);
            for (id, _) in self.cells.all().filter(|(_, cell)| look.cells.contains(cell) && before(cell)) {
                let known = known_of[id];
                if known.is_power_of_two() {
                    continue;
                }
                let possible = known & self.held(core, id);
                let answers = self.cells.answers(id, look.seen);
                let fitting = |values: Values| {
                    let fits = |answer: &&Answer| self.cells.values(id, **answer) & values != 0;
                    answers.iter().filter(fits).copied().collect::<Vec<_>>()
                };
                // Contents may turn up that have no name yet.
                if look.seen != Seen::Content && fitting(known).len() <= 1 {
                    continue;
                }
                match fitting(possible)[..] {
                    [only] => {
                        known_of[id] &= self.cells.values(id, only);
                        told.push((id, only));
                    }
                    _ => return Some((id, look.seen)),
                }
            }
        }
        None
    }

    /// Records what a step leads to from a state.
    fn record(
        &mut self,
        tables: &mut Tables,
        (core, event): (CoreId, u32),
        before: &Local,
        told: &Chosen,
        taken: Taken,
        conditions: &mut Conditions,
    ) {
        let Taken { after, sends, seen, .. } = taken;
        let after = after.as_ref().unwrap_or(before);
        let to = self.add_core(tables, after);
        if self.meets_new_cells(to, after) {
            return;
        }
        self.is_its_core_and_cells(tables, to, after, conditions);
        let (onward, left) = self.becomes((before, after), told, &seen, conditions);
        self.flow(core, to, &onward);
        self.leads(core, to, &sends);
        for &(cell, value) in &left {
            self.hold(to, cell, 1 << value);
        }
        let told = (&mut self.cells, told);
        self.steps.add((core, event, None), to, told, left.into(), &onward, sends);
    }

    /// A state is its core, what is in its cells, and what serves timers: nothing else is forgotten.
    pub(super) fn is_its_core_and_cells(
        &self,
        tables: &Tables,
        core: CoreId,
        state: &Local,
        conditions: &mut Conditions,
    ) {
        let setup = tables.setup(self.replica);
        let same = state.replica.normal_form(setup) == self.cores[core as usize].normal;
        conditions
            .note(FRAME, same, || format!("r{}: the normal form is not that of the core", self.replica.0));
        let mut whole = self.core(core).replica.clone();
        let single = [Part::Pool, Part::Queue, Part::Transfer].map(Cell::only);
        for cell in state.replica.cells().chain(single) {
            whole.put_receipt(&cell, &state.replica.receipt(&cell));
        }
        whole.keep_services(&state.replica);
        conditions.note(FRAME, whole == state.replica, || {
            format!("r{}: a state is more than its core and its cells: {:?}", self.replica.0, state.replica)
        });
    }

    /// What becomes of the cells: what goes on as it is, and what is then in the others.
    fn becomes(
        &mut self,
        (before, after): (&Local, &Local),
        told: &Chosen,
        seen: &Watched,
        conditions: &mut Conditions,
    ) -> (Onward, Vec<(CellId, ValueId)>) {
        let (mut onward, mut left) = (Onward::default(), Vec::new());
        let known_of = self.cells.told_of_all(told);
        for cell in 0..self.cells.count() {
            let of = *self.cells.cell(cell);
            let known = known_of[cell];
            let is_dropped = seen.dropped.contains(&of);
            // A vote that is told to name a digest is one vote: what the step does with it goes for no other.
            let names = told.iter().any(|&(id, answer)| id == cell && matches!(answer, Answer::Names(_)));
            let is_one = known.is_power_of_two();
            conditions.note(FRAME, is_one || !names, || {
                format!("r{}: {of:?} holds different votes for one digest", self.replica.0)
            });
            if after.replica.holds_the_same(&before.replica, &of) && (is_one || !is_dropped) {
                onward.add(cell, known);
                continue;
            }
            let value = self.cells.held_by(after, cell);
            // What is not known is dropped or written over, never made into something else.
            conditions.note(FRAME, value.is_some() && (is_one || is_dropped), || {
                format!("r{}: a step changes {of:?} and does not look at it", self.replica.0)
            });
            left.extend(value.map(|value| (cell, value)));
        }
        (onward, left)
    }

    /// Whether something is kept where nothing was expected. Then there are cells for it, and the walk is to
    /// begin again.
    pub(super) fn meets_new_cells(&mut self, core: CoreId, state: &Local) -> bool {
        let own: Vec<_> = self.core(core).replica.cells().collect();
        for cell in state.replica.cells() {
            if !self.cells.contains(&cell) && !own.contains(&cell) {
                self.cells.add(cell, &self.start.0);
                self.is_outgrown = true;
            }
        }
        self.is_outgrown
    }
}
