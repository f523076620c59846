//! Messages, each right in itself, and what is changed in them.

use crate::support::{Msg as Sent, SEED};
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::ed25519::{Ed25519, KeyRing, Signature};
use pbft::crypto::form::Form;
use pbft::crypto::{Content, Evidence, Signed};
use pbft::message::{
    Batch, Checkpoint, Commit, Fetch, Message, NewView, PrePrepare, Prepare, Reply, Request, Status,
    ViewChange, Wanted,
};
use pbft::types::{Bytes, ClientId, Digest, ReplicaId, SeqNo, Timestamp, View};
use std::sync::Arc;
use std::sync::LazyLock;

pub const D: Digest = Digest([0xdd; 32]);

pub type Change = Signed<ViewChange<Ed25519>, Ed25519>;

/// Keys of everybody, and of replicas and clients that are not configured.
static RINGS: LazyLock<(Vec<KeyRing>, Vec<KeyRing>)> = LazyLock::new(|| KeyRing::insecure(SEED, 8, 10));

pub fn keys(replica: u16) -> &'static KeyRing {
    &RINGS.0[usize::from(replica)]
}

pub fn client_keys(client: u32) -> &'static KeyRing {
    &RINGS.1[usize::try_from(client).expect("a client index fits")]
}

pub fn sign<T: Content>(replica: u16, content: T) -> Signed<T, Ed25519> {
    Signed::new(content, keys(replica))
}

pub fn proposal(view: u64, n: u64, batch: Batch<Ed25519>) -> Sent {
    let primary = u16::try_from(view % 4).expect("a remainder is small");
    let content = PrePrepare { view: View(view), n: SeqNo(n), digest: batch.digest() };
    Message::PrePrepare(sign(primary, content), Arc::new(batch))
}

pub fn prepare(view: u64, n: u64, digest: Digest, i: u16) -> Prepare {
    Prepare { view: View(view), n: SeqNo(n), digest, replica: ReplicaId(i) }
}

pub fn commit(view: u64, n: u64, digest: Digest, i: u16) -> Commit {
    Commit { view: View(view), n: SeqNo(n), digest, replica: ReplicaId(i) }
}

pub fn checkpoint(n: u64, digest: Digest, i: u16) -> Checkpoint {
    Checkpoint { n: SeqNo(n), digest, replica: ReplicaId(i) }
}

pub fn status(i: u16, pre_prepared: Vec<SeqNo>, prepared: Vec<SeqNo>) -> Status {
    let (view, leaving, stable, executed) = (View(0), None, SeqNo(0), SeqNo(0));
    Status { view, leaving, stable, executed, pre_prepared, prepared, replica: ReplicaId(i) }
}

pub fn fetch(i: u16) -> Fetch {
    Fetch { what: Wanted::Batch(D), replica: ReplicaId(i) }
}

pub fn reply(i: u16, client: u32, timestamp: u64, result: &[u8]) -> Reply {
    Reply {
        view: View(0),
        timestamp: Timestamp(timestamp),
        client: ClientId(client),
        replica: ReplicaId(i),
        result: Bytes::from(result),
    }
}

pub fn view_change(view: u64, i: u16, prepared: Vec<PreparedCertificate<Ed25519>>) -> ViewChange<Ed25519> {
    ViewChange { view: View(view), n: SeqNo(0), stable: None, prepared, replica: ReplicaId(i) }
}

/// The certificate that `digest` prepared, with the PREPAREs of these replicas.
pub fn prepared(view: u64, n: u64, digest: Digest, voters: &[u16]) -> PreparedCertificate<Ed25519> {
    let primary = u16::try_from(view % 4).expect("a remainder is small");
    let pre_prepare = PrePrepare { view: View(view), n: SeqNo(n), digest };
    let vote = |&i: &u16| (ReplicaId(i), sign(i, prepare(view, n, digest, i)).signature);
    let proof = Evidence {
        proposal: Some(sign(primary, pre_prepare).signature),
        votes: voters.iter().map(vote).collect(),
    };
    PreparedCertificate { view: View(view), n: SeqNo(n), digest, proof }
}

/// The certificate that a checkpoint is stable, with the CHECKPOINTs of these replicas.
pub fn stable(n: u64, digest: Digest, voters: &[u16]) -> StableCertificate<Ed25519> {
    let vote = |&i: &u16| (ReplicaId(i), sign(i, checkpoint(n, digest, i)).signature);
    let proof = Evidence { proposal: None, votes: voters.iter().map(vote).collect() };
    StableCertificate { n: SeqNo(n), digest, proof }
}

/// Three VIEW-CHANGEs for view 1; batch `D` prepared at sequence number 2.
pub fn v() -> Vec<Arc<Change>> {
    let change = |i| Arc::new(sign(i, view_change(1, i, vec![prepared(0, 2, D, &[1, 3])])));
    [0, 1, 3].map(change).to_vec()
}

/// What `v()` determines: the null request at 1, `D` at 2.
pub fn o() -> Vec<Signed<PrePrepare, Ed25519>> {
    let entry = |(n, digest)| sign(1, PrePrepare { view: View(1), n: SeqNo(n), digest });
    [(1, Digest::NULL), (2, D)].map(entry).to_vec()
}

pub fn new_view(signer: u16, v: Vec<Arc<Change>>, o: Vec<Signed<PrePrepare, Ed25519>>) -> Sent {
    let content = NewView { view: View(1), view_changes: v.into(), pre_prepares: o };
    Message::NewView(Arc::new(sign(signer, content)))
}

pub fn batch<const K: usize>(requests: [Signed<Request, Ed25519>; K]) -> Batch<Ed25519> {
    Batch { requests: requests.to_vec() }
}

/// Every kind of signed message, by replica `i`, with its keys or another's.
pub fn one_of_each_by(i: u16, keys: &KeyRing) -> Vec<Sent> {
    fn by<T: Content>(keys: &KeyRing, content: T) -> Signed<T, Ed25519> {
        Signed::new(content, keys)
    }
    vec![
        Message::Prepare(by(keys, prepare(0, 1, D, i))),
        Message::Commit(by(keys, commit(0, 1, D, i))),
        Message::Checkpoint(by(keys, checkpoint(4, D, i))),
        Message::ViewChange(Arc::new(by(keys, view_change(1, i, vec![])))),
        Message::Reply(by(keys, reply(i, 0, 1, b"r"))),
        Message::Status(by(keys, status(i, vec![], vec![]))),
        Message::Fetch(by(keys, fetch(i))),
    ]
}

/// The same message with one bit of its signature changed.
pub fn forged(message: Sent) -> Sent {
    fn forge<T>(signed: &Signed<T, Ed25519>) -> Signed<T, Ed25519>
    where
        T: Content + Clone,
        T::Form: Form<Signature<Ed25519> = Signature>,
    {
        let mut signature = signed.signature;
        signature.0[0] ^= 1;
        Signed { signature, ..signed.clone() }
    }
    match message {
        Message::Request(m) => Message::Request(forge(&m)),
        Message::PrePrepare(m, batch) => Message::PrePrepare(forge(&m), batch),
        Message::Prepare(m) => Message::Prepare(forge(&m)),
        Message::Commit(m) => Message::Commit(forge(&m)),
        Message::Checkpoint(m) => Message::Checkpoint(forge(&m)),
        Message::ViewChange(m) => Message::ViewChange(Arc::new(forge(&m))),
        Message::NewView(m) => Message::NewView(Arc::new(forge(&m))),
        Message::Reply(mut m) => {
            m.signature.signature.0[0] ^= 1;
            Message::Reply(m)
        }
        Message::Status(m) => Message::Status(forge(&m)),
        Message::Fetch(m) => Message::Fetch(forge(&m)),
        unsigned => unsigned,
    }
}
