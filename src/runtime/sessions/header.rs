//! The four kinds of datagrams, as bytes. Reading is total: any bytes are a datagram or nothing.
//!
//! | kind | bytes | content |
//! |---|---|---|
//! | first message | 117 | index of the initiator (4), Noise (96), cookie or zeros (16) |
//! | answer | 73 | index of the initiator (4), Noise (48), sealed: index of the responder (20) |
//! | cookie | 37 | index of the initiator (4), first half of its ephemeral key (16), cookie (16) |
//! | data | 30 and the payload | index of the receiver (4), counter (8), sealed: the payload and its kind |
//!
//! Each begins with a byte: the version in the high half, the kind in the low one. Numbers are little-endian.

const VERSION: u8 = 1;
const FIRST: u8 = VERSION << 4 | 1;
const ANSWER: u8 = VERSION << 4 | 2;
const COOKIE: u8 = VERSION << 4 | 3;
const DATA: u8 = VERSION << 4 | 4;

/// The authenticator of the cipher, in bytes.
pub const TAG_BYTES: usize = 16;
/// The first message of Noise IK without a payload.
pub const FIRST_NOISE: usize = 96;
/// The second message of Noise IK without a payload.
pub const ANSWER_NOISE: usize = 48;
/// An index, sealed.
pub const SEALED_INDEX: usize = 4 + TAG_BYTES;
/// A first message.
pub const FIRST_BYTES: usize = 1 + 4 + FIRST_NOISE + 16;
/// The answer to one.
pub const ANSWER_BYTES: usize = 1 + 4 + ANSWER_NOISE + SEALED_INDEX;
/// A cookie in place of an answer.
pub const COOKIE_BYTES: usize = 1 + 4 + 16 + 16;
/// What comes before the sealed part of a data datagram.
pub const DATA_HEADER: usize = 1 + 4 + 8;
/// Where the cookie of a first message begins.
const COOKIE_AT: usize = FIRST_BYTES - 16;

/// A proof that the sender receives what is sent to its address.
pub type Cookie = [u8; 16];

/// One datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Datagram<'a> {
    /// Asks for a session.
    First { sender: u32, noise: &'a [u8; FIRST_NOISE], cookie: &'a Cookie },
    /// Grants one.
    Answer { receiver: u32, noise: &'a [u8; ANSWER_NOISE], sender: &'a [u8; SEALED_INDEX] },
    /// Asks to ask again, with this.
    Cookie { receiver: u32, echo: &'a [u8; 16], cookie: &'a Cookie },
    /// In a session.
    Data { receiver: u32, counter: u64, sealed: &'a [u8] },
}

/// The datagram that these bytes are, if they are one.
pub fn read(bytes: &[u8]) -> Option<Datagram<'_>> {
    let (&kind, rest) = bytes.split_first()?;
    let (index, rest) = rest.split_first_chunk()?;
    let index = u32::from_le_bytes(*index);
    match kind {
        FIRST => {
            let (noise, rest) = rest.split_first_chunk()?;
            Some(Datagram::First { sender: index, noise, cookie: rest.try_into().ok()? })
        }
        ANSWER => {
            let (noise, rest) = rest.split_first_chunk()?;
            Some(Datagram::Answer { receiver: index, noise, sender: rest.try_into().ok()? })
        }
        COOKIE => {
            let (echo, rest) = rest.split_first_chunk()?;
            Some(Datagram::Cookie { receiver: index, echo, cookie: rest.try_into().ok()? })
        }
        DATA => {
            let (counter, sealed) = rest.split_first_chunk()?;
            let counter = u64::from_le_bytes(*counter);
            (sealed.len() > TAG_BYTES).then_some(Datagram::Data { receiver: index, counter, sealed })
        }
        _ => None,
    }
}

/// A first message without a cookie.
pub fn first(sender: u32, noise: &[u8; FIRST_NOISE]) -> [u8; FIRST_BYTES] {
    let mut bytes = [0; FIRST_BYTES];
    bytes[0] = FIRST;
    bytes[1..5].copy_from_slice(&sender.to_le_bytes());
    bytes[5..COOKIE_AT].copy_from_slice(noise);
    bytes
}

/// Puts a cookie into a first message.
pub fn set_cookie(first: &mut [u8; FIRST_BYTES], cookie: &Cookie) {
    first[COOKIE_AT..].copy_from_slice(cookie);
}

/// The cookie in a first message.
pub fn cookie_of(first: &[u8; FIRST_BYTES]) -> &[u8] {
    &first[COOKIE_AT..]
}

/// The answer to a first message.
pub fn answer(receiver: u32, noise: &[u8; ANSWER_NOISE], sender: &[u8; SEALED_INDEX]) -> [u8; ANSWER_BYTES] {
    let mut bytes = [0; ANSWER_BYTES];
    bytes[0] = ANSWER;
    bytes[1..5].copy_from_slice(&receiver.to_le_bytes());
    bytes[5..5 + ANSWER_NOISE].copy_from_slice(noise);
    bytes[5 + ANSWER_NOISE..].copy_from_slice(sender);
    bytes
}

/// A cookie for the sender of this first message.
pub fn cookie(receiver: u32, noise: &[u8; FIRST_NOISE], cookie: &Cookie) -> [u8; COOKIE_BYTES] {
    let mut bytes = [0; COOKIE_BYTES];
    bytes[0] = COOKIE;
    bytes[1..5].copy_from_slice(&receiver.to_le_bytes());
    bytes[5..21].copy_from_slice(&noise[..16]);
    bytes[21..].copy_from_slice(cookie);
    bytes
}

/// The header of a data datagram.
pub fn data(receiver: u32, counter: u64) -> [u8; DATA_HEADER] {
    let mut bytes = [0; DATA_HEADER];
    bytes[0] = DATA;
    bytes[1..5].copy_from_slice(&receiver.to_le_bytes());
    bytes[5..].copy_from_slice(&counter.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // No reply to a stranger is longer than its question.
    const _: () = assert!(ANSWER_BYTES < FIRST_BYTES && COOKIE_BYTES < FIRST_BYTES);

    proptest! {
        #[test]
        fn any_bytes_are_a_datagram_that_is_written_the_same_or_nothing(
            kind in prop_oneof![0x10u8..0x16, any::<u8>()],
            rest in prop::collection::vec(any::<u8>(), 0..160),
            length in prop::sample::select(vec![0usize, 1, 12, 28, 29, 36, 72, 116, 159]),
        ) {
            let mut bytes = vec![kind];
            bytes.extend(rest.iter().chain(std::iter::repeat(&7)).take(length));
            let written = match read(&bytes) {
                None => return Ok(()),
                Some(Datagram::First { sender, noise, cookie }) => {
                    let mut written = first(sender, noise);
                    set_cookie(&mut written, cookie);
                    prop_assert_eq!(cookie_of(&written), &cookie[..]);
                    written.to_vec()
                }
                Some(Datagram::Answer { receiver, noise, sender }) => answer(receiver, noise, sender).to_vec(),
                Some(Datagram::Cookie { receiver, echo, cookie: proof }) => {
                    let mut noise = [0; FIRST_NOISE];
                    noise[..16].copy_from_slice(echo);
                    cookie(receiver, &noise, proof).to_vec()
                }
                Some(Datagram::Data { receiver, counter, sealed }) => {
                    [&data(receiver, counter)[..], sealed].concat()
                }
            };
            prop_assert_eq!(written, bytes);
        }
    }
}
