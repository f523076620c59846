//! The unreduced local system of one replica: everything that it can become when any message of a set can
//! reach it at any time, any number of times, and its timer can fire at any time.
//!
//! A local state is taken apart into its *core* and its *cells* ([`pbft::replica::noted`]): what it has
//! received, one cell for each sender, number and view. The walk keeps for each core, and each cell, what the
//! cell can hold there, and takes every mixture for possible: more than can occur, never less. A step is
//! taken on a core and told of those cells only that it looks at, as it turns out while it is taken: where it
//! looks at a cell of which it has not been told, it is taken again with each answer, that is, empty or not,
//! if it looks for that alone, and each content otherwise. So it stands for the step on every state with this
//! core of which these answers are true, whatever is in the other cells; and what is in them it leaves there,
//! or drops without a look.
//!
//! A cell of which a step has not been told, or only that there is something, holds one of the things that it
//! can hold while the step is taken: what it holds afterwards shows whether the step drops it.
//!
//! What the replica itself has signed reaches it only once it has been sent, by itself or in the `O` of a
//! NEW-VIEW, out of which anybody can take it, on some path at least: nobody else can sign it.

use super::alike::{Others, others};
use super::bench::{Bench, Known, Scratch};
use super::cells::{ANY, CellId, Cells, Chosen, MOST_CELLS, MOST_VALUES, Then, Tried, Values, each};
use super::conditions::{Conditions, Watch};
use super::steps::{Left, Onward, Steps};
use super::theorem::FRAME;
use crate::crypto::{Keys, Symbolic};
use crate::world::{Local, MessageId, Modelled, Tables};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::crypto::{Content, Signed};
use pbft::message::Message;
use pbft::replica::noted::Cell;
use pbft::replica::verify::verify;
use pbft::replica::{Event, Expired, Replica};
use pbft::types::{Principal, ReplicaId, View};
use pbft_properties::contract::Ledger;
use smallvec::SmallVec;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Names a core.
pub(super) type CoreId = u32;

/// A core, and what its cells can hold.
pub(super) struct Core {
    /// Its normal form.
    pub(super) normal: Replica<Modelled>,
    held: Vec<Values>,
    /// For each event what has been tried.
    tried: Vec<Tried>,
    /// What goes on in the cells, to the cores that some step leads to.
    next: IndexMap<CoreId, Box<[Values]>, FixedState>,
    /// The cores that some step leads to.
    pub(super) after: IndexSet<CoreId, FixedState>,
    /// What has been sent on some path to it.
    pub(super) sent: BTreeSet<MessageId>,
}

/// The system, walked.
pub(super) struct LocalSystem {
    pub(super) replica: ReplicaId,
    /// The messages that its validator accepts.
    pub(super) messages: Vec<MessageId>,
    pub(super) events: Vec<Event<Symbolic>>,
    /// For each message what differs from it in `V` alone.
    pub(super) others: Vec<Others>,
    /// Whether the replica itself has signed the message.
    is_own: Vec<bool>,
    /// For each PRE-PREPARE the NEW-VIEWs that have it in their `O`.
    carriers: Vec<Vec<MessageId>>,
    pub(super) start: (Local, Arc<[MessageId]>),
    pub(super) cells: Cells,
    /// The cells themselves.
    pub(super) known: Arc<[Cell]>,
    pub(super) cores: IndexMap<Local, Core, FixedState>,
    pub(super) steps: Steps,
    /// The events that have been taken and judged at a core with all that differ from them in `V` alone.
    pub(super) is_judged_with_others: IndexSet<(CoreId, u32), FixedState>,
    /// Steps taken by the replica's code.
    pub(super) taken: u64,
    max_view: View,
    open: VecDeque<CoreId>,
    is_open: Vec<bool>,
    /// Whether the crash between steps has been taken at a core.
    has_crashed: Vec<bool>,
    /// The core of each state that a restart leads to, and what is in its cells.
    pub(super) restarted: IndexMap<Local, (CoreId, Left), FixedState>,
    /// A cell turned up that was not expected: the walk is to begin again.
    pub(super) is_outgrown: bool,
}

impl LocalSystem {
    /// The system of a replica that any of these messages can reach, not walked yet.
    pub(super) fn new(
        tables: &mut Tables,
        replica: ReplicaId,
        available: &[MessageId],
        max_view: View,
        by_contract: bool,
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
        events.push(Event::Timeout(Expired::Progress));
        let carriers = messages.iter().map(|&id| {
            let Message::PrePrepare(entry, _) = tables.message(id) else { return Vec::new() };
            let carries = |&&id: &&MessageId| match tables.message(id) {
                Message::NewView(m) => m.content.pre_prepares.contains(entry),
                _ => false,
            };
            available.iter().filter(carries).copied().collect()
        });
        let carriers = carriers.collect();
        let start = tables.start(replica);
        let mut start_state = tables.local(start.to).clone();
        start_state.ledger = by_contract.then(|| Arc::new(Ledger::new(tables.setup(replica))));
        let cells = Cells::of(replica, messages.iter().map(|&id| tables.message(id)), &start_state);
        LocalSystem {
            replica,
            others: others(tables, replica, &messages),
            messages,
            events,
            is_own,
            carriers,
            start: (start_state, start.sends),
            cells,
            known: Arc::new([]),
            cores: IndexMap::default(),
            steps: Steps::default(),
            is_judged_with_others: IndexSet::default(),
            taken: 0,
            max_view,
            open: VecDeque::new(),
            is_open: Vec::new(),
            has_crashed: Vec::new(),
            restarted: IndexMap::default(),
            is_outgrown: false,
        }
    }

    pub(super) fn cores(&self) -> usize {
        self.cores.len()
    }

    pub(super) fn core(&self, id: CoreId) -> &Local {
        self.cores.get_index(id as usize).expect("names are given by this table").0
    }

    /// What a cell can hold at a core.
    pub(super) fn held(&self, id: CoreId, cell: CellId) -> Values {
        self.cores[id as usize].held[cell]
    }

    /// The most that a cell can hold at any core.
    pub(super) fn most_held(&self) -> u32 {
        self.cores.values().flat_map(|core| core.held.iter().map(|held| held.count_ones())).max().unwrap_or(0)
    }

    /// Walks it to its end, or until `watch` says why to stop.
    pub(super) fn walk(&mut self, tables: &mut Tables, conditions: &mut Conditions, watch: &mut Watch<'_>) {
        loop {
            let size = self.cells.size();
            self.is_outgrown = false;
            if self.cells.have_names() {
                self.begin(tables);
                self.go_on(tables, conditions, watch);
            }
            let named = self.cells.have_names();
            conditions.note(FRAME, named, || {
                format!(
                    "r{}: more than {MOST_CELLS} cells, or more than {MOST_VALUES} values",
                    self.replica.0
                )
            });
            // Something turned up in a cell, or a cell did, that was not expected: what was told of cells may
            // not cover it.
            let is_whole = !self.is_outgrown && size == self.cells.size();
            if is_whole || !named || conditions.stopped.is_some() || conditions.failed() > 0 {
                return;
            }
        }
    }

    fn begin(&mut self, tables: &Tables) {
        self.cores.clear();
        self.steps = Steps::default();
        self.open.clear();
        self.is_open.clear();
        self.has_crashed.clear();
        self.restarted.clear();
        self.is_judged_with_others.clear();
        self.known = self.cells.all().map(|(_, cell)| *cell).collect();
        let (start, sends) = self.start.clone();
        let first = self.add_core(tables, &start);
        self.send(first, &sends.iter().copied().collect());
        for cell in 0..self.cells.count() {
            let value =
                self.cells.held_by(&start, cell).expect("what a cell holds at the start is its first name");
            self.hold(first, cell, 1 << value);
        }
    }

    pub(super) fn add_core(&mut self, tables: &Tables, state: &Local) -> CoreId {
        let Local { replica, history, stored, ledger } = state;
        let replica = replica.core(tables.setup(self.replica));
        let (history, stored, ledger) = (history.clone(), stored.clone(), ledger.clone());
        let local = Local { replica, history, stored, ledger };
        let index = match self.cores.get_index_of(&local) {
            Some(known) => known,
            None => {
                let core = Core {
                    normal: local.replica.normal_form(tables.setup(self.replica)),
                    held: vec![0; self.cells.count()],
                    tried: self.events.iter().map(|_| Tried::default()).collect(),
                    next: IndexMap::default(),
                    after: IndexSet::default(),
                    sent: BTreeSet::new(),
                };
                self.is_open.push(false);
                self.has_crashed.push(false);
                self.cores.insert_full(local, core).0
            }
        };
        let id = CoreId::try_from(index).expect("a table of more than 2^32 entries does not fit in memory");
        if self.cores[index].tried.first().is_some_and(|first| matches!(first.then, Then::Not)) {
            self.open(id);
        }
        id
    }

    /// The core of a state, if it has been met.
    #[cfg(test)]
    pub(super) fn find(&self, tables: &Tables, state: &Local) -> Option<CoreId> {
        let replica = state.replica.core(tables.setup(self.replica));
        let index = self.cores.get_index_of(&Local { replica, ..state.clone() })?;
        CoreId::try_from(index).ok()
    }

    fn open(&mut self, core: CoreId) {
        if !std::mem::replace(&mut self.is_open[core as usize], true) {
            self.open.push_back(core);
        }
    }

    /// A cell can hold these at a core, and wherever they go on from there.
    pub(super) fn hold(&mut self, core: CoreId, cell: CellId, values: Values) {
        let mut spread = vec![(core, values)];
        while let Some((at, values)) = spread.pop() {
            let known = &mut self.cores[at as usize].held[cell];
            let new = values & !*known;
            if new == 0 {
                continue;
            }
            *known |= new;
            self.open(at);
            let next = self.cores[at as usize].next.iter();
            spread.extend(next.map(|(&to, onward)| (to, new & onward[cell])));
        }
    }

    /// Some step leads from one core to another, and this goes on.
    pub(super) fn flow(&mut self, from: CoreId, to: CoreId, onward: &Onward) {
        if from == to {
            return;
        }
        let cells = self.cells.count();
        let core = &mut self.cores[from as usize];
        let known = core.next.entry(to).or_insert_with(|| vec![0; cells].into());
        let mut new: SmallVec<[(CellId, Values); 16]> = SmallVec::new();
        for (cell, known) in known.iter_mut().enumerate() {
            let more = onward.of(cell) & !*known;
            *known |= more;
            if more & core.held[cell] != 0 {
                new.push((cell, more & core.held[cell]));
            }
        }
        new.into_iter().for_each(|(cell, values)| self.hold(to, cell, values));
    }

    /// A step leads from one core to another and sends this: so all this has been sent on the way there.
    pub(super) fn leads(&mut self, from: CoreId, to: CoreId, sends: &[MessageId]) {
        let (before, after) = (&self.cores[from as usize].sent, &self.cores[to as usize].sent);
        if !before.is_subset(after) || !sends.iter().all(|message| after.contains(message)) {
            let sent = before.iter().chain(sends).copied().collect();
            self.send(to, &sent);
        }
        self.cores[from as usize].after.insert(to);
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
            spread.extend(known.after.iter().copied());
            self.open(at);
        }
    }

    fn go_on(&mut self, tables: &mut Tables, conditions: &mut Conditions, watch: &mut Watch<'_>) {
        while let Some(core) = self.open.pop_front() {
            self.is_open[core as usize] = false;
            let mut scratch = self.scratch(core);
            if tables.crashes().is_some() && !self.has_crashed[core as usize] {
                self.has_crashed[core as usize] = true;
                self.crash_between_steps(tables, core, &scratch, conditions);
            }
            for event in 0..u32::try_from(self.events.len()).expect("a world has few messages") {
                if self.is_outgrown {
                    return;
                }
                if !self.can_happen(core, event) {
                    continue;
                }
                let slot = &mut self.cores[core as usize].tried[event as usize];
                let mut tried = std::mem::take(slot);
                self.try_all(
                    tables,
                    (core, event),
                    &mut scratch,
                    &mut Chosen::new(),
                    (&mut tried, None),
                    conditions,
                );
                self.cores[core as usize].tried[event as usize] = tried;
            }
            if !conditions.goes_on(watch) {
                return;
            }
        }
    }

    /// Takes every step once more, as if none had been tried.
    #[cfg(test)]
    pub(super) fn walk_again(&mut self, tables: &mut Tables, conditions: &mut Conditions) {
        for core in self.cores.values_mut() {
            core.tried = self.events.iter().map(|_| Tried::default()).collect();
        }
        (0..).take(self.cores()).for_each(|core| self.open(core));
        self.go_on(tables, conditions, &mut |_| None);
    }

    /// A core with something in each cell that can hold anything.
    pub(super) fn scratch(&self, core: CoreId) -> Scratch {
        let state = self.core(core).clone();
        let mut disturbed = state.clone();
        disturbed.replica.disturb_services();
        let mut scratch = Scratch { one: Bench::of(state), other: Bench::of(disturbed) };
        for cell in 0..self.cells.count() {
            self.put_any(core, &mut scratch, cell, ANY);
        }
        scratch
    }

    /// Puts something into a cell that it can hold, rather something than nothing; whether there is any such
    /// thing.
    pub(super) fn put_any(&self, core: CoreId, scratch: &mut Scratch, cell: CellId, told: Values) -> bool {
        let possible = self.held(core, cell) & told;
        let full = each(possible).find(|&value| !self.cells.is_empty(cell, value));
        let any = full.or_else(|| each(possible).next());
        let empty = each(possible).find(|&value| self.cells.is_empty(cell, value));
        let other = empty.or_else(|| each(possible).last());
        if let (Some(any), Some(other)) = (any, other) {
            scratch.one.put(&self.cells, cell, any);
            scratch.other.put(&self.cells, cell, other);
        }
        any.is_some()
    }

    /// Time-outs lead no further than the highest view, and what the replica itself signs has been sent.
    pub(super) fn can_happen(&self, core: CoreId, event: u32) -> bool {
        let replica = &self.core(core).replica;
        match self.messages.get(event as usize) {
            Some(message) => {
                let sent = &self.cores[core as usize].sent;
                let carriers = &self.carriers[event as usize];
                !self.is_own[event as usize]
                    || sent.contains(message)
                    || carriers.iter().any(|carrier| sent.contains(carrier))
            }
            None => replica.leaving().unwrap_or(replica.view()) < self.max_view,
        }
    }

    /// Takes a step for every choice of answers that has not been tried. `known` is the step on what is in the
    /// cells now, if it has been taken.
    fn try_all(
        &mut self,
        tables: &mut Tables,
        at: (CoreId, u32),
        scratch: &mut Scratch,
        chosen: &mut Chosen,
        (tried, mut known): (&mut Tried, Option<Known>),
        conditions: &mut Conditions,
    ) {
        if let Then::Not = tried.then {
            (*tried, known) = self.take(tables, at, scratch, (chosen, known), conditions);
        }
        let before = chosen.len();
        self.go_along(at.0, chosen, tried);
        let Then::Look(choice) = &mut tried.then else { return chosen.truncate(before) };
        let (cell, seen) = (choice.cell, choice.seen);
        let told = self.cells.told(cell, chosen);
        // What is in the cell now comes first, as the step on that is known. A step of this very event may add
        // values; they open the core again.
        for (number, answer) in self.cells.answers_where(cell, seen, scratch.one.holds(cell)) {
            if !self.put_any(at.0, scratch, cell, told & self.cells.values(cell, answer)) {
                continue;
            }
            chosen.push((cell, answer));
            let with = (choice.with(number), known.take());
            self.try_all(tables, at, scratch, chosen, with, conditions);
            chosen.pop();
            if self.is_outgrown {
                break;
            }
        }
        self.put_any(at.0, scratch, cell, told);
        chosen.truncate(before);
    }

    /// Goes along the looks to which there was one answer only, up to the first to which there is another now.
    fn go_along(&self, core: CoreId, chosen: &mut Chosen, tried: &mut Tried) {
        for (at, &name) in tried.only.iter().enumerate() {
            let (cell, answer) = self.cells.named(name);
            let possible = self.held(core, cell) & self.cells.told(cell, chosen);
            if possible & !self.cells.values(cell, answer) != 0 {
                return tried.becomes_choice(at, cell, answer.place());
            }
            chosen.push((cell, answer));
        }
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
