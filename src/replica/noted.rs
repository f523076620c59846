//! What a step looks at of what has been received: noted, so that whoever explores a replica can tell what
//! the step depends on.
//!
//! A step is a function of the state and the event. What has been received lies in *cells*, one for each
//! sender, number and view. If a step is taken on a state and looks at some cells only, it does the same on
//! every state that differs in the other cells alone: that is no belief about the code, it is what the step
//! did. An exploration that walks all mixtures of what can be received rests on it, and nothing else does: a
//! note changes nothing that a replica does, and none is made unless somebody [watches](watch) the thread.
//!
//! [`Received`](super::received::Received) notes looks at single cells, and [`Noted`] those at a part that is
//! one cell. Dropping what is in a cell, or writing over it, is no look. Nor is what is [done apart](apart)
//! for timers and stores: the type of its result lets nothing else read it, and it leads to an order to a
//! timer or to a part that serves timers ([`Part::is_service`]).

use super::{Effect, Effects};
use crate::crypto::Crypto;
use crate::types::{Digest, ReplicaId, SeqNo, View};
use serde::{Deserialize, Serialize};
use std::cell::{Cell as Slot, RefCell};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A part of a replica's state.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Part {
    /// PREPAREs not yet part of a certificate, one cell for each number, view and sender.
    Prepares,
    /// COMMITs not yet part of a certificate, likewise.
    Commits,
    /// CHECKPOINTs above h, one cell for each number and sender.
    Checkpoints,
    /// VIEW-CHANGEs for views above the current one, one cell for each view and sender.
    ViewChanges,
    /// Requests that wait: one cell.
    Pool,
    /// The order in which they are to be proposed: one cell.
    Queue,
    /// State being fetched: one cell.
    Transfer,
    /// The request for which the progress timer runs.
    Awaited,
    /// How long the progress timer runs.
    Backoff,
    /// The last NEW-VIEW, for whoever missed it.
    NewView,
}

impl Part {
    const ALL: [Part; 10] = [
        Part::Prepares,
        Part::Commits,
        Part::Checkpoints,
        Part::ViewChanges,
        Part::Pool,
        Part::Queue,
        Part::Transfer,
        Part::Awaited,
        Part::Backoff,
        Part::NewView,
    ];

    /// Whether it serves timers and retransmission. The others hold what has been received and can be
    /// received again.
    pub const fn is_service(self) -> bool {
        matches!(self, Part::Awaited | Part::Backoff | Part::NewView)
    }
}

/// A place for what has been received. What a part does not tell apart is 0.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Cell {
    /// The part that it belongs to.
    pub part: Part,
    /// The sequence number that it is about.
    pub n: SeqNo,
    /// The view that it is about.
    pub view: View,
    /// Who has sent it.
    pub replica: ReplicaId,
}

impl Cell {
    /// The cell of a part that has one.
    pub const fn only(part: Part) -> Self {
        Cell { part, n: SeqNo(0), view: View(0), replica: ReplicaId(0) }
    }
}

/// Some cells of one part, whether there is anything in them or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cells {
    /// The part.
    pub part: Part,
    /// Those about this number; about any, if there is none.
    pub n: Option<SeqNo>,
    /// The lowest view.
    pub from: View,
    /// The highest view.
    pub to: View,
    /// Those of this sender; of any, if there is none.
    pub replica: Option<ReplicaId>,
}

impl Cells {
    /// Whether a cell is among them.
    pub fn contains(&self, cell: &Cell) -> bool {
        cell.part == self.part
            && self.n.is_none_or(|n| n == cell.n)
            && (self.from..=self.to).contains(&cell.view)
            && self.replica.is_none_or(|replica| replica == cell.replica)
    }
}

/// How much of a cell a look tells.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Seen {
    /// Whether it is empty.
    Presence,
    /// Whether it holds a vote for this digest, and that vote if so.
    Names(Digest),
    /// Everything.
    Content,
}

/// One look at cells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Look {
    /// Which.
    pub cells: Cells,
    /// How much of them.
    pub seen: Seen,
}

thread_local! {
    /// Whether looks of this thread are noted now.
    static WATCHED: Slot<bool> = const { Slot::new(false) };
    static SEEN: RefCell<Watched> = const { RefCell::new(Watched { looks: Vec::new(), dropped: Vec::new() }) };
    /// Whether a step has looked at `V` of a NEW-VIEW otherwise than for what it determines.
    static READS_V: Slot<bool> = const { Slot::new(false) };
    /// The cells that there can be, as far as whoever watches knows.
    static CELLS: RefCell<Arc<[Cell]>> = RefCell::new(Arc::new([]));
}

/// What was noted of a step.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Watched {
    /// The looks, in order, and how many cells had been emptied or written over before each.
    pub looks: Vec<(Look, usize)>,
    /// The cells that were emptied or written over, whatever was in them, in order: what is seen in one
    /// afterwards does not tell what was in it before.
    pub dropped: Vec<Cell>,
}

#[inline]
pub(super) fn note(look: impl FnOnce() -> Look) {
    if WATCHED.get() {
        SEEN.with_borrow_mut(|seen| {
            let before = seen.dropped.len();
            seen.looks.push((look(), before));
        });
    }
}

/// Notes a look at `V` of a NEW-VIEW.
#[inline]
pub(super) fn note_v() {
    if WATCHED.get() {
        READS_V.set(true);
    }
}

/// Whether, since this was last asked, there was a look at the `V` of any NEW-VIEW, other than for what it
/// [determines](super::ViewChangeSet::plan), while somebody watched this thread.
pub fn has_read_v() -> bool {
    READS_V.replace(false)
}

/// Notes that the cells of a part that are not to be kept are emptied or written over, those included that
/// hold nothing now.
pub(super) fn note_drops(part: Part, keep: impl Fn(&Cell) -> bool) {
    if WATCHED.get() {
        let cells = CELLS.with_borrow(Arc::clone);
        let dropped = cells.iter().filter(|cell| cell.part == part && !keep(cell));
        SEEN.with_borrow_mut(|seen| seen.dropped.extend(dropped));
    }
}

/// What `work` comes to, and what was noted on the way. Of these cells it is noted when they are emptied or
/// written over.
pub fn watch<T>(cells: &Arc<[Cell]>, work: impl FnOnce() -> T) -> (T, Watched) {
    let before = (SEEN.take(), CELLS.replace(cells.clone()));
    let watched = WATCHED.replace(true);
    let result = work();
    WATCHED.set(watched);
    CELLS.set(before.1);
    (result, SEEN.replace(before.0))
}

/// Something worked out apart. Nothing of it gets out but what [`Apart::order`] and [`Noted::set_apart`] make
/// of it.
#[derive(Clone, Copy)]
pub struct Apart<T>(T);

/// Works something out for timers and stores, by looks that are not noted. `work` cannot change what it
/// captures, and being `Sync` captures no `Cell`; locks, atomics and statics it is not to use.
pub(super) fn apart<T>(work: impl Fn() -> T + Sync) -> Apart<T> {
    let watched = WATCHED.replace(false);
    let result = work();
    WATCHED.set(watched);
    Apart(result)
}

impl<T: Sync> Apart<T> {
    /// Works out something else from it.
    pub(super) fn map<U>(self, work: impl Fn(&T) -> U + Sync) -> Apart<U> {
        apart(|| work(&self.0))
    }
}

impl<C: Crypto> Apart<Option<Effect<C>>> {
    /// Gives the order to the progress timer that it is; it is nothing else.
    pub(super) fn order(self, effects: &mut Effects<C>) {
        if let Some(order @ (Effect::SetTimer(_) | Effect::CancelProgressTimer)) = self.0 {
            effects.push(order);
        }
    }
}

/// A part of the state that is one cell, `PART` of [`Part`]. Reading it, comparing it, changing it and even
/// borrowing it mutably is a look; writing another value over it is none.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(transparent)]
pub struct Noted<T, const PART: u8>(T);

impl<T, const PART: u8> Noted<T, PART> {
    const LOOK: Look = Look {
        cells: Cells { part: part(PART), n: None, from: View(0), to: View(u64::MAX), replica: None },
        seen: Seen::Content,
    };

    /// The part with this value.
    pub const fn new(value: T) -> Self {
        Noted(value)
    }

    /// Writes another value over whatever it is.
    pub fn set(&mut self, value: T) {
        note_drops(part(PART), |_| false);
        self.0 = value;
    }

    /// Writes what was worked out apart over it, if it is a part that serves timers and stores.
    pub(super) fn set_apart(&mut self, value: Apart<T>) {
        const { assert!(part(PART).is_service(), "what is worked out apart is for services alone") };
        self.0 = value.0;
    }
}

impl<T: fmt::Debug, const PART: u8> fmt::Debug for Noted<T, PART> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Noted").field(&**self).finish()
    }
}

impl<T: Serialize, const PART: u8> Serialize for Noted<T, PART> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

impl<T: PartialEq, const PART: u8> PartialEq for Noted<T, PART> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq, const PART: u8> Eq for Noted<T, PART> {}

impl<T: Ord, const PART: u8> PartialOrd for Noted<T, PART> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord, const PART: u8> Ord for Noted<T, PART> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl<T: Hash, const PART: u8> Hash for Noted<T, PART> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T, const PART: u8> Deref for Noted<T, PART> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        note(|| Self::LOOK);
        &self.0
    }
}

impl<T, const PART: u8> DerefMut for Noted<T, PART> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        note(|| Self::LOOK);
        &mut self.0
    }
}

/// The part that this constant stands for.
pub(super) const fn part(number: u8) -> Part {
    Part::ALL[number as usize]
}

#[cfg(test)]
mod tests {
    use super::super::ViewChangeSet;
    use super::*;
    use crate::crypto::ed25519::Ed25519;
    use crate::rules::Pbft;

    #[test]
    fn what_is_looked_at_is_noted_and_what_is_overwritten_or_done_apart_is_not() {
        let mut backoff: Noted<u8, { Part::Backoff as u8 }> = Noted::new(1);
        let mut requests: Noted<Vec<u8>, { Part::Queue as u8 }> = Noted::new(Vec::new());
        assert!(requests.is_empty(), "nobody watches");
        let queue: Arc<[Cell]> = Arc::new([Cell::only(Part::Queue)]);
        let ((), seen) = watch(&queue, || {
            requests.set(vec![2]);
            let next = apart(|| *backoff + u8::try_from(requests.len()).unwrap_or_default());
            backoff.set_apart(next.map(|next| next + 1));
        });
        assert_eq!((seen.looks, seen.dropped, backoff.0), (vec![], vec![Cell::only(Part::Queue)], 3));
        let (length, seen) = watch(&queue, || {
            requests.push(3);
            requests.len()
        });
        let seen: Vec<_> = seen.looks.iter().map(|(look, _)| (look.cells.part, look.seen)).collect();
        assert_eq!((length, seen), (2, vec![(Part::Queue, Seen::Content); 2]));
        assert_eq!(watch(&queue, || ()).1, Watched::default());
    }

    #[test]
    fn looks_at_v_are_noted_and_what_it_determines_is_not() {
        let v = ViewChangeSet::<Ed25519>::from(Vec::new());
        let nobody: Arc<[Cell]> = Arc::new([]);
        let reads = |look: &dyn Fn()| {
            watch(&nobody, look);
            has_read_v()
        };
        assert!(v.is_empty() && !has_read_v(), "nobody watches");
        assert!(!reads(&|| drop(v.plan(&Pbft))));
        assert!(!reads(&|| drop(v.clone())));
        assert!(reads(&|| assert!(v.is_empty())));
        assert!(reads(&|| assert!(v == v.clone())));
        assert!(reads(&|| drop(format!("{v:?}"))));
        assert!(reads(&|| drop(postcard::to_stdvec(&v))));
        assert!(!has_read_v(), "it is told once");
    }

    #[test]
    fn each_part_stands_in_its_place() {
        for (place, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, place);
        }
    }
}
