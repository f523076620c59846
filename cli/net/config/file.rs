//! The configuration file, as it is written.

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
    /// The replicas, in order.
    #[serde(rename = "replica", default)]
    pub replicas: Vec<ReplicaEntry>,
    /// The clients, in order.
    #[serde(rename = "client", default)]
    pub clients: Vec<ClientEntry>,
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

/// One replica.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaEntry {
    pub address: SocketAddr,
    /// Where it listens, if that is not where the others reach it.
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
    /// A loopback address for Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<SocketAddr>,
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
