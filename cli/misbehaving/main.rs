//! `pbft-misbehaving`: a replica that misbehaves on purpose, over UDP, for tests and demonstrations.
//!
//! It is a program of its own, so that `pbft` has no way to do this. It runs the adversary of the simulation
//! ([`pbft_models::byzantine`]), and only in a cluster whose configuration allows it.

// Files of the command `pbft`, of which this program needs a part.
#[allow(dead_code)]
#[path = "../net/config/mod.rs"]
mod config;
#[path = "../net/log_file.rs"]
mod log_file;
#[allow(dead_code)]
#[path = "../output.rs"]
mod output;
#[path = "../net/process.rs"]
mod process;

mod impostor;

use clap::Parser;
use config::Config;
use impostor::Impostor;
use pbft::types::ReplicaId;
use pbft_models::byzantine::Strategy;
use process::{Log, ProcessArguments};
use std::path::PathBuf;
use std::process::ExitCode;

/// Replicas that misbehave on purpose, for tests and demonstrations. Never for a cluster that serves anybody.
///
/// Example: pbft-misbehaving replica --config F --id 0 --misbehave equivocate
///
/// Exit status: 0 it was told to stop, 2 a mistake.
#[derive(Parser)]
#[command(name = "pbft-misbehaving", version, max_term_width = 100)]
enum Command {
    /// Takes the place of one replica and misbehaves until Ctrl-C or SIGTERM.
    ///
    /// It has the secret key of that replica, signs what it says, and says what it should not. It keeps no
    /// store: each time it starts, and whenever it has been stuck for a while, it has forgotten what it
    /// promised. At most f of a cluster's replicas may be faulty at a time, this one among them. The
    /// configuration must say `allow_misbehaviour = true`.
    ///
    /// Examples: pbft-misbehaving replica --config F --id 0 --misbehave silent; pbft-misbehaving replica
    /// --config F --id 3 --misbehave forge-view-change --seed 17
    Replica(Arguments),
}

/// The options of `pbft-misbehaving replica`.
#[derive(clap::Args)]
struct Arguments {
    /// The configuration, as `pbft keygen` or `pbft cluster` writes it, with `allow_misbehaviour = true`
    /// above its first section.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which replica, counted from 0.
    #[arg(long)]
    id: u16,
    /// What it does: `silent`, nothing; `equivocate`, follow the protocol and tell each replica something
    /// else; `garbage`, also say anything at any time; `replay`, also send old messages, its own and others';
    /// `forge-view-change`, follow the protocol, and send VIEW-CHANGEs and NEW-VIEWs with false proofs.
    #[arg(long, value_name = "HOW", value_parser = strategy)]
    misbehave: Strategy,
    /// What it chooses by. What it does depends on what it receives too, so a seed alone does not repeat a
    /// run.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    process: ProcessArguments,
}

fn strategy(name: &str) -> Result<Strategy, String> {
    Strategy::named(name).ok_or_else(|| {
        let names: Vec<&str> = Strategy::ALL.iter().map(|strategy| strategy.name()).collect();
        format!("it is one of {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    output::watch_for_interrupts();
    let outcome = match Command::try_parse() {
        Ok(Command::Replica(arguments)) => run(&arguments),
        Err(error) if error.use_stderr() => Err(output::one_sentence(
            &error,
            "pbft-misbehaving",
            "say what to do: `pbft-misbehaving replica --config F --id I --misbehave HOW`",
        )),
        Err(help) => {
            say!("{help}");
            return ExitCode::SUCCESS;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("pbft-misbehaving: {problem}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let config = Config::read(&arguments.config)?;
    if !config.file.allow_misbehaviour {
        return Err(format!(
            "{0} does not allow a replica to misbehave: if this cluster is for tests or demonstrations, write \
             `allow_misbehaviour = true` at the top of {0}",
            arguments.config.display()
        ));
    }
    let log = arguments.process.start_log()?;
    misbehave(arguments, &config, &log).inspect_err(|why| log.last_words(why))
}

fn misbehave(arguments: &Arguments, config: &Config, log: &Log) -> Result<(), String> {
    let id = ReplicaId(arguments.id);
    let (how, seed) = (arguments.misbehave.name(), arguments.seed);
    let mut impostor = Impostor::bind(config, id, arguments.misbehave, seed)?;
    tracing::warn!(replica = id.0, how, seed, "THIS REPLICA MISBEHAVES ON PURPOSE and keeps no store");
    say!(
        "replica {} MISBEHAVES ON PURPOSE ({how}, seed {seed}) at {}; it needs and keeps no store",
        id.0,
        config.file.replicas[usize::from(id.0)].address
    );
    let told_to_stop = arguments.process.told_to_stop(log);
    while !told_to_stop() {
        impostor.turn()?;
    }
    say!("replica {} has withheld, distorted or made up {} messages", id.0, impostor.lies());
    Ok(())
}
