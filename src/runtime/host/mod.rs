//! One replica on a machine: threads, timers, the store and the socket around [`Replica::step`].

mod health;
mod timers;

use crate::crypto::{Signed, Verified};
use crate::message::Message;
use crate::parameters::ConfigError;
use crate::presence::{ProgressTimer, shows_presence};
use crate::rejection::Rejection;
use crate::replica::Timeouts;
use crate::replica::verify::verify;
use crate::replica::{Bundle, Effect, Effects, Event, Fact, Record, Replica, Setup, Subject, Timer};
use crate::runtime::control::{self, Answer, Control, Health};
use crate::runtime::counters::Counters;
use crate::runtime::options::{Options, StartError, StopError, Witness};
use crate::runtime::output::{CarriedOut, Outgoing, Output};
use crate::runtime::sessions::Peer;
use crate::runtime::store::Store;
use crate::runtime::transport::{Buffers, Transport};
use crate::store::Identity;
use crate::wire;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
    /// The progress timer, and who is heard. Only ever locked last.
    progress: Mutex<ProgressTimer>,
    /// Where the timer's time begins.
    started: Instant,
    counters: Arc<Counters>,
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// A running replica. It goes on when this is dropped; [`Host::stop`] ends it.
pub struct Host<B: Bundle> {
    shared: Arc<Shared<B>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
        let transport = Arc::new(transport.map_err(|error| StartError::Bind(options.listen, error))?);

        let mut effects = Effects::new();
        let replica = Replica::start(&setup, stored.clone(), &mut effects)?;
        let witness: Option<SharedWitness<B>> = options.witness.map(|witness| Arc::new(Mutex::new(witness)));
        if let Some(witness) = &witness {
            lock(witness).started(stored.as_ref(), &effects)?;
        }
        let mut output =
            Output::new(setup.id, setup.cluster, options.hosts, store, transport.clone(), counters.clone());
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
        };
        let progress = ProgressTimer::new(&setup.cluster, setup.id, options.timeouts, Duration::ZERO);
        let shared = Arc::new(Shared {
            progress: Mutex::new(progress),
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
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        shared.absorb(&mut lock(&shared.core), effects);
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

    // --- receiving ---

    /// Receives until told to stop. While more datagrams wait, effects that must be made durable are left in
    /// the outbox: one sync serves many steps.
    fn work(&self) {
        let (mut buffers, mut answers) = (Buffers::default(), Buffers::default());
        let mut since = Instant::now();
        let mut steps = 0;
        while !self.stop.load(Relaxed) {
            if steps == 0 {
                since = Instant::now();
            }
            match self.transport.receive(&mut buffers) {
                Ok(None) => {}
                Ok(Some((from, bytes))) if bytes.first() == Some(&control::CONTROL) => {
                    self.on_control(from, &bytes, &mut answers);
                }
                Ok(Some((_, bytes))) => {
                    if let Some(message) = self.checked(&bytes) {
                        self.step_locked(&mut lock(&self.core), Event::Message(message));
                        steps += 1;
                    }
                }
                Err(error) => self.fail(format!("cannot receive: {error}")),
            }
            let enough = steps >= MAX_HELD || since.elapsed() > MAX_HOLD;
            if enough || !self.must_sync.load(Relaxed) || !self.transport.has_more() {
                steps = 0;
                self.flush();
            }
        }
    }

    /// The message that these bytes are, if the replica has use for it and all its signatures are valid.
    fn checked(&self, bytes: &[u8]) -> Option<Verified<Message<B::Crypto>>> {
        let message = wire::decode::<B::Crypto>(bytes).map_err(|reason| self.counters.reject(reason)).ok()?;
        if !self.heeds(&message) {
            self.counters.unheeded.add(1);
            return None;
        }
        let message = self.counters.timed(&self.counters.verify_ns, || verify(&self.setup, message));
        let message = message.map_err(|reason| self.counters.reject(reason)).ok()?;
        self.counters.verified.add(1);
        self.note_sender(&message);
        Some(message)
    }

    /// Whether the replica has use for a message, if it is valid.
    fn heeds(&self, message: &Message<B::Crypto>) -> bool {
        let replica = &lock(&self.core).replica;
        Subject::of(message).is_none_or(|subject| replica.heeds(&self.setup, subject))
            && !replica.has_accepted(message)
    }

    /// Remembers that a replica is there.
    fn note_sender(&self, message: &Message<B::Crypto>) {
        if let Some(replica) = shows_presence(message) {
            lock(&self.progress).heard(replica, self.started.elapsed());
        }
    }

    fn on_control(&self, from: Peer, bytes: &[u8], buffers: &mut Buffers) {
        let members = self.setup.membership();
        match control::decode::<B::Crypto>(bytes) {
            // That it came is all: now there is a session.
            Some(Control::Hello) => {}
            Some(Control::Query(query)) => match members.check(&query) {
                Ok(()) => {
                    let clock = query.content.clock;
                    let answer = Answer { replica: self.setup.id, clock, health: self.health() };
                    let answer = Control::<B::Crypto>::Answer(Signed::new(answer, &*self.setup.keys));
                    self.transport.send(&[from], &control::encode(&answer), buffers);
                }
                Err(reason) => self.counters.reject(reason),
            },
            Some(Control::Answer(_)) => self.counters.reject(Rejection::NotForThisNode),
            None => self.counters.reject(Rejection::Malformed),
        }
    }

    // --- steps ---

    fn step_locked(&self, core: &mut Core<B>, event: Event<B::Crypto>) {
        let mut effects = Effects::new();
        let watched = core.witness.as_ref().map_or(Ok(()), |witness| lock(witness).event(&event));
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
        self.absorb(core, effects);
    }

    /// Takes over what a step asks for: timers at once, the rest to the outbox.
    fn absorb(&self, core: &mut Core<B>, effects: Effects<B::Crypto>) {
        let now = Instant::now();
        let mut outbox = lock(&self.outbox);
        let before = outbox.len();
        let (mut new_snapshot, mut fetched) = (false, false);
        for effect in effects {
            match effect {
                Effect::Persist(record) => {
                    new_snapshot |= matches!(record, Record::Snapshot(_));
                    self.must_sync.store(self.keeps, Relaxed);
                    outbox.push(Outgoing::Persist(record));
                }
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
        match fact {
            Fact::Executed { requests, .. } => {
                core.executed_at = now;
                self.counters.batches.add(1);
                self.counters.requests.add(requests.len() as u64);
            }
            Fact::ViewLeft { view, to } => {
                lock(&self.progress).view_left();
                tracing::info!(view = view.0, to = to.0, "view left");
            }
            Fact::ViewEntered { view, .. } => {
                self.counters.views_entered.add(1);
                tracing::info!(view = view.0, "view entered");
            }
            Fact::CheckpointStable { n, .. } => {
                self.counters.stable_checkpoints.add(1);
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
