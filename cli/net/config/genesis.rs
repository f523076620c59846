//! The state that a cluster begins with, and what it takes to check a backup of one.

use super::file::File;
use super::{Config, Served, key};
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::kv::KeyValue;
use pbft::replica::Setup;
use pbft::rules::Pbft;
use pbft::runtime::backup::{Origin, genesis};
use pbft::store::domain_of_genesis;
use pbft::types::{Digest, Principal, ReplicaId};
use std::sync::Arc;

/// The domain of the cluster that a file describes: with another state to begin with it is another one.
pub fn domain_of(file: &File) -> Result<Digest, String> {
    let domain = key(&file.domain).ok_or("domain must be 64 hex digits, as `pbft keygen` writes them")?;
    named(file)
        .map(|named| named.map_or(Digest(domain), |it| domain_of_genesis::<Ed25519>(Digest(domain), it)))
}

fn named(file: &File) -> Result<Option<Digest>, String> {
    let Some(entry) = &file.genesis else { return Ok(None) };
    let digest = key(&entry.digest);
    let digest = digest.ok_or("digest in [genesis] must be 64 hex digits, as `pbft restore` writes them")?;
    Ok(Some(Digest(digest)))
}

impl Config {
    /// The state before the first request, read from its file and compared with its digest.
    ///
    /// # Errors
    /// One sentence that says what is wrong with the file.
    pub fn genesis(&self) -> Result<KeyValue, String> {
        let (Some(entry), Some(digest)) = (&self.file.genesis, named(&self.file)?) else {
            return Ok(KeyValue::default());
        };
        let path = self.directory.join(&entry.file);
        genesis::read::<KeyValue, Ed25519>(&path, digest).map_err(|error| {
            format!(
                "cannot begin with the state in {}: {error}; copy it, and [genesis], from where `pbft restore` \
                 wrote them",
                path.display()
            )
        })
    }

    /// Which cluster a backup must be of.
    pub fn origin(&self) -> Origin {
        let key = |id: ReplicaId| self.public[&Principal::Replica(id)];
        Origin {
            domain: self.domain,
            cluster: self.cluster,
            keys: self.cluster.replicas().map(key).collect(),
        }
    }

    /// What checks a backup: everybody's public keys. No replica can be run with it, and it begins with no
    /// state.
    ///
    /// # Errors
    /// One sentence that says which key is none.
    pub fn checker(&self) -> Result<Setup<Served>, String> {
        let keys = KeyRing::verifying(self.domain, &self.public).map_err(|error| error.to_string())?;
        Ok(Setup {
            id: ReplicaId(0),
            cluster: self.cluster,
            parameters: self.parameters,
            keys: Arc::new(keys),
            clients: u32::try_from(self.file.clients.len()).unwrap_or(u32::MAX),
            rules: Pbft,
            genesis: KeyValue::default(),
        })
    }
}
