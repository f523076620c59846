//! The kill matrix, and the counterexamples that are stored.

use pbft::types::Principal;
use pbft_models::engine::{Limits, Outcome, explore};
use pbft_models::matrix::{Evidence, Kill, Row, rows, run};
use pbft_models::mutants::Mutant;
use pbft_models::report::Options;
use pbft_models::trace::file::{Stored, StoredHappening};
use pbft_models::trace::replay::{Stale, replay, with_safeguard};
use pbft_models::trace::{Execution, Executor, canonical};
use pbft_models::world::{Delivery, Recent, World};
use std::collections::BTreeSet;
use std::path::PathBuf;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counterexamples")
}

fn stored(id: &str) -> Stored {
    let path = directory().join(format!("{id}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Stored::parse(&text).unwrap_or_else(|why| panic!("{id}: {why}"))
}

fn killed() -> Vec<(Row, Kill)> {
    let kill = |row: Row| match row.evidence.clone() {
        Evidence::Killed(kill) => Some((row, kill)),
        _ => None,
    };
    rows().into_iter().filter_map(kill).collect()
}

#[test]
fn there_is_a_counterexample_for_every_mutant_that_is_killed_and_for_no_other() {
    let files = std::fs::read_dir(directory()).expect("the directory is there");
    let names = files.map(|file| file.expect("it can be listed").file_name().into_string().expect("a name"));
    let found: BTreeSet<String> =
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    let wanted: BTreeSet<String> = killed().iter().map(|(row, _)| row.id().to_owned()).collect();
    assert_eq!(found, wanted);
    for (row, kill) in killed() {
        let stored = stored(row.id());
        assert_eq!(stored.config().ok(), row.world(), "{}", row.id());
        assert_eq!(stored.property, kill.property, "{}", row.id());
    }
}

/// Properties that are never the first to break, each with a mutant in whose world they break too. Where
/// replicas agree on digests they disagree on what runs only if some of them run something else than the
/// digest names.
const LATER: [(&str, Mutant); 1] = [("agreement", Mutant::AnyBatch)];

#[test]
fn every_property_is_violated_by_some_mutant() {
    let mut violated: BTreeSet<&str> = killed().iter().map(|(_, kill)| kill.property).collect();
    for (property, mutant) in LATER {
        assert!(!violated.contains(property), "{property} breaks first somewhere, and need not be named");
        let row = killed().into_iter().map(|(row, _)| row).find(|row| row.mutant == Some(mutant));
        let world = row.and_then(|row| row.world()).expect("it is killed in a world");
        let mut world = World::new(world, Delivery::Lazy).expect("the world makes sense").past_violations();
        let exploration = explore(&mut world, Limits::default(), &mut |_| true);
        assert!(matches!(exploration.outcome, Outcome::Exhausted), "{mutant:?}");
        assert!(world.all_violated().contains(property), "{mutant:?}: {:?}", world.all_violated());
        violated.insert(property);
    }
    let all: BTreeSet<&str> =
        pbft_properties::all::<pbft_models::ledger::Ledger>().iter().map(|property| property.name).collect();
    assert_eq!(violated, all);
}

#[test]
fn each_ends_in_its_violation_and_is_harmless_with_the_safeguard() {
    for (row, _) in killed() {
        let replayed = replay(&stored(row.id()))
            .unwrap_or_else(|stale| panic!("counterexamples/{}.json does not reproduce: {stale}", row.id()));
        let harmless = with_safeguard(&replayed).expect("the world makes sense");
        assert_eq!(harmless.violation, None, "{}", row.id());
        let (step, how) = harmless.first_difference().expect("some step turns out otherwise");
        println!("{}: step {} of {}: {how:?}", row.id(), step + 1, replayed.steps.len());
    }
}

#[test]
fn no_step_can_be_dropped() {
    for (row, _) in killed() {
        let replayed = replay(&stored(row.id())).expect("it reproduces");
        let config = replayed.executor.config().clone();
        let steps: Vec<_> = replayed.steps.into_iter().map(|taken| taken.step).collect();
        let execution = Execution { config: config.clone(), steps, violation: replayed.violation };
        let mut executor = Executor::new(&config).expect("the world makes sense");
        for dropped in 0..execution.steps.len() {
            assert_eq!(execution.without(&mut executor, dropped), None, "{}: step {}", row.id(), dropped + 1);
        }
    }
}

/// The quick rows of the matrix are as they say; and what is found now is what is stored, the revision apart.
#[test]
fn no_mutant_survives_and_what_kills_it_is_what_is_stored() {
    for (row, kill) in killed().into_iter().filter(|(_, kill)| !kill.slow) {
        let ran = run(&row, false, &Options::default(), &mut || true).expect("the world makes sense");
        assert!(ran.is_as_expected(), "{}: {:?}", row.id(), ran.explored);
        let stored = stored(row.id());
        let execution = ran.execution.expect("it is killed");
        assert_eq!(execution.violation.property, kill.property, "{}", row.id());
        let found = Stored::new(&execution, stored.revision.clone()).expect("the world makes sense");
        assert_eq!(found, stored, "{}: store it again with `pbft mutants --only {0} --save`", row.id());
    }
}

#[test]
fn the_order_in_which_a_world_lists_its_actions_changes_no_counterexample() {
    for (row, kill) in killed().into_iter().filter(|(_, kill)| !kill.slow) {
        let stored = stored(row.id());
        let world = || World::new(row.world().expect("it is killed in one"), Delivery::Lazy);
        let mut backwards = world().expect("the world makes sense").listed_backwards();
        let mut executor = Executor::new(backwards.config()).expect("the world makes sense");
        if kill.judged_alone {
            (backwards, executor) = (backwards.judged_by(kill.property), executor.judged_by(kill.property));
        }
        let steps = canonical::shortest(&mut backwards, stored.steps.len()).expect("it is killed");
        let execution = Execution::new(&mut executor, steps).expect("something is violated");
        let found = Stored::new(&execution, stored.revision.clone()).expect("the world makes sense");
        assert_eq!(found, stored, "{}", row.id());
    }
}

#[test]
fn a_file_that_no_longer_reproduces_says_where() {
    let genuine = stored("commit-quorum");
    let last = genuine.steps.len();
    let broken = |change: &dyn Fn(&mut Stored)| {
        let mut stored = genuine.clone();
        change(&mut stored);
        replay(&stored).err()
    };
    let node = genuine.steps[0].node.to_string();
    let digest = "0".repeat(64);
    assert_eq!(
        broken(&|stored| drop(stored.steps[0].states.insert(node.clone(), digest.clone()))),
        Some(Stale::State(1, node.clone()))
    );
    assert_eq!(
        broken(&|stored| drop(stored.start.insert(node.clone(), digest.clone()))),
        Some(Stale::Start(node.clone()))
    );
    // Without the last step nothing is violated; without the first a later one cannot happen.
    assert_eq!(broken(&|stored| drop(stored.steps.pop())), Some(Stale::Nothing(genuine.property.clone())));
    assert!(broken(&|stored| drop(stored.steps.remove(0))).is_some());
    let again = genuine.steps[last - 1].clone();
    assert!(matches!(broken(&|stored| stored.steps.push(again.clone())), Some(Stale::Early(..))));
    assert!(matches!(broken(&|stored| stored.property = "agreement".into()), Some(Stale::Other { .. })));
    assert!(matches!(broken(&|stored| stored.rules = "no-such-rule".into()), Some(Stale::World(_))));
    assert!(matches!(broken(&|stored| stored.world.n = 9), Some(Stale::World(_))));
    // By the paper's rules the schedule does not come to its end.
    let by_the_paper = broken(&|stored| stored.rules = "pbft".into());
    println!("{}", by_the_paper.expect("it is harmless"));
}

#[test]
fn a_file_of_another_version_or_with_other_fields_is_refused() {
    let text = stored("commit-quorum").text();
    assert!(Stored::parse(&text).is_ok());
    for (from, to, why) in [
        ("\"schema\": 1", "\"schema\": 2", "version 2"),
        ("\"rules\"", "\"rulez\"", "no counterexample"),
        ("{", "[", "no counterexample"),
    ] {
        let error = Stored::parse(&text.replacen(from, to, 1)).expect_err("it is refused");
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn every_delivery_of_a_byzantine_message_is_of_one_that_can_be_made() {
    // A message that nobody has sent and the adversary cannot make is not delivered, however it is written.
    let mut stored = stored("commit-quorum");
    let forge = stored.steps.iter_mut().find_map(|step| match &mut step.what {
        StoredHappening::Deliver(pbft_models::trace::said::SavedMessage::Commit { digest, .. }) => {
            Some(digest)
        }
        _ => None,
    });
    forge.expect("a COMMIT is delivered").0.0 = [7; 32];
    assert!(matches!(replay(&stored), Err(Stale::NotAvailable(_))));
}

#[test]
fn what_can_be_delivered_to_whole_replicas_is_what_the_world_offers() {
    use pbft_models::engine::Space;
    // Step by step on the world explored one delivery at a time, and on the executor: both offer the same
    // messages.
    let row = killed().into_iter().find(|(row, _)| row.id() == "votes-match-view").expect("it is killed").0;
    let config = row.world().expect("it is killed in one");
    let mut world = World::new(config.clone(), Delivery::One).expect("the world makes sense");
    let mut executor = Executor::new(&config).expect("the world makes sense");
    let replayed = replay(&stored(row.id())).expect("it reproduces");
    let mut configuration = executor.start();
    let mut state = world.initial().swap_remove(0);
    for taken in &replayed.steps {
        let offered: BTreeSet<_> =
            world.all_available(&state).into_iter().map(|id| world.tables().message(id).clone()).collect();
        let node = world.nodes()[0];
        let available: BTreeSet<_> = executor.available(&configuration, node).into_iter().collect();
        assert!(matches!(node, Principal::Replica(_)));
        assert_eq!(available, offered);
        configuration = executor.take(&configuration, &taken.step).expect("it can be taken").after;
        state = after(&mut world, &state, &taken.step);
    }
}

/// The state after a step, of those that the world lists.
fn after(world: &mut World, state: &[u32], step: &pbft_models::trace::Step) -> Vec<u32> {
    use pbft_models::engine::Space;
    let mut next: Vec<Vec<u32>> = Vec::new();
    while world.expand(0, state, &mut Recent::small(), &mut |to| next.push(to.to_vec())).is_err() {
        next.clear();
        world.learn(0, state);
    }
    let is_it = |to: &Vec<u32>| {
        let (node, taken) = world.step_between(state, to).expect("one node moves");
        let message = taken.path.first().map(|&id| world.tables().message(id).clone());
        let what =
            message.map_or(pbft_models::trace::Happening::TimeOut, pbft_models::trace::Happening::Deliver);
        node == step.node && what == step.what
    };
    let found: Vec<Vec<u32>> = next.clone();
    found.into_iter().find(is_it).expect("the world lists the step")
}
