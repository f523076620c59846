//! What nodes tell each other outside of the protocol: that a client's host is there, and how a replica does.
//!
//! Queries and answers are signed like everything else. The rest is vouched for by the session that it comes in,
//! and nobody else needs to be convinced of it.

use crate::crypto::{Content, Crypto, Signed};
use crate::replica::{Bundle, Replica, Setup};
use crate::types::{ClientId, Principal, ReplicaId, Timestamp, View};
use serde::{Deserialize, Serialize};

/// What a control message begins with; a message of the protocol begins with its version.
pub const CONTROL: u8 = 0xc0;

/// A client asks how a replica does.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Query {
    /// The client.
    pub client: ClientId,
    /// The time, to tell answers apart.
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
    /// The processor time of the process so far, in microseconds.
    pub cpu_us: u64,
    /// The process.
    pub pid: u32,
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

impl Content for Query {
    const TAG: u8 = 33;
    fn sender(&self) -> Option<Principal> {
        Some(Principal::Client(self.client))
    }
}

impl Content for Answer {
    const TAG: u8 = 34;
    fn sender(&self) -> Option<Principal> {
        Some(Principal::Replica(self.replica))
    }
}

/// A message outside of the protocol.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Control<C: Crypto> {
    /// To every replica, from the host of a client that is about to ask for something.
    Hello,
    /// To one replica.
    Query(Signed<Query, C>),
    /// To whoever asked.
    Answer(Signed<Answer, C>),
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
