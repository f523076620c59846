//! Production signatures: ed25519 with strict verification (RFC 8032), digests by SHA-256.
//!
//! `verify_strict` alone defines which signatures are valid. Batch verification may accept crafted
//! signatures that strict verification refuses, and then correct replicas would disagree. Those of replicas are
//! verified with tables (`known_key`), which accept the same ones.

use super::known_key::KnownKey;
use super::{Claim, Crypto, Evidence};
use crate::types::{ClientId, Digest, Principal, ReplicaId};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

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
    /// If one is malformed.
    pub fn new(public: &BTreeMap<Principal, [u8; 32]>) -> Result<Self, KeyError> {
        let key = |(&who, bytes)| {
            VerifyingKey::from_bytes(bytes).map(|key| (who, key)).map_err(|_| KeyError::NotAKey(who))
        };
        let keys = public.iter().map(key).collect::<Result<BTreeMap<_, _>, _>>()?;
        let replicas = keys.keys().filter(|who| matches!(who, Principal::Replica(_)));
        let tables = replicas.map(|&who| (who, Table::default())).collect();
        Ok(PublicKeys(Arc::new(Public { keys, tables })))
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

/// A public key that is not a point of the curve, or a secret key that does not belong to its owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// These 32 bytes are no ed25519 public key.
    #[error("the public key of {0} is not a valid ed25519 key")]
    NotAKey(Principal),
    /// The public key listed for the signer is missing or belongs to another secret key.
    #[error("the secret key does not match the public key listed for {0}")]
    NotTheSigners(Principal),
}

impl KeyRing {
    /// The keys of `signer`. `secret` is the 32-byte seed; `public` lists everybody, the signer too.
    ///
    /// # Errors
    /// If a public key is malformed, or the signer's is not that of `secret`.
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
    /// If a public key is malformed.
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
mod tests {
    use super::*;

    const R0: Principal = Principal::Replica(ReplicaId(0));
    const R1: Principal = Principal::Replica(ReplicaId(1));

    #[test]
    fn a_signature_is_its_signers_over_its_content_only() {
        let (rings, _) = KeyRing::insecure(1, 2, 0);
        let signature = Ed25519::sign(&rings[0], b"content");
        assert!(Ed25519::verify(&rings[1], R0, b"content", &signature));
        assert!(!Ed25519::verify(&rings[1], R1, b"content", &signature));
        assert!(!Ed25519::verify(&rings[1], R0, b"another", &signature));
    }

    #[test]
    fn it_stays_so_when_signatures_are_verified_often() {
        let (rings, _) = KeyRing::insecure(1, 2, 0);
        let signature = Ed25519::sign(&rings[0], b"content");
        for _ in 0..3 * OFTEN {
            assert!(Ed25519::verify(&rings[1], R0, b"content", &signature));
            assert!(!Ed25519::verify(&rings[1], R1, b"content", &signature));
            assert!(!Ed25519::verify(&rings[1], R0, b"another", &signature));
        }
        assert!(rings[1].public.0.tables[&R0].known.get().is_some_and(Option::is_some));
    }

    #[test]
    fn an_unlisted_signer_never_verifies() {
        let (rings, _) = KeyRing::insecure(1, 2, 0);
        let (more, _) = KeyRing::insecure(1, 3, 0);
        let signature = Ed25519::sign(&more[2], b"content");
        let outsider = Principal::Replica(ReplicaId(2));
        assert!(Ed25519::verify(&more[0], outsider, b"content", &signature));
        assert!(!Ed25519::verify(&rings[0], outsider, b"content", &signature));
    }

    #[test]
    fn a_ring_to_verify_with_verifies_what_its_keys_have_signed_and_nothing_of_its_own() {
        let secret = [7; 32];
        let public = BTreeMap::from([(R0, KeyRing::public_key(&secret))]);
        let ring = KeyRing::new(Digest::NULL, R0, &secret, &public).unwrap();
        let verifying = KeyRing::verifying(Digest::NULL, &public).unwrap();
        assert!(Ed25519::verify(&verifying, R0, b"content", &Ed25519::sign(&ring, b"content")));
        let own = Ed25519::sign(&verifying, b"content");
        assert!(!Ed25519::verify(&verifying, Ed25519::signer(&verifying), b"content", &own));
        assert!(!Ed25519::verify(&verifying, R0, b"content", &own));
    }

    #[test]
    fn a_signature_for_one_cluster_is_worth_nothing_in_another() {
        let secret = [7; 32];
        let public = BTreeMap::from([(R0, KeyRing::public_key(&secret))]);
        let here = KeyRing::new(Digest([1; 32]), R0, &secret, &public).unwrap();
        let there = KeyRing::new(Digest([2; 32]), R0, &secret, &public).unwrap();
        let signature = Ed25519::sign(&here, b"content");
        assert!(Ed25519::verify(&here, R0, b"content", &signature));
        assert!(!Ed25519::verify(&there, R0, b"content", &signature));
    }

    #[test]
    fn a_key_of_small_order_signs_nothing() {
        // The identity point with R = identity and s = 0 passes the cofactored equation for every
        // message; strict verification refuses it.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        let secret = [7; 32];
        let public = BTreeMap::from([(R0, KeyRing::public_key(&secret)), (R1, identity)]);
        let ring = KeyRing::new(Digest::NULL, R0, &secret, &public).unwrap();
        assert!(!Ed25519::verify(&ring, R1, b"anything", &Signature(forged)));
    }

    #[test]
    fn a_ring_refuses_a_secret_that_is_not_the_signers() {
        let public = BTreeMap::from([(R0, KeyRing::public_key(&[7; 32]))]);
        let error = KeyRing::new(Digest::NULL, R0, &[8; 32], &public).unwrap_err();
        assert_eq!(error, KeyError::NotTheSigners(R0));
    }
}
