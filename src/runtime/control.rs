//! What nodes tell each other outside of the protocol: that they are there, who belongs to the cluster, and how
//! a replica does.
//!
//! Nothing here decides anything. Who says it is known from the session in which it comes, so only answers are
//! signed, which are kept and shown to others.

use crate::crypto::form::Single;
use crate::crypto::{Content, Crypto, Signed};
use crate::replica::{Bundle, Replica, Setup};
use crate::types::{ClientId, Digest, Principal, ReplicaId, Timestamp, View};
use serde::{Deserialize, Serialize};

/// What a control message of this format begins with; a message of the protocol begins with its version. Where
/// the format changes, this does, and to others the message is one of a [wrong
/// version](crate::rejection::Rejection::WrongVersion).
pub const CONTROL: u8 = 0xc1;

/// A host asks how a replica does.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Query {
    /// The time of the host that asks, in microseconds, to tell answers apart.
    pub clock: Timestamp,
}

/// How a replica does.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Answer {
    /// The replica.
    pub replica: ReplicaId,
    /// That of the query.
    pub clock: Timestamp,
    /// How it does.
    pub health: Health,
}

/// What a replica says about itself. Nothing that is decided depends on it.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Health {
    /// The view last entered.
    pub view: u64,
    /// The view of the VIEW-CHANGE sent since, if any.
    pub leaving: Option<u64>,
    /// The primary of `view`.
    pub primary: u16,
    /// `h` and `H`.
    pub watermarks: (u64, u64),
    /// The last batch executed.
    pub last_executed: u64,
    /// Known requests that have not executed.
    pub waiting_requests: u64,
    /// The checkpoint whose state is being fetched, and how many of its blocks are here.
    pub transferring: Option<(u64, u64)>,
    /// Milliseconds since the last batch executed, or since the start.
    pub idle_ms: u64,
    /// How many replicas are heard, itself included: time-outs count only while this is a quorum.
    pub heard: u64,
    /// For each replica, milliseconds since a message showed that it is there; none if there never was.
    pub heard_ms: Vec<Option<u64>>,
    /// Why messages were dropped, and how many.
    pub rejections: Vec<(String, u64)>,
    /// The other counters.
    pub counters: Vec<(String, u64)>,
    /// For each replica, what its host sends, as seen from this one.
    pub peers: Vec<PeerHealth>,
    /// What the hosts of clients send.
    pub clients: ClientsHealth,
    /// The digest of what all replicas must agree on, as this one is configured, in hex; none if it was given none.
    pub members: Option<String>,
    /// The replicas that said last that they have another.
    pub other_members: Vec<u16>,
    /// The processor time of the process so far, in microseconds.
    pub cpu_us: u64,
    /// The process.
    pub pid: u32,
}

/// What the host of a replica sends to another.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct PeerHealth {
    /// Whether there is a session with it.
    pub session: bool,
    /// How long the last handshake that was begun here took, in microseconds.
    pub handshake_us: Option<u64>,
    /// Messages from it that are none, or whose signatures or certificates do not verify.
    pub failed_verification: u64,
    /// Messages from it that were dropped because it sends too many.
    pub over_quota: u64,
    /// How often somebody at its address asked for a session with a key that is nobody's.
    pub strangers: u64,
    /// Milliseconds since that happened last.
    pub stranger_ms: Option<u64>,
}

/// What the hosts of all clients send to a replica.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ClientsHealth {
    /// Messages that are none, or whose signatures do not verify.
    pub failed_verification: u64,
    /// The first client of the host that sent most of them, and how many.
    pub most_failed: Option<(u32, u64)>,
    /// Messages that were dropped because a host sends too many.
    pub over_quota: u64,
    /// The first client of the host that sent most of them, and how many.
    pub most_over_quota: Option<(u32, u64)>,
}

impl Health {
    /// What the state of a replica tells; its machine adds the rest.
    pub fn of<B: Bundle>(setup: &Setup<B>, replica: &Replica<B>) -> Self {
        let watermarks = replica.watermarks(setup);
        Health {
            view: replica.view().0,
            leaving: replica.leaving().map(|view| view.0),
            primary: setup.cluster.primary(replica.view()).0,
            watermarks: (watermarks.h.0, watermarks.high().0),
            last_executed: replica.last_executed().0,
            waiting_requests: replica.waiting_requests() as u64,
            transferring: replica.transferring().map(|(n, blocks)| (n.0, blocks as u64)),
            ..Health::default()
        }
    }

    /// The counter of this name; 0 if there is none.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.iter().find(|(other, _)| other == name).map_or(0, |&(_, value)| value)
    }
}

impl Content for Answer {
    const TAG: u8 = 34;
    type Form = Single;
    fn sender(&self) -> Option<Principal> {
        Some(Principal::Replica(self.replica))
    }
}

/// A message outside of the protocol.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Control<C: Crypto> {
    /// To every replica: from the host of a client that is about to ask for something, and from another replica's
    /// every few seconds, with the digest of what all replicas must agree on.
    Hello(Option<Digest>),
    /// To one replica.
    Query(Query),
    /// To whoever asked.
    Answer(Box<Signed<Answer, C>>),
    /// To the host of a client: a request of it with the first timestamp is too old, as one with the second has
    /// been executed, or answered if it is a read.
    Old(ClientId, Timestamp, Timestamp),
    /// From a replica to each other one, with a number of its own: how long is the way?
    Ping(u64),
    /// To the replica that asked, with its number.
    Pong(u64),
    /// From a replica to each other one: the primary of this view is late
    /// ([`Lateness`](crate::lateness::Lateness)).
    Late(View),
}

/// The bytes of a control message.
pub fn encode<C: Crypto>(control: &Control<C>) -> Vec<u8> {
    postcard::to_extend(control, vec![CONTROL]).expect("encoding into memory cannot fail")
}

/// The control message that these bytes are, if they are one.
pub fn decode<C: Crypto>(bytes: &[u8]) -> Option<Control<C>> {
    match postcard::take_from_bytes(bytes.strip_prefix(&[CONTROL])?) {
        Ok((control, [])) => Some(control),
        _ => None,
    }
}
