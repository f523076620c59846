//! Reading a store that another process may be writing.

use super::log::TornTail;
use super::{OpenError, Recovered, recover};
use crate::certificate::StableCertificate;
use crate::crypto::Crypto;
use crate::replica::{Durable, Record};
use crate::store::Identity;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How often a store is read again that changes while it is read, and how long after.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// What a store says, as far as it was written when it was read.
#[derive(Clone, Debug)]
pub struct View<C: Crypto> {
    /// What a replica that starts from it starts from.
    pub durable: Durable<C>,
    /// The proof of each stable checkpoint that the last base and the log after it tell of, ascending.
    pub stable: Vec<StableCertificate<C>>,
}

impl<C: Crypto> View<C> {
    /// Reads the store in a directory without its lock, and writes nothing.
    ///
    /// A file that its owner removes, or a record that it is writing, may look like damage. So it is read up
    /// to 20 times, 50 ms apart, and is refused only if it looks damaged each time.
    ///
    /// # Errors
    /// If it is missing, another's or damaged, or the machine fails.
    pub fn read(directory: &Path, identity: &Identity) -> Result<Self, OpenError> {
        for _ in 1..ATTEMPTS {
            match Self::attempt(directory, identity) {
                Err(error) if may_pass(&error) => std::thread::sleep(PAUSE),
                outcome => return outcome,
            }
        }
        Self::attempt(directory, identity)
    }

    fn attempt(directory: &Path, identity: &Identity) -> Result<Self, OpenError> {
        if !directory.exists() {
            return Err(OpenError::Missing(directory.to_path_buf()));
        }
        let mut logged = Vec::new();
        let mut seen = |record: &Record<C>| {
            if let Record::Stable(certificate) = record {
                logged.push(certificate.clone());
            }
        };
        let Recovered { durable, base_stable, .. } =
            recover(directory, identity, TornTail::Leave, &mut seen)?;
        let stable = base_stable.into_iter().chain(logged).collect();
        Ok(View { durable, stable })
    }
}

/// Whether an error may come of reading while another process writes.
fn may_pass(error: &OpenError) -> bool {
    match error {
        OpenError::Damaged { .. } => true,
        OpenError::Io { error, .. } => error.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
