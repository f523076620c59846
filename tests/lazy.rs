//! Lazy delivery reaches what delivery one by one reaches, and its conditions hold; and the mutants that
//! worlds with a view change kill.

use pbft::types::{Cluster, ReplicaId, View};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::report::{Explore, ObservablesOf, Options, Report, RestsOn, Verdict, run};
use pbft_models::world::WorldConfig;
use std::collections::BTreeSet;

/// Two requests compete for one sequence number.
fn config(byzantine: &[u16], max_view: u64, rules: Rulebook) -> WorldConfig {
    WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_view: View(max_view),
        rules,
        ..WorldConfig::new(Cluster::new(4, 1), 2)
    }
}

fn explored(config: WorldConfig, how: Explore, options: &Options) -> Report {
    run(config, how, options, &mut |_| true).expect("these bounds make sense")
}

#[test]
fn lazy_delivery_shows_the_same_histories_as_delivery_one_by_one() {
    let options = Options { observables: true, ..Options::default() };
    // Joint histories: what all correct replicas have done, together.
    for (n, byzantine, max_view, requests) in [
        (3, &[0][..], 0, 2),
        (3, &[1], 0, 2),
        (3, &[2], 0, 2),
        (3, &[1], 0, 1),
        (4, &[], 0, 1),
        (4, &[0], 0, 1),
        (3, &[], 1, 1),
        (3, &[0], 1, 1),
        (3, &[1], 1, 1),
        (3, &[2], 1, 1),
    ] {
        let observed = |how| {
            let cluster = Cluster::new(n, 1);
            let config =
                WorldConfig { cluster, requests, ..config(byzantine, max_view, Rulebook::default()) };
            let report = explored(config, how, &options);
            assert_eq!(report.verdict, Verdict::Holds, "{report:?}");
            assert_eq!(report.observables_of, Some(ObservablesOf::Explored));
            (report.observables, report.observables_digest.expect("it was asked for"))
        };
        let one_by_one = observed(Explore::None);
        // Nothing is prepared, or something at one, the other or both, and executed by one, the other or
        // both, at least.
        assert!(one_by_one.0 >= Some(7), "{byzantine:?}, {requests} requests: {one_by_one:?}");
        assert_eq!(
            observed(Explore::Lazy),
            one_by_one,
            "{n}, {byzantine:?}, V={max_view}, {requests} requests"
        );
    }
}

#[test]
fn worlds_in_which_something_else_can_happen_have_other_digests() {
    // Otherwise equal ones would say nothing. A second request makes a difference whoever is Byzantine.
    let options = Options { observables: true, ..Options::default() };
    let mut digests = BTreeSet::new();
    for (byzantine, requests) in [(&[][..], 2), (&[0], 1), (&[0], 2), (&[1], 2), (&[2], 2)] {
        let config = WorldConfig { requests, ..config(byzantine, 0, Rulebook::default()) };
        digests.insert(explored(config, Explore::Lazy, &options).observables_digest);
    }
    assert_eq!(digests.len(), 5, "{digests:?}");
}

#[test]
fn a_view_change_is_explored_exhaustively_whoever_is_byzantine() {
    // What a Byzantine replica adds is bounded by what only it can sign, and the primaries of both views can
    // sign most. A correct primary proposes whichever of the two requests it has heard of.
    for (byzantine, states) in
        [(&[][..], 133_550), (&[0], 33_160), (&[1], 50_624), (&[2], 15_858), (&[3], 15_858)]
    {
        let report = explored(config(byzantine, 1, Rulebook::default()), Explore::Lazy, &Options::default());
        assert_eq!((report.verdict, report.states), (Verdict::Holds, states), "{byzantine:?}: {report:?}");
        assert!(report.conditions_checked > 5_000 && report.conditions_failed == 0, "{report:?}");
        // Shown, and not just tested: every step of every replica's unreduced local system is simulated.
        assert_eq!(report.rests_on, RestsOn::Simulation);
        assert!(report.conditions["simulation"].checked > 10_000, "{byzantine:?}: {report:?}");
        assert!(report.witnesses["a view change completes into view 1"], "{byzantine:?}: {report:?}");
        assert!(report.witnesses["something commits in view 1"], "{byzantine:?}: {report:?}");
    }
}

#[test]
fn two_view_changes_are_explored_exhaustively() {
    // That every execution is simulated takes minutes to show: the full suite does.
    let options = Options { conditions: false, ..Options::default() };
    let report = explored(config(&[3], 2, Rulebook::default()), Explore::Lazy, &options);
    assert_eq!((report.exhausted, report.states), (true, 2_286_857), "{report:?}");
    assert_eq!((report.verdict, report.property), (Verdict::Unknown, None), "{report:?}");
}

#[test]
fn counts_and_traces_are_the_same_for_any_number_of_threads() {
    for rules in [Rulebook::default(), Rulebook::without(Mutant::ViewChangeQuorum)] {
        let [one, two] = [1, 2].map(|threads| {
            let options = Options { threads, ..Options::default() };
            let report = explored(config(&[1], 1, rules), Explore::Lazy, &options);
            (
                report.states,
                report.transitions,
                report.depth,
                report.local_states,
                report.property,
                report.trace,
            )
        });
        assert_eq!(one, two, "{}", rules.name());
    }
}

#[test]
fn without_its_conditions_lazy_delivery_holds_nothing() {
    let options = Options { conditions: false, ..Options::default() };
    let report = explored(config(&[3], 0, Rulebook::default()), Explore::Lazy, &options);
    assert_eq!((report.verdict, report.exhausted), (Verdict::Unknown, true), "{report:?}");
}

const SPLIT: &str = "prepared-uniqueness";
const LOST: &str = "new-view-preserves-committed";

#[test]
fn each_rule_that_a_view_change_needs_has_a_schedule_that_shows_why() {
    for (mutant, byzantine, property, steps) in [
        (Mutant::PrepareQuorum, 0, SPLIT, 2),
        (Mutant::CommitQuorum, 0, LOST, 7),
        (Mutant::ViewChangeQuorum, 1, LOST, 7),
        (Mutant::BelieveO, 1, LOST, 8),
        (Mutant::UnverifiedCertificates, 1, LOST, 8),
        (Mutant::NoCertificates, 1, LOST, 8),
        (Mutant::KeepVoting, 1, LOST, 8),
        (Mutant::ActInOldView, 1, LOST, 8),
        (Mutant::PrePreparedInP, 0, LOST, 8),
        (Mutant::SecondPrePrepare, 0, SPLIT, 6),
    ] {
        let rules = Rulebook::without(mutant);
        let report = explored(config(&[byzantine], 1, rules), Explore::Lazy, &Options::default());
        let found = (report.property.unwrap_or_default(), report.trace_length.unwrap_or_default());
        assert_eq!(found, (property, steps), "{mutant:?}");
    }
}

/// What is violated, and after how many macro steps.
fn violation(byzantine: u16, max_view: u64, mutant: Mutant) -> (&'static str, usize) {
    let config = config(&[byzantine], max_view, Rulebook::without(mutant));
    let report = explored(config, Explore::Lazy, &Options::default());
    (report.property.unwrap_or_default(), report.trace_length.unwrap_or_default())
}

#[test]
fn rules_of_who_and_what_counts_in_a_view_change_have_such_schedules_too() {
    for (mutant, byzantine) in [(Mutant::RepeatedVoters, 0), (Mutant::RepeatedViewChanges, 1)] {
        let (property, steps) = violation(byzantine, 1, mutant);
        assert!(property == LOST && steps > 2, "{mutant:?}: {property}, {steps} steps");
    }
    // What left view 0 for view 1 says nothing of view 1; a NEW-VIEW for view 2 made of it carries nothing
    // over.
    assert_eq!(violation(2, 2, Mutant::ViewChangesOfAnyView).0, LOST);
}

#[test]
fn in_one_view_a_byzantine_primary_shows_why_there_are_members_and_watermarks() {
    for (mutant, property) in [
        (Mutant::Outsiders, "validity"),
        (Mutant::NoLowWaterMark, "watermarks"),
        (Mutant::UnprovedCheckpoint, "watermarks"),
    ] {
        assert_eq!(violation(0, 0, mutant).0, property, "{mutant:?}");
    }
}

#[test]
fn two_bounds_on_certificates_make_no_difference_to_safety() {
    // docs/SAFEGUARDS.md says why. More is delivered than by the paper's rules, or this would show nothing.
    for (mutant, byzantine) in [(Mutant::SeveralPerN, 0), (Mutant::CertificateOfAnyView, 1)] {
        let [paper, report] = [Rulebook::default(), Rulebook::without(mutant)]
            .map(|rules| explored(config(&[byzantine], 1, rules), Explore::Lazy, &Options::default()));
        assert_eq!(report.verdict, Verdict::Holds, "{mutant:?}: {:?}", report.first_failures);
        let more = |report: &Report| (report.states, report.local_states);
        assert!(more(&report) > more(&paper), "{mutant:?}: {:?} states", more(&report));
    }
}
