//! Parts of the state whose every use is noted, so that whoever explores a replica can tell what a step depends on.
//!
//! A step is a function of the state and the event. If it is taken on a state and uses some of these parts only, it does
//! the same on every state that differs in the others alone: that is no belief about the code, it is what the step did.
//! An exploration that walks all mixtures of what can be received rests on it, and nothing else does: a note changes
//! nothing that a replica does.
//!
//! Reading, changing and even borrowing mutably counts as a use. Writing a value over another ([`Noted::set`]) does not,
//! nor does what is [done apart](apart). What makes one value of a part of another, and says nothing of either to the rest of the
//! step, is noted apart from uses ([`Noted::update`]).

use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};

/// A part of a replica's state.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Part {
    /// PREPAREs not yet part of a certificate.
    Prepares,
    /// COMMITs not yet part of a certificate.
    Commits,
    /// CHECKPOINTs above h.
    Checkpoints,
    /// VIEW-CHANGEs for views above the current one.
    ViewChanges,
    /// Requests that wait, and their order.
    Requests,
    /// State being fetched.
    Transfer,
    /// The request for which the progress timer runs.
    Awaited,
    /// How long the progress timer runs.
    Backoff,
    /// The last NEW-VIEW, for whoever missed it.
    NewView,
}

impl Part {
    /// Those that hold what others have sent and can send again.
    pub const RECEIPTS: [Part; 6] =
        [Part::Prepares, Part::Commits, Part::Checkpoints, Part::ViewChanges, Part::Requests, Part::Transfer];

    /// Those that serve timers and retransmission.
    pub const SERVICES: [Part; 3] = [Part::Awaited, Part::Backoff, Part::NewView];

    const ALL: [Part; 9] = [
        Part::Prepares,
        Part::Commits,
        Part::Checkpoints,
        Part::ViewChanges,
        Part::Requests,
        Part::Transfer,
        Part::Awaited,
        Part::Backoff,
        Part::NewView,
    ];
}

/// The parts used since [`begin`], in the order of their first use.
#[derive(Clone, Copy, Debug, Default)]
struct Uses {
    /// One bit a part.
    seen: u16,
    /// Four bits a part, the first lowest.
    order: u64,
    count: u8,
    /// One bit a part that was updated.
    updated: u16,
    apart: bool,
}

thread_local! {
    static USES: Cell<Uses> = const { Cell::new(Uses { seen: 0, order: 0, count: 0, updated: 0, apart: false }) };
}

#[inline]
fn note(part: u8) {
    USES.with(|uses| {
        let mut now = uses.get();
        if now.seen & (1 << part) == 0 && !now.apart {
            now.seen |= 1 << part;
            now.order |= u64::from(part) << (4 * now.count);
            now.count += 1;
            uses.set(now);
        }
    });
}

/// Forgets what has been noted in this thread.
pub fn begin() {
    USES.with(|uses| uses.set(Uses::default()));
}

/// The parts used in this thread since [`begin`], in the order of their first use.
pub fn used() -> impl Iterator<Item = Part> {
    let Uses { order, count, .. } = USES.with(Cell::get);
    (0..count).map(move |place| Part::ALL[(order >> (4 * place) & 0xf) as usize])
}

/// The parts updated in this thread since [`begin`].
pub fn updated() -> impl Iterator<Item = Part> {
    let Uses { updated, .. } = USES.with(Cell::get);
    Part::ALL.into_iter().filter(move |&part| updated & (1 << part as u8) != 0)
}

/// Does something whose result concerns timers alone: what it uses is not noted.
pub(super) fn apart<T>(work: impl FnOnce() -> T) -> T {
    let set = |apart| USES.with(|uses| uses.replace(Uses { apart, ..uses.get() }).apart);
    let before = set(true);
    let result = work();
    set(before);
    result
}

/// A part of the state, `PART` of [`Part`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Noted<T, const PART: u8>(T);

impl<T, const PART: u8> Noted<T, PART> {
    /// The part with this value.
    pub const fn new(value: T) -> Self {
        Noted(value)
    }

    /// Makes another value of the one that it has. Nothing of either gets out: `work` cannot change what it captures.
    pub fn update(&mut self, work: impl Fn(&mut T)) {
        USES.with(|uses| {
            let now = uses.get();
            uses.set(Uses { updated: now.updated | (1 << PART), ..now });
        });
        work(&mut self.0);
    }

    /// Writes another value over whatever it is.
    pub fn set(&mut self, value: T) {
        self.0 = value;
    }
}

impl<T, const PART: u8> Deref for Noted<T, PART> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        note(PART);
        &self.0
    }
}

impl<T, const PART: u8> DerefMut for Noted<T, PART> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        note(PART);
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_noted_in_order_and_what_is_overwritten_or_done_apart_is_not() {
        let mut commits: Noted<Vec<u8>, { Part::Commits as u8 }> = Noted::new(vec![1]);
        let mut prepares: Noted<Vec<u8>, { Part::Prepares as u8 }> = Noted::new(Vec::new());
        begin();
        prepares.set(vec![2]);
        assert_eq!(apart(|| commits.len()), 1);
        commits.update(|commits| commits.clear());
        assert_eq!(used().count(), 0);
        assert_eq!(updated().collect::<Vec<_>>(), [Part::Commits]);
        commits.push(3);
        assert!(!prepares.is_empty() && !commits.is_empty());
        assert_eq!(used().collect::<Vec<_>>(), [Part::Commits, Part::Prepares]);
        begin();
        assert_eq!(used().count(), 0);
    }

    #[test]
    fn each_part_stands_in_its_place() {
        for (place, part) in Part::ALL.into_iter().enumerate() {
            assert_eq!(part as usize, place);
        }
        assert_eq!([&Part::RECEIPTS[..], &Part::SERVICES[..]].concat(), Part::ALL);
    }
}
