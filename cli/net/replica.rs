//! `pbft replica`: one replica, until it is told to stop.

use super::config::file::StoreKind;
use super::config::{Config, Served};
use super::judge::Judge;
use super::process::{Log, ProcessArguments};
use super::{first_start, keygen, metrics};
use crate::say;
use pbft::replica::{Bundle, Setup};
use pbft::runtime::journal::{Journal, JournalError};
use pbft::runtime::store::{OpenError, Store};
use pbft::runtime::{Host, Options, StartError, Witness};
use pbft::types::{ClientId, Principal, ReplicaId};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// The options of `pbft replica`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration, as `pbft keygen` or `pbft cluster` writes it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which replica, counted from 0.
    #[arg(long)]
    id: u16,
    /// Make the store: for a replica that has never run before. Refused if one of the others says that the
    /// cluster has run already.
    #[arg(long, conflicts_with = "replacement")]
    init: bool,
    /// With --init, do not ask the others: for a replica that certainly has never run, though they have.
    #[arg(long, requires = "init")]
    force: bool,
    /// Make a new store for a replica that has run before and lost its own. It has forgotten what it
    /// promised, so it counts as one of the f faulty replicas until that is over, which docs/RUNNING.md says
    /// how to see; it fetches the state from the others.
    #[arg(long)]
    replacement: bool,
    /// Write everything this replica is given and asks for to files in this directory, for `pbft audit`: with
    /// `journal = true` in the configuration that is journals/replica-N.journal beside it. Restarts append to
    /// it, and journal_keep_mb says how much of it is kept.
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Hold each step to the protocol that is proved for all sizes, count, and log the first step that is none of
    /// it. That decides nothing, and keeps a second copy of the state.
    #[arg(long)]
    judge: bool,
    #[command(flatten)]
    process: ProcessArguments,
    /// Nothing that this program does: known only to say which one does it.
    #[arg(long, hide = true, value_name = "HOW")]
    misbehave: Option<String>,
}

/// Runs a replica.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    if let Some(how) = &arguments.misbehave {
        return Err(format!(
            "this program does not misbehave: run `cargo run --release --bin pbft-misbehaving -- replica --config {} \
             --id {} --misbehave {how}`",
            arguments.config.display(),
            arguments.id
        ));
    }
    let log = arguments.process.start_log()?;
    serve(arguments, &log).inspect_err(|why| log.last_words(why))
}

fn serve(arguments: &Arguments, log: &Log) -> Result<ExitCode, String> {
    let config = Config::read(&arguments.config)?;
    let id = ReplicaId(arguments.id);
    let setup = config.setup(id)?;
    if config.file.allow_misbehaviour {
        tracing::warn!("allow_misbehaviour is set: replicas of this cluster may misbehave on purpose");
    }
    let entry = &config.file.replicas[usize::from(id.0)];
    let on_disk = config.file.store == StoreKind::Disk;
    let default = config.file.journal.then(|| config.journal(id));
    let journal = arguments.journal.clone().or(default);
    let journal = journal.map(|path| {
        Journal::new(path, config.journal_header(id), config.journal_limits(), arguments.replacement)
    });
    let mut witness = journal.map(|journal| Box::new(journal) as Box<dyn Witness<Served>>);
    if arguments.judge {
        witness = Some(Box::new(Judge::new(setup.clone(), witness)));
    }
    let options = Options::<Served> {
        listen: config.listen(id)?,
        hosts: config.hosts(&setup.keys, (0..setup.clients).map(ClientId))?,
        host_key: config.host_key(Principal::Replica(id))?,
        domain: config.domain,
        membership: Some(config.membership()),
        timeouts: config.timeouts(),
        patience: config.patience(),
        store: on_disk.then(|| config.data(id)),
        workers: config.file.workers,
        datagram_bytes: config.file.datagram_bytes,
        witness,
    };
    if arguments.init || arguments.replacement {
        create_store(arguments, &config, &setup, &options)?;
    }
    let host = Host::start(setup, options).map_err(|error| explain(error, &config, id))?;
    let host = Arc::new(host);
    if let Some(address) = entry.metrics {
        metrics::serve(address, id, config.cluster, host.clone())?;
    }
    tracing::info!(replica = id.0, address = %entry.address, "replica runs");
    say!("replica {} runs at {}", id.0, entry.address);
    let told_to_stop = arguments.process.told_to_stop(log);
    while !told_to_stop() && !host.is_stopped() {
        std::thread::sleep(Duration::from_millis(20));
    }
    match host.stop() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => Err(format!(
            "replica {} has stopped: {why}; nothing it promised is lost: see to the machine and start it again",
            id.0
        )),
    }
}

/// Makes the store of a replica that can listen where it is to: one that cannot must not leave an empty store
/// behind, with which it could be started the next time as if it had never run. And none for a replica that
/// is to start as if it had never run if the others have.
fn create_store(
    arguments: &Arguments,
    config: &Config,
    setup: &Setup<Served>,
    options: &Options<Served>,
) -> Result<(), String> {
    let id = setup.id;
    // A store that is there is the better reason to refuse: its replica may be the one that listens.
    let in_memory = config.file.store == StoreKind::Memory;
    if in_memory || Store::<<Served as Bundle>::Crypto>::exists(&config.data(id)).unwrap_or(true) {
        return keygen::create_store(config, id);
    }
    if arguments.replacement || arguments.force {
        UdpSocket::bind(options.listen)
            .map_err(|error| explain(StartError::Bind(options.listen, error), config, id))?;
        return keygen::create_store(config, id);
    }
    let heard = first_start::hear(config, setup, options).map_err(|error| explain(error, config, id))?;
    if let Some(objection) = first_start::objection(id, &heard) {
        return Err(objection);
    }
    let needed = config.cluster.f() + 1;
    if heard.len() < needed {
        tracing::warn!(
            heard = heard.len(),
            needed,
            "too few of the others run to know whether this cluster has run before; --init takes it that it has not"
        );
    }
    keygen::create_store(config, id)
}

/// What to do about a replica that does not start.
fn explain(error: StartError, config: &Config, id: ReplicaId) -> String {
    let directory = config.data(id);
    let shown = directory.display();
    match error {
        StartError::Store(OpenError::Missing(_)) => format!(
            "there is no store in {shown}: if replica {0} has never run, add --init; if it has, it has forgotten what \
             it promised, and --replacement lets it rejoin as one of the f faulty replicas",
            id.0
        ),
        StartError::Store(error @ OpenError::Damaged { .. }) => format!(
            "{error}; replica {0} must not go on from it: move {shown} away and run it with --replacement, which uses \
             up one of the f faults for a while (docs/RUNNING.md)",
            id.0
        ),
        StartError::Restore(error) => format!(
            "the store in {shown} is damaged: {error}; replica {0} must not go on from it: move {shown} away and run \
             it with --replacement, which uses up one of the f faults for a while (docs/RUNNING.md)",
            id.0
        ),
        StartError::Store(error @ OpenError::Foreign(_)) => {
            format!(
                "{error}: check --config and --id; [parameters], f and the number of replicas are part of a store, and cannot \
                 change any more"
            )
        }
        StartError::Store(error @ OpenError::InUse(_)) => {
            format!("{error}: replica {} runs already, and one process may use a store", id.0)
        }
        StartError::Store(error @ OpenError::Io { .. }) => {
            format!("{error}: make the directory writable and see that the disk has room")
        }
        StartError::Bind(address, error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            format!(
                "cannot listen at {address}: this machine has no such address; give `listen` in the configuration"
            )
        }
        StartError::Bind(address, error) => {
            format!("cannot listen at {address}: {error}; stop what uses it, or change the configuration")
        }
        StartError::Io(error) if error.get_ref().is_some_and(|error| error.is::<JournalError>()) => {
            format!("{error}: move it away or see to it, or name another file with --journal")
        }
        other => other.to_string(),
    }
}
