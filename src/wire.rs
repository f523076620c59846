//! The bytes of a message: one version byte, then the message in postcard.
//!
//! Decoding is total: any bytes are a message or a counted [`Rejection`], never a panic. At no time does it
//! hold more than [`ALLOCATION_PER_BYTE`] times the input's length plus [`MAX_ALLOCATION_SLACK`]. What the
//! format cannot know (the configured window, the size of a batch) is checked by
//! [`verify`](crate::replica::verify::verify).
//!
//! Encoding is canonical, decoding accepts a little more: a number may be written longer than need be, so
//! several strings can be one message. Whatever is accepted encodes to bytes that decode to the same, and
//! signatures and digests are over these, never over the bytes received.

use crate::crypto::Crypto;
use crate::message::Message;
use crate::parameters::MAX_MESSAGE_BYTES;
use crate::rejection::Rejection;

/// The version of the format; a message of another version is rejected.
pub const VERSION: u8 = 2;
/// What decoding may hold for each byte of its input, in bytes. The worst are sequence numbers of one byte
/// each: eight in memory, in a list that has doubled to up to twice its length, with the old half beside it.
pub const ALLOCATION_PER_BYTE: usize = 24;
/// What decoding may hold beyond that, in bytes: what lists reserve for elements that turn out to be missing.
/// A list reserves nothing if it announces more elements than the input has bytes left, and never more than
/// 1 MiB; three are nested at most, and the room of the outermost is within [`ALLOCATION_PER_BYTE`].
pub const MAX_ALLOCATION_SLACK: usize = 2 * 1024 * 1024;

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
