//! Production signatures: ed25519, digests by SHA-256.
//!
//! Which signatures are valid is defined once for each [form](super::form):
//! - of a request by the cofactored equation (`cofactored`), which says the same of a signature alone and of any number
//!   together;
//! - of everything else by `verify_strict` (RFC 8032). Those of replicas are verified with tables (`known_key`), which
//!   accept the same ones. They are never verified together: by the equation of the strict rule a batch can accept crafted
//!   signatures that are refused alone, and then correct replicas would disagree.
//! - Replies that are signed together bear one strict signature over the root of a [tree](super::merkle).

use super::cofactored::{self, Claimed};
use super::known_key::KnownKey;
use super::merkle::{self, Path};
use super::{Claim, Crypto, Evidence, Statement};
use crate::types::{ClientId, Digest, Principal, ReplicaId};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The scheme run in production.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Ed25519;

/// The 64 bytes of an ed25519 signature.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sig:{:02x}{:02x}", self.0[0], self.0[1])
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (low, high) = self.0.split_at(32);
        (
            <[u8; 32]>::try_from(low).expect("half of 64 bytes"),
            <[u8; 32]>::try_from(high).expect("half of 64 bytes"),
        )
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (low, high) = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&low);
        bytes[32..].copy_from_slice(&high);
        Ok(Signature(bytes))
    }
}

/// A signature over a message, or over the root of a tree of messages to which its path leads.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct SharedSignature {
    /// Over the message itself if the path is empty, and over the root otherwise.
    pub signature: Signature,
    /// From the message to the root.
    pub path: Path,
}

impl From<Signature> for SharedSignature {
    /// That of a message that was signed by itself.
    fn from(signature: Signature) -> Self {
        SharedSignature { signature, path: Path::default() }
    }
}

/// One node's secret key and the public keys of the configured replicas and registered clients.
///
/// Nobody else's signature verifies. The domain separates clusters: a message signed for one cluster
/// is worth nothing in another that happens to use the same keys.
pub struct KeyRing {
    domain: Digest,
    signer: Principal,
    secret: SigningKey,
    public: PublicKeys,
}

/// The public keys of the configured replicas and registered clients, shared by all rings that are made with them.
#[derive(Clone)]
pub struct PublicKeys(Arc<Public>);

struct Public {
    keys: BTreeMap<Principal, VerifyingKey>,
    /// Of the replicas: of clients there are too many, each with too few signatures.
    tables: BTreeMap<Principal, Table>,
    roots: Mutex<Roots>,
}

/// A root that somebody has signed, in a cluster.
type SignedRoot = (Digest, Digest, Signature);

/// Of each replica the roots last found to be signed by it: those who wait for replies of one batch in one process
/// verify its signature once.
#[derive(Default)]
struct Roots(BTreeMap<Principal, VecDeque<SignedRoot>>);

/// The most roots remembered of a replica; what is forgotten is verified again.
const ROOTS: usize = 16;

impl Public {
    fn roots(&self) -> MutexGuard<'_, Roots> {
        // What a thread that panicked leaves is a list that lacks something or has it.
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_signed(&self, signer: Principal, root: &SignedRoot) -> bool {
        self.roots().0.get(&signer).is_some_and(|roots| roots.contains(root))
    }

    /// Remembers what has been verified.
    fn note_signed(&self, signer: Principal, root: SignedRoot) {
        if !self.tables.contains_key(&signer) {
            return;
        }
        let mut all = self.roots();
        let roots = all.0.entry(signer).or_default();
        if roots.len() == ROOTS {
            roots.pop_front();
        }
        roots.push_back(root);
    }
}

impl fmt::Debug for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} public keys", self.0.keys.len())
    }
}

impl PublicKeys {
    /// Those keys.
    ///
    /// # Errors
    /// If one is malformed, or of small order.
    pub fn new(public: &BTreeMap<Principal, [u8; 32]>) -> Result<Self, KeyError> {
        let key = |(&who, bytes)| match VerifyingKey::from_bytes(bytes) {
            Ok(key) if key.is_weak() => Err(KeyError::OfSmallOrder(who)),
            Ok(key) => Ok((who, key)),
            Err(_) => Err(KeyError::NotAKey(who)),
        };
        let keys = public.iter().map(key).collect::<Result<BTreeMap<_, _>, _>>()?;
        let replicas = keys.keys().filter(|who| matches!(who, Principal::Replica(_)));
        let tables = replicas.map(|&who| (who, Table::default())).collect();
        Ok(PublicKeys(Arc::new(Public { keys, tables, roots: Mutex::default() })))
    }
}

/// The table of a key, made when the key has shown to be used often.
#[derive(Default)]
struct Table {
    verified: AtomicU32,
    known: OnceLock<Option<Arc<KnownKey>>>,
}

impl Table {
    /// The table, if there is one by now.
    fn get(&self, key: &VerifyingKey) -> Option<&KnownKey> {
        if self.known.get().is_none() && self.verified.fetch_add(1, Ordering::Relaxed) < OFTEN {
            return None;
        }
        self.known.get_or_init(|| KnownKey::shared(key.to_bytes())).as_deref()
    }
}

/// Signatures of a replica that are verified before a table is made: about as many as it costs.
const OFTEN: u32 = 64;

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing of {:?}, {} public keys", self.signer, self.public.0.keys.len())
    }
}

/// A public key that is not a point of the curve, or one of small order, or a secret key that does not belong to its owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// These 32 bytes are no ed25519 public key.
    #[error("the public key of {0} is not a valid ed25519 key")]
    NotAKey(Principal),
    /// Anybody can make signatures for this key.
    #[error(
        "the public key of {0} is of small order, so that anybody could sign in its place: make another key"
    )]
    OfSmallOrder(Principal),
    /// The public key listed for the signer is missing or belongs to another secret key.
    #[error("the secret key does not match the public key listed for {0}")]
    NotTheSigners(Principal),
}

impl KeyRing {
    /// The keys of `signer`. `secret` is the 32-byte seed; `public` lists everybody, the signer too.
    ///
    /// # Errors
    /// If a public key is malformed or of small order, or the signer's is not that of `secret`.
    pub fn new(
        domain: Digest,
        signer: Principal,
        secret: &[u8; 32],
        public: &BTreeMap<Principal, [u8; 32]>,
    ) -> Result<Self, KeyError> {
        KeyRing::among(domain, signer, secret, PublicKeys::new(public)?)
    }

    /// The same, of one of many signers in this process: the others' keys are read once.
    ///
    /// # Errors
    /// If the signer's public key is not that of `secret`.
    pub fn among(
        domain: Digest,
        signer: Principal,
        secret: &[u8; 32],
        public: PublicKeys,
    ) -> Result<Self, KeyError> {
        let secret = SigningKey::from_bytes(secret);
        if public.0.keys.get(&signer) != Some(&secret.verifying_key()) {
            return Err(KeyError::NotTheSigners(signer));
        }
        Ok(KeyRing { domain, signer, secret, public })
    }

    /// Keys to verify with: `public` lists those whose signatures verify. What they sign is signed by a
    /// client that is in no cluster, so no replica runs with them
    /// ([`Setup::check_runnable`](crate::replica::Setup::check_runnable)).
    ///
    /// # Errors
    /// If a public key is malformed or of small order.
    pub fn verifying(domain: Digest, public: &BTreeMap<Principal, [u8; 32]>) -> Result<Self, KeyError> {
        let nobody = Principal::Client(ClientId(u32::MAX));
        let secret = SigningKey::from_bytes(&[0; 32]);
        Ok(KeyRing { domain, signer: nobody, secret, public: PublicKeys::new(public)? })
    }

    /// The public key that belongs to a 32-byte secret seed.
    pub fn public_key(secret: &[u8; 32]) -> [u8; 32] {
        SigningKey::from_bytes(secret).verifying_key().to_bytes()
    }

    /// Keys for tests and simulations: every secret follows from `seed` and the owner's number, so
    /// anybody can make them. Returns one ring a replica and one a client.
    pub fn insecure(seed: u64, replicas: u16, clients: u32) -> (Vec<KeyRing>, Vec<KeyRing>) {
        let secret = |who: Principal| {
            let bytes = postcard::to_stdvec(&(seed, who)).expect("encoding into memory cannot fail");
            Ed25519::digest(&bytes).0
        };
        let replicas: Vec<Principal> = (0..replicas).map(|i| Principal::Replica(ReplicaId(i))).collect();
        let clients: Vec<Principal> = (0..clients).map(|i| Principal::Client(ClientId(i))).collect();
        let keys =
            replicas.iter().chain(&clients).map(|&who| (who, Self::public_key(&secret(who)))).collect();
        let public = PublicKeys::new(&keys).expect("keys made from seeds are valid");
        let ring = |&who: &Principal| {
            let ring = KeyRing::among(Digest::NULL, who, &secret(who), public.clone());
            ring.expect("keys made from seeds are valid")
        };
        (replicas.iter().map(ring).collect(), clients.iter().map(ring).collect())
    }

    fn in_domain(&self, content: &[u8]) -> Vec<u8> {
        [&self.domain.0[..], content].concat()
    }
}

impl Crypto for Ed25519 {
    type Signature = Signature;
    type SharedSignature = SharedSignature;
    type Proof = Evidence<Signature>;
    type Keys = KeyRing;

    fn digest(bytes: &[u8]) -> Digest {
        Digest(sha2::Sha256::digest(bytes).into())
    }

    fn signer(keys: &KeyRing) -> Principal {
        keys.signer
    }

    fn sign(keys: &KeyRing, content: &[u8]) -> Signature {
        Signature(keys.secret.sign(&keys.in_domain(content)).to_bytes())
    }

    fn verify(keys: &KeyRing, signer: Principal, content: &[u8], signature: &Signature) -> bool {
        let Some(key) = keys.public.0.keys.get(&signer) else { return false };
        match keys.public.0.tables.get(&signer).and_then(|table| table.get(key)) {
            Some(known) => known.verify(&[&keys.domain.0, content], &signature.0),
            None => {
                let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
                key.verify_strict(&keys.in_domain(content), &signature).is_ok()
            }
        }
    }

    /// By the rule of requests: see `cofactored`.
    fn verify_together(keys: &KeyRing, statements: &[Statement<'_, Self>]) -> bool {
        let mut claimed = Vec::with_capacity(statements.len());
        for &Statement { signer, content, signature } in statements {
            let Some(key) = keys.public.0.keys.get(&signer) else { return false };
            claimed.push(Claimed {
                key: key.to_edwards(),
                key_bytes: key.as_bytes(),
                message: [&keys.domain.0, content],
                signature: &signature.0,
            });
        }
        cofactored::all_valid(&claimed)
    }

    fn sign_together(keys: &KeyRing, contents: &[Vec<u8>]) -> Vec<SharedSignature> {
        let sign = |contents: &[Vec<u8>]| -> Vec<SharedSignature> {
            if let [content] = contents {
                return vec![Self::sign(keys, content).into()];
            }
            let (root, paths) = merkle::tree(Self::digest, contents);
            let signature = Self::sign(keys, &merkle::root_to_be_signed(root));
            paths.into_iter().map(|path| SharedSignature { signature, path }).collect()
        };
        contents.chunks(1 << merkle::MAX_DEPTH).flat_map(sign).collect()
    }

    fn verify_shared(keys: &KeyRing, signer: Principal, content: &[u8], shared: &SharedSignature) -> bool {
        let SharedSignature { signature, path } = shared;
        if path.0.is_empty() {
            return Self::verify(keys, signer, content, signature);
        }
        let Some(root) = path.root(Self::digest, content) else { return false };
        let signed_root = (keys.domain, root, *signature);
        if keys.public.0.has_signed(signer, &signed_root) {
            return true;
        }
        let is_valid = Self::verify(keys, signer, &merkle::root_to_be_signed(root), signature);
        if is_valid {
            keys.public.0.note_signed(signer, signed_root);
        }
        is_valid
    }

    fn seal(
        _: Claim,
        evidence: Evidence<Signature>,
        _: &dyn Fn(&Evidence<Signature>) -> bool,
    ) -> Self::Proof {
        evidence
    }

    fn holds(_: Claim, proof: &Self::Proof, valid: &dyn Fn(&Evidence<Signature>) -> bool) -> bool {
        valid(proof)
    }
}

#[cfg(test)]
mod tests;
