//! The first world is explored exhaustively: the engine, stateright's own search and arithmetic agree.

use pbft::types::{Cluster, ReplicaId};
use pbft_models::engine::{Exploration, Limits, Outcome, explore};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{Delivery, Plain, Witnesses, World, WorldConfig, count_first_world};
use stateright::{Checker, Model};

fn world(cluster: Cluster, clients: u32, rules: Rulebook) -> World {
    let config = WorldConfig { rules, ..WorldConfig::new(cluster, clients) };
    World::new(config, Delivery::One).expect("these bounds make sense")
}

fn explored(world: &mut World) -> (Exploration, Witnesses) {
    let found = explore(world, Limits::default(), &mut |_| true);
    (found, world.witnesses())
}

#[test]
fn the_number_of_states_is_the_one_computed_from_the_rules() {
    for (n, f, expected) in [(1, 0, 2), (4, 1, 106_797)] {
        let cluster = Cluster::new(n, f);
        let (found, witnesses) = explored(&mut world(cluster, 1, Rulebook::default()));
        assert_eq!(found.outcome, Outcome::Exhausted);
        assert_eq!(count_first_world(cluster), expected, "n={n} f={f}");
        assert_eq!(found.states, expected, "n={n} f={f}");
        assert!(witnesses.committed_in.contains(0) && witnesses.complete);
    }
}

#[test]
fn the_formula_holds_for_every_small_cluster_whether_or_not_it_is_safe() {
    // n = 5 with f = 1 has quorums of 4; the others are too small for their f, or need nobody else.
    for (n, f) in [(2, 0), (3, 0), (2, 1), (3, 1), (4, 0)] {
        let cluster = Cluster::new(n, f);
        if cluster.quorum() > cluster.n() {
            continue;
        }
        let (found, _) = explored(&mut world(cluster, 1, Rulebook::default()));
        assert_eq!(found.outcome, Outcome::Exhausted);
        assert_eq!(found.states, count_first_world(cluster), "n={n} f={f}");
    }
}

#[test]
fn staterights_own_search_over_the_actors_finds_the_same_states() {
    for (n, f) in [(3, 0), (4, 1)] {
        let cluster = Cluster::new(n, f);
        let checker = Plain::new(cluster, 1).checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
        let (found, _) = explored(&mut world(cluster, 1, Rulebook::default()));
        assert_eq!(checker.unique_state_count() as u64, found.states, "n={n} f={f}");
    }
}

#[test]
fn in_a_world_of_three_with_one_byzantine_nothing_commits_without_all_of_them() {
    // n = 3, f = 1 has quorums of three: the Byzantine replica may vote, and then something commits; but
    // never without a correct one, as it does where there are four.
    for (n, byzantine) in [(3, 0), (3, 2), (4, 0), (4, 3)] {
        let byzantine = [ReplicaId(byzantine)].into();
        let config = WorldConfig { byzantine, ..WorldConfig::new(Cluster::new(n, 1), 1) };
        let mut world = World::new(config, Delivery::One).expect("these bounds make sense");
        let (found, witnesses) = explored(&mut world);
        assert_eq!(found.outcome, Outcome::Exhausted);
        assert!(witnesses.committed_in.contains(0), "n={n}: {witnesses:?}");
        assert_eq!(witnesses.commits_without_one, n == 4, "n={n}: {witnesses:?}");
    }
}

#[test]
fn switching_off_a_quorum_changes_the_number_of_states() {
    // The count is sensitive to the rules: a world that did not run them would not notice.
    let cluster = Cluster::new(4, 1);
    let paper = count_first_world(cluster);
    for mutant in [Mutant::PrepareQuorum, Mutant::CommitQuorum, Mutant::PrimaryPrepares] {
        let (found, _) = explored(&mut world(cluster, 1, Rulebook::without(mutant)));
        let changes = mutant != Mutant::PrimaryPrepares;
        assert_eq!(found.states != paper, changes, "{mutant:?}");
    }
}

#[test]
fn asking_for_retransmission_yields_nothing_that_was_not_sent() {
    let mut world = world(Cluster::new(4, 1), 1, Rulebook::default());
    let (found, _) = explored(&mut world);
    assert_eq!(found.outcome, Outcome::Exhausted);
    let conditions = world.check_conditions(&mut |_| None);
    let (checked, failed) = conditions.counts["resending"];
    assert!(checked > 400 && failed == 0, "{conditions:?}");
}
