//! One run: what becomes of a combination of local states when the network works from now on.

use crate::crypto::Symbolic;
use crate::words::{in_short, name};
use crate::world::{JointLocals, Modelled, World, WorldConfig};
use pbft::crypto::Signed;
use pbft::message::{Message, Request};
use pbft::parameters::MAX_WINDOW;
use pbft::replica::verify::verify;
use pbft::replica::{Effect, Effects, Event, Fact, Replica, Setup, Timeouts, Timer, nodes};
use pbft::types::{ClientId, Principal, ReplicaId, Timestamp};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

/// How long every message takes, in milliseconds.
pub const DELAY: u64 = 10;

/// A run that comes to more views than this above the highest at its start is stuck: each of f Byzantine
/// primaries can cost two, and one more may be needed to meet.
pub const MOST_VIEWS: u64 = 8;

/// A run that takes longer is stuck, in milliseconds.
const MOST_TIME: u64 = 120_000;

/// How often a client without an answer sends its request to every replica, in milliseconds.
const CLIENT_RETRIES: u64 = 200;

/// Between two STATUS messages, and the base of the progress time-out, in milliseconds: production's.
fn milliseconds(timer: Timer) -> u64 {
    u64::try_from(Timeouts::default().duration(timer).as_millis()).expect("time-outs are short")
}

/// The last things that happened, which a stuck run tells.
const TOLD: usize = 24;

/// What the Byzantine replicas do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Nothing.
    Silent,
    /// What a correct replica does that has just been initialized, but that it proposes nothing and begins no
    /// view when it is the primary: others wait for it as long as they can be made to.
    Stalls,
    /// The same, and it leaves each view as soon as it hears of it.
    Leaves,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: &'static [Strategy] = &[Strategy::Silent, Strategy::Stalls, Strategy::Leaves];
}

/// Where a run begins.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Start {
    pub(super) joint: JointLocals,
    /// Whether these are states after a restart.
    pub(super) restarted: bool,
    pub(super) strategy: Strategy,
}

/// How it ended.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// Views above the highest at the start.
    pub views: u64,
    /// Its own time.
    pub took_ms: u64,
    /// Whether some client has no answer.
    pub is_stuck: bool,
    /// What happened last.
    pub last: Vec<String>,
}

/// What every run of a world begins with.
pub(super) struct Cluster {
    config: WorldConfig,
    setups: Vec<Arc<Setup<Modelled>>>,
    requests: Vec<Signed<Request, Symbolic>>,
}

impl Cluster {
    pub(super) fn new(config: &WorldConfig) -> Self {
        let wide = WorldConfig { window: Some(MAX_WINDOW), ..config.clone() };
        Cluster { setups: wide.setups(), requests: config.signed_requests(), config: config.clone() }
    }

    pub(super) fn run(&self, world: &World, start: &Start) -> Ran {
        let mut run = Run {
            cluster: self,
            strategy: start.strategy,
            replicas: self.config.cluster.replicas().map(|_| None).collect(),
            generations: vec![(0, 0); self.config.cluster.n()],
            agenda: Agenda::default(),
            last: VecDeque::new(),
        };
        for (position, &id) in world.correct().iter().enumerate() {
            let local = world.tables().local(start.joint[position]);
            let mut replica = local.replica.clone();
            replica.put_new_view(world.entered_by(id, local));
            run.replicas[usize::from(id.0)] = Some(replica);
        }
        if start.strategy != Strategy::Silent {
            for &id in &self.config.byzantine {
                let mut effects = Effects::new();
                let replica = Replica::start(&self.setups[usize::from(id.0)], None, &mut effects);
                run.replicas[usize::from(id.0)] = replica.ok();
            }
        }
        run.go()
    }
}

/// What is under way.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Arrival {
    Message(Message<Symbolic>),
    Timer {
        timer: Timer,
        generation: u64,
    },
    /// The clients without an answer try again.
    Clients,
}

/// What is to happen, at which node, in the order of its time; ties in the order in which it was planned.
#[derive(Default)]
struct Agenda {
    now: u64,
    planned: u64,
    heap: BinaryHeap<Reverse<(u64, u64, usize, Arrival)>>,
}

impl Agenda {
    fn plan(&mut self, after: u64, node: usize, arrival: Arrival) {
        self.planned += 1;
        self.heap.push(Reverse((self.now + after, self.planned, node, arrival)));
    }

    fn next(&mut self) -> Option<(usize, Arrival)> {
        let Reverse((time, _, node, arrival)) = self.heap.pop()?;
        self.now = time;
        Some((node, arrival))
    }
}

struct Run<'a> {
    cluster: &'a Cluster,
    strategy: Strategy,
    /// None for one that is silent.
    replicas: Vec<Option<Replica<Modelled>>>,
    /// Of the status timer and the progress timer of each.
    generations: Vec<(u64, u64)>,
    agenda: Agenda,
    last: VecDeque<String>,
}

impl Run<'_> {
    fn go(mut self) -> Ran {
        let highest = self.highest_view();
        for node in 0..self.replicas.len() {
            self.set(node, Timer::Status);
            // Whoever waits for something, waits from now on.
            self.start_progress_timer(node);
        }
        self.agenda.plan(0, 0, Arrival::Clients);
        let mut is_stuck = true;
        while let Some((node, arrival)) = self.agenda.next() {
            if self.is_done() {
                is_stuck = false;
                break;
            }
            if self.agenda.now > MOST_TIME || self.highest_view() > highest + MOST_VIEWS {
                break;
            }
            self.happen(node, arrival);
        }
        Ran {
            views: self.highest_view() - highest,
            took_ms: self.agenda.now,
            is_stuck,
            last: if is_stuck { self.last.into() } else { Vec::new() },
        }
    }

    fn is_byzantine(&self, node: usize) -> bool {
        self.cluster.config.byzantine.iter().any(|id| usize::from(id.0) == node)
    }

    fn correct(&self) -> impl Iterator<Item = &Replica<Modelled>> {
        let correct = self.replicas.iter().enumerate().filter(|&(node, _)| !self.is_byzantine(node));
        correct.filter_map(|(_, replica)| replica.as_ref())
    }

    fn highest_view(&self) -> u64 {
        self.correct().map(|replica| replica.leaving().unwrap_or(replica.view()).0).max().unwrap_or(0)
    }

    fn has_executed(replica: &Replica<Modelled>, client: ClientId) -> bool {
        replica.clients().last_timestamp(client) >= Timestamp(1)
    }

    fn is_done(&self) -> bool {
        (0..self.cluster.config.requests).map(ClientId).all(|client| self.is_answered(client))
    }

    /// Whether f + 1 correct replicas have executed the client's request.
    fn is_answered(&self, client: ClientId) -> bool {
        let executed = self.correct().filter(|replica| Self::has_executed(replica, client)).count();
        executed > self.cluster.config.cluster.f()
    }

    fn happen(&mut self, node: usize, arrival: Arrival) {
        let setup = self.cluster.setups[node].clone();
        let event = match arrival {
            Arrival::Clients => return self.clients_try_again(),
            Arrival::Timer { timer, generation } => {
                let (status, progress) = self.generations[node];
                let current = if timer == Timer::Status { status } else { progress };
                if generation != current {
                    return;
                }
                self.tell(|| format!("{}: {timer:?} fires", label(node)), timer == Timer::Status);
                Event::Timeout(timer)
            }
            Arrival::Message(message) => match verify(&setup, message) {
                Ok(verified) => Event::Message(verified),
                Err(_) => return,
            },
        };
        self.step(node, &setup, event);
    }

    fn step(&mut self, node: usize, setup: &Setup<Modelled>, event: Event<Symbolic>) {
        let Some(replica) = &mut self.replicas[node] else { return };
        let before = replica.view();
        let mut effects = Effects::new();
        replica.step(setup, event, &mut effects);
        let is_new = replica.view() > before;
        self.carry_out(node, effects);
        if is_new && self.is_byzantine(node) && self.strategy == Strategy::Leaves {
            self.step(node, setup, Event::Timeout(Timer::Progress { backoff: 0 }));
        }
    }

    fn carry_out(&mut self, node: usize, effects: Effects<Symbolic>) {
        let mutes = self.is_byzantine(node);
        for effect in effects {
            match effect {
                Effect::Send(to, message) => {
                    let leads = matches!(message, Message::PrePrepare(..) | Message::NewView(_));
                    if mutes && leads || matches!(message, Message::Reply(_)) {
                        continue;
                    }
                    self.tell(|| format!("{}: sends {}", label(node), short(&message)), is_status(&message));
                    for to in nodes(&self.cluster.config.cluster, node, to) {
                        if self.replicas.get(to).is_some_and(Option::is_some) {
                            self.agenda.plan(DELAY, to, Arrival::Message(message.clone()));
                        }
                    }
                }
                Effect::SetTimer(timer) => self.set(node, timer),
                Effect::CancelProgressTimer => self.generations[node].1 += 1,
                Effect::Fact(fact @ (Fact::ViewEntered { .. } | Fact::Executed { .. })) => {
                    self.tell(|| format!("{}: {fact:?}", label(node)), false);
                }
                _ => {}
            }
        }
    }

    fn set(&mut self, node: usize, timer: Timer) {
        let (status, progress) = &mut self.generations[node];
        let generation = if timer == Timer::Status { status } else { progress };
        *generation += 1;
        let arrival = Arrival::Timer { timer, generation: *generation };
        self.agenda.plan(milliseconds(timer), node, arrival);
    }

    fn start_progress_timer(&mut self, node: usize) {
        let setup = &self.cluster.setups[node];
        let runs = self.replicas[node].as_ref().is_some_and(|replica| replica.runs_timer(setup));
        if runs {
            self.set(node, Timer::Progress { backoff: 0 });
        }
    }

    /// Every client that has no answer sends its request to all.
    fn clients_try_again(&mut self) {
        for request in &self.cluster.requests {
            if self.is_answered(request.content.client) {
                continue;
            }
            for node in (0..self.replicas.len()).filter(|&node| self.replicas[node].is_some()) {
                let message = Message::Request(request.clone());
                self.agenda.plan(DELAY, node, Arrival::Message(message));
            }
        }
        self.agenda.plan(CLIENT_RETRIES, 0, Arrival::Clients);
    }

    fn tell(&mut self, what: impl FnOnce() -> String, is_routine: bool) {
        if is_routine {
            return;
        }
        if self.last.len() == TOLD {
            self.last.pop_front();
        }
        self.last.push_back(format!("{:>7} ms  {}", self.agenda.now, what()));
    }
}

fn is_status(message: &Message<Symbolic>) -> bool {
    matches!(message, Message::Status(_))
}

fn short(message: &Message<Symbolic>) -> String {
    in_short(message, &|digest| format!("{digest:?}"))
}

fn label(node: usize) -> String {
    name(Principal::Replica(ReplicaId(u16::try_from(node).expect("a replica's index is small"))))
}
