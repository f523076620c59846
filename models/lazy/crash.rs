//! Crashes in a local system: what is left of a replica that starts again.
//!
//! A crash is an event like others. Between steps it can happen at every core; inside of a step wherever that
//! step can, after each of its effects but the last. What was received is gone, and what the
//! replica is then depends on nothing of it but what the step was told: both states of the bench, whose cells
//! differ, and what serves timers too, lead to the same one. Whatever was delivered before the crash was
//! delivered, and is still available.

use super::bench::Scratch;
use super::cells::Chosen;
use super::conditions::Conditions;
use super::local::{CoreId, LocalSystem};
use super::steps::Onward;
use super::theorem::FRAME;
use crate::world::{Input, RESTARTING, Tables};
use std::collections::BTreeSet;

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
        self.crash(tables, (core, self.crash_number(), 0), scratch, &Chosen::new(), conditions);
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
        let input = self.events[event as usize].clone();
        let cuts = tables.cuts(&scratch.one.kept.replica, self.replica, input);
        for carried_out in 1..=cuts {
            self.crash(tables, (core, event, carried_out), scratch, told, conditions);
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
        conditions: &mut Conditions,
    ) {
        let input = self.events.get(event as usize).filter(|_| event != self.crash_number());
        let (mut after, mut other) = (scratch.one.kept.clone(), scratch.other.kept.clone());
        let sends = tables.crash(self.replica, &mut after, input.cloned(), carried_out);
        let same = tables.crash(self.replica, &mut other, input.cloned(), carried_out) == sends;
        self.taken += 1;
        let refused = tables.take_refusal();
        conditions.note(RESTARTING, refused.is_none(), || refused.unwrap_or_default());
        conditions.note(FRAME, same && after == other, || {
            let core = &self.core(core).replica;
            format!("r{}: what is lost in a crash makes a difference\n  core: {core:?}", self.replica.0)
        });
        let to = self.add_core(tables, &after);
        if self.meets_new_cells(to, &after) {
            return;
        }
        self.is_its_core_and_cells(tables, to, &after, conditions);
        let mut left = Vec::new();
        for cell in 0..self.cells.count() {
            let value = self.cells.held_by(&after, cell);
            conditions.note(FRAME, value.is_some(), || format!("r{}: too many values", self.replica.0));
            left.extend(value.map(|value| (cell, value)));
        }
        let sent: BTreeSet<_> = self.cores[core as usize].sent.iter().chain(&*sends).copied().collect();
        self.send(to, &sent);
        self.cores[core as usize].after.insert(to);
        for &(cell, value) in &left {
            self.hold(to, cell, 1 << value);
        }
        let at = (core, event, Some(carried_out));
        self.steps.add(at, to, told, left, &Onward::default(), sends);
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
