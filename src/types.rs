//! The numbers of the paper, each a type of its own, and what follows from `n` and `f` alone.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A view number `v`; views are numbered consecutively from 0. Source: OSDI'99 §4.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct View(pub u64);

impl View {
    /// The view after this one; the highest view is its own successor, so the number never wraps.
    pub fn next(self) -> Self {
        View(self.0.saturating_add(1))
    }
}

/// A sequence number `n`; the first request has 1, and 0 stands for the initial state.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// The sequence number after this one, saturating.
    pub fn next(self) -> Self {
        SeqNo(self.0.saturating_add(1))
    }
}

/// The index of a replica, `0..n`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ReplicaId(pub u16);

/// The index of a registered client, counted from 0.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ClientId(pub u32);

/// A client's request timestamp `t`, strictly increasing over the requests of one client.
///
/// Unit: the client's choice; this crate's client uses microseconds of its clock or, where that has
/// not advanced, the last timestamp plus one. Source: OSDI'99 §4.1.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

/// Somebody who signs: a replica or a client. Identity is the key, never a network address.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Principal {
    /// A replica of the cluster.
    Replica(ReplicaId),
    /// A registered client.
    Client(ClientId),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Replica(id) => write!(f, "replica {}", id.0),
            Principal::Client(id) => write!(f, "client {}", id.0),
        }
    }
}

impl From<ReplicaId> for Principal {
    fn from(replica: ReplicaId) -> Self {
        Principal::Replica(replica)
    }
}

impl From<ClientId> for Principal {
    fn from(client: ClientId) -> Self {
        Principal::Client(client)
    }
}

/// A 256-bit digest `d`.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of the null request, a no-op that fills a gap in a new view. Source: OSDI'99 §4.4.
    pub const NULL: Digest = Digest([0; 32]);
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Digest::NULL {
            return f.write_str("null");
        }
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Immutable bytes that are cheap to share: operations, results, blocks of state.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Bytes(Arc<[u8]>);

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Bytes {
    /// Where they are. As long as this value lives, only clones of it are there.
    pub fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }

    /// Whether both are the very same allocation, so that a digest computed for one serves the other.
    pub fn same_allocation(&self, other: &Bytes) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Bytes(Arc::from(&[][..]))
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes(Arc::from(bytes))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(Arc::from(bytes))
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self) {
            Ok(text) if text.len() <= 40 => write!(f, "{text:?}"),
            _ => write!(f, "<{} bytes>", self.len()),
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes::from(bytes))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes::from(bytes))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
                // Text formats such as JSON write bytes as a sequence of numbers.
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Bytes::from(bytes))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// The size of the cluster and of the faults it is built for, given apart.
///
/// Any `n >= 1` and any `f` can be named, so that a cluster too small for its `f` can be explored;
/// [`Cluster::tolerates_f`] says whether it may be run.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Cluster {
    n: u16,
    f: u16,
}

impl Cluster {
    /// A cluster of `n` replicas, at most `f` of them Byzantine. `n` below 1 is taken as 1.
    pub fn new(n: u16, f: u16) -> Self {
        Cluster { n: n.max(1), f }
    }

    /// The number of replicas.
    pub fn n(&self) -> usize {
        usize::from(self.n)
    }

    /// The number of Byzantine replicas tolerated.
    pub fn f(&self) -> usize {
        usize::from(self.f)
    }

    /// Whether `n >= 3f + 1`, the least number of replicas with which PBFT is safe and live.
    /// Source: OSDI'99 §3.
    pub fn tolerates_f(&self) -> bool {
        self.n() > 3 * self.f()
    }

    /// `Q = ceil((n + f + 1) / 2)`: any two quorums share a correct replica. `2f + 1` at `n = 3f + 1`.
    pub fn quorum(&self) -> usize {
        (self.n() + self.f() + 1).div_ceil(2)
    }

    /// `f + 1`: at least one of any f + 1 replicas is correct.
    pub fn weak_quorum(&self) -> usize {
        self.f() + 1
    }

    /// The primary of `view`: replica `view mod n`. Source: OSDI'99 §4.
    pub fn primary(&self, view: View) -> ReplicaId {
        ReplicaId(u16::try_from(view.0 % u64::from(self.n)).expect("a remainder is below n"))
    }

    /// Every replica, in order.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaId> + use<> {
        (0..self.n).map(ReplicaId)
    }

    /// Whether `replica` is one of the `n`.
    pub fn contains(&self, replica: ReplicaId) -> bool {
        replica.0 < self.n
    }
}

/// The window `(h, H]` of sequence numbers accepted, `H = h + L`. Source: OSDI'99 §4.3.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Watermarks {
    /// `h`, the sequence number of the last stable checkpoint.
    pub h: SeqNo,
    /// `L`, the length of the window in slots.
    pub window: u64,
}

impl Watermarks {
    /// `H`, the highest sequence number accepted.
    pub fn high(&self) -> SeqNo {
        SeqNo(self.h.0.saturating_add(self.window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_are_2f_plus_1_at_3f_plus_1() {
        for f in 0..5 {
            assert_eq!(Cluster::new(3 * f + 1, f).quorum(), usize::from(2 * f + 1));
        }
    }

    #[test]
    fn any_two_quorums_share_a_correct_replica_and_one_is_always_available() {
        for f in 0..6u16 {
            for n in 3 * f + 1..3 * f + 8 {
                let cluster = Cluster::new(n, f);
                let common = 2 * cluster.quorum() - cluster.n();
                assert!(common > cluster.f(), "n={n} f={f}");
                assert!(cluster.quorum() <= cluster.n() - cluster.f(), "n={n} f={f}");
            }
        }
    }

    #[test]
    fn primaries_rotate() {
        let cluster = Cluster::new(4, 1);
        assert_eq!(cluster.primary(View(0)), ReplicaId(0));
        assert_eq!(cluster.primary(View(6)), ReplicaId(2));
    }
}
