//! One view with a Byzantine replica, explored exhaustively, of three replicas delivery by delivery; and the
//! mutants that these worlds kill.

use pbft::types::{Cluster, ReplicaId, View};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::report::{Explore, Options, Report, Verdict, run};
use pbft_models::world::WorldConfig;

/// Three replicas, which are safe as long as quorums are as large as if there were four.
fn of_three(byzantine: &[u16]) -> WorldConfig {
    let byzantine = byzantine.iter().copied().map(ReplicaId).collect();
    WorldConfig { byzantine, ..WorldConfig::new(Cluster::new(3, 1), 2) }
}

/// Two requests compete for one sequence number.
fn config(byzantine: &[u16], rules: Rulebook) -> WorldConfig {
    let byzantine = byzantine.iter().copied().map(ReplicaId).collect();
    WorldConfig { byzantine, rules, ..WorldConfig::new(Cluster::new(4, 1), 2) }
}

fn explored(config: WorldConfig, how: Explore) -> Report {
    run(config, how, &Options::default(), &mut |_| true).expect("these bounds make sense")
}

#[test]
fn every_property_holds_whoever_is_byzantine() {
    for byzantine in 0..3 {
        let report = explored(of_three(&[byzantine]), Explore::None);
        assert_eq!(report.verdict, Verdict::Holds, "r{byzantine}: {report:?}");
    }
}

#[test]
fn backups_are_interchangeable_so_their_worlds_are_equally_large() {
    let sizes = [1, 2].map(|byzantine| {
        let report = explored(of_three(&[byzantine]), Explore::None);
        (report.states, report.transitions, report.depth)
    });
    assert_eq!(sizes[0], sizes[1]);
    // A changed count is a result: explain it where it changes.
    assert_eq!(sizes[0], (97_776, 521_568, 12));
}

/// The property that is violated after the least number of steps, and that number.
fn shortest(config: WorldConfig, how: Explore) -> (&'static str, usize) {
    let report = explored(config, how);
    (report.property.unwrap_or_default(), report.trace_length.unwrap_or_default())
}

#[test]
fn a_byzantine_primary_splits_replicas_that_lack_one_rule() {
    for (mutant, steps) in [
        (Mutant::PrepareQuorum, 2),
        (Mutant::PrimaryPrepares, 4),
        (Mutant::SecondPrePrepare, 6),
        (Mutant::AnyDigest, 4),
        (Mutant::VoteAgain, 4),
    ] {
        let found = shortest(config(&[0], Rulebook::without(mutant)), Explore::Lazy);
        assert_eq!(found, ("prepared-uniqueness", steps), "{mutant:?}");
    }
}

#[test]
fn a_byzantine_primary_gets_executed_what_no_client_asked_for() {
    for (mutant, property) in
        [(Mutant::ForgedRequest, "validity"), (Mutant::AnyBatch, "executes-agreed-batch")]
    {
        let (found, _) = shortest(config(&[0], Rulebook::without(mutant)), Explore::Lazy);
        assert_eq!(found, property, "{mutant:?}");
    }
}

#[test]
fn two_byzantine_replicas_of_four_are_too_many() {
    for pair in [[0, 1], [0, 2], [0, 3]] {
        let (found, _) = shortest(config(&pair, Rulebook::default()), Explore::Lazy);
        assert_eq!(found, "prepared-uniqueness", "{pair:?}");
    }
}

#[test]
fn once_views_change_any_two_byzantine_replicas_of_four_are_too_many() {
    // A correct primary of view 0 has to hear of a request first.
    for (pair, property, steps) in [
        ([0, 1], "prepared-uniqueness", 4),
        ([0, 2], "prepared-uniqueness", 4),
        ([0, 3], "prepared-uniqueness", 4),
        ([1, 2], "new-view-preserves-committed", 5),
        ([1, 3], "new-view-preserves-committed", 5),
        ([2, 3], "new-view-preserves-committed", 5),
    ] {
        let world = WorldConfig { max_view: View(1), ..config(&pair, Rulebook::default()) };
        assert_eq!(shortest(world, Explore::Lazy), (property, steps), "{pair:?}");
    }
}
