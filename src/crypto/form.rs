//! By which rule a kind of message is signed and verified: one for each kind, wherever a message of it is met.
//!
//! The rule belongs to the type of the content ([`Content::Form`](super::Content::Form)) and not to the place where a
//! signature is looked at. So one replica cannot take what another refuses because it came alone to the one and in a
//! batch to the other, and what votes and certificates hold has one form that no reply can have.
//!
//! | form | of | signed | verified |
//! |---|---|---|---|
//! | [`Single`] | everything else | each by itself | each by itself, strictly |
//! | [`VerifiedTogether`] | REQUEST | each by itself | any number at once, by a rule that says of each the same |
//! | [`SignedTogether`] | REPLY | any number at once | each by itself |

use super::{Crypto, Statement, Value};
use crate::types::Principal;

/// How one kind of message is signed and verified.
pub trait Form {
    /// What is carried beside the message.
    type Signature<C: Crypto>: Value;

    /// Signs the bytes of one message.
    fn sign<C: Crypto>(keys: &C::Keys, content: &[u8]) -> Self::Signature<C>;

    /// Whether this is `signer`'s signature over these bytes.
    fn verify<C: Crypto>(
        keys: &C::Keys,
        signer: Principal,
        content: &[u8],
        signature: &Self::Signature<C>,
    ) -> bool;
}

/// Signed and verified by itself.
#[derive(Clone, Copy, Debug)]
pub struct Single;

impl Form for Single {
    type Signature<C: Crypto> = C::Signature;

    fn sign<C: Crypto>(keys: &C::Keys, content: &[u8]) -> C::Signature {
        C::sign(keys, content)
    }

    fn verify<C: Crypto>(
        keys: &C::Keys,
        signer: Principal,
        content: &[u8],
        signature: &C::Signature,
    ) -> bool {
        C::verify(keys, signer, content, signature)
    }
}

/// Signed by itself, and verified by the rule of [`Crypto::verify_together`], also where there is only one.
#[derive(Clone, Copy, Debug)]
pub struct VerifiedTogether;

impl Form for VerifiedTogether {
    type Signature<C: Crypto> = C::Signature;

    fn sign<C: Crypto>(keys: &C::Keys, content: &[u8]) -> C::Signature {
        C::sign(keys, content)
    }

    fn verify<C: Crypto>(
        keys: &C::Keys,
        signer: Principal,
        content: &[u8],
        signature: &C::Signature,
    ) -> bool {
        C::verify_together(keys, &[Statement { signer, content, signature }])
    }
}

/// Signed together with others of its kind, and verified without them.
#[derive(Clone, Copy, Debug)]
pub struct SignedTogether;

impl Form for SignedTogether {
    type Signature<C: Crypto> = C::SharedSignature;

    fn sign<C: Crypto>(keys: &C::Keys, content: &[u8]) -> C::SharedSignature {
        let signature = C::sign_together(keys, &[content.to_vec()]).pop();
        signature.expect("there is a signature for each content")
    }

    fn verify<C: Crypto>(
        keys: &C::Keys,
        signer: Principal,
        content: &[u8],
        signature: &C::SharedSignature,
    ) -> bool {
        C::verify_shared(keys, signer, content, signature)
    }
}
