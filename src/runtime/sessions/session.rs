//! One session: what both ends of a handshake share. Any number of threads may seal and open.

use super::header::{self, DATA_HEADER, TAG_BYTES};
use super::noise::Keys;
use super::window::Window;
use super::{Peer, Why, lock};
use snow::StatelessTransportState;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a datagram of a session is for; its last byte before it is sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content {
    /// Bytes of the caller.
    Payload,
    /// Nothing: something was heard, or a session is confirmed.
    KeepAlive,
    /// Asks for a [`Content::KeepAlive`] at once. As long as a challenge, so that it pays for one.
    Ping,
    /// Asks for an echo of these bytes.
    Challenge,
    /// The bytes of a challenge.
    Echo,
}

/// The length of a challenge, an echo and a ping, in bytes.
pub const TOKEN_BYTES: usize = 8;

impl Content {
    const ALL: [Content; 5] =
        [Content::Payload, Content::KeepAlive, Content::Ping, Content::Challenge, Content::Echo];

    /// Whether a body of this length can be of this kind.
    fn fits(self, bytes: usize) -> bool {
        match self {
            Content::Payload => true,
            Content::KeepAlive => bytes == 0,
            Content::Ping | Content::Challenge | Content::Echo => bytes == TOKEN_BYTES,
        }
    }
}

/// The keys of a session, what has been sent and what has been received.
pub struct Session {
    pub peer: Peer,
    /// How the peer names it in what it sends.
    pub local: u32,
    /// How this host names it in what it sends.
    remote: u32,
    /// Whether this host asked for it.
    pub initiator: bool,
    /// The same number at both ends.
    pub rank: u64,
    pub created: Duration,
    transport: StatelessTransportState,
    /// The next counter: drawn once for each datagram, so that no nonce is used twice.
    counter: AtomicU64,
    window: Mutex<Window>,
}

impl Session {
    pub fn new(peer: Peer, keys: Keys, local: u32, remote: u32, initiator: bool, now: Duration) -> Self {
        Session {
            peer,
            local,
            remote,
            initiator,
            rank: keys.rank,
            created: now,
            transport: keys.transport,
            counter: AtomicU64::new(0),
            window: Mutex::default(),
        }
    }

    /// How many datagrams have been sealed.
    pub fn sealed(&self) -> u64 {
        self.counter.load(Relaxed)
    }

    /// Appends a datagram to `out`, unless the session has sealed `most` already.
    pub fn seal(&self, content: Content, body: &[u8], most: u64, out: &mut Vec<u8>) -> bool {
        let counter = self.counter.fetch_add(1, Relaxed);
        if counter >= most {
            // Draws beyond the end are harmless: there are 2^62 of them before the counter could wrap.
            return false;
        }
        out.extend_from_slice(&header::data(self.remote, counter));
        let start = out.len();
        let plain = body.len() + 1;
        // The plaintext is put together behind the room for the result, and cut off afterwards.
        out.resize(start + plain + TAG_BYTES, 0);
        out.extend_from_slice(body);
        out.push(content as u8);
        let (room, text) = out[start..].split_at_mut(plain + TAG_BYTES);
        let sealed = self.transport.write_message(counter, text, room).is_ok();
        out.truncate(if sealed { start + plain + TAG_BYTES } else { start - DATA_HEADER });
        sealed
    }

    /// Opens a datagram into `out`, once, and tells whether it is the newest so far.
    ///
    /// # Errors
    /// If it was received before, or is not of this session.
    pub fn open(&self, counter: u64, sealed: &[u8], out: &mut Vec<u8>) -> Result<(Content, bool), Why> {
        // A replay costs no decryption. What is forged must not move the window, so it moves afterwards.
        if !lock(&self.window).is_fresh(counter) {
            return Err(Why::Replayed);
        }
        out.clear();
        out.resize(sealed.len() - TAG_BYTES, 0);
        if self.transport.read_message(counter, sealed, out).is_err() {
            out.clear();
            return Err(Why::Forged);
        }
        let Some(newest) = lock(&self.window).accept(counter) else {
            // Another thread has opened the same datagram meanwhile.
            out.clear();
            return Err(Why::Replayed);
        };
        let kind = out.pop().and_then(|kind| Content::ALL.get(usize::from(kind)));
        match kind {
            Some(&content) if content.fits(out.len()) => Ok((content, newest)),
            _ => {
                out.clear();
                Err(Why::Malformed)
            }
        }
    }
}
