//! The bytes of a message: one version byte, then the message in postcard.
//!
//! Decoding is total: any bytes are a message or a counted [`Rejection`], never a panic. It allocates at most
//! 64 times the input's length plus [`MAX_ALLOCATION_SLACK`] (the room that a list's announced length may
//! reserve before its elements turn out to be missing, once at each of the five levels of nesting). What the
//! format cannot know (the configured window, the size of a batch) is checked by
//! [`verify`](crate::replica::verify::verify).

use crate::crypto::Crypto;
use crate::message::Message;
use crate::rejection::Rejection;
use crate::types::{Cluster, Parameters};

/// The version of the format; a message of another version is rejected.
pub const VERSION: u8 = 1;
/// The longest message, in bytes. A configuration whose NEW-VIEW could be longer is refused
/// ([`Parameters::problem`]).
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// What decoding may allocate beyond 64 times the length of its input, in bytes.
pub const MAX_ALLOCATION_SLACK: usize = 5 * 1024 * 1024;

/// The bytes of a message.
pub fn encode<C: Crypto>(message: &Message<C>) -> Vec<u8> {
    postcard::to_extend(message, vec![VERSION]).expect("encoding into memory cannot fail")
}

/// The message that these bytes are.
///
/// # Errors
/// `Oversize`, `WrongVersion`, or `Malformed` where the bytes are no message or more than one.
pub fn decode<C: Crypto>(bytes: &[u8]) -> Result<Message<C>, Rejection> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(Rejection::Oversize);
    }
    match bytes.split_first() {
        None => Err(Rejection::Malformed),
        Some((&version, _)) if version != VERSION => Err(Rejection::WrongVersion),
        Some((_, body)) => match postcard::take_from_bytes(body) {
            Ok((message, [])) => Ok(message),
            _ => Err(Rejection::Malformed),
        },
    }
}

/// An upper bound on the bytes of the longest NEW-VIEW with ed25519 signatures: a quorum of VIEW-CHANGEs, each
/// with a certificate for every sequence number of the window, and an `O` as long as the window.
pub fn largest_new_view(cluster: &Cluster, parameters: &Parameters) -> usize {
    let window = usize::try_from(parameters.window).unwrap_or(usize::MAX);
    let (number, digest, signature) = (10, 32, 64);
    let vote = 3 + signature;
    let envelope = 4 + signature;
    let certificate = 3 * number + digest + 1 + signature + cluster.quorum() * vote;
    let pre_prepare = 2 * number + digest + envelope;
    let view_change =
        certificate.saturating_mul(window.saturating_add(1)).saturating_add(4 * number + envelope);
    (view_change.saturating_mul(cluster.quorum()))
        .saturating_add(pre_prepare.saturating_mul(window))
        .saturating_add(3 * number + envelope)
}
