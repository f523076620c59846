//! Holds the replica to the contract, step by step, without a look at any global state: in simulations, and in the
//! unreduced local systems of a few worlds.
//!
//!     cargo run --release -p pbft-models --example contract simulations 40
//!     cargo run --release -p pbft-models --example contract worlds
//!
//! The first also says what the properties say of the same simulations, without the contract. `tests/seeded/run
//! --contract` runs both for mistakes put into the source. A line for each, `<what>: <verdict>: <words>`.

use pbft::crypto::ed25519::Ed25519;
use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_models::crypto::Symbolic;
use pbft_models::engine::{Limits, Outcome, explore};
use pbft_models::lazy;
use pbft_models::mutants::Rulebook;
use pbft_models::simulation::{Config, Failure, HeldTo, Report, run};
use pbft_models::world::{Delivery, World, WorldConfig};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The time for each of the two halves of a world: exploring it, and its local systems.
const WORLD: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let count = match arguments[..] {
        ["simulations", count] => count.parse().ok().filter(|&count: &u64| count > 0),
        _ => None,
    };
    // What a mistake breaks may well panic; it is told below.
    std::panic::set_hook(Box::new(|_| {}));
    match (&arguments[..], count) {
        (_, Some(count)) => simulations(count),
        (["worlds"], _) => worlds(),
        _ => {
            eprintln!("usage: contract simulations <how many> | contract worlds");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// One simulation; every other one signs with Ed25519, whose certificates keep their votes.
fn simulate(seed: u64, held_to: HeldTo) -> Result<Report, String> {
    let config = Config { held_to, ..Config::by_contract(seed) };
    let run = || match seed.is_multiple_of(2) {
        true => run::<Ed25519, Rulebook>(&config, Rulebook::default()),
        false => run::<Symbolic, Rulebook>(&config, Rulebook::default()),
    };
    let ended = catch_unwind(AssertUnwindSafe(run));
    match (ended, held_to) {
        // Whether anything comes of it is none of the contract's business.
        (Ok(Err(Failure::NoProgress(_) | Failure::CannotRestart(_))), HeldTo::Contract) => {
            Ok(Report::default())
        }
        (Ok(ended), _) => ended.map_err(|failure| failure.to_string()),
        (Err(_), _) => Err("panics".to_string()),
    }
}

/// Says how simulations end that are held to one thing; the first that it ends is the last.
fn simulations(count: u64) {
    for (what, held_to) in [("contract", HeldTo::Contract), ("properties", HeldTo::Properties)] {
        let (mut judged, mut actions, mut first) = (0, 0, None);
        for seed in 0..count {
            match simulate(seed, held_to) {
                Ok(report) => {
                    judged += report.judged;
                    actions += report.actions.values().sum::<u64>();
                }
                Err(why) => {
                    first = Some(format!("noticed: simulation {} of {count}: {why}", seed + 1));
                    break;
                }
            }
        }
        let passed = || format!("passed: {count} simulations, {judged} steps, {actions} actions");
        println!("{what}: {}", first.unwrap_or_else(passed).replace('\n', " "));
    }
}

/// A world with four replicas and one number, two views or a checkpoint, whose local systems are small.
fn world(byzantine: u16, checkpoints: bool) -> World {
    let config = WorldConfig {
        byzantine: [ReplicaId(byzantine)].into(),
        max_view: View(1),
        max_seq: SeqNo(1),
        checkpoint_interval: checkpoints.then_some(1),
        ..WorldConfig::new(Cluster::new(4, 1), if checkpoints { 1 } else { 2 })
    };
    let world = World::new(config, Delivery::Lazy).expect("these bounds make sense");
    world.past_violations().held_to_contract()
}

/// Says whether a step in the local systems of a world breaks the contract.
fn in_world(byzantine: u16, checkpoints: bool) -> Result<bool, String> {
    let mut world = world(byzantine, checkpoints);
    let limits = Limits { time: WORLD, ..Limits::default() };
    if explore(&mut world, limits, &mut |_| true).outcome != Outcome::Exhausted {
        return Ok(false);
    }
    let begun = Instant::now();
    let mut all = true;
    let conditions = lazy::check(&mut world, &mut |conditions| {
        let late = begun.elapsed() > WORLD;
        all &= !late;
        (late || conditions.first.contains_key("contract")).then_some("enough")
    });
    match conditions.first.get("contract") {
        Some(broken) => Err(broken.what.clone()),
        None => Ok(all),
    }
}

fn worlds() {
    let mut exhausted = 0;
    for (byzantine, checkpoints) in [(0, false), (1, false), (3, false), (3, true)] {
        let named =
            format!("replica {byzantine} Byzantine{}", if checkpoints { ", checkpoints" } else { "" });
        match catch_unwind(|| in_world(byzantine, checkpoints)) {
            Ok(Ok(all)) => exhausted += u32::from(all),
            Ok(Err(what)) => return println!("worlds: noticed: {named}: {}", what.replace('\n', " ")),
            Err(_) => return println!("worlds: noticed: {named}: panics"),
        }
    }
    println!("worlds: passed: {exhausted} of 4 exhausted");
}
