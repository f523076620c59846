//! State as a tree of blocks, each named by its digest.
//!
//! A checkpoint's digest is the root of such a tree, so a replica that knows only the digest can fetch the
//! state block by block from anybody, check each by itself, and resume where it stopped.

use crate::crypto::Crypto;
use crate::parameters::MAX_BLOCK_BYTES;
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

/// A chunk in pieces, the empty one in one, encoded.
fn leaves_of(chunk: &[u8]) -> impl Iterator<Item = Bytes> {
    let count = chunk.len().div_ceil(LEAF_BYTES).max(1);
    (0..count).map(move |i| {
        let piece = &chunk[i * LEAF_BYTES..chunk.len().min((i + 1) * LEAF_BYTES)];
        encode(&Block::Leaf { bytes: Bytes::from(piece), last: i + 1 == count })
    })
}

fn encode(block: &Block) -> Bytes {
    Bytes::from(postcard::to_stdvec(block).expect("encoding into memory cannot fail"))
}

/// Finds the chunks of an earlier tree that are there again.
struct Earlier<'a> {
    tree: &'a Tree,
    /// Where the next chunk is, if it follows the one found last.
    next: usize,
    /// Addresses and places of all chunks, sorted; made when it is first needed.
    places: Option<Vec<(usize, usize)>>,
}

impl<'a> Earlier<'a> {
    /// The leaves of a chunk, if it is the same allocation as one of the earlier tree. Chunks are asked for
    /// in order, so it is mostly the next one.
    fn leaves(&mut self, chunk: &Bytes) -> Option<&'a [Digest]> {
        let chunks = &self.tree.chunks;
        let is_next = chunks.get(self.next).is_some_and(|(known, _)| known.same_allocation(chunk));
        if !is_next {
            let places = self.places.get_or_insert_with(|| {
                let mut places: Vec<_> = chunks.iter().map(|(bytes, _)| bytes.address()).zip(0..).collect();
                places.sort_unstable();
                places
            });
            let at = places.partition_point(|&(address, _)| address < chunk.address());
            let &(_, place) = places.get(at).filter(|&&(address, _)| address == chunk.address())?;
            self.next = place;
        }
        let (known, leaves) = chunks.get(self.next)?;
        self.next += 1;
        known.same_allocation(chunk).then_some(leaves)
    }
}

impl Tree {
    /// The tree over `chunks`. Chunks that are the same allocation as one of `previous` are not digested
    /// again.
    pub fn build<C: Crypto>(chunks: &[Bytes], previous: Option<&Tree>) -> Self {
        let mut earlier = previous.map(|tree| Earlier { tree, next: 0, places: None });
        let mut level = Vec::new();
        let mut blocks = Vec::new();
        let mut kept = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let from = level.len();
            match earlier.as_mut().and_then(|earlier| Some((earlier.leaves(chunk)?, earlier.tree))) {
                Some((leaves, tree)) => {
                    let block = |leaf| tree.blocks.get(leaf).expect("a tree holds the leaves of its chunks");
                    blocks.extend(leaves.iter().map(|leaf| (*leaf, block(leaf).clone())));
                    level.extend_from_slice(leaves);
                }
                None => {
                    for block in leaves_of(chunk) {
                        let digest = C::digest(&block);
                        level.push(digest);
                        blocks.push((digest, block));
                    }
                }
            }
            kept.push((chunk.clone(), level[from..].to_vec()));
        }
        let mut inner = |children: &[Digest]| {
            let block = encode(&Block::Node(children.to_vec()));
            let digest = C::digest(&block);
            blocks.push((digest, block));
            digest
        };
        while level.len() != 1 {
            level = if level.is_empty() {
                vec![inner(&[])]
            } else {
                level.chunks(FAN_OUT).map(&mut inner).collect()
            };
        }
        Tree { root: level[0], blocks: BTreeMap::from_iter(blocks), chunks: kept }
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

/// The tree under `root`, if `blocks` holds every block of it. Nothing is digested: each block was when it
/// arrived.
///
/// # Errors
/// If a block is missing or is no block, or the tree is too deep.
pub(crate) fn tree_under(root: Digest, blocks: &BTreeMap<Digest, Bytes>) -> Result<Tree, NotATree> {
    let mut walk = Walk { blocks, tree: Tree { root, ..Tree::default() }, open: (Vec::new(), Vec::new()) };
    walk.visit(root, 0)?;
    if walk.open.1.is_empty() { Ok(walk.tree) } else { Err(NotATree) }
}

struct Walk<'a> {
    blocks: &'a BTreeMap<Digest, Bytes>,
    tree: Tree,
    /// The chunk being put together, and its leaves.
    open: (Vec<u8>, Vec<Digest>),
}

impl Walk<'_> {
    fn visit(&mut self, digest: Digest, depth: usize) -> Result<(), NotATree> {
        let block = self.blocks.get(&digest).ok_or(NotATree)?;
        self.tree.blocks.insert(digest, block.clone());
        match postcard::from_bytes(block).map_err(|_| NotATree)? {
            Block::Leaf { bytes, last } => {
                self.open.0.extend_from_slice(&bytes);
                self.open.1.push(digest);
                if last {
                    let (bytes, leaves) = std::mem::take(&mut self.open);
                    self.tree.chunks.push((Bytes::from(bytes), leaves));
                }
                Ok(())
            }
            Block::Node(_) if depth == MAX_DEPTH => Err(NotATree),
            Block::Node(children) => children.into_iter().try_for_each(|child| self.visit(child, depth + 1)),
        }
    }
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
            assert_eq!(tree.chunks(), chunks, "{lengths:?}");
            assert_eq!(tree_under(tree.root(), &tree.blocks), Ok(tree.clone()), "{lengths:?}");
            assert!(tree.blocks.values().all(|block| block.len() <= MAX_BLOCK_BYTES));
        }
    }

    #[test]
    fn unchanged_chunks_are_not_digested_again_and_the_root_is_the_same() {
        let before = sample(&[40_000, 10, 40_000, 0, 7, 8, 9]);
        let tree = Tree::build::<Ed25519>(&before, None);
        let other = Bytes::from(&b"other"[..]);
        let mut changed = before.clone();
        changed[1] = other.clone();
        let mut longer = before.clone();
        (0..3).for_each(|_| longer.insert(2, other.clone()));
        let shorter = vec![before[0].clone(), before[4].clone(), before[6].clone()];
        let swapped = vec![before[2].clone(), before[0].clone()];
        for (chunks, same) in [(changed, 6), (longer, 7), (shorter, 3), (swapped, 2)] {
            let incremental = Tree::build::<Ed25519>(&chunks, Some(&tree));
            assert_eq!(incremental, Tree::build::<Ed25519>(&chunks, None));
            assert_ne!(incremental.root(), tree.root());
            let mut earlier = Earlier { tree: &tree, next: 0, places: None };
            assert_eq!(chunks.iter().filter(|chunk| earlier.leaves(chunk).is_some()).count(), same);
        }
    }

    #[test]
    fn a_missing_block_is_no_state() {
        let tree = Tree::build::<Ed25519>(&sample(&[40_000]), None);
        for gone in tree.blocks.keys() {
            let mut blocks = tree.blocks.clone();
            blocks.remove(gone);
            assert_eq!(tree_under(tree.root(), &blocks), Err(NotATree));
        }
    }
}
