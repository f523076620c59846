//! The replica and the client on a hostile network, from seeds.
//!
//! A failure prints the command that repeats it. What is searched here is bounded by seeds and virtual time;
//! it proves nothing, and it has found what no hand-written test had (see `docs/FOUND.md`).

use pbft::crypto::ed25519::Ed25519;
use pbft::rejection::Rejection;
use pbft_models::crypto::Symbolic;
use pbft_models::mutants::Rulebook;
use pbft_models::simulation::{Config, Report, Scheme, Strategy, run};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs the seeds on all cores; panics with the command that repeats the first failure.
fn all_succeed<C: Scheme>(n: u16, f: u16, seeds: std::ops::Range<u64>) -> Vec<Report> {
    let next = AtomicU64::new(seeds.start);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let config = Config::hostile(seed, n, f);
                    match run::<C, Rulebook>(&config, Rulebook::under_test()) {
                        Ok(report) => {
                            reports.lock().expect("no thread panics while it holds the lock").push(report)
                        }
                        Err(failure) => {
                            panic!(
                                "seed {seed}: {failure}\nto repeat: {}",
                                config.command(C::NAME, Rulebook::under_test().name())
                            )
                        }
                    }
                }
            });
        }
    });
    reports.into_inner().expect("no thread panics while it holds the lock")
}

/// A search that meets no trouble finds none: the runs must have been hostile.
fn was_hostile(reports: &[Report]) {
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    let seeds = reports.len() as u64;
    assert!(sum(|r| r.crashes) > seeds, "crashes");
    assert!(sum(|r| r.transfers) > seeds / 10, "state transfers");
    assert!(sum(|r| r.stable_checkpoints) > seeds, "stable checkpoints");
    assert!(sum(|r| r.highest_view) > seeds, "view changes");
    assert!(sum(|r| r.dropped.values().sum()) > seeds, "rejections");
}

#[test]
fn four_replicas_survive_1500_hostile_seeds_with_symbolic_signatures() {
    was_hostile(&all_succeed::<Symbolic>(4, 1, 0..1500));
}

#[test]
fn seven_replicas_survive_500_hostile_seeds_with_symbolic_signatures() {
    was_hostile(&all_succeed::<Symbolic>(7, 2, 0..500));
}

#[test]
fn a_cluster_larger_than_3f_plus_1_survives_200_hostile_seeds() {
    was_hostile(&all_succeed::<Symbolic>(6, 1, 0..200));
}

#[test]
fn four_replicas_survive_100_hostile_seeds_with_ed25519() {
    was_hostile(&all_succeed::<Ed25519>(4, 1, 10_000..10_100));
}

#[test]
fn seven_replicas_survive_30_hostile_seeds_with_ed25519() {
    was_hostile(&all_succeed::<Ed25519>(7, 2, 10_000..10_030));
}

#[test]
fn every_strategy_of_f_byzantine_replicas_is_survived() {
    for (index, &strategy) in Strategy::ALL.iter().enumerate() {
        for seed in 0..60 {
            for (n, f) in [(4, 1), (7, 2)] {
                let seed = 20_000 + 1_000 * index as u64 + seed;
                let config = Config { byzantine: f, strategy: Some(strategy), ..Config::hostile(seed, n, f) };
                if let Err(failure) = run::<Symbolic, Rulebook>(&config, Rulebook::under_test()) {
                    panic!("{strategy:?}, n={n}, seed {seed}: {failure}");
                }
            }
        }
    }
}

#[test]
fn forgeries_reach_the_checks_that_they_are_meant_for() {
    let strategy = Some(Strategy::ForgeViewChange);
    let mut dropped = BTreeSet::new();
    for seed in 0..10 {
        let config = Config { byzantine: 1, strategy, ..Config::hostile(seed, 4, 1) };
        match run::<Ed25519, Rulebook>(&config, Rulebook::under_test()) {
            Ok(report) => dropped.extend(report.dropped.into_keys()),
            Err(failure) => panic!("seed {seed}: {failure}"),
        }
    }
    for reason in [
        Rejection::BadPreparedCertificate,
        Rejection::BadStableCertificate,
        Rejection::BadViewChangeSet,
        Rejection::NotPrimary,
    ] {
        assert!(dropped.contains(&reason), "{reason} is not among {dropped:?}");
    }
}

#[test]
fn the_same_seed_runs_in_the_same_way() {
    for seed in 0..20 {
        let config = Config::hostile(seed, 4, 1);
        let (first, second) = (
            run::<Symbolic, Rulebook>(&config, Rulebook::under_test()),
            run::<Symbolic, Rulebook>(&config, Rulebook::under_test()),
        );
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn more_than_f_byzantine_replicas_are_too_many() {
    // The bound is tight, and the simulation is able to show it.
    let broken = (0..300).any(|seed| {
        let config =
            Config { byzantine: 2, strategy: Some(Strategy::Equivocate), ..Config::hostile(seed, 4, 1) };
        run::<Symbolic, Rulebook>(&config, Rulebook::under_test()).is_err()
    });
    assert!(broken);
}
