//! Carrying out steps on whole replicas and clients.

use super::{Happening, Step};
use crate::adversary::Known;
use crate::crypto::Symbolic;
use crate::problem::Problem;
use crate::world::{
    Call, Clients, Delivery, Input, Joint, Local, LocalId, MAX_REPLICAS, MessageId, World, WorldConfig,
    carried_out_of, reply_subjects,
};
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::message::Message;
use pbft::rejection::Rejection;
use pbft::replica::verify::verify;
use pbft::replica::{Effect, Event, Expired, Fact, Subject};
use pbft::types::{Principal, View};
use pbft_properties::{Accepted, Violation};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

type Msg = Message<Symbolic>;

/// The whole state of a world: of each node, and what has been sent.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Configuration {
    locals: Vec<LocalId>,
    sent: BTreeSet<MessageId>,
    /// How often each node has crashed, where that is bounded.
    crashes: Vec<u8>,
}

/// What came of a step.
#[derive(Clone, Debug)]
pub struct StepResult {
    /// The state after it.
    pub after: Configuration,
    /// What the replica reports.
    pub facts: Vec<Fact>,
    /// What is new on the network.
    pub sent: Vec<Msg>,
    /// Why the replica dropped what happened, if it did.
    pub rejection: Option<Rejection>,
    /// What the client accepts.
    pub accepted: Vec<Accepted>,
    /// If the replica crashes, what it has then not carried out; nothing if it crashes between steps.
    pub undone: Option<Vec<Effect<Symbolic>>>,
}

/// Why a step cannot be taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Impossible {
    /// No correct node has sent this message by now, and the adversary cannot make it.
    NotAvailable,
    /// The node is Byzantine, or there is no such node.
    NotHere,
    /// The time-out would lead beyond the highest view, or the client waits for nothing.
    NoTimeOut,
}

/// A world of whole nodes in which steps are taken one at a time.
pub struct Executor {
    world: World,
    derived: IndexMap<BTreeSet<MessageId>, Arc<BTreeSet<MessageId>>, FixedState>,
}

impl Executor {
    /// The world with these bounds.
    ///
    /// # Errors
    /// If they make no sense ([`WorldConfig::problem`]).
    pub fn new(config: &WorldConfig) -> Result<Self, Problem> {
        Ok(Executor { world: World::new(config.clone(), Delivery::One)?, derived: IndexMap::default() })
    }

    /// The same world, judged by this property alone.
    #[must_use]
    pub fn judged_by(self, property: &'static str) -> Self {
        Executor { world: self.world.judged_by(property), ..self }
    }

    /// The bounds.
    pub fn config(&self) -> &WorldConfig {
        self.world.config()
    }

    /// The correct replicas, and then the clients that are part of the world.
    pub fn nodes(&self) -> &[Principal] {
        self.world.nodes()
    }

    /// The beginning.
    pub fn start(&mut self) -> Configuration {
        let steps: Vec<_> = (0..self.nodes().len()).map(|position| self.world.first_step(position)).collect();
        Configuration {
            locals: steps.iter().map(|step| step.to).collect(),
            crashes: vec![0; steps.len()],
            sent: (steps.iter().flat_map(|step| step.sends.iter().copied()))
                .chain(self.world.network.given().iter().copied())
                .collect(),
        }
    }

    /// What correct nodes have sent by now.
    pub fn sent(&self, configuration: &Configuration) -> Vec<&Msg> {
        configuration.sent.iter().map(|&id| self.world.tables.message(id)).collect()
    }

    /// The state of a correct replica.
    ///
    /// # Panics
    /// If the node at this position is a client.
    pub fn replica(&self, configuration: &Configuration, position: usize) -> &Local {
        assert!(position < self.world.correct().len(), "clients come after the replicas");
        self.world.tables.local(configuration.locals[position])
    }

    /// What a client that is part of the world has accepted.
    pub fn accepted(&self, configuration: &Configuration, position: usize) -> &[Accepted] {
        &self.world.tables.local_client(configuration.locals[position]).accepted
    }

    /// What a client does by itself in this state, in words: its next call, a time-out, or giving up.
    pub fn told_of_client(&self, configuration: &Configuration, position: usize, what: &Happening) -> String {
        let Principal::Client(client) = self.nodes()[position] else { return String::new() };
        match self.world.tables.idle_call(client, configuration.locals[position]) {
            _ if *what == Happening::Crash => "gives up its call".into(),
            Some((number, Call::Write)) => format!("begins call {number}: a write"),
            Some((number, Call::Read)) => format!("begins call {number}: a read"),
            None => "times out".into(),
        }
    }

    /// Everything that can be delivered to a node, in the order of contents.
    pub fn available(&mut self, configuration: &Configuration, node: Principal) -> Vec<Msg> {
        let derived = self.derived(configuration);
        let all = configuration.sent.iter().chain(derived.iter());
        let all = all.filter(|&&id| self.world.tables.reaches(id, node));
        let all: BTreeSet<&Msg> = all.map(|&id| self.world.tables.message(id)).collect();
        all.into_iter().cloned().collect()
    }

    /// Everything that can be delivered to anybody, in the order of contents.
    pub(crate) fn available_to_any(&mut self, configuration: &Configuration) -> Vec<MessageId> {
        let derived = self.derived(configuration);
        let mut all: Vec<_> = configuration.sent.union(&derived).copied().collect();
        all.sort_by(|&one, &other| self.world.tables.message(one).cmp(self.world.tables.message(other)));
        all
    }

    /// The world that the nodes are of.
    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Everything that the adversary can make of what has been sent.
    fn derived(&mut self, configuration: &Configuration) -> Arc<BTreeSet<MessageId>> {
        if let Some(known) = self.derived.get(&configuration.sent) {
            return known.clone();
        }
        let made = self.made_of(&self.sent(configuration));
        let made: BTreeSet<_> = made.into_iter().map(|m| self.world.tables.add_message(m)).collect();
        let made = Arc::new(made);
        self.derived.insert(configuration.sent.clone(), made.clone());
        made
    }

    /// What certificates the adversary can put together by now.
    pub(super) fn known(&self, configuration: &Configuration) -> Known {
        self.world.network.adversary().known(&self.sent(configuration))
    }

    /// What the adversary of this world makes of these messages.
    pub fn made_of(&self, sent: &[&Msg]) -> Vec<Msg> {
        let adversary = self.world.network.adversary();
        let mut made = adversary.derive(sent);
        if self.config().clients == Clients::Actors {
            let replies = reply_subjects(self.config()).into_iter();
            made.extend(replies.flat_map(|subject| adversary.about(subject, &[], None)));
        }
        made
    }

    /// Every step that changes something, in the order of nodes and contents; time-outs last.
    pub fn steps(&mut self, configuration: &Configuration) -> Vec<(Step, StepResult)> {
        let mut possible = Vec::new();
        for node in self.nodes().to_vec() {
            let messages = self.available(configuration, node).into_iter().map(Happening::Deliver);
            for what in messages.chain([Happening::TimeOut, Happening::Crash]) {
                let inside = self.crashes_during(configuration, node, &what);
                for what in [what].into_iter().chain(inside) {
                    let step = Step { node, what };
                    let came =
                        self.take_unchecked(configuration, &step).filter(|came| came.after != *configuration);
                    possible.extend(came.map(|came| (step, came)));
                }
            }
        }
        possible
    }

    /// Takes a step.
    ///
    /// # Errors
    /// If it cannot be taken.
    pub fn take(&mut self, configuration: &Configuration, step: &Step) -> Result<StepResult, Impossible> {
        if !self.nodes().contains(&step.node) {
            return Err(Impossible::NotHere);
        }
        if let Some(message) = step.what.message() {
            let known = configuration.sent.iter().any(|&id| {
                self.world.tables.message(id) == message && self.world.tables.reaches(id, step.node)
            });
            if !known && !self.available(configuration, step.node).contains(message) {
                return Err(Impossible::NotAvailable);
            }
        }
        self.take_unchecked(configuration, step).ok_or(Impossible::NoTimeOut)
    }

    /// Takes a step, whether or not the message can be there; none for a time-out that is not part of the
    /// world.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn take_unchecked(&mut self, configuration: &Configuration, step: &Step) -> Option<StepResult> {
        let position = self.nodes().iter().position(|&node| node == step.node).expect("the node is here");
        let local = configuration.locals[position];
        let message = step.what.message().map(|message| self.world.tables.add_message(message.clone()));
        let can_crash = match step.node {
            Principal::Replica(_) => self.world.can_crash(configuration.crashes[position]),
            Principal::Client(_) => self.world.tables.client_gives_up(local),
        };
        let crashes = self.config().crashes.unwrap_or_default();
        if crashes.between_steps && matches!(step.what, Happening::CrashDuring(..)) {
            return None;
        }
        let input = match (&step.what, message) {
            (Happening::Crash | Happening::CrashDuring(..), _) if !can_crash => return None,
            (Happening::TimeOut | Happening::CrashDuring(None, _), _)
                if !self.can_time_out(position, local) =>
            {
                return None;
            }
            (Happening::Crash, _) => Input::Crash,
            (Happening::CrashDuring(_, carried_out), message) => Input::CrashDuring(message, *carried_out),
            (_, Some(message)) => Input::Message(message),
            (_, None) => Input::TimeOut,
        };
        let taken = self.world.tables.step(step.node, local, input);
        let mut after = configuration.clone();
        after.locals[position] = taken.to;
        after.crashes[position] += u8::from(crashes.at_most.is_some() && step.what.crash().is_some());
        after.sent.extend(taken.sends.iter().copied());
        let new = taken.sends.iter().filter(|id| !configuration.sent.contains(id));
        let sent = new.map(|&id| self.world.tables.message(id).clone()).collect();
        let (facts, rejection) = self.reported(step, local);
        let accepted = match step.node {
            Principal::Replica(_) => Vec::new(),
            Principal::Client(_) => {
                let before = self.accepted(configuration, position).len();
                self.accepted(&after, position)[before..].to_vec()
            }
        };
        let undone = step.what.crash().map(|carried_out| self.undone(step, local, carried_out));
        Some(StepResult { after, facts, sent, rejection, accepted, undone })
    }

    /// What is not carried out when a replica crashes after so many effects of a step.
    fn undone(&self, step: &Step, local: LocalId, carried_out: u8) -> Vec<Effect<Symbolic>> {
        let (Principal::Replica(replica), message) = (step.node, step.what.message()) else {
            return Vec::new();
        };
        let setup = self.world.tables.setup(replica);
        let event = match message {
            Some(message) => verify(setup, message.clone()).ok().map(Event::Message),
            None if step.what == Happening::Crash => None,
            None => Some(Event::Timeout(Expired::Progress)),
        };
        let Some(event) = event else { return Vec::new() };
        let units = self.world.tables.units(&self.world.tables.local(local).replica, replica, event);
        units.into_iter().skip(usize::from(carried_out)).flatten().collect()
    }

    /// The crashes inside of what happens at a node.
    pub(crate) fn crashes_during(
        &mut self,
        configuration: &Configuration,
        node: Principal,
        what: &Happening,
    ) -> Vec<Happening> {
        let Principal::Replica(replica) = node else { return Vec::new() };
        let position = self.nodes().iter().position(|&other| other == node).expect("the node is here");
        let message = what.message().map(|message| self.world.tables.add_message(message.clone()));
        let input = match (what, message) {
            (_, Some(message)) => Input::Message(message),
            (Happening::TimeOut, None) => Input::TimeOut,
            _ => return Vec::new(),
        };
        let inside = self.world.tables.crashes_during(replica, configuration.locals[position], input);
        inside.into_iter().map(|input| Happening::new(what.message().cloned(), input.crash())).collect()
    }

    fn can_time_out(&self, position: usize, local: LocalId) -> bool {
        match self.nodes()[position] {
            Principal::Replica(_) => {
                let replica = &self.world.tables.local(local).replica;
                replica.leaving().unwrap_or(replica.view()) < self.config().max_view
            }
            Principal::Client(client) => self.world.tables.client_goes_on(client, local),
        }
    }

    /// What a node says of a step, which the history keeps only in part.
    fn reported(&self, step: &Step, local: LocalId) -> (Vec<Fact>, Option<Rejection>) {
        let replica = match (step.node, step.what.message()) {
            (Principal::Replica(replica), _) => replica,
            (Principal::Client(client), Some(message)) => {
                return (Vec::new(), self.world.tables.refusal(client, local, message));
            }
            (Principal::Client(_), None) => return (Vec::new(), None),
        };
        let event = match (&step.what, step.what.message()) {
            (Happening::Crash, _) => return (Vec::new(), None),
            (_, None) => Event::Timeout(Expired::Progress),
            (_, Some(message)) => match verify(self.world.tables.setup(replica), message.clone()) {
                Ok(verified) => Event::Message(verified),
                Err(reason) => return (Vec::new(), Some(reason)),
            },
        };
        let effects = self.world.tables.try_step(replica, local, event);
        match step.what.crash() {
            None => (effects.facts().cloned().collect(), effects.rejection()),
            Some(carried_out) => {
                let done = carried_out_of(effects, carried_out);
                let facts = done.into_iter().filter_map(|effect| match effect {
                    Effect::Fact(fact) => Some(fact),
                    _ => None,
                });
                (facts.collect(), None)
            }
        }
    }

    /// What is violated, if anything is.
    pub fn violation(&mut self, configuration: &Configuration) -> Option<Violation> {
        let joint = self.joint(configuration);
        self.world.judge.verdict(&joint).err()
    }

    /// Everything that is violated, each property by itself.
    pub fn all_violations(&mut self, configuration: &Configuration) -> Vec<Violation> {
        let joint = self.joint(configuration);
        self.world.judge.all_violations(&joint)
    }

    fn joint(&mut self, configuration: &Configuration) -> Joint {
        let mut joint = [0; MAX_REPLICAS];
        for (position, &local) in configuration.locals.iter().enumerate() {
            joint[position] = match self.world.nodes()[position] {
                Principal::Replica(_) => self.world.judge.name(&self.world.tables.local(local).history),
                Principal::Client(_) => {
                    let history = self.world.tables.client_history(local, &[]);
                    self.world.judge.name_client(history)
                }
            };
        }
        joint
    }

    /// The step with a correct primary's NEW-VIEW as it was sent here: explorations take one for all with the
    /// same `O`.
    pub(crate) fn as_sent(&self, configuration: &Configuration, step: Step) -> Step {
        let Some(Message::NewView(m)) = step.what.message() else { return step };
        let primary = self.config().cluster.primary(m.content.view);
        if m.signer != Principal::Replica(primary) || self.config().byzantine.contains(&primary) {
            return step;
        }
        let view = Subject::NewView(m.content.view);
        let mut sent =
            self.sent(configuration).into_iter().filter(|message| Subject::of(message) == Some(view));
        match sent.next() {
            Some(message) => Step { what: step.what.with(message.clone()), ..step },
            None => step,
        }
    }

    /// The view in which a replica is, and the one that it is leaving for.
    pub fn view(&self, configuration: &Configuration, position: usize) -> (View, Option<View>) {
        let replica = &self.replica(configuration, position).replica;
        (replica.view(), replica.leaving())
    }

    /// A digest of each node's state and of what it has done, in hexadecimal.
    pub fn digests(&self, configuration: &Configuration) -> Vec<String> {
        let digest = |(&node, &local): (&Principal, &LocalId)| match node {
            Principal::Replica(_) => digest_of(self.world.tables.local(local)),
            Principal::Client(_) => digest_of(self.world.tables.local_client(local)),
        };
        self.nodes().iter().zip(&configuration.locals).map(digest).collect()
    }
}

/// A name for a step by its content alone, the same in every world and in every order of steps: 10 hexadecimal
/// digits.
pub fn id_of(step: &Step) -> String {
    let mut id = digest_of(step);
    id.truncate(10);
    id
}

/// The SHA-256 of what a value's derived `Hash` covers: everything in it.
fn digest_of(value: &impl Hash) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    value.hash(&mut hasher);
    hex::encode(hasher.0.finalize())
}

struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        u64::from_le_bytes(*digest.first_chunk().expect("a digest is longer than 8 bytes"))
    }

    // Numbers as the same bytes on every machine.
    fn write_u16(&mut self, n: u16) {
        self.write(&n.to_le_bytes());
    }

    fn write_u32(&mut self, n: u32) {
        self.write(&n.to_le_bytes());
    }

    fn write_u64(&mut self, n: u64) {
        self.write(&n.to_le_bytes());
    }

    fn write_usize(&mut self, n: usize) {
        self.write(&(n as u64).to_le_bytes());
    }

    fn write_isize(&mut self, n: isize) {
        self.write(&(n as i64).to_le_bytes());
    }
}
