//! Every step of every correct replica is a step of the protocol that is proved for all sizes.

use pbft_models::crypto::Symbolic;
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::simulation::{Config, Failure, Strategy, run};

fn holds(n: u16, f: u16, seeds: std::ops::Range<u64>) {
    let (mut judged, mut actions) = (0, 0);
    for seed in seeds {
        let config = Config::hostile(seed, n, f);
        let report = run::<Symbolic, Rulebook>(&config, Rulebook::default())
            .unwrap_or_else(|failure| panic!("seed {seed}, n = {n}, f = {f}: {failure}"));
        judged += report.judged;
        actions += report.actions.values().sum::<u64>();
        println!("n = {n}, seed {seed}: {} steps, {:?}", report.judged, report.actions);
    }
    println!("n = {n}, f = {f}: {judged} steps, {actions} actions");
    assert!(actions > 0);
}

#[test]
fn steps_of_four_replicas_are_those_of_the_proved_protocol() {
    holds(4, 1, 0..40);
}

#[test]
fn steps_of_thirteen_replicas_are_those_of_the_proved_protocol() {
    holds(13, 4, 0..1);
}

#[test]
#[ignore = "long: 31 replicas"]
fn steps_of_thirty_one_replicas_are_those_of_the_proved_protocol() {
    holds(31, 10, 0..1);
}

/// The first breach of a mutant, among some seeds.
fn noticed(mutant: Mutant) -> Option<String> {
    for seed in 0..60 {
        let strategy = Some(Strategy::ALL[seed as usize % Strategy::ALL.len()]);
        let config = Config {
            by_contract: true,
            byzantine: u16::from(seed % 3 != 0),
            strategy,
            ..Config::hostile(seed, 4, 1)
        };
        let caught =
            std::panic::catch_unwind(|| run::<Symbolic, Rulebook>(&config, Rulebook::without(mutant)));
        if let Ok(Err(Failure::Breach(what))) = caught {
            return Some(format!("seed {seed}: {what}"));
        }
    }
    None
}

#[test]
#[ignore = "long: sixty simulations of each mutant"]
fn mutants_are_noticed_at_a_step() {
    for &mutant in Mutant::ALL {
        println!("{}: {}", mutant.id(), noticed(mutant).unwrap_or("-".into()));
    }
}
