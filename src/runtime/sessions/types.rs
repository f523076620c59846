//! What callers give and get.

use super::Why;
use std::net::SocketAddr;
use std::time::Duration;

/// Another host, by a number that the caller chooses.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Peer(pub u32);

/// What is known of a peer beforehand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerEntry {
    /// Its number.
    pub peer: Peer,
    /// Its static key.
    pub public_key: [u8; 32],
    /// Where it is, if that is configured.
    pub address: Option<SocketAddr>,
    /// Whether it is nowhere else, whatever address its datagrams come from.
    pub fixed: bool,
}

/// How the sessions with a peer stand; for people to look at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PeerView {
    /// Whether there is a session in which something can be sent.
    pub has_session: bool,
    /// From the first message of the last handshake that this host began to its answer: a round trip, the work
    /// of both ends, and what was sent again.
    pub handshake: Option<Duration>,
    /// First messages from the peer's fixed address that were made with a static key that no peer has. Anybody
    /// who can forge that address can send such.
    pub strangers: u64,
    /// When the last of them came.
    pub stranger_at: Option<Duration>,
}

/// Why a table of peers is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Two entries have this number.
    #[error("two hosts have the number {}", .0.0)]
    SamePeer(Peer),
    /// The key of this entry is that of another one, or this host's own.
    #[error("the static key of host {} is also that of another host", .0.0)]
    SameKey(Peer),
    /// Anybody can pose as the owner of this key.
    #[error("the static key of host {} is of small order: anybody could use it", .0.0)]
    WeakKey(Peer),
    /// There is no address that could be fixed.
    #[error("the address of host {} is fixed, but there is none", .0.0)]
    NoAddress(Peer),
}

/// A datagram, and where it is to be sent.
pub type Outgoing = (SocketAddr, Vec<u8>);

/// What came of a datagram.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Received {
    /// A payload of this peer.
    Payload {
        /// Who sealed it.
        peer: Peer,
    },
    /// Something that concerns sessions only.
    Nothing,
    /// Nothing, for this reason.
    Dropped(Why),
}

/// What came of a payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sealed {
    /// The datagram is to be sent there.
    Ready(SocketAddr),
    /// No session stands. The payload waits for one, and a first message is to be sent there.
    Asked(SocketAddr),
    /// The payload waits: for a session, or until the peer has shown where it is.
    Queued,
    /// It is lost, for this reason.
    Dropped(Unsent),
}

/// Why a payload was not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Unsent {
    /// There is no such peer.
    UnknownPeer,
    /// Nobody knows where the peer is: it has sent nothing yet.
    NoAddress,
    /// It is longer than [`MAX_PAYLOAD`](super::MAX_PAYLOAD).
    TooLong,
    /// No session stands, and as much waits already as may.
    QueueFull,
    /// The session has sealed all that it may.
    Exhausted,
}
