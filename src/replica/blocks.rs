//! State as a tree of blocks, each named by its digest.
//!
//! A checkpoint's digest is the root of such a tree, so a replica that knows only the digest can fetch the
//! state block by block from anybody, check each by itself, and resume where it stopped.

use crate::crypto::Crypto;
use crate::message::MAX_BLOCK_BYTES;
use crate::types::{Bytes, Digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Children of an inner node: 256 digests of 32 bytes are half a block.
const FAN_OUT: usize = 256;
/// The bytes of state in one leaf: a block less the room for its header.
const LEAF_BYTES: usize = MAX_BLOCK_BYTES - 64;
/// The deepest tree accepted: 256^6 leaves are more state than there is storage.
const MAX_DEPTH: usize = 8;

/// One node of the tree. Its digest is that of its encoding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
enum Block {
    /// A piece of a chunk; `last` where the chunk ends with it.
    Leaf { bytes: Bytes, last: bool },
    /// The digests of the children, in order.
    Node(Vec<Digest>),
}

/// The blocks of one state, by digest.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Tree {
    root: Digest,
    blocks: BTreeMap<Digest, Bytes>,
    chunks: Vec<(Bytes, Vec<Digest>)>,
}

fn encode(block: &Block) -> Bytes {
    Bytes::from(postcard::to_stdvec(block).expect("encoding into memory cannot fail"))
}

impl Tree {
    /// The tree over `chunks`. Chunks that are the same allocation as in `previous` are not digested again.
    pub fn build<C: Crypto>(chunks: &[Bytes], previous: Option<&Tree>) -> Self {
        let mut tree = Tree::default();
        let mut level = Vec::new();
        for (index, chunk) in chunks.iter().enumerate() {
            let known = previous.and_then(|p| p.chunks.get(index).map(|known| (p, known)));
            let leaves = match known {
                Some((previous, (bytes, leaves))) if bytes.same_allocation(chunk) => {
                    for leaf in leaves {
                        let block = previous.blocks.get(leaf).expect("a tree holds the leaves of its chunks");
                        tree.blocks.insert(*leaf, block.clone());
                    }
                    leaves.clone()
                }
                _ => tree.add_chunk::<C>(chunk),
            };
            level.extend_from_slice(&leaves);
            tree.chunks.push((chunk.clone(), leaves));
        }
        while level.len() != 1 {
            if level.is_empty() {
                level.push(tree.add::<C>(&Block::Node(Vec::new())));
                break;
            }
            level = level
                .chunks(FAN_OUT)
                .map(|children| tree.add::<C>(&Block::Node(children.to_vec())))
                .collect();
        }
        tree.root = level[0];
        tree
    }

    fn add<C: Crypto>(&mut self, block: &Block) -> Digest {
        let bytes = encode(block);
        let digest = C::digest(&bytes);
        self.blocks.insert(digest, bytes);
        digest
    }

    fn add_chunk<C: Crypto>(&mut self, chunk: &Bytes) -> Vec<Digest> {
        let pieces: Vec<&[u8]> =
            if chunk.is_empty() { vec![&[][..]] } else { chunk.chunks(LEAF_BYTES).collect() };
        let count = pieces.len();
        pieces
            .into_iter()
            .enumerate()
            .map(|(i, piece)| self.add::<C>(&Block::Leaf { bytes: Bytes::from(piece), last: i + 1 == count }))
            .collect()
    }

    /// The digest of the whole.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The encoded block with this digest, if it is part of the tree.
    pub fn block(&self, digest: &Digest) -> Option<&Bytes> {
        self.blocks.get(digest)
    }

    /// All encoded blocks.
    pub fn blocks(&self) -> impl Iterator<Item = &Bytes> {
        self.blocks.values()
    }

    /// The chunks it was built from.
    pub fn chunks(&self) -> Vec<Bytes> {
        self.chunks.iter().map(|(bytes, _)| bytes.clone()).collect()
    }
}

/// The children named by an encoded block: none for a leaf.
///
/// # Errors
/// If the bytes are no block.
pub(crate) fn children(block: &[u8]) -> Result<Vec<Digest>, NotATree> {
    match postcard::from_bytes(block).map_err(|_| NotATree)? {
        Block::Leaf { .. } => Ok(Vec::new()),
        Block::Node(children) if children.len() <= FAN_OUT => Ok(children),
        Block::Node(_) => Err(NotATree),
    }
}

/// The chunks under `root`, if `blocks` holds every block of the tree.
///
/// # Errors
/// If a block is missing or is no block, or the tree is too deep.
pub(crate) fn chunks_under(root: Digest, blocks: &BTreeMap<Digest, Bytes>) -> Result<Vec<Bytes>, NotATree> {
    fn walk(
        digest: Digest,
        depth: usize,
        blocks: &BTreeMap<Digest, Bytes>,
        open: &mut Vec<u8>,
        chunks: &mut Vec<Bytes>,
    ) -> Result<(), NotATree> {
        let block = blocks.get(&digest).ok_or(NotATree)?;
        match postcard::from_bytes(block).map_err(|_| NotATree)? {
            Block::Leaf { bytes, last } => {
                open.extend_from_slice(&bytes);
                if last {
                    chunks.push(Bytes::from(std::mem::take(open)));
                }
                Ok(())
            }
            Block::Node(_) if depth == MAX_DEPTH => Err(NotATree),
            Block::Node(children) => {
                children.into_iter().try_for_each(|child| walk(child, depth + 1, blocks, open, chunks))
            }
        }
    }
    let (mut open, mut chunks) = (Vec::new(), Vec::new());
    walk(root, 0, blocks, &mut open, &mut chunks)?;
    if open.is_empty() { Ok(chunks) } else { Err(NotATree) }
}

/// The blocks do not form a tree of state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotATree;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::ed25519::Ed25519;

    fn sample(lengths: &[usize]) -> Vec<Bytes> {
        lengths.iter().enumerate().map(|(i, &len)| Bytes::from(vec![i as u8; len])).collect()
    }

    #[test]
    fn a_state_is_rebuilt_from_its_blocks_alone() {
        for lengths in [vec![], vec![0], vec![0, 5], vec![LEAF_BYTES, LEAF_BYTES + 1, 1], vec![3; 600]] {
            let chunks = sample(&lengths);
            let tree = Tree::build::<Ed25519>(&chunks, None);
            assert_eq!(chunks_under(tree.root(), &tree.blocks), Ok(chunks), "{lengths:?}");
            assert!(tree.blocks.values().all(|block| block.len() <= MAX_BLOCK_BYTES));
        }
    }

    #[test]
    fn unchanged_chunks_keep_their_blocks_and_the_root_is_the_same() {
        let mut chunks = sample(&[40_000, 10, 40_000]);
        let before = Tree::build::<Ed25519>(&chunks, None);
        chunks[1] = Bytes::from(&b"other"[..]);
        let incremental = Tree::build::<Ed25519>(&chunks, Some(&before));
        assert_eq!(incremental, Tree::build::<Ed25519>(&chunks, None));
        assert_ne!(incremental.root(), before.root());
    }

    #[test]
    fn a_missing_block_is_no_state() {
        let tree = Tree::build::<Ed25519>(&sample(&[40_000]), None);
        for gone in tree.blocks.keys() {
            let mut blocks = tree.blocks.clone();
            blocks.remove(gone);
            assert_eq!(chunks_under(tree.root(), &blocks), Err(NotATree));
        }
    }
}
