//! The unreduced local system of one replica: everything that it can become when any message of a set can reach it at any
//! time, any number of times, and its timer can fire at any time.
//!
//! A local state is taken apart into its *core* and its *parts* ([`pbft::replica::noted`]): what it has received of each
//! kind. The walk keeps for each core, and each part, the values that the part can have there, and takes every mixture of
//! them for possible: more than can occur, never less. A step is taken on a core and on values of those parts only that
//! the step uses, as it turns out while it is taken: where it uses a part that has no value yet, it is taken again with
//! each of the values. So it stands for the step on every state with this core and these values, whatever is in the other
//! parts. Those go on as they are; or, where the step updates a part and nothing else depends on that, the step is taken once
//! more with each of the part's values to see what becomes of them.
//!
//! What the replica itself has signed reaches it only once it has been sent, on some path at least: nobody else can sign it.

use super::conditions::{Conditions, Watch};
use crate::crypto::{Keys, Symbolic};
use crate::world::{Input, Local, MessageId, Modelled, Step as Started, Tables};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::crypto::{Content, Signed};
use pbft::message::Message;
use pbft::replica::noted::{self, Part};
use pbft::replica::verify::verify;
use pbft::replica::{Event, Receipts, Timer};
use pbft::types::{Principal, ReplicaId, View};
use smallvec::SmallVec;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Names a core.
pub(super) type CoreId = u32;

/// Names what a part holds.
pub(super) type ValueId = u32;

/// The place of a part among [`Part::RECEIPTS`].
type Place = usize;

const PARTS: usize = Part::RECEIPTS.len();

/// Values of some parts.
pub(super) type Chosen = SmallVec<[(Place, ValueId); PARTS]>;

/// A core, and what its parts can hold.
struct Core {
    held: [IndexSet<ValueId, FixedState>; PARTS],
    /// For each event what has been tried.
    tried: Vec<Tried>,
    /// The cores that some step leads to without touching a part, which goes on there.
    flows: IndexSet<(CoreId, Place), FixedState>,
    /// What has been sent on some path to it.
    sent: BTreeSet<MessageId>,
    /// The cores that some step leads to.
    next: IndexSet<CoreId, FixedState>,
    /// The cores that some step leads to which updates a part, with the part's value before and after.
    updates: IndexSet<(CoreId, Place, ValueId, ValueId), FixedState>,
}

/// What has been tried of an event at a core, for one choice of values.
enum Tried {
    /// Nothing yet.
    Not,
    /// The step uses no other part, and leads to this core; it updates these, which has been seen for so many values.
    Taken(CoreId, SmallVec<[(Place, usize); PARTS]>),
    /// It uses this part too: with each of the part's values, in the order in which they came up.
    With(Place, Vec<Tried>),
}

/// A step that changes something or sends something.
pub(super) struct Step {
    pub(super) from: CoreId,
    /// The number of the event; the number after the last stands for a time-out.
    pub(super) event: usize,
    /// The parts that it uses, and what they hold before it.
    pub(super) used: Chosen,
    pub(super) to: CoreId,
    /// What they hold after it.
    pub(super) left: Chosen,
    /// Other parts, that it updates.
    pub(super) updated: SmallVec<[Place; PARTS]>,
    pub(super) sends: Arc<[MessageId]>,
}

/// A state of a core with some values, twice: one to take steps on.
struct Scratch {
    kept: Local,
    work: Local,
}

/// The states of one core that steps are being taken on.
type Scratches = IndexMap<Chosen, Scratch, FixedState>;

/// What a step leads to, sends, uses and updates; nothing if it changes nothing and sends nothing.
struct Outcome {
    changed: Option<(Local, Arc<[MessageId]>)>,
    used: SmallVec<[Part; 8]>,
    updated: SmallVec<[Place; PARTS]>,
}

/// The system, walked.
pub(super) struct LocalSystem {
    pub(super) replica: ReplicaId,
    /// The messages that its validator accepts.
    pub(super) messages: Vec<MessageId>,
    events: Vec<Event<Symbolic>>,
    /// Whether the replica itself has signed the message.
    is_own: Vec<bool>,
    cores: IndexMap<Local, Core, FixedState>,
    values: IndexSet<Receipts<Modelled>, FixedState>,
    pub(super) steps: Vec<Step>,
    max_view: View,
    open: VecDeque<CoreId>,
    is_open: Vec<bool>,
}

impl LocalSystem {
    /// The system of a replica that any of these messages can reach, not walked yet.
    pub(super) fn new(
        tables: &mut Tables,
        replica: ReplicaId,
        available: &[MessageId],
        max_view: View,
    ) -> Self {
        let setup = tables.setup(replica);
        let (mut messages, mut events, mut is_own) = (Vec::new(), Vec::new(), Vec::new());
        for &id in available {
            let message = tables.message(id);
            if let Ok(verified) = verify(setup, message.clone()) {
                messages.push(id);
                is_own.push(is_signed_by(message, replica, &setup.keys));
                events.push(Event::Message(verified));
            }
        }
        events.push(Event::Timeout(Timer::Progress { backoff: 0 }));
        let mut system = LocalSystem {
            replica,
            messages,
            events,
            is_own,
            cores: IndexMap::default(),
            values: IndexSet::default(),
            steps: Vec::new(),
            max_view,
            open: VecDeque::new(),
            is_open: Vec::new(),
        };
        let Started { to, sends } = tables.start(replica);
        let start = tables.local(to).clone();
        let first = system.add_core(tables, &start);
        system.send(first, &sends.iter().copied().collect());
        for place in 0..PARTS {
            let value = system.add_value(start.replica.receipts(Part::RECEIPTS[place]));
            system.hold(first, place, value);
        }
        system
    }

    /// What can happen: a message, or a time-out.
    pub(super) fn input(&self, event: usize) -> Input {
        self.messages.get(event).map_or(Input::TimeOut, |&message| Input::Message(message))
    }

    pub(super) fn cores(&self) -> usize {
        self.cores.len()
    }

    pub(super) fn core(&self, id: CoreId) -> &Local {
        self.cores.get_index(id as usize).expect("names are given by this table").0
    }

    /// The values that a part can have at a core.
    pub(super) fn held(&self, id: CoreId, place: Place) -> &IndexSet<ValueId, FixedState> {
        &self.cores[id as usize].held[place]
    }

    /// The updates of parts by steps from a core.
    pub(super) fn updates(&self, id: CoreId) -> impl Iterator<Item = &(CoreId, Place, ValueId, ValueId)> {
        self.cores[id as usize].updates.iter()
    }

    fn add_core(&mut self, tables: &Tables, state: &Local) -> CoreId {
        let replica = state.replica.core(tables.setup(self.replica));
        let local = Local { replica, history: state.history.clone() };
        let (index, _) = match self.cores.get_index_of(&local) {
            Some(known) => (known, ()),
            None => {
                let tried = self.events.iter().map(|_| Tried::Not).collect();
                let core = Core {
                    held: Default::default(),
                    tried,
                    flows: IndexSet::default(),
                    sent: BTreeSet::new(),
                    next: IndexSet::default(),
                    updates: IndexSet::default(),
                };
                self.is_open.push(false);
                (self.cores.insert_full(local, core).0, ())
            }
        };
        let id = CoreId::try_from(index).expect("a table of more than 2^32 entries does not fit in memory");
        if !self.is_open[index] && matches!(self.cores[index].tried.first(), Some(Tried::Not)) {
            self.is_open[index] = true;
            self.open.push_back(id);
        }
        id
    }

    fn add_value(&mut self, value: Receipts<Modelled>) -> ValueId {
        let index = self.values.insert_full(value).0;
        ValueId::try_from(index).expect("a table of more than 2^32 entries does not fit in memory")
    }

    /// A part can hold a value at a core, and wherever it goes on from there.
    fn hold(&mut self, core: CoreId, place: Place, value: ValueId) {
        let mut spread = vec![core];
        while let Some(at) = spread.pop() {
            let index = at as usize;
            if !self.cores[index].held[place].insert(value) {
                continue;
            }
            if !self.is_open[index] {
                self.is_open[index] = true;
                self.open.push_back(at);
            }
            let onward = self.cores[index].flows.iter().filter(|&&(_, of)| of == place);
            spread.extend(onward.map(|&(to, _)| to));
        }
    }

    fn flow(&mut self, from: CoreId, to: CoreId, place: Place) {
        if from == to || !self.cores[from as usize].flows.insert((to, place)) {
            return;
        }
        for value in self.cores[from as usize].held[place].clone() {
            self.hold(to, place, value);
        }
    }

    /// Walks it to its end, or until `watch` says why to stop.
    pub(super) fn walk(&mut self, tables: &mut Tables, conditions: &mut Conditions, watch: &mut Watch<'_>) {
        while let Some(core) = self.open.pop_front() {
            self.is_open[core as usize] = false;
            let mut scratches = Scratches::default();
            for event in 0..self.events.len() {
                if !self.can_happen(core, event) {
                    continue;
                }
                let mut tried = std::mem::replace(&mut self.cores[core as usize].tried[event], Tried::Not);
                let at = &mut (core, event, &mut scratches);
                self.try_all(tables, at, &mut Chosen::new(), &mut tried, conditions);
                self.cores[core as usize].tried[event] = tried;
            }
            if !conditions.goes_on(watch) {
                return;
            }
        }
    }

    /// Time-outs lead no further than the highest view, and what the replica itself signs has been sent.
    fn can_happen(&self, core: CoreId, event: usize) -> bool {
        let replica = &self.core(core).replica;
        match self.messages.get(event) {
            Some(message) => !self.is_own[event] || self.cores[core as usize].sent.contains(message),
            None => replica.leaving().unwrap_or(replica.view()) < self.max_view,
        }
    }

    /// On the way to a core this has been sent, and so it has been wherever a step leads from there.
    fn send(&mut self, core: CoreId, sent: &BTreeSet<MessageId>) {
        let mut spread = vec![core];
        while let Some(at) = spread.pop() {
            let known = &mut self.cores[at as usize];
            if sent.is_subset(&known.sent) {
                continue;
            }
            known.sent.extend(sent);
            spread.extend(known.next.iter().copied());
            if !self.is_open[at as usize] {
                self.is_open[at as usize] = true;
                self.open.push_back(at);
            }
        }
    }

    /// Takes a step for every choice of values that has not been tried.
    fn try_all(
        &mut self,
        tables: &mut Tables,
        at: &mut (CoreId, usize, &mut Scratches),
        chosen: &mut Chosen,
        tried: &mut Tried,
        conditions: &mut Conditions,
    ) {
        let core = at.0;
        if let Tried::Not = tried {
            *tried = self.take(tables, at, chosen, conditions);
        }
        let (place, with) = match tried {
            Tried::With(place, with) => (place, with),
            Tried::Taken(to, updates) => {
                for (place, seen) in updates {
                    while *seen < self.cores[core as usize].held[*place].len() {
                        let value = self.cores[core as usize].held[*place][*seen];
                        *seen += 1;
                        self.update(tables, at, *to, chosen, (*place, value), conditions);
                    }
                }
                return;
            }
            Tried::Not => return,
        };
        // A step of this very event may add values; they open the core again.
        for number in 0..self.cores[core as usize].held[*place].len() {
            let value = self.cores[core as usize].held[*place][number];
            if number == with.len() {
                with.push(Tried::Not);
            }
            chosen.push((*place, value));
            self.try_all(tables, at, chosen, &mut with[number], conditions);
            chosen.pop();
        }
    }

    /// What becomes of the value of a part that a step updates.
    fn update(
        &mut self,
        tables: &mut Tables,
        at: &mut (CoreId, usize, &mut Scratches),
        expected: CoreId,
        chosen: &Chosen,
        (place, value): (Place, ValueId),
        conditions: &mut Conditions,
    ) {
        let mut with = chosen.clone();
        with.push((place, value));
        let Outcome { changed, used, .. } = self.run(tables, at, &with);
        let (to, after) = match &changed {
            None => (at.0, value),
            Some((state, _)) => {
                (self.add_core(tables, state), self.add_value(state.replica.receipts(Part::RECEIPTS[place])))
            }
        };
        let is_apart = to == expected && !used.contains(&Part::RECEIPTS[place]);
        conditions.note(super::theorem::FRAME, is_apart, || {
            format!("r{}: a step updates {:?} and depends on it", self.replica.0, Part::RECEIPTS[place])
        });
        self.cores[at.0 as usize].updates.insert((to, place, value, after));
        self.hold(to, place, after);
    }

    /// Takes the step on a core with these values.
    fn run(
        &mut self,
        tables: &mut Tables,
        (core, event, scratches): &mut (CoreId, usize, &mut Scratches),
        chosen: &Chosen,
    ) -> Outcome {
        if !scratches.contains_key(chosen) {
            let mut kept = self.core(*core).clone();
            for &(place, value) in chosen {
                let value = self.values.get_index(value as usize).expect("names are given by this table");
                kept.replica.put_receipts(Part::RECEIPTS[place], value);
            }
            scratches.insert(chosen.clone(), Scratch { work: kept.clone(), kept });
        }
        let Scratch { kept, work } = &mut scratches[chosen];
        noted::begin();
        let sends = tables.take(self.replica, work, self.events[*event].clone());
        let used = noted::used().collect();
        let is_chosen = |place: &Place| chosen.iter().any(|(of, _)| of == place);
        let updated = noted::updated().filter_map(|part| Part::RECEIPTS.iter().position(|&of| of == part));
        let updated = updated.filter(|place| !is_chosen(place)).collect();
        let changed =
            (work != kept || !sends.is_empty()).then(|| (std::mem::replace(work, kept.clone()), sends));
        Outcome { changed, used, updated }
    }

    /// Takes one step, or says which part it uses that has no value yet.
    fn take(
        &mut self,
        tables: &mut Tables,
        at: &mut (CoreId, usize, &mut Scratches),
        chosen: &Chosen,
        conditions: &mut Conditions,
    ) -> Tried {
        let (core, event) = (at.0, at.1);
        let Outcome { changed, used, updated } = self.run(tables, at, chosen);
        let is_chosen = |place: &Place| chosen.iter().any(|(of, _)| of == place);
        for part in used {
            let place = Part::RECEIPTS.iter().position(|&of| of == part);
            conditions.note(super::theorem::SERVICES, place.is_some(), || {
                format!("r{}: a step uses {part:?}", self.replica.0)
            });
            if let Some(place) = place.filter(|place| !is_chosen(place)) {
                return Tried::With(place, Vec::new());
            }
        }
        let onward = updated.iter().map(|&place| (place, 0)).collect();
        let Some((state, sends)) = changed else {
            if !updated.is_empty() {
                let (used, left) = (chosen.clone(), chosen.clone());
                self.steps.push(Step {
                    from: core,
                    event,
                    used,
                    to: core,
                    left,
                    updated,
                    sends: Arc::default(),
                });
            }
            return Tried::Taken(core, onward);
        };
        let to = self.add_core(tables, &state);
        self.cores[core as usize].next.insert(to);
        let sent = &self.cores[core as usize].sent;
        let sent: BTreeSet<MessageId> = sent.iter().chain(&*sends).copied().collect();
        self.send(to, &sent);
        let mut left = Chosen::new();
        for &(place, _) in chosen {
            left.push((place, self.add_value(state.replica.receipts(Part::RECEIPTS[place]))));
        }
        for place in (0..PARTS).filter(|place| !is_chosen(place) && !updated.contains(place)) {
            let part = Part::RECEIPTS[place];
            let as_before = state.replica.receipts(part) == self.core(core).replica.receipts(part);
            conditions.note(super::theorem::FRAME, as_before, || {
                format!("r{}: a step changes {part:?} and does not use it", self.replica.0)
            });
            self.flow(core, to, place);
        }
        let setup = tables.setup(self.replica);
        let same = state.replica.normal_form(setup) == self.core(to).replica.normal_form(setup);
        conditions.note(super::theorem::FRAME, same, || {
            format!("r{}: the normal form is not that of the core", self.replica.0)
        });
        for &(place, value) in &left {
            self.hold(to, place, value);
        }
        self.steps.push(Step { from: core, event, used: chosen.clone(), to, left, updated, sends });
        Tried::Taken(to, onward)
    }
}

/// Whether a message is signed by this replica: not just in its name.
fn is_signed_by(message: &Message<Symbolic>, replica: ReplicaId, keys: &Keys) -> bool {
    fn is<T: Content>(signed: &Signed<T, Symbolic>, replica: ReplicaId, keys: &Keys) -> bool {
        signed.signer == Principal::Replica(replica) && signed.signature_is_valid(keys)
    }
    match message {
        Message::PrePrepare(m, _) => is(m, replica, keys),
        Message::Prepare(m) => is(m, replica, keys),
        Message::Commit(m) => is(m, replica, keys),
        Message::Checkpoint(m) => is(m, replica, keys),
        Message::ViewChange(m) => is(m, replica, keys),
        // A NEW-VIEW of its own goes by one name of many: let it come back at any time.
        _ => false,
    }
}
