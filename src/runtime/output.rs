//! Carrying out effects: records become durable, and only then do messages leave.

use super::counters::{Counters, nanoseconds};
use super::delays::Delays;
use super::host::lock;
use super::hosts::Hosts;
use super::queues::Queues;
use super::sessions::Peer;
use super::store::Store;
use super::transport::{Buffers, Transport};
use crate::crypto::Crypto;
use crate::message::Message;
use crate::replica::{Destination, Durable, Record, Subject};
use crate::types::{Cluster, Digest, ReplicaId};
use crate::wire;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What is left to do of a step.
pub(super) enum Outgoing<C: Crypto> {
    /// Durable before any later send.
    Persist(Record<C>),
    /// To be sent.
    Send(Destination, Message<C>),
    /// To be sent, and not of the protocol.
    Control(Vec<Peer>, Vec<u8>),
    /// A snapshot was recorded: here is the durable state after that step, from which the log can begin
    /// again.
    Checkpoint {
        /// The state.
        durable: Box<Durable<C>>,
        /// Whether the snapshot was fetched: then it does not follow from earlier records.
        fetched: bool,
    },
    /// How many steps come wholly before this; for a witness.
    Steps(u64),
}

/// Tells a witness how many steps are carried out.
pub(super) type CarriedOut = Box<dyn FnMut(u64) -> io::Result<()> + Send>;

/// Why effects cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    #[error("cannot write the store: {0}")]
    Store(#[from] io::Error),
    #[error("cannot write the journal: {0}")]
    Journal(io::Error),
}

/// What a byte that is sent costs, about: sealing and the system call, measured with 30 KB in 22 datagrams.
const SENT_BYTE: Duration = Duration::from_nanos(6);
/// A message that was sent so long ago is sent again, whatever the round trip.
const LONGEST_TRIP: Duration = Duration::from_millis(50);
/// The most messages remembered as sent.
const MOST_RECENT: usize = 4096;

/// What tells two messages apart that were sent lately.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum About {
    /// What a message is about.
    Subject(Subject),
    /// A batch or a block, by its digest: of these there are many about the same.
    Content(Digest),
}

impl About {
    fn of<C: Crypto>(message: &Message<C>) -> Option<Self> {
        match message {
            Message::Batch(batch) => Some(About::Content(batch.digest())),
            Message::Block(block) => Some(About::Content(C::digest(block))),
            _ => Subject::of(message).map(About::Subject),
        }
    }
}

/// What was sent lately, and to whom; nobody means all.
#[derive(Default)]
struct Recent {
    at: BTreeMap<(Option<ReplicaId>, About), Duration>,
    order: VecDeque<(Option<ReplicaId>, About, Duration)>,
}

impl Recent {
    fn note(&mut self, to: Option<ReplicaId>, about: About, now: Duration) {
        while let Some(&(to, about, at)) = self.order.front()
            && (at + LONGEST_TRIP < now || self.order.len() >= MOST_RECENT)
        {
            self.order.pop_front();
            if self.at.get(&(to, about)) == Some(&at) {
                self.at.remove(&(to, about));
            }
        }
        self.at.insert((to, about), now);
        self.order.push_back((to, about, now));
    }

    fn is_within(&self, to: ReplicaId, about: About, now: Duration, trip: Duration) -> bool {
        [Some(to), None].into_iter().filter_map(|to| self.at.get(&(to, about))).any(|&at| now < at + trip)
    }
}

/// The store and the socket, as one thread at a time uses them.
pub(super) struct Output<C: Crypto> {
    own: ReplicaId,
    cluster: Cluster,
    replicas: Vec<Peer>,
    hosts: Hosts,
    store: Option<Store<C>>,
    transport: Arc<Transport>,
    counters: Arc<Counters>,
    queues: Arc<Mutex<Queues>>,
    delays: Arc<Mutex<Delays>>,
    started: Instant,
    recent: Recent,
    buffers: Buffers,
    failed: bool,
    pub(super) carried_out: Option<CarriedOut>,
}

impl<C: Crypto> Output<C> {
    pub(super) fn new(
        own: ReplicaId,
        cluster: Cluster,
        hosts: Hosts,
        store: Option<Store<C>>,
        transport: Arc<Transport>,
        counters: Arc<Counters>,
        (queues, delays): (Arc<Mutex<Queues>>, Arc<Mutex<Delays>>),
    ) -> Self {
        Output {
            own,
            cluster,
            replicas: hosts.replicas(),
            hosts,
            store,
            transport,
            counters,
            queues,
            delays,
            started: Instant::now(),
            recent: Recent::default(),
            buffers: Buffers::default(),
            failed: false,
            carried_out: None,
        }
    }

    /// Makes every record durable, then sends every message. After an error nothing is ever sent again: what
    /// later messages promise could be missing from the store.
    pub(super) fn carry_out(&mut self, pending: Vec<Outgoing<C>>) -> Result<(), OutputError> {
        if self.failed {
            return Err(io::Error::other("it has failed before").into());
        }
        let mut records = Vec::new();
        let (mut sends, mut control) = (Vec::new(), Vec::new());
        let mut steps = None;
        self.failed = true;
        for outgoing in pending {
            match outgoing {
                Outgoing::Persist(record) => records.push(record),
                Outgoing::Send(to, message) => sends.push((to, message)),
                Outgoing::Control(to, bytes) => control.push((to, bytes)),
                Outgoing::Steps(count) => steps = Some(count),
                Outgoing::Checkpoint { durable, fetched: false } => {
                    self.commit(&mut records)?;
                    if let Some(store) = &mut self.store {
                        store.checkpoint(*durable)?;
                    }
                }
                Outgoing::Checkpoint { durable, fetched: true } => {
                    // What was executed on top of a fetched state must not be durable before that state is;
                    // the base has both, and everything recorded before.
                    records.clear();
                    if let Some(store) = &mut self.store {
                        store.checkpoint_now(&durable)?;
                    }
                }
            }
        }
        self.commit(&mut records)?;
        if let (Some(steps), Some(witness)) = (steps, &mut self.carried_out) {
            witness(steps).map_err(OutputError::Journal)?;
        }
        self.failed = false;
        let counters = self.counters.clone();
        for (to, message) in sends {
            counters.timed(&counters.send_ns, || self.send(to, &message));
        }
        for (to, bytes) in control {
            self.transport.send(&to, &bytes, &mut self.buffers);
        }
        Ok(())
    }

    fn commit(&mut self, records: &mut Vec<Record<C>>) -> io::Result<()> {
        if let Some(store) = &mut self.store
            && !records.is_empty()
        {
            let before = Instant::now();
            self.counters.timed(&self.counters.store_ns, || store.commit(records))?;
            self.counters.commits.add(1);
            self.counters.records.add(records.len() as u64);
            let took = before.elapsed();
            self.counters.store_wait_ns.add(nanoseconds(took));
            lock(&self.delays).synced(took, self.started.elapsed());
            self.counters.histograms.store_commit.took(took);
        }
        records.clear();
        Ok(())
    }

    fn send(&mut self, to: Destination, message: &Message<C>) {
        if self.was_sent_just_now(to, message) {
            self.counters.sent_just_now.add(1);
            return;
        }
        let bytes = wire::encode(message);
        match to {
            Destination::Replicas => {
                let own = usize::from(self.own.0);
                let (before, after) = self.replicas.split_at(own.min(self.cluster.n() - 1));
                self.transport.send(&[before, &after[1..]].concat(), &bytes, &mut self.buffers);
            }
            Destination::Replica(replica) => {
                if let Some(&host) = self.replicas.get(usize::from(replica.0)) {
                    let before = Instant::now();
                    self.send_to(host, &bytes);
                    if !matches!(message, Message::Block(_)) {
                        lock(&self.queues).answered(host, before.elapsed(), self.started.elapsed());
                    }
                }
            }
            Destination::Client(client) => match self.hosts.of_client(client) {
                Some(host) => self.send_to(host, &bytes),
                None => self.counters.no_host.add(1),
            },
        }
    }

    /// Sends to one host, which is charged for it.
    fn send_to(&mut self, host: Peer, bytes: &[u8]) {
        self.transport.send(&[host], bytes, &mut self.buffers);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        lock(&self.queues).charge(host, SENT_BYTE * length, self.started.elapsed());
    }

    /// Whether a replica is sent again what it was sent within a round trip: what it asks for is under way.
    fn was_sent_just_now(&mut self, to: Destination, message: &Message<C>) -> bool {
        let Some(about) = About::of(message) else { return false };
        let now = self.started.elapsed();
        match to {
            Destination::Client(_) => false,
            Destination::Replicas => {
                self.recent.note(None, about, now);
                false
            }
            Destination::Replica(replica) => {
                let trip = lock(&self.delays).last_trip(replica).unwrap_or_default().min(LONGEST_TRIP);
                let just_now = self.recent.is_within(replica, about, now, trip);
                if !just_now {
                    self.recent.note(Some(replica), about, now);
                }
                just_now
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Signed;
    use crate::crypto::ed25519::{Ed25519, KeyRing};
    use crate::message::{Batch, Fetch, Request, Wanted};
    use crate::parameters::Parameters;
    use crate::replica::Durable;
    use crate::runtime::sessions::HostKey;
    use crate::store::Identity;
    use crate::types::{ClientId, Timestamp};
    use std::net::SocketAddr;

    /// A state is fetched block by block, and each is sent once within a round trip.
    #[test]
    fn blocks_and_batches_are_told_apart() {
        let block = |number| Message::<Ed25519>::Block(vec![number].into());
        let (_, keys) = KeyRing::insecure(0, 1, 1);
        let batch = |timestamp| {
            let content = Request {
                operation: vec![1].into(),
                timestamp: Timestamp(timestamp),
                client: ClientId(0),
                read_only: false,
            };
            Message::<Ed25519>::Batch(Arc::new(Batch { requests: vec![Signed::new(content, &keys[0])] }))
        };
        let all = [block(1), block(2), batch(1), batch(2)];
        let mut recent = Recent::default();
        let (to, trip) = (ReplicaId(1), Duration::from_millis(1));
        for (at, message) in (0..).map(Duration::from_micros).zip(&all) {
            let about = About::of(message).unwrap();
            assert!(!recent.is_within(to, about, at, trip));
            recent.note(Some(to), about, at);
            assert!(recent.is_within(to, about, at, trip));
            assert!(!recent.is_within(ReplicaId(2), about, at, trip));
        }
    }

    /// A store that cannot be written is found out before the messages of the same group leave, in whatever
    /// order the group is, and nothing leaves ever after.
    #[test]
    fn nothing_is_sent_that_relies_on_what_could_not_be_stored() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let key = |number: u8| HostKey::from_secret([number + 1; 32]);
        let bind = |id: u8, hosts: &Hosts| {
            let sessions = hosts.sessions_of_replica(ReplicaId(id.into()), key(id)).unwrap();
            let patience = Duration::from_millis(50);
            Transport::bind(local, 1400, sessions, Vec::new(), patience, Arc::default()).unwrap()
        };
        let hosts_at = |address| {
            let replica = |number| (if number == 1 { address } else { local }, key(number).public());
            Hosts::new(Digest::NULL, (0..4).map(replica).collect(), &[])
        };
        let to = bind(1, &hosts_at(local));
        let hosts = hosts_at(to.address().unwrap());
        let from = Arc::new(bind(0, &hosts));
        let cluster = Cluster::new(4, 1);
        let own = ReplicaId(0);
        let identity =
            Identity { domain: Digest::NULL, replica: own, cluster, parameters: Parameters::default() };
        let directory = tempfile::tempdir().unwrap();
        Store::<Ed25519>::create(directory.path(), &identity).unwrap();
        let (store, durable) = Store::<Ed25519>::open(directory.path(), &identity).unwrap();
        let queues = Arc::new(Mutex::new(Queues::new([], 1)));
        let delays = Arc::new(Mutex::new(Delays::new(&cluster, own)));
        let mut output =
            Output::new(own, cluster, hosts, Some(store), from.clone(), Arc::default(), (queues, delays));
        let (keys, _) = KeyRing::insecure(0, 4, 0);
        let send = || {
            let fetch = Fetch { what: Wanted::Batch(Digest::NULL), replica: own };
            Outgoing::Send(Destination::Replica(ReplicaId(1)), Message::Fetch(Signed::new(fetch, &keys[0])))
        };
        let mut buffers = Buffers::default();
        let mut arrives = || {
            (0..10).any(|_| {
                let is_there = to.receive(&mut buffers).unwrap().is_some();
                // The answer to the handshake is for the sender.
                drop(from.receive(&mut buffers).unwrap());
                is_there
            })
        };
        let state = || Outgoing::Checkpoint { durable: Box::new(Durable::clone(&durable)), fetched: true };
        output.carry_out(vec![send(), state()]).unwrap();
        assert!(arrives(), "the store works");
        drop(directory);
        assert!(output.carry_out(vec![send(), state()]).is_err());
        assert!(output.carry_out(vec![send()]).is_err());
        assert!(!arrives());
    }
}
