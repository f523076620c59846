//! States that differ only in the names of batches, or of replicas that are no primary, are explored once.
//!
//! An automorphism of the structure permutes the elements of each sort so that constants stay and each rigid relation
//! holds of the same tuples. A formula holds of a state with some values if and only if it holds of the permuted state
//! with the permuted values, so reachable states are permuted to reachable ones, and what is claimed of one holds of the
//! other. That needs no trust: [`Symmetries::of`] looks whether each permutation maps the initial state, the steps with
//! their guards and effects, and the claims onto themselves, and keeps none that does not.

use super::finite::Structure;
use super::formula::Sort;
use super::ground::{Ground, Known};
use super::packed::{Bits, Packed};
use super::relations::{Kind, Relation};
use std::collections::{BTreeMap, BTreeSet};

/// Permutations of packed states, the identity left out.
pub(super) struct Symmetries<const W: usize> {
    all: Vec<Permutation<W>>,
}

/// For each byte of a state and each value of it, the bits that it becomes.
struct Permutation<const W: usize> {
    bytes: Vec<[Bits<W>; 256]>,
}

/// What an element of each sort becomes.
type Renaming = BTreeMap<Sort, Vec<usize>>;

fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    let with_last = |shorter: &Vec<usize>, at: usize| {
        let mut longer = shorter.clone();
        longer.insert(at, count - 1);
        longer
    };
    shorter.iter().flat_map(|one| (0..count).map(move |at| with_last(one, at))).collect()
}

/// Whether each rigid relation holds of the same tuples.
fn is_automorphism(structure: &Structure, renaming: &Renaming) -> bool {
    let rigid = Relation::ALL.iter().filter(|relation| relation.kind() == Kind::Rigid);
    rigid.into_iter().all(|&relation| {
        structure.every_tuple(relation).into_iter().all(|tuple| {
            let (_, here) = structure.bit(relation, &tuple);
            let (_, there) = structure.bit(relation, &renamed(relation, &tuple, renaming));
            structure.is_fixed(here) == structure.is_fixed(there)
        })
    })
}

fn renamed(relation: Relation, tuple: &[usize], renaming: &Renaming) -> Vec<usize> {
    relation.places().iter().zip(tuple).map(|((_, sort), &element)| renaming[sort][element]).collect()
}

/// The element that is of this kind: the first of which a rigid relation holds with the same others.
fn image(count: usize, is: impl Fn(usize) -> bool) -> Option<usize> {
    (0..count).find(|&element| is(element))
}

/// The permutations of replicas and of digests, and what becomes of quorums, batches and states by them.
fn renamings(structure: &Structure) -> Vec<Renaming> {
    let mut found = Vec::new();
    for replicas in permutations(structure.size(Sort::Replica)) {
        for digests in permutations(structure.size(Sort::Digest)) {
            found.extend(renaming(structure, &replicas, &digests));
        }
    }
    found.retain(|renaming| is_automorphism(structure, renaming));
    found
}

fn renaming(structure: &Structure, replicas: &[usize], digests: &[usize]) -> Option<Renaming> {
    let holds = |relation, tuple: &[usize]| structure.is_fixed(structure.bit(relation, tuple).1);
    let size = |sort| structure.size(sort);
    let quorum = |quorum: usize| {
        image(size(Sort::Quorum), |other| {
            (0..size(Sort::Replica)).all(|replica| {
                holds(Relation::member, &[replica, quorum])
                    == holds(Relation::member, &[replicas[replica], other])
            })
        })
    };
    // Each digest names the batch of its number.
    let mut states = vec![None; size(Sort::State)];
    *states.first_mut()? = Some(0);
    for state in 0..states.len() {
        for (batch, &digest) in digests.iter().enumerate().take(size(Sort::Batch)) {
            for after in 0..states.len() {
                if holds(Relation::applies, &[state, batch, after]) {
                    let applied =
                        |other| holds(Relation::applies, &[states[state]?, digest, other]).then_some(other);
                    states[after] = (0..states.len()).find_map(applied);
                }
            }
        }
    }
    let same = |sort| (sort, (0..size(sort)).collect());
    Some(BTreeMap::from([
        (Sort::Replica, replicas.to_vec()),
        same(Sort::View),
        same(Sort::Number),
        (Sort::Digest, digests.to_vec()),
        (Sort::Batch, digests.to_vec()),
        (Sort::State, states.into_iter().collect::<Option<Vec<usize>>>()?),
        (Sort::Quorum, (0..size(Sort::Quorum)).map(quorum).collect::<Option<Vec<usize>>>()?),
    ]))
}

/// Where each packed bit goes; none if it goes to none, or if bits that are the same go to different ones.
fn places<const W: usize>(
    structure: &Structure,
    packed: &Packed<W>,
    renaming: &Renaming,
) -> Option<Vec<usize>> {
    let mut places = vec![None; packed.place.len()];
    for &relation in Relation::ALL.iter().filter(|relation| relation.is_state()) {
        for tuple in structure.every_tuple(relation) {
            let here = packed.known[structure.bit(relation, &tuple).1];
            let there = packed.known[structure.bit(relation, &renamed(relation, &tuple, renaming)).1];
            match (here, there) {
                (Known::As(here), Known::As(there)) => {
                    let to = packed.place[&there];
                    if *places[packed.place[&here]].get_or_insert(to) != to {
                        return None;
                    }
                }
                _ if here == there => {}
                _ => return None,
            }
        }
    }
    places.into_iter().collect()
}

impl<const W: usize> Symmetries<W> {
    /// None at all: every state is explored by itself.
    pub(super) fn none() -> Self {
        Symmetries { all: Vec::new() }
    }

    /// Those of a structure that map steps and claims onto themselves.
    pub(super) fn of(structure: &Structure, packed: &Packed<W>) -> Self {
        let steps: BTreeSet<_> = packed
            .steps
            .iter()
            .map(|step| (step.action, step.effects.clone(), step.ground.clone()))
            .collect();
        let claims: BTreeSet<_> =
            packed.claims.iter().map(|claim| (claim.name, claim.ground.clone())).collect();
        let mut all: BTreeMap<Vec<usize>, Permutation<W>> = BTreeMap::new();
        for renaming in renamings(structure) {
            let Some(places) = places(structure, packed, &renaming) else { continue };
            let of = |ground: &Ground| ground.renamed(&|bit| places[bit]);
            let is_same = steps.iter().all(|(action, effects, guard)| {
                let effects = effects.iter().map(|(&bit, value)| (places[bit], of(value))).collect();
                steps.contains(&(*action, effects, of(guard)))
            }) && claims.iter().all(|(name, ground)| claims.contains(&(*name, of(ground))));
            let permutation = Permutation::new(&places);
            let is_identity = places.iter().enumerate().all(|(bit, &place)| bit == place);
            if is_same && !is_identity && permutation.of(&packed.initial) == packed.initial {
                all.insert(places, permutation);
            }
        }
        Symmetries { all: all.into_values().collect() }
    }

    /// How many there are, with the identity.
    pub(super) fn count(&self) -> usize {
        self.all.len() + 1
    }

    /// The least of the states that are alike.
    pub(super) fn least(&self, state: &Bits<W>) -> Bits<W> {
        self.all.iter().map(|one| one.of(state)).min().map_or(*state, |least| least.min(*state))
    }

    /// How many states are alike, this one among them.
    pub(super) fn alike(&self, state: &Bits<W>) -> usize {
        let same = self.all.iter().filter(|one| one.of(state) == *state).count() + 1;
        self.count() / same
    }
}

impl<const W: usize> Permutation<W> {
    fn new(places: &[usize]) -> Self {
        let byte = |byte: usize| {
            std::array::from_fn(|value| {
                let mut bits = [0; W];
                for (at, place) in places.iter().skip(8 * byte).take(8).enumerate() {
                    bits[place / 64] |= u64::from(value >> at & 1 == 1) << (place % 64);
                }
                bits
            })
        };
        Permutation { bytes: (0..places.len().div_ceil(8)).map(byte).collect() }
    }

    fn of(&self, state: &Bits<W>) -> Bits<W> {
        let mut bits = [0; W];
        for (at, table) in self.bytes.iter().enumerate() {
            let value = (state[at / 8] >> (at % 8 * 8) & 0xff) as usize;
            (0..W).for_each(|word| bits[word] |= table[value][word]);
        }
        bits
    }
}
