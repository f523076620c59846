//! One simulation from beginning to end.

use super::customers::{Customer, workload};
use super::history::History as ClientHistory;
use super::network::{Agenda, Happening, MS, Time, Weather};
use super::replicas::{Server, micros};
use super::{Config, Failure, HeldTo, Report, Scheme, Simulated};
use crate::byzantine::{Byzantine, Parcels, Strategy};
use pbft::client::{Client, ClientDurable, ClientEvent, ClientSetup};
use pbft::crypto::Crypto;
use pbft::kv::KeyValue;
use pbft::message::Message;
use pbft::parameters::Parameters;
use pbft::rejection::Rejection;
use pbft::replica::verify::verify;
use pbft::replica::{Setup, Timer};
use pbft::rules::Rules;
use pbft::types::{Bytes, ClientId, Cluster, ReplicaId, Timestamp};
use pbft::wire;
use pbft_properties::contract::{Contract, Signatures};
use pbft_properties::{Accepted, Catalogue, History, Snapshot, check_all};
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
const CALM_LIMIT: Time = 120_000 * MS;

/// A message on its way: as a value, or as the bytes it really travels as.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Parcel<C: Crypto> {
    Value(Arc<Message<C>>),
    Bytes(Arc<Vec<u8>>),
}

/// Somebody on the network.
pub(super) enum Node<C: Scheme, R: Rules + Copy + Debug + Default + Ord + Hash> {
    Correct(Box<Server<Simulated<C, R>>>),
    Byzantine(Box<Byzantine<Simulated<C, R>>>),
    Client(Box<Customer<C, R>>),
}

/// One run.
pub(super) struct Simulation<C: Scheme, R: Rules + Copy + Debug + Default + Ord + Hash> {
    pub(super) config: Config,
    /// The interval between STATUS messages at the moment.
    pub(super) status: Time,
    pub(super) cluster: Cluster,
    pub(super) parameters: Parameters,
    pub(super) rng: ChaCha8Rng,
    pub(super) agenda: Agenda<Parcel<C>>,
    pub(super) weather: Weather,
    pub(super) nodes: Vec<Node<C, R>>,
    pub(super) histories: BTreeMap<ReplicaId, History>,
    pub(super) authentic: BTreeSet<(ClientId, Timestamp, Bytes)>,
    /// The batches that anybody has sent.
    pub(super) catalogue: Catalogue,
    pub(super) accepted: Vec<Accepted>,
    pub(super) clients: ClientHistory,
    pub(super) genesis: KeyValue,
    pub(super) report: Report,
    pub(super) news: bool,
    pub(super) contract: Contract,
    pub(super) breach: Option<String>,
}

/// Runs one simulation over the scheme `C` and the rules `R`.
///
/// # Errors
/// The first failure; the same seed fails in the same way every time.
pub fn run<C: Scheme, R: Rules + Copy + Debug + Default + Ord + Hash>(
    config: &Config,
    rules: R,
) -> Result<Report, Failure> {
    let mut simulation = Simulation::<C, R>::new(config.clone(), rules);
    simulation.start()?;
    while !simulation.is_finished() {
        let Some(happening) = simulation.agenda.next() else { break };
        if simulation.agenda.now() > HEALS + CALM_LIMIT {
            break;
        }
        simulation.report.events += 1;
        simulation.happen(happening)?;
        simulation.judge()?;
    }
    simulation.finish()
}

impl<C: Scheme, R: Rules + Copy + Debug + Default + Ord + Hash> Simulation<C, R> {
    pub(super) fn new(config: Config, rules: R) -> Self {
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
                nodes.push(Node::Correct(Box::new(Server::new(setup, config.timeouts))));
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
        let delay = config.delay.map(|(shortest, longest)| (micros(shortest), micros(longest)));
        let weather = Weather { loss: config.loss, away: BTreeSet::new(), healed: false, delay };
        Simulation {
            status: micros(config.timeouts.status),
            config,
            cluster,
            parameters,
            rng,
            agenda: Agenda::new(),
            weather,
            nodes,
            histories,
            authentic: BTreeSet::new(),
            catalogue: Catalogue::new::<C>(),
            accepted: Vec::new(),
            clients: ClientHistory::new(),
            genesis: KeyValue::default(),
            report: Report::default(),
            news: false,
            contract: Contract::new(Signatures::Check),
            breach: None,
        }
    }

    pub(super) fn start(&mut self) -> Result<(), Failure> {
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

    pub(super) fn happen(&mut self, happening: Happening<Parcel<C>>) -> Result<(), Failure> {
        match happening {
            Happening::Arrival { to, message } => self.arrive(to, message),
            Happening::Timer { node, status, generation } => match &self.nodes[node] {
                Node::Client(customer) if customer.timer == generation => {
                    self.step_client(node, ClientEvent::Timeout);
                }
                _ => self.fire(node, status, generation),
            },
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

    pub(super) fn transmit(&mut self, from: usize, to: usize, message: &Message<C>) {
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

    pub(super) fn transmit_all(&mut self, from: usize, parcels: Parcels<C>) {
        for (to, message) in parcels {
            self.learn_batch(&message);
            self.transmit(from, to, &message);
        }
    }

    pub(super) fn learn_batch(&mut self, message: &Message<C>) {
        if let Message::PrePrepare(_, batch) | Message::Batch(batch) = message {
            self.catalogue.add(batch);
        }
    }

    pub(super) fn drop_message(&mut self, reason: Rejection) {
        *self.report.dropped.entry(reason).or_default() += 1;
    }

    pub(super) fn arrive(&mut self, to: usize, parcel: Parcel<C>) {
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
                    Ok(message) => self.receive(to, message),
                    Err(reason) => self.drop_message(reason),
                }
            }
            Node::Byzantine(liar) => {
                let reaction = liar.on_message(message, &mut self.rng);
                self.transmit_all(to, reaction.parcels);
            }
            Node::Client(customer) => match Client::verify(&customer.setup, message) {
                Ok(message) => self.step_client(to, ClientEvent::Message(message)),
                Err(reason) => self.drop_message(reason),
            },
        }
    }

    pub(super) fn mischief(&mut self, node: usize) {
        if let Node::Byzantine(liar) = &mut self.nodes[node] {
            // Its timers fire at any time.
            let timer = match self.rng.random_range(0..12) {
                0 => Timer::Progress { backoff: 0 },
                _ => Timer::Status,
            };
            let mut parcels = liar.on_timeout(timer, &mut self.rng).parcels;
            parcels.extend(liar.mischief(&mut self.rng));
            self.transmit_all(node, parcels);
            let pause = if self.weather.healed { 200 * MS } else { 30 * MS };
            self.agenda.plan(pause, Happening::Mischief { node });
        }
    }

    // --- judgement ---

    pub(super) fn is_finished(&self) -> bool {
        self.weather.healed
            && self.nodes.iter().all(|node| match node {
                Node::Client(customer) => customer.done == customer.workload.len(),
                _ => true,
            })
    }

    pub(super) fn judge(&mut self) -> Result<(), Failure> {
        if let Some(breach) = self.breach.take() {
            return Err(Failure::Breach(breach));
        }
        if !std::mem::take(&mut self.news) || self.config.held_to == HeldTo::Contract {
            return Ok(());
        }
        let snapshot = Snapshot {
            cluster: self.cluster,
            parameters: self.parameters,
            genesis: &self.genesis,
            replicas: &self.histories,
            authentic: &self.authentic,
            catalogue: &self.catalogue,
            accepted: &self.accepted,
            calls: &[],
        };
        check_all(&snapshot).map_err(|violation| Failure::Violation(violation.to_string()))
    }

    pub(super) fn finish(mut self) -> Result<Report, Failure> {
        if self.config.held_to != HeldTo::Contract {
            self.clients.is_linearizable().map_err(Failure::NotLinearizable)?;
        }
        if !self.is_finished() {
            return Err(Failure::NoProgress(self.where_it_stands()));
        }
        self.report.time_us = self.agenda.now();
        Ok(self.report)
    }

    pub(super) fn where_it_stands(&self) -> String {
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
