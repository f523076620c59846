//! One view with a Byzantine replica, explored exhaustively without any reduction; and the mutants that these
//! worlds kill.

use pbft::types::{Cluster, ReplicaId, SeqNo};
use pbft_models::engine::{Outcome, explore};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{World, WorldConfig};

/// Two requests compete for one sequence number.
fn world(byzantine: &[u16], rules: Rulebook) -> World {
    let config = WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_seq: SeqNo(1),
        rules,
        ..WorldConfig::new(Cluster::new(4, 1), 2)
    };
    World::new(config).expect("these bounds make sense")
}

#[test]
fn every_property_holds_whoever_is_byzantine() {
    for byzantine in 0..4 {
        let mut world = world(&[byzantine], Rulebook::default());
        let found = explore(&mut world, usize::MAX, &mut |_| true);
        assert_eq!(found.outcome, Outcome::Exhausted, "r{byzantine}");
        assert!(world.witnesses().commits > 0, "r{byzantine}: nothing commits");
    }
}

#[test]
fn backups_are_interchangeable_so_their_worlds_are_equally_large() {
    let sizes = [1, 2, 3].map(|byzantine| {
        let found = explore(&mut world(&[byzantine], Rulebook::default()), usize::MAX, &mut |_| true);
        (found.states, found.transitions, found.depth)
    });
    assert!(sizes[0] == sizes[1] && sizes[1] == sizes[2], "{sizes:?}");
    // A changed count is a result: explain it where it changes.
    assert_eq!(sizes[0], (406_369, 2_849_326, 13));
}

/// The length of the shortest violation of a property, if there is one.
fn shortest(byzantine: &[u16], rules: Rulebook) -> Option<(String, usize)> {
    match explore(&mut world(byzantine, rules), usize::MAX, &mut |_| true).outcome {
        Outcome::Violated { what, trace, .. } => Some((what, trace.len())),
        _ => None,
    }
}

#[test]
fn a_byzantine_primary_splits_replicas_that_lack_one_rule() {
    for (mutant, steps) in [
        (Mutant::PrepareQuorum, 2),
        (Mutant::PrimaryPrepares, 4),
        (Mutant::SecondPrePrepare, 6),
        (Mutant::AnyDigest, 4),
        (Mutant::VoteAgain, 4),
        (Mutant::SenderInPayload, 4),
    ] {
        let (what, length) = shortest(&[0], Rulebook::without(mutant)).unwrap_or_default();
        assert!(what.starts_with("prepared-uniqueness"), "{mutant:?}: {what}");
        assert_eq!(length, steps, "{mutant:?}");
    }
}

#[test]
fn a_byzantine_primary_gets_executed_what_no_client_asked_for() {
    let (what, _) = shortest(&[0], Rulebook::without(Mutant::ForgedRequest)).unwrap_or_default();
    assert!(what.starts_with("validity"), "{what}");
}

#[test]
fn two_byzantine_replicas_of_four_are_too_many() {
    for pair in [[0, 1], [0, 2], [0, 3]] {
        let (what, _) = shortest(&pair, Rulebook::default()).unwrap_or_default();
        assert!(what.starts_with("prepared-uniqueness"), "{pair:?}: {what}");
    }
}
