//! Local states, messages and sets of messages, each kept once; and the steps between them, each taken once.

use super::Modelled;
use crate::crypto::Symbolic;
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::message::Message;
use pbft::replica::verify::verify;
use pbft::replica::{Effect, Effects, Event, Replica, Setup};
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

/// Where a step leads, and what it sends.
#[derive(Clone, Debug)]
struct Step {
    to: LocalId,
    sends: Vec<MessageId>,
}

/// The tables of one world.
pub struct Tables {
    setups: Vec<Arc<Setup<Modelled>>>,
    locals: IndexSet<Local, FixedState>,
    messages: IndexSet<Message<Symbolic>, FixedState>,
    sent: IndexSet<Vec<MessageId>, FixedState>,
    steps: IndexMap<(usize, LocalId, MessageId), Step, FixedState>,
    unions: IndexMap<(SentId, MessageId), SentId, FixedState>,
}

fn index(of: usize) -> u32 {
    u32::try_from(of).expect("a table of more than 2^32 entries does not fit in memory")
}

impl Tables {
    /// Empty tables for replicas with these configurations.
    pub fn new(setups: Vec<Arc<Setup<Modelled>>>) -> Self {
        let mut sent = IndexSet::default();
        sent.insert(Vec::new());
        Tables {
            setups,
            locals: IndexSet::default(),
            messages: IndexSet::default(),
            sent,
            steps: IndexMap::default(),
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

    /// Every local state so far.
    pub fn locals(&self) -> impl Iterator<Item = &Local> {
        self.locals.iter()
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

    /// Starts replica `node`; returns its local state and what it sends.
    pub fn start(&mut self, node: usize) -> (LocalId, Vec<MessageId>) {
        let mut effects = Effects::new();
        let replica = Replica::start(&self.setups[node], None, &mut effects)
            .expect("the initial state is one the replica can start from");
        let mut local = Local { replica, history: History::default() };
        let sends = self.settle(&mut local, effects);
        (self.add_local(local), sends)
    }

    /// Delivers `message` to replica `node` in the state `from`: the real code runs the first time only.
    /// Nothing happens if the message does not verify.
    pub fn deliver(&mut self, node: usize, from: LocalId, message: MessageId) -> (LocalId, Vec<MessageId>) {
        if let Some(step) = self.steps.get(&(node, from, message)) {
            return (step.to, step.sends.clone());
        }
        let step = match verify(&self.setups[node], self.message(message).clone()) {
            Err(_) => Step { to: from, sends: Vec::new() },
            Ok(verified) => {
                let mut local = self.local(from).clone();
                let mut effects = Effects::new();
                local.replica.step(&self.setups[node], Event::Message(verified), &mut effects);
                let sends = self.settle(&mut local, effects);
                Step { to: self.add_local(local), sends }
            }
        };
        self.steps.insert((node, from, message), step.clone());
        (step.to, step.sends)
    }

    /// What an event would make replica `node` do in this state; nothing is recorded.
    pub fn try_step(&self, node: usize, from: LocalId, event: Event<Symbolic>) -> Effects<Symbolic> {
        let mut replica = self.local(from).replica.clone();
        let mut effects = Effects::new();
        replica.step(&self.setups[node], event, &mut effects);
        effects
    }

    /// The configuration of replica `node`.
    pub fn setup(&self, node: usize) -> &Setup<Modelled> {
        &self.setups[node]
    }

    /// Records the facts, and names the messages that are part of the world.
    fn settle(&mut self, local: &mut Local, effects: Effects<Symbolic>) -> Vec<MessageId> {
        let mut sends = Vec::new();
        for effect in effects {
            match effect {
                Effect::Fact(fact) => local.history.record(&fact),
                Effect::Send(_, Message::Status(_) | Message::Fetch(_) | Message::Reply(_)) => {}
                Effect::Send(_, message) => sends.push(self.add_message(message)),
                _ => {}
            }
        }
        sends
    }
}
