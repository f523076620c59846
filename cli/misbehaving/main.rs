//! `pbft-misbehaving`: a replica that misbehaves on purpose, over UDP, for tests and demonstrations.
//!
//! It is a program of its own, so that `pbft` has no way to do this, and runs only in a cluster whose
//! configuration allows it.
//!
//! | file | is |
//! |---|---|
//! | `impostor` | a replica that lies: the adversary of the simulation ([`pbft_models::byzantine`]) |
//! | `follower`, `flood` | a replica that follows the protocol, and is slow, unfair, or sends too much |
//! | `client` | a client that sends what it should not, or too much |
//! | `pace`, `pieces` | how fast; fragments |

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

mod client;
mod flood;
mod follower;
mod impostor;
mod pace;
mod pieces;

use clap::Parser;
use client::Attacker;
use config::Config;
use flood::Flood;
use follower::{Conduct, Follower};
use impostor::Impostor;
use pace::Pace;
use pbft::types::{ClientId, ReplicaId};
use pbft_models::byzantine::Strategy;
use process::{Log, ProcessArguments};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Replicas and clients that misbehave on purpose, for tests and demonstrations. Never for a cluster that serves anybody.
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
    ///
    /// With delay, unfair and flood it follows the protocol otherwise, and keeps no store either.
    Replica(Arguments),
    /// Has the secret key of one client, and sends what it should not, or more than it should.
    ///
    /// It ends by itself. Example: pbft-misbehaving client --config F --id 3 --misbehave reads --rate 300
    /// --seconds 5
    Client(ClientArguments),
}

/// What a replica does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum How {
    Lie(Strategy),
    Delay,
    Unfair,
    Flood,
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
    ///
    /// `delay`: as primary, send each PRE-PREPARE late; `unfair`: as primary, keep the requests of one client
    /// back; `flood`: send the other replicas what nobody needs.
    #[arg(long, value_name = "HOW", value_parser = how)]
    misbehave: How,
    /// For delay and unfair: how late, in milliseconds. Without it `unfair` drops the requests.
    #[arg(long, value_name = "MS")]
    delay_ms: Option<u64>,
    /// For delay: it begins with 10 ms and grows by a tenth every second.
    #[arg(long, conflicts_with = "delay_ms")]
    growing: bool,
    /// For unfair: the client.
    #[arg(long, value_name = "CLIENT")]
    victim: Option<u32>,
    /// For flood: what it sends.
    #[arg(long, value_name = "WHAT")]
    how: Option<flood::What>,
    /// For flood: messages a second to each other replica.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// For delay, unfair and flood: it does so while this file exists, and is correct otherwise.
    #[arg(long = "while", value_name = "FILE")]
    sign: Option<PathBuf>,
    /// What it chooses by. What it does depends on what it receives too, so a seed alone does not repeat a
    /// run.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    process: ProcessArguments,
}

/// The options of `pbft-misbehaving client`.
#[derive(clap::Args)]
struct ClientArguments {
    /// The configuration, with `allow_misbehaviour = true` above its first section.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which client, counted from 0.
    #[arg(long)]
    id: u32,
    /// What it sends.
    #[arg(long, value_name = "WHAT")]
    misbehave: client::What,
    /// How many a second to each replica; of `handshakes`, new sessions.
    #[arg(long, default_value_t = 100)]
    rate: u64,
    /// For how long.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    #[command(flatten)]
    process: ProcessArguments,
}

fn how(name: &str) -> Result<How, String> {
    let others = [("delay", How::Delay), ("unfair", How::Unfair), ("flood", How::Flood)];
    let other = others.iter().find(|(other, _)| *other == name).map(|&(_, how)| how);
    other.or_else(|| Strategy::named(name).map(How::Lie)).ok_or_else(|| {
        let names = Strategy::ALL.iter().map(|strategy| strategy.name());
        let names: Vec<&str> = names.chain(others.map(|(name, _)| name)).collect();
        format!("it is one of {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    output::watch_for_interrupts();
    let outcome = match Command::try_parse() {
        Ok(Command::Replica(arguments)) => run(&arguments),
        Ok(Command::Client(arguments)) => attack(&arguments),
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

/// Reads a configuration that allows it.
fn allowed(path: &Path) -> Result<Config, String> {
    let config = Config::read(path)?;
    if !config.file.allow_misbehaviour {
        return Err(format!(
            "{0} does not allow a replica to misbehave: if this cluster is for tests or demonstrations, write \
             `allow_misbehaviour = true` at the top of {0}",
            path.display()
        ));
    }
    Ok(config)
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let config = allowed(&arguments.config)?;
    let log = arguments.process.start_log()?;
    let id = ReplicaId(arguments.id);
    let outcome = match arguments.misbehave {
        How::Lie(strategy) => lie(&config, id, strategy, arguments, &log),
        _ => follow(&config, id, arguments, &log),
    };
    outcome.inspect_err(|why| log.last_words(why))
}

fn lie(
    config: &Config,
    id: ReplicaId,
    strategy: Strategy,
    arguments: &Arguments,
    log: &Log,
) -> Result<(), String> {
    let (how, seed) = (strategy.name(), arguments.seed);
    let mut impostor = Impostor::bind(config, id, strategy, seed)?;
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

/// What it is to do, as the options say.
fn conduct(arguments: &Arguments) -> Result<Conduct, String> {
    let by = arguments.delay_ms.map(Duration::from_millis);
    match arguments.misbehave {
        How::Delay if arguments.growing => Ok(Conduct::Growing),
        How::Delay => {
            by.map(Conduct::Delay).ok_or_else(|| "say how late: `--delay-ms 200` or `--growing`".into())
        }
        How::Unfair => match arguments.victim {
            Some(victim) => Ok(Conduct::Unfair(ClientId(victim), by)),
            None => Err("say which client: `--victim 0`".into()),
        },
        _ => match arguments.how {
            Some(what) => Ok(Conduct::Flood(Box::new(Flood::new(what)), arguments.rate)),
            None => Err("say what it sends: `--how status`".into()),
        },
    }
}

fn follow(config: &Config, id: ReplicaId, arguments: &Arguments, log: &Log) -> Result<(), String> {
    let mut follower = Follower::bind(config, id, conduct(arguments)?, arguments.sign.clone())?;
    let how = arguments.misbehave;
    tracing::warn!(replica = id.0, ?how, "THIS REPLICA MISBEHAVES ON PURPOSE and keeps no store");
    say!(
        "replica {} MISBEHAVES ON PURPOSE at {}; it needs and keeps no store",
        id.0,
        config.file.replicas[usize::from(id.0)].address
    );
    let told_to_stop = arguments.process.told_to_stop(log);
    while !told_to_stop() {
        follower.turn()?;
    }
    say!("replica {} has held back or sent without need {} messages", id.0, follower.misdeeds());
    Ok(())
}

fn attack(arguments: &ClientArguments) -> Result<(), String> {
    let config = allowed(&arguments.config)?;
    let log = arguments.process.start_log()?;
    let mut attacker = Attacker::open(&config, ClientId(arguments.id), arguments.misbehave)?;
    say!("client {} MISBEHAVES ON PURPOSE for {} s", arguments.id, arguments.seconds);
    let began = Instant::now();
    let mut pace = Pace::new(arguments.rate, began);
    let told_to_stop = arguments.process.told_to_stop(&log);
    while !told_to_stop() && began.elapsed() < Duration::from_secs(arguments.seconds) {
        attacker.turn(&mut pace)?;
    }
    say!("client {} has sent {} in {:.1} s", arguments.id, attacker.count(), began.elapsed().as_secs_f64());
    Ok(())
}
