//! The adversary at the address of a replica: it receives, lies, and sends, in one thread.

use crate::config::{Config, Served};
use pbft::crypto::Signed;
use pbft::crypto::ed25519::Ed25519;
use pbft::message::Message;
use pbft::replica::Timeouts;
use pbft::replica::{Effect, Setup, Timer};
use pbft::runtime::Hosts;
use pbft::runtime::control::{self, Answer, CONTROL, Control, Health};
use pbft::runtime::counters::Counters;
use pbft::runtime::sessions::Peer;
use pbft::runtime::transport::{Buffers, Transport};
use pbft::types::{ClientId, Principal, ReplicaId};
use pbft::wire;
use pbft_models::byzantine::{Byzantine, Reaction, Strategy};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest wait for a datagram, and so how late a timer may fire.
const RECEIVE_WAIT: Duration = Duration::from_millis(10);
/// The pause between two pieces of mischief, in milliseconds: from the first to below the second.
const PAUSE_MS: std::ops::Range<u64> = 10..50;
/// One in this number of pieces of mischief is a time-out without reason: about every three seconds.
const IMPATIENCE: u32 = 100;
/// A core that has been leaving its view for this number of progress time-outs, while the others stay, starts
/// again.
const STUCK: u32 = 4;

/// A misbehaving replica and its socket.
pub struct Impostor {
    setup: Arc<Setup<Served>>,
    liar: Byzantine<Served>,
    rng: ChaCha8Rng,
    timeouts: Timeouts,
    transport: Transport,
    replicas: Vec<Peer>,
    hosts: Hosts,
    counters: Arc<Counters>,
    progress: Option<Instant>,
    status: Option<Instant>,
    mischief: Instant,
    leaving_since: Option<Instant>,
    received: Buffers,
    buffers: Buffers,
}

impl Impostor {
    /// Binds the address of the replica and starts its core.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what to do.
    pub fn bind(config: &Config, id: ReplicaId, strategy: Strategy, seed: u64) -> Result<Self, String> {
        let setup = Arc::new(config.setup(id)?);
        setup.check_servable().map_err(|problem| problem.to_string())?;
        let listen = config.listen(id)?;
        let hosts = config.hosts(&setup.keys, (0..setup.clients).map(ClientId))?;
        let sessions = hosts
            .sessions_of_replica(id, config.host_key(Principal::Replica(id))?)
            .map_err(|error| error.to_string())?;
        let replicas = hosts.replicas();
        let counters = Arc::new(Counters::default());
        let transport = Transport::bind(
            listen,
            config.file.datagram_bytes,
            sessions,
            replicas.clone(),
            RECEIVE_WAIT,
            counters.clone(),
        )
        .map_err(|error| {
            format!("cannot listen at {listen}: {error}; stop the replica that runs there first")
        })?;
        let mut impostor = Impostor {
            liar: Byzantine::new(setup.clone(), strategy),
            setup,
            rng: ChaCha8Rng::seed_from_u64(seed),
            timeouts: config.timeouts(),
            transport,
            replicas,
            hosts,
            counters,
            progress: None,
            status: None,
            mischief: Instant::now(),
            leaving_since: None,
            received: Buffers::default(),
            buffers: Buffers::default(),
        };
        impostor.start_again();
        Ok(impostor)
    }

    /// How many messages it has withheld, distorted or made up.
    pub fn lies(&self) -> u64 {
        self.liar.lies()
    }

    /// Receives what there is, fires the timers that are due, and does some mischief.
    ///
    /// # Errors
    /// If the socket fails; the impostor is of no more use then.
    pub fn turn(&mut self) -> Result<(), String> {
        let mut buffers = std::mem::take(&mut self.received);
        let received = self.transport.receive(&mut buffers);
        match received.map_err(|error| format!("cannot receive: {error}; see to the machine"))? {
            Some((from, bytes)) if bytes.first() == Some(&CONTROL) => self.on_control(from, &bytes),
            Some((_, bytes)) => match wire::decode::<Ed25519>(&bytes) {
                Ok(message) => {
                    let reaction = self.liar.on_message(message, &mut self.rng);
                    self.carry_out(reaction);
                }
                Err(reason) => self.counters.reject(reason),
            },
            None => {}
        }
        self.received = buffers;
        self.fire(Instant::now());
        Ok(())
    }

    fn fire(&mut self, now: Instant) {
        if self.progress.is_some_and(|due| due <= now) {
            self.progress = None;
            self.time_out(Timer::Progress { backoff: 0 });
        }
        if self.status.is_some_and(|due| due <= now) {
            self.status = None;
            self.time_out(Timer::Status);
        }
        if self.mischief > now {
            return;
        }
        self.mischief = now + Duration::from_millis(self.rng.random_range(PAUSE_MS));
        self.transport.tick(&mut self.buffers);
        if self.rng.random_range(0..IMPATIENCE) == 0 {
            self.time_out(Timer::Progress { backoff: 0 });
        }
        for (node, message) in self.liar.mischief(&mut self.rng) {
            self.send(node, &message);
        }
        match (self.liar.core().leaving(), self.leaving_since) {
            (None, _) => self.leaving_since = None,
            (Some(_), None) => self.leaving_since = Some(now),
            (Some(_), Some(since)) if now > since + self.timeouts.progress * STUCK => self.start_again(),
            _ => {}
        }
    }

    /// A replica that has left its view alone takes no part any more, and could misbehave in little.
    fn start_again(&mut self) {
        (self.progress, self.status, self.leaving_since) = (None, None, None);
        let reaction = self.liar.forget(&mut self.rng);
        self.carry_out(reaction);
    }

    fn time_out(&mut self, timer: Timer) {
        let reaction = self.liar.on_timeout(timer, &mut self.rng);
        self.carry_out(reaction);
    }

    fn carry_out(&mut self, reaction: Reaction<Served>) {
        for timer in reaction.timers {
            match timer {
                Effect::SetTimer(timer) => {
                    let due = Some(Instant::now() + self.timeouts.duration(timer));
                    match timer {
                        Timer::Progress { .. } => self.progress = due,
                        Timer::Status => self.status = due,
                    }
                }
                _ => self.progress = None,
            }
        }
        for (node, message) in reaction.parcels {
            self.send(node, &message);
        }
    }

    fn send(&mut self, node: usize, message: &Message<Ed25519>) {
        if node == usize::from(self.setup.id.0) {
            return;
        }
        let client = || Some(ClientId(u32::try_from(node - self.replicas.len()).ok()?));
        let replica = self.replicas.get(node).copied();
        match replica.or_else(|| self.hosts.of_client(client()?)) {
            Some(to) => self.transport.send(&[to], &wire::encode(message), &mut self.buffers),
            None => self.counters.no_host.add(1),
        }
    }

    fn on_control(&mut self, from: Peer, bytes: &[u8]) {
        if let Some(Control::Query(query)) = control::decode::<Ed25519>(bytes) {
            let answer = Answer { replica: self.setup.id, clock: query.clock, health: self.health() };
            let answer = Control::<Ed25519>::Answer(Box::new(Signed::new(answer, &*self.setup.keys)));
            self.transport.send(&[from], &control::encode(&answer), &mut self.buffers);
        }
    }

    /// How its core does: the one thing about which it does not lie, so that tests and people can look on.
    fn health(&self) -> Health {
        let counters = self.counters.all().into_iter().chain([("lies", self.liar.lies())]);
        Health {
            counters: counters.map(|(name, value)| (name.into(), value)).collect(),
            rejections: self.counters.rejections().into_iter().map(|(r, n)| (r.into(), n)).collect(),
            pid: std::process::id(),
            ..Health::of(&self.setup, self.liar.core())
        }
    }
}
