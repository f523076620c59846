//! The state that a new cluster begins with, as a file beside its configuration.
//!
//! It is named by the digest of the state ([`Service::digest`]), which is part of the configuration and, by
//! [`domain_of_genesis`](crate::store::domain_of_genesis), of the domain; whoever starts a replica with
//! another file is told so.
//!
//! | bytes | hold |
//! |---|---|
//! | 8 | `PBFT-GN1`: magic and version |
//! | 8 | the number of the service's chunks |
//! | 8 + length each | the length of a chunk, and the chunk; integers are little-endian |
//! | 32 | the SHA-256 of everything before |

use super::BackupError;
use super::format::{GENESIS, Input, create};
use crate::crypto::Crypto;
use crate::service::Service;
use crate::types::Digest;
use std::path::Path;

/// Writes the state of a service, readable by the file's owner only; whole, or not at all.
///
/// # Errors
/// If there is a file already, or the machine fails.
pub fn write(path: &Path, service: &impl Service) -> Result<(), BackupError> {
    let chunks = service.snapshot();
    create(path, |output| {
        output.put(GENESIS.0)?;
        output.put_chunks(&chunks)
    })
}

/// The service in a file, if it has this digest.
///
/// # Errors
/// If the file is no such file or damaged, holds another state, or the machine fails.
pub fn read<S: Service, C: Crypto>(path: &Path, named: Digest) -> Result<S, BackupError> {
    let mut input = Input::open(path, GENESIS)?;
    let chunks = input.chunks()?;
    input.finish()?;
    let service = S::restore(&chunks).map_err(|_| BackupError::NotAState)?;
    let found = service.digest::<C>();
    if found != named {
        return Err(BackupError::OtherGenesis { found, named });
    }
    Ok(service)
}
