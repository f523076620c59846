//! Client actors: production's client, with requests to make, as a part of the world.
//!
//! Each client asks for one operation at the start; or it makes the calls of an [`Application`], one after the
//! other, and each begins at any time after the one before has ended. A REQUEST goes to the primary of the
//! view that the client presumes, a read to all. The client's time-out may happen at any time while it waits:
//! it sends to all, or has its read ordered. REPLYs are messages like any other, and what a client accepts is
//! what its own code reports; nothing is derived.
//!
//! Which call ended before which began is part of what a client has done. A client whose call has ended says
//! so to the other clients, outside of the system: a REPLY that it signs itself stands for that. Whatever of
//! this another client has heard when it begins a call had ended by then. It may have heard of any part, and
//! in some execution of all; what it has not heard of only makes the order between calls weaker, so nothing
//! is lost by that, and nothing is invented.
//!
//! A client that gives up is restarted from what is durable and makes its next call; what it asked for stays
//! on the network.
//!
//! A REQUEST reaches whom it was sent to. With a Byzantine replica about, it reaches everybody: the adversary
//! overhears the network and can pass on what others have signed; then a time-out adds nothing. A REPLY may
//! reach any client. A REQUEST that a replica relays is the client's own message: relayed to where the client
//! has sent it from the start, it adds nothing to the network, and is not mentioned again.

use super::application::{self, Application, Call};
use super::judge::ClientHistory;
use super::tables::{Bare, Input, LocalId, MessageId, Step, Tables};
use super::{Modelled, WorldConfig};
use crate::crypto::Symbolic;
use crate::mutants::Rulebook;
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
use pbft::crypto::Signed;
use pbft::message::{Message, Reply};
use pbft::rejection::Rejection;
use pbft::replica::{Destination, Setup, Subject};
use pbft::types::{Bytes, ClientId, Principal, ReplicaId, Timestamp, View};
use pbft_properties::Accepted;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

/// A call that has begun.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Begun {
    /// The timestamps of its requests: the first, and that of a read that had to be ordered.
    pub timestamps: Vec<Timestamp>,
    /// Of each other client, how many of its calls had begun when the last one ended of which this client had
    /// heard.
    pub heard: BTreeMap<ClientId, u8>,
    /// The result, and whether it came without being ordered, if it has ended.
    pub result: Option<(Bytes, bool)>,
}

/// A client, what it has accepted so far, and its calls.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalClient {
    /// The state of the real client.
    pub client: Client<Symbolic>,
    /// The results it has accepted.
    pub accepted: Vec<Accepted>,
    /// The calls of its application that have begun.
    pub begun: Vec<Begun>,
    /// What it has heard of others' calls since; see [`Begun::heard`].
    pub heard: BTreeMap<ClientId, u8>,
}

/// The names of states in stored counterexamples do not depend on applications that are not there.
impl Hash for LocalClient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.client.hash(state);
        self.accepted.hash(state);
        if !self.begun.is_empty() || !self.heard.is_empty() {
            (&self.begun, &self.heard).hash(state);
        }
    }
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
    /// What the clients call for, if not just for one thing each at the start.
    application: Option<Application>,
}

impl ClientTables {
    pub(super) fn new(config: &WorldConfig) -> Self {
        ClientTables {
            setups: config.client_setups(),
            locals: IndexSet::default(),
            steps: IndexMap::default(),
            addressed: config.byzantine.is_empty(),
            first: BTreeSet::new(),
            application: config.application.clone(),
        }
    }

    /// The next call of a client that has begun this, and its number from 0; none without an application.
    fn next_call(&self, client: ClientId, local: &LocalClient) -> Option<(usize, Call)> {
        let calls = self.application.as_ref()?.calls.get(client.0 as usize)?;
        let number = local.begun.len();
        Some((number, *calls.get(number)?))
    }

    /// A client that waits for nothing and has a call to make.
    fn is_idle(&self, client: ClientId, local: &LocalClient) -> bool {
        !local.client.is_waiting() && self.next_call(client, local).is_some()
    }

    fn setup(&self, client: ClientId) -> &ClientSetup<Symbolic, Rulebook> {
        &self.setups[client.0 as usize]
    }

    fn add(&mut self, local: LocalClient) -> LocalId {
        LocalId::new(self.locals.insert_full(local).0)
    }

    fn bare(&mut self, id: LocalId) -> Bare {
        let local = self.local(id).clone();
        let alive = LocalClient { client: local.client.without_dead_state(), ..local };
        let normal = LocalClient { client: alive.client.without_receipts(), ..alive.clone() };
        Bare { alive: self.add(alive), normal: self.add(normal) }
    }

    /// Whether the request with this timestamp was a read that is not to be ordered.
    fn is_unordered(&self, client: ClientId, local: &LocalClient, timestamp: Timestamp) -> bool {
        let calls =
            self.application.as_ref().and_then(|application| application.calls.get(client.0 as usize));
        let call = calls.and_then(|calls| calls.get(local.begun.len().checked_sub(1)?));
        let first = local.begun.last().and_then(|call| call.timestamps.first());
        call == Some(&Call::Read) && first == Some(&timestamp)
    }

    fn local(&self, id: LocalId) -> &LocalClient {
        self.locals.get_index(id.index()).expect("names are given by this table")
    }
}

/// Who says that a call has ended, and how many it had begun by then.
fn ended(message: &Message<Symbolic>) -> Option<(ClientId, u8)> {
    match message {
        Message::Reply(m) if matches!(m.signer, Principal::Client(_)) => {
            Some((m.content.client, u8::try_from(m.content.timestamp.0).ok()?))
        }
        _ => None,
    }
}

impl Tables {
    /// The local state of a client with this name.
    pub fn local_client(&self, id: LocalId) -> &LocalClient {
        self.clients.local(id)
    }

    /// Whether a client heeds messages about `subject` in this state.
    pub(crate) fn client_heeds(&self, client: ClientId, id: LocalId, subject: Subject) -> bool {
        let local = self.local_client(id);
        let of_other = matches!(subject, Subject::Reply(other, _) if other != client);
        of_other && self.clients.is_idle(client, local)
            || local.client.heeds(self.clients.setup(client), subject)
    }

    /// Whether something can happen to a client by itself: a time-out while it waits, or its next call.
    pub(crate) fn client_goes_on(&self, client: ClientId, id: LocalId) -> bool {
        let local = self.local_client(id);
        local.client.is_waiting() || self.clients.is_idle(client, local)
    }

    /// The call that a client which waits for nothing makes next, if there is one, and its number from 1.
    pub(crate) fn idle_call(&self, client: ClientId, id: LocalId) -> Option<(usize, Call)> {
        let local = self.local_client(id);
        let next = self.clients.next_call(client, local).filter(|_| !local.client.is_waiting());
        next.map(|(number, call)| (number + 1, call))
    }

    /// Whether a client may give up what it waits for.
    pub(crate) fn client_gives_up(&self, id: LocalId) -> bool {
        self.clients.application.as_ref().is_some_and(|application| application.gives_up)
            && self.local_client(id).client.is_waiting()
    }

    /// What a client in this state has done that has sent this. Where clients have calls to make, nobody asks
    /// whether one has retransmitted: that steps which only send come first would show in it.
    pub(crate) fn client_history(&self, id: LocalId, sent: &[MessageId]) -> ClientHistory {
        let LocalClient { accepted, begun, .. } = self.local_client(id).clone();
        let requests = sent.iter().filter(|&&id| matches!(self.message(id), Message::Request(_))).count();
        let retransmitted = requests > 1 && self.clients.application.is_none();
        ClientHistory { accepted, retransmitted, calls: begun }
    }

    /// Starts a client, which asks for its operation at once unless it has an application; returns its local
    /// state and what it sends.
    pub(crate) fn start_client(&mut self, client: ClientId) -> Step {
        let local = LocalClient {
            client: Client::new(ClientDurable::default()),
            accepted: Vec::new(),
            begun: Vec::new(),
            heard: BTreeMap::new(),
        };
        if self.clients.application.is_some() {
            return Step { to: self.clients.add(local), sends: [].into() };
        }
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
        let local = self.local_client(from).clone();
        let step = match input {
            Input::TimeOut if self.clients.is_idle(client, &local) => self.call(client, local),
            Input::TimeOut => self.react(client, local, ClientEvent::Timeout),
            Input::Crash if self.client_gives_up(from) => {
                let client = Client::new(local.client.durable());
                Step { to: self.clients.add(LocalClient { client, ..local }), sends: [].into() }
            }
            Input::Crash | Input::CrashDuring(..) => Step { to: from, sends: [].into() },
            Input::Message(message) => self.receive(client, from, message),
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
        if let Some((other, number)) = ended(message) {
            let local = self.local_client(from);
            let known = local.heard.get(&other).copied().unwrap_or_default();
            let matters = self.clients.is_idle(client, local) && number > known;
            return (!matters).then_some(Rejection::NotPending);
        }
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

    /// A message arrives at a client: a REPLY, or what another client says of its call.
    fn receive(&mut self, client: ClientId, from: LocalId, message: MessageId) -> Step {
        let mut local = self.local_client(from).clone();
        let message = self.message(message).clone();
        if let Some((other, number)) = ended(&message) {
            let known = local.heard.get(&other).copied().unwrap_or_default();
            if self.clients.is_idle(client, &local) && number > known {
                local.heard.insert(other, number);
                return Step { to: self.clients.add(local), sends: [].into() };
            }
            return Step { to: from, sends: [].into() };
        }
        match Client::verify(self.clients.setup(client), message) {
            Ok(message) => self.react(client, local, ClientEvent::Message(message)),
            Err(_) => Step { to: from, sends: [].into() },
        }
    }

    /// The next call of a client begins.
    fn call(&mut self, client: ClientId, mut local: LocalClient) -> Step {
        let Some((number, call)) = self.clients.next_call(client, &local) else {
            return Step { to: self.clients.add(local), sends: [].into() };
        };
        let is_last = self
            .clients
            .application
            .as_ref()
            .is_none_or(|application| application.calls[client.0 as usize].len() == number + 1);
        // After its last call it makes no difference what a client hears of.
        let heard = if is_last { std::mem::take(&mut local.heard) } else { local.heard.clone() };
        local.begun.push(Begun { timestamps: Vec::new(), heard, result: None });
        let operation = application::operation(client, number, call);
        let read_only = call == Call::Read;
        self.react(client, local, ClientEvent::Invoke { operation, read_only, clock: Timestamp(0) })
    }

    /// What a client says to the others when a call has ended: they are as many as it has begun.
    fn says_ended(&mut self, client: ClientId, begun: usize) -> Vec<MessageId> {
        let Some(application) = &self.clients.application else { return Vec::new() };
        let (view, timestamp) = (View(0), Timestamp(begun as u64));
        let reply =
            Reply { view, timestamp, client, replica: ReplicaId(u16::MAX - 1), result: Bytes::default() };
        let said = Message::Reply(Signed::new(reply, &*self.clients.setup(client).keys));
        let others = (0..application.clients()).map(ClientId).filter(|&other| other != client);
        others
            .collect::<Vec<_>>()
            .into_iter()
            .map(|other| self.add_addressed(Some(other.into()), said.clone()))
            .collect()
    }

    fn react(&mut self, client: ClientId, mut local: LocalClient, event: ClientEvent<Symbolic>) -> Step {
        let mut effects = Vec::new();
        local.client.step(self.clients.setup(client), event, &mut effects);
        let mut sends = Vec::new();
        for effect in effects {
            match effect {
                ClientEffect::Send(to, message) => {
                    if let (Some(call), Message::Request(m)) = (local.begun.last_mut(), &message)
                        && !call.timestamps.contains(&m.content.timestamp)
                    {
                        call.timestamps.push(m.content.timestamp);
                    }
                    sends.push(self.add_request(to, message));
                }
                ClientEffect::Completed { timestamp, result } => {
                    let read_only = self.clients.is_unordered(client, &local, timestamp);
                    if let Some(call) = local.begun.last_mut() {
                        call.result = Some((result.clone(), read_only));
                        sends.extend(self.says_ended(client, local.begun.len()));
                    }
                    local.accepted.push(Accepted { client, timestamp, result, read_only });
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
