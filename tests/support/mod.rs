//! A cluster in memory over the real replica: ed25519 signatures, `verify` and `step`, no network, no clock.
//!
//! [`Net::deliver`] hands one message to one replica and returns what came of it; [`Net::inject`] also routes
//! what it sent, and [`Net::run`] delivers until nothing is under way. After every step the records persisted
//! so far are checked to lead to the replica's own durable state.

// Each test file uses a part of this.
#![allow(dead_code)]

mod promises;
mod setups;
pub mod signing;

pub use promises::unkept_promises;
use setups::{Replicated, setups};

use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::kv::{Operation, Outcome};
use pbft::message::{Batch, Message, Reply, Request};
use pbft::parameters::Parameters;
use pbft::rejection::Rejection;
use pbft::replica::verify::verify;
use pbft::replica::{
    Destination, Durable, Effect, Effects, Event, ExecutedRequest, Fact, Record, Replica, Setup, Timer,
};
use pbft::types::{Bytes, ClientId, Cluster, Digest, SeqNo, Timestamp, View};
use pbft_models::mutants::Rulebook;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What runs in production, over the key-value store.
pub type Real = Replicated<C>;

pub type C = Ed25519;
pub type Msg = Message<C>;

/// No sequence numbers.
pub const NONE: [u64; 0] = [];

/// Registered clients of every cluster here.
pub const CLIENTS: u32 = 6;

/// What all keys follow from.
pub const SEED: u64 = 7;

/// A checkpoint every 2 batches, a window of 4, one request a batch.
pub fn small() -> Parameters {
    Parameters {
        checkpoint_interval: 2,
        window: 4,
        max_batch_requests: 1,
        max_batch_bytes: 1024,
        max_in_flight: 4,
    }
}

/// The same, with at most 2 requests or 64 bytes a batch.
pub fn small_batches() -> Parameters {
    Parameters { max_batch_requests: 2, max_batch_bytes: 64, max_in_flight: 2, ..small() }
}

/// What one step did.
#[derive(Clone, Debug)]
pub struct Step(pub Vec<Effect<C>>);

impl Step {
    /// The batches proposed in it: the sequence number, and client and timestamp of each request.
    pub fn batches(&self) -> Vec<(u64, Vec<(u32, u64)>)> {
        let named = |m: &Msg| match m {
            Message::PrePrepare(m, batch) => {
                let requests = batch.requests.iter().map(|r| (r.content.client.0, r.content.timestamp.0));
                (m.content.n.0, requests.collect())
            }
            other => panic!("{}", other.name()),
        };
        self.sent("PRE-PREPARE").into_iter().map(named).collect()
    }

    /// The messages sent, in order.
    pub fn sends(&self) -> Vec<(Destination, &Msg)> {
        fn send(effect: &Effect<C>) -> Option<(Destination, &Msg)> {
            if let Effect::Send(to, message) = effect { Some((*to, message)) } else { None }
        }
        self.0.iter().filter_map(send).collect()
    }

    /// The messages of one name that were sent.
    pub fn sent(&self, name: &str) -> Vec<&Msg> {
        self.sends().into_iter().map(|(_, m)| m).filter(|m| m.name() == name).collect()
    }

    /// The names of the messages sent, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.sends().into_iter().map(|(_, m)| m.name()).collect()
    }

    pub fn rejection(&self) -> Option<Rejection> {
        self.0.iter().find_map(|effect| match effect {
            Effect::Reject(reason) => Some(*reason),
            _ => None,
        })
    }

    pub fn facts(&self) -> Vec<&Fact> {
        fn fact(effect: &Effect<C>) -> Option<&Fact> {
            if let Effect::Fact(fact) = effect { Some(fact) } else { None }
        }
        self.0.iter().filter_map(fact).collect()
    }

    /// The sequence numbers prepared in this step.
    pub fn prepared(&self) -> Vec<u64> {
        let n = |fact: &Fact| if let Fact::Prepared { n, .. } = fact { Some(n.0) } else { None };
        self.facts().into_iter().filter_map(n).collect()
    }

    /// The sequence numbers committed in this step.
    pub fn committed(&self) -> Vec<u64> {
        let n = |fact: &Fact| if let Fact::Committed { n, .. } = fact { Some(n.0) } else { None };
        self.facts().into_iter().filter_map(n).collect()
    }

    /// The sequence numbers executed in this step.
    pub fn executed(&self) -> Vec<u64> {
        executed_in(self.facts()).into_iter().map(|(n, _)| n).collect()
    }

    /// The checkpoints that became stable in this step.
    pub fn stable(&self) -> Vec<u64> {
        let n = |fact: &Fact| if let Fact::CheckpointStable { n, .. } = fact { Some(n.0) } else { None };
        self.facts().into_iter().filter_map(n).collect()
    }

    /// What the step did with the progress timer: the exponent it was set with, or none if it was stopped.
    pub fn timer(&self) -> Option<Option<u8>> {
        self.0.iter().rev().find_map(|effect| match effect {
            Effect::SetTimer(Timer::Progress { backoff }) => Some(Some(*backoff)),
            Effect::CancelProgressTimer => Some(None),
            _ => None,
        })
    }
}

fn executed_in(facts: Vec<&Fact>) -> Vec<(u64, Vec<ExecutedRequest>)> {
    let executed = |fact: &Fact| match fact {
        Fact::Executed { n, requests, .. } => Some((n.0, requests.clone())),
        _ => None,
    };
    facts.into_iter().filter_map(executed).collect()
}

/// A message on its way: from, to, what.
pub type Packet = (usize, usize, Msg);

pub struct Net {
    pub setups: Vec<Setup<Real>>,
    pub client_keys: Vec<Arc<KeyRing>>,
    pub replicas: Vec<Replica<Real>>,
    /// Everything each replica ever persisted, in order.
    pub records: Vec<Vec<Record<C>>>,
    /// What those records lead to, starting from the initial state.
    pub disks: Vec<Durable<C>>,
    /// Every step of each replica.
    pub steps: Vec<Vec<Step>>,
    pub in_flight: VecDeque<Packet>,
    /// Replies that left for clients.
    pub replies: Vec<Reply>,
}

impl Net {
    pub fn new(n: u16, f: u16, parameters: Parameters) -> Self {
        let cluster = Cluster::new(n, f);
        let (replica_keys, client_keys) = KeyRing::insecure(SEED, n, CLIENTS);
        let setups = setups(cluster, parameters, replica_keys, CLIENTS);
        let replicas: Vec<Replica<Real>> =
            setups.iter().map(|setup| Replica::start(setup, None, &mut Effects::new()).unwrap()).collect();
        Net {
            client_keys: client_keys.into_iter().map(Arc::new).collect(),
            records: vec![Vec::new(); setups.len()],
            disks: replicas.iter().map(|replica| replica.durable().clone()).collect(),
            steps: vec![Vec::new(); setups.len()],
            in_flight: VecDeque::new(),
            replies: Vec::new(),
            setups,
            replicas,
        }
    }

    /// Four replicas, one of which may be faulty, with [`small`] bounds.
    pub fn four() -> Self {
        Net::new(4, 1, small())
    }

    /// Three replicas that went on to a stable checkpoint at 4 and one more batch, and replica 3, which
    /// missed it.
    pub fn one_left_behind() -> Self {
        let mut net = Net::four();
        net.order_many(&only(0..3), 1, 5);
        assert_eq!((net.h(0), net.last_executed(0)), (4, 5));
        assert_eq!((net.h(3), net.last_executed(3)), (0, 0));
        net
    }

    pub fn n(&self) -> usize {
        self.setups.len()
    }

    // --- delivering ---

    /// Verifies a message and, if it is valid, hands it to one replica. What that sends goes nowhere.
    pub fn deliver(&mut self, to: usize, message: Msg) -> Step {
        match verify(&self.setups[to], message) {
            Err(reason) => self.keep(to, Step(vec![Effect::Reject(reason)])),
            Ok(message) => self.event(to, Event::Message(message)),
        }
    }

    /// Asserts that a message is dropped for this reason, and that nothing else comes of it.
    pub fn assert_refused(&mut self, to: usize, message: Msg, reason: Rejection) {
        let step = self.deliver(to, message);
        assert_eq!(step.rejection(), Some(reason));
        assert_eq!(step.0.len(), 1, "{step:?}");
    }

    /// Lets a timer of one replica fire. What that sends goes nowhere.
    pub fn fire(&mut self, at: usize, timer: Timer) -> Step {
        self.event(at, Event::Timeout(timer.expired()))
    }

    /// The progress timer of one replica runs off.
    pub fn expire(&mut self, at: usize) -> Step {
        self.fire(at, Timer::Progress { backoff: 0 })
    }

    fn event(&mut self, at: usize, event: Event<C>) -> Step {
        let before = self.replicas[at].clone();
        let mut effects = Effects::new();
        let is_dropped = matches!(&event, Event::Message(message) if self.is_dropped(at, message));
        self.replicas[at].step(&self.setups[at], event, &mut effects);
        if is_dropped {
            assert!(effects.rejection().is_some(), "a host drops unverified what has an effect: {effects:?}");
            assert_eq!(effects.iter().count(), 1, "a host drops unverified what has an effect: {effects:?}");
        }
        if Rulebook::under_test() == Rulebook::default() {
            let checked = self.replicas[at].check_invariants(&self.setups[at]);
            assert_eq!(checked, Ok(()), "replica {at}");
        }
        if effects.rejection().is_some() && effects.iter().count() == 1 {
            assert_eq!(before, self.replicas[at], "a rejected event changed the state");
        }
        self.keep(at, Step(effects.into_iter().collect()))
    }

    fn keep(&mut self, at: usize, step: Step) -> Step {
        for effect in &step.0 {
            if let Effect::Persist(record) = effect {
                self.disks[at].apply(record, &Rulebook::under_test());
                self.records[at].push(record.clone());
            }
        }
        assert_eq!(&self.disks[at], self.replicas[at].durable(), "durable state changed without a record");
        self.steps[at].push(step.clone());
        step
    }

    /// Delivers a message and routes what the replica sends.
    pub fn inject(&mut self, to: usize, message: Msg) -> Step {
        let step = self.deliver(to, message);
        self.route(to, &step);
        step
    }

    /// Puts what a replica sent on its way.
    pub fn route(&mut self, from: usize, step: &Step) {
        for (to, message) in step.sends() {
            match to {
                Destination::Replicas => {
                    let others = (0..self.n()).filter(|&to| to != from);
                    self.in_flight.extend(others.map(|to| (from, to, message.clone())));
                }
                Destination::Replica(to) => {
                    self.in_flight.push_back((from, usize::from(to.0), message.clone()));
                }
                Destination::Client(_) => {
                    let Message::Reply(reply) = message else { panic!("{} to a client", message.name()) };
                    self.replies.push(reply.content.clone());
                }
            }
        }
    }

    /// Delivers what is under way, oldest first, until nothing is; what `link` refuses is lost.
    pub fn run(&mut self, link: impl Fn(usize, usize, &Msg) -> bool) {
        let mut left = 100_000;
        while let Some((from, to, message)) = self.in_flight.pop_front() {
            if link(from, to, &message) {
                self.inject(to, message);
            }
            left -= 1;
            assert!(left > 0, "the cluster does not come to rest");
        }
    }

    /// Delivers everything.
    pub fn run_all(&mut self) {
        self.run(|_, _, _| true);
    }

    /// Delivers everything among some of the replicas only.
    pub fn run_among(&mut self, some: &[usize]) {
        self.run(|from, to, _| some.contains(&from) && some.contains(&to));
    }

    /// Sends a request to every replica of `some` and delivers everything among them.
    pub fn order_among(&mut self, some: &[usize], request: &Signed<Request, C>) {
        for &to in some {
            self.inject(to, Message::Request(request.clone()));
        }
        self.run_among(some);
    }

    /// Orders `count` requests, each of another timestamp of client 0, among some of the replicas.
    pub fn order_many(&mut self, some: &[usize], from: u64, count: u64) {
        for t in from..from + count {
            let request = self.put(0, t, "k", &format!("v{t}"));
            self.order_among(some, &request);
        }
    }

    /// Orders one request of a client for each timestamp `t`, which sets the key `k{t}`, among all replicas.
    pub fn execute(&mut self, client: u32, timestamps: std::ops::RangeInclusive<u64>) {
        for t in timestamps {
            let request = self.put(client, t, &format!("k{t}"), "v");
            self.order_among(&only(0..self.n()), &request);
        }
    }

    /// Goes through a view change and a stable checkpoint: everybody is in view 1 with h = 4, five batches are executed,
    /// client 0 has been answered up to timestamp 3, client 1 up to 5.
    pub fn lived(parameters: Parameters) -> Self {
        let mut net = Net::new(4, 1, parameters);
        net.execute(0, 1..=3);
        for at in 1..4 {
            let step = net.expire(at);
            net.route(at, &step);
        }
        net.run_all();
        net.execute(1, 4..=5);
        for at in 0..4 {
            assert_eq!((net.view(at), net.h(at), net.last_executed(at)), (1, 4, 5));
        }
        net
    }

    /// Every replica of `some` gives up its view; VIEW-CHANGEs and NEW-VIEW are delivered among them.
    pub fn change_view_among(&mut self, some: &[usize]) {
        for &at in some {
            let step = self.expire(at);
            self.route(at, &step);
        }
        self.run_among(some);
    }

    /// Lets the status timers of `some` fire and delivers everything among them, a few times over.
    pub fn gossip(&mut self, some: &[usize]) {
        for _ in 0..4 {
            for &at in some {
                let step = self.fire(at, Timer::Status);
                self.route(at, &step);
            }
            self.run_among(some);
        }
    }

    /// Stops a replica and starts it again from `durable`.
    pub fn restart(&mut self, at: usize, durable: Durable<C>) -> Step {
        let mut effects = Effects::new();
        self.replicas[at] = Replica::start(&self.setups[at], Some(durable), &mut effects).unwrap();
        self.disks[at] = self.replicas[at].durable().clone();
        Step(effects.into_iter().collect())
    }

    // --- looking ---

    pub fn view(&self, at: usize) -> u64 {
        self.replicas[at].view().0
    }

    pub fn h(&self, at: usize) -> u64 {
        self.replicas[at].watermarks(&self.setups[at]).h.0
    }

    pub fn last_executed(&self, at: usize) -> u64 {
        self.replicas[at].last_executed().0
    }

    /// The value of a key at one replica.
    pub fn value(&self, at: usize, key: &str) -> Option<String> {
        let value = self.replicas[at].service().get(key.as_bytes());
        value.map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    /// Every request that one replica has executed, in order.
    pub fn history(&self, at: usize) -> Vec<(u64, ExecutedRequest)> {
        let batches = self.steps[at].iter().flat_map(|step| executed_in(step.facts()));
        batches.flat_map(|(n, requests)| requests.into_iter().map(move |r| (n, r))).collect()
    }

    /// The digest that one replica has accepted for a sequence number of its view.
    pub fn accepted(&self, at: usize, n: u64) -> Option<Digest> {
        let view = self.replicas[at].view();
        self.disks[at].log.get(&(view, SeqNo(n))).map(|m| m.content.digest)
    }

    /// The digest and the view of the certificate that one replica holds for a sequence number.
    pub fn certificate(&self, at: usize, n: u64) -> Option<(u64, Digest)> {
        self.disks[at].prepared.get(&SeqNo(n)).map(|c| (c.view.0, c.digest))
    }

    /// A durable state built from the records alone, as a store that keeps a log would.
    pub fn replayed(&self, at: usize) -> Durable<C> {
        let mut durable = Durable::default();
        for record in &self.records[at] {
            durable.apply(record, &Rulebook::under_test());
        }
        durable
    }

    /// Asserts that a restart from the records gives the very replica that one from the state gives.
    pub fn assert_restarts_agree(&self) {
        for (at, setup) in self.setups.iter().enumerate() {
            let start = |durable| {
                let mut effects = Effects::new();
                let replica = Replica::start(setup, Some(durable), &mut effects).unwrap();
                (replica, effects)
            };
            let (from_records, sent) = start(self.replayed(at));
            assert!(
                start(self.replicas[at].durable().clone()) == (from_records.clone(), sent),
                "replica {at}"
            );
            assert_eq!(from_records.durable(), self.replicas[at].durable());
            assert_eq!(from_records.service(), self.replicas[at].service());
            assert_eq!(from_records.clients(), self.replicas[at].clients());
        }
    }

    /// Asserts that all that was sent so far was promised on stable storage before, that each kind in
    /// `kinds` was sent at all, and that it would be noticed if it left before its record.
    pub fn assert_promises_kept(&self, kinds: &[&str]) {
        let mut seen = BTreeSet::new();
        let mut noticed = BTreeSet::new();
        for steps in &self.steps {
            let mut disk = Durable::default();
            for step in steps {
                let mut swapped = step.0.clone();
                swapped.sort_by_key(|effect| matches!(effect, Effect::Persist(_)));
                noticed.extend(unkept_promises(&swapped, &mut disk.clone()));
                seen.extend(step.names());
                assert_eq!(unkept_promises(&step.0, &mut disk), Vec::<&str>::new(), "{step:?}");
            }
        }
        for kind in kinds {
            assert!(seen.contains(kind), "no {kind} was sent");
            assert!(noticed.contains(kind), "a {kind} before its record goes unnoticed");
        }
    }
}

/// The replicas `from..to`.
pub fn only(range: std::ops::Range<usize>) -> Vec<usize> {
    range.collect()
}

/// The result of a PUT on a key that had this value.
pub fn was(value: Option<&str>) -> Bytes {
    let value = value.map(|value| Bytes::from(value.as_bytes()));
    Bytes::from(postcard::to_stdvec(&Outcome::Value(value)).unwrap())
}

/// The request `operation` of a client, to be signed.
pub fn request(client: u32, t: u64, operation: &Operation, read_only: bool) -> Request {
    let operation = operation.to_bytes();
    Request { operation, timestamp: Timestamp(t), client: ClientId(client), read_only }
}

/// A batch of these requests.
pub fn batch(requests: &[&Signed<Request, C>]) -> Arc<Batch<C>> {
    Arc::new(Batch { requests: requests.iter().map(|&r| r.clone()).collect() })
}

pub fn view(v: u64) -> View {
    View(v)
}
