//! The configuration of a cluster: one TOML file for replicas and clients alike.

pub mod address;
pub mod file;
pub mod genesis;
pub mod members;

use address::Address;
use file::File;

use pbft::client::ClientSetup;
use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, KeyRing, PublicKeys, Signature};
use pbft::parameters::Parameters;
use pbft::replica::Timeouts;
use pbft::replica::verify::Membership;
use pbft::replica::{Bundle, Setup};
use pbft::rules::Pbft;
use pbft::runtime::journal::{Header, Limits};
use pbft::runtime::sessions::HostKey;
use pbft::runtime::sessions::binding::{self, Binding};
use pbft::runtime::transport::{MAX_DATAGRAM_BYTES, MIN_DATAGRAM_BYTES};
use pbft::runtime::{Clients, Hosts, Patience};
use pbft::store::Identity;
use pbft::types::{ClientId, Cluster, Digest, Principal, ReplicaId};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The replica that `pbft replica` runs: ed25519, the key-value store, the paper's rules.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Served;

impl Bundle for Served {
    type Crypto = Ed25519;
    type Service = pbft::kv::KeyValue;
    type Rules = Pbft;
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// As it was written.
    pub file: File,
    /// Where relative paths begin.
    pub directory: PathBuf,
    pub cluster: Cluster,
    pub parameters: Parameters,
    /// As the file says it, bound to the state that the cluster begins with if that is not the empty one.
    pub domain: Digest,
    public: BTreeMap<Principal, [u8; 32]>,
    /// The same, when they have been read as keys.
    public_keys: OnceLock<PublicKeys>,
}

fn key(hex_digits: &str) -> Option<[u8; 32]> {
    hex::decode(hex_digits.trim()).ok()?.try_into().ok()
}

/// Which key, and of whom, is at this byte of the file: `address of replica 2: `. Nothing if there is no key
/// on the line.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let begin = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[begin..].lines().next().unwrap_or_default();
    let Some((key, _)) = line.split_once('=').filter(|(key, _)| !key.trim_start().starts_with(['[', '#']))
    else {
        return String::new();
    };
    let section = before.lines().rev().map(str::trim).find(|line| line.starts_with('['));
    let count = |header: &str| before.lines().filter(|line| line.trim() == header).count().saturating_sub(1);
    let whose = match section {
        Some(header @ "[[replica]]") => format!(" of replica {}", count(header)),
        Some(header @ "[[client]]") => format!(" of client {}", count(header)),
        Some(header) => format!(" in {header}"),
        None => String::new(),
    };
    format!("{}{whose}: ", key.trim())
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// One sentence that says what is wrong, where, and what to do.
    pub fn read(path: &Path) -> Result<Config, String> {
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| {
            format!("cannot read the configuration {shown}: {error}; `pbft keygen` makes one")
        })?;
        let file: File = toml::from_str(&text).map_err(|error| {
            let line =
                error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            let place = error.span().map(|span| place(&text, span.start)).unwrap_or_default();
            format!("{shown}, line {line}: {place}{}", error.message().replace('\n', " "))
        })?;
        let directory = path.parent().unwrap_or(Path::new("")).to_path_buf();
        Config::check(file, directory).map_err(|problem| format!("{shown}: {problem}"))
    }

    /// Checks what a file says.
    pub fn check(file: File, directory: PathBuf) -> Result<Config, String> {
        let n = u16::try_from(file.replicas.len())
            .map_err(|_| "there are more than 65535 [[replica]] entries")?;
        let cluster = Cluster::new(n, file.f);
        if n == 0 || !cluster.tolerates_f() {
            let least = 3 * u32::from(file.f) + 1;
            return Err(format!(
                "{n} [[replica]] entries are too few for f = {}: list at least {least}, or lower f",
                file.f
            ));
        }
        let domain = genesis::domain_of(&file)?;
        let given = &file.parameters;
        let parameters = Parameters {
            checkpoint_interval: given.checkpoint_interval,
            window: given.window,
            max_batch_requests: given.max_batch_requests,
            max_batch_bytes: given.max_batch_bytes,
            max_in_flight: given.max_in_flight,
        };
        parameters.check(&cluster).map_err(|problem| format!("in [parameters], {problem}"))?;
        let timeouts = [
            ("progress_timeout_ms", file.progress_timeout_ms),
            ("status_interval_ms", file.status_interval_ms),
            ("client_timeout_ms", file.client_timeout_ms),
        ];
        let patience = [
            ("expected_least_ms", file.expected_least_ms),
            ("expected_most_ms", file.expected_most_ms),
            ("lateness_budget_ms", file.lateness_budget_ms),
        ];
        let patience = patience.into_iter().filter_map(|(name, ms)| ms.map(|ms| (name, ms)));
        let timeouts: Vec<_> = timeouts.into_iter().chain(patience).collect();
        let most = file.expected_most_ms.unwrap_or(4 * file.progress_timeout_ms);
        if file.expected_least_ms.is_some_and(|least| least > most) {
            return Err(format!("expected_least_ms must be at most {most}, the most that is expected"));
        }
        if let Some((name, _)) = timeouts.iter().find(|(_, ms)| !(10..=600_000).contains(ms)) {
            return Err(format!("{name} must be between 10 and 600000"));
        }
        if !(1..=4096).contains(&file.journal_segment_mb) {
            return Err("journal_segment_mb must be between 1 and 4096".into());
        }
        if !(2 * file.journal_segment_mb..=1 << 20).contains(&file.journal_keep_mb) {
            return Err(
                "journal_keep_mb must be at least twice journal_segment_mb, and at most 1048576".into()
            );
        }
        if !(1..=256).contains(&file.workers) {
            return Err("workers must be between 1 and 256".into());
        }
        if !(MIN_DATAGRAM_BYTES..=MAX_DATAGRAM_BYTES).contains(&file.datagram_bytes) {
            return Err(format!(
                "datagram_bytes must be between {MIN_DATAGRAM_BYTES} and {MAX_DATAGRAM_BYTES}"
            ));
        }
        let mut public = BTreeMap::new();
        for (i, entry) in file.replicas.iter().enumerate() {
            let bytes = key(&entry.public_key);
            let bytes = bytes.ok_or_else(|| format!("public_key of replica {i} must be 64 hex digits"))?;
            public.insert(Principal::Replica(ReplicaId(i as u16)), bytes);
            let numeric =
                file.replicas[..i].iter().enumerate().filter_map(|(j, e)| Some((j, e.address.numeric()?)));
            if let Some(address) = entry.address.numeric()
                && let Some((j, _)) =
                    numeric.into_iter().find(|(_, other)| other.is_ipv4() != address.is_ipv4())
            {
                return Err(format!("replicas {j} and {i} must both have IPv4 addresses, or both IPv6"));
            }
            if entry.address.port() == 0 {
                return Err(format!("the address of replica {i} needs a port other than 0"));
            }
            if let Some(listen) = entry.listen.filter(|listen| listen.port() == 0) {
                return Err(format!("listen of replica {i} is {listen}, and needs a port other than 0"));
            }
            if let Some(j) = file.replicas[..i].iter().position(|other| other.address == entry.address) {
                return Err(format!(
                    "replicas {j} and {i} have the same address {}: give each its own",
                    entry.address
                ));
            }
            let reachable = entry.metrics.is_some_and(|address| !address.ip().is_loopback());
            if reachable && !entry.metrics_public {
                return Err(format!(
                    "metrics of replica {i} must be a loopback address, such as 127.0.0.1:9100, unless the entry also \
                     says metrics_public = true, which lets everybody who reaches it read them"
                ));
            }
        }
        for (i, entry) in file.clients.iter().enumerate() {
            let bytes = key(&entry.public_key);
            let bytes = bytes.ok_or_else(|| format!("public_key of client {i} must be 64 hex digits"))?;
            public.insert(Principal::Client(ClientId(i as u32)), bytes);
        }
        let mut seen = BTreeMap::new();
        for (who, bytes) in &public {
            if let Some(other) = seen.insert(bytes, who) {
                return Err(format!("{other} and {who} have the same public_key: give each its own"));
            }
        }
        Ok(Config { file, directory, cluster, parameters, domain, public, public_keys: OnceLock::new() })
    }

    /// Which host speaks for whom, as replicas have signed it, and these clients.
    ///
    /// # Errors
    /// One sentence that says whose statement is wrong.
    pub fn hosts(
        &self,
        keys: &KeyRing,
        clients: impl IntoIterator<Item = ClientId>,
    ) -> Result<Hosts, String> {
        let entry = |who: Principal| match who {
            Principal::Replica(id) => {
                let entry = &self.file.replicas[usize::from(id.0)];
                (&entry.host_key, &entry.host_signature)
            }
            Principal::Client(id) => {
                let entry = &self.file.clients[id.0 as usize];
                (&entry.host_key, &entry.host_signature)
            }
        };
        let host = |who: Principal| {
            key(entry(who).0).ok_or_else(|| {
                format!("host_key of {who} must be 64 hex digits, as `pbft keygen` writes them")
            })
        };
        let listed = u32::try_from(self.file.clients.len()).unwrap_or(u32::MAX);
        let members = Membership { cluster: &self.cluster, clients: listed, keys, rules: &Pbft };
        let replicas: Vec<_> = self.cluster.replicas().map(Principal::Replica).collect();
        for who in replicas.iter().copied().chain(clients.into_iter().map(Principal::Client)) {
            let signature = hex::decode(entry(who).1.trim()).ok().and_then(|bytes| bytes.try_into().ok());
            let signature = Signature(signature.ok_or_else(|| {
                format!("host_signature of {who} must be 128 hex digits, as `pbft keygen` writes them")
            })?);
            let content = Binding { owner: who, host: host(who)? };
            binding::verify::<Ed25519, Pbft>(&members, &Signed { content, signer: who, signature }).map_err(
                |_| {
                    let genesis = self.file.genesis.as_ref().map_or("", |_| ", and [genesis] as it was then");
                    format!("{who} has not signed its host_key: take both from where it was made{genesis}")
                },
            )?;
        }
        let hosts = replicas.into_iter().map(host).collect::<Result<Vec<_>, _>>()?;
        let replicas = self.addresses()?.into_iter().zip(hosts);
        let clients =
            (0..listed).map(|id| host(Principal::Client(ClientId(id)))).collect::<Result<Vec<_>, _>>()?;
        let observers = self.observers(keys)?;
        Ok(Hosts::new(self.domain, replicas.collect(), &clients).with_observers(&observers))
    }

    /// The static key of the host that speaks for a replica, or for a client: its own, or that of another client
    /// whose secret key is here too.
    ///
    /// # Errors
    /// One sentence that says what is missing.
    pub fn host_key(&self, who: Principal) -> Result<HostKey, String> {
        let own = HostKey::of_identity(&self.secret(who)?);
        let Principal::Client(id) = who else { return Ok(own) };
        let listed = |id: ClientId| self.file.clients.get(id.0 as usize).map(|entry| entry.host_key.clone());
        let wanted = listed(id).unwrap_or_default();
        let fits = |key: &HostKey| hex::encode(key.public()) == wanted;
        if fits(&own) {
            return Ok(own);
        }
        let all = (0..self.file.clients.len()).filter_map(|id| u32::try_from(id).ok()).map(ClientId);
        let sharing = all.filter(|&other| listed(other).as_deref() == Some(&wanted));
        let keys = sharing.filter_map(|other| self.secret(Principal::Client(other)).ok());
        let mut keys = keys.map(|secret| HostKey::of_identity(&secret));
        keys.find(fits).ok_or_else(|| {
            format!("the host that speaks for {who} is another one: run it there, or bind {who} to a host of its own")
        })
    }

    /// Opens a socket for these clients, for all of whom one host speaks.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn open(
        &self,
        ids: &[ClientId],
        timeout: Duration,
        datagram_bytes: usize,
    ) -> Result<Clients<Ed25519, Pbft>, String> {
        let setups = ids.iter().map(|&id| self.client_setup(id)).collect::<Result<Vec<_>, _>>()?;
        let first = setups.first().ok_or("somebody must ask")?;
        let hosts = self.hosts(&first.keys, ids.iter().copied())?;
        let key = self.host_key(Principal::Client(first.id))?;
        Clients::open(&hosts, key, setups, timeout, datagram_bytes)
            .map_err(|error| format!("cannot open a socket: {error}"))
    }

    /// The addresses of the replicas, those that are names as they resolve now.
    ///
    /// # Errors
    /// One sentence that says whose does not.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        let all: Vec<&Address> = self.file.replicas.iter().map(|entry| &entry.address).collect();
        address::resolve(&all, address::look_up)
    }

    /// Where a replica listens. An address that is given by name need not be one of its machine, so then that
    /// is at every address.
    ///
    /// # Errors
    /// One sentence that says which name does not resolve.
    pub fn listen(&self, id: ReplicaId) -> Result<SocketAddr, String> {
        let entry = &self.file.replicas[usize::from(id.0)];
        match entry.listen.or(entry.address.numeric()) {
            Some(address) => Ok(address),
            None => Ok(address::unspecified(self.addresses()?[usize::from(id.0)])),
        }
    }

    /// How long the timers of a replica run.
    pub fn timeouts(&self) -> Timeouts {
        Timeouts {
            progress: Duration::from_millis(self.file.progress_timeout_ms),
            status: Duration::from_millis(self.file.status_interval_ms),
        }
    }

    /// How much time a primary may take.
    pub fn patience(&self) -> Patience {
        let given = |ms: Option<u64>, default| ms.map_or(default, Duration::from_millis);
        let usual = Patience::of(&self.timeouts());
        let (least, most) = usual.expected;
        Patience {
            expected: (given(self.file.expected_least_ms, least), given(self.file.expected_most_ms, most)),
            budget: given(self.file.lateness_budget_ms, usual.budget),
            checkpoints: self.file.turn_checkpoints,
        }
    }

    /// How long a client waits before it asks every replica.
    pub fn client_timeout(&self) -> Duration {
        Duration::from_millis(self.file.client_timeout_ms)
    }

    /// The directory of a replica's store.
    pub fn data(&self, id: ReplicaId) -> PathBuf {
        let named = self.file.replicas.get(usize::from(id.0)).and_then(|entry| entry.data.clone());
        self.directory.join(named.unwrap_or_else(|| format!("data/replica-{}", id.0).into()))
    }

    /// Where a replica's journal is, unless it is told otherwise.
    pub fn journal(&self, id: ReplicaId) -> PathBuf {
        self.directory.join(format!("journals/replica-{}.journal", id.0))
    }

    /// How long it becomes.
    pub fn journal_limits(&self) -> Limits {
        Limits {
            segment_bytes: self.file.journal_segment_mb << 20,
            keep_bytes: self.file.journal_keep_mb << 20,
        }
    }

    /// Whose a replica's journal is.
    pub fn journal_header(&self, id: ReplicaId) -> Header {
        Header {
            identity: self.identity(id),
            clients: u32::try_from(self.file.clients.len()).unwrap_or(u32::MAX),
        }
    }

    /// What a replica's store is known by.
    pub fn identity(&self, id: ReplicaId) -> Identity {
        Identity { domain: self.domain, replica: id, cluster: self.cluster, parameters: self.parameters }
    }

    /// Where the secret key of a replica or a client is.
    pub fn secret_path(&self, who: Principal) -> PathBuf {
        let (named, default) = match who {
            Principal::Replica(id) => (
                self.file.replicas.get(usize::from(id.0)).and_then(|entry| entry.secret_key.clone()),
                format!("keys/replica-{}.key", id.0),
            ),
            Principal::Client(id) => (
                self.file.clients.get(id.0 as usize).and_then(|entry| entry.secret_key.clone()),
                format!("keys/client-{}.key", id.0),
            ),
        };
        self.directory.join(named.unwrap_or_else(|| default.into()))
    }

    /// The secret key of a replica or a client.
    fn secret(&self, who: Principal) -> Result<[u8; 32], String> {
        self.secret_at(&self.secret_path(who))
    }

    fn secret_at(&self, path: &Path) -> Result<[u8; 32], String> {
        let shown = path.display();
        let problem =
            |error| format!("cannot read the secret key {shown}: {error}; `pbft keygen` makes keys");
        let mode = fs::metadata(path).map_err(problem)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(format!("others may read the secret key {shown}: run `chmod 600 {shown}`"));
        }
        let text = fs::read_to_string(path).map_err(problem)?;
        key(&text).ok_or_else(|| format!("{shown} must hold 64 hex digits, as `pbft keygen` writes"))
    }

    fn public_keys(&self) -> Result<PublicKeys, String> {
        if let Some(keys) = self.public_keys.get() {
            return Ok(keys.clone());
        }
        let keys = PublicKeys::new(&self.public).map_err(|error| error.to_string())?;
        Ok(self.public_keys.get_or_init(|| keys).clone())
    }

    /// The keys of a replica or a client.
    pub fn keys(&self, who: Principal) -> Result<KeyRing, String> {
        let secret = self.secret(who)?;
        KeyRing::among(self.domain, who, &secret, self.public_keys()?)
            .map_err(|error| format!("{}: {error}", self.secret_path(who).display()))
    }

    /// What a replica is set up with.
    pub fn setup(&self, id: ReplicaId) -> Result<Setup<Served>, String> {
        if !self.cluster.contains(id) {
            let last = self.cluster.n() - 1;
            return Err(format!(
                "there is no replica {}: the configuration lists replicas 0 to {last}",
                id.0
            ));
        }
        Ok(Setup {
            id,
            cluster: self.cluster,
            parameters: self.parameters,
            keys: Arc::new(self.keys(Principal::Replica(id))?),
            clients: u32::try_from(self.file.clients.len()).unwrap_or(u32::MAX),
            rules: Pbft,
            genesis: self.genesis()?,
        })
    }

    /// What a client is set up with.
    pub fn client_setup(&self, id: ClientId) -> Result<ClientSetup<Ed25519, Pbft>, String> {
        if id.0 as usize >= self.file.clients.len() {
            let count = self.file.clients.len();
            return Err(format!(
                "there is no client {}: the configuration lists {count}, counted from 0",
                id.0
            ));
        }
        let keys = Arc::new(self.keys(Principal::Client(id))?);
        Ok(ClientSetup { id, cluster: self.cluster, keys, rules: Pbft })
    }
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_mistake_is_placed_by_its_key_and_whose_it_is() {
        let text = "f = x\n[parameters]\nwindow = 1\n[[replica]]\naddress = 1\n\n[[replica]]\nlisten = 2\n[[client]]\nkey\n";
        let at = |what: &str| place(text, text.find(what).unwrap());
        assert_eq!(at("x"), "f: ");
        assert_eq!(at("1"), "window in [parameters]: ");
        assert_eq!(at("1\n\n"), "address of replica 0: ");
        assert_eq!(at("2"), "listen of replica 1: ");
        assert_eq!((at("key"), at("[[client]]")), (String::new(), String::new()));
        assert_eq!(place(text, 10_000), String::new());
    }
}
