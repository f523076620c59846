//! What STATUS, FETCH and the status timer make a replica do, wherever its local system can be.
//!
//! Each question that there is within the bounds is asked at each core, with every answer of the cells that
//! answering looks at: the replica stays as it is, but for what no step reads again, and sends nothing but
//! what it has sent on every path to this core, what others have signed and can have sent to it, and proofs.
//! A core knows no NEW-VIEW. Whatever it is asked it is asked once more with each one in place by which it
//! can have entered its view, and may then send that one again: what was its own has been sent, and what was
//! not has arrived.

use super::bench::Scratch;
use super::cells::Chosen;
use super::conditions::{Conditions, Watch};
use super::local::{CoreId, LocalSystem};
use super::must::Must;
use super::theorem::{ANY_V, FRAME};
use crate::crypto::Symbolic;
use crate::world::{MessageId, RESENDING, Tables, World, is_old, questions};
use foldhash::fast::FixedState;
use indexmap::IndexSet;
use pbft::crypto::Signed;
use pbft::message::{Message, NewView};
use pbft::replica::Event;
use pbft::replica::noted::{Look, Watched};
use pbft::types::View;
use std::collections::BTreeMap;
use std::sync::Arc;

type SignedNewView = Arc<Signed<NewView<Symbolic>, Symbolic>>;

/// The questions asked of one replica.
struct Asked<'a> {
    system: &'a LocalSystem,
    must: &'a Must,
    available: IndexSet<MessageId, FixedState>,
    /// The NEW-VIEW that is in place.
    in_place: Option<SignedNewView>,
}

/// Asks everything at every core.
pub(super) fn check(
    world: &World,
    tables: &mut Tables,
    (system, must): (&LocalSystem, &Must),
    conditions: &mut Conditions,
    watch: &mut Watch<'_>,
) {
    let available = system.messages.iter().copied().collect();
    let mut asked = Asked { system, must, available, in_place: None };
    let new_views = entered_by(tables, system);
    let questions = questions(world, system.replica);
    for core in (0..).take(system.cores()) {
        let mut scratch = system.scratch(core);
        for question in &questions {
            asked.ask(tables, (core, question), &mut scratch, &mut Chosen::new(), conditions);
        }
        let view = system.core(core).replica.view();
        for new_view in new_views.get(&view).into_iter().flatten() {
            asked.in_place = Some(new_view.clone());
            for bench in [&mut scratch.one, &mut scratch.other] {
                bench.change(|replica| replica.put_new_view(Some(new_view.clone())));
            }
            if tables.crashes().is_some() {
                asked.restart(tables, core, &scratch, conditions);
            }
            for question in &questions {
                asked.ask(tables, (core, question), &mut scratch, &mut Chosen::new(), conditions);
            }
        }
        asked.in_place = None;
        if !conditions.goes_on(watch) {
            return;
        }
    }
}

/// The NEW-VIEWs by which each view can be entered: of each signer the first for each `O`.
fn entered_by(tables: &Tables, system: &LocalSystem) -> BTreeMap<View, Vec<SignedNewView>> {
    let mut all: BTreeMap<View, Vec<SignedNewView>> = BTreeMap::new();
    for &id in &system.messages {
        let Message::NewView(m) = tables.message(id) else { continue };
        let known = all.entry(m.content.view).or_default();
        let same = |other: &SignedNewView| {
            (other.signer, &other.content.pre_prepares) == (m.signer, &m.content.pre_prepares)
        };
        if !known.iter().any(same) {
            known.push(m.clone());
        }
    }
    all
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
                if matches!(tables.message(message), Message::NewView(m) if Some(m) == self.in_place.as_ref())
                {
                    continue;
                }
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

    /// A restart does the same with this NEW-VIEW in place as with nothing in one, but that it can be sent again.
    fn restart(&self, tables: &mut Tables, core: CoreId, scratch: &Scratch, conditions: &mut Conditions) {
        let replica = self.system.replica;
        let (mut with, mut without) = (scratch.one.kept.clone(), scratch.one.kept.clone());
        without.replica.put_new_view(None);
        let sent_with = tables.crash(replica, &mut with, Vec::new());
        let sent_without = tables.crash(replica, &mut without, Vec::new());
        with.replica.put_new_view(None);
        without.replica.put_new_view(None);
        let but_it = |sent: &[MessageId]| -> Vec<MessageId> {
            let is_it = |&id: &MessageId| matches!(tables.message(id), Message::NewView(_));
            sent.iter().copied().filter(|id| !is_it(id)).collect()
        };
        let same = with == without && but_it(&sent_with) == but_it(&sent_without);
        conditions.note(ANY_V, same, || {
            let core = &self.system.core(core).replica;
            format!("r{}: a restart looks at what is in a NEW-VIEW\n  core: {core:?}", replica.0)
        });
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
