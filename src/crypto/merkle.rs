//! One signature for several messages: over the root of a Merkle tree (Merkle 1987) of which they are the leaves, with
//! a path from each message to the root.
//!
//! - A leaf, an inner node and the root that is signed are hashes or bytes with a first byte of their own
//!   ([`LEAF`], [`NODE`], [`ROOT`]): none passes for another. What is signed of a single message begins with its
//!   [`TAG`](super::Content::TAG), which is never [`ROOT`]: a signature over a root is none over a message, and that over
//!   a message none over a root.
//! - The leaves are made a power of two in number with [`Digest::NULL`], of which nobody knows a preimage. So all paths of
//!   a tree are equally long, no node is in the place of its sibling, and a list that ends with the same message twice has
//!   another root than one that ends with it once.
//! - A path says of each sibling on which side it is. It has [`MAX_DEPTH`] siblings at most; one of none is that of a
//!   message that was signed by itself, as its signature is over the message and not over a root.
//!
//! Whoever checks a path learns that the signer has signed this message together with others: the message stays one that
//! convinces third parties. Of the others he learns hashes. Leaves have no salt, so who can guess the reply beside his own,
//! view, timestamp, client and result, can see that he was right. Clients may read everything anyway (SECURITY.md).

use crate::parameters::MAX_BATCH_REQUESTS;
use crate::types::Digest;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// The most siblings of a path: for as many messages as the largest batch has requests.
pub const MAX_DEPTH: usize = MAX_BATCH_REQUESTS.next_power_of_two().trailing_zeros() as usize;
/// The first byte of what the hash of a leaf is of.
pub const LEAF: u8 = 0;
/// The first byte of what the hash of an inner node is of.
pub const NODE: u8 = 1;
/// The first byte of what is signed of a root, in the place of the tag of a kind of message.
pub const ROOT: u8 = 37;

/// The node beside one on the way to the root.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Sibling {
    /// It comes before.
    Left(Digest),
    /// It comes after.
    Right(Digest),
}

/// From a leaf to the root: the siblings on the way, the leaf's own first.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Path(pub Vec<Sibling>);

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "path of {}", self.0.len())
    }
}

/// A longer one than [`MAX_DEPTH`] is refused before there is room for it.
impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Siblings;
        impl<'de> Visitor<'de> for Siblings {
            type Value = Path;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a path of at most {MAX_DEPTH} siblings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Path, A::Error> {
                let announced = seq.size_hint().unwrap_or(0);
                if announced > MAX_DEPTH {
                    return Err(A::Error::invalid_length(announced, &self));
                }
                let mut siblings = Vec::with_capacity(announced);
                while let Some(sibling) = seq.next_element()? {
                    if siblings.len() == MAX_DEPTH {
                        return Err(A::Error::invalid_length(MAX_DEPTH + 1, &self));
                    }
                    siblings.push(sibling);
                }
                Ok(Path(siblings))
            }
        }
        deserializer.deserialize_seq(Siblings)
    }
}

/// The bytes that are signed of a root.
pub fn root_to_be_signed(root: Digest) -> Vec<u8> {
    [&[ROOT], &root.0[..]].concat()
}

fn leaf(hash: fn(&[u8]) -> Digest, content: &[u8]) -> Digest {
    hash(&[&[LEAF], content].concat())
}

fn node(hash: fn(&[u8]) -> Digest, left: Digest, right: Digest) -> Digest {
    let mut bytes = [NODE; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    hash(&bytes)
}

impl Path {
    /// The root to which this leads from a message; none if it is longer than any is made.
    pub fn root(&self, hash: fn(&[u8]) -> Digest, content: &[u8]) -> Option<Digest> {
        let up = |below, sibling: &Sibling| match *sibling {
            Sibling::Left(left) => node(hash, left, below),
            Sibling::Right(right) => node(hash, below, right),
        };
        (self.0.len() <= MAX_DEPTH).then(|| self.0.iter().fold(leaf(hash, content), up))
    }
}

/// The root of the tree of these messages, of which there are two at least and 2^[`MAX_DEPTH`] at most, and the path from
/// each.
pub fn tree(hash: fn(&[u8]) -> Digest, contents: &[Vec<u8>]) -> (Digest, Vec<Path>) {
    debug_assert!((2..=1 << MAX_DEPTH).contains(&contents.len()), "{} messages", contents.len());
    let mut paths = vec![Path::default(); contents.len()];
    let mut level: Vec<Digest> = contents.iter().map(|content| leaf(hash, content)).collect();
    level.resize(contents.len().next_power_of_two(), Digest::NULL);
    let mut height = 0;
    while level.len() > 1 {
        for (index, path) in paths.iter_mut().enumerate() {
            let at = index >> height;
            let sibling = level[at ^ 1];
            path.0.push(if at % 2 == 1 { Sibling::Left(sibling) } else { Sibling::Right(sibling) });
        }
        level = level.chunks_exact(2).map(|pair| node(hash, pair[0], pair[1])).collect();
        height += 1;
    }
    (level[0], paths)
}

#[cfg(test)]
mod tests {
    use super::super::{Crypto, ed25519::Ed25519};
    use super::*;
    use proptest::prelude::*;

    const HASH: fn(&[u8]) -> Digest = Ed25519::digest;

    fn messages(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|number| number.to_le_bytes().to_vec()).collect()
    }

    #[test]
    fn every_message_leads_to_the_root_by_its_own_path_and_no_other_does() {
        for count in 2..=33 {
            let messages = messages(count);
            let (root, paths) = tree(HASH, &messages);
            for (at, message) in messages.iter().enumerate() {
                for (by, path) in paths.iter().enumerate() {
                    assert_eq!(path.root(HASH, message) == Some(root), at == by, "{at} by {by} of {count}");
                }
                assert_ne!(paths[at].root(HASH, b"another"), Some(root));
            }
        }
    }

    #[test]
    fn the_deepest_tree_that_is_made_has_the_greatest_depth() {
        let messages = messages(1 << MAX_DEPTH);
        let (root, paths) = tree(HASH, &messages);
        assert!(paths.iter().all(|path| path.0.len() == MAX_DEPTH));
        assert_eq!(paths[777].root(HASH, &messages[777]), Some(root));
        let mut longer = paths[777].clone();
        longer.0.push(Sibling::Left(Digest::NULL));
        assert_eq!(longer.root(HASH, &messages[777]), None);
    }

    #[test]
    fn a_path_that_is_changed_in_any_way_leads_elsewhere() {
        let messages = messages(13);
        let (root, paths) = tree(HASH, &messages);
        for (message, path) in messages.iter().zip(&paths) {
            let leads = |path: Vec<Sibling>| Path(path).root(HASH, message) == Some(root);
            assert!(leads(path.0.clone()));
            for at in 0..path.0.len() {
                let changed = |change: &dyn Fn(&mut Vec<Sibling>)| {
                    let mut path = path.0.clone();
                    change(&mut path);
                    path
                };
                let other_side = |path: &mut Vec<Sibling>| {
                    path[at] = match path[at] {
                        Sibling::Left(digest) => Sibling::Right(digest),
                        Sibling::Right(digest) => Sibling::Left(digest),
                    }
                };
                let other_bit = |path: &mut Vec<Sibling>| match &mut path[at] {
                    Sibling::Left(digest) | Sibling::Right(digest) => digest.0[at] ^= 1,
                };
                assert!(!leads(changed(&other_side)));
                assert!(!leads(changed(&other_bit)));
                assert!(!leads(changed(&|path| path.truncate(at))));
                assert!(!leads(changed(&|path| {
                    path.remove(at);
                })));
                assert!(!leads(changed(&|path| path.insert(at, path[at]))));
            }
        }
    }

    /// What is hashed for an inner node, and for the root that is signed, is no message: not even with the path from
    /// there.
    #[test]
    fn no_inner_node_passes_for_a_message() {
        let messages = messages(4);
        let (root, paths) = tree(HASH, &messages);
        let below: Vec<Digest> = messages.iter().map(|message| leaf(HASH, message)).collect();
        let inner = [&below[0].0[..], &below[1].0].concat();
        for content in [inner.clone(), [&[NODE][..], &inner].concat(), [&[LEAF][..], &messages[0]].concat()] {
            for skipped in 0..=2 {
                let path = Path(paths[0].0[skipped..].to_vec());
                assert_ne!(path.root(HASH, &content), Some(root));
            }
        }
        assert_ne!(Path::default().root(HASH, &root_to_be_signed(root)), Some(root));
    }

    #[test]
    fn a_list_that_ends_with_one_message_twice_has_a_root_of_its_own() {
        let once = messages(3);
        let twice = [once.clone(), vec![once[2].clone()]].concat();
        let with_nothing = [once.clone(), vec![Vec::new()]].concat();
        let roots = [once, twice, with_nothing].map(|messages| tree(HASH, &messages).0);
        assert!(roots[0] != roots[1] && roots[0] != roots[2] && roots[1] != roots[2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_the_messages_are_each_leads_to_the_root(
            messages in proptest::collection::vec(any::<Vec<u8>>(), 2..70),
            other in any::<Vec<u8>>(),
        ) {
            let (root, paths) = tree(HASH, &messages);
            for (message, path) in messages.iter().zip(&paths) {
                prop_assert_eq!(path.root(HASH, message), Some(root));
                prop_assert_eq!(path.root(HASH, &other) == Some(root), other == *message);
            }
        }
    }
}
