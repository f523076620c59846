//! OSDI'99 §4.2: PRE-PREPARE, PREPARE, COMMIT.

use super::log::{Phase, Vote, add_own_vote, add_vote, evidence};
use super::received::Voted;
use super::verify::prepared_evidence_proves;
use super::{Bundle, Destination, Effects, Fact, Record, Replica, Setup};
use crate::certificate::PreparedCertificate;
use crate::crypto::{Claim, Crypto, Signed};
use crate::message::{Batch, Commit, Fetch, Message, PrePrepare, Prepare, Wanted};
use crate::parameters::Parameters;
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;
use std::sync::Arc;

impl<B: Bundle> Replica<B> {
    // --- the primary ---

    /// Proposes queued requests while the window and the batches in flight leave room.
    ///
    /// Deviation: while a batch is in flight, only a full one joins it (the rule of Nagle, RFC 896): the
    /// votes for a batch cost the same whatever it holds. Source: the bound on protocol instances in flight
    /// of Castro's thesis, §5.1.4.
    pub(super) fn propose(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        while self.is_primary(setup) && self.is_active(setup) && !self.requests.queue.is_empty() {
            let n = self.next_n();
            let in_flight = n.0.saturating_sub(self.last_executed().next().0);
            if in_flight >= setup.parameters.max_in_flight
                || (in_flight > 0 && !self.fills_a_batch(setup))
                || !setup.rules.high_water_mark(n, self.watermarks(setup))
            {
                return;
            }
            let batch = self.next_batch(setup);
            if batch.requests.is_empty() {
                return;
            }
            let digest = batch.digest();
            let pre_prepare = setup.sign(PrePrepare { view: self.view(), n, digest });
            let batch = Arc::new(batch);
            self.persist(setup, Record::PrePrepared(pre_prepare.clone(), batch.clone()), effects);
            effects.fact(Fact::PrePrepared { view: self.view(), n, digest });
            effects.send(Destination::Replicas, Message::PrePrepare(pre_prepare, batch));
            self.try_prepared_with(setup, digest, effects);
        }
    }

    /// The sequence number after the last one assigned in this view.
    fn next_n(&self) -> SeqNo {
        let from = (self.view(), SeqNo(0));
        let assigned = self.durable.log.range(from..=(self.view(), SeqNo(u64::MAX))).next_back();
        assigned.map_or(SeqNo(0), |(&(_, n), _)| n).max(self.durable.h()).next()
    }

    /// Whether the queue holds as much as a batch may.
    fn fills_a_batch(&self, setup: &Setup<B>) -> bool {
        let Parameters { max_batch_requests, max_batch_bytes, .. } = setup.parameters;
        let queued = self.requests.queue.iter().filter_map(|client| self.requests.pool.get(client));
        let bytes: usize =
            queued.take(max_batch_requests).map(|request| request.content.operation.len()).sum();
        self.requests.queue.len() >= max_batch_requests || bytes >= max_batch_bytes
    }

    /// Takes requests off the queue, in order, up to the bounds of a batch.
    fn next_batch(&mut self, setup: &Setup<B>) -> Batch<B::Crypto> {
        let mut batch = Batch { requests: Vec::new() };
        let mut bytes = 0;
        while let Some(client) = self.requests.queue.front() {
            let Some(request) = self.requests.pool.get(client) else {
                self.requests.queue.pop_front();
                continue;
            };
            let longer = bytes + request.content.operation.len();
            let full = batch.requests.len() >= setup.parameters.max_batch_requests
                || longer > setup.parameters.max_batch_bytes;
            if full && !batch.requests.is_empty() {
                break;
            }
            bytes = longer;
            self.proposed.insert(*client, request.content.timestamp);
            batch.requests.push(request.clone());
            self.requests.queue.pop_front();
        }
        batch
    }

    // --- accepting messages ---

    /// What every message of the normal case must satisfy: the current view, taken part in, in the window.
    pub(super) fn check_slot(&self, setup: &Setup<B>, view: View, n: SeqNo) -> Result<(), Rejection> {
        let watermarks = self.watermarks(setup);
        if !setup.rules.leave_old_view(view, self.view()) {
            return Err(Rejection::WrongView);
        }
        if !self.is_active(setup) {
            return Err(Rejection::LeavingView);
        }
        if !setup.rules.low_water_mark(n, watermarks) || !setup.rules.high_water_mark(n, watermarks) {
            return Err(Rejection::OutOfWindow);
        }
        Ok(())
    }

    /// Handles a PRE-PREPARE at a backup. OSDI'99 §4.2: it accepts one if
    /// - the signatures of the request and of the PRE-PREPARE are right, and d is the digest of m:
    ///   [`verify`](super::verify::verify), with `only_primary_proposes`, `request_authentic` and
    ///   `digest_names_batch`;
    /// - it is in view v, and has not left it: `check_slot` (`leave_old_view`, `stop_after_view_change`);
    /// - it has accepted no other digest for v and n: here (`first_pre_prepare_wins`);
    /// - n is between h and H: `check_slot` (`low_water_mark`, `high_water_mark`).
    ///
    /// The null request comes in `O` only: here (`null_only_in_o`). It then logs the batch and sends PREPARE.
    pub(super) fn on_pre_prepare(
        &mut self,
        setup: &Setup<B>,
        signed: Signed<PrePrepare, B::Crypto>,
        batch: Arc<Batch<B::Crypto>>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let PrePrepare { view, n, digest } = signed.content;
        self.check_slot(setup, view, n)?;
        if setup.cluster.primary(view) == setup.id {
            // Ours, come back: what it assigned is in our log.
            return Err(Rejection::Duplicate);
        }
        if let Some(accepted) = self.accepted(view, n) {
            if accepted.digest == digest && self.batch(digest).is_some() {
                return Err(Rejection::Duplicate);
            }
            if accepted.digest == digest {
                // The new view carried the digest over; now the batch is here.
                return self.on_batch(setup, batch, effects);
            }
            if !setup.rules.first_pre_prepare_wins(accepted.digest, digest) {
                return Err(Rejection::ConflictingPrePrepare);
            }
        }
        if !setup.rules.null_only_in_o(digest == Digest::NULL) {
            return Err(Rejection::NullRequest);
        }
        self.persist(setup, Record::PrePrepared(signed, batch), effects);
        effects.fact(Fact::PrePrepared { view, n, digest });
        self.send_prepare(setup, PrePrepare { view, n, digest }, effects);
        self.try_prepared_with(setup, digest, effects);
        Ok(())
    }

    /// A backup's PREPARE, sent and counted.
    pub(super) fn send_prepare(
        &mut self,
        setup: &Setup<B>,
        PrePrepare { view, n, digest }: PrePrepare,
        effects: &mut Effects<B::Crypto>,
    ) {
        let prepare = setup.sign(Prepare { view, n, digest, replica: setup.id });
        let voted = Voted { n, view, replica: setup.id };
        let vote = Vote { digest, signature: prepare.signature.clone() };
        add_own_vote(&mut self.prepares, voted, vote, &setup.rules, Self::repeats_bound(setup));
        effects.send(Destination::Replicas, Message::Prepare(prepare));
    }

    /// Handles a PREPARE. OSDI'99 §4.2: it is logged if
    /// - its signature is right: [`verify`](super::verify::verify) (`signer_is_sender`, `members_only`);
    /// - its view is the replica's, and n is between h and H: `check_slot`;
    /// - it is a backup's: here (`primary_does_not_prepare`), and the sender's first: `add_vote`
    ///   (`one_vote_per_sender`).
    ///
    /// `prepared` may have become true: `try_prepared` makes the certificate and sends COMMIT.
    pub(super) fn on_prepare(
        &mut self,
        setup: &Setup<B>,
        signed: Signed<Prepare, B::Crypto>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let Prepare { view, n, digest, replica } = signed.content;
        self.check_slot(setup, view, n)?;
        if !setup.rules.primary_does_not_prepare(replica, setup.cluster.primary(view)) {
            return Err(Rejection::PrimaryPrepare);
        }
        if self.prepared(view, n) {
            return Err(Rejection::Duplicate);
        }
        let (voted, vote) = (Voted { n, view, replica }, Vote { digest, signature: signed.signature });
        add_vote(&mut self.prepares, voted, vote, &setup.rules, Self::repeats_bound(setup))?;
        self.try_prepared(setup, view, n, effects);
        Ok(())
    }

    /// Makes the certificate and sends COMMIT as soon as `prepared(m, v, n, i)` holds. Not once VIEW-CHANGE
    /// has been sent, though a batch that was missing may still arrive: what prepared then would be in no
    /// `P`.
    pub(super) fn try_prepared(
        &mut self,
        setup: &Setup<B>,
        view: View,
        n: SeqNo,
        effects: &mut Effects<B::Crypto>,
    ) {
        let Some(signed) = self.durable.log.get(&(view, n)).filter(|_| !self.prepared(view, n)) else {
            return;
        };
        if !self.is_active(setup) {
            return;
        }
        let proposal = signed.content;
        let prepares = self.matching_prepares(setup, proposal);
        let quorum = setup.rules.prepare_quorum(&setup.cluster);
        let has_batch = self.batch(proposal.digest).is_some();
        if prepares.len() < quorum || !setup.rules.prepared_has_batch(has_batch) {
            return;
        }
        let certificate = certify(setup, signed, prepares, quorum);
        let known = self.durable.prepared.get(&n).map(|known| known.view);
        if known.is_none_or(|known| setup.rules.latest_certificate_wins(view, known)) {
            self.persist(setup, Record::Prepared(certificate), effects);
        }
        self.forget_votes(|voted, phase| (voted.n, voted.view, phase) != (n, view, Phase::Prepare));
        effects.fact(Fact::Prepared { view, n, digest: proposal.digest });
        self.send_commit(setup, proposal, effects);
        self.try_committed(setup, view, n, effects);
    }

    fn send_commit(
        &mut self,
        setup: &Setup<B>,
        PrePrepare { view, n, digest }: PrePrepare,
        effects: &mut Effects<B::Crypto>,
    ) {
        let commit = setup.sign(Commit { view, n, digest, replica: setup.id });
        let voted = Voted { n, view, replica: setup.id };
        let vote = Vote { digest, signature: commit.signature.clone() };
        add_own_vote(&mut self.commits, voted, vote, &setup.rules, Self::repeats_bound(setup));
        effects.send(Destination::Replicas, Message::Commit(commit));
    }

    /// Handles a COMMIT. OSDI'99 §4.2: it is logged if
    /// - its signature is right: [`verify`](super::verify::verify);
    /// - its view is the replica's, and n is between h and H: `check_slot`;
    /// - it is the sender's first: `add_vote` (`one_vote_per_sender`).
    ///
    /// `committed-local` may have become true: `try_committed` executes.
    pub(super) fn on_commit(
        &mut self,
        setup: &Setup<B>,
        signed: Signed<Commit, B::Crypto>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let Commit { view, n, digest, replica } = signed.content;
        self.check_slot(setup, view, n)?;
        if self.committed_local(view, n) {
            return Err(Rejection::Duplicate);
        }
        let (voted, vote) = (Voted { n, view, replica }, Vote { digest, signature: signed.signature });
        add_vote(&mut self.commits, voted, vote, &setup.rules, Self::repeats_bound(setup))?;
        self.try_committed(setup, view, n, effects);
        Ok(())
    }

    /// Executes what can be executed as soon as `committed-local(m, v, n, i)` holds.
    pub(super) fn try_committed(
        &mut self,
        setup: &Setup<B>,
        view: View,
        n: SeqNo,
        effects: &mut Effects<B::Crypto>,
    ) {
        let Some(proposal) = self.accepted(view, n) else { return };
        if !self.prepared(view, n) || self.committed_local(view, n) {
            return;
        }
        if self.matching_commits(setup, proposal) < setup.rules.commit_quorum(&setup.cluster) {
            return;
        }
        self.committed.insert(n, view);
        self.forget_votes(|voted, phase| (voted.n, voted.view, phase) != (n, view, Phase::Commit));
        effects.fact(Fact::Committed { view, n, digest: proposal.digest });
        self.execute(setup, effects);
        self.propose(setup, effects);
    }

    // --- batches that a new view names and this replica lacks ---

    /// The batches named by accepted PRE-PREPAREs that this replica does not have.
    pub(super) fn missing_batches(&self) -> BTreeSet<Digest> {
        let named = self.durable.log.values().map(|signed| signed.content.digest);
        named.filter(|&digest| self.batch(digest).is_none()).collect()
    }

    /// Asks the others for what is missing.
    pub(super) fn fetch_batches(&self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        for digest in self.missing_batches() {
            let fetch = setup.sign(Fetch { what: Wanted::Batch(digest), replica: setup.id });
            effects.send(Destination::Replicas, Message::Fetch(fetch));
        }
    }

    /// Handles a batch by itself, fetched because a new view names it (not in the paper). It is taken if an
    /// accepted PRE-PREPARE lacks it: here. Its requests' signatures and its size:
    /// [`verify`](super::verify::verify). What it was accepted for may then be prepared.
    pub(super) fn on_batch(
        &mut self,
        setup: &Setup<B>,
        batch: Arc<Batch<B::Crypto>>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let digest = batch.digest();
        if !self.missing_batches().contains(&digest) {
            return Err(Rejection::Unwanted);
        }
        self.persist(setup, Record::Batch(batch), effects);
        self.try_prepared_with(setup, digest, effects);
        Ok(())
    }

    /// A batch is here: it may be all that was missing, under whichever sequence numbers it was accepted. (A
    /// new view may carry a batch over that this replica lacks, and its primary propose it once more.)
    fn try_prepared_with(&mut self, setup: &Setup<B>, digest: Digest, effects: &mut Effects<B::Crypto>) {
        let named: Vec<(View, SeqNo)> = (self.durable.log.iter())
            .filter(|(_, signed)| signed.content.digest == digest)
            .map(|(&slot, _)| slot)
            .collect();
        for (view, n) in named {
            self.try_prepared(setup, view, n, effects);
        }
    }
}

/// The certificate that a PRE-PREPARE and matching PREPAREs make.
pub(super) fn certify<B: Bundle>(
    setup: &Setup<B>,
    signed: &Signed<PrePrepare, B::Crypto>,
    prepares: Vec<(ReplicaId, <B::Crypto as Crypto>::Signature)>,
    quorum: usize,
) -> PreparedCertificate<B::Crypto> {
    let PrePrepare { view, n, digest } = signed.content;
    let evidence = evidence(Some(signed.signature.clone()), prepares, quorum);
    let valid = |e: &_| prepared_evidence_proves(setup, signed.content, e);
    PreparedCertificate {
        view,
        n,
        digest,
        proof: B::Crypto::seal(Claim::Prepared(view, n, digest), evidence, &valid),
    }
}
