//! Crashes in a local system: what is left of a replica that starts again.
//!
//! A crash is an event like others. Between steps it can happen at every core; inside of a step wherever that
//! step can, after each of its effects but the last, though the step changes nothing in the end. A step by
//! another NEW-VIEW with the same `O` has the same effects in the same order (*any V*), and whatever NEW-VIEW
//! of the view is on the disk, a restart comes to the same. What was received is gone, and what the replica
//! is then depends on what was durable and on the records carried out, which are the same on both states of
//! the bench, whose cells differ. Whatever was delivered before the crash was delivered, and is still
//! available.

use super::bench::Scratch;
use super::cells::Chosen;
use super::conditions::Conditions;
use super::local::{CoreId, LocalSystem};
use super::steps::{Left, Onward};
use super::theorem::{ANY_V, FRAME};
use crate::crypto::Symbolic;
use crate::world::{Input, Local, RESTARTING, Tables};
use pbft::replica::{Effect, Event};

impl LocalSystem {
    /// The number of the event that is a crash between steps.
    pub(super) fn crash_number(&self) -> u32 {
        u32::try_from(self.messages.len() + 1).expect("a world has few messages")
    }

    /// Takes the crash between steps at a core.
    pub(super) fn crash_between_steps(
        &mut self,
        tables: &mut Tables,
        core: CoreId,
        scratch: &Scratch,
        conditions: &mut Conditions,
    ) {
        let at = (core, self.crash_number(), 0);
        self.crash(tables, at, scratch, &Chosen::new(), (None, Vec::new()), conditions);
    }

    /// Takes every crash inside of a step, which has been told this.
    pub(super) fn crash_during(
        &mut self,
        tables: &mut Tables,
        (core, event): (CoreId, u32),
        scratch: &Scratch,
        told: &Chosen,
        conditions: &mut Conditions,
    ) {
        let units =
            |state: &Local| tables.units(&state.replica, self.replica, self.events[event as usize].clone());
        let (units, other) = (units(&scratch.one.kept), units(&scratch.other.kept));
        conditions.note(FRAME, units == other, || {
            let core = &self.core(core).replica;
            format!("r{}: what is carried out before a crash differs\n  core: {core:?}", self.replica.0)
        });
        for carried_out in (1_u8..).take_while(|&carried_out| usize::from(carried_out) < units.len()) {
            let done = units.iter().take(usize::from(carried_out)).flatten().cloned().collect();
            let done = (Some(self.events[event as usize].clone()), done);
            self.crash(tables, (core, event, carried_out), scratch, told, done, conditions);
            if self.is_outgrown {
                return;
            }
        }
    }

    fn crash(
        &mut self,
        tables: &mut Tables,
        (core, event, carried_out): (CoreId, u32, u8),
        scratch: &Scratch,
        told: &Chosen,
        done: (Option<Event<Symbolic>>, Vec<Effect<Symbolic>>),
        conditions: &mut Conditions,
    ) {
        let mut after = scratch.one.kept.clone();
        let sends = tables.crash(self.replica, &mut after, done);
        self.taken += 1;
        self.is_contract_kept(
            tables,
            (core, &format_args!("a crash after {carried_out} effects")),
            conditions,
        );
        let refused = tables.take_refusal();
        conditions.note(RESTARTING, refused.is_none(), || refused.unwrap_or_default());
        let differs = tables.take_difference();
        conditions.note(ANY_V, differs.is_none(), || differs.unwrap_or_default());
        let Some((to, left)) = self.restarted(tables, after, conditions) else { return };
        self.leads(core, to, &sends);
        let at = (core, event, Some(carried_out));
        self.steps.add(at, to, (&mut self.cells, told), left, &Onward::default(), sends);
    }

    /// The core of a state after a restart, and what is in its cells; none if there is a cell that was not
    /// expected.
    fn restarted(
        &mut self,
        tables: &Tables,
        after: Local,
        conditions: &mut Conditions,
    ) -> Option<(CoreId, Left)> {
        if let Some(known) = self.restarted.get(&after) {
            return Some(known.clone());
        }
        let to = self.add_core(tables, &after);
        if self.meets_new_cells(to, &after) {
            return None;
        }
        self.is_its_core_and_cells(tables, to, &after, conditions);
        let mut left = Vec::new();
        for cell in 0..self.cells.count() {
            let value = self.cells.held_by(&after, cell);
            conditions.note(FRAME, value.is_some(), || format!("r{}: too many values", self.replica.0));
            left.extend(value.map(|value| (cell, value)));
        }
        for &(cell, value) in &left {
            self.hold(to, cell, 1 << value);
        }
        let left: Left = left.into();
        self.restarted.insert(after, (to, left.clone()));
        Some((to, left))
    }

    /// What an event stands for.
    pub(super) fn input(&self, event: u32) -> Input {
        match self.messages.get(event as usize) {
            Some(&message) => Input::Message(message),
            None if event == self.crash_number() => Input::Crash,
            None => Input::TimeOut,
        }
    }
}
