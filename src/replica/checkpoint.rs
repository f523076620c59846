//! OSDI'99 §4.3: checkpoints, their proof, and garbage collection.

use super::log::{Vote, add_own_vote, add_vote, evidence};
use super::noted::Cells;
use super::received::Voted;
use super::verify::stable_evidence_proves;
use super::{
    Bundle, CHECKPOINTS, ClientTable, Destination, Effects, Fact, Record, Replica, Setup, Snapshot, Votes,
};
use crate::certificate::StableCertificate;
use crate::crypto::{Claim, Crypto, Signed};
use crate::message::{Checkpoint, Message};
use crate::rejection::Rejection;
use crate::replica::blocks::Tree;
use crate::rules::Rules;
use crate::service::Service;
use crate::types::{Digest, SeqNo, View};
use std::collections::BTreeSet;
use std::sync::Arc;

impl Snapshot {
    /// A state after executing `n`: the service's and the client table. What has not changed since an earlier tree is
    /// not digested again.
    #[doc(hidden)]
    pub fn of<C: Crypto, S: Service, R: Rules>(
        n: SeqNo,
        (service, clients): (&S, &ClientTable),
        previous: Option<&Tree>,
        rules: &R,
    ) -> Self {
        let mut chunks = service.snapshot();
        if rules.client_table_in_checkpoint() {
            chunks.push(clients.to_bytes());
        }
        Snapshot { n, tree: Tree::build::<C>(&chunks, previous) }
    }
}

impl<B: Bundle> Replica<B> {
    /// The state as it is now, after executing `n`.
    pub(super) fn snapshot(&self, setup: &Setup<B>, n: SeqNo) -> Arc<Snapshot> {
        let previous =
            self.snapshots.last_key_value().map_or(&self.durable.snapshot, |(_, snapshot)| snapshot);
        Arc::new(Snapshot::of::<B::Crypto, _, _>(
            n,
            (&self.service, &self.clients),
            Some(&previous.tree),
            &setup.rules,
        ))
    }

    /// Digests the state after `n` and tells the others.
    pub(super) fn take_checkpoint(&mut self, setup: &Setup<B>, n: SeqNo, effects: &mut Effects<B::Crypto>) {
        let digest = self.log_own_checkpoint(setup, n);
        effects.fact(Fact::CheckpointTaken { n, digest });
        let checkpoint = setup.sign(Checkpoint { n, digest, replica: setup.id });
        effects.send(Destination::Replicas, Message::Checkpoint(checkpoint));
        self.try_stable(setup, n, effects);
    }

    /// Keeps the state after `n` and counts this replica's own CHECKPOINT for it.
    pub(super) fn log_own_checkpoint(&mut self, setup: &Setup<B>, n: SeqNo) -> Digest {
        let snapshot = self.snapshot(setup, n);
        let digest = snapshot.tree.root();
        self.snapshots.insert(n, snapshot);
        let signature = setup.sign(Checkpoint { n, digest, replica: setup.id }).signature;
        let (voted, vote) = (Voted { n, view: View(0), replica: setup.id }, Vote { digest, signature });
        add_own_vote(&mut self.checkpoints, voted, vote, &setup.rules, Self::repeats_bound(setup));
        digest
    }

    /// What every CHECKPOINT must satisfy.
    pub(super) fn check_checkpoint(&self, setup: &Setup<B>, n: SeqNo) -> Result<(), Rejection> {
        let watermarks = self.watermarks(setup);
        if !n.0.is_multiple_of(setup.parameters.checkpoint_interval) {
            return Err(Rejection::NotACheckpoint);
        }
        // One above H is learned of later, as a certificate in answer to a STATUS.
        if !setup.rules.low_water_mark(n, watermarks) || n > watermarks.high() {
            return Err(Rejection::OutOfWindow);
        }
        Ok(())
    }

    /// Handles a CHECKPOINT. OSDI'99 §4.3: it is logged if
    /// - its signature is right: [`verify`](super::verify::verify);
    /// - n is a multiple of K, above h and not above H: `check_checkpoint`;
    /// - it is the sender's first for n: `add_vote` (`one_vote_per_sender`).
    ///
    /// A quorum for one digest is the proof that makes it stable: `try_stable` (`checkpoint_quorum`).
    pub(super) fn on_checkpoint(
        &mut self,
        setup: &Setup<B>,
        signed: Signed<Checkpoint, B::Crypto>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let Checkpoint { n, digest, replica } = signed.content;
        self.check_checkpoint(setup, n)?;
        let voted = Voted { n, view: View(0), replica };
        let vote = Vote { digest, signature: signed.signature };
        add_vote(&mut self.checkpoints, voted, vote, &setup.rules, Self::repeats_bound(setup))?;
        self.try_stable(setup, n, effects);
        self.propose(setup, effects);
        Ok(())
    }

    /// Makes the certificate as soon as a quorum agrees on the state after `n`.
    fn try_stable(&mut self, setup: &Setup<B>, n: SeqNo, effects: &mut Effects<B::Crypto>) {
        let quorum = setup.rules.checkpoint_quorum(&setup.cluster);
        let about = Cells { n: Some(n), ..Votes::<B::Crypto, CHECKPOINTS>::all() };
        let votes: Vec<_> = self.checkpoints.iter(about).collect();
        let digests: BTreeSet<Digest> = votes.iter().map(|(_, vote)| vote.digest).collect();
        let certificate = digests.into_iter().find_map(|digest| {
            let matching: Vec<_> = (votes.iter().filter(|(_, vote)| vote.digest == digest))
                .map(|(voted, vote)| (voted.replica, vote.signature.clone()))
                .collect();
            (matching.len() >= quorum).then(|| {
                let evidence = evidence(None, matching, quorum);
                let valid = |e: &_| stable_evidence_proves(setup, n, digest, e);
                StableCertificate {
                    n,
                    digest,
                    proof: B::Crypto::seal(Claim::Stable(n, digest), evidence, &valid),
                }
            })
        });
        if let Some(certificate) = certificate {
            self.make_stable(setup, certificate, effects);
        }
    }

    /// What a proof of a stable checkpoint must satisfy: it is news.
    pub(super) fn check_stable(&self, setup: &Setup<B>, n: SeqNo) -> Result<(), Rejection> {
        if setup.rules.low_water_mark(n, self.watermarks(setup)) { Ok(()) } else { Err(Rejection::Duplicate) }
    }

    /// Handles the proof of a stable checkpoint, sent to who is behind (OSDI'99 §4.3 leaves it open). It is
    /// taken if
    /// - its votes prove it: [`verify`](super::verify::verify) (`checkpoint_proof`);
    /// - it is above h: `check_stable` (`low_water_mark`).
    ///
    /// h advances, the log below is discarded, and a state that is missing is fetched: `make_stable`.
    pub(super) fn on_stable(
        &mut self,
        setup: &Setup<B>,
        certificate: StableCertificate<B::Crypto>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        self.check_stable(setup, certificate.n)?;
        self.make_stable(setup, certificate, effects);
        self.propose(setup, effects);
        Ok(())
    }

    /// Advances h to a proved checkpoint, discards what it covers and, if this replica is behind it, starts
    /// to fetch the state.
    pub(super) fn make_stable(
        &mut self,
        setup: &Setup<B>,
        certificate: StableCertificate<B::Crypto>,
        effects: &mut Effects<B::Crypto>,
    ) {
        let (n, digest) = (certificate.n, certificate.digest);
        self.persist(setup, Record::Stable(certificate), effects);
        effects.fact(Fact::CheckpointStable { n, digest });
        let own = self.snapshots.get(&n).filter(|snapshot| snapshot.tree.root() == digest).cloned();
        self.forget_votes(|voted, _| voted.n > n);
        self.committed.retain(|&m, _| m > n);
        self.checkpoints.retain(|voted| voted.n > n);
        if let Some(snapshot) = own {
            self.persist(setup, Record::Snapshot(snapshot), effects);
            self.transfer.set(None);
        } else if setup.rules.fetch_missing_state(self.last_executed(), n) {
            self.start_transfer(setup, n, digest, effects);
        }
        self.snapshots.retain(|&m, _| m > n);
    }
}
