//! Clients over UDP: any number of them behind one socket, driven by whoever owns them.
//!
//! ```no_run
//! # use pbft::{client::ClientSetup, crypto::ed25519::Ed25519, kv::Operation, rules::Pbft, types::{Bytes, ClientId}};
//! # use pbft::runtime::{Clients, Hosts, sessions::HostKey};
//! # use std::time::{Duration, Instant};
//! # fn example(setup: ClientSetup<Ed25519, Pbft>, hosts: &Hosts, key: HostKey) -> std::io::Result<()> {
//! let client = setup.id;
//! let mut clients = Clients::open(hosts, key, vec![setup], Duration::from_millis(250), 1400)?;
//! let get = Operation::Get { key: Bytes::from(&b"k"[..]) };
//! clients.invoke(client, get.to_bytes(), true);
//! let completed = clients.wait(Instant::now() + Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```

use super::control::{self, Control};
use super::counters::Counters;
use super::hosts::Hosts;
use super::sessions::{HostKey, Peer};
use super::transport::{Buffers, Transport};
use crate::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
use crate::crypto::Crypto;
use crate::message::Message;
use crate::replica::{Destination, Subject, nodes};
use crate::rules::Rules;
use crate::types::{Bytes, ClientId, Timestamp};
use crate::wire;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a waiting client's host shows itself again, in case a replica has restarted.
const HELLO_INTERVAL: Duration = Duration::from_secs(2);
/// A client waits this multiple of the time that operations take, if that is more than its time-out.
const TIMEOUT_FACTOR: u32 = 4;
/// How often every replica is shown a request of each client at once, in microseconds.
const SHOW_INTERVAL: u64 = 50_000;
/// The longest wait for a datagram, and so how late a time-out may be noticed.
const RECEIVE_WAIT: Duration = Duration::from_millis(4);

/// An operation that has its result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Completion {
    /// Who asked.
    pub client: ClientId,
    /// What enough replicas answered.
    pub result: Bytes,
    /// From the invocation to the result.
    pub took: Duration,
}

struct Entry<C: Crypto, R: Rules> {
    setup: ClientSetup<C, R>,
    client: Client<C>,
    deadline: Option<Instant>,
    invoked: Instant,
    /// Whether it has asked every replica since.
    asked_all: bool,
    /// What replicas say that they have had of this client, later than what it asks for.
    later: BTreeMap<Peer, Timestamp>,
    /// When a request of it went to every replica last, in microseconds of the clock.
    shown: Timestamp,
}

impl<C: Crypto, R: Rules> Entry<C, R> {
    /// Whether all replicas are shown this request, not the primary alone: a few of each client, so that they
    /// know how long the primary takes.
    fn shows_all(&mut self, now: Timestamp) -> bool {
        let is_due = now.0.abs_diff(self.shown.0) >= SHOW_INTERVAL;
        if is_due {
            self.shown = now;
        }
        is_due
    }
}

/// Called with what must be durable before the request it belongs to leaves.
pub type Keep = Box<dyn FnMut(ClientId, ClientDurable) -> io::Result<()> + Send>;

/// Clients that share a socket.
///
/// Timestamps come from the clock, in microseconds. Without [`Clients::keep_with`] nothing else is kept, so
/// the clock must not go back between two processes that use one key.
pub struct Clients<C: Crypto, R: Rules> {
    transport: Transport,
    replicas: Vec<Peer>,
    clients: BTreeMap<ClientId, Entry<C, R>>,
    deadlines: BTreeSet<(Instant, ClientId)>,
    timeout: Duration,
    /// How long an operation takes, smoothed: under load, asking every replica too soon makes it only worse.
    usual: Duration,
    completed: Vec<Completion>,
    refused: Vec<ClientId>,
    keep: Option<Keep>,
    counters: Arc<Counters>,
    buffers: Buffers,
    ticked: Instant,
    said_hello: Option<Instant>,
}

impl<C: Crypto, R: Rules> Clients<C, R> {
    /// Opens a socket for these clients. `key` is that of the host that speaks for all of them, and only one
    /// socket may use it at a time: replies go to the one that was heard last. `timeout` is how long a client
    /// waits, at least, before it asks every replica.
    ///
    /// # Errors
    /// If no socket can be had, or the key is not that of their host.
    pub fn open(
        hosts: &Hosts,
        key: HostKey,
        setups: Vec<ClientSetup<C, R>>,
        timeout: Duration,
        datagram_bytes: usize,
    ) -> io::Result<Self> {
        let any = match hosts.addresses().first() {
            Some(SocketAddr::V6(_)) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        };
        let counters = Arc::new(Counters::default());
        let sessions = hosts
            .sessions_of_clients(setups.iter().map(|setup| setup.id), key)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let replicas = hosts.replicas();
        let transport =
            Transport::bind(any, datagram_bytes, sessions, replicas.clone(), RECEIVE_WAIT, counters.clone())?;
        let now = Instant::now();
        let entry = |setup: ClientSetup<C, R>| {
            let client = Client::new(ClientDurable::default());
            (
                setup.id,
                Entry {
                    setup,
                    client,
                    deadline: None,
                    invoked: now,
                    asked_all: false,
                    later: BTreeMap::new(),
                    shown: Timestamp(0),
                },
            )
        };
        Ok(Clients {
            transport,
            replicas,
            clients: setups.into_iter().map(entry).collect(),
            deadlines: BTreeSet::new(),
            timeout,
            usual: Duration::ZERO,
            completed: Vec::new(),
            refused: Vec::new(),
            keep: None,
            counters,
            buffers: Buffers::default(),
            ticked: now,
            said_hello: None,
        })
    }

    /// Goes on from what a client has kept, and keeps what comes with `keep`.
    pub fn keep_with(&mut self, client: ClientId, kept: ClientDurable, keep: Keep) {
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.client = Client::new(kept);
        }
        self.keep = Some(keep);
    }

    /// The clients, in order.
    pub fn ids(&self) -> impl Iterator<Item = ClientId> {
        self.clients.keys().copied()
    }

    /// Whether this client has a request outstanding; it has one at a time.
    pub fn is_waiting(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_some_and(|entry| entry.client.is_waiting())
    }

    /// What happened how often.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Asks for an operation. Nothing happens if the client is unknown or has a request outstanding.
    ///
    /// # Errors
    /// If what must be kept cannot be; then nothing has been sent.
    pub fn invoke(&mut self, client: ClientId, operation: Bytes, read_only: bool) -> io::Result<()> {
        if self.is_waiting(client) {
            return Ok(());
        }
        self.say_hello();
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.invoked = Instant::now();
            entry.later.clear();
        }
        self.step(client, ClientEvent::Invoke { operation, read_only, clock: clock() })
    }

    /// Gives a request up: its result, if it ever comes, is not reported. It may still be executed.
    pub fn abandon(&mut self, client: ClientId) {
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.client = Client::new(entry.client.durable());
            if let Some(deadline) = entry.deadline.take() {
                self.deadlines.remove(&(deadline, client));
            }
        }
    }

    /// The clients, since the last call, whose outstanding request has been given up because f + 1 replicas have had
    /// a later timestamp of them: the clock has gone back, or was ahead when the key was used last. It has not
    /// been executed, unless another program uses the key too. Later ones go on from that timestamp.
    pub fn refused(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.refused)
    }

    /// Handles what arrives until something completes or is refused, or it is `until`.
    ///
    /// # Errors
    /// If the socket fails. Operations that are under way stay so: call again, or give them up.
    pub fn wait(&mut self, until: Instant) -> io::Result<Vec<Completion>> {
        loop {
            self.poll()?;
            if !self.completed.is_empty() || !self.refused.is_empty() || Instant::now() >= until {
                return Ok(std::mem::take(&mut self.completed));
            }
        }
    }

    /// Waits for one datagram, a few milliseconds at most, and handles it and what is due.
    fn poll(&mut self) -> io::Result<()> {
        self.receive()?;
        let now = Instant::now();
        if now.duration_since(self.ticked) > RECEIVE_WAIT {
            self.ticked = now;
            self.transport.tick(&mut self.buffers);
        }
        while let Some(&(deadline, client)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, client));
            if let Some(entry) = self.clients.get_mut(&client) {
                entry.deadline = None;
            }
            self.say_hello();
            self.step(client, ClientEvent::Timeout)?;
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<()> {
        let Some((from, bytes)) = self.transport.receive(&mut self.buffers)? else { return Ok(()) };
        let bytes = bytes.into_owned();
        if bytes.first() == Some(&control::CONTROL) {
            return match control::decode::<C>(&bytes) {
                Some(Control::Old(client, asked, last)) => self.on_old(from, client, asked, last),
                _ => Ok(()),
            };
        }
        let message = match wire::decode::<C>(&bytes) {
            Ok(message) => message,
            Err(reason) => {
                self.counters.reject(reason);
                return Ok(());
            }
        };
        let Message::Reply(reply) = &message else { return Ok(()) };
        let client = reply.content.client;
        let Some(entry) = self.clients.get(&client) else { return Ok(()) };
        if Subject::of(&message).is_some_and(|subject| !entry.client.heeds(&entry.setup, subject)) {
            self.counters.unheeded.add(1);
            return Ok(());
        }
        match Client::verify(&entry.setup, message) {
            Ok(reply) => {
                self.counters.verified.add(1);
                self.step(client, ClientEvent::Message(reply))
            }
            Err(reason) => {
                self.counters.reject(reason);
                Ok(())
            }
        }
    }

    /// A replica has had a later timestamp of a client than what it asks for. One may lie; of f + 1 one is correct.
    fn on_old(&mut self, from: Peer, client: ClientId, asked: Timestamp, last: Timestamp) -> io::Result<()> {
        let Some(entry) = self.clients.get_mut(&client) else { return Ok(()) };
        if !entry.client.is_waiting() || entry.client.durable().last != asked || last <= asked {
            return Ok(());
        }
        entry.later.insert(from, last);
        let mut later: Vec<Timestamp> = entry.later.values().copied().collect();
        later.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&last) = later.get(entry.setup.cluster.f()) else { return Ok(()) };
        self.abandon(client);
        let durable = ClientDurable { last };
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.client = Client::new(durable);
        }
        if let Some(keep) = &mut self.keep {
            keep(client, durable)?;
        }
        self.refused.push(client);
        Ok(())
    }

    fn step(&mut self, client: ClientId, event: ClientEvent<C>) -> io::Result<()> {
        let Some(entry) = self.clients.get_mut(&client) else { return Ok(()) };
        let mut effects = Vec::new();
        entry.client.step(&entry.setup, event, &mut effects);
        for effect in effects {
            match effect {
                ClientEffect::Persist(durable) => {
                    if let Some(keep) = &mut self.keep {
                        keep(client, durable)?;
                    }
                }
                ClientEffect::Send(to, message) => {
                    let to = if entry.shows_all(clock()) { Destination::Replicas } else { to };
                    let receivers: Vec<Peer> = nodes(&entry.setup.cluster, usize::MAX, to)
                        .into_iter()
                        .filter_map(|node| self.replicas.get(node).copied())
                        .collect();
                    self.transport.send(&receivers, &wire::encode(&message), &mut self.buffers);
                }
                ClientEffect::SetTimer { backoff } => {
                    entry.asked_all = backoff > 0;
                    let timeout = self.timeout.max(self.usual * TIMEOUT_FACTOR);
                    let deadline = Instant::now() + timeout * 2u32.pow(u32::from(backoff));
                    if let Some(old) = entry.deadline.replace(deadline) {
                        self.deadlines.remove(&(old, client));
                    }
                    self.deadlines.insert((deadline, client));
                }
                ClientEffect::CancelTimer => {
                    if let Some(old) = entry.deadline.take() {
                        self.deadlines.remove(&(old, client));
                    }
                }
                ClientEffect::Completed { result, .. } => {
                    let took = entry.invoked.elapsed();
                    self.usual = smoothed(self.usual, took, entry.asked_all, self.timeout);
                    self.completed.push(Completion { client, result, took });
                }
                ClientEffect::Reject(reason) => self.counters.reject(reason),
            }
        }
        Ok(())
    }

    /// Shows every replica that this host is there, unless it has done so just now: replies come from all of
    /// them, each in a session.
    fn say_hello(&mut self) {
        if self.said_hello.is_some_and(|at| at.elapsed() < HELLO_INTERVAL) {
            return;
        }
        self.said_hello = Some(Instant::now());
        let bytes = control::encode(&Control::<C>::Hello(None));
        self.transport.send(&self.replicas, &bytes, &mut self.buffers);
    }
}

/// How long operations usually take, once one more has taken `took`.
///
/// One that was sent again tells little: its time holds the wait for a lost message, and if that counted in
/// full, each wait would make the next one longer. But under a load where all of them are sent again, the
/// estimate must still grow.
fn smoothed(usual: Duration, took: Duration, asked_all: bool, timeout: Duration) -> Duration {
    let most = if asked_all { usual.max(timeout / TIMEOUT_FACTOR) * 2 } else { took };
    (usual * 7 + took.min(most)) / 8
}

/// The time in the unit of timestamps, microseconds.
pub fn clock() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(250);

    /// The wait after a thousand operations: of every ten so many lose a message, and take as long as the
    /// wait and a bit; the others take `took`.
    fn wait_after(took: Duration, lost_of_ten: u32) -> Duration {
        let mut usual = Duration::ZERO;
        for operation in 0..1000 {
            let wait = TIMEOUT.max(usual * TIMEOUT_FACTOR);
            let lost = operation % 10 < lost_of_ten || took > wait;
            usual = smoothed(usual, if lost { wait + took } else { took }, lost, TIMEOUT);
        }
        TIMEOUT.max(usual * TIMEOUT_FACTOR)
    }

    #[test]
    fn lost_messages_do_not_make_clients_wait_ever_longer() {
        assert!(wait_after(Duration::from_millis(50), 3) < Duration::from_secs(1));
        assert!(wait_after(Duration::from_millis(150), 3) < Duration::from_secs(2));
    }

    #[test]
    fn where_everything_takes_longer_than_the_time_out_clients_learn_to_wait() {
        assert!(wait_after(Duration::from_secs(3), 0) >= Duration::from_secs(3));
    }
}
