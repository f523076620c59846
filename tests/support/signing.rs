//! Any message, signed as anybody.

use super::{C, Msg, Net, request};
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::ed25519::Signature;
use pbft::crypto::{Content, Crypto, Evidence, Signed};
use pbft::kv::Operation;
use pbft::message::{
    Batch, Checkpoint, Commit, Fetch, Message, NewView, PrePrepare, Prepare, Reply, Request, ViewChange,
    Wanted,
};
use pbft::types::{Bytes, ClientId, Digest, ReplicaId, SeqNo, Timestamp, View};
use std::sync::Arc;

impl Net {
    /// `content`, signed by a replica.
    pub fn sign<T: Content>(&self, by: usize, content: T) -> Signed<T, C> {
        self.setups[by].sign(content)
    }

    /// `content`, signed by a client.
    pub fn sign_as_client<T: Content>(&self, by: u32, content: T) -> Signed<T, C> {
        let keys = &self.client_keys[usize::try_from(by).unwrap()];
        Signed::new(content, &**keys)
    }

    pub fn put(&self, client: u32, t: u64, key: &str, value: &str) -> Signed<Request, C> {
        let bytes = |text: &str| Bytes::from(text.as_bytes());
        let operation = Operation::Put { key: bytes(key), value: bytes(value) };
        self.sign_as_client(client, request(client, t, &operation, false))
    }

    /// A request for any operation, sound or not.
    pub fn request(&self, client: u32, t: u64, operation: Bytes, read_only: bool) -> Signed<Request, C> {
        let (timestamp, name) = (Timestamp(t), ClientId(client));
        self.sign_as_client(client, Request { operation, timestamp, client: name, read_only })
    }

    pub fn get(&self, client: u32, t: u64, key: &str) -> Signed<Request, C> {
        let operation = Operation::Get { key: Bytes::from(key.as_bytes()) };
        self.sign_as_client(client, request(client, t, &operation, true))
    }

    pub fn signed_pre_prepare(&self, by: usize, v: u64, n: u64, d: Digest) -> Signed<PrePrepare, C> {
        self.sign(by, PrePrepare { view: View(v), n: SeqNo(n), digest: d })
    }

    pub fn pre_prepare(&self, by: usize, v: u64, n: u64, batch: &Arc<Batch<C>>) -> Msg {
        Message::PrePrepare(self.signed_pre_prepare(by, v, n, batch.digest()), batch.clone())
    }

    fn prepare_content(by: usize, v: u64, n: u64, digest: Digest) -> Prepare {
        Prepare { view: View(v), n: SeqNo(n), digest, replica: ReplicaId(u16::try_from(by).unwrap()) }
    }

    pub fn prepare(&self, by: usize, v: u64, n: u64, digest: Digest) -> Msg {
        Message::Prepare(self.sign(by, Self::prepare_content(by, v, n, digest)))
    }

    pub fn commit(&self, by: usize, v: u64, n: u64, digest: Digest) -> Msg {
        let replica = ReplicaId(u16::try_from(by).unwrap());
        Message::Commit(self.sign(by, Commit { view: View(v), n: SeqNo(n), digest, replica }))
    }

    fn checkpoint_content(by: usize, n: u64, digest: Digest) -> Checkpoint {
        Checkpoint { n: SeqNo(n), digest, replica: ReplicaId(u16::try_from(by).unwrap()) }
    }

    pub fn checkpoint(&self, by: usize, n: u64, digest: Digest) -> Msg {
        Message::Checkpoint(self.sign(by, Self::checkpoint_content(by, n, digest)))
    }

    pub fn fetch(&self, by: usize, what: Wanted) -> Msg {
        let replica = ReplicaId(u16::try_from(by).unwrap());
        Message::Fetch(self.sign(by, Fetch { what, replica }))
    }

    /// The signatures of a prepared certificate: the PRE-PREPARE by `primary`, PREPAREs by `voters`.
    pub fn prepared_by(
        &self,
        primary: usize,
        v: u64,
        n: u64,
        digest: Digest,
        voters: &[usize],
    ) -> PreparedCertificate<C> {
        let vote = |&by: &usize| {
            let signed = self.sign(by, Self::prepare_content(by, v, n, digest));
            (signed.content.replica, signed.signature)
        };
        let proposal = Some(self.signed_pre_prepare(primary, v, n, digest).signature);
        let proof = Evidence { proposal, votes: voters.iter().map(vote).collect() };
        PreparedCertificate { view: View(v), n: SeqNo(n), digest, proof }
    }

    /// A valid prepared certificate, with exactly as many voters as are needed.
    pub fn prepared(&self, v: u64, n: u64, digest: Digest) -> PreparedCertificate<C> {
        let cluster = self.setups[0].cluster;
        let primary = usize::from(cluster.primary(View(v)).0);
        let voters: Vec<usize> = (0..self.n()).filter(|&i| i != primary).take(cluster.quorum() - 1).collect();
        self.prepared_by(primary, v, n, digest, &voters)
    }

    /// A checkpoint certificate with the CHECKPOINTs of these replicas.
    pub fn stable(&self, n: u64, digest: Digest, voters: &[usize]) -> StableCertificate<C> {
        let vote = |&by: &usize| {
            let signed = self.sign(by, Self::checkpoint_content(by, n, digest));
            (signed.content.replica, signed.signature)
        };
        let proof = Evidence { proposal: None, votes: voters.iter().map(vote).collect() };
        StableCertificate { n: SeqNo(n), digest, proof }
    }

    pub fn view_change(
        &self,
        by: usize,
        v: u64,
        stable: Option<StableCertificate<C>>,
        prepared: Vec<PreparedCertificate<C>>,
    ) -> Arc<Signed<ViewChange<C>, C>> {
        let n = stable.as_ref().map_or(SeqNo(0), |certificate| certificate.n);
        let replica = ReplicaId(u16::try_from(by).unwrap());
        Arc::new(self.sign(by, ViewChange { view: View(v), n, stable, prepared, replica }))
    }

    /// A VIEW-CHANGE of a replica that has nothing to report.
    pub fn empty_view_change(&self, by: usize, v: u64) -> Arc<Signed<ViewChange<C>, C>> {
        self.view_change(by, v, None, Vec::new())
    }

    /// NEW-VIEW by `by` with these VIEW-CHANGEs and `O` as numbers and digests, each of view `v`.
    pub fn new_view(
        &self,
        by: usize,
        v: u64,
        view_changes: Vec<Arc<Signed<ViewChange<C>, C>>>,
        o: &[(u64, Digest)],
    ) -> Msg {
        let pre_prepares = o.iter().map(|&(n, d)| self.signed_pre_prepare(by, v, n, d)).collect();
        Message::NewView(Arc::new(
            self.sign(by, NewView { view: View(v), view_changes: view_changes.into(), pre_prepares }),
        ))
    }

    pub fn reply(&self, by: usize, v: u64, t: u64, client: u32, result: &str) -> Msg {
        let replica = ReplicaId(u16::try_from(by).unwrap());
        let result = Bytes::from(result.as_bytes());
        let reply =
            Reply { view: View(v), timestamp: Timestamp(t), client: ClientId(client), replica, result };
        Message::Reply(self.sign(by, reply))
    }
}

/// A digest that no batch and no state here has.
pub fn some_digest(tag: u8) -> Digest {
    C::digest(&[tag; 3])
}

/// A signature of nobody.
pub fn no_signature() -> Signature {
    Signature([9; 64])
}
