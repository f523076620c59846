//! Replicas over any scheme, and certificates made of any votes.

use crate::setups::{Replicated, setups};
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Claim, Evidence, Signed};
use pbft::kv::Operation;
use pbft::message::{Batch, Checkpoint, Message, PrePrepare, Prepare, Request, ViewChange};
use pbft::parameters::Parameters;
use pbft::rejection::Rejection;
use pbft::replica::verify::{prepared_evidence_proves, stable_evidence_proves, verify};
use pbft::replica::{Effect, Effects, Event, Replica, Setup};
use pbft::types::{Bytes, ClientId, Cluster, Digest, ReplicaId, SeqNo, Timestamp, View};
use pbft_models::simulation::Scheme;
use std::sync::Arc;

/// A batch nobody has, and a state nobody is in.
pub const D: Digest = Digest([0xdd; 32]);

pub type Member<C> = Replica<Replicated<C>>;
pub type SignedViewChange<C> = Arc<Signed<ViewChange<C>, C>>;

/// The configuration of every replica, and the keys of client 0.
pub struct Replicas<C: Scheme> {
    pub setups: Vec<Setup<Replicated<C>>>,
    client: C::Keys,
}

impl<C: Scheme> Replicas<C> {
    /// A checkpoint every 2 batches, a window of 4.
    pub fn new(n: u16, f: u16) -> Self {
        let cluster = Cluster::new(n, f);
        let (replica_keys, mut client_keys) = C::keys(n, 1);
        let parameters = Parameters {
            checkpoint_interval: 2,
            window: 4,
            max_batch_requests: 1,
            max_batch_bytes: 64,
            max_in_flight: 4,
        };
        let setups = setups(cluster, parameters, replica_keys, 1);
        Replicas { setups, client: client_keys.remove(0) }
    }

    pub fn cluster(&self) -> Cluster {
        self.setups[0].cluster
    }

    pub fn start(&self, at: usize) -> Member<C> {
        Replica::start(&self.setups[at], None, &mut Effects::new()).unwrap()
    }

    /// Verifies a message, hands it to a replica and returns what came of it.
    pub fn deliver(&self, replica: &mut Member<C>, at: usize, message: Message<C>) -> Vec<Effect<C>> {
        let message = verify(&self.setups[at], message).unwrap();
        let mut effects = Effects::new();
        replica.step(&self.setups[at], Event::Message(message), &mut effects);
        effects.into_iter().collect()
    }

    /// Why the message is dropped at once, if it is.
    pub fn refusal(&self, message: Message<C>) -> Option<Rejection> {
        verify(&self.setups[0], message).err()
    }

    // --- messages ---

    /// PRE-PREPARE of view 0, with a batch of one request.
    pub fn pre_prepare(&self, n: u64) -> (PrePrepare, Message<C>) {
        let operation = Operation::Get { key: Bytes::from(&b"k"[..]) }.to_bytes();
        let request = Request { operation, timestamp: Timestamp(1), client: ClientId(0), read_only: false };
        let batch = Batch { requests: vec![Signed::new(request, &self.client)] };
        let content = PrePrepare { view: View(0), n: SeqNo(n), digest: batch.digest() };
        (content, Message::PrePrepare(self.setups[0].sign(content), Arc::new(batch)))
    }

    /// The PREPARE for this proposal.
    pub fn prepare(&self, by: u16, proposal: PrePrepare) -> Signed<Prepare, C> {
        let PrePrepare { view, n, digest } = proposal;
        self.setups[usize::from(by)].sign(Prepare { view, n, digest, replica: ReplicaId(by) })
    }

    /// The signature of a CHECKPOINT.
    pub fn checkpoint(&self, by: u16, n: u64, digest: Digest) -> C::Signature {
        let content = Checkpoint { n: SeqNo(n), digest, replica: ReplicaId(by) };
        self.setups[usize::from(by)].sign(content).signature
    }

    /// VIEW-CHANGE for `view`.
    pub fn view_change(
        &self,
        by: u16,
        view: u64,
        stable: Option<StableCertificate<C>>,
        prepared: Vec<PreparedCertificate<C>>,
    ) -> SignedViewChange<C> {
        let n = stable.as_ref().map_or(SeqNo(0), |certificate| certificate.n);
        let content = ViewChange { view: View(view), n, stable, prepared, replica: ReplicaId(by) };
        Arc::new(self.setups[usize::from(by)].sign(content))
    }

    // --- certificates ---

    /// What a prepared certificate is made of: the primary's PRE-PREPARE and the PREPAREs of these replicas.
    pub fn votes(&self, proposal: PrePrepare, voters: &[u16]) -> Evidence<C::Signature> {
        let primary = usize::from(self.cluster().primary(proposal.view).0);
        let vote = |&by: &u16| (ReplicaId(by), self.prepare(by, proposal).signature);
        Evidence {
            proposal: Some(self.setups[primary].sign(proposal).signature),
            votes: voters.iter().map(vote).collect(),
        }
    }

    /// A prepared certificate of any votes, good or bad.
    pub fn seal(&self, proposal: PrePrepare, votes: Evidence<C::Signature>) -> PreparedCertificate<C> {
        let PrePrepare { view, n, digest } = proposal;
        let valid = |e: &_| prepared_evidence_proves(&self.setups[0], proposal, e);
        let proof = C::seal(Claim::Prepared(view, n, digest), votes, &valid);
        PreparedCertificate { view, n, digest, proof }
    }

    /// The certificate that `proposal` prepared, with the PREPAREs of these replicas.
    pub fn prepared(&self, proposal: PrePrepare, voters: &[u16]) -> PreparedCertificate<C> {
        self.seal(proposal, self.votes(proposal, voters))
    }

    /// A checkpoint certificate of any votes, good or bad.
    pub fn seal_stable(&self, n: u64, votes: Vec<(ReplicaId, C::Signature)>) -> StableCertificate<C> {
        let n = SeqNo(n);
        let evidence = Evidence { proposal: None, votes };
        let valid = |e: &_| stable_evidence_proves(&self.setups[0], n, D, e);
        StableCertificate { n, digest: D, proof: C::seal(Claim::Stable(n, D), evidence, &valid) }
    }

    /// The certificate that the state `D` after `n` is stable, with the CHECKPOINTs of these replicas.
    pub fn stable(&self, n: u64, voters: &[u16]) -> StableCertificate<C> {
        let votes = voters.iter().map(|&by| (ReplicaId(by), self.checkpoint(by, n, D))).collect();
        self.seal_stable(n, votes)
    }

    /// The prepared certificates of `proposal`, one for every choice of voters that is enough.
    pub fn every_prepared(&self, proposal: PrePrepare) -> Vec<PreparedCertificate<C>> {
        let primary = self.cluster().primary(proposal.view);
        let backups: Vec<u16> = self.cluster().replicas().filter(|&i| i != primary).map(|i| i.0).collect();
        let choices = choices(&backups, self.cluster().quorum() - 1);
        choices.iter().map(|voters| self.prepared(proposal, voters)).collect()
    }

    /// The certificates that the state `D` after `n` is stable, one for every choice of voters that is
    /// enough.
    pub fn every_stable(&self, n: u64) -> Vec<StableCertificate<C>> {
        let all: Vec<u16> = self.cluster().replicas().map(|i| i.0).collect();
        let choices = choices(&all, self.cluster().quorum());
        choices.iter().map(|voters| self.stable(n, voters)).collect()
    }
}

/// Every subset with at least the given number of elements.
pub fn choices(all: &[u16], at_least: usize) -> Vec<Vec<u16>> {
    let subset = |mask: u32| {
        let chosen = all.iter().enumerate().filter(|&(i, _)| mask >> i & 1 == 1);
        chosen.map(|(_, &member)| member).collect::<Vec<u16>>()
    };
    (0..1 << all.len()).map(subset).filter(|chosen| chosen.len() >= at_least).collect()
}
