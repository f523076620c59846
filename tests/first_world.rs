//! The first world is explored exhaustively: the engine, stateright's own search and arithmetic agree.

use pbft::types::{Cluster, ReplicaId};
use pbft_models::engine::{Outcome, Space, explore};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{Plain, World, WorldConfig, count_first_world};
use stateright::{Checker, Model};

fn world(cluster: Cluster, clients: u32, rules: Rulebook) -> World {
    World::new(WorldConfig { rules, ..WorldConfig::new(cluster, clients) }).expect("these bounds make sense")
}

fn explored(cluster: Cluster, clients: u32, rules: Rulebook) -> (usize, u64, bool, (usize, usize)) {
    let mut world = world(cluster, clients, rules);
    let found = explore(&mut world, usize::MAX, &mut |_| true);
    let witnesses = (world.witnesses().commits, world.witnesses().complete);
    (found.states, found.transitions, found.outcome == Outcome::Exhausted, witnesses)
}

#[test]
fn the_number_of_states_is_the_one_computed_from_the_rules() {
    for (n, f, expected) in [(1, 0, 1), (4, 1, 15_994)] {
        let cluster = Cluster::new(n, f);
        let (states, _, exhausted, (commits, complete)) = explored(cluster, 1, Rulebook::default());
        assert!(exhausted);
        assert_eq!(count_first_world(cluster), expected, "n={n} f={f}");
        assert_eq!(states as u64, expected, "n={n} f={f}");
        assert!(commits > 0 && complete > 0);
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
        let (states, _, exhausted, _) = explored(cluster, 1, Rulebook::default());
        assert!(exhausted);
        assert_eq!(states as u64, count_first_world(cluster), "n={n} f={f}");
    }
}

#[test]
fn staterights_own_search_over_the_actors_finds_the_same_states() {
    for (n, f) in [(3, 0), (4, 1)] {
        let cluster = Cluster::new(n, f);
        let checker = Plain::new(cluster, 1).checker().threads(2).spawn_bfs().join();
        checker.assert_properties();
        let (states, _, _, _) = explored(cluster, 1, Rulebook::default());
        assert_eq!(checker.unique_state_count(), states, "n={n} f={f}");
    }
}

#[test]
fn where_the_byzantine_replica_stays_out_a_world_of_three_needs_all_of_them() {
    // n = 3, f = 1 has quorums of three: with one replica Byzantine it may vote and may not, and both are seen.
    let config = WorldConfig { byzantine: [ReplicaId(2)].into(), ..WorldConfig::new(Cluster::new(3, 1), 1) };
    let mut world = World::new(config).expect("these bounds make sense");
    let found = explore(&mut world, usize::MAX, &mut |_| true);
    assert_eq!(found.outcome, Outcome::Exhausted);
    let witnesses = world.witnesses();
    assert!(witnesses.commits > 0 && witnesses.commits < found.states, "{witnesses:?} of {}", found.states);
}

#[test]
fn switching_off_a_quorum_changes_the_number_of_states() {
    // The count is sensitive to the rules: a world that did not run them would not notice.
    let cluster = Cluster::new(4, 1);
    let paper = count_first_world(cluster);
    for mutant in [Mutant::PrepareQuorum, Mutant::CommitQuorum, Mutant::PrimaryPrepares] {
        let (states, _, _, _) = explored(cluster, 1, Rulebook::without(mutant));
        let changes = mutant != Mutant::PrimaryPrepares;
        assert_eq!(states as u64 != paper, changes, "{mutant:?}");
    }
}

#[test]
fn asking_for_retransmission_yields_nothing_that_was_not_sent() {
    let mut world = world(Cluster::new(4, 1), 1, Rulebook::default());
    let mut states = world.initial();
    let mut seen = 0;
    // Two thousand states of the world, depth first.
    let mut known: std::collections::BTreeSet<String> = std::collections::BTreeSet::new();
    while let Some(state) = states.pop() {
        if !known.insert(format!("{state:?}")) || seen > 2_000 {
            continue;
        }
        seen += 1;
        assert_eq!(world.resent_but_not_available(state), Vec::<String>::new());
        let mut next = Vec::new();
        world.successors(state, &mut next);
        states.extend(next.into_iter().map(|(_, state)| state));
    }
    assert!(seen > 1_000, "{seen}");
}
