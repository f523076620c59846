//! What somebody with a client's key can send to the replicas: all from its own host, in its own sessions.

use crate::config::Config;
use crate::pace::Pace;
use crate::pieces;
use pbft::client::ClientSetup;
use pbft::crypto::Signed;
use pbft::crypto::ed25519::Ed25519;
use pbft::kv::Operation;
use pbft::message::{Batch, Commit, Message, Prepare, Request, Status};
use pbft::rules::Pbft;
use pbft::runtime::control::{self, CONTROL, Control, Query};
use pbft::runtime::counters::Counters;
use pbft::runtime::sessions::Peer;
use pbft::runtime::transport::{Buffers, Transport};
use pbft::types::{Bytes, ClientId, Digest, Principal, ReplicaId, SeqNo, Timestamp, View};
use pbft::wire;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest wait for a datagram.
const RECEIVE_WAIT: Duration = Duration::from_millis(1);
/// How often sessions are looked after.
const TICK: Duration = Duration::from_millis(4);
/// The value that is read, and the one that is written, in bytes.
const LARGE: usize = 30_000;
/// The key of the values.
const KEY: &[u8] = b"large";
/// How long a session is kept of which there are ever new ones.
const SESSION: Duration = Duration::from_millis(100);
/// How far ahead the request is that the primary does not get.
const AHEAD: u64 = 10_000_000;
/// How long that request is left alone before there is another.
const SPLIT: Duration = Duration::from_secs(1);

/// Kinds of mischief.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum What {
    /// Requests with wrong signatures.
    BadSignatures,
    /// Valid requests with rising timestamps, to all replicas, without waiting for replies.
    Rising,
    /// Reads of a value of 30 kB, with rising timestamps.
    Reads,
    /// Writes of a value of 30 kB, one after the other without waiting.
    Large,
    /// Single pieces of messages that never become whole.
    Fragments,
    /// Valid requests with rising timestamps, to the backups only.
    BackupsOnly,
    /// Requests to the primary only, and to the backups only one that is newer than all of these.
    Split,
    /// New sessions from new ports.
    Handshakes,
    /// Votes, STATUS, batches, pings, and other clients' requests.
    NotMine,
    /// Questions how a replica does.
    Queries,
}

/// One client's key in wrong hands.
pub struct Attacker {
    setup: ClientSetup<Ed25519, Pbft>,
    open: Box<dyn Fn() -> Result<Transport, String>>,
    transport: Transport,
    replicas: Vec<Peer>,
    what: What,
    view: View,
    last: Timestamp,
    count: u64,
    ahead: Option<(Timestamp, Instant)>,
    others: VecDeque<(Transport, Instant)>,
    ticked: Instant,
    received: Buffers,
    buffers: Buffers,
}

fn clock() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(now.as_micros()).unwrap_or(u64::MAX))
}

impl Attacker {
    /// Opens a socket for this client.
    ///
    /// # Errors
    /// One sentence that says what is wrong and what to do.
    pub fn open(config: &Config, id: ClientId, what: What) -> Result<Self, String> {
        let setup = config.client_setup(id)?;
        let hosts = config.hosts(&setup.keys, [id])?;
        let key = config.host_key(Principal::Client(id))?;
        let datagram_bytes = config.file.datagram_bytes;
        let open = {
            let hosts = hosts.clone();
            move || {
                let any = match hosts.addresses().first() {
                    Some(SocketAddr::V6(_)) => SocketAddr::from(([0u16; 8], 0)),
                    _ => SocketAddr::from(([0u8; 4], 0)),
                };
                let sessions =
                    hosts.sessions_of_clients([id], key.clone()).map_err(|error| error.to_string())?;
                let counters = Arc::new(Counters::default());
                Transport::bind(any, datagram_bytes, sessions, hosts.replicas(), RECEIVE_WAIT, counters)
                    .map_err(|error| format!("cannot open a socket: {error}; see to the machine"))
            }
        };
        if what == What::Reads {
            store_large(config, id)?;
        }
        Ok(Attacker {
            setup,
            replicas: hosts.replicas(),
            transport: open()?,
            open: Box::new(open),
            what,
            view: View(0),
            last: clock(),
            count: 0,
            ahead: None,
            others: VecDeque::new(),
            ticked: Instant::now(),
            received: Buffers::default(),
            buffers: Buffers::default(),
        })
    }

    /// How much it has sent.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sends what is due, and looks at what comes back.
    ///
    /// # Errors
    /// If the socket fails, or no other can be had.
    pub fn turn(&mut self, pace: &mut Pace) -> Result<(), String> {
        for _ in 0..pace.take(Instant::now()) {
            self.count += 1;
            self.act()?;
        }
        let mut buffers = std::mem::take(&mut self.received);
        let rest = pace.rest(Instant::now(), RECEIVE_WAIT);
        if rest == RECEIVE_WAIT {
            self.hear(self.transport.receive(&mut buffers).map(Some), &mut Vec::new())?;
        }
        let mut heard = Vec::new();
        for _ in 0..256 {
            match self.transport.try_receive(&mut buffers) {
                Ok(None) => break,
                other => self.hear(other, &mut heard)?,
            }
        }
        self.received = buffers;
        heard.into_iter().for_each(|bytes| self.on_reply(&bytes));
        let now = Instant::now();
        if now.duration_since(self.ticked) >= TICK {
            self.ticked = now;
            self.transport.tick(&mut self.buffers);
            self.look_after_others(now);
        }
        Ok(())
    }

    fn hear(
        &self,
        arrival: std::io::Result<Option<pbft::runtime::transport::Arrival<'_>>>,
        heard: &mut Vec<Vec<u8>>,
    ) -> Result<(), String> {
        let arrival = arrival.map_err(|error| format!("cannot receive: {error}; see to the machine"))?;
        if let Some(Some((_, bytes))) = arrival
            && bytes.first() != Some(&CONTROL)
        {
            heard.push(bytes.into_owned());
        }
        Ok(())
    }

    fn on_reply(&mut self, bytes: &[u8]) {
        let Ok(Message::Reply(reply)) = wire::decode::<Ed25519>(bytes) else { return };
        self.view = self.view.max(reply.content.view);
        if self.ahead.is_some_and(|(ahead, _)| reply.content.timestamp >= ahead) {
            self.ahead = None;
        }
    }

    fn act(&mut self) -> Result<(), String> {
        let primary = usize::from(self.setup.cluster.primary(self.view).0);
        let backups = |peers: &[Peer]| -> Vec<Peer> {
            peers.iter().enumerate().filter(|&(id, _)| id != primary).map(|(_, &peer)| peer).collect()
        };
        let all = self.replicas.clone();
        match self.what {
            What::BadSignatures => {
                let signed = self.request(self.setup.id, b"bad", false);
                let wrong = self.request(self.setup.id, b"other", false).signature;
                self.send(&all, &Message::Request(Signed { signature: wrong, ..signed }));
            }
            What::Rising => self.ask(&all, &put(b"rising", b"1"), false),
            What::Reads => self.ask(&all, &get(), true),
            What::Large => self.ask(&all, &put(KEY, &vec![1; LARGE]), false),
            What::BackupsOnly => self.ask(&backups(&all), &put(b"backups", b"1"), false),
            What::Split => self.split(&all[primary..=primary], &backups(&all)),
            What::Fragments => {
                let frame = pieces::alone(self.count);
                let mut sealed = Vec::new();
                all.iter().for_each(|&to| self.transport.send_frame(to, &frame, &mut sealed));
            }
            What::Handshakes => {
                let transport = (self.open)()?;
                let hello = control::encode(&Control::<Ed25519>::Hello(None));
                transport.send(&all, &hello, &mut self.buffers);
                self.others.push_back((transport, Instant::now()));
            }
            What::NotMine => {
                let message = self.not_mine();
                self.send(&all, &message);
            }
            What::Queries => {
                let query = Control::<Ed25519>::Query(Query { clock: clock() });
                self.transport.send(&all, &control::encode(&query), &mut self.buffers);
            }
        }
        Ok(())
    }

    fn request(&mut self, client: ClientId, operation: &[u8], read_only: bool) -> Signed<Request, Ed25519> {
        self.last = Timestamp(self.last.0 + 1).max(clock());
        let operation = Bytes::from(operation);
        Signed::new(Request { operation, timestamp: self.last, client, read_only }, &*self.setup.keys)
    }

    fn ask(&mut self, to: &[Peer], operation: &[u8], read_only: bool) {
        let request = self.request(self.setup.id, operation, read_only);
        self.send(to, &Message::Request(request));
    }

    fn send(&mut self, to: &[Peer], message: &Message<Ed25519>) {
        self.transport.send(to, &wire::encode(message), &mut self.buffers);
    }

    /// The primary takes no request of a client that has an older one waiting there: so those that the backups
    /// wait for find no way to it.
    fn split(&mut self, primary: &[Peer], backups: &[Peer]) {
        let now = Instant::now();
        if self.ahead.is_none_or(|(_, since)| since + SPLIT < now) {
            let before = self.ahead.map_or(self.last, |(ahead, _)| ahead.max(self.last));
            self.last = before;
            let newer = Timestamp(before.0 + AHEAD);
            let operation = Bytes::from(put(b"split", b"backups"));
            let content = Request { operation, timestamp: newer, client: self.setup.id, read_only: false };
            let request = Signed::new(content, &*self.setup.keys);
            self.send(backups, &Message::Request(request));
            self.ahead = Some((newer, now));
        }
        self.last = Timestamp(self.last.0 + 1);
        let (operation, timestamp) = (Bytes::from(put(b"split", b"primary")), self.last);
        let content = Request { operation, timestamp, client: self.setup.id, read_only: false };
        let request = Signed::new(content, &*self.setup.keys);
        self.send(primary, &Message::Request(request));
    }

    fn not_mine(&mut self) -> Message<Ed25519> {
        let (view, n, digest, replica) =
            (self.view, SeqNo(1 + self.count % 64), Digest([7; 32]), ReplicaId(0));
        let signer = Principal::Replica(replica);
        let own = self.request(self.setup.id, b"x", false);
        let signature = own.signature;
        match self.count % 5 {
            0 => {
                Message::Prepare(Signed { content: Prepare { view, n, digest, replica }, signer, signature })
            }
            1 => Message::Commit(Signed { content: Commit { view, n, digest, replica }, signer, signature }),
            2 => Message::Status(Signed {
                content: Status {
                    view,
                    leaving: None,
                    stable: SeqNo(0),
                    executed: SeqNo(0),
                    pre_prepared: Vec::new(),
                    prepared: Vec::new(),
                    replica,
                },
                signer,
                signature,
            }),
            3 => Message::Batch(Arc::new(Batch { requests: vec![own] })),
            _ => Message::Request(self.request(ClientId(0), b"another's", false)),
        }
    }

    fn look_after_others(&mut self, now: Instant) {
        let mut buffers = Buffers::default();
        while self.others.front().is_some_and(|&(_, since)| since + SESSION < now) {
            self.others.pop_front();
        }
        for (transport, _) in &self.others {
            while let Ok(Some(_)) = transport.try_receive(&mut buffers) {}
            transport.tick(&mut buffers);
        }
    }
}

fn put(key: &[u8], value: &[u8]) -> Vec<u8> {
    Operation::Put { key: Bytes::from(key), value: Bytes::from(value) }.to_bytes().to_vec()
}

fn get() -> Vec<u8> {
    Operation::Get { key: Bytes::from(KEY) }.to_bytes().to_vec()
}

/// As any client would, and waits until it is done.
fn store_large(config: &Config, id: ClientId) -> Result<(), String> {
    let mut clients = config.open(&[id], config.client_timeout(), config.file.datagram_bytes)?;
    let problem = |error: std::io::Error| format!("cannot send: {error}; see to the machine");
    clients.invoke(id, Bytes::from(put(KEY, &vec![1; LARGE])), false).map_err(problem)?;
    let until = Instant::now() + Duration::from_secs(20);
    match clients.wait(until).map_err(problem)?.pop() {
        Some(_) => Ok(()),
        None => Err("the cluster does not answer: start its replicas first".into()),
    }
}
