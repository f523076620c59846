//! The search itself: breadth first, every state once.

use super::evidence::Evidence;
use super::explore::{Broken, Explored};
use super::packed::{Bits, Packed};
use super::symmetry::Symmetries;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use std::collections::BTreeMap;

/// A search over packed states.
pub(super) struct Search<'a, const W: usize> {
    packed: &'a Packed<W>,
    symmetries: Symmetries<W>,
    evidence: Evidence<W>,
    /// Steps that are taken by themselves.
    plain: Vec<usize>,
    /// Each state with the one it was reached from.
    pub known: IndexMap<Bits<W>, u32, FixedState>,
    taken: Vec<u64>,
    transitions: u64,
    /// Whether evidence might be had in some state, and not any more after a step: then it must not be forgotten.
    pub is_evidence_lost: bool,
}

const NOWHERE: u32 = u32::MAX;

/// What does not hold: of which state, after which steps from there.
type Found = (&'static str, usize, Vec<usize>);

impl<'a, const W: usize> Search<'a, W> {
    pub(super) fn new(packed: &'a Packed<W>, symmetries: Symmetries<W>, evidence: Evidence<W>) -> Self {
        let is_plain = |step: &usize| !evidence.gives.contains(step) && !evidence.forgets.contains(step);
        let plain = (0..packed.steps.len()).filter(is_plain).collect();
        let known = IndexMap::from_iter([(packed.initial, NOWHERE)]);
        let taken = vec![0; packed.steps.len()];
        Search { packed, symmetries, evidence, plain, known, taken, transitions: 0, is_evidence_lost: false }
    }

    /// Gives each way on from a state: the steps, and the state after them with the evidence that they have given.
    fn each(&self, state: &Bits<W>, give: &mut dyn FnMut(&[usize], Bits<W>)) {
        let steps = &self.packed.steps;
        for &step in self.plain.iter().filter(|&&step| steps[step].guard.holds(state)) {
            give(&[step], steps[step].after(state));
        }
        for &evidence in self.evidence.gives.iter().filter(|&&step| steps[step].guard.holds(state)) {
            let given = steps[evidence].after(state);
            give(&[evidence], given);
            let needs = self.evidence.needs.iter().copied();
            for step in needs.filter(|&step| steps[step].guard.holds(&given)) {
                give(&[evidence, step], steps[step].after(&given));
            }
        }
    }

    /// The claim that does not hold of a state, if any.
    fn broken(&self, state: &Bits<W>) -> Option<&'static str> {
        self.packed.claims.iter().find(|claim| !claim.test.holds(state)).map(|claim| claim.name)
    }

    /// A claim about evidence that does not hold, with the step that gives the evidence.
    fn broken_with_evidence(&self, state: &Bits<W>) -> Option<(&'static str, usize)> {
        let enabled = |step: &&usize| self.packed.steps[**step].guard.holds(state);
        self.evidence.gives.iter().filter(enabled).find_map(|&step| {
            let given = self.packed.steps[step].after(state);
            let mut claims = self.evidence.claims.iter().map(|&claim| &self.packed.claims[claim]);
            claims.find(|claim| !claim.test.holds(&given)).map(|claim| (claim.name, step))
        })
    }

    /// Goes on until every state is known, a claim does not hold, or there are more states than `most`; or until the
    /// reduction turns out not to apply.
    fn go_on(&mut self, most: usize) -> (bool, Option<Found>) {
        let mut next = 0;
        let mut ways: Vec<(Bits<W>, usize)> = Vec::new();
        while next < self.known.len() && self.known.len() <= most {
            let state = *self.known.get_index(next).expect("it is known").0;
            if let Some(name) = self.broken(&state) {
                return (false, Some((name, next, Vec::new())));
            }
            if let Some((name, step)) = self.broken_with_evidence(&state) {
                return (false, Some((name, next, vec![step])));
            }
            for &(one, other) in &self.evidence.apart {
                let [one, other] = [one, other].map(|step| self.packed.steps[step].guard.holds(&state));
                self.is_evidence_lost |= one && other;
            }
            if self.is_evidence_lost {
                return (false, None);
            }
            ways.clear();
            self.each(&state, &mut |steps, after| {
                ways.push((self.evidence.forgotten(after), *steps.last().expect("there is one")));
            });
            let from = u32::try_from(next).expect("a table of more than 2^32 states does not fit in memory");
            for &(after, step) in ways.iter().filter(|(after, _)| *after != state) {
                self.transitions += 1;
                self.taken[step] += 1;
                self.known.entry(self.symmetries.least(&after)).or_insert(from);
            }
            next += 1;
        }
        (next == self.known.len(), None)
    }

    /// Explores; `tell` says a step in words, and `name` its action.
    pub(super) fn run(
        &mut self,
        most: usize,
        tell: &dyn Fn(usize, &[usize]) -> String,
        name: &dyn Fn(usize) -> &'static str,
    ) -> Explored {
        let (exhausted, broken) = self.go_on(most);
        let mut taken = BTreeMap::new();
        for (step, &count) in self.packed.steps.iter().zip(&self.taken).filter(|(_, count)| **count > 0) {
            *taken.entry(name(step.action)).or_default() += count;
        }
        let told = |step: usize| tell(self.packed.steps[step].action, &self.packed.steps[step].values);
        let broken = broken.map(|(name, at, more)| {
            let steps = self.way_to(at).into_iter().chain(more).map(told).collect();
            Broken { name, steps }
        });
        Explored {
            states: self.known.len(),
            alike: self.known.keys().map(|state| self.symmetries.alike(state)).sum(),
            transitions: self.transitions,
            symmetries: self.symmetries.count(),
            forgets: !self.evidence.gives.is_empty(),
            exhausted,
            taken,
            broken,
        }
    }

    fn way_to(&self, mut at: usize) -> Vec<usize> {
        let mut ways = Vec::new();
        while let Some((state, &from)) = self.known.get_index(at).filter(|(_, from)| **from != NOWHERE) {
            let before = *self.known.get_index(from as usize).expect("it is known").0;
            let mut way = None;
            self.each(&before, &mut |steps, after| {
                if self.symmetries.least(&self.evidence.forgotten(after)) == *state && way.is_none() {
                    way = Some(steps.to_vec());
                }
            });
            ways.push(way.expect("some step led here"));
            at = from as usize;
        }
        ways.into_iter().rev().flatten().collect()
    }
}
