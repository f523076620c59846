//! Seeded random walks of the unreduced world show nothing that the lazy world does not.

use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_models::engine::explore;
use pbft_models::engine::{Limits, Outcome};
use pbft_models::layered::Layered;
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::walks::{Shown, hold_against, project};
use pbft_models::world::{Delivery, World, WorldConfig};

const SEED: u64 = 7;

/// Two requests compete for one sequence number.
fn config(byzantine: &[u16], max_view: u64, rules: Rulebook) -> WorldConfig {
    WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_view: View(max_view),
        max_seq: SeqNo(1),
        rules,
        ..WorldConfig::new(Cluster::new(4, 1), 2)
    }
}

/// Takes walks that meet at least `percent` in a hundred of the lazy world's combinations of histories.
fn projects(config: &WorldConfig, walks: u64, percent: usize) {
    let projection =
        project(config, walks, SEED, Limits::default(), &mut |_| true).expect("these bounds make sense");
    let what = format!("{:?}, V={}, {}", config.byzantine, config.max_view.0, config.rules.name());
    assert_eq!(projection.lazy.outcome, Outcome::Exhausted, "{what}");
    let report = projection.walks.expect("the lazy world is exhausted");
    let of = projection.joints;
    println!(
        "{what}: seed {SEED}, {} walks, {} steps, {} of {of}",
        report.walks, report.steps, report.joints
    );
    assert_eq!(report.missing, None, "{what}");
    assert_eq!(report.walks, walks, "{what}");
    assert!(report.joints * 100 >= of * percent, "{what}: {} of {of}", report.joints);
}

#[test]
fn walks_of_one_view_show_all_of_the_lazy_world_and_nothing_else() {
    for byzantine in [&[][..], &[0], &[3]] {
        projects(&config(byzantine, 0, Rulebook::default()), 5_000, 95);
    }
}

#[test]
fn walks_with_a_view_change_show_nothing_that_the_lazy_world_does_not() {
    for byzantine in [&[][..], &[0], &[1], &[3]] {
        projects(&config(byzantine, 1, Rulebook::default()), 1_000, 10);
    }
}

#[test]
fn walks_with_two_view_changes_show_nothing_that_the_lazy_world_does_not() {
    // Among these a batch arrives after its view was left: a replica that then went on would be told here.
    let config = WorldConfig { requests: 1, ..config(&[0], 2, Rulebook::default()) };
    projects(&config, 1_500, 3);
}

#[test]
fn walks_with_checkpoints_show_nothing_that_the_lazy_world_does_not() {
    for (byzantine, max_view, requests, max_seq) in [(&[0][..], 0, 2, 2), (&[3], 0, 2, 2), (&[1], 1, 1, 1)] {
        let bounds = WorldConfig {
            requests,
            max_seq: SeqNo(max_seq),
            checkpoint_interval: Some(1),
            window: Some(1),
            ..config(byzantine, max_view, Rulebook::default())
        };
        projects(&bounds, 500, 5);
    }
}

#[test]
fn walks_of_seven_replicas_show_nothing_that_the_lazy_world_does_not() {
    let config = config(&[0, 1], 0, Rulebook::default());
    projects(&WorldConfig { cluster: Cluster::new(7, 2), requests: 1, ..config }, 300, 10);
}

/// Takes walks, and holds them against exploration in rounds that cuts no histories.
fn projects_in_rounds(config: &WorldConfig, walks: u64) {
    let what = config.name();
    let mut layered = Layered::new(config.clone(), true).expect("these bounds make sense");
    assert_eq!(explore(&mut layered, Limits::default(), &mut |_| true).outcome, Outcome::Exhausted, "{what}");
    let shown = Shown::of(layered.all_histories());
    let report = hold_against(&shown, config, walks, SEED, &mut |_| true).expect("these bounds make sense");
    assert_eq!(report.missing, None, "{what}");
    assert_eq!(report.walks, walks, "{what}");
    assert!(report.joints > 10, "{what}: {}", report.joints);
}

#[test]
fn walks_show_nothing_that_exploration_in_rounds_does_not() {
    for byzantine in [&[][..], &[0], &[1], &[3]] {
        projects_in_rounds(&config(byzantine, 1, Rulebook::default()), 200);
    }
    projects_in_rounds(&WorldConfig { requests: 1, ..config(&[0], 2, Rulebook::default()) }, 150);
    // Two numbers: a view change can leave a gap.
    projects_in_rounds(&WorldConfig { max_seq: SeqNo(2), ..config(&[3], 1, Rulebook::default()) }, 100);
}

#[test]
fn without_a_rule_walks_show_nothing_that_the_lazy_world_does_not() {
    for (mutant, byzantine) in [
        (Mutant::PrepareQuorum, 0),
        (Mutant::CommitQuorum, 0),
        (Mutant::ViewChangeQuorum, 1),
        (Mutant::BelieveO, 1),
        (Mutant::UnverifiedCertificates, 1),
        (Mutant::ForgetPrepared, 1),
        (Mutant::ActInOldView, 1),
        (Mutant::KeepVoting, 1),
        (Mutant::PrePreparedInP, 0),
        (Mutant::SecondPrePrepare, 0),
    ] {
        projects(&config(&[byzantine], 1, Rulebook::without(mutant)), 300, 1);
    }
}

#[test]
fn a_walk_that_shows_something_else_is_told_step_by_step() {
    // Walks of a mutant, held against the protocol's own lazy world.
    let mut lazy =
        World::new(config(&[0], 0, Rulebook::default()), Delivery::Lazy).expect("these bounds make sense");
    assert_eq!(explore(&mut lazy, Limits::default(), &mut |_| true).outcome, Outcome::Exhausted);
    let mutant = config(&[0], 0, Rulebook::without(Mutant::PrepareQuorum));
    let shown = Shown::of(lazy.all_histories());
    let report = hold_against(&shown, &mutant, 10_000, SEED, &mut |_| true).expect("these bounds make sense");
    let missing = report.missing.expect("two digests prepare");
    println!("seed {SEED}, walk {}: {}\n  {}", missing.walk, missing.what, missing.steps.join("\n  "));
    assert!(missing.what.contains("do not occur together"), "{}", missing.what);
    assert!(missing.steps.last().is_some_and(|step| step.ends_with("prepared")), "{:?}", missing.steps);
}

#[test]
fn the_same_seed_takes_the_same_walks() {
    let config = config(&[0], 1, Rulebook::default());
    let [one, other] = [(); 2].map(|()| {
        let found =
            project(&config, 200, SEED, Limits::default(), &mut |_| true).expect("these bounds make sense");
        found.walks.map(|report| (report.steps, report.joints, report.ended))
    });
    assert!(one.is_some() && one == other, "{one:?} {other:?}");
}
