//! Histories for tests, written as facts.

use crate::{Accepted, Base, Call, Catalogue, History, Property, Snapshot};
use pbft::crypto::ed25519::Ed25519;
use pbft::kv::{KeyValue, Operation};
use pbft::parameters::{MAX_RESULT_BYTES, Parameters};
use pbft::replica::{ExecutedRequest, Fact};
use pbft::service::Service;
use pbft::types::{Bytes, ClientId, Cluster, Digest, ReplicaId, SeqNo, Timestamp, View};
use std::collections::{BTreeMap, BTreeSet};

/// Four replicas, one of which may be Byzantine; a checkpoint every two batches, a window of four.
pub struct World {
    genesis: KeyValue,
    replicas: BTreeMap<ReplicaId, History>,
    authentic: BTreeSet<(ClientId, Timestamp, Bytes)>,
    catalogue: Catalogue,
    accepted: Vec<Accepted>,
    calls: Vec<Call>,
}

impl World {
    pub fn new() -> Self {
        Self::from(KeyValue::default())
    }

    /// The replicas begin with this state.
    pub fn from(genesis: KeyValue) -> Self {
        World {
            genesis,
            replicas: (0..4).map(|replica| (ReplicaId(replica), History::default())).collect(),
            authentic: BTreeSet::new(),
            catalogue: Catalogue::new::<Ed25519>(),
            accepted: Vec::new(),
            calls: Vec::new(),
        }
    }

    /// The replica does this next.
    pub fn with(mut self, replica: u16, fact: Fact) -> Self {
        self.replicas.entry(ReplicaId(replica)).or_default().record(&fact);
        self
    }

    /// The replica does all of this next.
    pub fn with_all(self, replica: u16, facts: &[Fact]) -> Self {
        facts.iter().fold(self, |world, fact| world.with(replica, fact.clone()))
    }

    /// What the replica has done is known from here on only.
    pub fn since(mut self, replica: u16, base: Base) -> Self {
        self.replicas.insert(ReplicaId(replica), History::since(base));
        self
    }

    /// A client issued the request.
    pub fn issued(mut self, request: &ExecutedRequest) -> Self {
        self.authentic.insert((request.client, request.timestamp, request.operation.clone()));
        self
    }

    /// The digest made of this byte names the batch of these requests.
    pub fn proposed(mut self, byte: u8, requests: &[ExecutedRequest]) -> Self {
        let ordered = requests.iter().map(|r| (r.client, r.timestamp, r.operation.clone()));
        self.catalogue.insert(digest(byte), ordered.collect());
        self
    }

    /// A client accepted the result.
    pub fn accepted(mut self, client: u32, timestamp: u64, result: &str, read_only: bool) -> Self {
        let (client, timestamp) = (ClientId(client), Timestamp(timestamp));
        self.accepted.push(Accepted { client, timestamp, result: bytes(result), read_only });
        self
    }

    /// A client made this call.
    pub fn call(mut self, call: Call) -> Self {
        self.calls.push(call);
        self
    }

    pub fn snapshot(&self) -> Snapshot<'_, KeyValue> {
        Snapshot {
            cluster: Cluster::new(4, 1),
            parameters: Parameters { checkpoint_interval: 2, window: 4, ..Parameters::default() },
            genesis: &self.genesis,
            replicas: &self.replicas,
            authentic: &self.authentic,
            catalogue: &self.catalogue,
            accepted: &self.accepted,
            calls: &self.calls,
        }
    }

    /// The property holds.
    #[track_caller]
    pub fn satisfies<P: Property<KeyValue>>(&self) {
        assert_eq!(P::check(&self.snapshot()), Ok(()));
    }

    /// The property is broken, and said to be in exactly these words.
    #[track_caller]
    pub fn violates<P: Property<KeyValue>>(&self, what: &str) {
        let violation = P::check(&self.snapshot()).expect_err("the history breaks the property");
        assert_eq!((violation.property, violation.what.as_str()), (P::NAME, what));
    }
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::from(text.as_bytes())
}

/// 32 times this byte; 0 is the null request.
pub fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

/// A request and its result as any service might give it.
pub fn request(client: u32, timestamp: u64, operation: &str, result: &str) -> ExecutedRequest {
    ExecutedRequest {
        client: ClientId(client),
        timestamp: Timestamp(timestamp),
        operation: bytes(operation),
        result: bytes(result),
    }
}

/// An operation run on the service, as a correct replica does.
pub fn run(service: &mut KeyValue, client: u32, timestamp: u64, operation: Bytes) -> ExecutedRequest {
    let result = service.execute(ClientId(client), &operation);
    ExecutedRequest { client: ClientId(client), timestamp: Timestamp(timestamp), operation, result }
}

/// A service whose results for `key` are longer than a result may be. It refuses to be given such a value,
/// but there are old states with one.
pub fn overlong(key: &str) -> KeyValue {
    let mut service = KeyValue::default();
    run(&mut service, 0, 1, Operation::Put { key: bytes(key), value: bytes("short") }.to_bytes());
    let chunk = service.snapshot().remove(0);
    let (index, mut bucket): (u32, BTreeMap<Bytes, Bytes>) =
        postcard::from_bytes(&chunk).expect("a chunk is a bucket and its number");
    bucket.insert(bytes(key), bytes(&"v".repeat(MAX_RESULT_BYTES)));
    let chunk = postcard::to_stdvec(&(index, bucket)).expect("encoding into memory cannot fail");
    KeyValue::restore(&[Bytes::from(chunk)]).expect("it is a snapshot")
}

pub fn pre_prepared(view: u64, n: u64, byte: u8) -> Fact {
    Fact::PrePrepared { view: View(view), n: SeqNo(n), digest: digest(byte) }
}

pub fn prepared(view: u64, n: u64, byte: u8) -> Fact {
    Fact::Prepared { view: View(view), n: SeqNo(n), digest: digest(byte) }
}

pub fn committed(view: u64, n: u64, byte: u8) -> Fact {
    Fact::Committed { view: View(view), n: SeqNo(n), digest: digest(byte) }
}

pub fn executed(n: u64, byte: u8, requests: &[ExecutedRequest]) -> Fact {
    Fact::Executed { n: SeqNo(n), digest: digest(byte), requests: requests.to_vec() }
}

pub fn left(view: u64, to: u64) -> Fact {
    Fact::ViewLeft { view: View(view), to: View(to) }
}

pub fn entered(view: u64, carried: &[(u64, u8)]) -> Fact {
    let carried = carried.iter().map(|&(n, byte)| (SeqNo(n), digest(byte))).collect();
    Fact::ViewEntered { view: View(view), carried }
}

pub fn taken(n: u64, byte: u8) -> Fact {
    Fact::CheckpointTaken { n: SeqNo(n), digest: digest(byte) }
}

pub fn stable(n: u64, byte: u8) -> Fact {
    Fact::CheckpointStable { n: SeqNo(n), digest: digest(byte) }
}

pub fn transferred(n: u64, byte: u8) -> Fact {
    Fact::StateTransferred { n: SeqNo(n), digest: digest(byte) }
}
