//! Exhaustive exploration of the abstract protocol in a small cluster: the finite reading of what is proved for all.

use super::Protocol;
use super::axioms::initial_value;
use super::evidence::Evidence;
use super::finite::{State, Structure};
use super::formula::{Sort, Term};
use super::packed::{Packed, Unpacked};
use super::relations::Relation;
use super::relations::names::{INITIAL, N_0, VIEW_0};
use super::search::Search;
use super::symmetry::Symmetries;
use std::collections::BTreeMap;

/// A small cluster, and what its replicas may agree on.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Replicas.
    pub n: usize,
    /// The Byzantine one, if any.
    pub byzantine: Option<usize>,
    /// Views, from view 0.
    pub views: usize,
    /// Sequence numbers, apart from that of the initial state.
    pub numbers: usize,
    /// Batches, of one digest each; all but those after the first `authentic` have a request that no client signed.
    pub batches: usize,
    /// How many batches are authentic.
    pub authentic: usize,
    /// Whether states that differ in the names of batches and replicas alone are explored once.
    pub symmetric: bool,
    /// Whether evidence is forgotten at once, where that is no loss.
    pub forgetful: bool,
    /// The most states kept.
    pub most: usize,
}

/// What an exploration has found.
#[derive(Clone, Debug)]
pub struct Explored {
    /// States.
    pub states: usize,
    /// States when those that differ in names alone are counted each.
    pub alike: usize,
    /// Steps that change something, those to states already known among them.
    pub transitions: u64,
    /// Permutations of names under which the protocol is the same, the identity among them; 1 if none was looked for.
    pub symmetries: usize,
    /// Whether evidence is forgotten.
    pub forgets: bool,
    /// Whether every state was reached.
    pub exhausted: bool,
    /// How often each action was taken.
    pub taken: BTreeMap<&'static str, u64>,
    /// What does not hold somewhere, and the shortest way there.
    pub broken: Option<Broken>,
}

/// An invariant or a theorem that does not hold of a state reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    /// Which.
    pub name: &'static str,
    /// The actions on the way there, each with its parameters. It is a shortest one if nothing is reduced; between two
    /// states explored names may have changed.
    pub steps: Vec<String>,
}

impl Bounds {
    /// Four replicas, views 0 and 1, one sequence number and two batches of which both are authentic.
    pub fn four(byzantine: usize) -> Self {
        let byzantine = Some(byzantine);
        Bounds {
            n: 4,
            byzantine,
            views: 2,
            numbers: 1,
            batches: 2,
            authentic: 2,
            symmetric: false,
            forgetful: false,
            most: 50_000_000,
        }
    }

    /// The quorums: every set of Q replicas, with f = 1 if one is Byzantine.
    fn quorums(&self) -> Vec<u32> {
        let f = usize::from(self.byzantine.is_some());
        let quorum = (self.n + f + 1).div_ceil(2);
        (0..1u32 << self.n).filter(|set| set.count_ones() as usize == quorum).collect()
    }

    /// The structure: orders, primaries in turn, one digest a batch, and a service whose state is the batches so far.
    pub fn structure(&self) -> Structure {
        let quorums = self.quorums();
        // A state is the batches executed, as digits.
        let states: usize = (0..=self.numbers).map(|count| self.batches.pow(count as u32)).sum();
        let sizes = [
            (Sort::Replica, self.n),
            (Sort::View, self.views),
            (Sort::Number, self.numbers + 1),
            (Sort::Digest, self.batches),
            (Sort::Batch, self.batches),
            (Sort::State, states),
            (Sort::Quorum, quorums.len()),
        ];
        let constants: [(Term, usize); 3] = [(VIEW_0.into(), 0), (N_0.into(), 0), (INITIAL.into(), 0)];
        let mut structure = Structure::new(&sizes, &constants);
        for replica in 0..self.n {
            if self.byzantine != Some(replica) {
                structure.fix(Relation::correct, &[replica]);
            }
            for (quorum, set) in quorums.iter().enumerate().filter(|(_, set)| *set >> replica & 1 == 1) {
                debug_assert!(set.count_ones() > 0);
                structure.fix(Relation::member, &[replica, quorum]);
            }
        }
        for later in 0..self.views {
            structure.fix(Relation::primary, &[later, later % self.n]);
            (0..=later).for_each(|view| structure.fix(Relation::le, &[view, later]));
        }
        for higher in 0..=self.numbers {
            (0..=higher).for_each(|number| structure.fix(Relation::below, &[number, higher]));
            if higher > 0 {
                structure.fix(Relation::next, &[higher - 1, higher]);
            }
        }
        for batch in 0..self.batches {
            structure.fix(Relation::names, &[batch, batch]);
            if batch < self.authentic {
                structure.fix(Relation::authentic, &[batch]);
            }
            for state in 0..states {
                let after = state * self.batches + batch + 1;
                if after < states {
                    structure.fix(Relation::applies, &[state, batch, after]);
                }
            }
        }
        structure
    }
}

/// The initial state.
pub(super) fn initial(structure: &Structure) -> State {
    let mut state = structure.empty();
    let nothing = structure.empty();
    for &relation in Relation::ALL.iter().filter(|relation| relation.is_state()) {
        let (places, value) = initial_value(relation);
        for tuple in structure.every_tuple(relation) {
            let values: Vec<(Term, usize)> = places.iter().copied().zip(tuple.iter().copied()).collect();
            let holds = structure.holds(&value, &nothing, &values);
            structure.set(&mut state, relation, &tuple, holds);
        }
    }
    state
}

/// Explores every state within the bounds, breadth first, and checks every invariant and theorem in each; or those of
/// these names.
///
/// # Panics
/// If an action may choose among more than 2^16 relations, or if states take more than 256 bits.
pub fn explore(protocol: &Protocol, bounds: &Bounds, checked: &[&str]) -> Explored {
    let structure = bounds.structure();
    let unpacked = Unpacked::new(protocol, &structure, &initial(&structure), checked);
    match unpacked.bits().div_ceil(64) {
        0 | 1 => explore_packed::<1>(protocol, bounds, &structure, &unpacked),
        2 => explore_packed::<2>(protocol, bounds, &structure, &unpacked),
        3 => explore_packed::<3>(protocol, bounds, &structure, &unpacked),
        _ => explore_packed::<4>(protocol, bounds, &structure, &unpacked),
    }
}

fn explore_packed<const W: usize>(
    protocol: &Protocol,
    bounds: &Bounds,
    structure: &Structure,
    unpacked: &Unpacked<'_>,
) -> Explored {
    let packed: Packed<W> = unpacked.pack();
    let tell = |action: usize, values: &[usize]| {
        let action = &protocol.actions[action];
        let told = action.parameters.iter().zip(values);
        let told: Vec<String> = told.map(|(term, value)| format!("{} = {value}", term.symbol())).collect();
        format!("{}({})", action.name, told.join(", "))
    };
    let mut search = searching(bounds, structure, &packed);
    let found = search.run(bounds.most, &tell, &|action| protocol.actions[action].name);
    if search.is_evidence_lost {
        let bounds = Bounds { forgetful: false, ..bounds.clone() };
        return explore_packed::<W>(protocol, &bounds, structure, unpacked);
    }
    found
}

/// A search with the reductions that are asked for and that apply.
pub(super) fn searching<'a, const W: usize>(
    bounds: &Bounds,
    structure: &Structure,
    packed: &'a Packed<W>,
) -> Search<'a, W> {
    let symmetries = if bounds.symmetric { Symmetries::of(structure, packed) } else { Symmetries::none() };
    let evidence = if bounds.forgetful { Evidence::of(structure, packed) } else { Ok(Evidence::kept()) };
    Search::new(packed, symmetries, evidence.unwrap_or_else(|_| Evidence::kept()))
}
