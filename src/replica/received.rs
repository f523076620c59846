//! What has been received of one kind: a cell for each sender, number and view, every look at it noted.

use super::log::Vote;
use super::noted::{Cell, Cells, Look, Part, Seen, note, note_drops, part};
use crate::crypto::Crypto;
use crate::types::{Digest, ReplicaId, SeqNo, View};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};

/// Says which cell.
pub(super) trait Key: Copy + Debug + Ord {
    /// The cell of a part.
    fn cell(self, part: Part) -> Cell;

    /// The key of a cell.
    fn of(cell: &Cell) -> Self;
}

/// A vote is kept by what it is about and by its sender. A CHECKPOINT is about no view: it is kept under view
/// 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub(super) struct Voted {
    pub(super) n: SeqNo,
    pub(super) view: View,
    pub(super) replica: ReplicaId,
}

impl Key for Voted {
    fn cell(self, part: Part) -> Cell {
        Cell { part, n: self.n, view: self.view, replica: self.replica }
    }

    fn of(cell: &Cell) -> Self {
        Voted { n: cell.n, view: cell.view, replica: cell.replica }
    }
}

/// A VIEW-CHANGE is kept by the view that it is for and by its sender.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize, Serialize)]
pub(super) struct Left {
    pub(super) view: View,
    pub(super) replica: ReplicaId,
}

impl Key for Left {
    fn cell(self, part: Part) -> Cell {
        Cell { part, n: SeqNo(0), view: self.view, replica: self.replica }
    }

    fn of(cell: &Cell) -> Self {
        Left { view: cell.view, replica: cell.replica }
    }
}

/// Cells of one kind, `PART` of [`Part`]. By the paper's rules each holds one message at most; it holds more,
/// in order, only where a rule is off.
#[derive(Clone, Deserialize)]
#[serde(transparent, bound(deserialize = "K: Deserialize<'de> + Ord, V: Deserialize<'de>"))]
pub(super) struct Received<K, V, const PART: u8>(BTreeMap<K, Vec<V>>);

/// A look at all cells.
fn look_at_all(number: u8) {
    let cells = Cells { part: part(number), n: None, from: View(0), to: View(u64::MAX), replica: None };
    note(|| Look { cells, seen: Seen::Content });
}

impl<K: Debug, V: Debug, const PART: u8> Debug for Received<K, V, PART> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        look_at_all(PART);
        f.debug_tuple("Received").field(&self.0).finish()
    }
}

impl<K: Serialize, V: Serialize, const PART: u8> Serialize for Received<K, V, PART> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        look_at_all(PART);
        self.0.serialize(serializer)
    }
}

impl<K: Eq, V: Eq, const PART: u8> PartialEq for Received<K, V, PART> {
    fn eq(&self, other: &Self) -> bool {
        look_at_all(PART);
        self.0 == other.0
    }
}

impl<K: Eq, V: Eq, const PART: u8> Eq for Received<K, V, PART> {}

impl<K: Ord, V: Ord, const PART: u8> PartialOrd for Received<K, V, PART> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord, V: Ord, const PART: u8> Ord for Received<K, V, PART> {
    fn cmp(&self, other: &Self) -> Ordering {
        look_at_all(PART);
        self.0.cmp(&other.0)
    }
}

impl<K: Hash, V: Hash, const PART: u8> Hash for Received<K, V, PART> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        look_at_all(PART);
        self.0.hash(state);
    }
}

impl<K, V, const PART: u8> Default for Received<K, V, PART> {
    fn default() -> Self {
        Received(BTreeMap::new())
    }
}

impl<K: Key, V: Clone + Ord, const PART: u8> Received<K, V, PART> {
    fn look(cells: Cells, seen: Seen) {
        note(|| Look { cells, seen });
    }

    fn look_at(key: K, seen: Seen) {
        note(|| {
            let Cell { part, n, view, replica } = key.cell(part(PART));
            Look { cells: Cells { part, n: Some(n), from: view, to: view, replica: Some(replica) }, seen }
        });
    }

    /// All cells.
    pub(super) fn all() -> Cells {
        Cells { part: part(PART), n: None, from: View(0), to: View(u64::MAX), replica: None }
    }

    /// Whether there is anything in a cell.
    pub(super) fn contains(&self, key: K) -> bool {
        Self::look_at(key, Seen::Presence);
        self.0.contains_key(&key)
    }

    /// What is in a cell.
    pub(super) fn get(&self, key: K) -> &[V] {
        Self::look_at(key, Seen::Content);
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }

    /// Those of these cells that hold anything, ascending.
    pub(super) fn keys(&self, cells: Cells) -> impl Iterator<Item = K> {
        Self::look(cells, Seen::Presence);
        self.0.keys().copied().filter(move |key| cells.contains(&key.cell(cells.part)))
    }

    /// What is in these cells, ascending.
    pub(super) fn iter(&self, cells: Cells) -> impl Iterator<Item = (K, &V)> {
        Self::look(cells, Seen::Content);
        self.among(cells)
    }

    fn among(&self, cells: Cells) -> impl Iterator<Item = (K, &V)> {
        let among = self.0.iter().filter(move |(key, _)| cells.contains(&key.cell(cells.part)));
        among.flat_map(|(&key, values)| values.iter().map(move |value| (key, value)))
    }

    /// Puts something into a cell, in order.
    pub(super) fn push(&mut self, key: K, value: V) {
        if !self.contains(key) {
            self.0.insert(key, vec![value]);
            return;
        }
        Self::look_at(key, Seen::Content);
        let values = self.0.entry(key).or_default();
        let position = values.partition_point(|known| *known <= value);
        values.insert(position, value);
    }

    /// Empties the cells whose key is not to be kept, whatever is in them. Which cells hold anything is
    /// nothing that `keep` may tell anybody: being `Sync` it captures no `Cell`.
    pub(super) fn retain(&mut self, keep: impl Fn(K) -> bool + Sync) {
        note_drops(part(PART), |cell| keep(K::of(cell)));
        self.0.retain(|&key, _| keep(key));
    }

    /// Writes over a cell: for explorations.
    pub(super) fn put(&mut self, key: K, values: &[V]) {
        if values.is_empty() {
            self.0.remove(&key);
        } else {
            self.0.insert(key, values.to_vec());
        }
    }

    /// What is in a cell: for explorations, which do not watch themselves. In a step it is a look like any.
    pub(super) fn peek(&self, key: K) -> &[V] {
        Self::look_at(key, Seen::Content);
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The cells that hold anything: for explorations, which do not watch themselves. In a step it is a look
    /// at all of them.
    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> {
        Self::look(Self::all(), Seen::Presence);
        self.0.keys().map(|key| key.cell(part(PART)))
    }
}

impl<C: Crypto, const PART: u8> Received<Voted, Vote<C>, PART> {
    /// The votes for a digest in these cells, ascending.
    pub(super) fn naming(&self, cells: Cells, digest: Digest) -> impl Iterator<Item = (Voted, &Vote<C>)> {
        Self::look(cells, Seen::Names(digest));
        self.among(cells).filter(move |(_, vote)| vote.digest == digest)
    }
}

#[cfg(test)]
mod tests {
    use super::super::noted::watch;
    use super::*;
    use std::sync::Arc;

    const VOTE: Voted = Voted { n: SeqNo(1), view: View(0), replica: ReplicaId(2) };

    #[test]
    fn a_look_says_which_cells_and_how_much_of_them() {
        let mut votes: Received<Voted, u8, { Part::Commits as u8 }> = Received::default();
        let known: Arc<[Cell]> = Arc::new([VOTE.cell(Part::Commits)]);
        let looks = watch(&known, || votes.push(VOTE, 7)).1.looks;
        assert_eq!(looks.iter().map(|(look, _)| look.seen).collect::<Vec<_>>(), [Seen::Presence]);
        // There is no other way to read: what serves explorations is noted in a step, and so is printing.
        let all = Received::<Voted, u8, { Part::Commits as u8 }>::all();
        assert_eq!(
            watch(&known, || votes.cells().count()).1.looks,
            [(Look { cells: all, seen: Seen::Presence }, 0)]
        );
        assert_eq!(
            watch(&known, || format!("{votes:?}")).1.looks,
            [(Look { cells: all, seen: Seen::Content }, 0)]
        );
        assert_eq!(watch(&known, || votes.peek(VOTE).len()).1.looks.len(), 1);
        let cells = looks[0].0.cells;
        assert!(cells.contains(&VOTE.cell(Part::Commits)) && !cells.contains(&VOTE.cell(Part::Prepares)));
        let other = Voted { replica: ReplicaId(1), ..VOTE };
        assert!(!cells.contains(&other.cell(Part::Commits)));

        let looks = watch(&known, || votes.retain(|key| key.n > SeqNo(0))).1.looks;
        assert_eq!(looks, []);
        let cells = Cells { n: Some(SeqNo(1)), ..Received::<Voted, u8, { Part::Commits as u8 }>::all() };
        let (found, seen) = watch(&known, || votes.iter(cells).map(|(_, &vote)| vote).collect::<Vec<_>>());
        assert_eq!((found, seen.looks), (vec![7], vec![(Look { cells, seen: Seen::Content }, 0)]));

        // It is noted whether there is anything in the cell, as the first time, or not, as the second.
        for _ in 0..2 {
            let (is_there, seen) = watch(&known, || {
                votes.retain(|key| key != VOTE);
                votes.contains(VOTE)
            });
            assert_eq!((is_there, seen.dropped), (false, vec![VOTE.cell(Part::Commits)]));
            assert_eq!(seen.looks[0].1, 1, "it tells nothing of what was dropped");
        }
    }

    #[test]
    fn a_second_message_in_a_cell_is_kept_in_order() {
        let mut votes: Received<Voted, u8, { Part::Commits as u8 }> = Received::default();
        for vote in [7, 9, 8] {
            votes.push(VOTE, vote);
        }
        assert_eq!(votes.get(VOTE), [7, 8, 9]);
    }
}
