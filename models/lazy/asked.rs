//! What STATUS, FETCH and the status timer make a replica do, wherever its local system can be.
//!
//! Each question that there is within the bounds is asked at each core, with every answer of the cells that answering looks
//! at: the replica stays as it is, but for what no step reads again, and sends nothing but what it has sent on every path to
//! this core, what others have signed and can have sent to it, and proofs. Where it looks up what serves retransmission, the last NEW-VIEW,
//! it sends again what it has entered the view by: what was its own has been sent then, and what was not has arrived.

use super::bench::Scratch;
use super::cells::Chosen;
use super::conditions::{Conditions, Watch};
use super::local::{CoreId, LocalSystem};
use super::must::Must;
use super::theorem::FRAME;
use crate::crypto::Symbolic;
use crate::world::{MessageId, RESENDING, Tables, World, is_old, questions};
use foldhash::fast::FixedState;
use indexmap::IndexSet;
use pbft::replica::Event;
use pbft::replica::noted::{Look, Watched};

/// The questions asked of one replica.
struct Asked<'a> {
    system: &'a LocalSystem,
    must: &'a Must,
    available: IndexSet<MessageId, FixedState>,
}

/// Asks everything at every core.
pub(super) fn check(
    world: &World,
    tables: &mut Tables,
    (system, must): (&LocalSystem, &Must),
    conditions: &mut Conditions,
    watch: &mut Watch<'_>,
) {
    let asked = Asked { system, must, available: system.messages.iter().copied().collect() };
    let questions = questions(world, system.replica);
    for core in (0..).take(system.cores()) {
        let mut scratch = system.scratch(core);
        for question in &questions {
            asked.ask(tables, (core, question), &mut scratch, &mut Chosen::new(), conditions);
        }
        if !conditions.goes_on(watch) {
            return;
        }
    }
}

impl Asked<'_> {
    fn ask(
        &self,
        tables: &mut Tables,
        at: (CoreId, &Event<Symbolic>),
        scratch: &mut Scratch,
        chosen: &mut Chosen,
        conditions: &mut Conditions,
    ) {
        let (system, (core, question)) = (self.system, at);
        let one = scratch.one.run(tables, system.replica, question, &system.known);
        let mut told = chosen.clone();
        let Some((cell, seen)) = system.looks(core, &of_receipts(&one.seen), &mut told, conditions) else {
            let other = scratch.other.run(tables, system.replica, question, &system.known);
            let setup = tables.setup(system.replica);
            let same = scratch.do_the_same(&system.cells, setup, &one, &other);
            conditions
                .note(FRAME, same, || format!("{question:?}: what is not looked at makes a difference"));
            let stays = one.after.as_ref().is_none_or(|after| {
                let alive = |state: &crate::world::Local| state.replica.without_dead_state(setup);
                after.history == scratch.one.kept.history && alive(after) == alive(&scratch.one.kept)
            });
            conditions.note(RESENDING, stays, || self.failure(core, question, "changes"));
            for &message in one.sends.iter() {
                let sent = self.must.sent(core);
                let available = |id| self.available.contains(&id);
                let is_old = is_old(tables, tables.message(message), system.replica, sent, &available);
                conditions.note(RESENDING, is_old, || {
                    let what = format!("is answered with what is new: {:?}", tables.message(message));
                    self.failure(core, question, &what)
                });
            }
            return;
        };
        let known = system.cells.told(cell, chosen);
        for answer in system.cells.answers(cell, seen) {
            if system.put_any(core, scratch, cell, known & system.cells.values(cell, answer)) {
                chosen.push((cell, answer));
                self.ask(tables, at, scratch, chosen, conditions);
                chosen.pop();
            }
        }
        system.put_any(core, scratch, cell, known);
    }

    fn failure(&self, core: CoreId, question: &Event<Symbolic>, what: &str) -> String {
        let core = &self.system.core(core).replica;
        format!("r{}: {question:?} {what}\n  core: {core:?}", self.system.replica.0)
    }
}

/// The looks at what has been received: questions may look at what serves retransmission.
fn of_receipts(seen: &Watched) -> Watched {
    let is_receipt = |(look, _): &&(Look, usize)| !look.cells.part.is_service();
    Watched { looks: seen.looks.iter().filter(is_receipt).copied().collect(), dropped: seen.dropped.clone() }
}
