//! Virtual time, and a network that does whatever its seed says.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// Virtual time in microseconds.
pub(super) type Time = u64;

/// One millisecond.
pub(super) const MS: Time = 1000;

/// What happens at a point in time, at a node.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Happening<M> {
    /// A message arrives.
    Arrival { to: usize, message: M },
    /// A timer fires, if its generation is still the node's current one for that timer.
    Timer { node: usize, status: bool, generation: u64 },
    /// A replica stops; everything volatile is gone.
    Crash { node: usize },
    /// It starts again from what was durable.
    Restart { node: usize },
    /// These nodes no longer hear the others, nor the others them.
    Split { away: BTreeSet<usize> },
    /// The network is whole again.
    Join,
    /// A Byzantine replica may say something unprovoked.
    Mischief { node: usize },
}

/// The happenings to come, in the order of their time; ties in the order in which they were planned.
pub(super) struct Agenda<M> {
    now: Time,
    planned: u64,
    heap: BinaryHeap<Reverse<(Time, u64, Happening<M>)>>,
}

impl<M: Ord> Agenda<M> {
    pub(super) fn new() -> Self {
        Agenda { now: 0, planned: 0, heap: BinaryHeap::new() }
    }

    pub(super) fn now(&self) -> Time {
        self.now
    }

    pub(super) fn plan(&mut self, after: Time, happening: Happening<M>) {
        self.planned += 1;
        self.heap.push(Reverse((self.now.saturating_add(after), self.planned, happening)));
    }

    pub(super) fn next(&mut self) -> Option<Happening<M>> {
        let Reverse((time, _, happening)) = self.heap.pop()?;
        self.now = time;
        Some(happening)
    }

    /// The next happening until this time; nothing, and it is this time, if there is none.
    pub(super) fn next_until(&mut self, time: Time) -> Option<Happening<M>> {
        match self.heap.peek() {
            Some(&Reverse((next, ..))) if next <= time => self.next(),
            _ => {
                self.now = time;
                None
            }
        }
    }
}

/// How the network treats messages at the moment.
pub(super) struct Weather {
    /// Loss in percent.
    pub(super) loss: u32,
    /// Nodes cut off from the rest, among themselves connected.
    pub(super) away: BTreeSet<usize>,
    /// Whether it has healed for good.
    pub(super) healed: bool,
    /// The shortest and the longest time that messages travel, if they are not to be chosen here.
    pub(super) delay: Option<(Time, Time)>,
}

impl Weather {
    /// When a message sent now arrives: never, once or several times. Delays in microseconds.
    pub(super) fn delays(&self, from: usize, to: usize, rng: &mut ChaCha8Rng) -> Vec<Time> {
        if self.healed {
            let (shortest, longest) = self.delay.unwrap_or((MS / 2, 3 * MS - 1));
            return vec![rng.random_range(shortest..=longest)];
        }
        if self.away.contains(&from) != self.away.contains(&to) || rng.random_range(0..100) < self.loss {
            return Vec::new();
        }
        let copies = 1 + usize::from(rng.random_range(0..100) < 8);
        (0..copies)
            .map(|_| match (self.delay, rng.random_range(0..20)) {
                (Some((shortest, longest)), _) => rng.random_range(shortest..=longest),
                (None, 0) => rng.random_range(20 * MS..200 * MS),
                (None, _) => rng.random_range(MS / 2..12 * MS),
            })
            .collect()
    }
}
