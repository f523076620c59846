//! `pbft restore`: a new cluster that begins with the state in a backup.

use super::config::Config;
use super::config::file::{File, GenesisEntry};
use super::keygen::{self, config_path, make};
use crate::say;
use pbft::runtime::backup::{Backup, genesis};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// The name of the file with the state, beside the configuration.
const STATE: &str = "genesis.state";

/// The options of `pbft restore`.
#[derive(clap::Args)]
// Those of `pbft keygen` make a group of this name already.
#[group(skip)]
pub struct Arguments {
    /// The backup, as `pbft backup` writes it.
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
    /// The configuration of the cluster that it is of: by its keys the backup is checked.
    #[arg(long, value_name = "FILE")]
    source: PathBuf,
    #[command(flatten)]
    new: keygen::Arguments,
}

/// Checks the backup and makes the files of the new cluster.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let source = Config::read(&arguments.source)?;
    let shown = arguments.from.display();
    let backup = Backup::read(&arguments.from).map_err(|error| format!("cannot restore {shown}: {error}"))?;
    let vouched = backup.check(&source.checker()?, &source.origin()).map_err(|error| {
        format!(
            "cannot restore {shown}: {error}; --source must be the configuration of the cluster that it is of"
        )
    })?;
    let (directory, digest) = (&arguments.new.dir, hex::encode(vouched.service_digest().0));
    let path = config_path(directory);
    if path.exists() {
        return Err(format!("{} exists already: choose another --dir", path.display()));
    }
    fs::create_dir_all(directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    let state = directory.join(STATE);
    genesis::write(&state, &vouched.service)
        .map_err(|error| format!("cannot write {}: {error}; choose another --dir", state.display()))?;
    let made = make(&arguments.new, |file| {
        take_over(file, &source.file);
        file.genesis = Some(GenesisEntry { file: STATE.into(), digest: digest.clone() });
    });
    let config = made.inspect_err(|_| {
        // It is ours, and without a configuration it is nothing.
        let _ = fs::remove_file(&state);
    })?;
    say!(
        "{} replicas, {} clients begin with {} keys, the state at checkpoint {}: {}",
        config.cluster.n(),
        config.file.clients.len(),
        vouched.service.keys().count(),
        vouched.n.0,
        path.display()
    );
    say!("state {digest}");
    say!(
        "next, on the machine of each replica, with {STATE} too: pbft replica --config {} --id 0",
        path.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Everything that does not depend on who takes part.
fn take_over(file: &mut File, source: &File) {
    let File { domain, f, replicas, clients, .. } = std::mem::replace(file, source.clone());
    (file.domain, file.f, file.replicas, file.clients) = (domain, f, replicas, clients);
    file.allow_misbehaviour = false;
}
