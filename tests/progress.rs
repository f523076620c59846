//! From every state of a world, everything sent being lost, requests execute; and without the rules that serve
//! progress they do not.

use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_models::engine::Limits;
use pbft_models::matrix::{Evidence, rows, run};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::progress::{Progress, Strategy, check};
use pbft_models::report::Options;
use pbft_models::trace::file::Stored;
use pbft_models::world::{Crashes, WorldConfig};
use std::path::PathBuf;

fn config(byzantine: &[u16], max_view: u64, requests: u32, rules: Rulebook) -> WorldConfig {
    WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_view: View(max_view),
        max_seq: SeqNo(1),
        rules,
        ..WorldConfig::new(Cluster::new(4, 1), requests)
    }
}

fn checked(config: &WorldConfig, strategies: &[Strategy]) -> Progress {
    check(config, strategies, Limits::default(), &|| true).expect("the world is exhausted")
}

#[test]
fn requests_execute_from_every_state_of_view_0_and_1_and_after_crashes() {
    let pbft = Rulebook::default();
    let crashes = Some(Crashes { at_most: None, between_steps: false });
    for (config, views) in [
        (config(&[3], 0, 2, pbft), 0),
        (config(&[0], 0, 2, pbft), 1),
        (config(&[], 1, 1, pbft), 0),
        (config(&[3], 1, 1, pbft), 0),
        (WorldConfig { crashes, ..config(&[0], 0, 2, pbft) }, 1),
    ] {
        // `pbft progress` tries every strategy in each world.
        let is_small = config.max_view == View(0) && config.crashes.is_none();
        let found = checked(&config, if is_small { Strategy::ALL } else { Strategy::FORGETFUL });
        assert!(found.stuck.is_none(), "{}: {:?}", config.name(), found.stuck);
        assert_eq!(found.most_views, views, "{}", config.name());
        assert!(found.runs >= 2 * found.joints && found.joints > 50, "{}", config.name());
        assert!(found.longest_ms < 2000, "{}: {} ms", config.name(), found.longest_ms);
        // Without help from the Byzantine replica, where the bounds leave a correct primary.
        let reach = found.reach.map(|reach| (reach.cut_off, reach.good > 0));
        let asked = config.max_view == View(1) || !config.byzantine.contains(&ReplicaId(0));
        assert_eq!(reach, asked.then_some((0, true)), "{}", config.name());
    }
}

#[test]
fn without_the_rules_that_serve_progress_some_request_never_executes() {
    let rows = rows().into_iter().filter(|row| matches!(row.evidence, Evidence::Stuck(_)));
    let mut shown = 0;
    for row in rows {
        let ran = run(&row, false, &Options::default(), &mut || true).expect("the world makes sense");
        assert!(ran.is_as_expected(), "{}: {:?}", row.id(), ran.explored);
        // What is found now is what is stored, the revision apart.
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("counterexamples");
        let text = std::fs::read_to_string(path.join(row.file().expect("it has one"))).expect("it is stored");
        let stored = Stored::parse(&text).expect("it is a counterexample");
        let found = ran.stored(stored.revision.clone()).expect("the world makes sense");
        assert_eq!(found, Some(stored), "{}: store it again with `pbft mutants --save`", row.id());
        shown += 1;
    }
    assert_eq!(shown, 9);
}

#[test]
fn a_run_that_is_stuck_is_told_in_two_parts() {
    let rules = Rulebook::without(Mutant::LeftBehind);
    let stuck = checked(&config(&[2], 1, 1, rules), Strategy::FORGETFUL).stuck.expect("the rule is needed");
    assert!(stuck.how.last().is_some_and(|step| step.contains("entered a view")), "{:?}", stuck.how);
    assert!(stuck.why.iter().any(|line| line.contains("VIEW-CHANGE v1")), "{:?}", stuck.why);
}

#[test]
fn too_few_correct_replicas_decide_nothing() {
    let few = WorldConfig { cluster: Cluster::new(3, 1), ..config(&[], 0, 1, Rulebook::default()) };
    assert!(check(&few, Strategy::ALL, Limits::default(), &|| true).is_err());
}

/// VIEW-CHANGEs without what prepared last: what one replica has executed, the others do not vote for again.
#[test]
fn states_from_which_no_good_end_can_be_reached_are_found_and_told() {
    for mutant in [Mutant::NoCertificates, Mutant::KeepOldest] {
        let found = checked(&config(&[3], 1, 1, Rulebook::without(mutant)), &[Strategy::Silent]);
        let reach = found.reach.expect("the primary of view 1 is correct");
        assert!(reach.cut_off > 0 && reach.good > 0, "{mutant:?}: {reach:?}");
        let how = found.cut_off.expect("there is such a state");
        assert!(how.iter().any(|step| step.contains("r1")), "{how:?}");
    }
}
