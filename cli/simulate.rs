//! `pbft simulate`: seeded simulations of a hostile network.

use crate::check::{cluster, rules};
use crate::output::interrupted;
use crate::say;
use pbft::crypto::ed25519::Ed25519;
use pbft_models::crypto::Symbolic;
use pbft_models::mutants::Rulebook;
use pbft_models::simulation::{Config, Failure, Report, Scheme, run as simulate};
use std::process::ExitCode;

/// The options of `pbft simulate`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The (first) seed; it chooses the schedule, the faults and the workload.
    #[arg(long)]
    seed: u64,
    /// How many seeds, counted up from the first.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The number of replicas.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=40))]
    n: u16,
    /// The number of Byzantine replicas tolerated.
    #[arg(long, default_value_t = 1)]
    f: u16,
    /// How many replicas are Byzantine; chosen by the seed, up to f, if not given.
    #[arg(long)]
    byzantine_count: Option<u16>,
    /// The signatures.
    #[arg(long, default_value = "symbolic", value_parser = ["symbolic", "ed25519"])]
    crypto: String,
    /// The rules: `pbft`, or the name of a safeguard to switch off.
    #[arg(long, default_value = "pbft", value_parser = rules)]
    rules: Rulebook,
    /// Tell what the correct replicas do, on standard error.
    #[arg(long)]
    trace: bool,
}

/// Runs the simulations; prints each failure with the command that repeats it, and a summary.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    cluster(arguments.n, arguments.f)?;
    if arguments.seed.checked_add(arguments.seeds).is_none() {
        return Err(format!("the last seed would be above {}: lower --seed or --seeds", u64::MAX));
    }
    if arguments.byzantine_count.unwrap_or(0) > arguments.n {
        return Err(format!("--byzantine-count may be at most --n, which is {}", arguments.n));
    }
    match arguments.crypto.as_str() {
        Ed25519::NAME => Ok(run_all::<Ed25519>(arguments)),
        _ => Ok(run_all::<Symbolic>(arguments)),
    }
}

fn run_all<C: Scheme>(arguments: &Arguments) -> ExitCode {
    let (mut total, mut failures, mut ran) = (Report::default(), 0, 0);
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        if interrupted() {
            break;
        }
        ran += 1;
        let mut config = Config::hostile(seed, arguments.n, arguments.f);
        config.trace = arguments.trace;
        config.byzantine = arguments.byzantine_count.unwrap_or(config.byzantine);
        match simulate::<C, Rulebook>(&config, arguments.rules) {
            Ok(report) => add(&mut total, &report),
            Err(failure) => {
                failures += 1;
                tell(&failure, &config.command(C::NAME, arguments.rules.name()));
            }
        }
    }
    say!(
        "{} of {} seeds failed; in the others: {} operations completed, {} events, {} crashes, {} state \
         transfers, {} stable checkpoints, highest view {}; {} steps held to the proved protocol, {} of its \
         actions",
        failures,
        ran,
        total.completed,
        total.events,
        total.crashes,
        total.transfers,
        total.stable_checkpoints,
        total.highest_view,
        total.judged,
        total.actions.values().sum::<u64>()
    );
    match failures {
        0 if ran < arguments.seeds => ExitCode::from(3),
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    }
}

fn tell(failure: &Failure, command: &str) {
    say!("{failure}\n  to repeat: {command}");
}

fn add(total: &mut Report, report: &Report) {
    total.completed += report.completed;
    total.events += report.events;
    total.crashes += report.crashes;
    total.transfers += report.transfers;
    total.stable_checkpoints += report.stable_checkpoints;
    total.highest_view = total.highest_view.max(report.highest_view);
    total.judged += report.judged;
    report.actions.iter().for_each(|(action, count)| *total.actions.entry(action).or_default() += count);
}
