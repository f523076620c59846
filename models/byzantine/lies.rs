//! What a Byzantine replica says instead of the truth: each in an envelope with its own, valid signature.

use super::Byzantine;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::{Claim, Crypto, Evidence, Signed};
use pbft::message::{
    Batch, Checkpoint, Commit, Message, NewView, PrePrepare, Prepare, Reply, Status, ViewChange,
};
use pbft::replica::Bundle;
use pbft::replica::verify::{prepared_evidence_proves, stable_evidence_proves};
use pbft::types::{Bytes, Digest, Principal, ReplicaId, SeqNo, View};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

impl<B: Bundle> Byzantine<B> {
    pub(super) fn digest(&self, rng: &mut ChaCha8Rng) -> Digest {
        *self.digests.choose(rng).unwrap_or(&Digest::NULL)
    }

    pub(super) fn near(value: u64, rng: &mut ChaCha8Rng) -> u64 {
        match rng.random_range(0..8) {
            0 => value.saturating_sub(1),
            1 => value.saturating_add(1),
            2 => value.saturating_add(rng.random_range(2..6)),
            3 if rng.random_range(0..20) == 0 => u64::MAX - rng.random_range(0..2),
            _ => value,
        }
    }

    fn slot(&self, view: View, n: SeqNo, rng: &mut ChaCha8Rng) -> (View, SeqNo) {
        (View(Self::near(view.0, rng)), SeqNo(Self::near(n.0, rng)))
    }

    /// A batch of some requests seen, not necessarily in any sensible order.
    fn batch(&self, rng: &mut ChaCha8Rng) -> Arc<Batch<B::Crypto>> {
        let seen = self.seen.iter().flat_map(|message| match message {
            Message::Request(request) => std::slice::from_ref(request),
            Message::PrePrepare(_, batch) | Message::Batch(batch) => &batch.requests[..],
            _ => &[],
        });
        let seen: Vec<_> = seen.collect();
        let count = rng.random_range(0..3);
        let requests = (0..count).filter_map(|_| seen.choose(rng).map(|&request| request.clone())).collect();
        Arc::new(Batch { requests })
    }

    /// A certificate that nobody but this replica has signed.
    pub(super) fn forged(&self, view: View, n: SeqNo, digest: Digest) -> PreparedCertificate<B::Crypto> {
        let proposal = PrePrepare { view, n, digest };
        let replica = self.setup.id;
        let vote = self.setup.sign(Prepare { view, n, digest, replica }).signature;
        let votes = vec![(replica, vote); self.setup.cluster.quorum() - 1];
        self.claim_prepared(proposal, Evidence { proposal: Some(self.setup.sign(proposal).signature), votes })
    }

    /// The certificate that this evidence would make, whether it proves anything or not.
    pub(super) fn claim_prepared(
        &self,
        proposal: PrePrepare,
        evidence: Evidence<<B::Crypto as Crypto>::Signature>,
    ) -> PreparedCertificate<B::Crypto> {
        let PrePrepare { view, n, digest } = proposal;
        let valid = |evidence: &_| prepared_evidence_proves(&self.setup, proposal, evidence);
        let proof = B::Crypto::seal(Claim::Prepared(view, n, digest), evidence, &valid);
        PreparedCertificate { view, n, digest, proof }
    }

    pub(super) fn forged_checkpoint(&self, n: SeqNo, digest: Digest) -> StableCertificate<B::Crypto> {
        let vote = self.setup.sign(Checkpoint { n, digest, replica: self.setup.id }).signature;
        let votes = vec![(self.setup.id, vote); self.setup.cluster.quorum()];
        self.claim_stable(n, digest, votes)
    }

    /// The checkpoint certificate that these votes would make, whether they prove anything or not.
    pub(super) fn claim_stable(
        &self,
        n: SeqNo,
        digest: Digest,
        votes: Vec<(ReplicaId, <B::Crypto as Crypto>::Signature)>,
    ) -> StableCertificate<B::Crypto> {
        let evidence = Evidence { proposal: None, votes };
        let valid = |evidence: &_| stable_evidence_proves(&self.setup, n, digest, evidence);
        StableCertificate { n, digest, proof: B::Crypto::seal(Claim::Stable(n, digest), evidence, &valid) }
    }

    pub(super) fn mutated(&self, message: &Message<B::Crypto>, rng: &mut ChaCha8Rng) -> Message<B::Crypto> {
        let replica =
            if rng.random_range(0..10) == 0 { ReplicaId(rng.random_range(0..8)) } else { self.setup.id };
        match message {
            Message::PrePrepare(m, _) => {
                let batch = self.batch(rng);
                let (view, n) = self.slot(m.content.view, m.content.n, rng);
                let pre_prepare = PrePrepare { view, n, digest: batch.digest() };
                Message::PrePrepare(self.setup.sign(pre_prepare), batch)
            }
            Message::Prepare(m) => {
                let (view, n) = self.slot(m.content.view, m.content.n, rng);
                Message::Prepare(self.setup.sign(Prepare { view, n, digest: self.digest(rng), replica }))
            }
            Message::Commit(m) => {
                let (view, n) = self.slot(m.content.view, m.content.n, rng);
                Message::Commit(self.setup.sign(Commit { view, n, digest: self.digest(rng), replica }))
            }
            Message::Checkpoint(m) => {
                let n = SeqNo(Self::near(m.content.n.0, rng));
                Message::Checkpoint(self.setup.sign(Checkpoint { n, digest: self.digest(rng), replica }))
            }
            Message::ViewChange(m) => Message::ViewChange(Arc::new(self.lying_view_change(&m.content, rng))),
            Message::NewView(m) => Message::NewView(Arc::new(self.lying_new_view(&m.content, rng))),
            Message::Reply(m) => {
                let result = Bytes::from(vec![rng.random::<u8>(); 2]);
                let view = View(Self::near(m.content.view.0, rng));
                Message::Reply(self.setup.sign(Reply { result, view, ..m.content.clone() }))
            }
            Message::Status(m) => {
                let (view, executed) = self.slot(m.content.view, m.content.executed, rng);
                let stable = SeqNo(Self::near(m.content.stable.0, rng));
                Message::Status(self.setup.sign(Status { view, executed, stable, ..m.content.clone() }))
            }
            Message::Batch(_) => Message::Batch(self.batch(rng)),
            Message::Block(block) => {
                let mut bytes = block.to_vec();
                if let Some(byte) = bytes.first_mut() {
                    *byte ^= 1;
                }
                Message::Block(Bytes::from(bytes))
            }
            Message::Stable(m) => {
                let n = SeqNo(Self::near(m.n.0, rng));
                Message::Stable(self.forged_checkpoint(n, self.digest(rng)))
            }
            Message::Request(_) | Message::Fetch(_) => message.clone(),
        }
    }

    pub(super) fn lying_view_change(
        &self,
        truth: &ViewChange<B::Crypto>,
        rng: &mut ChaCha8Rng,
    ) -> Signed<ViewChange<B::Crypto>, B::Crypto> {
        let mut lie = truth.clone();
        match rng.random_range(0..6) {
            0 => lie.view = View(Self::near(truth.view.0, rng)),
            1 => lie.prepared.clear(),
            2 => {
                lie.prepared.pop();
            }
            3 => {
                let n = SeqNo(Self::near(truth.n.0 + 1, rng));
                let view = View(Self::near(truth.view.0.saturating_sub(1), rng));
                lie.prepared = vec![self.forged(view, n, self.digest(rng))];
            }
            4 => {
                lie.n = SeqNo(Self::near(truth.n.0 + 2, rng));
                lie.stable = Some(self.forged_checkpoint(lie.n, self.digest(rng)));
            }
            _ => {
                if let Some(certificate) = lie.prepared.first_mut() {
                    certificate.digest = self.digest(rng);
                }
            }
        }
        self.setup.sign(lie)
    }

    pub(super) fn lying_new_view(
        &self,
        truth: &NewView<B::Crypto>,
        rng: &mut ChaCha8Rng,
    ) -> Signed<NewView<B::Crypto>, B::Crypto> {
        let mut lie = truth.clone();
        match rng.random_range(0..6) {
            0 => lie.view = View(Self::near(truth.view.0, rng)),
            1 => {
                let mut fewer = lie.view_changes.to_vec();
                fewer.pop();
                lie.view_changes = fewer.into();
            }
            2 => {
                if let Some(own) =
                    lie.view_changes.iter().find(|m| m.signer == Principal::Replica(self.setup.id))
                {
                    lie.view_changes = vec![own.clone(); self.setup.cluster.quorum()].into();
                }
            }
            3 => {
                lie.pre_prepares.pop();
            }
            4 => {
                let n = SeqNo(lie.pre_prepares.last().map_or(1, |m| m.content.n.0 + 1));
                let digest = self.digest(rng);
                lie.pre_prepares.push(self.setup.sign(PrePrepare { view: lie.view, n, digest }));
            }
            _ => {
                if let Some(first) = lie.pre_prepares.first_mut() {
                    let digest = self.digest(rng);
                    *first = self.setup.sign(PrePrepare { digest, ..first.content });
                }
            }
        }
        self.setup.sign(lie)
    }

    /// A message that answers nothing, near what is going on.
    pub(super) fn nonsense(&self, rng: &mut ChaCha8Rng) -> Message<B::Crypto> {
        let (view, n) = self.slot(self.core.view(), self.core.last_executed().next(), rng);
        let (digest, replica) = (self.digest(rng), self.setup.id);
        let h = self.core.watermarks(&self.setup).h;
        match rng.random_range(0..8) {
            0 => {
                let batch = self.batch(rng);
                let digest = batch.digest();
                Message::PrePrepare(self.setup.sign(PrePrepare { view, n, digest }), batch)
            }
            1 => Message::Prepare(self.setup.sign(Prepare { view, n, digest, replica })),
            2 => Message::Commit(self.setup.sign(Commit { view, n, digest, replica })),
            3 => Message::Checkpoint(self.setup.sign(Checkpoint { n, digest, replica })),
            4 => {
                let prepared = vec![self.forged(self.core.view(), n, digest)];
                let view = view.next();
                let stable = self.core.durable().stable.clone();
                Message::ViewChange(Arc::new(self.setup.sign(ViewChange {
                    view,
                    n: h,
                    stable,
                    prepared,
                    replica,
                })))
            }
            5 => self.lying_about_new_view(view.next(), rng),
            6 => Message::Stable(self.forged_checkpoint(n, digest)),
            _ => match self.seen.choose(rng) {
                Some(message) => self.mutated(message, rng),
                None => Message::Batch(self.batch(rng)),
            },
        }
    }

    /// A NEW-VIEW made of the VIEW-CHANGEs seen, for a view of which this replica may be the primary.
    fn lying_about_new_view(&self, view: View, rng: &mut ChaCha8Rng) -> Message<B::Crypto> {
        let view_changes = self.seen.iter().filter_map(|message| match message {
            Message::ViewChange(m) if m.content.view == view => Some(m.clone()),
            _ => None,
        });
        let view_changes = view_changes.take(self.setup.cluster.quorum()).collect();
        let truth = NewView { view, view_changes, pre_prepares: Vec::new() };
        Message::NewView(Arc::new(self.lying_new_view(&truth, rng)))
    }
}
