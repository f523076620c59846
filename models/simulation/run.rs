//! One simulation from beginning to end.

use super::byzantine::{Byzantine, Parcels, Strategy, everybody};
use super::history::History as ClientHistory;
use super::network::{Agenda, Happening, MS, Time, Weather};
use super::{Config, Scheme, Simulated};
use pbft::actor::nodes;
use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
use pbft::crypto::Crypto;
use pbft::kv::{KeyValue, Operation};
use pbft::message::Message;
use pbft::rejection::Rejection;
use pbft::replica::verify::verify;
use pbft::replica::{Bundle, Durable, Effect, Effects, Event, Fact, Replica, Setup, Timer};
use pbft::rules::Rules;
use pbft::store::{Identity, open, seal};
use pbft::types::{Bytes, ClientId, Cluster, Digest, Parameters, ReplicaId, Timestamp};
use pbft::wire;
use pbft_properties::{Accepted, History, Snapshot, check_all};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

/// The network is hostile until this time.
const HEALS: Time = 1_200 * MS;
/// After this much more time every client must have its answers.
const PATIENCE: Time = 120_000 * MS;
/// Base of the progress time-out.
const PROGRESS: Time = 120 * MS;
/// Interval between STATUS messages.
const STATUS: Time = 40 * MS;
/// Base of the clients' time-out.
const CLIENT: Time = 150 * MS;

/// The bundles that can be simulated.
pub trait SimBundle: Bundle<Service = KeyValue> {}

impl<C: Crypto, R: Rules + Copy + Debug + Ord + Hash> SimBundle for Simulated<C, R> {}

/// What happened in a simulation that went well.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Messages delivered and timers fired.
    pub events: u64,
    /// Operations completed.
    pub completed: usize,
    /// The highest view that a correct replica entered.
    pub highest_view: u64,
    /// How often a correct replica crashed.
    pub crashes: u64,
    /// How often a correct replica fetched a state.
    pub transfers: u64,
    /// How many checkpoints became stable at a correct replica.
    pub stable_checkpoints: u64,
    /// Messages dropped, by reason.
    pub dropped: BTreeMap<Rejection, u64>,
    /// The virtual time at the end, in microseconds.
    pub time_us: u64,
}

/// What went wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// A property does not hold.
    Violation(String),
    /// The clients' history is not linearizable.
    NotLinearizable(String),
    /// The network had healed and a client got no answer.
    NoProgress(String),
    /// A replica could not restart from what it had stored.
    CannotRestart(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Violation(what) => write!(f, "violated: {what}"),
            Failure::NotLinearizable(what) => write!(f, "not linearizable: {what}"),
            Failure::NoProgress(what) => write!(f, "no progress: {what}"),
            Failure::CannotRestart(what) => write!(f, "cannot restart: {what}"),
        }
    }
}

/// A message on its way: as a value, or as the bytes it really travels as.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Parcel<C: Crypto> {
    Value(Arc<Message<C>>),
    Bytes(Arc<Vec<u8>>),
}

struct Server<B: Bundle> {
    setup: Arc<Setup<B>>,
    /// None while it is down.
    replica: Option<Replica<B>>,
    /// What its records add up to on stable storage.
    durable: Durable<B::Crypto>,
    progress: u64,
    status: u64,
}

struct Customer<C: Crypto, R: Rules> {
    setup: ClientSetup<C, R>,
    client: Client<C>,
    workload: Vec<(Bytes, bool)>,
    done: usize,
    timer: u64,
    /// The request sent last: its timestamp, and whether it is read-only.
    current: (Timestamp, bool),
}

enum Node<C: Scheme, R: Rules + Copy + Debug + Ord + Hash> {
    Correct(Box<Server<Simulated<C, R>>>),
    Byzantine(Box<Byzantine<Simulated<C, R>>>),
    Client(Box<Customer<C, R>>),
}

struct Simulation<C: Scheme, R: Rules + Copy + Debug + Ord + Hash> {
    config: Config,
    cluster: Cluster,
    parameters: Parameters,
    rng: ChaCha8Rng,
    agenda: Agenda<Parcel<C>>,
    weather: Weather,
    nodes: Vec<Node<C, R>>,
    histories: BTreeMap<ReplicaId, History>,
    authentic: BTreeSet<(ClientId, Timestamp, Bytes)>,
    accepted: Vec<Accepted>,
    clients: ClientHistory,
    genesis: KeyValue,
    report: Report,
    news: bool,
}

/// Runs one simulation over the scheme `C` and the rules `R`.
///
/// # Errors
/// The first failure; the same configuration fails in the same way every time.
pub fn run<C: Scheme, R: Rules + Copy + Debug + Ord + Hash>(
    config: &Config,
    rules: R,
) -> Result<Report, Failure> {
    let mut simulation = Simulation::<C, R>::new(config.clone(), rules);
    simulation.start()?;
    while !simulation.is_finished() {
        let Some(happening) = simulation.agenda.next() else { break };
        if simulation.agenda.now() > HEALS + PATIENCE {
            break;
        }
        simulation.report.events += 1;
        simulation.happen(happening)?;
        simulation.judge()?;
    }
    simulation.finish()
}

impl<C: Scheme, R: Rules + Copy + Debug + Ord + Hash> Simulation<C, R> {
    fn new(config: Config, rules: R) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let cluster = Cluster::new(config.n, config.f);
        let parameters = Parameters {
            checkpoint_interval: 2,
            window: rng.random_range(4..8),
            max_batch_requests: rng.random_range(1..4),
            max_batch_bytes: 256,
            max_in_flight: rng.random_range(1..4),
        };
        let (replica_keys, client_keys) = C::keys(config.n, config.clients);
        let mut liars: BTreeSet<usize> = BTreeSet::new();
        while liars.len() < usize::from(config.byzantine) {
            liars.insert(rng.random_range(0..cluster.n()));
        }
        let mut nodes = Vec::new();
        let mut histories = BTreeMap::new();
        for (id, keys) in cluster.replicas().zip(replica_keys) {
            let setup = Arc::new(Setup {
                id,
                cluster,
                parameters,
                keys: Arc::new(keys),
                clients: config.clients,
                rules,
                genesis: KeyValue::default(),
            });
            if liars.contains(&usize::from(id.0)) {
                let any = *Strategy::ALL.choose(&mut rng).expect("there are strategies");
                let strategy = config.strategy.unwrap_or(any);
                nodes.push(Node::Byzantine(Box::new(Byzantine::new(setup, strategy))));
            } else {
                histories.insert(id, History::default());
                let server =
                    Server { setup, replica: None, durable: Durable::default(), progress: 0, status: 0 };
                nodes.push(Node::Correct(Box::new(server)));
            }
        }
        for (id, keys) in (0..config.clients).map(ClientId).zip(client_keys) {
            let setup = ClientSetup { id, cluster, keys: Arc::new(keys), rules };
            let workload = workload(config.operations, &mut rng);
            let client = Client::new(ClientDurable::default());
            let current = (Timestamp(0), false);
            let customer = Customer { setup, client, workload, done: 0, timer: 0, current };
            nodes.push(Node::Client(Box::new(customer)));
        }
        let weather = Weather { loss: config.loss, away: BTreeSet::new(), healed: false };
        Simulation {
            config,
            cluster,
            parameters,
            rng,
            agenda: Agenda::new(),
            weather,
            nodes,
            histories,
            authentic: BTreeSet::new(),
            accepted: Vec::new(),
            clients: ClientHistory::new(),
            genesis: KeyValue::default(),
            report: Report::default(),
            news: false,
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        for node in 0..self.nodes.len() {
            match &self.nodes[node] {
                Node::Correct(_) => self.restart(node)?,
                Node::Byzantine(_) => self.agenda.plan(10 * MS, Happening::Mischief { node }),
                Node::Client(_) => self.invoke_next(node),
            }
        }
        if self.config.crashes {
            for _ in 0..self.rng.random_range(0..6) {
                let node = self.rng.random_range(0..self.cluster.n());
                let when = self.rng.random_range(0..HEALS);
                self.agenda.plan(when, Happening::Crash { node });
            }
        }
        if self.config.partitions {
            for _ in 0..self.rng.random_range(0..3) {
                let away = (0..self.nodes.len()).filter(|_| self.rng.random_range(0..3) == 0).collect();
                let when = self.rng.random_range(0..HEALS);
                self.agenda.plan(when, Happening::Split { away });
            }
        }
        self.agenda.plan(HEALS, Happening::Join);
        Ok(())
    }

    fn happen(&mut self, happening: Happening<Parcel<C>>) -> Result<(), Failure> {
        match happening {
            Happening::Arrival { to, message } => self.arrive(to, message),
            Happening::Timer { node, status, generation } => self.fire(node, status, generation),
            Happening::Crash { node } => self.crash(node),
            Happening::Restart { node } => self.restart(node)?,
            Happening::Split { away } if !self.weather.healed => self.weather.away = away,
            Happening::Split { .. } => {}
            Happening::Join => {
                self.weather.away.clear();
                self.weather.healed = true;
            }
            Happening::Mischief { node } => self.mischief(node),
        }
        Ok(())
    }

    // --- the network ---

    fn transmit(&mut self, from: usize, to: usize, message: &Message<C>) {
        for delay in self.weather.delays(from, to, &mut self.rng) {
            let parcel = if self.config.wire {
                let mut bytes = wire::encode(message);
                if !self.weather.healed && self.rng.random_range(0..50) == 0 {
                    let place = self.rng.random_range(0..bytes.len());
                    bytes[place] ^= 1 << self.rng.random_range(0..8);
                }
                Parcel::Bytes(Arc::new(bytes))
            } else {
                Parcel::Value(Arc::new(message.clone()))
            };
            self.agenda.plan(delay, Happening::Arrival { to, message: parcel });
        }
    }

    fn transmit_all(&mut self, from: usize, parcels: Parcels<C>) {
        for (to, message) in parcels {
            self.transmit(from, to, &message);
        }
    }

    fn drop_message(&mut self, reason: Rejection) {
        *self.report.dropped.entry(reason).or_default() += 1;
    }

    fn arrive(&mut self, to: usize, parcel: Parcel<C>) {
        let message = match parcel {
            Parcel::Value(message) => Message::clone(&message),
            Parcel::Bytes(bytes) => match wire::decode(&bytes) {
                Ok(message) => message,
                Err(reason) => return self.drop_message(reason),
            },
        };
        match &mut self.nodes[to] {
            Node::Correct(server) => {
                if server.replica.is_none() {
                    return;
                }
                match verify(&server.setup, message) {
                    Ok(message) => self.step(to, Event::Message(message)),
                    Err(reason) => self.drop_message(reason),
                }
            }
            Node::Byzantine(liar) => {
                let parcels = liar.on_message(message, &mut self.rng);
                self.transmit_all(to, parcels);
            }
            Node::Client(customer) => match Client::verify(&customer.setup, message) {
                Ok(message) => self.step_client(to, ClientEvent::Message(message)),
                Err(reason) => self.drop_message(reason),
            },
        }
    }

    fn fire(&mut self, node: usize, status: bool, generation: u64) {
        match &self.nodes[node] {
            Node::Correct(server) => {
                let current = if status { server.status } else { server.progress };
                if server.replica.is_some() && current == generation {
                    let timer = if status { Timer::Status } else { Timer::Progress { backoff: 0 } };
                    self.step(node, Event::Timeout(timer));
                }
            }
            Node::Client(customer) if customer.timer == generation => {
                self.step_client(node, ClientEvent::Timeout);
            }
            _ => {}
        }
    }

    fn mischief(&mut self, node: usize) {
        if let Node::Byzantine(liar) = &mut self.nodes[node] {
            let parcels = liar.mischief(&mut self.rng);
            self.transmit_all(node, parcels);
            let pause = if self.weather.healed { 200 * MS } else { 30 * MS };
            self.agenda.plan(pause, Happening::Mischief { node });
        }
    }

    // --- correct replicas ---

    fn step(&mut self, node: usize, event: Event<C>) {
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        let Some(replica) = &mut server.replica else { return };
        let mut effects = Effects::new();
        replica.step(&server.setup, event, &mut effects);
        self.carry_out(node, effects);
    }

    /// Carries out the effects in order, or as many of them as a crash leaves time for.
    fn carry_out(&mut self, node: usize, effects: Effects<C>) {
        let crashes = self.config.crashes && !self.weather.healed && self.rng.random_range(0..150) == 0;
        let mut left = crashes.then(|| self.rng.random_range(0..=effects.iter().count()));
        for effect in effects {
            // A fact goes with the record before it, so the crash comes after the fact.
            let is_fact = matches!(effect, Effect::Fact(_));
            if let Some(left) = &mut left {
                if *left == 0 && !is_fact {
                    return self.crash(node);
                }
                *left = left.saturating_sub(1);
            }
            self.carry_out_one(node, effect);
        }
    }

    fn carry_out_one(&mut self, node: usize, effect: Effect<C>) {
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        match effect {
            Effect::Persist(record) => server.durable.apply(&record, &server.setup.rules),
            Effect::Send(to, message) => {
                for to in everybody(&server.setup.clone(), to) {
                    self.transmit(node, to, &message);
                }
            }
            Effect::SetTimer(timer) => {
                let (status, generation, after) = match timer {
                    Timer::Status => {
                        server.status += 1;
                        (true, server.status, STATUS)
                    }
                    Timer::Progress { backoff } => {
                        server.progress += 1;
                        (false, server.progress, PROGRESS << backoff)
                    }
                };
                let after = after + self.rng.random_range(0..after / 4);
                self.agenda.plan(after, Happening::Timer { node, status, generation });
            }
            Effect::CancelProgressTimer => server.progress += 1,
            Effect::Fact(fact) => self.record(node, &fact),
            Effect::Reject(reason) => self.drop_message(reason),
        }
    }

    fn record(&mut self, node: usize, fact: &Fact) {
        match fact {
            Fact::ViewEntered { view, .. } => {
                self.report.highest_view = self.report.highest_view.max(view.0);
            }
            Fact::StateTransferred { .. } => self.report.transfers += 1,
            Fact::CheckpointStable { .. } => self.report.stable_checkpoints += 1,
            _ => {}
        }
        let replica = ReplicaId(u16::try_from(node).expect("a replica's index is small"));
        self.trace(|| format!("r{node} {fact:?}"));
        if let Some(history) = self.histories.get_mut(&replica) {
            history.record(fact);
            self.news = true;
        }
    }

    fn trace(&self, line: impl FnOnce() -> String) {
        if self.config.trace {
            eprintln!("{:>9} us {}", self.agenda.now(), line());
        }
    }

    fn crash(&mut self, node: usize) {
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        if server.replica.take().is_some() {
            self.trace(|| format!("r{node} crashes"));
            self.report.crashes += 1;
            let down = self.rng.random_range(10 * MS..400 * MS);
            self.agenda.plan(down, Happening::Restart { node });
        }
    }

    fn restart(&mut self, node: usize) -> Result<(), Failure> {
        let Node::Correct(server) = &mut self.nodes[node] else { return Ok(()) };
        server.progress += 1;
        server.status += 1;
        let identity = Identity {
            domain: Digest::NULL,
            replica: server.setup.id,
            cluster: self.cluster,
            parameters: self.parameters,
        };
        let stored = if self.config.wire {
            open(&identity, &seal(&identity, &server.durable))
                .map_err(|error| Failure::CannotRestart(error.to_string()))?
        } else {
            server.durable.clone()
        };
        let mut effects = Effects::new();
        let replica = Replica::start(&server.setup, Some(stored), &mut effects)
            .map_err(|error| Failure::CannotRestart(error.to_string()))?;
        server.replica = Some(replica);
        self.carry_out(node, effects);
        Ok(())
    }

    // --- clients ---

    fn invoke_next(&mut self, node: usize) {
        let Node::Client(customer) = &self.nodes[node] else { return };
        let Some((operation, read_only)) = customer.workload.get(customer.done).cloned() else { return };
        self.clients.invoked(customer.setup.id, operation.clone());
        let clock = Timestamp(self.agenda.now());
        self.step_client(node, ClientEvent::Invoke { operation, read_only, clock });
    }

    fn step_client(&mut self, node: usize, event: ClientEvent<C>) {
        let Node::Client(customer) = &mut self.nodes[node] else { return };
        let mut effects = Vec::new();
        customer.client.step(&customer.setup, event, &mut effects);
        for effect in effects {
            self.carry_out_client(node, effect);
        }
    }

    fn carry_out_client(&mut self, node: usize, effect: ClientEffect<C>) {
        let Node::Client(customer) = &mut self.nodes[node] else { return };
        match effect {
            ClientEffect::Persist(_) => {}
            ClientEffect::Send(to, message) => {
                if let Message::Request(request) = &message {
                    let request = &request.content;
                    customer.current = (request.timestamp, request.read_only);
                    if !request.read_only {
                        let known = (request.client, request.timestamp, request.operation.clone());
                        self.authentic.insert(known);
                    }
                }
                for to in nodes(&self.cluster, node, to) {
                    self.transmit(node, to, &message);
                }
            }
            ClientEffect::SetTimer { backoff } => {
                customer.timer += 1;
                let generation = customer.timer;
                let after = CLIENT << backoff.min(4);
                self.agenda.plan(after, Happening::Timer { node, status: false, generation });
            }
            ClientEffect::CancelTimer => customer.timer += 1,
            ClientEffect::Completed { timestamp, result } => {
                customer.done += 1;
                let (client, read_only) = (customer.setup.id, customer.current.1);
                self.clients.returned(client, result.clone());
                self.accepted.push(Accepted { client, timestamp, result, read_only });
                self.report.completed += 1;
                self.news = true;
                self.invoke_next(node);
            }
            ClientEffect::Reject(reason) => self.drop_message(reason),
        }
    }

    // --- judgement ---

    fn is_finished(&self) -> bool {
        self.weather.healed
            && self.nodes.iter().all(|node| match node {
                Node::Client(customer) => customer.done == customer.workload.len(),
                _ => true,
            })
    }

    fn judge(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.news) {
            return Ok(());
        }
        let snapshot = Snapshot {
            cluster: self.cluster,
            parameters: self.parameters,
            genesis: &self.genesis,
            replicas: &self.histories,
            authentic: &self.authentic,
            accepted: &self.accepted,
        };
        check_all(&snapshot).map_err(|violation| Failure::Violation(violation.to_string()))
    }

    fn finish(mut self) -> Result<Report, Failure> {
        self.clients.is_linearizable().map_err(Failure::NotLinearizable)?;
        if !self.is_finished() {
            return Err(Failure::NoProgress(self.where_it_stands()));
        }
        self.report.time_us = self.agenda.now();
        Ok(self.report)
    }

    fn where_it_stands(&self) -> String {
        let stands = self.nodes.iter().enumerate().map(|(i, node)| match node {
            Node::Correct(server) => match &server.replica {
                None => format!("r{i} down"),
                Some(replica) => format!(
                    "r{i} view {} leaving {:?} h {} executed {} waiting {} transferring {:?}",
                    replica.view().0,
                    replica.leaving().map(|view| view.0),
                    replica.watermarks(&server.setup).h.0,
                    replica.last_executed().0,
                    replica.waiting_requests(),
                    replica.transferring(),
                ),
            },
            Node::Byzantine(_) => format!("r{i} Byzantine"),
            Node::Client(customer) => {
                format!("c{} {} of {}", customer.setup.id.0, customer.done, customer.workload.len())
            }
        });
        stands.collect::<Vec<_>>().join("; ")
    }
}

/// Operations on two keys, half of the reads without ordering first.
fn workload(operations: usize, rng: &mut ChaCha8Rng) -> Vec<(Bytes, bool)> {
    let text = |text: String| Bytes::from(text.into_bytes());
    (0..operations)
        .map(|_| {
            let key = text(format!("k{}", rng.random_range(0..2)));
            let mut value = || text(format!("{}", rng.random_range(0..100)));
            let (first, second) = (value(), value());
            let (operation, read_only) = match rng.random_range(0..8) {
                0..=1 => (Operation::Get { key }, true),
                2 => (Operation::Get { key }, false),
                3 => (Operation::Delete { key }, false),
                4 => (Operation::CompareAndSwap { key, expected: None, new: Some(first) }, false),
                5 => (Operation::CompareAndSwap { key, expected: Some(first), new: Some(second) }, false),
                _ => (Operation::Put { key, value: first }, false),
            };
            (operation.to_bytes(), read_only)
        })
        .collect()
}
