//! The first world once more, as a plain `stateright` model over production's actor: no tables, no memory of
//! steps, stateright's own search. It is the oracle for the engine.

use super::settle::is_left_out;
use super::{Modelled, WorldConfig};
use crate::crypto::Symbolic;
use pbft::actor::ReplicaActor;
use pbft::message::Message;
use pbft::replica::Replica;
use pbft::replica::Timeouts;
use pbft::types::Cluster;
use stateright::actor::{Actor, Command, Id, Out};
use stateright::{Model, Property};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The model.
pub struct Plain {
    actors: Vec<ReplicaActor<Modelled>>,
    requests: Vec<Message<Symbolic>>,
}

/// The replicas and what has been sent.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct PlainState {
    replicas: Vec<Arc<Replica<Modelled>>>,
    sent: BTreeSet<Message<Symbolic>>,
}

impl Plain {
    /// The world with these bounds.
    pub fn new(cluster: Cluster, clients: u32) -> Self {
        let config = WorldConfig::new(cluster, clients);
        let actor = |setup| ReplicaActor { setup, timeouts: Timeouts::default(), observer: None };
        Plain {
            actors: config.setups().into_iter().map(actor).collect(),
            requests: config.signed_requests().into_iter().map(Message::Request).collect(),
        }
    }

    fn send(state: &mut PlainState, out: Out<ReplicaActor<Modelled>>) {
        for command in out {
            match command {
                Command::Send(_, message) if is_left_out(&message, false) => {}
                Command::Send(_, message) => {
                    state.sent.insert(message);
                }
                _ => {}
            }
        }
    }

    fn deliver(&self, state: &mut PlainState, node: usize, message: Message<Symbolic>) {
        let mut out = Out::new();
        let replica = state.replicas[node].clone();
        let mut next = Cow::Borrowed(&*replica);
        // The source is not looked at; identity comes from the signature.
        self.actors[node].on_msg(Id::from(node), &mut next, Id::from(node), message, &mut out);
        if let Cow::Owned(next) = next {
            state.replicas[node] = Arc::new(next);
        }
        Self::send(state, out);
    }
}

impl Model for Plain {
    type State = PlainState;
    type Action = (usize, Message<Symbolic>);

    fn init_states(&self) -> Vec<PlainState> {
        let mut state = PlainState { replicas: Vec::new(), sent: self.requests.iter().cloned().collect() };
        for (node, actor) in self.actors.iter().enumerate() {
            let mut out = Out::new();
            state.replicas.push(Arc::new(actor.on_start(Id::from(node), &None, &mut out)));
            Self::send(&mut state, out);
        }
        vec![state]
    }

    fn actions(&self, state: &PlainState, actions: &mut Vec<Self::Action>) {
        for node in 0..self.actors.len() {
            actions.extend(state.sent.iter().map(|message| (node, message.clone())));
        }
    }

    fn next_state(&self, state: &PlainState, (node, message): Self::Action) -> Option<PlainState> {
        let mut next = state.clone();
        self.deliver(&mut next, node, message);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("agreement", |_: &Plain, state: &PlainState| {
                let executed: Vec<_> = state.replicas.iter().map(|r| &r.durable().executed).collect();
                executed.iter().all(|one| {
                    executed.iter().all(|other| {
                        one.iter().all(|(n, digest)| other.get(n).is_none_or(|theirs| theirs == digest))
                    })
                })
            }),
            Property::sometimes("everything executes everywhere", |model: &Plain, state: &PlainState| {
                state.replicas.iter().all(|r| r.last_executed().0 == model.requests.len() as u64)
            }),
        ]
    }
}
