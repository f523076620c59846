//! One run: what becomes of a combination of local states when the network works from now on.

use super::NAME;
use super::derives::Deriver;
use super::strategy::Strategy;
use super::told::Told;
use crate::crypto::Symbolic;
use crate::mutants::Rulebook;
use crate::story::{Names, fact_in_words};
use crate::words::{in_short, name};
use crate::world::{MessageId, Modelled, World, WorldConfig};
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
use pbft::crypto::Verified;
use pbft::message::Message;
use pbft::parameters::MAX_WINDOW;
use pbft::presence::{ProgressTimer, shows_presence};
use pbft::replica::verify::verify;
use pbft::replica::{
    Destination, Effect, Effects, Event, Expired, Fact, Replica, Setup, Timeouts, Timer, nodes,
};
use pbft::types::{ClientId, Principal, ReplicaId, Timestamp};
use pbft_properties::Violation;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

/// How long every message takes, in milliseconds.
pub const DELAY: u64 = 10;

/// A run that comes to more views than this above the highest at its start is stuck: each of f Byzantine
/// primaries can cost two, and one more may be needed to meet.
pub const MOST_VIEWS: u64 = 8;

/// A run that takes longer is stuck, in milliseconds.
const MOST_TIME: u64 = 120_000;

/// The base of a client's time-out, in milliseconds: production's.
const CLIENT_TIMEOUT: u64 = 100;

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("time-outs are short")
}

/// How it ended.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Views above the highest at the start.
    pub views: u64,
    /// Its own time, up to whatever was to happen next.
    pub took_ms: u64,
    /// The clients without a result; then it is stuck.
    pub waiting: Vec<ClientId>,
    /// What happened, if it is stuck: each thing once, of many different ones the last [`super::MOST_TOLD`].
    pub last: Vec<String>,
    /// The correct replicas at its end, if it is stuck.
    pub replicas: Vec<Replica<Modelled>>,
    /// The CHECKPOINTs that correct replicas sent, if it is stuck.
    pub checkpoints: BTreeSet<Message<Symbolic>>,
}

impl Ran {
    /// Whether some client has no result.
    pub fn is_stuck(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What that violates, if some client has none.
    pub fn violation(&self) -> Option<Violation> {
        let waiting: Vec<String> = self.waiting.iter().map(|&client| name(client.into())).collect();
        let has = if waiting.len() == 1 { "has" } else { "have" };
        let (views, waiting) = (counted(self.views, "more view"), waiting.join(" and "));
        let what = format!(
            "a request never executes: {views} and {:.1} s after everything sent was lost, {waiting} {has} no result",
            self.took_ms as f64 / 1000.0
        );
        self.is_stuck().then_some(Violation { property: NAME, what })
    }
}

/// What every run of a world begins with.
pub(super) struct Cluster {
    config: WorldConfig,
    setups: Vec<Arc<Setup<Modelled>>>,
    clients: Vec<ClientSetup<Symbolic, Rulebook>>,
    pub(super) deriver: Deriver,
    /// What a message that Byzantine replicas can keep is to each replica, if it is valid.
    pub(super) verified: IndexMap<(usize, MessageId), Verified<Message<Symbolic>>, FixedState>,
}

impl Cluster {
    /// `learnt` is all that Byzantine replicas can keep.
    pub(super) fn new(world: &World, learnt: &BTreeSet<MessageId>) -> Self {
        let config = world.config();
        let window = if config.checkpoint_interval.is_some() { config.window } else { Some(MAX_WINDOW) };
        let wide = WorldConfig { window, ..config.clone() };
        let setups = wide.setups();
        let to = |&id: &ReplicaId| {
            let node = usize::from(id.0);
            let checked =
                |&message: &MessageId| verify(&setups[node], world.tables().message(message).clone());
            learnt.iter().filter_map(|id| Some(((node, *id), checked(id).ok()?))).collect::<Vec<_>>()
        };
        Cluster {
            verified: world.correct().iter().flat_map(to).collect(),
            setups,
            clients: config.client_setups(),
            deriver: Deriver::new(&wide),
            config: config.clone(),
        }
    }

    /// Carries on from these states of the correct replicas, in the order of their positions; `learnt` is what
    /// the Byzantine replicas keep, in the order of contents.
    pub(super) fn run(
        &self,
        world: &World,
        strategy: Strategy,
        correct: Vec<Replica<Modelled>>,
        learnt: &[MessageId],
    ) -> Ran {
        let timer = |id| ProgressTimer::new(&self.config.cluster, id, Timeouts::default(), Duration::ZERO);
        let mut run = Run {
            cluster: self,
            strategy,
            replicas: self.config.cluster.replicas().map(|_| None).collect(),
            timers: self.config.cluster.replicas().map(timer).collect(),
            generations: vec![(0, 0); self.config.cluster.n()],
            clients: self.clients.iter().map(|_| Asking::new()).collect(),
            agenda: Agenda::default(),
            sent: BTreeSet::new(),
            told: Told::default(),
            checkpoints: BTreeSet::new(),
        };
        for (&id, replica) in world.correct().iter().zip(correct) {
            run.replicas[usize::from(id.0)] = Some(replica);
        }
        if matches!(strategy, Strategy::Stalls | Strategy::Leaves) {
            for &id in &self.config.byzantine {
                let mut effects = Effects::new();
                let replica = Replica::start(&self.setups[usize::from(id.0)], None, &mut effects);
                run.replicas[usize::from(id.0)] = replica.ok();
            }
        }
        run.go(world, learnt)
    }
}

/// What is under way.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Arrival {
    Message(Message<Symbolic>),
    Verified(Verified<Message<Symbolic>>),
    Timer { timer: Timer, generation: u64 },
    ClientTimer { generation: u64 },
}

/// What is to happen, at which node, in the order of its time; ties in the order in which it was planned.
#[derive(Default)]
pub(super) struct Agenda {
    now: u64,
    planned: u64,
    heap: BinaryHeap<Reverse<(u64, u64, usize, Arrival)>>,
}

impl Agenda {
    pub(super) fn plan(&mut self, after: u64, node: usize, arrival: Arrival) {
        self.planned += 1;
        self.heap.push(Reverse((self.now + after, self.planned, node, arrival)));
    }

    fn next(&mut self) -> Option<(usize, Arrival)> {
        let Reverse((time, _, node, arrival)) = self.heap.pop()?;
        self.now = time;
        Some((node, arrival))
    }
}

/// A client with one request.
struct Asking {
    client: Client<Symbolic>,
    /// Of its time-out.
    generation: u64,
    is_answered: bool,
}

impl Asking {
    fn new() -> Self {
        Asking { client: Client::new(ClientDurable::default()), generation: 0, is_answered: false }
    }
}

pub(super) struct Run<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) strategy: Strategy,
    /// None for one that is silent.
    pub(super) replicas: Vec<Option<Replica<Modelled>>>,
    /// The progress timer of each, as hosts keep it; nobody has been heard at first.
    timers: Vec<ProgressTimer>,
    /// Of the status timer and the progress timer of each.
    generations: Vec<(u64, u64)>,
    /// They come after the replicas in the order of nodes.
    clients: Vec<Asking>,
    pub(super) agenda: Agenda,
    /// What Byzantine replicas that derive have seen.
    pub(super) sent: BTreeSet<Message<Symbolic>>,
    told: Told,
    checkpoints: BTreeSet<Message<Symbolic>>,
}

impl Run<'_> {
    fn go(mut self, world: &World, learnt: &[MessageId]) -> Ran {
        let highest = self.highest_view();
        if self.strategy.derives() {
            self.begin_deriving(world, learnt);
        }
        for node in 0..self.replicas.len() {
            self.set(node, Timer::Status);
            // Whoever waits for something, waits from now on.
            self.start_progress_timer(node);
        }
        for index in 0..self.clients.len() {
            let id = client(index);
            let operation = WorldConfig::operation(id);
            let clock = Timestamp(0);
            self.step_client(index, ClientEvent::Invoke { operation, read_only: false, clock });
            if self.strategy.derives() {
                for reply in self.cluster.deriver.replies(id, Timestamp(1)) {
                    self.agenda.plan(0, self.replicas.len() + index, Arrival::Message(reply));
                }
            }
        }
        while let Some((node, arrival)) = self.agenda.next() {
            if self.waiting().is_empty() {
                break;
            }
            if self.agenda.now > MOST_TIME || self.highest_view() > highest + MOST_VIEWS {
                break;
            }
            self.happen(node, arrival);
        }
        let (views, took_ms, waiting) = (self.highest_view() - highest, self.agenda.now, self.waiting());
        if waiting.is_empty() {
            return Ran { views, took_ms, ..Ran::default() };
        }
        let replicas = self.correct().cloned().collect();
        Ran { views, took_ms, waiting, replicas, last: self.told.lines(), checkpoints: self.checkpoints }
    }

    pub(super) fn is_byzantine(&self, node: usize) -> bool {
        self.cluster.config.byzantine.iter().any(|id| usize::from(id.0) == node)
    }

    fn correct(&self) -> impl Iterator<Item = &Replica<Modelled>> {
        let correct = self.replicas.iter().enumerate().filter(|&(node, _)| !self.is_byzantine(node));
        correct.filter_map(|(_, replica)| replica.as_ref())
    }

    fn highest_view(&self) -> u64 {
        self.correct().map(|replica| replica.leaving().unwrap_or(replica.view()).0).max().unwrap_or(0)
    }

    fn waiting(&self) -> Vec<ClientId> {
        let waiting = self.clients.iter().enumerate().filter(|(_, client)| !client.is_answered);
        waiting.map(|(index, _)| client(index)).collect()
    }

    fn happen(&mut self, node: usize, arrival: Arrival) {
        if let Some(index) = node.checked_sub(self.replicas.len()) {
            return self.happen_to_client(index, arrival);
        }
        let setup = self.cluster.setups[node].clone();
        let event = match arrival {
            Arrival::ClientTimer { .. } => return,
            Arrival::Timer { timer, generation } => {
                let (status, progress) = self.generations[node];
                let current = if timer == Timer::Status { status } else { progress };
                if generation != current {
                    return;
                }
                if timer != Timer::Status {
                    let now = self.now();
                    if !self.timers[node].fires(now) {
                        return self.watch(node);
                    }
                    self.tell(node, || "times out".into());
                }
                Event::Timeout(timer.expired())
            }
            Arrival::Message(message) => match verify(&setup, message) {
                Ok(verified) => self.hear(node, verified),
                Err(_) => return,
            },
            Arrival::Verified(verified) => self.hear(node, verified),
        };
        self.step(node, &setup, event);
    }

    fn hear(&mut self, node: usize, message: Verified<Message<Symbolic>>) -> Event<Symbolic> {
        let now = self.now();
        let heard = shows_presence(&message);
        if heard.is_some_and(|replica| self.timers[node].heard(replica, now)) {
            self.watch(node);
        }
        Event::Message(message)
    }

    fn step(&mut self, node: usize, setup: &Setup<Modelled>, event: Event<Symbolic>) {
        let Some(replica) = &mut self.replicas[node] else { return };
        let before = replica.view();
        let mut effects = Effects::new();
        replica.step(setup, event, &mut effects);
        let is_new = replica.view() > before;
        self.carry_out(node, effects);
        if is_new && self.is_byzantine(node) && self.strategy == Strategy::Leaves {
            self.step(node, setup, Event::Timeout(Expired::Progress));
        }
    }

    fn carry_out(&mut self, node: usize, effects: Effects<Symbolic>) {
        let mutes = self.is_byzantine(node);
        let (mut left, mut entered) = (None, None);
        for effect in effects {
            match effect {
                Effect::Send(to, message) => {
                    let leads = matches!(message, Message::PrePrepare(..) | Message::NewView(_));
                    if mutes && leads {
                        continue;
                    }
                    if !mutes && matches!(message, Message::Checkpoint(_)) {
                        self.checkpoints.insert(message.clone());
                    }
                    if !matches!(message, Message::Status(_)) {
                        self.tell(node, || format!("sends {}", short(&message)));
                    }
                    self.deliver(node, to, &message);
                }
                Effect::SetTimer(timer) => self.set(node, timer),
                Effect::CancelProgressTimer => {
                    self.timers[node].cancel();
                    self.generations[node].1 += 1;
                }
                Effect::Fact(Fact::ViewLeft { to, .. }) => {
                    self.timers[node].view_left();
                    left = Some(to);
                }
                Effect::Fact(fact @ (Fact::ViewEntered { .. } | Fact::Executed { .. })) => {
                    self.tell(node, || fact_in_words(&fact, &Names::default()));
                    if let Fact::ViewEntered { view, .. } = fact {
                        entered = Some(view);
                    }
                }
                _ => {}
            }
        }
        if self.strategy.derives() {
            self.derive(node, left, entered);
        }
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.agenda.now)
    }

    fn set(&mut self, node: usize, timer: Timer) {
        match timer {
            Timer::Status => {
                let generation = &mut self.generations[node].0;
                *generation += 1;
                let arrival = Arrival::Timer { timer, generation: *generation };
                self.agenda.plan(milliseconds(Timeouts::default().status), node, arrival);
            }
            Timer::Progress { backoff } => {
                let now = self.now();
                self.timers[node].set(backoff, now);
                self.watch(node);
            }
        }
    }

    /// Plans to look at the progress timer when it is due, by the rule that hosts go by.
    fn watch(&mut self, node: usize) {
        let now = self.now();
        let generation = &mut self.generations[node].1;
        *generation += 1;
        let arrival = Arrival::Timer { timer: Timer::Progress { backoff: 0 }, generation: *generation };
        if let Some(due) = self.timers[node].due(now) {
            self.agenda.plan(milliseconds(due.saturating_sub(now)), node, arrival);
        }
    }

    fn start_progress_timer(&mut self, node: usize) {
        let setup = &self.cluster.setups[node];
        let runs = self.replicas[node].as_ref().is_some_and(|replica| replica.runs_timer(setup));
        if runs {
            self.set(node, Timer::Progress { backoff: 0 });
        }
    }

    fn happen_to_client(&mut self, index: usize, arrival: Arrival) {
        match arrival {
            Arrival::Message(message) => {
                if let Ok(verified) = Client::verify(&self.cluster.clients[index], message) {
                    self.step_client(index, ClientEvent::Message(verified));
                }
            }
            Arrival::ClientTimer { generation } if generation == self.clients[index].generation => {
                self.step_client(index, ClientEvent::Timeout);
            }
            _ => {}
        }
    }

    /// A client's step: it asks, hears a reply, or its time-out runs off.
    fn step_client(&mut self, index: usize, event: ClientEvent<Symbolic>) {
        let mut effects = Vec::new();
        let node = self.replicas.len() + index;
        self.clients[index].client.step(&self.cluster.clients[index], event, &mut effects);
        for effect in effects {
            match effect {
                ClientEffect::Send(to, message) => {
                    self.tell(node, || format!("sends {} to {}", short(&message), whom(to)));
                    self.deliver(node, to, &message);
                }
                ClientEffect::SetTimer { backoff } => {
                    self.clients[index].generation += 1;
                    let generation = self.clients[index].generation;
                    let arrival = Arrival::ClientTimer { generation };
                    self.agenda.plan(CLIENT_TIMEOUT << backoff, node, arrival);
                }
                ClientEffect::CancelTimer => self.clients[index].generation += 1,
                ClientEffect::Completed { .. } => self.clients[index].is_answered = true,
                _ => {}
            }
        }
    }

    /// Puts a message under way.
    fn deliver(&mut self, from: usize, to: Destination, message: &Message<Symbolic>) {
        if self.strategy.derives() {
            self.sent.insert(message.clone());
        }
        for to in nodes(&self.cluster.config.cluster, from, to) {
            if self.replicas.get(to).is_none_or(Option::is_some) {
                self.agenda.plan(DELAY, to, Arrival::Message(message.clone()));
            }
        }
    }

    fn label(&self, node: usize) -> String {
        let small = |index: usize| u16::try_from(index).expect("a world has few nodes");
        name(match node.checked_sub(self.replicas.len()) {
            Some(index) => client(index).into(),
            None => Principal::Replica(ReplicaId(small(node))),
        })
    }

    fn tell(&mut self, node: usize, what: impl FnOnce() -> String) {
        self.told.add(self.agenda.now, self.label(node), what());
    }
}

fn whom(to: Destination) -> String {
    match to {
        Destination::Replicas => "all replicas".into(),
        Destination::Replica(replica) => name(replica.into()),
        Destination::Client(client) => name(client.into()),
    }
}

fn client(index: usize) -> ClientId {
    ClientId(u32::try_from(index).expect("a world has few clients"))
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn short(message: &Message<Symbolic>) -> String {
    in_short(message, &|digest| format!("{digest:?}"))
}
