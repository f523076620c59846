//! Who belongs to the cluster: the digest of it, and the observers.

use super::{Config, Served, key};
use pbft::crypto::ed25519::{Ed25519, KeyRing, Signature};
use pbft::crypto::{Crypto, Signed};
use pbft::replica::Bundle;
use pbft::replica::verify::Membership;
use pbft::rules::Pbft;
use pbft::runtime::sessions::HostKey;
use pbft::runtime::sessions::binding::{self, Admission};
use pbft::runtime::{Asker, Judge};
use pbft::types::{ClientId, Digest, Principal, ReplicaId};
use std::path::PathBuf;
use std::sync::Arc;

/// Asks the replicas of a cluster how they do.
pub type StatusAsker = Asker<<Served as Bundle>::Crypto, <Served as Bundle>::Rules>;

/// Nobody's number: an observer signs nothing, and a key ring needs a signer.
const NOBODY: Principal = Principal::Client(ClientId(u32::MAX));

impl Config {
    /// The digest of what all replicas must agree on: the domain, f, the parameters, the public key and the host
    /// key of each replica and each client, and the observers. Not where anybody is, which may differ from one
    /// machine to another. Equal for files that say the same in other words, such as upper-case hex digits.
    pub fn membership(&self) -> Digest {
        let hosts = |keys: Vec<&String>| keys.into_iter().map(|text| key(text)).collect::<Vec<_>>();
        let file = &self.file;
        let said = (
            "pbft members 1",
            (self.domain.0, self.cluster.n(), self.cluster.f(), &file.parameters),
            self.public.iter().map(|(who, key)| (who.to_string(), key)).collect::<Vec<_>>(),
            hosts(file.replicas.iter().map(|entry| &entry.host_key).collect()),
            hosts(file.clients.iter().map(|entry| &entry.host_key).collect()),
            hosts(file.observers.iter().map(|entry| &entry.host_key).collect()),
        );
        Ed25519::digest(&serde_json::to_vec(&said).expect("writing into memory cannot fail"))
    }

    /// The keys of the observers' hosts, each admitted by a replica and nobody else's.
    ///
    /// # Errors
    /// One sentence that says which entry is wrong.
    pub(super) fn observers(&self, keys: &KeyRing) -> Result<Vec<[u8; 32]>, String> {
        let clients = u32::try_from(self.file.clients.len()).unwrap_or(u32::MAX);
        let members = Membership { cluster: &self.cluster, clients, keys, rules: &Pbft };
        let mut hosts = Vec::new();
        for (i, entry) in self.file.observers.iter().enumerate() {
            let host = key(&entry.host_key).ok_or_else(|| {
                format!("host_key of observer {i} must be 64 hex digits, as `pbft keygen` writes them")
            })?;
            let signature = hex::decode(entry.admission.trim()).ok().and_then(|bytes| bytes.try_into().ok());
            let signature = Signature(signature.ok_or_else(|| {
                format!("admission of observer {i} must be 128 hex digits, as `pbft keygen` writes them")
            })?);
            let signer = Principal::Replica(ReplicaId(entry.admitted_by));
            let signed = Signed { content: Admission { host }, signer, signature };
            binding::verify_admission::<Ed25519, Pbft>(&members, &signed).map_err(|_| {
                format!("{signer} has not admitted observer {i}: take its entry from where it was made")
            })?;
            let taken = |text: &String| key(text) == Some(host);
            let others = (self.file.replicas.iter().map(|entry| &entry.host_key))
                .chain(self.file.clients.iter().map(|entry| &entry.host_key));
            if others.into_iter().any(taken) || hosts.contains(&host) {
                return Err(format!(
                    "the host_key of observer {i} is also another's: give it one of its own"
                ));
            }
            hosts.push(host);
        }
        Ok(hosts)
    }

    /// Where the secret key of an observer is.
    pub fn observer_path(&self, id: u32) -> PathBuf {
        let named = self.file.observers.get(id as usize).and_then(|entry| entry.secret_key.clone());
        self.directory.join(named.unwrap_or_else(|| format!("keys/observer-{id}.key").into()))
    }

    /// Asks as an observer, of whose key the caller makes sure that no other process uses it.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn ask_as_observer(&self, id: u32) -> Result<StatusAsker, String> {
        let secret = self.secret_at(&self.observer_path(id))?;
        let mut public = self.public.clone();
        public.insert(NOBODY, KeyRing::public_key(&secret));
        let keys = KeyRing::new(self.domain, NOBODY, &secret, &public).map_err(|error| error.to_string())?;
        let hosts = self.hosts(&keys, [])?;
        Asker::of_observer(&hosts, HostKey::of_identity(&secret), self.judge(keys))
            .map_err(|error| format!("cannot ask as observer {id}: {error}"))
    }

    /// Asks as a client, of whose key the caller makes sure that no other process uses it.
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn ask_as_client(&self, id: ClientId) -> Result<StatusAsker, String> {
        let who = Principal::Client(id);
        let keys = self.keys(who)?;
        let hosts = self.hosts(&keys, [id])?;
        Asker::of_client(&hosts, id, self.host_key(who)?, self.judge(keys))
            .map_err(|error| format!("cannot ask as client {}: {error}", id.0))
    }

    /// By what the answers of replicas are judged.
    pub fn judge(&self, keys: KeyRing) -> Judge<Ed25519, Pbft> {
        Judge { cluster: self.cluster, keys: Arc::new(keys), rules: Pbft }
    }
}
