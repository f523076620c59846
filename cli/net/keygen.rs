//! `pbft keygen`: keys for replicas and clients, a configuration, and empty stores.

use super::config::address::Address;
use super::config::file::{
    ClientEntry, File, FileParameters, ObserverEntry, ReplicaEntry, StoreKind, default_journal_keep_mb,
    default_journal_segment_mb,
};
use super::config::{Config, Served, genesis};
use crate::say;
use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::replica::Bundle;
use pbft::runtime::sessions::HostKey;
use pbft::runtime::sessions::binding::{Admission, Binding};
use pbft::runtime::store::{OpenError, Store};
use pbft::types::{ClientId, Digest, Principal, ReplicaId};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The options of `pbft keygen`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Where to put `cluster.toml`, the keys and the stores.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    #[command(flatten)]
    size: Size,
    /// The address of the replicas, or the name that has it; edit `cluster.toml` to spread them over
    /// machines.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: String,
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
    /// How many of them, one after the other, share a host: one socket asks for all of these.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub clients_per_host: u32,
    /// The number of observers: keys with which `pbft status` asks, and nothing else can be done.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1024))]
    pub observers: u32,
}

/// Makes a cluster's files.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let config = make(arguments, |_| {})?;
    let path = config_path(&arguments.dir);
    let (clients, observers) = (config.file.clients.len(), config.file.observers.len());
    say!("{} replicas, {clients} clients, {observers} observers: {}", config.cluster.n(), path.display());
    say!("next, on the machine of each replica: pbft replica --config {} --id 0", path.display());
    Ok(ExitCode::SUCCESS)
}

/// The files of a cluster whose configuration `edit` may change before its keys are made.
pub fn make(arguments: &Arguments, edit: impl FnOnce(&mut File)) -> Result<Config, String> {
    let last = u32::from(arguments.port) + u32::from(arguments.size.replicas) - 1;
    if arguments.port == 0 || last > u32::from(u16::MAX) {
        return Err("the ports of the replicas must lie between 1 and 65535: choose another --port".into());
    }
    let address = |i| Address::new(&arguments.host, arguments.port + i);
    let addresses = (0..arguments.size.replicas).map(address).collect::<Result<Vec<_>, _>>()?;
    let mut file = blank(arguments.size, addresses);
    edit(&mut file);
    generate(&arguments.dir, file, arguments.size.clients_per_host)
}

/// Where the configuration in a directory is.
pub fn config_path(directory: &Path) -> PathBuf {
    directory.join("cluster.toml")
}

/// A configuration without keys.
pub fn blank(size: Size, addresses: impl IntoIterator<Item = impl Into<Address>>) -> File {
    let replica = |address: Address| ReplicaEntry {
        address,
        listen: None,
        public_key: String::new(),
        host_key: String::new(),
        host_signature: String::new(),
        secret_key: None,
        data: None,
        metrics: None,
        metrics_public: false,
    };
    let client = || ClientEntry {
        public_key: String::new(),
        host_key: String::new(),
        host_signature: String::new(),
        secret_key: None,
    };
    let observer = || ObserverEntry {
        host_key: String::new(),
        admitted_by: 0,
        admission: String::new(),
        secret_key: None,
    };
    File {
        domain: String::new(),
        f: size.f.unwrap_or((size.replicas - 1) / 3),
        store: StoreKind::Disk,
        journal: false,
        journal_segment_mb: default_journal_segment_mb(),
        journal_keep_mb: default_journal_keep_mb(),
        workers: 1,
        datagram_bytes: 1400,
        progress_timeout_ms: 500,
        expected_least_ms: None,
        expected_most_ms: None,
        lateness_budget_ms: None,
        turn_checkpoints: 0,
        status_interval_ms: 100,
        client_timeout_ms: 100,
        allow_misbehaviour: false,
        parameters: FileParameters::default(),
        genesis: None,
        replicas: addresses.into_iter().map(Into::into).map(replica).collect(),
        clients: (0..size.clients).map(|_| client()).collect(),
        observers: (0..size.observers).map(|_| observer()).collect(),
    }
}

/// Fills in keys and writes everything: the configuration last. So many clients share the host of the first of
/// them.
pub fn generate(directory: &Path, mut file: File, clients_per_host: u32) -> Result<Config, String> {
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
    let domain = genesis::domain_of(&file)?;
    let new_key = |name: String| -> Result<[u8; 32], String> {
        let path = keys.join(name);
        let secret = random()?;
        let mut output =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(at(&path))?;
        writeln!(output, "{}", hex::encode(secret)).map_err(at(&path))?;
        Ok(secret)
    };
    let mut admits = None;
    for (i, entry) in file.replicas.iter_mut().enumerate() {
        let secret = new_key(format!("replica-{i}.key"))?;
        admits.get_or_insert(secret);
        let owner = Principal::Replica(ReplicaId(i as u16));
        let host = HostKey::of_identity(&secret);
        (entry.public_key, entry.host_key, entry.host_signature) = bound(domain, owner, &secret, &host)?;
    }
    let mut shared = None;
    for (i, entry) in file.clients.iter_mut().enumerate() {
        let secret = new_key(format!("client-{i}.key"))?;
        let owner = Principal::Client(ClientId(i as u32));
        if (i as u32).is_multiple_of(clients_per_host) {
            shared = Some(HostKey::of_identity(&secret));
        }
        let host = shared.as_ref().expect("the first of them has one");
        (entry.public_key, entry.host_key, entry.host_signature) = bound(domain, owner, &secret, host)?;
    }
    for (i, entry) in file.observers.iter_mut().enumerate() {
        let host = HostKey::of_identity(&new_key(format!("observer-{i}.key"))?);
        let by = admits.as_ref().expect("there is a replica 0");
        (entry.host_key, entry.admission) = admitted(domain, by, &host)?;
    }
    let text = toml::to_string(&file).map_err(|error| error.to_string())?;
    let config = Config::check(file, directory.to_path_buf())?;
    for id in config.cluster.replicas() {
        create_store(&config, id)?;
    }
    fs::write(&path, text).map_err(at(&path))?;
    Ok(config)
}

/// The public key of whoever has this secret one, the key of the host that speaks for it, and its signature that
/// says so, in hex.
fn bound(
    domain: Digest,
    owner: Principal,
    secret: &[u8; 32],
    host: &HostKey,
) -> Result<(String, String, String), String> {
    let public = KeyRing::public_key(secret);
    let keys = ring(domain, owner, secret)?;
    let signed = Signed::<_, Ed25519>::new(Binding { owner, host: host.public() }, &keys);
    Ok((hex::encode(public), hex::encode(host.public()), hex::encode(signed.signature.0)))
}

/// The key of an observer's host, and the signature with which replica 0 admits it, in hex.
fn admitted(domain: Digest, secret: &[u8; 32], host: &HostKey) -> Result<(String, String), String> {
    let keys = ring(domain, Principal::Replica(ReplicaId(0)), secret)?;
    let signed = Signed::<_, Ed25519>::new(Admission { host: host.public() }, &keys);
    Ok((hex::encode(host.public()), hex::encode(signed.signature.0)))
}

/// A ring with one key.
fn ring(domain: Digest, owner: Principal, secret: &[u8; 32]) -> Result<KeyRing, String> {
    KeyRing::new(domain, owner, secret, &[(owner, KeyRing::public_key(secret))].into())
        .map_err(|error| format!("a key was made that is none: {error}"))
}

/// An empty store for a replica that has never run.
pub fn create_store(config: &Config, id: ReplicaId) -> Result<(), String> {
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
