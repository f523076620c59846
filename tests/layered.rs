//! Layered exploration: it finds what lazy delivery finds, its conditions hold by the paper's rules, and a
//! mutant that it cannot see for what it is makes a condition fail.

use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::report::{Explore, ObservablesOf, Options, Report, Verdict, run};
use pbft_models::world::WorldConfig;

fn config(byzantine: &[u16], max_view: u64, max_seq: u64, rules: Rulebook) -> WorldConfig {
    WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_view: View(max_view),
        max_seq: SeqNo(max_seq),
        rules,
        ..WorldConfig::new(Cluster::new(4, 1), 2)
    }
}

fn explored(config: WorldConfig, how: Explore, observables: bool) -> Report {
    // What lazy delivery rests on is for its own tests.
    let options = Options { observables, conditions: how == Explore::Layered, ..Options::default() };
    run(config, how, &options, &mut |_| true).expect("these bounds make sense")
}

#[test]
fn what_replicas_can_have_done_together_is_what_lazy_delivery_says() {
    for byzantine in [&[][..], &[0], &[1], &[2], &[3]] {
        for max_view in [0, 1] {
            let [lazy, layered] = [Explore::Lazy, Explore::Layered]
                .map(|how| explored(config(byzantine, max_view, 1, Rulebook::default()), how, true));
            assert_eq!(layered.verdict, Verdict::Searched, "{byzantine:?}: {:?}", layered.first_failures);
            assert!(lazy.observables.is_some_and(|count| count > 5), "{byzantine:?}: {lazy:?}");
            assert_eq!(lazy.observables_digest, layered.observables_digest, "{byzantine:?}, V={max_view}");
            // Of another exploration than the one that verdicts are usually claimed for, and it says so.
            assert_eq!(layered.observables_of, Some(ObservablesOf::Unreduced));
        }
    }
}

#[test]
fn two_view_changes_hold_and_every_condition_was_tried() {
    for (byzantine, max_seq) in [(0, 1), (1, 1), (2, 1), (3, 1), (3, 2)] {
        let views = if max_seq == 1 { 2 } else { 1 };
        let report =
            explored(config(&[byzantine], views, max_seq, Rulebook::default()), Explore::Layered, false);
        assert_eq!(report.verdict, Verdict::Searched, "r{byzantine}: {:?}", report.first_failures);
        for condition in ["rounds", "order of rounds", "derivation", "cut", "standing in", "postponing"] {
            assert!(report.conditions[condition].checked > 10, "{condition}: {report:?}");
        }
    }
}

#[test]
fn a_mutant_is_violated_or_refused_as_in_lazy_delivery() {
    for (mutant, byzantine, max_view) in [
        (Mutant::PrepareQuorum, 0, 1),
        (Mutant::CommitQuorum, 0, 1),
        (Mutant::ViewChangeQuorum, 1, 1),
        (Mutant::BelieveO, 1, 1),
        (Mutant::UnverifiedCertificates, 1, 1),
        (Mutant::NoCertificates, 1, 1),
        (Mutant::KeepVoting, 1, 1),
        (Mutant::ActInOldView, 1, 1),
        (Mutant::PrePreparedInP, 0, 1),
        (Mutant::SecondPrePrepare, 0, 1),
        (Mutant::LowestViewWins, 0, 2),
        (Mutant::ForgetPrepared, 0, 2),
        (Mutant::KeepOldest, 0, 2),
    ] {
        let rules = Rulebook::without(mutant);
        let report = explored(config(&[byzantine], max_view, 1, rules), Explore::Layered, false);
        println!("{}: {:?} {:?} {:?}", mutant.id(), report.verdict, report.property, report.trace_length);
        match report.verdict {
            Verdict::Violated => assert!(report.trace_length.is_some_and(|steps| steps > 0), "{mutant:?}"),
            Verdict::Unknown => assert!(report.conditions_failed > 0, "{mutant:?}: {report:?}"),
            Verdict::Holds | Verdict::Searched | Verdict::Hunted => panic!("{mutant:?}: {report:?}"),
        }
    }
}

#[test]
fn certificates_of_two_views_take_two_view_changes_to_tell_apart() {
    for (mutant, byzantine) in [(Mutant::LowestViewWins, 0), (Mutant::ForgetPrepared, 3)] {
        let rules = Rulebook::without(mutant);
        let report = explored(config(&[byzantine], 2, 1, rules), Explore::Layered, false);
        assert_eq!(report.property, Some("new-view-preserves-committed"), "{mutant:?}: {report:?}");
    }
}

#[test]
fn counts_and_traces_are_the_same_for_any_number_of_threads() {
    let rules = Rulebook::without(Mutant::CommitQuorum);
    let [one, two] = [1, 2].map(|threads| {
        let options = Options { threads, ..Options::default() };
        let report = run(config(&[0], 1, 1, rules), Explore::Layered, &options, &mut |_| true)
            .expect("these bounds make sense");
        (report.states, report.transitions, report.trace)
    });
    assert_eq!(one, two);
}
