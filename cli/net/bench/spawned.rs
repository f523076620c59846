//! The same replica under stateright's own `spawn` with serde_json, for comparison. Nothing is kept: what
//! actors save is thrown away, as its storage is neither atomic nor synced.

use super::{Arguments, Measured, histogram};
use crate::net::addresses::free_addresses;
use crate::net::config::Served;
use hdrhistogram::Histogram;
use pbft::actor::ReplicaActor;
use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup, ClientTimer};
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::kv::{KeyValue, Operation};
use pbft::message::Message;
use pbft::parameters::Parameters;
use pbft::replica::{Replica, Setup, Timer};
use pbft::replica::{Timeouts, nodes};
use pbft::rules::Pbft;
use pbft::types::{Bytes, ClientId, Cluster, Timestamp};
use stateright::actor::{Actor, Command, Id, Out, spawn};
use std::borrow::Cow;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const WARM_UP: Duration = Duration::from_secs(1);

/// The address of each node, as stateright's `Id`: replicas first.
type Addresses = Arc<Vec<Id>>;

/// A replica whose commands name addresses.
struct Addressed {
    inner: ReplicaActor<Served>,
    addresses: Addresses,
}

impl Addressed {
    fn forward(&self, commands: Out<ReplicaActor<Served>>, out: &mut Out<Self>) {
        for command in commands {
            match command {
                Command::Send(node, message) => {
                    if let Some(&address) = self.addresses.get(usize::from(node)) {
                        out.send(address, message);
                    }
                }
                Command::SetTimer(timer, range) => out.set_timer(timer, range),
                Command::CancelTimer(timer) => out.cancel_timer(timer),
                Command::ChooseRandom(..) | Command::Save(_) => {}
            }
        }
    }
}

impl Actor for Addressed {
    type Msg = Message<Ed25519>;
    type Timer = Timer;
    type State = Replica<Served>;
    type Storage = ();
    type Random = ();

    fn on_start(&self, id: Id, _: &Option<()>, out: &mut Out<Self>) -> Self::State {
        let mut commands = Out::new();
        let state = self.inner.on_start(id, &None, &mut commands);
        self.forward(commands, out);
        state
    }

    fn on_msg(
        &self,
        id: Id,
        state: &mut Cow<'_, Self::State>,
        src: Id,
        message: Self::Msg,
        out: &mut Out<Self>,
    ) {
        let mut commands = Out::new();
        self.inner.on_msg(id, state, src, message, &mut commands);
        self.forward(commands, out);
    }

    fn on_timeout(&self, id: Id, state: &mut Cow<'_, Self::State>, timer: &Timer, out: &mut Out<Self>) {
        let mut commands = Out::new();
        self.inner.on_timeout(id, state, timer, &mut commands);
        self.forward(commands, out);
    }
}

/// What all clients have seen.
struct Seen {
    latency: Histogram<u64>,
    completions: Vec<Instant>,
    begin: Instant,
    end: Instant,
}

/// A client in a closed loop.
struct Asker {
    setup: ClientSetup<Ed25519, Pbft>,
    addresses: Addresses,
    operation: Bytes,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Clone, Debug, Hash, PartialEq)]
struct Asking {
    client: Client<Ed25519>,
    since: Instant,
}

impl Asker {
    fn step(&self, state: &mut Asking, event: ClientEvent<Ed25519>, out: &mut Out<Self>) {
        let mut effects = Vec::new();
        state.client.step(&self.setup, event, &mut effects);
        for effect in effects {
            match effect {
                ClientEffect::Send(to, message) => {
                    for node in nodes(&self.setup.cluster, usize::MAX, to) {
                        out.send(self.addresses[node], message.clone());
                    }
                }
                ClientEffect::SetTimer { backoff } => {
                    let duration = Duration::from_millis(250) * 2u32.pow(u32::from(backoff));
                    out.set_timer(ClientTimer, duration..duration);
                }
                ClientEffect::CancelTimer => out.cancel_timer(ClientTimer),
                ClientEffect::Completed { .. } => {
                    let now = Instant::now();
                    let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
                    if (seen.begin..seen.end).contains(&now) {
                        let took = now.duration_since(state.since).as_micros();
                        seen.latency.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
                        seen.completions.push(now);
                    }
                    drop(seen);
                    self.ask(state, out);
                }
                ClientEffect::Persist(_) | ClientEffect::Reject(_) => {}
            }
        }
    }

    fn ask(&self, state: &mut Asking, out: &mut Out<Self>) {
        state.since = Instant::now();
        let operation = self.operation.clone();
        self.step(state, ClientEvent::Invoke { operation, read_only: false, clock: Timestamp(0) }, out);
    }
}

impl Actor for Asker {
    type Msg = Message<Ed25519>;
    type Timer = ClientTimer;
    type State = Asking;
    type Storage = ();
    type Random = ();

    fn on_start(&self, _: Id, _: &Option<()>, out: &mut Out<Self>) -> Asking {
        let mut state = Asking { client: Client::new(ClientDurable::default()), since: Instant::now() };
        self.ask(&mut state, out);
        state
    }

    fn on_msg(&self, _: Id, state: &mut Cow<'_, Asking>, _: Id, message: Self::Msg, out: &mut Out<Self>) {
        if let Ok(message) = Client::verify(&self.setup, message) {
            self.step(state.to_mut(), ClientEvent::Message(message), out);
        }
    }

    fn on_timeout(&self, _: Id, state: &mut Cow<'_, Asking>, _: &ClientTimer, out: &mut Out<Self>) {
        self.step(state.to_mut(), ClientEvent::Timeout, out);
    }
}

fn process_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Runs replicas and clients as stateright does, in threads that end with the process.
pub fn measure(arguments: &Arguments) -> Result<Measured, String> {
    if arguments.rate.is_some() {
        return Err("--rate is for --runtime own: clients under stateright run in a closed loop".into());
    }
    let keys = arguments.clients * arguments.outstanding;
    let ports = u16::try_from(keys).ok().and_then(|keys| keys.checked_add(arguments.replicas));
    let ports = ports.ok_or("there are not enough ports for so many clients: lower --clients")?;
    let ids = free_addresses(ports)?.into_iter().map(|address| match address {
        SocketAddr::V4(v4) => Id::from(SocketAddrV4::new(*v4.ip(), v4.port())),
        SocketAddr::V6(_) => unreachable!("free addresses are 127.0.0.1"),
    });
    let addresses: Addresses = Arc::new(ids.collect());
    let cluster = Cluster::new(arguments.replicas, (arguments.replicas - 1) / 3);
    let parameters = Parameters { max_batch_requests: arguments.max_batch as usize, ..Parameters::default() };
    let (replica_keys, client_keys) = KeyRing::insecure(0, arguments.replicas, keys);
    let replicas: Vec<(Id, Addressed)> = (cluster.replicas().zip(replica_keys))
        .map(|(id, keys_of_it)| {
            let setup = Setup::<Served> {
                id,
                cluster,
                parameters,
                keys: Arc::new(keys_of_it),
                clients: keys,
                rules: Pbft,
                genesis: KeyValue::default(),
            };
            let inner =
                ReplicaActor { setup: Arc::new(setup), timeouts: Timeouts::default(), observer: None };
            (addresses[usize::from(id.0)], Addressed { inner, addresses: addresses.clone() })
        })
        .collect();
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(arguments.seconds);
    let seen = Arc::new(Mutex::new(Seen { latency: histogram(), completions: Vec::new(), begin, end }));
    let askers: Vec<(Id, Asker)> = client_keys
        .into_iter()
        .zip(0u32..)
        .map(|(keys_of_it, id)| {
            let key = Bytes::from(format!("bench-{id}").into_bytes());
            let value = Bytes::from(vec![b'.'; (arguments.size as usize).saturating_sub(key.len() + 4)]);
            let operation = Operation::Put { key, value }.to_bytes();
            let setup = ClientSetup { id: ClientId(id), cluster, keys: Arc::new(keys_of_it), rules: Pbft };
            let asker = Asker { setup, addresses: addresses.clone(), operation, seen: seen.clone() };
            (addresses[cluster.n() + id as usize], asker)
        })
        .collect();
    std::thread::spawn(move || run(replicas));
    std::thread::spawn(move || run(askers));
    std::thread::sleep(begin.saturating_duration_since(Instant::now()));
    let before = process_time();
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    let cpu = process_time().saturating_sub(before);
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let gaps = seen.completions.windows(2).map(|pair| pair[1].duration_since(pair[0]));
    let tail = seen.completions.last().map_or(end - begin, |&last| end.saturating_duration_since(last));
    Ok(Measured {
        latency: seen.latency.clone(),
        errors: 0,
        elapsed: end - begin,
        longest_stall: gaps.chain([tail]).max().unwrap_or_default(),
        replica_cpu: None,
        cpu_us: Some(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX)),
        phases: Vec::new(),
        counts: Vec::new(),
        completions: Vec::new(),
        recovery: None,
        judged: None,
    })
}

fn run<A: Actor<Msg = Message<Ed25519>, Storage = ()> + Send + 'static>(actors: Vec<(Id, A)>)
where
    A::State: std::fmt::Debug,
{
    let _ = spawn(
        serde_json::to_vec,
        |bytes| serde_json::from_slice(bytes),
        |(): &()| Ok(Vec::new()),
        |_| Ok(()),
        actors,
    );
}
