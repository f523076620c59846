//! One replica on a machine: threads, timers, the store and the socket around [`Replica::step`].

mod admit;
mod health;
mod receive;
mod timers;
mod together;
mod watch;

use crate::crypto::Crypto;
use crate::lateness::Lateness;
use crate::message::Message;
use crate::parameters::ConfigError;
use crate::presence::ProgressTimer;
use crate::replica::{
    Bundle, Destination, Effect, Effects, Event, Fact, Record, Replica, Setup, Timeouts, Timer,
};
use crate::runtime::control::Health;
use crate::runtime::counters::Counters;
use crate::runtime::delays::Delays;
use crate::runtime::histogram::Histograms;
use crate::runtime::hosts::Hosts;
use crate::runtime::options::{Options, Patience, StartError, StopError, Witness};
use crate::runtime::output::{CarriedOut, Outgoing, Output};
use crate::runtime::queues::Queues;
use crate::runtime::store::Store;
use crate::runtime::transport::Transport;
use crate::store::Identity;
use crate::types::{ReplicaId, View};
use admit::Admission;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use watch::Watch;

/// The most effects that wait to be carried out before workers wait too.
const MAX_OUTBOX: usize = 4096;
/// The most messages that a worker handles before their effects are carried out.
const MAX_HELD: usize = 64;
/// The longest that a worker waits with that while datagrams keep coming.
const MAX_HOLD: Duration = Duration::from_millis(4);
/// How long a worker waits for a datagram before it looks whether to stop.
const RECEIVE_WAIT: Duration = Duration::from_millis(100);

/// What the lock of the replica protects.
struct Core<B: Bundle> {
    replica: Replica<B>,
    status: Option<Instant>,
    executed_at: Instant,
    /// Since when something should execute, or the last execution if that is later.
    waiting_since: Option<Instant>,
    witness: Option<SharedWitness<B>>,
    /// How many steps there have been.
    steps: u64,
    /// Stable checkpoints in this view.
    checkpoints: u64,
    /// When it has said last that the primary is late.
    said_late: Option<Duration>,
}

/// Under the lock of the replica for its steps, without it when they have been carried out.
type SharedWitness<B> = Arc<Mutex<Box<dyn Witness<B>>>>;

struct Shared<B: Bundle> {
    setup: Setup<B>,
    timeouts: Timeouts,
    transport: Arc<Transport>,
    core: Mutex<Core<B>>,
    /// Effects in the order of their steps. Only ever locked under `core`, or to take them all.
    outbox: Mutex<Vec<Outgoing<B::Crypto>>>,
    /// Whether there are records among them, and a store to keep them.
    must_sync: AtomicBool,
    keeps: bool,
    output: Mutex<Output<B::Crypto>>,
    hosts: Hosts,
    patience: Patience,
    // The locks from here on are only ever taken last, for a moment each.
    queues: Arc<Mutex<Queues>>,
    admission: Mutex<Admission>,
    delays: Arc<Mutex<Delays>>,
    lateness: Mutex<Lateness>,
    /// For which view each replica has said, and when, that its primary is late.
    late: Mutex<BTreeMap<ReplicaId, (View, Duration)>>,
    /// The progress timer, and who is heard.
    progress: Mutex<ProgressTimer>,
    /// Where the timer's time begins.
    started: Instant,
    counters: Arc<Counters>,
    /// What is known of other hosts beside the protocol.
    watch: Watch,
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// A running replica. It goes on when this is dropped; [`Host::stop`] ends it.
pub struct Host<B: Bundle> {
    shared: Arc<Shared<B>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked has left its value whole or the process is about to stop.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B: Bundle> Host<B> {
    /// Starts a replica from its store and runs it.
    ///
    /// # Errors
    /// If the configuration [cannot serve](Setup::check_servable), the store is refused, or the machine
    /// fails.
    pub fn start(setup: Setup<B>, options: Options<B>) -> Result<Self, StartError> {
        setup.check_servable().map_err(StartError::Configuration)?;
        let replicas = options.hosts.replicas();
        if replicas.len() != setup.cluster.n() {
            return Err(StartError::Configuration(ConfigError::Addresses));
        }
        let identity = Identity {
            domain: options.domain,
            replica: setup.id,
            cluster: setup.cluster,
            parameters: setup.parameters,
        };
        let (store, stored) = match &options.store {
            Some(directory) => {
                let (store, durable) = Store::open(directory, &identity)?;
                (Some(store), Some(durable))
            }
            None => (None, None),
        };
        let counters = Arc::new(Counters::default());
        let sessions = options.hosts.sessions_of_replica(setup.id, options.host_key)?;
        let transport = Transport::bind(
            options.listen,
            options.datagram_bytes,
            sessions,
            replicas,
            RECEIVE_WAIT,
            counters.clone(),
        );
        let watch = Watch::new(options.hosts.clone(), options.membership);
        let transport = transport.map_err(|error| StartError::Bind(options.listen, error))?;
        let transport = Arc::new(transport.without_fragments_from(options.hosts.first_observer()));
        transport.tell_of_small_buffers();

        let mut effects = Effects::new();
        let replica = Replica::start(&setup, stored.clone(), &mut effects)?;
        let witness: Option<SharedWitness<B>> = options.witness.map(|witness| Arc::new(Mutex::new(witness)));
        if let Some(witness) = &witness {
            lock(witness).started(stored.as_ref(), &effects)?;
        }
        let queues = Arc::new(Mutex::new(Queues::new(options.hosts.shares(), options.workers)));
        let delays = Arc::new(Mutex::new(Delays::new(&setup.cluster, setup.id)));
        let sending = (queues.clone(), delays.clone());
        let hosts = options.hosts.clone();
        let mut output =
            Output::new(setup.id, setup.cluster, hosts, store, transport.clone(), counters.clone(), sending);
        output.carried_out = witness
            .clone()
            .map(|witness| -> CarriedOut { Box::new(move |steps| lock(&witness).carried_out(steps)) });
        let core = Core {
            replica,
            status: None,
            executed_at: Instant::now(),
            waiting_since: None,
            witness,
            steps: 0,
            checkpoints: 0,
            said_late: None,
        };
        let progress = ProgressTimer::new(&setup.cluster, setup.id, options.timeouts, Duration::ZERO);
        let shared = Arc::new(Shared {
            progress: Mutex::new(progress),
            lateness: Mutex::new(Lateness::new(options.patience.budget, Duration::ZERO)),
            hosts: options.hosts,
            patience: options.patience,
            queues,
            admission: Mutex::default(),
            delays,
            late: Mutex::default(),
            started: Instant::now(),
            setup,
            timeouts: options.timeouts,
            transport,
            core: Mutex::new(core),
            outbox: Mutex::default(),
            must_sync: AtomicBool::new(false),
            keeps: options.store.is_some(),
            output: Mutex::new(output),
            counters,
            watch,
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        shared.absorb(&mut lock(&shared.core), effects, false);
        shared.flush();
        let mut threads = Vec::new();
        for worker in 0..options.workers.max(1) {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("worker-{worker}"));
            threads.push(thread.spawn(move || shared.guard(Shared::work))?);
        }
        let timers = shared.clone();
        let thread = std::thread::Builder::new().name("timers".into());
        threads.push(thread.spawn(move || timers.guard(Shared::watch_timers))?);
        Ok(Host { shared, threads: Mutex::new(threads) })
    }

    /// Returns the address that the replica listens on.
    ///
    /// # Errors
    /// If the operating system does not tell the socket's address; the replica runs on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.shared.transport.address()
    }

    /// How it does.
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// How long things took, and how large they were.
    pub fn histograms(&self) -> &Histograms {
        &self.shared.counters.histograms
    }

    /// Whether it has stopped, or is about to.
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.load(Relaxed)
    }

    /// Stops it and waits for its threads. Everything sent is durable.
    ///
    /// # Errors
    /// What stopped it before, if something did.
    pub fn stop(&self) -> Result<(), StopError> {
        self.shared.stop.store(true, Relaxed);
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                self.shared.fail("a thread panicked".into());
            }
        }
        lock(&self.shared.failure).take().map_or(Ok(()), |why| Err(StopError(why)))
    }
}

/// How many signatures a step has made: of replies that follow each other one, as they are signed together.
fn signatures<C: Crypto>(effects: &Effects<C>) -> u64 {
    let (mut count, mut in_replies) = (0, false);
    for effect in effects.iter() {
        let Effect::Send(_, message) = effect else {
            in_replies = false;
            continue;
        };
        let is_reply = matches!(message, Message::Reply(_));
        let is_own = match message {
            Message::Request(_) | Message::Batch(_) | Message::Block(_) | Message::Stable(_) => false,
            _ => !(is_reply && in_replies),
        };
        count += u64::from(is_own);
        in_replies = is_reply;
    }
    count
}

impl<B: Bundle> Shared<B> {
    fn fail(&self, why: String) {
        lock(&self.failure).get_or_insert(why);
        self.stop.store(true, Relaxed);
    }

    /// Runs a thread; if it panics, the replica stops.
    fn guard(&self, run: impl Fn(&Self)) {
        struct Bomb<'a>(&'a AtomicBool);
        impl Drop for Bomb<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let bomb = Bomb(&self.stop);
        run(self);
        drop(bomb);
    }

    // --- steps ---

    fn step_locked(&self, core: &mut Core<B>, event: Event<B::Crypto>) {
        let mut effects = Effects::new();
        let watched = core.witness.as_ref().map_or(Ok(()), |witness| lock(witness).event(&event));
        let request = match &event {
            Event::Message(message) => match &**message {
                Message::Request(request) if !request.content.read_only => {
                    Some((request.content.client, request.content.timestamp))
                }
                _ => None,
            },
            Event::Timeout(_) => None,
        };
        let before = Instant::now();
        self.counters.timed(&self.counters.step_ns, || core.replica.step(&self.setup, event, &mut effects));
        self.counters.stepped(before.elapsed());
        debug_assert_eq!(core.replica.check_invariants(&self.setup), Ok(()));
        let asked = |w: &SharedWitness<B>| lock(w).effects(&self.setup, &core.replica, &effects);
        let watched = watched.and_then(|()| core.witness.as_ref().map_or(Ok(()), asked));
        if let Err(error) = watched {
            // What was not journalled must not happen, or the journal tells of another run.
            return self.fail(format!("cannot write the journal: {error}"));
        }
        core.steps += 1;
        let mut first = false;
        if let Some((client, timestamp)) = request
            && core.replica.waiting_request(client).is_some_and(|r| r.content.timestamp == timestamp)
        {
            let mut lateness = lock(&self.lateness);
            first = lateness.waiting(client).is_none_or(|(waiting, _)| waiting != timestamp);
            lateness.waits(client, timestamp, self.started.elapsed());
        }
        self.absorb(core, effects, first);
    }

    /// Takes over what a step asks for: timers at once, the rest to the outbox. Of a request that is heard of
    /// for the `first` time the relay waits: the client has sent it to the primary too, and
    /// [`watch_timers`](Self::watch_timers) relays what still waits after a while.
    fn absorb(&self, core: &mut Core<B>, effects: Effects<B::Crypto>, first: bool) {
        let now = Instant::now();
        let mut outbox = lock(&self.outbox);
        let before = outbox.len();
        let (mut new_snapshot, mut fetched) = (false, false);
        self.counters.signed.add(signatures(&effects));
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    new_snapshot |= matches!(record, Record::Snapshot(_));
                    self.must_sync.store(self.keeps, Relaxed);
                    outbox.push(Outgoing::Persist(record));
                }
                Effect::Send(Destination::Replica(_), Message::Request(_)) if first => {}
                Effect::Send(to, message) => outbox.push(Outgoing::Send(to, message)),
                Effect::SetTimer(Timer::Progress { backoff }) => {
                    lock(&self.progress).set(backoff, now - self.started);
                }
                Effect::SetTimer(Timer::Status) => core.status = Some(now + self.timeouts.status),
                Effect::CancelProgressTimer => lock(&self.progress).cancel(),
                Effect::Fact(fact) => {
                    fetched |= matches!(fact, Fact::StateTransferred { .. });
                    self.note(core, &fact, now);
                }
                Effect::Reject(reason) => self.counters.reject(reason),
            }
        }
        if new_snapshot {
            let durable = Box::new(core.replica.durable().clone());
            outbox.push(Outgoing::Checkpoint { durable, fetched });
        }
        if core.witness.is_some() && outbox.len() > before {
            outbox.push(Outgoing::Steps(core.steps));
        }
    }

    fn note(&self, core: &mut Core<B>, fact: &Fact, now: Instant) {
        self.watch.time(fact, now, &self.counters.histograms);
        match fact {
            Fact::Executed { requests, .. } => {
                core.executed_at = now;
                self.counters.batches.add(1);
                self.counters.requests.add(requests.len() as u64);
                let mut lateness = lock(&self.lateness);
                requests.iter().for_each(|request| lateness.executed(request.client, request.timestamp));
            }
            Fact::ViewLeft { view, to } => {
                lock(&self.progress).view_left();
                tracing::info!(view = view.0, to = to.0, "view left");
            }
            Fact::ViewEntered { view, .. } => {
                self.counters.views_entered.add(1);
                core.checkpoints = 0;
                lock(&self.lateness).view_entered(self.started.elapsed());
                tracing::info!(view = view.0, "view entered");
            }
            Fact::CheckpointStable { n, .. } => {
                self.counters.stable_checkpoints.add(1);
                core.checkpoints += 1;
                tracing::debug!(n = n.0, "checkpoint stable");
            }
            Fact::StateTransferred { n, .. } => {
                self.counters.transfers.add(1);
                tracing::info!(n = n.0, "state fetched");
            }
            _ => {}
        }
    }

    /// Carries out what is in the outbox, unless another worker is doing so: that one then finds it.
    fn flush(&self) {
        loop {
            let waiting = lock(&self.outbox).len();
            if waiting == 0 || self.stop.load(Relaxed) {
                return;
            }
            let mut output = match self.output.try_lock() {
                Ok(output) => output,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if waiting < MAX_OUTBOX => return,
                Err(TryLockError::WouldBlock) => lock(&self.output),
            };
            let pending = {
                let mut outbox = lock(&self.outbox);
                self.must_sync.store(false, Relaxed);
                std::mem::take(&mut *outbox)
            };
            if let Err(error) = output.carry_out(pending) {
                self.fail(error.to_string());
            }
            // Looks again after letting go: whoever came meanwhile has left its effects to us.
        }
    }
}
