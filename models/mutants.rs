//! Mutants: the protocol with exactly one rule switched off.
//!
//! All mutants share one type, [`Rulebook`], so that the replica is compiled once for all of them. The names
//! are those of the table of safeguards (`docs/SAFEGUARDS.md`).

use pbft::rules::{Pbft, Rules};
use pbft::types::{Cluster, Digest, Principal, ReplicaId, SeqNo, Timestamp, View, Watermarks};

macro_rules! mutants {
    ($($name:ident = $id:literal: $lost:literal,)*) => {
        /// A rule that is switched off.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Mutant {
            $(#[doc = concat!("Lost: ", $lost, ".")] $name,)*
        }

        impl Mutant {
            /// Every mutant.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$name,)*];

            /// The name of the safeguard that is lost.
            pub fn id(self) -> &'static str {
                match self { $(Mutant::$name => $id,)* }
            }

            /// What is lost, in words.
            pub fn lost(self) -> &'static str {
                match self { $(Mutant::$name => $lost,)* }
            }
        }
    };
}

mutants! {
    PrepareQuorum = "prepare-quorum": "prepared takes 2f - 1 prepares instead of 2f",
    CommitQuorum = "commit-quorum": "committed takes 2f commits instead of 2f + 1",
    QuorumOfTwo = "n-3f+1": "every quorum is 2, as n = 3 with f = 1 would need to make progress",
    PrimaryPrepares = "primary-does-not-prepare": "the primary's PREPARE counts like a backup's",
    VoteAgain = "one-vote-per-sender": "a sender counts as often as its vote arrives",
    AnyDigest = "votes-match-digest": "prepares and commits count for any digest",
    AnyView = "votes-match-view": "prepares and commits count for any view",
    SecondPrePrepare = "first-pre-prepare-wins": "a second digest is accepted for one view and number",
    AnybodyProposes = "only-primary-proposes": "anybody's PRE-PREPARE and NEW-VIEW is accepted",
    KeepVoting = "stop-after-view-change": "the old view goes on after VIEW-CHANGE is sent",
    ActInOldView = "leave-old-view": "messages of a view already left are acted upon",
    ForgedRequest = "request-authentic": "the client's signature is not checked",
    AnyBatch = "digest-names-batch": "the batch need not be the one the digest names",
    PreparedWithoutBatch = "prepared-has-batch": "a replica prepares what it does not have",
    ExecuteAgain = "at-most-once": "timestamps are not looked at before execution",
    OutOfOrder = "in-order": "a batch executes as soon as it is committed",
    NoHighWaterMark = "high-water-mark": "any sequence number above h is accepted",
    NoLowWaterMark = "low-water-mark": "what a stable checkpoint covers is accepted again",
    SenderInPayload = "signer-is-sender": "the sender named in the payload is believed",
    Outsiders = "members-only": "anybody with a key votes",
    NoCertificates = "certificates-in-view-change": "VIEW-CHANGE carries no P",
    UnverifiedCertificates = "certificates-verified": "certificates in P are not checked",
    CertificateQuorum = "certificate-quorum": "a certificate in P needs 2f - 1 prepares",
    RepeatedVoters = "distinct-voters": "a voter repeated in a certificate counts again",
    CertificateOfAnyView = "certificate-view-below-target": "a certificate of a later view is accepted",
    CertificateAnywhere = "certificate-in-window": "a certificate outside of the window is accepted",
    SeveralPerN = "one-certificate-per-n": "P may hold several certificates for one number",
    PrePreparedInP = "prepared-not-pre-prepared": "P holds what was merely pre-prepared",
    SecondNewView = "first-new-view-wins": "a second NEW-VIEW of the current view is accepted",
    ViewsGoBack = "view-increases": "a NEW-VIEW of a lower view is accepted",
    NullAnywhere = "null-only-in-o": "a null request is accepted outside of O",
    ViewChangeQuorum = "view-change-quorum": "NEW-VIEW takes 2f VIEW-CHANGEs instead of 2f + 1",
    RepeatedViewChanges = "distinct-view-changes": "one replica's VIEW-CHANGE counts again",
    ViewChangesOfAnyView = "view-changes-match-view": "VIEW-CHANGEs for other views count",
    LowestViewWins = "highest-view-wins": "O takes the certificate of the lowest view",
    ForgetPrepared = "prepared-survives": "P is forgotten on entering a view",
    KeepOldest = "latest-certificate-wins": "P keeps the oldest certificate for each number",
    BelieveO = "backups-recompute-o": "backups accept any O",
    LeaveGaps = "null-fills-gaps": "gaps in O stay gaps",
    UnprovedCheckpoint = "checkpoint-proof": "a checkpoint is believed without its certificate",
    LowestMinS = "min-s-from-all": "min-s is not the highest stable checkpoint in V",
    NeverJoin = "join-on-f+1": "f + 2 VIEW-CHANGEs are needed to join",
    OneMovesAll = "one-is-not-enough": "a single VIEW-CHANGE makes a replica join",
    ViewChangeOnce = "view-change-retransmitted": "VIEW-CHANGE is sent once",
    SameTimeout = "timeout-grows": "the time-out stays the same",
    NoTimer = "timer-on-request": "no timer runs for a waiting request",
    LeftBehind = "resume-on-catch-up": "a replica left in an old view is not sent the NEW-VIEW",
    CheckpointQuorum = "checkpoint-quorum": "f matching CHECKPOINTs make a checkpoint stable",
    NoClientTable = "client-table-in-checkpoint": "the client table does not travel with the state",
    NeverFetch = "gc-after-execution": "what a stable checkpoint covers is discarded and not fetched",
    UnverifiedBlocks = "transfer-verified": "a fetched block is not checked against its digest",
    PersistNothing = "persist-votes": "nothing is written to stable storage",
    SendFirst = "persist-before-send": "messages leave before what they promise is durable",
    RestartInViewZero = "restart-keeps-view": "a restarted replica forgets its view and P",
    OneReply = "f+1-replies": "the client believes the first reply",
    AnyReply = "reply-bound-to-request": "a reply to another request counts",
    SmallReadQuorum = "read-quorum": "a read is accepted on f + 1 replies",
    ReadsDoNotWait = "reads-wait-for-prepared": "a read is answered from whatever has executed",
    PrimaryOnly = "retransmit-to-all": "the client only ever sends to the primary",
    ReplyOnce = "reply-cached": "a repeated request is not answered",
}

impl Mutant {
    /// The mutant that loses the safeguard with this name.
    pub fn named(id: &str) -> Option<Mutant> {
        Mutant::ALL.iter().copied().find(|mutant| mutant.id() == id)
    }
}

/// The rules a world runs by: the paper's, or those with one switched off.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Rulebook {
    /// The rule switched off, if any.
    pub without: Option<Mutant>,
}

impl Rulebook {
    /// The paper's rules without one.
    pub fn without(mutant: Mutant) -> Self {
        Rulebook { without: Some(mutant) }
    }

    /// `pbft`, or the name of the safeguard that is lost.
    pub fn name(self) -> &'static str {
        self.without.map_or("pbft", Mutant::id)
    }

    /// The rules that tests run by: the paper's, or those without the safeguard named in the environment
    /// variable `PBFT_WITHOUT`. With one switched off some test must fail.
    ///
    /// # Panics
    /// If no safeguard has that name.
    pub fn under_test() -> Self {
        let without = std::env::var("PBFT_WITHOUT")
            .ok()
            .map(|id| Mutant::named(&id).unwrap_or_else(|| panic!("PBFT_WITHOUT={id} names no safeguard")));
        Rulebook { without }
    }

    fn lacks(self, mutant: Mutant) -> bool {
        self.without == Some(mutant)
    }

    fn quorum(self, usual: usize, lowered_by: Mutant) -> usize {
        if self.lacks(Mutant::QuorumOfTwo) {
            usual.min(2)
        } else {
            usual - usize::from(self.lacks(lowered_by))
        }
    }
}

/// `lacks` a rule, or what the paper says.
macro_rules! unless {
    ($($mutant:ident: $rule:ident($($arg:ident: $kind:ty),*);)*) => {$(
        fn $rule(&self, $($arg: $kind),*) -> bool {
            self.lacks(Mutant::$mutant) || Pbft.$rule($($arg),*)
        }
    )*};
}

/// A duty that is simply not done.
macro_rules! omit {
    ($($mutant:ident: $rule:ident($($arg:ident: $kind:ty),*);)*) => {$(
        fn $rule(&self, $($arg: $kind),*) -> bool {
            !self.lacks(Mutant::$mutant) && Pbft.$rule($($arg),*)
        }
    )*};
}

impl Rules for Rulebook {
    fn prepare_quorum(&self, cluster: &Cluster) -> usize {
        if self.lacks(Mutant::QuorumOfTwo) {
            return 1;
        }
        self.quorum(Pbft.prepare_quorum(cluster), Mutant::PrepareQuorum)
    }

    fn certificate_quorum(&self, cluster: &Cluster) -> usize {
        let usual = Pbft.certificate_quorum(cluster);
        match self.without {
            Some(Mutant::PrePreparedInP) => 0,
            // Voters prove in a certificate what they prove to a replica.
            Some(Mutant::QuorumOfTwo) => 1,
            Some(Mutant::PrepareQuorum | Mutant::CertificateQuorum) => usual - 1,
            _ => usual,
        }
    }

    fn commit_quorum(&self, cluster: &Cluster) -> usize {
        self.quorum(Pbft.commit_quorum(cluster), Mutant::CommitQuorum)
    }

    fn view_change_quorum(&self, cluster: &Cluster) -> usize {
        self.quorum(Pbft.view_change_quorum(cluster), Mutant::ViewChangeQuorum)
    }

    fn checkpoint_quorum(&self, cluster: &Cluster) -> usize {
        if self.lacks(Mutant::CheckpointQuorum) {
            return cluster.f().max(1);
        }
        self.quorum(Pbft.checkpoint_quorum(cluster), Mutant::QuorumOfTwo)
    }

    fn join_threshold(&self, cluster: &Cluster) -> usize {
        match self.without {
            Some(Mutant::NeverJoin) => Pbft.join_threshold(cluster) + 1,
            Some(Mutant::OneMovesAll) => 1,
            _ => Pbft.join_threshold(cluster),
        }
    }

    fn reply_quorum(&self, cluster: &Cluster) -> usize {
        if self.lacks(Mutant::OneReply) { 1 } else { Pbft.reply_quorum(cluster) }
    }

    fn read_quorum(&self, cluster: &Cluster) -> usize {
        if self.lacks(Mutant::SmallReadQuorum) { cluster.weak_quorum() } else { Pbft.read_quorum(cluster) }
    }

    fn timeout_grows(&self, exponent: u8) -> u8 {
        if self.lacks(Mutant::SameTimeout) { 0 } else { Pbft.timeout_grows(exponent) }
    }

    /// The other way round, the lowest view wins.
    fn highest_view_wins(&self, candidate: View, best: View) -> bool {
        let (candidate, best) =
            if self.lacks(Mutant::LowestViewWins) { (best, candidate) } else { (candidate, best) };
        Pbft.highest_view_wins(candidate, best)
    }

    /// Both mutants need the votes of older views: one counts them, the other goes on collecting them.
    fn forget_old_votes(&self, vote: View, entered: View) -> bool {
        !self.lacks(Mutant::AnyView)
            && !self.lacks(Mutant::ActInOldView)
            && Pbft.forget_old_votes(vote, entered)
    }

    fn leave_old_view(&self, message: View, current: View) -> bool {
        self.lacks(Mutant::ActInOldView) && message < current || Pbft.leave_old_view(message, current)
    }

    fn view_increases(&self, proposed: View, entered: View, leaving: Option<View>) -> bool {
        let goes_back = self.lacks(Mutant::ViewsGoBack) && proposed > View(0);
        goes_back || Pbft.view_increases(proposed, entered, leaving)
    }

    unless! {
        PrePreparedInP: prepared_not_pre_prepared(prepared: bool);
        PrimaryPrepares: primary_does_not_prepare(sender: ReplicaId, primary: ReplicaId);
        VoteAgain: one_vote_per_sender(voted_before: bool);
        AnyDigest: votes_match_digest(same: bool);
        AnyView: votes_match_view(vote: View, proposal: View);
        SecondPrePrepare: first_pre_prepare_wins(accepted: Digest, proposed: Digest);
        AnybodyProposes: only_primary_proposes(signer: Principal, primary: ReplicaId);
        KeepVoting: stop_after_view_change(leaving: Option<View>);
        ForgedRequest: request_authentic(signature_valid: bool);
        AnyBatch: digest_names_batch(named: Digest, actual: Digest);
        PreparedWithoutBatch: prepared_has_batch(has_batch: bool);
        ExecuteAgain: at_most_once(request: Timestamp, last: Timestamp);
        OutOfOrder: in_order(n: SeqNo, last_executed: SeqNo);
        NoHighWaterMark: high_water_mark(n: SeqNo, watermarks: Watermarks);
        NoLowWaterMark: low_water_mark(n: SeqNo, watermarks: Watermarks);
        SenderInPayload: signer_is_sender(signer: Principal, sender: Principal);
        Outsiders: members_only(is_member: bool);
        UnverifiedCertificates: certificates_verified(proves: bool);
        RepeatedVoters: distinct_voters(distinct: bool);
        CertificateOfAnyView: certificate_view_below_target(certificate: View, target: View);
        CertificateAnywhere: certificate_in_window(in_window: bool);
        SeveralPerN: one_certificate_per_n(ascending: bool);
        SecondNewView: first_new_view_wins(proposed: View, entered: View);
        NullAnywhere: null_only_in_o(is_null: bool);
        RepeatedViewChanges: distinct_view_changes(distinct: bool);
        ViewChangesOfAnyView: view_changes_match_view(view_change: View, new_view: View);
        BelieveO: backups_recompute_o(same: bool);
        UnprovedCheckpoint: checkpoint_proof(proves: bool);
        UnverifiedBlocks: transfer_verified(wanted: bool);
        AnyReply: reply_bound_to_request(bound: bool);
        ReadsDoNotWait: reads_wait_for_prepared(executed: SeqNo, prepared: SeqNo);
    }

    omit! {
        NoCertificates: certificates_in_view_change();
        ForgetPrepared: prepared_survives();
        KeepOldest: latest_certificate_wins(new: View, old: View);
        LeaveGaps: null_fills_gaps();
        LowestMinS: min_s_from_all(claimed: SeqNo, best: SeqNo);
        ViewChangeOnce: view_change_retransmitted();
        NoTimer: timer_on_request(waiting: bool);
        LeftBehind: resume_on_catch_up(its: View, ours: View);
        NoClientTable: client_table_in_checkpoint();
        NeverFetch: fetch_missing_state(executed: SeqNo, stable: SeqNo);
        PersistNothing: persist_votes();
        SendFirst: persist_before_send();
        RestartInViewZero: restart_keeps_view();
        PrimaryOnly: retransmit_to_all();
        ReplyOnce: reply_cached();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for &mutant in Mutant::ALL {
            assert_eq!(Mutant::named(mutant.id()), Some(mutant));
        }
    }
}
