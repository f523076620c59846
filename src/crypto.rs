//! Who said what: signatures, digests, and the only way from a [`Signed`] message to a [`Verified`] one.
//!
//! The replica is written against the trait [`Crypto`]. Production uses ed25519 and SHA-256
//! ([`ed25519`]); models use symbolic signatures that only their owner can make. Both run the same
//! verification code (`replica::verify`).

pub mod ed25519;
mod known_key;

use crate::types::{Digest, Principal, ReplicaId, SeqNo, View};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use std::hash::Hash;
use std::ops::Deref;

/// What a value must offer to be part of a state that is compared, hashed, sent and stored.
pub trait Value:
    Clone + Debug + Eq + Ord + Hash + Send + Sync + Serialize + DeserializeOwned + 'static
{
}

impl<T> Value for T where
    T: Clone + Debug + Eq + Ord + Hash + Send + Sync + Serialize + DeserializeOwned + 'static
{
}

/// A signature scheme and a digest, chosen at compile time by a zero-sized marker type.
pub trait Crypto: Value + Copy + Default {
    /// A signature over the bytes of one message.
    type Signature: Value;
    /// What makes a certificate believable: the signatures themselves in production.
    type Proof: Value;
    /// The signer's own secret key and the public keys of everybody known.
    type Keys: Debug + Send + Sync + 'static;

    /// The collision-resistant digest of `bytes`.
    fn digest(bytes: &[u8]) -> Digest;

    /// Who signs with these keys.
    fn signer(keys: &Self::Keys) -> Principal;

    /// Signs `content` as [`Crypto::signer`].
    fn sign(keys: &Self::Keys, content: &[u8]) -> Self::Signature;

    /// Whether `signature` over `content` is `signer`'s; false for a signer whose key is not known.
    fn verify(keys: &Self::Keys, signer: Principal, content: &[u8], signature: &Self::Signature) -> bool;

    /// Turns a set of votes into the proof of `claim`. `valid` is the production validation.
    fn seal(
        claim: Claim,
        evidence: Evidence<Self::Signature>,
        valid: &dyn Fn(&Evidence<Self::Signature>) -> bool,
    ) -> Self::Proof;

    /// Whether the proof convinces of `claim`: `valid` is the production validation, applied to the votes.
    fn holds(claim: Claim, proof: &Self::Proof, valid: &dyn Fn(&Evidence<Self::Signature>) -> bool) -> bool;
}

/// What a certificate says.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Claim {
    /// This digest prepared in this view under this sequence number.
    Prepared(View, SeqNo, Digest),
    /// The state after this sequence number has this digest, and the checkpoint is stable.
    Stable(SeqNo, Digest),
}

/// The signed votes behind a certificate; the content of each follows from the certificate's claim.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Evidence<S> {
    /// The primary's signature of the PRE-PREPARE; absent in a checkpoint certificate.
    pub proposal: Option<S>,
    /// Each voter with the signature of its PREPARE or CHECKPOINT. At most `n` are ever valid.
    pub votes: Vec<(ReplicaId, S)>,
}

/// What can be signed: its bytes are its tag and its postcard encoding, so that no message of one kind
/// can pass for a message of another.
pub trait Content: Serialize {
    /// A number of its own for each kind of message.
    const TAG: u8;

    /// The sender named inside the message, where the paper has one. It must be the signer.
    fn sender(&self) -> Option<Principal>;

    /// The bytes that are signed.
    fn to_be_signed(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![Self::TAG]).expect("encoding into memory cannot fail")
    }
}

/// A message with its signer's signature, not yet checked.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(bound = "T: Value")]
pub struct Signed<T, C: Crypto> {
    /// The message.
    pub content: T,
    /// Whose key verifies the signature; this, once verified, is the identity of the sender.
    pub signer: Principal,
    /// The signature over [`Content::to_be_signed`].
    pub signature: C::Signature,
}

impl<T: Content, C: Crypto> Signed<T, C> {
    /// `content`, signed with the secret key in `keys`.
    pub fn new(content: T, keys: &C::Keys) -> Self {
        let signature = C::sign(keys, &content.to_be_signed());
        Signed { content, signer: C::signer(keys), signature }
    }

    /// Whether the signature is the signer's own over this content.
    pub fn signature_is_valid(&self, keys: &C::Keys) -> bool {
        C::verify(keys, self.signer, &self.content.to_be_signed(), &self.signature)
    }
}

/// A value whose signatures and certificates have all been checked. Only this crate's verification
/// makes one, and the replica's `step` takes nothing else from the network.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    pub(crate) fn attest(value: T) -> Self {
        Verified(value)
    }

    /// The value itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
