//! Client actors: production's client, with one request to make, as a part of the world.
//!
//! Each client asks for its operation at the start and sends REQUEST to the primary of view 0. Its time-out
//! may happen at any time while it waits: it sends to all. REPLYs are messages like any other, and what a
//! client accepts is what its own code reports; nothing is derived.
//!
//! A REQUEST reaches whom it was sent to. With a Byzantine replica about, it reaches everybody: the adversary
//! overhears the network and can pass on what others have signed; then a time-out adds nothing. A REPLY may
//! reach any client. A REQUEST that a replica relays is the client's own message: relayed to where the client
//! has sent it from the start, it adds nothing to the network, and is not mentioned again.

use super::tables::{Bare, Input, LocalId, MessageId, Step, Tables};
use super::{Modelled, WorldConfig};
use crate::crypto::Symbolic;
use crate::mutants::Rulebook;
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
use pbft::message::Message;
use pbft::rejection::Rejection;
use pbft::replica::{Destination, Setup, Subject};
use pbft::types::{ClientId, Principal, Timestamp};
use pbft_properties::Accepted;
use std::collections::BTreeSet;

/// A client, and what it has accepted so far.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LocalClient {
    /// The state of the real client.
    pub client: Client<Symbolic>,
    /// The results it has accepted.
    pub accepted: Vec<Accepted>,
}

/// The local states of all clients, and the steps between them.
pub(super) struct ClientTables {
    setups: Vec<ClientSetup<Symbolic, Rulebook>>,
    locals: IndexSet<LocalClient, FixedState>,
    steps: IndexMap<(ClientId, LocalId, Input), Step, FixedState>,
    /// Whether a REQUEST reaches nobody but those it is sent to.
    addressed: bool,
    /// The REQUESTs that are on the network from the start.
    first: BTreeSet<MessageId>,
}

impl ClientTables {
    pub(super) fn new(config: &WorldConfig) -> Self {
        ClientTables {
            setups: config.client_setups(),
            locals: IndexSet::default(),
            steps: IndexMap::default(),
            addressed: config.byzantine.is_empty(),
            first: BTreeSet::new(),
        }
    }

    fn setup(&self, client: ClientId) -> &ClientSetup<Symbolic, Rulebook> {
        &self.setups[client.0 as usize]
    }

    fn add(&mut self, local: LocalClient) -> LocalId {
        LocalId::new(self.locals.insert_full(local).0)
    }

    fn bare(&mut self, id: LocalId) -> Bare {
        let LocalClient { client, accepted } = self.local(id).clone();
        let alive = client.without_dead_state();
        let normal = self.add(LocalClient { client: alive.without_receipts(), accepted: accepted.clone() });
        Bare { alive: self.add(LocalClient { client: alive, accepted }), normal }
    }

    fn local(&self, id: LocalId) -> &LocalClient {
        self.locals.get_index(id.index()).expect("names are given by this table")
    }
}

impl Tables {
    /// The local state of a client with this name.
    pub fn local_client(&self, id: LocalId) -> &LocalClient {
        self.clients.local(id)
    }

    /// Whether a client heeds messages about `subject` in this state.
    pub(crate) fn client_heeds(&self, client: ClientId, id: LocalId, subject: Subject) -> bool {
        self.local_client(id).client.heeds(self.clients.setup(client), subject)
    }

    /// Starts a client, which asks for its operation at once; returns its local state and what it sends.
    pub(super) fn start_client(&mut self, client: ClientId) -> Step {
        let local = LocalClient { client: Client::new(ClientDurable::default()), accepted: Vec::new() };
        let operation = WorldConfig::operation(client);
        let event = ClientEvent::Invoke { operation, read_only: false, clock: Timestamp(0) };
        let step = self.react(client, local, event);
        self.clients.first.extend(step.sends.iter().copied());
        step
    }

    /// Takes a step of a client: the real code runs the first time only.
    pub(super) fn step_client(&mut self, client: ClientId, from: LocalId, input: Input) -> Step {
        if let Some(step) = self.clients.steps.get(&(client, from, input)) {
            return step.clone();
        }
        let event = match input {
            Input::TimeOut => Some(ClientEvent::Timeout),
            Input::Crash | Input::CrashDuring(..) => None,
            Input::Message(message) => {
                let message = self.message(message).clone();
                Client::verify(self.clients.setup(client), message).map(ClientEvent::Message).ok()
            }
        };
        let step = match event {
            Some(event) => self.react(client, self.local_client(from).clone(), event),
            None => Step { to: from, sends: [].into() },
        };
        self.clients.steps.insert((client, from, input), step.clone());
        step
    }

    /// Why a client would drop a message in this state, if it would; nothing is recorded.
    pub(crate) fn refusal(
        &self,
        client: ClientId,
        from: LocalId,
        message: &Message<Symbolic>,
    ) -> Option<Rejection> {
        let setup = self.clients.setup(client);
        let verified = match Client::verify(setup, message.clone()) {
            Ok(verified) => verified,
            Err(reason) => return Some(reason),
        };
        let mut effects = Vec::new();
        self.local_client(from).client.clone().step(setup, ClientEvent::Message(verified), &mut effects);
        effects.into_iter().find_map(|effect| match effect {
            ClientEffect::Reject(reason) => Some(reason),
            _ => None,
        })
    }

    fn react(&mut self, client: ClientId, mut local: LocalClient, event: ClientEvent<Symbolic>) -> Step {
        let mut effects = Vec::new();
        local.client.step(self.clients.setup(client), event, &mut effects);
        let mut sends = Vec::new();
        for effect in effects {
            match effect {
                ClientEffect::Send(to, message) => sends.push(self.add_request(to, message)),
                ClientEffect::Completed { timestamp, result } => {
                    local.accepted.push(Accepted { client, timestamp, result, read_only: false });
                }
                _ => {}
            }
        }
        sends.sort_unstable();
        Step { to: self.clients.add(local), sends: sends.into() }
    }

    pub(super) fn bare_client(&mut self, id: LocalId) -> Bare {
        self.clients.bare(id)
    }

    /// Names a REQUEST that a client sends.
    fn add_request(&mut self, to: Destination, request: Message<Symbolic>) -> MessageId {
        match to {
            Destination::Replica(replica) if self.clients.addressed => {
                self.add_addressed(Some(replica.into()), request)
            }
            _ => self.add_message(request),
        }
    }

    /// Names a REQUEST that a replica relays, unless it adds nothing to the network.
    pub(super) fn add_relayed(&mut self, to: Destination, request: Message<Symbolic>) -> Option<MessageId> {
        let id = self.add_request(to, request);
        (!self.clients.first.contains(&id)).then_some(id)
    }

    /// What to tell of the local state of `node`.
    pub(crate) fn show(&self, node: Principal, id: LocalId) -> String {
        match node {
            Principal::Replica(_) => format!("{:?}", self.local(id).replica),
            Principal::Client(_) => format!("{:?}", self.local_client(id).client),
        }
    }

    /// Whether `node`, in this state, heeds messages about `subject`.
    pub(crate) fn heeds(&self, node: Principal, id: LocalId, subject: Subject) -> bool {
        match node {
            Principal::Replica(replica) => {
                let setup: &Setup<Modelled> = self.setup(replica);
                self.local(id).replica.heeds(setup, subject)
            }
            Principal::Client(client) => self.client_heeds(client, id, subject),
        }
    }
}
