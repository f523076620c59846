//! Local states, messages and sets of messages, each kept once; and the steps between them, each taken once.

use super::Modelled;
use crate::crypto::Symbolic;
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::message::Message;
use pbft::replica::verify::verify;
use pbft::replica::{Effect, Effects, Event, Fact, Replica, Setup, Timer};
use pbft::types::{ReplicaId, SeqNo};
use pbft_properties::History;
use std::sync::Arc;

/// Names a local state.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LocalId(u32);

/// Names a message.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MessageId(u32);

/// Names a set of messages.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SentId(u32);

/// A replica, and what it has done so far.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Local {
    /// The state of the real replica.
    pub replica: Replica<Modelled>,
    /// Its facts, for the properties.
    pub history: History,
}

/// What a step was taken on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Input {
    Message(MessageId),
    TimeOut,
}

/// Where a step leads, and what it sends.
#[derive(Clone, Debug)]
struct Step {
    to: LocalId,
    sends: Vec<MessageId>,
}

/// A local state without its dead parts, and without its receipts too.
#[derive(Clone, Copy, Debug)]
pub struct Bare {
    /// Without what no step reads again.
    pub alive: LocalId,
    /// Without what can arrive again, either.
    pub normal: LocalId,
}

/// The tables of one world.
pub struct Tables {
    setups: Vec<Arc<Setup<Modelled>>>,
    locals: IndexSet<Local, FixedState>,
    messages: IndexSet<Message<Symbolic>, FixedState>,
    sent: IndexSet<Vec<MessageId>, FixedState>,
    steps: IndexMap<(ReplicaId, LocalId, Input), Step, FixedState>,
    bare: IndexMap<(ReplicaId, LocalId), Bare, FixedState>,
    max_seq: SeqNo,
    /// Whether histories hold only what an exploration compares: see [`Tables::keep_only_observables`].
    observables_only: bool,
    cut_sends: u64,
    unions: IndexMap<(SentId, MessageId), SentId, FixedState>,
}

fn index(of: usize) -> u32 {
    u32::try_from(of).expect("a table of more than 2^32 entries does not fit in memory")
}

impl Tables {
    /// Empty tables for replicas with these configurations. Messages about sequence numbers above `max_seq` are
    /// not part of the world.
    pub fn new(setups: Vec<Arc<Setup<Modelled>>>, max_seq: SeqNo) -> Self {
        let mut sent = IndexSet::default();
        sent.insert(Vec::new());
        Tables {
            setups,
            locals: IndexSet::default(),
            messages: IndexSet::default(),
            sent,
            steps: IndexMap::default(),
            bare: IndexMap::default(),
            max_seq,
            observables_only: false,
            cut_sends: 0,
            unions: IndexMap::default(),
        }
    }

    /// The set of no messages.
    pub fn nothing_sent(&self) -> SentId {
        SentId(0)
    }

    /// The local state with this name.
    pub fn local(&self, id: LocalId) -> &Local {
        self.locals.get_index(id.0 as usize).expect("names are given by this table")
    }

    /// The message with this name.
    pub fn message(&self, id: MessageId) -> &Message<Symbolic> {
        self.messages.get_index(id.0 as usize).expect("names are given by this table")
    }

    /// The messages of a set.
    pub fn messages_of(&self, id: SentId) -> &[MessageId] {
        self.sent.get_index(id.0 as usize).expect("names are given by this table")
    }

    /// How many distinct local states, messages and sets of messages there are so far.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.locals.len(), self.messages.len(), self.sent.len())
    }

    /// How many distinct steps sent something about a sequence number beyond the highest.
    pub fn cut_sends(&self) -> u64 {
        self.cut_sends
    }

    /// Names a local state.
    pub fn add_local(&mut self, local: Local) -> LocalId {
        LocalId(index(self.locals.insert_full(local).0))
    }

    /// Names a message.
    pub fn add_message(&mut self, message: Message<Symbolic>) -> MessageId {
        MessageId(index(self.messages.insert_full(message).0))
    }

    /// The set `sent` with `message` added.
    pub fn with(&mut self, sent: SentId, message: MessageId) -> SentId {
        if let Some(&known) = self.unions.get(&(sent, message)) {
            return known;
        }
        let mut list = self.messages_of(sent).to_vec();
        let union = match list.binary_search(&message) {
            Ok(_) => sent,
            Err(place) => {
                list.insert(place, message);
                SentId(index(self.sent.insert_full(list).0))
            }
        };
        self.unions.insert((sent, message), union);
        union
    }

    /// From now on histories leave out what only tells how a state was reached: the views left on the way, and
    /// votes that lie in the window. Views entered, certificates and executions stay.
    pub fn keep_only_observables(&mut self) {
        self.observables_only = true;
    }

    /// The forms of a local state with less in them.
    pub fn bare(&mut self, replica: ReplicaId, id: LocalId) -> Bare {
        if let Some(&known) = self.bare.get(&(replica, id)) {
            return known;
        }
        let setup = self.setups[usize::from(replica.0)].clone();
        let local = self.local(id).clone();
        let alive = local.replica.without_dead_state(&setup);
        let normal = alive.without_receipts(&setup);
        let history = local.history;
        let alive = self.add_local(Local { replica: alive, history: history.clone() });
        let normal = self.add_local(Local { replica: normal, history });
        self.bare.insert((replica, id), Bare { alive, normal });
        Bare { alive, normal }
    }

    /// Starts a replica; returns its local state and what it sends.
    pub fn start(&mut self, replica: ReplicaId) -> (LocalId, Vec<MessageId>) {
        let mut effects = Effects::new();
        let setup = self.setups[usize::from(replica.0)].clone();
        let replica = Replica::start(&setup, None, &mut effects)
            .expect("the initial state is one the replica can start from");
        let mut local = Local { replica, history: History::default() };
        let sends = self.settle(&mut local, effects);
        (self.add_local(local), sends)
    }

    /// Delivers `message` to a replica in the state `from`: the real code runs the first time only. Nothing
    /// happens if the message does not verify.
    pub fn deliver(
        &mut self,
        replica: ReplicaId,
        from: LocalId,
        message: MessageId,
    ) -> (LocalId, Vec<MessageId>) {
        let input = Input::Message(message);
        if let Some(step) = self.steps.get(&(replica, from, input)) {
            return (step.to, step.sends.clone());
        }
        let event = verify(self.setup(replica), self.message(message).clone()).map(Event::Message);
        self.step(replica, from, input, event.ok())
    }

    /// Lets the progress timer of a replica in the state `from` fire.
    pub fn time_out(&mut self, replica: ReplicaId, from: LocalId) -> (LocalId, Vec<MessageId>) {
        if let Some(step) = self.steps.get(&(replica, from, Input::TimeOut)) {
            return (step.to, step.sends.clone());
        }
        let event = Event::Timeout(Timer::Progress { backoff: 0 });
        self.step(replica, from, Input::TimeOut, Some(event))
    }

    fn step(
        &mut self,
        replica: ReplicaId,
        from: LocalId,
        input: Input,
        event: Option<Event<Symbolic>>,
    ) -> (LocalId, Vec<MessageId>) {
        let mut step = Step { to: from, sends: Vec::new() };
        if let Some(event) = event {
            let mut local = self.local(from).clone();
            let mut effects = Effects::new();
            local.replica.step(&self.setups[usize::from(replica.0)], event, &mut effects);
            step.sends = self.settle(&mut local, effects);
            step.to = self.add_local(local);
        }
        self.steps.insert((replica, from, input), step.clone());
        (step.to, step.sends)
    }

    /// What an event would make a replica do in this state; nothing is recorded.
    pub fn try_step(&self, replica: ReplicaId, from: LocalId, event: Event<Symbolic>) -> Effects<Symbolic> {
        let mut state = self.local(from).replica.clone();
        let mut effects = Effects::new();
        state.step(self.setup(replica), event, &mut effects);
        effects
    }

    /// The configuration of a replica.
    pub fn setup(&self, replica: ReplicaId) -> &Setup<Modelled> {
        &self.setups[usize::from(replica.0)]
    }

    /// A vote inside of the window, or a view left: nothing that a property needs once it is checked here.
    fn is_unobserved(&self, local: &Local, fact: &Fact) -> bool {
        let h = local.history.h();
        match fact {
            Fact::PrePrepared { n, .. } => h < *n && n.0 <= h.0 + self.setups[0].parameters.window,
            Fact::ViewLeft { .. } => true,
            _ => false,
        }
    }

    /// Records the facts, and names the messages that are part of the world.
    fn settle(&mut self, local: &mut Local, effects: Effects<Symbolic>) -> Vec<MessageId> {
        let mut sends = Vec::new();
        let mut cut = false;
        for effect in effects {
            match effect {
                Effect::Fact(fact) if self.observables_only && self.is_unobserved(local, &fact) => {}
                Effect::Fact(fact) => local.history.record(&fact),
                Effect::Send(_, m) if is_left_out(&m) => {}
                Effect::Send(_, message) if number(&message).is_some_and(|n| n > self.max_seq) => cut = true,
                Effect::Send(_, message) => sends.push(self.add_message(message)),
                _ => {}
            }
        }
        self.cut_sends += u64::from(cut);
        sends
    }
}

/// Messages that are not part of a world: see the module above. Requests are on the network from the start.
pub(super) fn is_left_out(message: &Message<Symbolic>) -> bool {
    matches!(message, Message::Status(_) | Message::Fetch(_) | Message::Reply(_) | Message::Request(_))
}

/// The sequence number that a message of the normal case is about.
fn number(message: &Message<Symbolic>) -> Option<SeqNo> {
    match message {
        Message::PrePrepare(m, _) => Some(m.content.n),
        Message::Prepare(m) => Some(m.content.n),
        Message::Commit(m) => Some(m.content.n),
        Message::Checkpoint(m) => Some(m.content.n),
        _ => None,
    }
}
