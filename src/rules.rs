//! The paper's rules, one predicate each.
//!
//! Every safeguard that is a decision of the protocol is one method, and [`Pbft`] gives the paper's answers.
//! No method has a default, so whoever makes other rules (a mutant, which loses one) must say for each where
//! its answer comes from: the models' rules ask [`Pbft`] for whatever they do not switch off.
//! `docs/SAFEGUARDS.md` lists the safeguards; where one is a number (a quorum, a threshold) the method has
//! the name of the number.

use crate::types::{Cluster, Digest, Principal, ReplicaId, SeqNo, Timestamp, View, Watermarks};
use std::fmt::Debug;

/// The highest exponent of the time-out, so that the state stays bounded: 2^10 times the base.
pub const MAX_BACKOFF: u8 = 10;

/// What a correct replica and a correct client decide by.
pub trait Rules: Clone + Debug + Send + Sync + 'static {
    // --- normal case, OSDI'99 §4.2 ---

    /// Matching PREPAREs of distinct backups that make a pre-prepared batch prepared: `Q - 1` (2f).
    fn prepare_quorum(&self, cluster: &Cluster) -> usize;

    /// Matching COMMITs of distinct replicas that make a prepared batch committed-local: `Q` (2f + 1).
    fn commit_quorum(&self, cluster: &Cluster) -> usize;

    /// The primary sends no PREPARE, and its vote never counts as one.
    fn primary_does_not_prepare(&self, sender: ReplicaId, primary: ReplicaId) -> bool;

    /// A sender is counted once: may its vote be logged, given whether one of it already is?
    fn one_vote_per_sender(&self, voted_before: bool) -> bool;

    /// A vote counts for the digest it names only.
    fn votes_match_digest(&self, same: bool) -> bool;

    /// A vote counts for the view it names only.
    fn votes_match_view(&self, vote: View, proposal: View) -> bool;

    /// One digest is accepted for each view and sequence number: the first.
    fn first_pre_prepare_wins(&self, accepted: Digest, proposed: Digest) -> bool;

    /// PRE-PREPAREs and NEW-VIEWs come from the primary of their view.
    fn only_primary_proposes(&self, signer: Principal, primary: ReplicaId) -> bool;

    /// Once VIEW-CHANGE is sent, PRE-PREPAREs, PREPAREs and COMMITs of the old view are ignored.
    fn stop_after_view_change(&self, leaving: Option<View>) -> bool;

    /// Messages of the normal case are taken in the current view only.
    fn leave_old_view(&self, message: View, current: View) -> bool;

    /// A vote logged in a view is forgotten on entering another.
    fn forget_old_votes(&self, vote: View, entered: View) -> bool;

    /// A request is accepted with its client's valid signature only.
    fn request_authentic(&self, signature_valid: bool) -> bool;

    /// The batch of a PRE-PREPARE is the one its digest names.
    fn digest_names_batch(&self, named: Digest, actual: Digest) -> bool;

    /// The log holds the batch itself before the replica is prepared.
    fn prepared_has_batch(&self, has_batch: bool) -> bool;

    /// A request executes if its timestamp is above that of the client's last executed one.
    fn at_most_once(&self, request: Timestamp, last: Timestamp) -> bool;

    /// Batches execute in the order of their sequence numbers, without gaps.
    fn in_order(&self, n: SeqNo, last_executed: SeqNo) -> bool;

    /// `n <= H`, so that a Byzantine primary cannot exhaust the sequence numbers.
    fn high_water_mark(&self, n: SeqNo, watermarks: Watermarks) -> bool;

    /// `h < n`: what a stable checkpoint covers is over.
    fn low_water_mark(&self, n: SeqNo, watermarks: Watermarks) -> bool;

    /// Who signed is who the message says sent it.
    fn signer_is_sender(&self, signer: Principal, sender: Principal) -> bool;

    /// Only configured replicas vote and only registered clients request.
    fn members_only(&self, is_member: bool) -> bool;

    // --- view change, OSDI'99 §4.4 ---

    /// VIEW-CHANGE carries `P`.
    fn certificates_in_view_change(&self) -> bool;

    /// A certificate proves its claim by signatures, distinct backups and a quorum.
    fn certificates_verified(&self, proves: bool) -> bool;

    /// Voters needed in a certificate of `P`, its PRE-PREPARE apart: as many as prepare.
    fn certificate_quorum(&self, cluster: &Cluster) -> usize;

    /// Voters in a certificate are distinct.
    fn distinct_voters(&self, distinct: bool) -> bool;

    /// A certificate is of an earlier view than the one being changed to.
    fn certificate_view_below_target(&self, certificate: View, target: View) -> bool;

    /// A certificate in `P` lies above the sender's stable checkpoint and within its window.
    fn certificate_in_window(&self, in_window: bool) -> bool;

    /// `P` has at most one certificate for each sequence number.
    fn one_certificate_per_n(&self, ascending: bool) -> bool;

    /// `P` holds what prepared, not what was merely pre-prepared.
    fn prepared_not_pre_prepared(&self, prepared: bool) -> bool;

    /// One NEW-VIEW is accepted for each view.
    fn first_new_view_wins(&self, proposed: View, entered: View) -> bool;

    /// Views only grow: neither one already left nor one below the VIEW-CHANGE sent is entered.
    fn view_increases(&self, proposed: View, entered: View, leaving: Option<View>) -> bool;

    /// A null PRE-PREPARE is refused outside `O`.
    fn null_only_in_o(&self, is_null: bool) -> bool;

    /// VIEW-CHANGEs that make a new view: `Q` (2f + 1), the new primary's own among them.
    fn view_change_quorum(&self, cluster: &Cluster) -> usize;

    /// VIEW-CHANGEs count if they are of distinct replicas.
    fn distinct_view_changes(&self, distinct: bool) -> bool;

    /// Every VIEW-CHANGE in `V` is for the view of the NEW-VIEW.
    fn view_changes_match_view(&self, view_change: View, new_view: View) -> bool;

    /// `O` takes, for each sequence number, the certificate of the highest view.
    fn highest_view_wins(&self, candidate: View, best: View) -> bool;

    /// `P` survives entering a view.
    fn prepared_survives(&self) -> bool;

    /// `P` keeps, for each sequence number, the certificate of the latest view.
    fn latest_certificate_wins(&self, new: View, old: View) -> bool;

    /// Backups compute `O` from `V` and accept no other.
    fn backups_recompute_o(&self, same: bool) -> bool;

    /// Sequence numbers below max-s without a certificate get the null request.
    fn null_fills_gaps(&self) -> bool;

    /// The checkpoint claimed in a VIEW-CHANGE is proved by a certificate.
    fn checkpoint_proof(&self, proves: bool) -> bool;

    /// min-s: whether a claimed checkpoint replaces the best so far; the highest in `V` counts.
    fn min_s_from_all(&self, claimed: SeqNo, best: SeqNo) -> bool;

    /// Replicas whose VIEW-CHANGEs for higher views make this one join the smallest: f + 1.
    fn join_threshold(&self, cluster: &Cluster) -> usize;

    /// VIEW-CHANGE is retransmitted until the new view is entered.
    fn view_change_retransmitted(&self) -> bool;

    /// The exponent of the time-out after one more failed view: it doubles.
    fn timeout_grows(&self, exponent: u8) -> u8;

    /// The timer runs while a known request is unexecuted.
    fn timer_on_request(&self, waiting: bool) -> bool;

    /// A replica left in an older view is sent the NEW-VIEW of the current one.
    fn resume_on_catch_up(&self, its: View, ours: View) -> bool;

    // --- checkpoints, state transfer, storage, OSDI'99 §4.3 ---

    /// Matching CHECKPOINTs of distinct replicas that make a checkpoint stable: `Q` (2f + 1).
    fn checkpoint_quorum(&self, cluster: &Cluster) -> usize;

    /// The client table is part of the checkpointed state and travels with it.
    fn client_table_in_checkpoint(&self) -> bool;

    /// A replica whose state is behind a stable checkpoint fetches the state.
    fn fetch_missing_state(&self, executed: SeqNo, stable: SeqNo) -> bool;

    /// A fetched block is the one its digest names.
    fn transfer_verified(&self, wanted: bool) -> bool;

    /// What a message promises is recorded on stable storage.
    fn persist_votes(&self) -> bool;

    /// What a message promises is durable before the message leaves.
    fn persist_before_send(&self) -> bool;

    /// A restarted replica is in the view, and in the view change, in which it stopped.
    fn restart_keeps_view(&self) -> bool;

    // --- clients, OSDI'99 §4.1 and §5.1 ---

    /// Matching replies of distinct replicas that make a result: f + 1.
    fn reply_quorum(&self, cluster: &Cluster) -> usize;

    /// Matching replies of distinct replicas that make a read-only result: `Q` (2f + 1).
    fn read_quorum(&self, cluster: &Cluster) -> usize;

    /// A read-only request is answered once everything prepared at its arrival has executed.
    ///
    /// Without this rule a read can miss a write that its client has already seen acknowledged: f + 1
    /// replies prove that one correct replica executed the write, and a read quorum may avoid that one. It
    /// cannot avoid every correct replica that prepared it. Source: OSDI'99 §5.1 (tentative state).
    fn reads_wait_for_prepared(&self, executed: SeqNo, prepared: SeqNo) -> bool;

    /// A reply answers the pending request: same client, same timestamp.
    fn reply_bound_to_request(&self, bound: bool) -> bool;

    /// The client sends to all replicas on a time-out.
    fn retransmit_to_all(&self) -> bool;

    /// A repeated request is answered with the reply kept in the client table.
    fn reply_cached(&self) -> bool;
}

/// The protocol itself: every rule as the paper has it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pbft;

impl Rules for Pbft {
    fn prepare_quorum(&self, cluster: &Cluster) -> usize {
        cluster.quorum() - 1
    }

    fn commit_quorum(&self, cluster: &Cluster) -> usize {
        cluster.quorum()
    }

    fn primary_does_not_prepare(&self, sender: ReplicaId, primary: ReplicaId) -> bool {
        sender != primary
    }

    fn one_vote_per_sender(&self, voted_before: bool) -> bool {
        !voted_before
    }

    fn votes_match_digest(&self, same: bool) -> bool {
        same
    }

    fn votes_match_view(&self, vote: View, proposal: View) -> bool {
        vote == proposal
    }

    fn first_pre_prepare_wins(&self, accepted: Digest, proposed: Digest) -> bool {
        accepted == proposed
    }

    fn only_primary_proposes(&self, signer: Principal, primary: ReplicaId) -> bool {
        signer == Principal::Replica(primary)
    }

    fn stop_after_view_change(&self, leaving: Option<View>) -> bool {
        leaving.is_none()
    }

    fn leave_old_view(&self, message: View, current: View) -> bool {
        message == current
    }

    fn forget_old_votes(&self, vote: View, entered: View) -> bool {
        vote != entered
    }

    fn request_authentic(&self, signature_valid: bool) -> bool {
        signature_valid
    }

    fn digest_names_batch(&self, named: Digest, actual: Digest) -> bool {
        named == actual
    }

    fn prepared_has_batch(&self, has_batch: bool) -> bool {
        has_batch
    }

    fn at_most_once(&self, request: Timestamp, last: Timestamp) -> bool {
        request > last
    }

    fn in_order(&self, n: SeqNo, last_executed: SeqNo) -> bool {
        n == last_executed.next()
    }

    fn high_water_mark(&self, n: SeqNo, watermarks: Watermarks) -> bool {
        n <= watermarks.high()
    }

    fn low_water_mark(&self, n: SeqNo, watermarks: Watermarks) -> bool {
        watermarks.h < n
    }

    fn signer_is_sender(&self, signer: Principal, sender: Principal) -> bool {
        signer == sender
    }

    fn members_only(&self, is_member: bool) -> bool {
        is_member
    }

    fn certificates_in_view_change(&self) -> bool {
        true
    }

    fn certificates_verified(&self, proves: bool) -> bool {
        proves
    }

    fn certificate_quorum(&self, cluster: &Cluster) -> usize {
        self.prepare_quorum(cluster)
    }

    fn distinct_voters(&self, distinct: bool) -> bool {
        distinct
    }

    fn certificate_view_below_target(&self, certificate: View, target: View) -> bool {
        certificate < target
    }

    fn certificate_in_window(&self, in_window: bool) -> bool {
        in_window
    }

    fn one_certificate_per_n(&self, ascending: bool) -> bool {
        ascending
    }

    fn prepared_not_pre_prepared(&self, prepared: bool) -> bool {
        prepared
    }

    fn first_new_view_wins(&self, proposed: View, entered: View) -> bool {
        proposed != entered
    }

    fn view_increases(&self, proposed: View, entered: View, leaving: Option<View>) -> bool {
        proposed >= leaving.unwrap_or(entered)
    }

    fn null_only_in_o(&self, is_null: bool) -> bool {
        !is_null
    }

    fn view_change_quorum(&self, cluster: &Cluster) -> usize {
        cluster.quorum()
    }

    fn distinct_view_changes(&self, distinct: bool) -> bool {
        distinct
    }

    fn view_changes_match_view(&self, view_change: View, new_view: View) -> bool {
        view_change == new_view
    }

    fn highest_view_wins(&self, candidate: View, best: View) -> bool {
        candidate > best
    }

    fn prepared_survives(&self) -> bool {
        true
    }

    fn latest_certificate_wins(&self, new: View, old: View) -> bool {
        new > old
    }

    fn backups_recompute_o(&self, same: bool) -> bool {
        same
    }

    fn null_fills_gaps(&self) -> bool {
        true
    }

    fn checkpoint_proof(&self, proves: bool) -> bool {
        proves
    }

    fn min_s_from_all(&self, claimed: SeqNo, best: SeqNo) -> bool {
        claimed > best
    }

    fn join_threshold(&self, cluster: &Cluster) -> usize {
        cluster.weak_quorum()
    }

    fn view_change_retransmitted(&self) -> bool {
        true
    }

    fn timeout_grows(&self, exponent: u8) -> u8 {
        exponent.saturating_add(1).min(MAX_BACKOFF)
    }

    fn timer_on_request(&self, waiting: bool) -> bool {
        waiting
    }

    fn resume_on_catch_up(&self, its: View, ours: View) -> bool {
        its < ours
    }

    fn checkpoint_quorum(&self, cluster: &Cluster) -> usize {
        cluster.quorum()
    }

    fn client_table_in_checkpoint(&self) -> bool {
        true
    }

    fn fetch_missing_state(&self, executed: SeqNo, stable: SeqNo) -> bool {
        executed < stable
    }

    fn transfer_verified(&self, wanted: bool) -> bool {
        wanted
    }

    fn persist_votes(&self) -> bool {
        true
    }

    fn persist_before_send(&self) -> bool {
        true
    }

    fn restart_keeps_view(&self) -> bool {
        true
    }

    fn reply_quorum(&self, cluster: &Cluster) -> usize {
        cluster.weak_quorum()
    }

    fn read_quorum(&self, cluster: &Cluster) -> usize {
        cluster.quorum()
    }

    fn reads_wait_for_prepared(&self, executed: SeqNo, prepared: SeqNo) -> bool {
        executed >= prepared
    }

    fn reply_bound_to_request(&self, bound: bool) -> bool {
        bound
    }

    fn retransmit_to_all(&self) -> bool {
        true
    }

    fn reply_cached(&self) -> bool {
        true
    }
}
