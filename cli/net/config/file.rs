//! The configuration file, as it is written.

use super::address::Address;
use pbft::parameters::Parameters;
use pbft::runtime::journal::Limits;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The file, as it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// 32 random bytes in hex: a signature for one cluster is worth nothing in another.
    pub domain: String,
    /// The number of Byzantine replicas tolerated.
    pub f: u16,
    /// `disk`, or `memory` for benchmarks: then nothing survives the process.
    #[serde(default)]
    pub store: StoreKind,
    /// Whether each replica writes a journal, for `pbft audit`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub journal: bool,
    /// How long a segment of a journal becomes, about, in MiB: 1 to 4096. It ends when a checkpoint becomes
    /// stable.
    #[serde(default = "default_journal_segment_mb", skip_serializing_if = "is_default_segment")]
    pub journal_segment_mb: u64,
    /// How much of a journal is kept, about, in MiB: at least two segments, and at most 1048576. The oldest
    /// segments are removed.
    #[serde(default = "default_journal_keep_mb", skip_serializing_if = "is_default_keep")]
    pub journal_keep_mb: u64,
    /// Threads of a replica that receive, verify and step.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// The longest datagram sent, in bytes.
    #[serde(default = "default_datagram_bytes")]
    pub datagram_bytes: usize,
    /// How long a replica waits for progress before it asks for another view, in milliseconds.
    #[serde(default = "default_progress_timeout_ms")]
    pub progress_timeout_ms: u64,
    /// Bounds of how long a request is expected to take, whatever a replica has measured, in milliseconds: 25 and
    /// four times `progress_timeout_ms` if not given. The progress time-out is at least twice what is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_least_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_most_ms: Option<u64>,
    /// How much longer requests may take in all, in milliseconds, until the primary is given up; half of
    /// `progress_timeout_ms` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lateness_budget_ms: Option<u64>,
    /// After how many stable checkpoints it is the next primary's turn; never if it is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub turn_checkpoints: u64,
    /// How often a replica says what it has, in milliseconds.
    #[serde(default = "default_status_interval_ms")]
    pub status_interval_ms: u64,
    /// How long a client waits before it asks every replica, in milliseconds.
    #[serde(default = "default_client_timeout_ms")]
    pub client_timeout_ms: u64,
    /// Whether `pbft-misbehaving` may take the place of a replica: for tests and demonstrations only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_misbehaviour: bool,
    /// The bounds that all replicas agree on.
    #[serde(default)]
    pub parameters: FileParameters,
    /// The state that the cluster begins with; the empty one, if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<GenesisEntry>,
    /// The replicas, in order.
    #[serde(rename = "replica", default)]
    pub replicas: Vec<ReplicaEntry>,
    /// The clients, in order.
    #[serde(rename = "client", default)]
    pub clients: Vec<ClientEntry>,
    /// The observers, in order.
    #[serde(rename = "observer", default, skip_serializing_if = "Vec::is_empty")]
    pub observers: Vec<ObserverEntry>,
}

/// Where what a replica must remember is kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In a directory, synced before anything is sent.
    #[default]
    Disk,
    /// Nowhere: for benchmarks. A replica that restarts has forgotten what it promised.
    Memory,
}

/// [`Parameters`], each with its default.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileParameters {
    pub checkpoint_interval: u64,
    pub window: u64,
    pub max_batch_requests: usize,
    pub max_batch_bytes: usize,
    pub max_in_flight: u64,
}

/// The state that a restored cluster begins with. Its digest is part of the domain.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisEntry {
    /// Relative to the configuration.
    pub file: PathBuf,
    /// The digest of the state in hex.
    pub digest: String,
}

/// One replica.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaEntry {
    /// Where the others reach it.
    pub address: Address,
    /// Where it listens, if not there: by default at `address`, or at every address of its machine if that is
    /// a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    pub public_key: String,
    /// The static key of the host that speaks for it, and its signature that says so, in hex.
    pub host_key: String,
    pub host_signature: String,
    /// Relative to the file; `keys/replica-N.key` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<PathBuf>,
    /// The directory of the store, relative to the file; `data/replica-N` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// An address for Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
    /// Whether that may be another address than a loopback one. Everybody who reaches it may read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metrics_public: bool,
}

/// One client.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientEntry {
    pub public_key: String,
    /// The static key of the host that speaks for it, which may speak for others too, and its signature that
    /// says so, in hex.
    pub host_key: String,
    pub host_signature: String,
    /// Relative to the file; `keys/client-N.key` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<PathBuf>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}
pub fn default_journal_segment_mb() -> u64 {
    Limits::default().segment_bytes >> 20
}
pub fn default_journal_keep_mb() -> u64 {
    Limits::default().keep_bytes >> 20
}
fn is_default_segment(mb: &u64) -> bool {
    *mb == default_journal_segment_mb()
}
fn is_default_keep(mb: &u64) -> bool {
    *mb == default_journal_keep_mb()
}

/// One host that may ask replicas how they do, and may do nothing else.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ObserverEntry {
    /// The static key of the host, in hex.
    pub host_key: String,
    /// The replica that admits it, and its signature that says so, in hex.
    pub admitted_by: u16,
    pub admission: String,
    /// Relative to the file; `keys/observer-N.key` if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<PathBuf>,
}

fn default_workers() -> usize {
    1
}
fn default_datagram_bytes() -> usize {
    1400
}
fn default_progress_timeout_ms() -> u64 {
    500
}
fn default_status_interval_ms() -> u64 {
    100
}
fn default_client_timeout_ms() -> u64 {
    100
}

impl Default for FileParameters {
    fn default() -> Self {
        let Parameters { checkpoint_interval, window, max_batch_requests, max_batch_bytes, max_in_flight } =
            Parameters::default();
        FileParameters { checkpoint_interval, window, max_batch_requests, max_batch_bytes, max_in_flight }
    }
}
