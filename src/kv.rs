//! A key-value store, the demonstration service. It uses the public interface of this crate only.
//!
//! Keys are spread over a fixed number of buckets, each of which is kept as it is encoded in a snapshot. So a
//! snapshot copies nothing, and a checkpoint digests only the buckets that have changed: the pause it makes
//! is bounded by what can be written between two checkpoints and by the number of buckets, not by the state.
//! Nothing stops a client from choosing keys that all fall into one bucket; a service that strangers may fill
//! would spread them by a secret.

use crate::parameters::MAX_RESULT_BYTES;
use crate::service::{RestoreError, Service, may_be_cut};
use crate::types::{Bytes, ClientId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The buckets. At a GiB of state each is 8 KiB; twice as many would make the list of them the larger part of
/// a checkpoint.
const BUCKETS: u32 = 1 << 17;
/// The longest value, in bytes: the result of reading it is as long as a result may be.
pub const MAX_VALUE_BYTES: usize = MAX_RESULT_BYTES - VALUE_OVERHEAD;
/// What a result has besides a value of that length: which outcome it is, that there is a value, and the
/// length, which takes three bytes.
const VALUE_OVERHEAD: usize = 5;

/// What a client can ask for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Operation {
    /// The value of a key. Read-only.
    Get {
        /// The key.
        key: Bytes,
    },
    /// Sets a key to a value of at most [`MAX_VALUE_BYTES`]; the result is the value before.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key; the result is the value before.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Sets or removes a key if it has the expected value.
    CompareAndSwap {
        /// The key.
        key: Bytes,
        /// The value it must have, or none if it must be absent.
        expected: Option<Bytes>,
        /// Its new value, of at most [`MAX_VALUE_BYTES`], or none to remove it.
        new: Option<Bytes>,
    },
}

impl Operation {
    /// The operation as an opaque request.
    pub fn to_bytes(&self) -> Bytes {
        Bytes::from(postcard::to_stdvec(self).expect("encoding into memory cannot fail"))
    }

    /// The operation that a request stands for, unless the bytes are none.
    pub fn from_bytes(operation: &[u8]) -> Option<Operation> {
        postcard::from_bytes(operation).ok()
    }
}

/// What an operation results in.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The value of the key, before the change if there was one.
    Value(Option<Bytes>),
    /// Whether the key had the expected value and was changed.
    Swapped(bool),
    /// The bytes are no operation.
    Malformed,
    /// Nothing was changed: no result could hold the new value.
    TooLong {
        /// The longest value, in bytes: [`MAX_VALUE_BYTES`].
        limit: u64,
    },
    /// The result was cut off at its bound: it begins with a value that was stored before values had one.
    /// What was asked for was done. A client reads this from the length of a result; no replica sends it.
    CutOff,
}

impl Outcome {
    /// The outcome that a result stands for.
    pub fn from_bytes(result: &[u8]) -> Outcome {
        let unreadable = if may_be_cut(result) { Outcome::CutOff } else { Outcome::Malformed };
        postcard::from_bytes(result).unwrap_or(unreadable)
    }

    fn to_bytes(&self) -> Bytes {
        Bytes::from(postcard::to_stdvec(self).expect("encoding into memory cannot fail"))
    }
}

/// The keys of one bucket and their values, in order, so that equal buckets are equal bytes.
type Bucket = BTreeMap<Bytes, Bytes>;

/// Keys and values, both any bytes, in buckets by key. No empty bucket is kept.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyValue {
    /// Each bucket as [`encode`] makes it.
    buckets: BTreeMap<u32, Bytes>,
}

fn bucket_of(key: &[u8]) -> u32 {
    // FNV-1a: only its spread matters.
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let folded = hash ^ (hash >> 32);
    u32::try_from(folded % u64::from(BUCKETS)).expect("a remainder is below its divisor")
}

fn encode(index: u32, bucket: &Bucket) -> Bytes {
    Bytes::from(postcard::to_stdvec(&(index, bucket)).expect("encoding into memory cannot fail"))
}

fn decode(chunk: &[u8]) -> Result<(u32, Bucket), RestoreError> {
    postcard::from_bytes(chunk).map_err(|_| RestoreError)
}

impl KeyValue {
    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.bucket(bucket_of(key)).get(key).cloned()
    }

    /// Every key that has a value, in no order worth knowing.
    pub fn keys(&self) -> impl Iterator<Item = Bytes> {
        self.buckets.keys().flat_map(|&index| self.bucket(index).into_keys())
    }

    fn bucket(&self, index: u32) -> Bucket {
        let decoded = self.buckets.get(&index).map(|chunk| decode(chunk));
        decoded.map_or_else(Bucket::new, |bucket| bucket.expect("a bucket is kept as it was encoded").1)
    }

    fn set(&mut self, key: Bytes, value: Option<Bytes>) -> Option<Bytes> {
        let index = bucket_of(&key);
        let mut bucket = self.bucket(index);
        let before = match value {
            Some(value) => bucket.insert(key, value),
            None => bucket.remove(&key),
        };
        if bucket.is_empty() {
            self.buckets.remove(&index);
        } else {
            self.buckets.insert(index, encode(index, &bucket));
        }
        before
    }
}

impl Service for KeyValue {
    fn execute(&mut self, _client: ClientId, operation: &[u8]) -> Bytes {
        let outcome = match postcard::from_bytes(operation) {
            Err(_) => Outcome::Malformed,
            Ok(Operation::Get { key }) => Outcome::Value(self.get(&key)),
            Ok(Operation::Put { value, .. } | Operation::CompareAndSwap { new: Some(value), .. })
                if value.len() > MAX_VALUE_BYTES =>
            {
                Outcome::TooLong { limit: MAX_VALUE_BYTES as u64 }
            }
            Ok(Operation::Put { key, value }) => Outcome::Value(self.set(key, Some(value))),
            Ok(Operation::Delete { key }) => Outcome::Value(self.set(key, None)),
            Ok(Operation::CompareAndSwap { key, expected, new }) => {
                let matches = self.get(&key) == expected;
                if matches {
                    self.set(key, new);
                }
                Outcome::Swapped(matches)
            }
        };
        outcome.to_bytes()
    }

    fn read(&self, _client: ClientId, operation: &[u8]) -> Option<Bytes> {
        match postcard::from_bytes(operation) {
            Ok(Operation::Get { key }) => Some(Outcome::Value(self.get(&key)).to_bytes()),
            _ => None,
        }
    }

    fn snapshot(&self) -> Vec<Bytes> {
        self.buckets.values().cloned().collect()
    }

    fn restore(chunks: &[Bytes]) -> Result<Self, RestoreError> {
        let mut buckets = BTreeMap::new();
        for chunk in chunks {
            let (index, bucket) = decode(chunk)?;
            let sound = !bucket.is_empty() && bucket.keys().all(|key| bucket_of(key) == index);
            let in_order = buckets.last_key_value().is_none_or(|(&last, _)| last < index);
            if !sound || !in_order || encode(index, &bucket) != *chunk {
                return Err(RestoreError);
            }
            buckets.insert(index, chunk.clone());
        }
        Ok(KeyValue { buckets })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::ed25519::Ed25519;

    fn bytes(text: &str) -> Bytes {
        Bytes::from(text.as_bytes())
    }

    fn run(service: &mut KeyValue, operation: Operation) -> Outcome {
        Outcome::from_bytes(&service.execute(ClientId(0), &operation.to_bytes()))
    }

    #[test]
    fn a_key_has_the_value_last_put() {
        let mut service = KeyValue::default();
        let (key, get) = (bytes("k"), Operation::Get { key: bytes("k") });
        assert_eq!(run(&mut service, get.clone()), Outcome::Value(None));
        run(&mut service, Operation::Put { key: key.clone(), value: bytes("1") });
        let before = run(&mut service, Operation::Put { key: key.clone(), value: bytes("2") });
        assert_eq!(before, Outcome::Value(Some(bytes("1"))));
        assert_eq!(run(&mut service, get.clone()), Outcome::Value(Some(bytes("2"))));
        assert_eq!(run(&mut service, Operation::Delete { key }), Outcome::Value(Some(bytes("2"))));
        assert_eq!(run(&mut service, get), Outcome::Value(None));
        assert_eq!(service, KeyValue::default());
    }

    #[test]
    fn compare_and_swap_changes_only_what_is_as_expected() {
        let mut service = KeyValue::default();
        let swap = |expected: Option<&str>, new: Option<&str>| Operation::CompareAndSwap {
            key: bytes("k"),
            expected: expected.map(bytes),
            new: new.map(bytes),
        };
        assert_eq!(run(&mut service, swap(Some("1"), Some("2"))), Outcome::Swapped(false));
        assert_eq!(run(&mut service, swap(None, Some("1"))), Outcome::Swapped(true));
        assert_eq!(run(&mut service, swap(None, Some("2"))), Outcome::Swapped(false));
        assert_eq!(service.get(b"k"), Some(bytes("1")));
        assert_eq!(run(&mut service, swap(Some("1"), None)), Outcome::Swapped(true));
        assert_eq!(service.get(b"k"), None);
    }

    #[test]
    fn a_value_that_no_result_could_hold_is_refused_and_changes_nothing() {
        let mut service = KeyValue::default();
        let (key, get) = (bytes("k"), Operation::Get { key: bytes("k") });
        let longest = Bytes::from(vec![7; MAX_VALUE_BYTES]);
        let put = Operation::Put { key: key.clone(), value: longest.clone() };
        assert_eq!(run(&mut service, put), Outcome::Value(None));
        let result = service.read(ClientId(0), &get.to_bytes()).unwrap();
        assert_eq!(result.len(), MAX_RESULT_BYTES);
        assert_eq!(Outcome::from_bytes(&result), Outcome::Value(Some(longest.clone())));
        let before = service.clone();
        let longer = Bytes::from(vec![7; MAX_VALUE_BYTES + 1]);
        let too_long = Outcome::TooLong { limit: 65_531 };
        let put = Operation::Put { key: key.clone(), value: longer.clone() };
        assert_eq!(run(&mut service, put), too_long);
        for expected in [None, Some(longest.clone())] {
            let new = Some(longer.clone());
            let swap = Operation::CompareAndSwap { key: key.clone(), expected, new };
            assert_eq!(run(&mut service, swap), too_long);
        }
        assert_eq!(service, before);
        assert_eq!(run(&mut service, Operation::Delete { key }), Outcome::Value(Some(longest)));
    }

    #[test]
    fn a_result_cut_off_at_its_bound_is_told_apart_from_one_that_is_malformed() {
        let old = Outcome::Value(Some(Bytes::from(vec![7; 100_000]))).to_bytes();
        assert_eq!(Outcome::from_bytes(&old[..MAX_RESULT_BYTES]), Outcome::CutOff);
        assert_eq!(Outcome::from_bytes(&old[..MAX_RESULT_BYTES - 1]), Outcome::Malformed);
    }

    #[test]
    fn only_get_is_read_only_and_anything_malformed_is_answered() {
        let mut service = KeyValue::default();
        let put = Operation::Put { key: bytes("k"), value: bytes("1") };
        assert_eq!(service.read(ClientId(0), &put.to_bytes()), None);
        assert!(service.read(ClientId(0), &Operation::Get { key: bytes("k") }.to_bytes()).is_some());
        assert_eq!(Outcome::from_bytes(&service.execute(ClientId(0), b"\xff")), Outcome::Malformed);
    }

    #[test]
    fn a_snapshot_restores_the_state_and_its_digest() {
        let mut service = KeyValue::default();
        for i in 0..500 {
            run(&mut service, Operation::Put { key: bytes(&format!("k{i}")), value: bytes("v") });
        }
        let restored = KeyValue::restore(&service.snapshot()).unwrap();
        assert_eq!(restored, service);
        let keys: std::collections::BTreeSet<Bytes> = restored.keys().collect();
        assert_eq!(keys, (0..500).map(|i| bytes(&format!("k{i}"))).collect());
        assert_eq!(restored.digest::<Ed25519>(), service.digest::<Ed25519>());
        run(&mut service, Operation::Delete { key: bytes("k7") });
        assert_ne!(restored.digest::<Ed25519>(), service.digest::<Ed25519>());
        assert_eq!(KeyValue::restore(&[bytes("no bucket")]), Err(RestoreError));
    }
}
