//! The protocol in a small cluster as masks over the bits that tell states apart.

use super::Protocol;
use super::finite::{State, Structure};
use super::ground::{Ground, Grounding, Instance, Known};
use std::collections::{BTreeMap, BTreeSet};

/// A state: a bit for each thing that may change by itself.
pub type Bits<const W: usize> = [u64; W];

/// Whether every bit of `one` that is in a mask is set, or none is.
fn has<const W: usize>(state: &Bits<W>, set: &Bits<W>, clear: &Bits<W>) -> bool {
    (0..W).all(|word| state[word] & set[word] == set[word] && state[word] & clear[word] == 0)
}

/// A formula as masks: the literals at once, then the parts that are none.
#[derive(Clone, Debug)]
pub(super) enum Test<const W: usize> {
    All { set: Bits<W>, clear: Bits<W>, parts: Vec<Test<W>> },
    Any { set: Bits<W>, clear: Bits<W>, parts: Vec<Test<W>> },
}

impl<const W: usize> Test<W> {
    pub(super) fn new(ground: &Ground) -> Self {
        let masks = |parts: &[Ground]| {
            let (mut set, mut clear, mut others) = ([0; W], [0; W], Vec::new());
            for part in parts {
                match part {
                    Ground::Is(bit, true) => set[bit / 64] |= 1 << (bit % 64),
                    Ground::Is(bit, false) => clear[bit / 64] |= 1 << (bit % 64),
                    other => others.push(Test::new(other)),
                }
            }
            (set, clear, others)
        };
        match ground {
            Ground::Const(true) => Test::All { set: [0; W], clear: [0; W], parts: Vec::new() },
            Ground::Const(false) => Test::Any { set: [0; W], clear: [0; W], parts: Vec::new() },
            Ground::Is(..) => Test::new(&Ground::All(vec![ground.clone()])),
            Ground::All(parts) => {
                let (set, clear, parts) = masks(parts);
                Test::All { set, clear, parts }
            }
            Ground::Any(parts) => {
                let (set, clear, parts) = masks(parts);
                Test::Any { set, clear, parts }
            }
        }
    }

    pub(super) fn holds(&self, state: &Bits<W>) -> bool {
        match self {
            Test::All { set, clear, parts } => {
                has(state, set, clear) && parts.iter().all(|part| part.holds(state))
            }
            Test::Any { set, clear, parts } => {
                (0..W).any(|word| state[word] & set[word] != 0 || !state[word] & clear[word] != 0)
                    || parts.iter().any(|part| part.holds(state))
            }
        }
    }
}

/// An action with values: when it can be taken, and what it does.
#[derive(Clone, Debug)]
pub(super) struct Step<const W: usize> {
    /// Which action.
    pub action: usize,
    /// The values with which it is taken; of several with one effect, those of the first.
    pub values: Vec<usize>,
    pub guard: Test<W>,
    pub ground: Ground,
    pub effects: BTreeMap<usize, Ground>,
    sets: Bits<W>,
    clears: Bits<W>,
    /// Bits that become neither always true nor always false.
    becomes: Vec<(usize, Test<W>)>,
}

impl<const W: usize> Step<W> {
    fn new(action: usize, values: Vec<usize>, ground: Ground, effects: BTreeMap<usize, Ground>) -> Self {
        let (mut sets, mut clears, mut becomes) = ([0; W], [0; W], Vec::new());
        for (&bit, value) in &effects {
            match value {
                Ground::Const(true) => sets[bit / 64] |= 1 << (bit % 64),
                Ground::Const(false) => clears[bit / 64] |= 1 << (bit % 64),
                other => becomes.push((bit, Test::new(other))),
            }
        }
        Step { action, values, guard: Test::new(&ground), ground, effects, sets, clears, becomes }
    }

    pub(super) fn after(&self, state: &Bits<W>) -> Bits<W> {
        let mut after: Bits<W> =
            std::array::from_fn(|word| (state[word] | self.sets[word]) & !self.clears[word]);
        for (bit, value) in &self.becomes {
            let mask = 1 << (bit % 64);
            if value.holds(state) { after[bit / 64] |= mask } else { after[bit / 64] &= !mask }
        }
        after
    }
}

/// Something that is to hold of every state, written out.
#[derive(Clone, Debug)]
pub(super) struct Claim<const W: usize> {
    pub name: &'static str,
    pub ground: Ground,
    pub test: Test<W>,
}

/// The protocol in a cluster.
#[derive(Clone, Debug)]
pub(super) struct Packed<const W: usize> {
    pub initial: Bits<W>,
    pub steps: Vec<Step<W>>,
    pub claims: Vec<Claim<W>>,
    /// What is known of each bit of the structure's states.
    pub known: Vec<Known>,
    /// Where a bit of the structure's states is here.
    pub place: BTreeMap<usize, usize>,
}

/// An action, and what bits it makes what.
type Done = (usize, BTreeMap<usize, Ground>);

/// The protocol in a cluster, before it is known how many words a state has.
pub(super) struct Unpacked<'a> {
    grounding: Grounding<'a>,
    instances: Vec<Instance>,
    initial: State,
    place: BTreeMap<usize, usize>,
    claims: Vec<(&'static str, Ground)>,
}

impl<'a> Unpacked<'a> {
    /// With the claims that have these names; with all if there are none.
    pub(super) fn new(
        protocol: &Protocol,
        structure: &'a Structure,
        initial: &State,
        checked: &[&str],
    ) -> Self {
        let (grounding, instances) = Grounding::settle(structure, initial, &protocol.actions);
        let kept: BTreeSet<usize> = (grounding.known.iter())
            .filter_map(|known| match known {
                Known::As(bit) => Some(*bit),
                Known::Always(_) => None,
            })
            .collect();
        let place = kept.into_iter().enumerate().map(|(place, bit)| (bit, place)).collect();
        let clauses = protocol.invariants.iter().chain(&protocol.theorems);
        let mut claims = Vec::new();
        for clause in clauses.filter(|clause| checked.is_empty() || checked.contains(&clause.name)) {
            match grounding.ground(&clause.formula, true, &mut Vec::new()) {
                Ground::All(parts) => claims.extend(parts.into_iter().map(|part| (clause.name, part))),
                other => claims.push((clause.name, other)),
            }
        }
        Unpacked { grounding, instances, initial: initial.clone(), place, claims }
    }

    /// How many bits tell states apart.
    pub(super) fn bits(&self) -> usize {
        self.place.len()
    }

    /// Each action with each choice of values by itself.
    pub(super) fn each<const W: usize>(&self) -> Vec<(usize, Step<W>)> {
        let step = |instance: &Instance| {
            let effects = self.effects(instance);
            let guard = self.renamed(&instance.guard);
            (instance.action, Step::new(instance.action, instance.values.clone(), guard, effects))
        };
        self.instances.iter().map(step).collect()
    }

    fn renamed(&self, ground: &Ground) -> Ground {
        ground.renamed(&|bit| self.place[&bit])
    }

    /// What the bits become that tell states apart.
    fn effects(&self, instance: &Instance) -> BTreeMap<usize, Ground> {
        let effects = instance.effects.iter();
        let kept = effects.filter_map(|(bit, value)| Some((*self.place.get(bit)?, self.renamed(value))));
        kept.collect()
    }

    /// As masks of so many words.
    ///
    /// # Panics
    /// If the bits do not fit.
    pub(super) fn pack<const W: usize>(&self) -> Packed<W> {
        assert!(self.place.len() <= 64 * W, "{} bits", self.place.len());
        // What does the same is one step, which any of the guards allows.
        let mut same: BTreeMap<Done, (Vec<usize>, Vec<Ground>)> = BTreeMap::new();
        for instance in &self.instances {
            let key = (instance.action, self.effects(instance));
            let known = same.entry(key).or_insert_with(|| (instance.values.clone(), Vec::new()));
            known.1.push(self.renamed(&instance.guard));
        }
        let steps = same.into_iter().map(|((action, effects), (values, guards))| {
            Step::new(action, values, Ground::any(guards), effects)
        });
        let claim = |&(name, ref ground): &(&'static str, Ground)| {
            let ground = self.renamed(ground);
            Claim { name, test: Test::new(&ground), ground }
        };
        let known = self.grounding.known.clone();
        let mut packed = Packed {
            initial: [0; W],
            steps: steps.collect(),
            claims: self.claims.iter().map(claim).collect(),
            known,
            place: self.place.clone(),
        };
        packed.initial = packed.pack(&self.initial);
        packed
    }
}

impl<const W: usize> Packed<W> {
    /// A state of the structure, packed.
    pub(super) fn pack(&self, state: &[u64]) -> Bits<W> {
        let mut bits = [0; W];
        for (&bit, &place) in &self.place {
            bits[place / 64] |= (state[bit / 64] >> (bit % 64) & 1) << (place % 64);
        }
        bits
    }

    /// A packed state as one of the structure.
    pub(super) fn unpack(&self, structure: &Structure, bits: &Bits<W>) -> State {
        let mut state = structure.empty();
        for (bit, known) in self.known.iter().enumerate() {
            let holds = match known {
                Known::Always(value) => *value,
                Known::As(first) => {
                    let place = self.place[first];
                    bits[place / 64] >> (place % 64) & 1 == 1
                }
            };
            state[bit / 64] |= u64::from(holds) << (bit % 64);
        }
        state
    }
}
