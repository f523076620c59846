//! What a deployment agrees on, and the bounds of everything that can be configured or sent.

use crate::types::Cluster;
use serde::{Deserialize, Serialize};

/// The longest window `L` that can be configured, and so the longest `P` and `O`, in entries.
pub const MAX_WINDOW: u64 = 1024;
/// The most requests in a batch that can be configured.
pub const MAX_BATCH_REQUESTS: usize = 1024;
/// The most bytes of operations in a batch that can be configured.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;
/// The longest result of an operation, in bytes; a longer one is cut by the replica, the same everywhere.
pub const MAX_RESULT_BYTES: usize = 64 * 1024;
/// The longest block of state sent in one message, in bytes.
pub const MAX_BLOCK_BYTES: usize = 16 * 1024;
/// The longest message, in bytes. [`Parameters::check`] refuses a configuration whose
/// NEW-VIEW could be longer.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The bounds a deployment agrees on. Every replica of a cluster must be given the same.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Parameters {
    /// `K`, the number of sequence numbers between checkpoints, at least 1. Source: OSDI'99 §4.3.
    pub checkpoint_interval: u64,
    /// `L`, the length of the window in slots, at least two checkpoint intervals.
    pub window: u64,
    /// The most requests in one batch, at least 1.
    pub max_batch_requests: usize,
    /// The most bytes of operations in one batch; a single request may use all of it.
    pub max_batch_bytes: usize,
    /// The most batches a primary has proposed and not yet executed. A batch that is not full is proposed
    /// only when none is in flight, which is what makes batches grow under load.
    pub max_in_flight: u64,
}

impl Default for Parameters {
    /// A checkpoint every 128 batches, a window of two intervals, 64 requests or 32 KiB a batch.
    fn default() -> Self {
        Parameters {
            checkpoint_interval: 128,
            window: 256,
            max_batch_requests: 64,
            max_batch_bytes: 32 * 1024,
            max_in_flight: 8,
        }
    }
}

impl Parameters {
    /// Checks that every bound makes sense for this cluster, so that it may serve clients.
    ///
    /// # Errors
    /// The first bound that does not.
    pub fn check(&self, cluster: &Cluster) -> Result<(), ConfigError> {
        if self.checkpoint_interval == 0 {
            return Err(ConfigError::CheckpointInterval);
        }
        if self.window < 2 * self.checkpoint_interval || self.window > MAX_WINDOW {
            return Err(ConfigError::Window);
        }
        if self.max_batch_requests == 0 || self.max_batch_requests > MAX_BATCH_REQUESTS {
            return Err(ConfigError::BatchRequests);
        }
        if self.max_batch_bytes == 0 || self.max_batch_bytes > MAX_BATCH_BYTES {
            return Err(ConfigError::BatchBytes);
        }
        if self.max_in_flight == 0 {
            return Err(ConfigError::InFlight);
        }
        if largest_new_view(cluster, self) > MAX_MESSAGE_BYTES {
            return Err(ConfigError::LargeNewView);
        }
        Ok(())
    }
}

/// What is wrong with a configuration, in a sentence that says what to change.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// n is below 3f + 1.
    #[error("n must be at least 3f + 1")]
    TooFewReplicas,
    /// A quorum is more than n.
    #[error("a quorum is more replicas than there are")]
    QuorumAboveN,
    /// There is no such replica.
    #[error("the replica's number is not below the number of replicas")]
    NoSuchReplica,
    /// The secret key is not this replica's.
    #[error("the keys are another node's")]
    ForeignKeys,
    /// Some bound is 0.
    #[error("the checkpoint interval, the window and the size of a batch must be at least 1")]
    Zero,
    /// K is 0.
    #[error("the checkpoint interval must be at least 1")]
    CheckpointInterval,
    /// L is below 2K or above [`MAX_WINDOW`].
    #[error("the window must be at least two checkpoint intervals and at most 1024 sequence numbers")]
    Window,
    /// No request, or more than [`MAX_BATCH_REQUESTS`].
    #[error("a batch must hold between 1 and 1024 requests")]
    BatchRequests,
    /// No byte, or more than [`MAX_BATCH_BYTES`].
    #[error("a batch must hold between 1 byte and 256 KiB of operations")]
    BatchBytes,
    /// Nothing may be in flight.
    #[error("at least one batch must be allowed in flight")]
    InFlight,
    /// See [`largest_new_view`].
    #[error("a NEW-VIEW for this many replicas and this window can exceed 4 MiB: lower the window")]
    LargeNewView,
    /// A host needs an address of each replica.
    #[error("there must be one address for each replica")]
    Addresses,
}

/// An upper bound on the bytes of the longest NEW-VIEW that a correct primary sends, with ed25519 signatures:
/// a quorum of VIEW-CHANGEs, each with a certificate for every sequence number of the window, and an `O` as
/// long as the window. A certificate of a faulty replica may hold the votes of all `n`, not of a quorum only.
pub fn largest_new_view(cluster: &Cluster, parameters: &Parameters) -> usize {
    let window = usize::try_from(parameters.window).unwrap_or(usize::MAX);
    let (number, digest, signature) = (10, 32, 64);
    let vote = 3 + signature;
    let envelope = 4 + signature;
    let certificate = 3 * number + digest + 1 + signature + cluster.n() * vote;
    let pre_prepare = 2 * number + digest + envelope;
    let view_change =
        certificate.saturating_mul(window.saturating_add(1)).saturating_add(4 * number + envelope);
    (view_change.saturating_mul(cluster.quorum()))
        .saturating_add(pre_prepare.saturating_mul(window))
        .saturating_add(3 * number + envelope)
}
