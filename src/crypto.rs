//! Who said what: signatures, digests, and the only way from a [`Signed`] message to a [`Verified`] one.
//!
//! The replica is written against the trait [`Crypto`]. Production uses ed25519 and SHA-256
//! ([`ed25519`]); models use symbolic signatures that only their owner can make. Both run the same
//! verification code (`replica::verify`).

mod cofactored;
pub mod ed25519;
pub mod form;
mod known_key;
pub mod merkle;

use crate::types::{Digest, Principal, ReplicaId, SeqNo, View};
use form::{Form, SignedTogether, VerifiedTogether};
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
    /// A signature over the bytes of one of several messages that were signed at once.
    type SharedSignature: Value;
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

    /// Whether each of these is its signer's. Of each alone and of any number together the same must come out. It may
    /// be another rule than that of [`Crypto::verify`], if what [`Crypto::sign`] makes is valid by both.
    fn verify_together(keys: &Self::Keys, statements: &[Statement<'_, Self>]) -> bool {
        statements.iter().all(|s| Self::verify(keys, s.signer, s.content, s.signature))
    }

    /// Signs each of these as [`Crypto::signer`], in their order.
    fn sign_together(keys: &Self::Keys, contents: &[Vec<u8>]) -> Vec<Self::SharedSignature>;

    /// Whether `signer` has signed `content`, by itself or together with others.
    fn verify_shared(
        keys: &Self::Keys,
        signer: Principal,
        content: &[u8],
        signature: &Self::SharedSignature,
    ) -> bool;

    /// Turns a set of votes into the proof of `claim`. `valid` is the production validation.
    fn seal(
        claim: Claim,
        evidence: Evidence<Self::Signature>,
        valid: &dyn Fn(&Evidence<Self::Signature>) -> bool,
    ) -> Self::Proof;

    /// Whether the proof convinces of `claim`: `valid` is the production validation, applied to the votes.
    fn holds(claim: Claim, proof: &Self::Proof, valid: &dyn Fn(&Evidence<Self::Signature>) -> bool) -> bool;
}

/// Bytes, and the signature that somebody is said to have made over them.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a, C: Crypto> {
    /// Who is said to have signed.
    pub signer: Principal,
    /// What was signed.
    pub content: &'a [u8],
    /// The signature.
    pub signature: &'a C::Signature,
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
    /// By which rule it is signed and verified, wherever it is met.
    type Form: Form;

    /// The sender named inside the message, where the paper has one. It must be the signer.
    fn sender(&self) -> Option<Principal>;

    /// The bytes that are signed.
    fn to_be_signed(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![Self::TAG]).expect("encoding into memory cannot fail")
    }
}

/// What is carried beside a message of this kind.
pub type SignatureOf<T, C> = <<T as Content>::Form as Form>::Signature<C>;

/// A message with its signer's signature, not yet checked.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(bound = "T: Value")]
pub struct Signed<T: Content, C: Crypto> {
    /// The message.
    pub content: T,
    /// Whose key verifies the signature; this, once verified, is the identity of the sender.
    pub signer: Principal,
    /// The signature over [`Content::to_be_signed`].
    pub signature: SignatureOf<T, C>,
}

impl<T: Content, C: Crypto> Signed<T, C> {
    /// `content`, signed with the secret key in `keys`.
    pub fn new(content: T, keys: &C::Keys) -> Self {
        let signature = T::Form::sign::<C>(keys, &content.to_be_signed());
        Signed { content, signer: C::signer(keys), signature }
    }

    /// Whether the signature is the signer's own over this content.
    pub fn signature_is_valid(&self, keys: &C::Keys) -> bool {
        T::Form::verify::<C>(keys, self.signer, &self.content.to_be_signed(), &self.signature)
    }
}

impl<T: Content<Form = SignedTogether>, C: Crypto> Signed<T, C> {
    /// Each of these, signed together with the others.
    pub fn new_together(contents: Vec<T>, keys: &C::Keys) -> Vec<Self> {
        let bytes: Vec<Vec<u8>> = contents.iter().map(Content::to_be_signed).collect();
        let signatures = C::sign_together(keys, &bytes);
        let signed = |(content, signature)| Signed { content, signer: C::signer(keys), signature };
        contents.into_iter().zip(signatures).map(signed).collect()
    }
}

impl<T: Content<Form = VerifiedTogether>, C: Crypto> Signed<T, C> {
    /// Whether [`Signed::signature_is_valid`] of each of these: at a lower price for each, the more there are, if all
    /// are valid, and at once false if one is not.
    pub fn all_valid(signed: &[&Self], keys: &C::Keys) -> bool {
        let bytes: Vec<Vec<u8>> = signed.iter().map(|of| of.content.to_be_signed()).collect();
        let statements: Vec<Statement<'_, C>> = (signed.iter().zip(&bytes))
            .map(|(of, content)| Statement { signer: of.signer, content, signature: &of.signature })
            .collect();
        C::verify_together(keys, &statements)
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
