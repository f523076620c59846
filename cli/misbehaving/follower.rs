//! A replica that follows the protocol, and does one thing besides that no correct one does.
//!
//! One thread, no store. It answers pings at once, votes, makes checkpoints and changes views as the correct
//! replicas do; it relays no requests.

use crate::config::{Config, Served};
use crate::flood::Flood;
use crate::pace::Pace;
use pbft::crypto::ed25519::Ed25519;
use pbft::crypto::{Signed, Verified};
use pbft::message::Message;
use pbft::presence::{ProgressTimer, shows_presence};
use pbft::replica::verify::verify;
use pbft::replica::{
    Destination, Effect, Effects, Event, Expired, Replica, Setup, Subject, Timeouts, Timer, nodes,
};
use pbft::runtime::Hosts;
use pbft::runtime::control::{self, Answer, CONTROL, Control, Health};
use pbft::runtime::counters::Counters;
use pbft::runtime::sessions::Peer;
use pbft::runtime::transport::{Buffers, Transport};
use pbft::types::{ClientId, Principal, ReplicaId};
use pbft::wire;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest wait for a datagram, and so how late anything may be.
const RECEIVE_WAIT: Duration = Duration::from_millis(2);
/// The most datagrams that are handled before it looks at what is due.
const AT_ONCE: usize = 64;
/// How often sessions are looked after.
const TICK: Duration = Duration::from_millis(10);
/// How often it looks whether to misbehave.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Where the delay begins that grows, and its growth in a second.
const FIRST_DELAY: Duration = Duration::from_millis(10);
const GROWTH: f64 = 1.1;

/// What it does that it should not.
pub enum Conduct {
    /// As primary it sends each PRE-PREPARE so late.
    Delay(Duration),
    /// The same with a delay that grows from 10 ms by a tenth every second.
    Growing,
    /// As primary it looks at the requests of this client so late, or never.
    Unfair(ClientId, Option<Duration>),
    /// It sends each other replica so many messages a second that nobody needs.
    Flood(Box<Flood>, u64),
}

enum Held {
    Send(usize, Message<Ed25519>),
    Take(Verified<Message<Ed25519>>),
}

/// The replica and its socket.
pub struct Follower {
    setup: Arc<Setup<Served>>,
    core: Replica<Served>,
    timeouts: Timeouts,
    transport: Transport,
    replicas: Vec<Peer>,
    hosts: Hosts,
    counters: Arc<Counters>,
    progress: ProgressTimer,
    status: Option<Instant>,
    started: Instant,
    ticked: Instant,
    conduct: Conduct,
    /// The file that says whether it misbehaves, when that was looked at, and since when it does.
    sign: Option<PathBuf>,
    looked: Instant,
    from: Option<Instant>,
    held: BTreeMap<(Instant, u64), Held>,
    pace: Option<Pace>,
    misdeeds: u64,
    received: Buffers,
    buffers: Buffers,
}

impl Follower {
    /// Binds the address of the replica and starts it. It misbehaves while the file `sign` exists, if one is
    /// named.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what to do.
    pub fn bind(
        config: &Config,
        id: ReplicaId,
        conduct: Conduct,
        sign: Option<PathBuf>,
    ) -> Result<Self, String> {
        let setup = Arc::new(config.setup(id)?);
        setup.check_servable().map_err(|problem| problem.to_string())?;
        let listen = config.listen(id)?;
        let hosts = config.hosts(&setup.keys, (0..setup.clients).map(ClientId))?;
        let sessions = hosts
            .sessions_of_replica(id, config.host_key(Principal::Replica(id))?)
            .map_err(|error| error.to_string())?;
        let replicas = hosts.replicas();
        let counters = Arc::new(Counters::default());
        let datagram_bytes = config.file.datagram_bytes;
        let transport = Transport::bind(
            listen,
            datagram_bytes,
            sessions,
            replicas.clone(),
            RECEIVE_WAIT,
            counters.clone(),
        );
        let transport = transport.map_err(|error| {
            format!("cannot listen at {listen}: {error}; stop the replica that runs there first")
        })?;
        let mut effects = Effects::new();
        let core = Replica::start(&setup, None, &mut effects).map_err(|error| error.to_string())?;
        let started = Instant::now();
        let from = sign.is_none().then_some(started);
        let mut follower = Follower {
            progress: ProgressTimer::new(&setup.cluster, id, config.timeouts(), Duration::ZERO),
            timeouts: config.timeouts(),
            setup,
            core,
            transport,
            replicas,
            hosts,
            counters,
            status: None,
            started,
            ticked: started,
            conduct,
            sign,
            looked: started,
            from,
            held: BTreeMap::new(),
            pace: None,
            misdeeds: 0,
            received: Buffers::default(),
            buffers: Buffers::default(),
        };
        follower.carry_out(effects);
        Ok(follower)
    }

    /// How many messages it has held back or sent without need.
    pub fn misdeeds(&self) -> u64 {
        self.misdeeds
    }

    /// Receives what there is, and does what is due.
    ///
    /// # Errors
    /// If the socket fails; it is of no more use then.
    pub fn turn(&mut self) -> Result<(), String> {
        let mut buffers = std::mem::take(&mut self.received);
        let outcome = self.receive(&mut buffers);
        self.received = buffers;
        outcome.map_err(|error| format!("cannot receive: {error}; see to the machine"))?;
        let now = Instant::now();
        self.fire(now);
        while let Some(entry) = self.held.first_entry()
            && entry.key().0 <= now
        {
            match entry.remove() {
                Held::Send(node, message) => self.send(node, &message),
                Held::Take(message) => self.step(Event::Message(message)),
            }
        }
        self.flood(now);
        Ok(())
    }

    fn receive(&mut self, buffers: &mut Buffers) -> std::io::Result<()> {
        if let Some((from, bytes)) = self.transport.receive(buffers)? {
            let bytes = bytes.into_owned();
            self.take(from, &bytes);
        }
        for _ in 0..AT_ONCE {
            let Some(arrival) = self.transport.try_receive(buffers)? else { break };
            if let Some((from, bytes)) = arrival {
                let bytes = bytes.into_owned();
                self.take(from, &bytes);
            }
        }
        Ok(())
    }

    fn take(&mut self, from: Peer, bytes: &[u8]) {
        if bytes.first() == Some(&CONTROL) {
            return self.on_control(from, bytes);
        }
        let message = match wire::decode::<Ed25519>(bytes) {
            Ok(message) => message,
            Err(reason) => return self.counters.reject(reason),
        };
        if let Conduct::Flood(flood, _) = &mut self.conduct {
            flood.remember(&message);
        }
        if Subject::of(&message).is_some_and(|subject| !self.core.heeds(&self.setup, subject)) {
            return self.counters.unheeded.add(1);
        }
        match verify(&self.setup, message) {
            Ok(message) => {
                if let Some(replica) = shows_presence(&message) {
                    self.progress.heard(replica, self.started.elapsed());
                }
                self.take_verified(message);
            }
            Err(reason) => self.counters.reject(reason),
        }
    }

    fn take_verified(&mut self, message: Verified<Message<Ed25519>>) {
        if let Conduct::Unfair(victim, by) = self.conduct
            && let Message::Request(request) = &*message
            && request.content.client == victim
            && self.is_primary()
            && self.from.is_some()
        {
            self.misdeeds += 1;
            if let Some(by) = by {
                self.hold(by, Held::Take(message));
            }
            return;
        }
        self.step(Event::Message(message));
    }

    fn is_primary(&self) -> bool {
        self.setup.cluster.primary(self.core.view()) == self.setup.id
    }

    fn hold(&mut self, by: Duration, held: Held) {
        self.held.insert((Instant::now() + by, self.misdeeds), held);
    }

    fn step(&mut self, event: Event<Ed25519>) {
        let mut effects = Effects::new();
        self.core.step(&self.setup, event, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Effects<Ed25519>) {
        let own = usize::from(self.setup.id.0);
        for effect in effects {
            match effect {
                Effect::Send(Destination::Replica(_), Message::Request(_)) => {}
                Effect::Send(to, message) => {
                    let by = self.delay().filter(|_| matches!(message, Message::PrePrepare(..)));
                    for node in nodes(&self.setup.cluster, own, to).into_iter().filter(|&node| node != own) {
                        if let Some(by) = by {
                            self.misdeeds += 1;
                            self.hold(by, Held::Send(node, message.clone()));
                        } else {
                            self.send(node, &message);
                        }
                    }
                }
                Effect::SetTimer(Timer::Progress { backoff }) => {
                    self.progress.set(backoff, self.started.elapsed());
                }
                Effect::SetTimer(Timer::Status) => self.status = Some(Instant::now() + self.timeouts.status),
                Effect::CancelProgressTimer => self.progress.cancel(),
                Effect::Reject(reason) => self.counters.reject(reason),
                _ => {}
            }
        }
    }

    /// How long PRE-PREPAREs are held back now.
    fn delay(&self) -> Option<Duration> {
        let since = self.from?.elapsed();
        match self.conduct {
            Conduct::Delay(by) => Some(by),
            Conduct::Growing => Some(FIRST_DELAY.mul_f64(GROWTH.powf(since.as_secs_f64().min(60.0)))),
            _ => None,
        }
    }

    /// Looks whether it is to misbehave.
    fn look(&mut self, now: Instant) {
        if now.duration_since(self.looked) < LOOK_AGAIN {
            return;
        }
        self.looked = now;
        if let Some(sign) = &self.sign {
            self.from = if sign.exists() { self.from.or(Some(now)) } else { None };
        }
    }

    fn fire(&mut self, now: Instant) {
        self.look(now);
        if self.progress.fires(now - self.started) {
            self.step(Event::Timeout(Expired::Progress));
        }
        if self.status.is_some_and(|due| due <= now) {
            self.status = None;
            self.step(Event::Timeout(Expired::Status));
        }
        if now.duration_since(self.ticked) >= TICK {
            self.ticked = now;
            self.transport.tick(&mut self.buffers);
        }
    }

    fn flood(&mut self, now: Instant) {
        let Conduct::Flood(flood, rate) = &mut self.conduct else { return };
        if self.from.is_none() {
            self.pace = None;
            return;
        }
        let due = self.pace.get_or_insert_with(|| Pace::new(*rate, now)).take(now);
        let own = usize::from(self.setup.id.0);
        let others: Vec<Peer> =
            self.replicas.iter().enumerate().filter(|(id, _)| *id != own).map(|(_, &peer)| peer).collect();
        for _ in 0..due {
            flood.send(&self.setup, &self.core, &self.transport, &others, &mut self.buffers);
            self.misdeeds += others.len() as u64;
        }
    }

    fn send(&mut self, node: usize, message: &Message<Ed25519>) {
        let client = || Some(ClientId(u32::try_from(node - self.replicas.len()).ok()?));
        let replica = self.replicas.get(node).copied();
        match replica.or_else(|| self.hosts.of_client(client()?)) {
            Some(to) => self.transport.send(&[to], &wire::encode(message), &mut self.buffers),
            None => self.counters.no_host.add(1),
        }
    }

    fn on_control(&mut self, from: Peer, bytes: &[u8]) {
        let answer = match control::decode::<Ed25519>(bytes) {
            Some(Control::Ping(number)) => Control::Pong(number),
            Some(Control::Query(query)) => {
                let answer = Answer { replica: self.setup.id, clock: query.clock, health: self.health() };
                Control::Answer(Box::new(Signed::new(answer, &*self.setup.keys)))
            }
            _ => return,
        };
        self.transport.send(&[from], &control::encode::<Ed25519>(&answer), &mut self.buffers);
    }

    /// How it does, and how often it has misbehaved: about that it does not lie.
    fn health(&self) -> Health {
        let counters = self.counters.all().into_iter().chain([("lies", self.misdeeds)]);
        Health {
            counters: counters.map(|(name, value)| (name.into(), value)).collect(),
            rejections: self.counters.rejections().into_iter().map(|(r, n)| (r.into(), n)).collect(),
            pid: std::process::id(),
            ..Health::of(&self.setup, &self.core)
        }
    }
}
