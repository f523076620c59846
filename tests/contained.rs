//! What real replicas do in an exhausted world is contained in the abstract protocol that is proved.

use pbft::types::{Cluster, ReplicaId, View};
use pbft_models::contained::Contained;
use pbft_models::engine::{Exploration, Limits, Outcome, explore};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{Delivery, World, WorldConfig};

fn explored(byzantine: Option<u16>, requests: u32, views: u64, rules: Rulebook) -> (Exploration, u64) {
    let config = WorldConfig {
        byzantine: byzantine.map(ReplicaId).into_iter().collect(),
        max_view: View(views - 1),
        rules,
        ..WorldConfig::new(Cluster::new(4, 1), requests)
    };
    let name = config.name();
    let world = World::new(config, Delivery::Lazy).expect("these bounds make sense");
    let mut contained = Contained::new(world);
    let limits = Limits { time: std::time::Duration::from_secs(100), ..Limits::default() };
    let found = explore(&mut contained, limits, &mut |_| true);
    println!(
        "{name}: {} states, {} steps checked in {:?}, {:?}",
        found.states,
        contained.checked(),
        found.elapsed,
        found.outcome
    );
    println!("{:?}", contained.actions());
    (found, contained.checked())
}

#[test]
fn each_step_in_an_exhausted_world_is_a_path_of_the_abstract_protocol() {
    for byzantine in [Some(0), Some(1), Some(3)] {
        for (requests, views) in [(2, 1), (1, 2)] {
            let (found, checked) = explored(byzantine, requests, views, Rulebook::default());
            assert_eq!(found.outcome, Outcome::Exhausted, "{byzantine:?} {requests} {views}");
            assert!(checked >= found.transitions, "{checked}");
        }
    }
}

/// The first step that is no path, in one of the small worlds with a Byzantine replica.
fn leaves(mutant: Mutant) -> Option<String> {
    let mut worlds = [(0, 2, 1), (0, 1, 2), (1, 1, 2), (3, 1, 2)].into_iter();
    worlds.find_map(|(byzantine, requests, views)| {
        match explored(Some(byzantine), requests, views, Rulebook::without(mutant)).0.outcome {
            Outcome::Violated { what, .. } => Some(what),
            _ => None,
        }
    })
}

/// Mutants of the real replica take steps that are none of the abstract protocol: the action named is not enabled there.
#[test]
fn mutants_leave_the_abstract_protocol() {
    for (mutant, action) in [
        (Mutant::PrepareQuorum, "commit("),
        (Mutant::AnyDigest, "commit("),
        (Mutant::SecondPrePrepare, "prepare("),
        (Mutant::CommitQuorum, "committed_local("),
        (Mutant::KeepVoting, "("),
        (Mutant::ViewChangeQuorum, "enter("),
    ] {
        let what = leaves(mutant).unwrap_or_else(|| panic!("{mutant:?} stays inside"));
        println!("{}: {what}", mutant.id());
        assert!(what.contains(action) && what.contains("is not enabled"), "{mutant:?}: {what}");
    }
}

#[test]
#[ignore = "long: two requests and two views"]
fn two_requests_and_two_views() {
    for byzantine in [0, 1, 3] {
        let (found, checked) = explored(Some(byzantine), 2, 2, Rulebook::default());
        assert!(!matches!(found.outcome, Outcome::Violated { .. }), "{:?}", found.outcome);
        assert!(checked >= found.transitions, "{checked}");
    }
}
