//! The rules that worlds are explored by are the rules that production runs by, but for the one that is
//! switched off.

use pbft::rules::{Pbft, Rules};
use pbft::types::{ClientId, Cluster, Digest, Principal, ReplicaId, SeqNo, Timestamp, View, Watermarks};
use pbft_models::mutants::{Mutant, Rulebook};
use std::collections::BTreeSet;

/// Arguments of which every combination is tried: all that the rules compare, below, at and above each other.
trait Few: Sized {
    fn few() -> Vec<Self>;
}

macro_rules! few {
    ($($kind:ty: $values:expr;)*) => {$(
        impl Few for $kind {
            fn few() -> Vec<Self> {
                $values.into_iter().collect()
            }
        }
    )*};
}

few! {
    bool: [false, true];
    u8: 0..12;
    View: (0..5).map(View);
    Option<View>: [None].into_iter().chain((0..5).map(|view| Some(View(view))));
    SeqNo: (0..7).map(SeqNo);
    Timestamp: (0..4).map(Timestamp);
    Digest: [Digest::NULL, Digest([1; 32]), Digest([0xff; 32])];
    ReplicaId: (0..4).map(ReplicaId);
    Principal: (0..4).flat_map(|i| [Principal::Replica(ReplicaId(i)), Principal::Client(ClientId(u32::from(i)))]);
    Watermarks: (0..4).flat_map(|h| (1..4).map(move |window| Watermarks { h: SeqNo(h), window }));
    &'static Cluster: {
        let sizes = [(3, 1), (4, 1), (5, 1), (6, 1), (7, 2), (10, 3)];
        sizes.map(|(n, f)| -> &'static Cluster { Box::leak(Box::new(Cluster::new(n, f))) })
    };
}

/// Every method of [`Rules`] with its arguments: its name, and what it answers to every combination, in
/// words.
macro_rules! answers {
    ($rules:expr; $($rule:ident($($arg:ident: $kind:ty),*);)*) => {{
        let rules = $rules;
        let mut all: Vec<(&'static str, Vec<String>)> = Vec::new();
        $({
            let mut answers = Vec::new();
            answers!(@each answers, rules, $rule, (), $($arg: $kind,)*);
            all.push((stringify!($rule), answers));
        })*
        all
    }};
    (@each $answers:ident, $rules:ident, $rule:ident, ($($done:ident,)*),) => {
        $answers.push(format!("{:?} -> {:?}", ($(&$done,)*), $rules.$rule($($done),*)));
    };
    (@each $answers:ident, $rules:ident, $rule:ident, ($($done:ident,)*), $arg:ident: $kind:ty, $($rest:tt)*) => {
        for $arg in <$kind>::few() {
            answers!(@each $answers, $rules, $rule, ($($done,)* $arg,), $($rest)*);
        }
    };
}

fn answers(rules: &impl Rules) -> Vec<(&'static str, Vec<String>)> {
    answers! { rules;
        prepare_quorum(cluster: &'static Cluster);
        commit_quorum(cluster: &'static Cluster);
        primary_does_not_prepare(sender: ReplicaId, primary: ReplicaId);
        one_vote_per_sender(voted_before: bool);
        votes_match_digest(same: bool);
        votes_match_view(vote: View, proposal: View);
        first_pre_prepare_wins(accepted: Digest, proposed: Digest);
        only_primary_proposes(signer: Principal, primary: ReplicaId);
        stop_after_view_change(leaving: Option<View>);
        leave_old_view(message: View, current: View);
        forget_old_votes(vote: View, entered: View);
        request_authentic(signature_valid: bool);
        digest_names_batch(named: Digest, actual: Digest);
        prepared_has_batch(has_batch: bool);
        at_most_once(request: Timestamp, last: Timestamp);
        in_order(n: SeqNo, last_executed: SeqNo);
        high_water_mark(n: SeqNo, watermarks: Watermarks);
        low_water_mark(n: SeqNo, watermarks: Watermarks);
        signer_is_sender(signer: Principal, sender: Principal);
        members_only(is_member: bool);
        certificates_in_view_change();
        certificates_verified(proves: bool);
        certificate_quorum(cluster: &'static Cluster);
        distinct_voters(distinct: bool);
        certificate_view_below_target(certificate: View, target: View);
        certificate_in_window(in_window: bool);
        one_certificate_per_n(ascending: bool);
        prepared_not_pre_prepared(prepared: bool);
        first_new_view_wins(proposed: View, entered: View);
        view_increases(proposed: View, entered: View, leaving: Option<View>);
        null_only_in_o(is_null: bool);
        view_change_quorum(cluster: &'static Cluster);
        distinct_view_changes(distinct: bool);
        view_changes_match_view(view_change: View, new_view: View);
        highest_view_wins(candidate: View, best: View);
        prepared_survives();
        latest_certificate_wins(new: View, old: View);
        backups_recompute_o(same: bool);
        null_fills_gaps();
        checkpoint_proof(proves: bool);
        min_s_from_all(claimed: SeqNo, best: SeqNo);
        join_threshold(cluster: &'static Cluster);
        view_change_retransmitted();
        timeout_grows(exponent: u8);
        timer_on_request(waiting: bool);
        resume_on_catch_up(its: View, ours: View);
        checkpoint_quorum(cluster: &'static Cluster);
        client_table_in_checkpoint();
        fetch_missing_state(executed: SeqNo, stable: SeqNo);
        transfer_verified(wanted: bool);
        persist_votes();
        persist_before_send();
        restart_keeps_view();
        reply_quorum(cluster: &'static Cluster);
        read_quorum(cluster: &'static Cluster);
        reads_wait_for_prepared(executed: SeqNo, prepared: SeqNo);
        reply_bound_to_request(bound: bool);
        retransmit_to_all();
        reply_cached();
    }
}

#[test]
fn no_method_is_left_out_here() {
    let source = include_str!("../src/rules.rs");
    let (start, end) = (source.find("pub trait Rules").unwrap(), source.find("pub struct Pbft").unwrap());
    let method = |line: &'static str| line.strip_prefix("    fn ")?.split('(').next();
    let declared: Vec<&str> = source[start..end].lines().filter_map(method).collect();
    let mut listed: Vec<&str> = answers(&Pbft).into_iter().map(|(rule, _)| rule).collect();
    listed.sort_unstable();
    let mut sorted = declared.clone();
    sorted.sort_unstable();
    assert_eq!(listed, sorted);
}

#[test]
fn with_nothing_switched_off_the_rules_explored_are_the_rules_deployed() {
    assert_eq!(answers(&Rulebook::default()), answers(&Pbft));
}

/// The methods that a mutant answers differently, all others being production's.
#[test]
fn a_mutant_changes_its_own_rule_and_no_other() {
    let paper = answers(&Pbft);
    for &mutant in Mutant::ALL {
        let changed: BTreeSet<&str> = (answers(&Rulebook::without(mutant)).iter().zip(&paper))
            .filter(|(its, paper)| its != paper)
            .map(|(_, (rule, _))| *rule)
            .collect();
        let expected: &[&str] = match mutant {
            Mutant::QuorumOfTwo => &[
                "prepare_quorum",
                "commit_quorum",
                "certificate_quorum",
                "view_change_quorum",
                "checkpoint_quorum",
            ],
            Mutant::PrepareQuorum => &["prepare_quorum", "certificate_quorum"],
            Mutant::PrePreparedInP => &["prepared_not_pre_prepared", "certificate_quorum"],
            Mutant::AnyView => &["votes_match_view", "forget_old_votes"],
            Mutant::ActInOldView => &["leave_old_view", "forget_old_votes"],
            _ => {
                assert_eq!(changed.len(), 1, "{mutant:?} changes {changed:?}");
                continue;
            }
        };
        assert_eq!(changed, expected.iter().copied().collect(), "{mutant:?}");
    }
}
