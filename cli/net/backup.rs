//! `pbft backup`: the state at a stable checkpoint, with the proof that a quorum vouched for it.

use super::client::{Connection, claim};
use super::config::file::StoreKind;
use super::config::{Config, Served};
use crate::output::interrupted;
use crate::say;
use pbft::kv::{KeyValue, Operation};
use pbft::replica::Setup;
use pbft::runtime::backup::{Backup, BackupError, Vouched};
use pbft::runtime::store::{OpenError, View};
use pbft::types::{Bytes, ClientId, ReplicaId, Timestamp};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long an operation may take, and the checkpoint that is to cover it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait before the store is read again.
const PAUSE: Duration = Duration::from_millis(200);

/// The options of `pbft backup`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration of the cluster.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The replica whose store is read. It may be running; its secret key is not needed.
    #[arg(long, required_unless_present = "check")]
    id: Option<u16>,
    /// The file to write; it must not be there yet.
    #[arg(long, value_name = "BACKUP", required_unless_present = "check")]
    to: Option<PathBuf>,
    /// Have a checkpoint taken first that covers everything that was answered before this command: it asks,
    /// as a client, for operations that change nothing, one more than there are batches between two
    /// checkpoints.
    #[arg(long)]
    up_to_now: bool,
    /// Which client's key to use for that; the first that is not in use, if not given.
    #[arg(long, requires = "up_to_now")]
    client: Option<u32>,
    /// Check this backup, and write nothing: needs the configuration, and neither a store nor a secret key.
    #[arg(long, value_name = "BACKUP", conflicts_with_all = ["id", "to", "up_to_now", "client"])]
    check: Option<PathBuf>,
}

/// Writes a backup, or checks one.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let config = Config::read(&arguments.config)?;
    let mut setup = config.checker()?;
    if let Some(path) = &arguments.check {
        return check(&config, &setup, path);
    }
    let (Some(id), Some(to)) = (arguments.id.map(ReplicaId), &arguments.to) else {
        return Err("say which store to read with --id, and where to write with --to".into());
    };
    if !config.cluster.contains(id) {
        let last = config.cluster.n() - 1;
        return Err(format!("there is no replica {}: the configuration lists replicas 0 to {last}", id.0));
    }
    if config.file.store == StoreKind::Memory {
        return Err("store = \"memory\": these replicas have no stores to take a backup from".into());
    }
    if to.symlink_metadata().is_ok() {
        return Err(refused_name(to));
    }
    // A store whose last base is that of the beginning does not hold the state that it begins with.
    setup.genesis = config.genesis()?;
    let covered = if arguments.up_to_now { Some(advance(&config, arguments.client)?) } else { None };
    let begin = Instant::now();
    let (backup, vouched, executed) = loop {
        let found = take(&config, &setup, id)?;
        match found {
            Ok(found) if covered.is_none_or(|covered| covers(&found.1, covered)) => break found,
            Err(error) if covered.is_none() => return Ok(nothing(&error, id)),
            Err(error) if begin.elapsed() > PATIENCE => return Ok(nothing(&error, id)),
            Ok((_, vouched, _)) if begin.elapsed() > PATIENCE => {
                let n = vouched.n.0;
                eprintln!(
                    "pbft: the last stable checkpoint of replica {} is {n}, which is too old: it does not follow the \
                     others; `pbft status` tells why",
                    id.0
                );
                return Ok(ExitCode::from(3));
            }
            _ if interrupted() => return Ok(ExitCode::from(3)),
            _ => std::thread::sleep(PAUSE),
        }
    };
    backup.write(to).map_err(|error| match error {
        BackupError::Exists => refused_name(to),
        error => format!("cannot write {}: {error}", to.display()),
    })?;
    tell(to, &vouched);
    let behind = executed - vouched.n.0;
    let batches = if behind == 1 { "1 batch" } else { &format!("{behind} batches") };
    say!("{batches} behind the last that replica {} has made durable, {executed}", id.0);
    Ok(ExitCode::SUCCESS)
}

fn refused_name(path: &Path) -> String {
    format!("{} exists already: choose another name with --to", path.display())
}

/// A backup, what is in it, and the last batch that the store has executed.
type Found = (Backup, Vouched<KeyValue>, u64);

/// The newest state in the store of a replica, unless there is none now.
fn take(config: &Config, setup: &Setup<Served>, id: ReplicaId) -> Result<Result<Found, BackupError>, String> {
    let view = View::read(&config.data(id), &config.identity(id)).map_err(|error| match error {
        OpenError::Missing(_) => format!("{error}: run this on the machine of replica {}", id.0),
        OpenError::Foreign(_) => format!("{error}: check --config and --id"),
        OpenError::Io { .. } => format!("{error}: run this as the user who runs the replica"),
        error => format!("{error}: take the backup from another replica"),
    })?;
    let executed = view.durable.last_executed().0;
    match Backup::take(setup, &config.origin(), &view) {
        Ok((backup, vouched)) => Ok(Ok((backup, vouched, executed))),
        Err(error @ (BackupError::NoCheckpoint { .. } | BackupError::NoStateThere { .. })) => Ok(Err(error)),
        Err(error) => Err(format!(
            "the store of replica {} holds no state that a quorum has signed: {error}; take the backup from \
             another replica",
            id.0
        )),
    }
}

fn nothing(error: &BackupError, id: ReplicaId) -> ExitCode {
    let hint = match error {
        BackupError::NoCheckpoint { .. } => "--up-to-now has one taken",
        _ => "wait until the replica has fetched it, or take another replica",
    };
    eprintln!("pbft: nothing to back up in the store of replica {}: {error}; {hint}", id.0);
    ExitCode::from(3)
}

/// Asks for operations that change nothing until a checkpoint must follow the first of them, and returns what
/// a state that covers it shows: this client has been answered up to this timestamp.
///
/// The first is ordered after everything that was answered before, and one sequence number of as many as
/// there are between two checkpoints is a checkpoint's.
fn advance(config: &Config, client: Option<u32>) -> Result<(ClientId, Timestamp), String> {
    let (id, kept) = claim(config, client)?;
    let mut connection = Connection::open(config, id, kept)?;
    let mut first = None;
    for _ in 0..=config.parameters.checkpoint_interval {
        // Absent if it was absent, and else not as expected.
        let nothing = Operation::CompareAndSwap { key: Bytes::default(), expected: None, new: None };
        if connection.invoke(nothing, PATIENCE)?.is_none() {
            return Err(
                "the cluster does not answer, which --up-to-now needs: `pbft status` tells why".into()
            );
        }
        first.get_or_insert(connection.last_timestamp());
    }
    first.map(|first| (id, first)).ok_or_else(|| "a checkpoint follows no batch at all".into())
}

fn covers(vouched: &Vouched<KeyValue>, (client, timestamp): (ClientId, Timestamp)) -> bool {
    vouched.clients.last_timestamp(client) >= timestamp
}

fn check(config: &Config, setup: &Setup<Served>, path: &Path) -> Result<ExitCode, String> {
    let outcome = Backup::read(path).and_then(|backup| backup.check(setup, &config.origin()));
    match outcome {
        Ok(vouched) => {
            tell(path, &vouched);
            Ok(ExitCode::SUCCESS)
        }
        Err(BackupError::Io(error)) => Err(format!("cannot read {}: {error}", path.display())),
        Err(error) => {
            eprintln!("pbft: {} is refused: {error}", path.display());
            Ok(ExitCode::from(1))
        }
    }
}

fn tell(path: &Path, vouched: &Vouched<KeyValue>) {
    let signers: Vec<String> = vouched.signers.iter().map(|replica| replica.0.to_string()).collect();
    let keys = vouched.service.keys().count();
    say!(
        "{}: {keys} keys at checkpoint {}, signed by replicas {}",
        path.display(),
        vouched.n.0,
        signers.join(", ")
    );
    say!("state {}", hex::encode(vouched.service_digest().0));
}
