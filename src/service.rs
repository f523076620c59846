//! The replicated service: any deterministic state machine.

use crate::crypto::Crypto;
use crate::parameters::MAX_RESULT_BYTES;
use crate::replica::blocks::Tree;
use crate::types::{Bytes, ClientId, Digest};
use std::fmt::Debug;

/// A deterministic state machine that every correct replica runs on the same operations.
///
/// Equal states must behave equally and have equal snapshots; nothing outside the state (clock, random
/// numbers, files) may influence a result. Operations come from clients and may be malformed: `execute`
/// answers them with an error of the service's own and must not panic.
pub trait Service: Clone + Debug + Send + Sync + 'static {
    /// Applies `operation` of `client` and returns its result, of at most [`MAX_RESULT_BYTES`] bytes (the
    /// replica cuts off the rest, and the client can tell by [`may_be_cut`]). So a service does well to
    /// refuse what it could not return later.
    fn execute(&mut self, client: ClientId, operation: &[u8]) -> Bytes;

    /// Answers `operation` from the current state without changing it, or nothing if the operation is
    /// not read-only. Source: OSDI'99 §5.1.
    fn read(&self, client: ClientId, operation: &[u8]) -> Option<Bytes>;

    /// The whole state as a list of chunks.
    ///
    /// Chunks that have not changed since the last snapshot may be returned as the same allocation; their
    /// digest is then not computed again. A chunk may have any length.
    fn snapshot(&self) -> Vec<Bytes>;

    /// The state whose snapshot this is.
    ///
    /// # Errors
    /// If the chunks are no snapshot of this service.
    fn restore(chunks: &[Bytes]) -> Result<Self, RestoreError>;

    /// The digest of the state: the root of the block tree over its snapshot. Two states are equal if and
    /// only if their digests are; an implementation has no reason to override it.
    fn digest<C: Crypto>(&self) -> Digest {
        Tree::build::<C>(&self.snapshot(), None).root()
    }
}

/// Whether a result is so long that replicas may have cut it off. A service whose own results say where they
/// end, or are always shorter, leaves no doubt.
pub fn may_be_cut(result: &[u8]) -> bool {
    result.len() >= MAX_RESULT_BYTES
}

/// The chunks are no snapshot of the service.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the chunks are no snapshot of this service")]
pub struct RestoreError;
