//! Exhaustive exploration of the abstract protocol in a small cluster: the finite reading of what is proved for all.

use super::Protocol;
use super::action::Action;
use super::axioms::initial_value;
use super::finite::{Code, CompiledUpdate, Situation, Slots, State, Structure};
use super::formula::{Sort, Term};
use super::relations::Relation;
use super::relations::names::{INITIAL, N_0, VIEW_0};
use foldhash::fast::FixedState;
use indexmap::IndexMap;
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
    /// The most states kept.
    pub most: usize,
}

/// What an exploration has found.
#[derive(Clone, Debug)]
pub struct Explored {
    /// States.
    pub states: usize,
    /// Transitions, those to states already known among them.
    pub transitions: usize,
    /// Whether every state was reached.
    pub exhausted: bool,
    /// How often each action was taken.
    pub taken: BTreeMap<&'static str, usize>,
    /// What does not hold somewhere, and the shortest way there.
    pub broken: Option<Broken>,
}

/// An invariant or a theorem that does not hold of a state reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    /// Which.
    pub name: &'static str,
    /// The actions on a shortest way, each with its parameters.
    pub steps: Vec<String>,
}

impl Bounds {
    /// Four replicas, views 0 and 1, one sequence number and two batches of which both are authentic.
    pub fn four(byzantine: usize) -> Self {
        let byzantine = Some(byzantine);
        Bounds { n: 4, byzantine, views: 2, numbers: 1, batches: 2, authentic: 2, most: 50_000_000 }
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
fn initial(structure: &Structure) -> State {
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

struct Compiled {
    name: &'static str,
    parameters: Vec<(Term, usize, usize)>,
    guards: Vec<Code>,
    /// The guards to look at once as many parameters have values.
    at_depth: Vec<Vec<usize>>,
    updates: Vec<CompiledUpdate>,
    chooses: bool,
    slots: usize,
}

impl Compiled {
    fn new(action: &Action, structure: &Structure) -> Self {
        let mut slots = Slots::default();
        let parameter = |&term: &Term, slots: &mut Slots| (term, slots.of(term), structure.size(term.sort));
        let parameters: Vec<_> = action.parameters.iter().map(|term| parameter(term, &mut slots)).collect();
        let mut at_depth = vec![Vec::new(); parameters.len() + 1];
        let mut guards = Vec::new();
        let parts = action.guards.iter().flat_map(|guard| guard.formula.conjuncts());
        for (number, guard) in parts.enumerate() {
            let free = guard.free();
            let last = action.parameters.iter().rposition(|term| free.contains(term));
            let is_choice = guard.relations().iter().any(|relation| action.choices.contains(relation));
            at_depth[if is_choice { parameters.len() } else { last.map_or(0, |at| at + 1) }].push(number);
            guards.push(structure.compile(guard, &mut slots));
        }
        let updates =
            action.updates.iter().map(|update| structure.compile_update(update, &mut slots)).collect();
        let chooses = !action.choices.is_empty();
        Compiled { name: action.name, parameters, guards, at_depth, updates, chooses, slots: slots.all.len() }
    }
}

/// Explores every state within the bounds, breadth first, and checks every invariant and theorem in each.
///
/// # Panics
/// If an action may choose among more than 2^16 relations.
pub fn explore(protocol: &Protocol, bounds: &Bounds, checked: &[&str]) -> Explored {
    let structure = bounds.structure();
    let actions: Vec<Compiled> =
        protocol.actions.iter().map(|action| Compiled::new(action, &structure)).collect();
    let clauses = protocol.invariants.iter().chain(&protocol.theorems);
    let clauses: Vec<(&'static str, Code, usize)> = clauses
        .filter(|clause| checked.is_empty() || checked.contains(&clause.name))
        .map(|clause| {
            let mut slots = Slots::default();
            let code = structure.compile(&clause.formula, &mut slots);
            (clause.name, code, slots.all.len())
        })
        .collect();
    let mut run = Run {
        structure: &structure,
        known: IndexMap::default(),
        found: Explored { states: 0, transitions: 0, exhausted: false, taken: BTreeMap::new(), broken: None },
    };
    run.add(initial(&structure), None);
    let mut next = 0;
    while next < run.known.len() && run.known.len() <= bounds.most {
        let state = run.known.get_index(next).expect("it is known").0.clone();
        for (name, code, slots) in &clauses {
            let view = Situation { state: &state, choice: &[] };
            if !structure.run(code, &view, &mut vec![0; *slots]) {
                let steps = run.way_to(next, &actions);
                run.found.broken = Some(Broken { name, steps });
                run.found.states = run.known.len();
                return run.found;
            }
        }
        for (number, action) in actions.iter().enumerate() {
            let mut environment = vec![0; action.slots];
            run.parameters(action, number, next, &state, 0, &mut environment);
        }
        next += 1;
    }
    run.found.exhausted = next == run.known.len();
    run.found.states = run.known.len();
    run.found
}

/// How a state was first reached: from which, by which action, with which parameters.
type Way = Option<(usize, usize, Vec<usize>)>;

struct Run<'a> {
    structure: &'a Structure,
    known: IndexMap<State, Way, FixedState>,
    found: Explored,
}

impl Run<'_> {
    fn add(&mut self, state: State, way: Way) {
        self.known.entry(state).or_insert(way);
    }

    /// Gives the parameters from `depth` on every value, and takes the action wherever its guards hold.
    fn parameters(
        &mut self,
        action: &Compiled,
        number: usize,
        from: usize,
        state: &State,
        depth: usize,
        environment: &mut [usize],
    ) {
        let choices = if action.chooses && depth == action.parameters.len() {
            assert!(self.structure.choice_bits() <= 16, "more than 2^16 choices");
            1u64 << self.structure.choice_bits()
        } else {
            1
        };
        for choice in 0..choices {
            let view = Situation { state, choice: &[choice] };
            let mut ran = action.at_depth[depth].iter().copied();
            if !ran.all(|guard| self.structure.run(&action.guards[guard], &view, environment)) {
                continue;
            }
            if depth < action.parameters.len() {
                let (_, slot, size) = action.parameters[depth];
                for value in 0..size {
                    environment[slot] = value;
                    self.parameters(action, number, from, state, depth + 1, environment);
                }
                continue;
            }
            let mut after = state.clone();
            action.updates.iter().for_each(|update| {
                self.structure.update(update, &view, &mut after, environment);
            });
            self.found.transitions += 1;
            *self.found.taken.entry(action.name).or_default() += 1;
            let values = action.parameters.iter().map(|&(_, slot, _)| environment[slot]).collect();
            self.add(after, Some((from, number, values)));
            // The first that satisfies the guards is the least: the others promise more than they must.
            break;
        }
    }

    fn way_to(&self, mut state: usize, actions: &[Compiled]) -> Vec<String> {
        let mut steps = Vec::new();
        while let Some((before, action, values)) = &self.known[state] {
            let action = &actions[*action];
            let told = action.parameters.iter().zip(values);
            let told: Vec<String> =
                told.map(|((term, _, _), value)| format!("{} = {value}", term.symbol())).collect();
            steps.push(format!("{}({})", action.name, told.join(", ")));
            state = *before;
        }
        steps.reverse();
        steps
    }
}
