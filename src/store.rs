//! The durable state as one checked image.
//!
//! An image names the replica and the cluster it belongs to and ends with a digest of everything before, so a
//! torn, damaged or foreign one is told apart from a good one and refused. A refused store is never taken
//! for an empty one: a replica that forgets what it has sent counts as one of the f faults.

use crate::crypto::Crypto;
use crate::parameters::Parameters;
use crate::replica::Durable;
use crate::types::{Cluster, Digest, ReplicaId};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"PBFT-ST1";
const DIGEST_BYTES: usize = 32;

/// Whose state an image holds. An image opens only for the very same identity.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The domain of the cluster's signatures.
    pub domain: Digest,
    /// The replica.
    pub replica: ReplicaId,
    /// The size of the cluster.
    pub cluster: Cluster,
    /// The bounds it runs with.
    pub parameters: Parameters,
}

/// Why a store is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// The bytes do not start like a store.
    #[error("this is not a store of this program, or of a version it no longer reads")]
    NotAStore,
    /// The digest at the end does not match.
    #[error("the store is damaged: its checksum does not match its contents")]
    Damaged,
    /// The image is of another replica, cluster or configuration.
    #[error("the store belongs to another replica, cluster or configuration")]
    Foreign,
}

/// The domain of a cluster that begins with a state of its own: `domain` bound to the digest of that state
/// ([`Service::digest`](crate::service::Service::digest)).
///
/// Signatures, sessions, stores and journals are of a domain, so a replica that begins with another state is
/// a stranger to the others, and its store is not theirs. A cluster that begins with the default state of its
/// service keeps the domain as it is.
pub fn domain_of_genesis<C: Crypto>(domain: Digest, genesis: Digest) -> Digest {
    C::digest(&[&b"PBFT genesis"[..], &domain.0, &genesis.0].concat())
}

/// The image of a durable state.
pub fn seal<C: Crypto>(identity: &Identity, durable: &Durable<C>) -> Vec<u8> {
    let mut image = MAGIC.to_vec();
    image = postcard::to_extend(&(identity, durable), image).expect("encoding into memory cannot fail");
    let digest = C::digest(&image);
    image.extend_from_slice(&digest.0);
    image
}

/// The durable state in an image.
///
/// # Errors
/// If the image is not one of `identity`, whole and undamaged.
pub fn open<C: Crypto>(identity: &Identity, image: &[u8]) -> Result<Durable<C>, StoreError> {
    if !image.starts_with(MAGIC) {
        return Err(StoreError::NotAStore);
    }
    let body = image.len().checked_sub(DIGEST_BYTES).ok_or(StoreError::Damaged)?;
    let (content, digest) = image.split_at(body);
    if C::digest(content).0 != *digest {
        return Err(StoreError::Damaged);
    }
    let payload = content.get(MAGIC.len()..).ok_or(StoreError::Damaged)?;
    let (found, rest): (Identity, _) = postcard::take_from_bytes(payload).map_err(|_| StoreError::Damaged)?;
    if found != *identity {
        return Err(StoreError::Foreign);
    }
    match postcard::take_from_bytes(rest) {
        Ok((durable, [])) => Ok(durable),
        _ => Err(StoreError::Damaged),
    }
}
