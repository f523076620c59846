//! One datagram: a whole message, a fragment of one, or a request for lost fragments.
//!
//! Reading is total: any bytes are a frame or nothing. Frames carry no authentication of their own: the
//! messages in them are signed, and a message put together from forged fragments is no message.

/// What a datagram begins with.
const MAGIC: u8 = 0xb5;
const WHOLE: u8 = 1;
const FRAGMENT: u8 = 2;
const RESEND: u8 = 3;

/// Bytes of a datagram that are not the message, at most.
pub const OVERHEAD: usize = 18;
/// The shortest fragments, but for the last one of a message, in bytes.
pub const MIN_FRAGMENT: usize = 256;
/// The most fragments asked for in one datagram.
pub const MAX_MISSING: usize = 512;

/// The content of one datagram.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame<'a> {
    /// A message.
    Whole(&'a [u8]),
    /// A piece of a message.
    Fragment(Fragment<'a>),
    /// Asks the sender of message `id` for these pieces again.
    Resend {
        /// The message.
        id: u64,
        /// The indices, at most [`MAX_MISSING`].
        missing: Vec<u16>,
    },
}

/// A piece of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fragment<'a> {
    /// A number that the sender gives to the message.
    pub id: u64,
    /// Which piece, counted from 0.
    pub index: u16,
    /// How many there are.
    pub count: u16,
    /// The length of the message in bytes.
    pub total: u32,
    /// The piece.
    pub bytes: &'a [u8],
}

/// Writes a frame over `buffer`.
pub fn write(frame: &Frame<'_>, buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.push(MAGIC);
    match frame {
        Frame::Whole(bytes) => {
            buffer.push(WHOLE);
            buffer.extend_from_slice(bytes);
        }
        Frame::Fragment(Fragment { id, index, count, total, bytes }) => {
            buffer.push(FRAGMENT);
            buffer.extend_from_slice(&id.to_le_bytes());
            buffer.extend_from_slice(&index.to_le_bytes());
            buffer.extend_from_slice(&count.to_le_bytes());
            buffer.extend_from_slice(&total.to_le_bytes());
            buffer.extend_from_slice(bytes);
        }
        Frame::Resend { id, missing } => {
            buffer.push(RESEND);
            buffer.extend_from_slice(&id.to_le_bytes());
            for index in missing {
                buffer.extend_from_slice(&index.to_le_bytes());
            }
        }
    }
}

/// The frame that a datagram is, if it is one.
pub fn read(datagram: &[u8]) -> Option<Frame<'_>> {
    let ([MAGIC, kind], rest) = datagram.split_first_chunk()? else { return None };
    match *kind {
        WHOLE => Some(Frame::Whole(rest)),
        FRAGMENT => {
            let (id, rest) = rest.split_first_chunk()?;
            let (index, rest) = rest.split_first_chunk()?;
            let (count, rest) = rest.split_first_chunk()?;
            let (total, bytes) = rest.split_first_chunk()?;
            let fragment = Fragment {
                id: u64::from_le_bytes(*id),
                index: u16::from_le_bytes(*index),
                count: u16::from_le_bytes(*count),
                total: u32::from_le_bytes(*total),
                bytes,
            };
            fragment.is_sound().then_some(Frame::Fragment(fragment))
        }
        RESEND => {
            let (id, rest) = rest.split_first_chunk()?;
            let (pairs, []) = rest.as_chunks::<2>() else { return None };
            let sound = (1..=MAX_MISSING).contains(&pairs.len());
            let missing = || pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect();
            sound.then(|| Frame::Resend { id: u64::from_le_bytes(*id), missing: missing() })
        }
        _ => None,
    }
}

impl Fragment<'_> {
    /// Whether the numbers fit each other: no more pieces than the length needs at [`MIN_FRAGMENT`] bytes
    /// each.
    fn is_sound(&self) -> bool {
        let (total, count) = (self.total as usize, usize::from(self.count));
        let last = usize::from(self.index) + 1 == count;
        self.index < self.count
            && count >= 2
            && total <= crate::parameters::MAX_MESSAGE_BYTES
            && count <= total.div_ceil(MIN_FRAGMENT)
            && !self.bytes.is_empty()
            && self.bytes.len() < total
            && (last || self.bytes.len() >= MIN_FRAGMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let bytes = vec![7; 300];
        let piece = Fragment { id: 1 << 40, index: 1, count: 3, total: 900, bytes: &bytes };
        for frame in [
            Frame::Whole(&bytes),
            Frame::Whole(&[]),
            Frame::Fragment(piece),
            Frame::Resend { id: 9, missing: vec![0, 65535] },
        ] {
            let mut datagram = Vec::new();
            write(&frame, &mut datagram);
            assert!(datagram.len() <= OVERHEAD + bytes.len());
            assert_eq!(read(&datagram), Some(frame));
        }
    }

    #[test]
    fn fragments_whose_numbers_do_not_fit_are_no_frames() {
        let bytes = vec![7; 300];
        let sound = Fragment { id: 1, index: 0, count: 3, total: 900, bytes: &bytes };
        for wrong in [
            Fragment { index: 3, ..sound },
            Fragment { count: 1, index: 0, ..sound },
            Fragment { count: 60_000, ..sound },
            Fragment { total: u32::MAX, ..sound },
            Fragment { total: 300, count: 2, ..sound },
            Fragment { bytes: &bytes[..100], ..sound },
            Fragment { bytes: &[], index: 2, ..sound },
        ] {
            let mut datagram = Vec::new();
            write(&Frame::Fragment(wrong), &mut datagram);
            assert_eq!(read(&datagram), None, "{wrong:?}");
        }
    }

    #[test]
    fn any_beginning_of_a_frame_is_read_without_a_panic() {
        let bytes = vec![7; 300];
        let mut datagram = Vec::new();
        write(
            &Frame::Fragment(Fragment { id: 1, index: 1, count: 3, total: 900, bytes: &bytes }),
            &mut datagram,
        );
        for length in 0..20 {
            assert_eq!(read(&datagram[..length]), None);
        }
    }
}
