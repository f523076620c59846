//! What STATUS, FETCH and the status timer make a replica do, wherever its local system can be.
//!
//! Each of the questions of [`questions`] is asked at each core, with every answer of the cells that
//! answering looks at: the replica records nothing, stays as it is but for what serves timers, and sends
//! nothing but what it has sent on every path to this core (a PRE-PREPARE in the `O` of whichever NEW-VIEW it
//! was), what others have signed and can have sent to it, and proofs. A core knows no NEW-VIEW. Whatever makes
//! it look for one, it is asked once more with one in place by which it can have entered its view, one for each
//! `O`. It may then send that one again: what was its own has been sent, and what was not has arrived. With
//! every other one that is known it is asked in short: by the status timer, and by every STATUS that says no
//! more than a view which its sender is in. What it does without a look at the NEW-VIEW in place it does
//! whichever that is.

use super::bench::{Known, Scratch};
use super::cells::Chosen;
use super::conditions::{Conditions, Watch};
use super::local::{CoreId, LocalSystem};
use super::must::Must;
use super::theorem::FRAME;
use crate::crypto::Symbolic;
use crate::world::{Local, MessageId, RESENDING, Tables, World, is_old, questions};
use foldhash::fast::FixedState;
use indexmap::IndexSet;
use pbft::crypto::Signed;
use pbft::message::{Message, NewView};
use pbft::replica::Event;
use pbft::replica::noted::{Look, Part, Watched};
use pbft::types::{SeqNo, View};
use std::collections::BTreeMap;
use std::ops::Range;
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

/// Asks everything at these cores.
pub(super) fn check(
    world: &World,
    tables: &mut Tables,
    (system, must, cores): (&LocalSystem, &Must, Range<CoreId>),
    conditions: &mut Conditions,
    watch: &mut Watch<'_>,
) {
    let available = system.messages.iter().copied().collect();
    let mut asked = Asked { system, must, available, in_place: None };
    let firsts = entered_by(tables, system);
    let mut new_views: BTreeMap<View, Vec<SignedNewView>> = BTreeMap::new();
    for new_view in system.new_views(tables) {
        new_views.entry(new_view.content.view).or_default().push(new_view);
    }
    let questions = questions(world, system.replica);
    for core in cores {
        let mut scratch = system.scratch(core);
        let mut looking = questions.clone();
        looking.retain(|question| {
            asked.ask(tables, (core, question), &mut scratch, (&mut Chosen::new(), None), conditions)
        });
        let view = system.core(core).replica.view();
        for new_view in new_views.get(&view).into_iter().flatten() {
            asked.in_place = Some(new_view.clone());
            for bench in [&mut scratch.one, &mut scratch.other] {
                bench.change(|replica| replica.put_new_view(Some(new_view.clone())));
            }
            let is_first = firsts.get(&view).is_some_and(|firsts| firsts.contains(new_view));
            for question in looking.iter().filter(|question| is_first || is_short(question)) {
                asked.ask(tables, (core, question), &mut scratch, (&mut Chosen::new(), None), conditions);
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
    /// Returns whether the NEW-VIEW that is in place is looked at. `known` is the answer on what is in the
    /// cells now, if it is known.
    fn ask(
        &self,
        tables: &mut Tables,
        at: (CoreId, &Event<Symbolic>),
        scratch: &mut Scratch,
        (chosen, known): (&mut Chosen, Option<Known>),
        conditions: &mut Conditions,
    ) -> bool {
        let (system, (core, question)) = (self.system, at);
        let known = scratch.one.take_known(known);
        let one = known.unwrap_or_else(|| scratch.one.run(tables, system.replica, question, &system.known));
        let mut looks = one.seen.looks.iter().any(|(look, _)| look.cells.part == Part::NewView);
        let mut told = chosen.clone();
        let Some((cell, seen)) = system.looks(core, &of_receipts(&one.seen), &mut told, conditions) else {
            let other = scratch.other.run(tables, system.replica, question, &system.known);
            let setup = tables.setup(system.replica);
            let same = scratch.do_the_same(&system.cells, setup, &one, &other);
            conditions
                .note(FRAME, same, || format!("{question:?}: what is not looked at makes a difference"));
            let stays = one.after.as_ref().is_none_or(|after| {
                let whole = |state: &Local| state.replica.without_services(setup);
                let kept = &scratch.one.kept;
                after.history == kept.history && after.stored == kept.stored && whole(after) == whole(kept)
            });
            conditions.note(RESENDING, stays, || self.failure(core, question, "changes"));
            conditions.note(RESENDING, one.records == 0, || self.failure(core, question, "makes a record"));
            for &message in one.sends.iter() {
                // NEW-VIEWs that differ in `V` alone have one name.
                let of = |m: &SignedNewView| (m.content.view, m.signer, m.content.pre_prepares.clone());
                let in_place = self.in_place.as_ref().map(of);
                if matches!(tables.message(message), Message::NewView(m) if Some(of(m)) == in_place) {
                    continue;
                }
                let sent = self.must.sent(core);
                let available = |id| self.available.contains(&id);
                let answer = tables.message(message);
                let is_carried =
                    matches!(answer, Message::PrePrepare(m, _) if self.must.has_carried(core, m));
                let is_old = is_carried || is_old(tables, answer, system.replica, sent, &available);
                conditions.note(RESENDING, is_old, || {
                    let what = format!("is answered with what is new: {:?}", tables.message(message));
                    self.failure(core, question, &what)
                });
            }
            return looks;
        };
        let possible = system.cells.told(cell, chosen);
        let mut known = Some(scratch.one.known(one));
        for (_, answer) in system.cells.answers_where(cell, seen, scratch.one.holds(cell)) {
            if system.put_any(core, scratch, cell, possible & system.cells.values(cell, answer)) {
                chosen.push((cell, answer));
                looks |= self.ask(tables, at, scratch, (chosen, known.take()), conditions);
                chosen.pop();
            }
        }
        system.put_any(core, scratch, cell, possible);
        looks
    }

    fn failure(&self, core: CoreId, question: &Event<Symbolic>, what: &str) -> String {
        let core = &self.system.core(core).replica;
        format!("r{}: {question:?} {what}\n  core: {core:?}", self.system.replica.0)
    }
}

/// Whether a question says no more than a view that somebody is in.
fn is_short(question: &Event<Symbolic>) -> bool {
    match question {
        Event::Timeout(_) => true,
        Event::Message(message) => match &**message {
            Message::Status(m) => {
                let says = &m.content;
                (says.stable, says.executed) == (SeqNo(0), SeqNo(0))
                    && says.leaving.is_none()
                    && says.pre_prepared.is_empty()
                    && says.prepared.is_empty()
            }
            _ => false,
        },
    }
}

impl LocalSystem {
    /// Every NEW-VIEW that can have arrived, and those made up that differ from one in `V` alone.
    pub(super) fn new_views(&self, tables: &Tables) -> Vec<SignedNewView> {
        let sent = self.messages.iter().filter_map(|&id| match tables.message(id) {
            Message::NewView(m) => Some(m.clone()),
            _ => None,
        });
        let made_up =
            self.others.iter().flat_map(|others| others.iter()).filter_map(|other| match &other.event {
                Event::Message(message) => match &**message {
                    Message::NewView(m) => Some(m.clone()),
                    _ => None,
                },
                Event::Timeout(_) => None,
            });
        let mut all: Vec<SignedNewView> = Vec::new();
        for new_view in sent.chain(made_up) {
            if !all.contains(&new_view) {
                all.push(new_view);
            }
        }
        all
    }
}

/// The looks at what has been received: questions may look at what serves retransmission.
fn of_receipts(seen: &Watched) -> Watched {
    let is_receipt = |(look, _): &&(Look, usize)| !look.cells.part.is_service();
    Watched { looks: seen.looks.iter().filter(is_receipt).copied().collect(), dropped: seen.dropped.clone() }
}
