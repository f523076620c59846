//! The abstract protocol in a small cluster, a step at a time: for whoever has a run of something and asks whether it is
//! one of the protocol's.

use super::Protocol;
use super::explore::{Bounds, initial};
use super::finite::Structure;
use super::ground::Known;
use super::packed::{Bits, Packed, Step, Unpacked};
use super::relations::{Kind, Relation};
use std::collections::BTreeMap;

/// Words of a state: enough for four replicas, two views, a number and three batches.
const WORDS: usize = 4;

/// A state of the abstract protocol.
pub type SmallState = Bits<WORDS>;

/// A relation, and what it holds of.
pub type Holds = (Relation, Vec<usize>);

/// The protocol in a small cluster.
#[derive(Debug)]
pub struct Small {
    structure: Structure,
    packed: Packed<WORDS>,
    steps: Vec<Named>,
    /// The bits that what is seen from outside decides.
    seen: SmallState,
}

/// An action with a value for each of its parameters.
#[derive(Debug)]
struct Named {
    action: &'static str,
    values: Vec<(&'static str, usize)>,
    step: Step<WORDS>,
}

fn says(relation: Relation, tuple: &[usize]) -> String {
    relation.says_of(&tuple.iter().map(usize::to_string).collect::<Vec<_>>())
}

/// Whether a relation can be read off what a replica has sent, remembers and stores. `allowed` and `carried` are evidence,
/// which may be lost at any time and had again.
fn is_seen(relation: Relation) -> bool {
    !matches!(relation.kind(), Kind::Rigid | Kind::Choice | Kind::Ghost)
        && !matches!(relation, Relation::allowed | Relation::carried)
}

impl Small {
    /// The protocol within these bounds.
    ///
    /// # Panics
    /// If the bounds are so large that a state does not fit.
    pub fn new(protocol: &Protocol, bounds: &Bounds) -> Self {
        let structure = bounds.structure();
        let start = initial(&structure);
        let unpacked = Unpacked::new(protocol, &structure, &start, &["agreement"]);
        let packed = unpacked.pack();
        let named = |(action, step): (usize, Step<WORDS>)| {
            let action = &protocol.actions[action];
            let names = action.parameters.iter().map(|term| term.name);
            Named { action: action.name, values: names.zip(step.values.iter().copied()).collect(), step }
        };
        let steps = unpacked.each().into_iter().map(named).collect();
        let mut this = Small { steps, packed, seen: [0; WORDS], structure };
        for &relation in Relation::ALL.iter().filter(|&&relation| is_seen(relation)) {
            for tuple in this.structure.every_tuple(relation) {
                if let Known::As(first) = this.known(relation, &tuple) {
                    let place = this.packed.place[&first];
                    this.seen[place / 64] |= 1 << (place % 64);
                }
            }
        }
        this
    }

    fn known(&self, relation: Relation, tuple: &[usize]) -> Known {
        self.packed.known[self.structure.bit(relation, tuple).1]
    }

    /// The initial state.
    pub fn initial(&self) -> SmallState {
        self.packed.initial
    }

    /// Whether two states are the same as far as they are seen from outside.
    pub fn looks_the_same(&self, one: &SmallState, other: &SmallState) -> bool {
        (0..WORDS).all(|word| (one[word] ^ other[word]) & self.seen[word] == 0)
    }

    /// The part of a state that is about one replica, if just these relations hold of it that are seen from outside.
    /// A state is the parts of all replicas together.
    ///
    /// # Errors
    /// If it differs from every state reached: in something that never changes, or because two things are not the same
    /// that always are. What differs, in words.
    pub fn part(&self, replica: usize, holds: &[Holds]) -> Result<SmallState, String> {
        let mut state = [0; WORDS];
        let mut met: BTreeMap<usize, (bool, String)> = BTreeMap::new();
        for (relation, tuple) in self.about(replica) {
            let is = holds.iter().any(|(of, what)| *of == relation && *what == tuple);
            let words = format!("{}{}", if is { "" } else { "not: " }, says(relation, &tuple));
            match self.known(relation, &tuple) {
                Known::Always(value) if value == is => {}
                Known::Always(_) => return Err(words),
                Known::As(bit) => {
                    let (known, other) = met.entry(bit).or_insert_with(|| (is, words.clone()));
                    if *known != is {
                        return Err(format!("one and not the other: {words}; {other}"));
                    }
                    let place = self.packed.place[&bit];
                    state[place / 64] |= u64::from(is) << (place % 64);
                }
            }
        }
        Ok(state)
    }

    /// Everything seen from outside that can be said of a replica.
    fn about(&self, replica: usize) -> impl Iterator<Item = Holds> + '_ {
        let seen = Relation::ALL.iter().copied().filter(|&relation| is_seen(relation));
        let all = seen.flat_map(|relation| {
            let tuples = self.structure.every_tuple(relation).into_iter();
            tuples.map(move |tuple| (relation, tuple))
        });
        all.filter(move |(_, tuple)| tuple[0] == replica)
    }

    /// The steps that are this action, taken with these values of some of its parameters and any values of the others.
    pub fn steps(&self, action: &str, with: &[(&str, usize)]) -> Vec<usize> {
        let fits = |of: &Named| of.action == action && with.iter().all(|wanted| of.values.contains(wanted));
        (0..self.steps.len()).filter(|&at| fits(&self.steps[at])).collect()
    }

    /// The state after the first of these steps whose guards hold; none if those of no one do.
    pub fn after(&self, state: &SmallState, steps: &[usize]) -> Option<SmallState> {
        let found = steps.iter().map(|&at| &self.steps[at].step).find(|step| step.guard.holds(state));
        found.map(|step| step.after(state))
    }

    /// What is true in one of two states and not in the other, of what is seen from outside.
    pub fn differences(&self, one: &SmallState, other: &SmallState) -> Vec<String> {
        let (one, other) = [one, other].map(|state| self.packed.unpack(&self.structure, state)).into();
        let mut found = Vec::new();
        for &relation in Relation::ALL.iter().filter(|&&relation| is_seen(relation)) {
            let (here, there) =
                (self.structure.tuples(&one, relation), self.structure.tuples(&other, relation));
            let only = here.iter().filter(|tuple| !there.contains(tuple));
            let only = only.chain(there.iter().filter(|tuple| !here.contains(tuple)));
            found.extend(only.map(|tuple| says(relation, tuple)));
        }
        found
    }
}
