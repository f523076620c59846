//! The search itself: breadth first, every state once.

use super::explore::{Broken, Explored};
use super::packed::{Bits, Packed};
use super::symmetry::Symmetries;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// A search over packed states.
pub(super) struct Search<'a, const W: usize> {
    pub packed: &'a Packed<W>,
    symmetries: Symmetries<W>,
    /// Each with the one it was reached from.
    known: IndexMap<Bits<W>, u32, FixedState>,
    taken: Vec<u64>,
    transitions: u64,
}

const NOWHERE: u32 = u32::MAX;

impl<'a, const W: usize> Search<'a, W> {
    pub(super) fn new(packed: &'a Packed<W>, symmetries: Symmetries<W>) -> Self {
        let mut known = IndexMap::default();
        known.insert(packed.initial, NOWHERE);
        Search { packed, symmetries, known, taken: vec![0; packed.steps.len()], transitions: 0 }
    }

    /// The claim that does not hold of a state, if any.
    fn broken(&self, state: &Bits<W>) -> Option<&'static str> {
        self.packed.claims.iter().find(|claim| !claim.test.holds(state)).map(|claim| claim.name)
    }

    pub(super) fn run(mut self, most: usize, tell: &dyn Fn(usize, Vec<usize>) -> String, names: &[&'static str]) -> Explored {
        let mut next = 0;
        let mut broken = None;
        while next < self.known.len() && self.known.len() <= most {
            let state = *self.known.get_index(next).expect("it is known").0;
            if let Some(name) = self.broken(&state) {
                broken = Some((name, next));
                break;
            }
            let from = u32::try_from(next).expect("a table of more than 2^32 states does not fit in memory");
            for (number, step) in self.packed.steps.iter().enumerate() {
                if step.guard.holds(&state) {
                    let after = step.after(&state);
                    if after != state {
                        self.transitions += 1;
                        self.taken[number] += 1;
                        self.known.entry(self.symmetries.least(&after)).or_insert(from);
                    }
                }
            }
            next += 1;
        }
        let mut taken = BTreeMap::new();
        for (step, &count) in self.packed.steps.iter().zip(&self.taken).filter(|(_, count)| **count > 0) {
            *taken.entry(names[step.action]).or_default() += count as usize;
        }
        Explored {
            states: self.known.len(),
            represents: self.known.keys().map(|state| self.symmetries.alike(state)).sum(),
            transitions: self.transitions as usize,
            exhausted: broken.is_none() && next == self.known.len(),
            taken,
            broken: broken.map(|(name, at)| Broken { name, steps: self.way_to(at, tell) }),
        }
    }

    fn way_to(&self, mut at: usize, tell: &dyn Fn(usize, Vec<usize>) -> String) -> Vec<String> {
        let mut steps = Vec::new();
        while let Some((state, &from)) = self.known.get_index(at).filter(|(_, from)| **from != NOWHERE) {
            let before = *self.known.get_index(from as usize).expect("it is known").0;
            let step = self.packed.steps.iter().find(|step| step.guard.holds(&before) && self.symmetries.least(&step.after(&before)) == *state);
            let step = step.expect("some step led here");
            steps.push(tell(step.action, step.values.clone()));
            at = from as usize;
        }
        steps.reverse();
        steps
    }
}
