//! `pbft keygen`: keys for replicas and clients, a configuration, and empty stores.

use super::config::{ClientEntry, Config, File, FileParameters, ReplicaEntry, Served, StoreKind};
use crate::say;
use pbft::crypto::ed25519::KeyRing;
use pbft::replica::Bundle;
use pbft::runtime::store::{OpenError, Store};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The options of `pbft keygen`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where to put `cluster.toml`, the keys and the stores.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    size: Size,
    /// The address of the replicas; edit `cluster.toml` to spread them over machines.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port of replica 0; the others follow.
    #[arg(long, default_value_t = 7600)]
    port: u16,
}

/// How many replicas and clients there are.
#[derive(Clone, Copy, clap::Args)]
pub struct Size {
    /// The number of replicas.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub replicas: u16,
    /// The number of Byzantine replicas tolerated; as many as the replicas allow, if not given.
    #[arg(long)]
    pub f: Option<u16>,
    /// The number of clients.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub clients: u32,
}

/// Makes a cluster's files.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let last = u32::from(arguments.port) + u32::from(arguments.size.replicas) - 1;
    if arguments.port == 0 || last > u32::from(u16::MAX) {
        return Err("the ports of the replicas must lie between 1 and 65535: choose another --port".into());
    }
    let addresses: Vec<SocketAddr> =
        (0..arguments.size.replicas).map(|i| SocketAddr::new(arguments.host, arguments.port + i)).collect();
    let file = blank(arguments.size, &addresses);
    let config = generate(&arguments.dir, file)?;
    say!(
        "{} replicas, {} clients: {}",
        config.cluster.n(),
        config.file.clients.len(),
        config_path(&arguments.dir).display()
    );
    say!(
        "next, on the machine of each replica: pbft replica --config {} --id 0",
        config_path(&arguments.dir).display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Where the configuration in a directory is.
pub fn config_path(directory: &Path) -> PathBuf {
    directory.join("cluster.toml")
}

/// A configuration without keys.
pub fn blank(size: Size, addresses: &[SocketAddr]) -> File {
    let replica = |&address| ReplicaEntry {
        address,
        listen: None,
        public_key: String::new(),
        secret_key: None,
        data: None,
        metrics: None,
    };
    let client = || ClientEntry { public_key: String::new(), secret_key: None };
    File {
        domain: String::new(),
        f: size.f.unwrap_or((size.replicas - 1) / 3),
        store: StoreKind::Disk,
        journal: false,
        workers: 1,
        datagram_bytes: 1400,
        progress_timeout_ms: 500,
        status_interval_ms: 100,
        client_timeout_ms: 100,
        allow_misbehaviour: false,
        parameters: FileParameters::default(),
        replicas: addresses.iter().map(replica).collect(),
        clients: (0..size.clients).map(|_| client()).collect(),
    }
}

/// Fills in keys and writes everything: the configuration last.
pub fn generate(directory: &Path, mut file: File) -> Result<Config, String> {
    let path = config_path(directory);
    if path.exists() {
        return Err(format!(
            "{} exists already: choose another directory, or use it as it is",
            path.display()
        ));
    }
    let at = |path: &Path| {
        let shown = path.display().to_string();
        move |error: std::io::Error| format!("cannot write {shown}: {error}")
    };
    fs::create_dir_all(directory).map_err(at(directory))?;
    let keys = directory.join("keys");
    if !keys.exists() {
        fs::DirBuilder::new().mode(0o700).create(&keys).map_err(at(&keys))?;
    }
    let random = || -> Result<[u8; 32], String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)
            .map_err(|error| format!("the machine gives no random numbers: {error}"))?;
        Ok(bytes)
    };
    file.domain = hex::encode(random()?);
    let new_key = |name: String| -> Result<String, String> {
        let path = keys.join(name);
        let secret = random()?;
        let mut output =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(at(&path))?;
        writeln!(output, "{}", hex::encode(secret)).map_err(at(&path))?;
        Ok(hex::encode(KeyRing::public_key(&secret)))
    };
    for (i, entry) in file.replicas.iter_mut().enumerate() {
        entry.public_key = new_key(format!("replica-{i}.key"))?;
    }
    for (i, entry) in file.clients.iter_mut().enumerate() {
        entry.public_key = new_key(format!("client-{i}.key"))?;
    }
    let text = toml::to_string(&file).map_err(|error| error.to_string())?;
    let config = Config::check(file, directory.to_path_buf())?;
    for id in config.cluster.replicas() {
        create_store(&config, id)?;
    }
    fs::write(&path, text).map_err(at(&path))?;
    Ok(config)
}

/// An empty store for a replica that has never run.
pub fn create_store(config: &Config, id: pbft::types::ReplicaId) -> Result<(), String> {
    if config.file.store == StoreKind::Memory {
        return Ok(());
    }
    Store::<<Served as Bundle>::Crypto>::create(&config.data(id), &config.identity(id)).map_err(|error| {
        match error {
            OpenError::Exists(_) => {
                format!("{error}: leave out --init or --replacement, or move it away if it is damaged")
            }
            OpenError::InUse(_) => {
                format!("{error}: replica {} runs already, and one process may use a store", id.0)
            }
            other => other.to_string(),
        }
    })
}
