//! Formulas over the bits of a state: quantifiers written out, and what no step changes replaced by what it is.

use super::action::Action;
use super::finite::{State, Structure, Table};
use super::formula::{Formula, Term};
use std::collections::{BTreeMap, BTreeSet};

/// A formula over bits, negations at the bits.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Ground {
    Const(bool),
    /// A bit, or its negation.
    Is(usize, bool),
    All(Vec<Ground>),
    Any(Vec<Ground>),
}

impl Ground {
    /// A conjunction, or a disjunction, made as simple as is easy: the parts in order and each once.
    fn joined(all: bool, parts: impl IntoIterator<Item = Ground>) -> Ground {
        let mut flat = BTreeSet::new();
        for part in parts {
            match part {
                Ground::Const(value) if value == all => {}
                Ground::Const(value) => return Ground::Const(value),
                Ground::All(inner) if all => flat.extend(inner),
                Ground::Any(inner) if !all => flat.extend(inner),
                other => {
                    flat.insert(other);
                }
            }
        }
        let is_contrary = |part: &Ground| match part {
            Ground::Is(bit, value) => flat.contains(&Ground::Is(*bit, !value)),
            _ => false,
        };
        if flat.iter().any(is_contrary) {
            return Ground::Const(!all);
        }
        // What a bit beside it decides of a part: x & (x | y) is x, and x & (!x | y) is x & y.
        let decided: BTreeMap<usize, bool> =
            flat.iter().filter_map(|part| part.literal()).map(|(bit, value)| (bit, value == all)).collect();
        let simpler = |part: &Ground| match part {
            Ground::Is(..) => part.clone(),
            other => other.with(&|bit| decided.get(&bit).copied()),
        };
        let simplified: Vec<Ground> = flat.iter().map(simpler).collect();
        if simplified.iter().ne(flat.iter()) {
            return Ground::joined(all, simplified);
        }
        match (flat.len(), all) {
            (0, _) => Ground::Const(all),
            (1, _) => flat.pop_first().expect("it has one"),
            (_, true) => Ground::All(flat.into_iter().collect()),
            (_, false) => Ground::Any(flat.into_iter().collect()),
        }
    }

    pub(super) fn all(parts: impl IntoIterator<Item = Ground>) -> Ground {
        Ground::joined(true, parts)
    }

    pub(super) fn any(parts: impl IntoIterator<Item = Ground>) -> Ground {
        Ground::joined(false, parts)
    }

    fn literal(&self) -> Option<(usize, bool)> {
        match self {
            Ground::Is(bit, value) => Some((*bit, *value)),
            _ => None,
        }
    }

    /// What is left when the values of some bits are known.
    pub(super) fn with(&self, known: &dyn Fn(usize) -> Option<bool>) -> Ground {
        match self {
            Ground::Const(_) => self.clone(),
            Ground::Is(bit, value) => {
                known(*bit).map_or_else(|| self.clone(), |is| Ground::Const(is == *value))
            }
            Ground::All(parts) => Ground::all(parts.iter().map(|part| part.with(known))),
            Ground::Any(parts) => Ground::any(parts.iter().map(|part| part.with(known))),
        }
    }

    pub(super) fn not(&self) -> Ground {
        match self {
            Ground::Const(value) => Ground::Const(!value),
            Ground::Is(bit, value) => Ground::Is(*bit, !value),
            Ground::All(parts) => Ground::any(parts.iter().map(Ground::not)),
            Ground::Any(parts) => Ground::all(parts.iter().map(Ground::not)),
        }
    }

    /// Every bit that it mentions, with whether it is asked to be true or to be false.
    pub(super) fn literals(&self) -> BTreeSet<(usize, bool)> {
        match self {
            Ground::Const(_) => BTreeSet::new(),
            Ground::Is(bit, value) => BTreeSet::from([(*bit, *value)]),
            Ground::All(parts) | Ground::Any(parts) => parts.iter().flat_map(Ground::literals).collect(),
        }
    }

    /// The bits that must have a value for it to hold, as far as that is plain.
    pub(super) fn needs(&self) -> BTreeSet<(usize, bool)> {
        match self {
            Ground::Is(bit, value) => BTreeSet::from([(*bit, *value)]),
            Ground::All(parts) => parts.iter().filter_map(Ground::literal).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// The same with other bits.
    pub(super) fn renamed(&self, new: &dyn Fn(usize) -> usize) -> Ground {
        match self {
            Ground::Const(_) => self.clone(),
            Ground::Is(bit, value) => Ground::Is(new(*bit), *value),
            Ground::All(parts) => Ground::all(parts.iter().map(|part| part.renamed(new))),
            Ground::Any(parts) => Ground::any(parts.iter().map(|part| part.renamed(new))),
        }
    }
}

/// What is known of each bit of a state: that it never changes, or that another one always is the same.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Known {
    Always(bool),
    As(usize),
}

impl Known {
    fn ground(self) -> Ground {
        match self {
            Known::Always(value) => Ground::Const(value),
            Known::As(bit) => Ground::Is(bit, true),
        }
    }
}

/// An action with values for its parameters.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    /// Which action.
    pub action: usize,
    /// The values of its parameters.
    pub values: Vec<usize>,
    pub guard: Ground,
    /// What bits become that it may change.
    pub effects: BTreeMap<usize, Ground>,
}

/// Writes formulas out.
pub(super) struct Grounding<'a> {
    pub structure: &'a Structure,
    pub known: Vec<Known>,
    /// What the action at hand has chosen.
    choice: Vec<u64>,
}

type Environment = Vec<(Term, usize)>;

impl<'a> Grounding<'a> {
    /// Knows nothing yet but that all is as it is initially: [`Grounding::settle`] finds out what stays so.
    fn new(structure: &'a Structure, initial: &State) -> Self {
        let is = |bit: usize| Known::Always(initial[bit / 64] >> (bit % 64) & 1 == 1);
        let known = (0..structure.state_bits()).map(is).collect();
        Grounding { structure, known, choice: Vec::new() }
    }

    fn value(&self, term: Term, environment: &Environment) -> usize {
        let found = environment.iter().rev().find(|(variable, _)| *variable == term);
        let constant = || self.structure.constant(term);
        found.map(|&(_, value)| value).or_else(constant).expect("no variable is free")
    }

    /// The formula, or its negation, written out.
    pub(super) fn ground(&self, formula: &Formula, positive: bool, environment: &mut Environment) -> Ground {
        match formula {
            Formula::Holds(relation, terms) => {
                let tuple: Vec<usize> = terms.iter().map(|&term| self.value(term, environment)).collect();
                let (table, at) = self.structure.bit(*relation, &tuple);
                let holds = match table {
                    Table::Rigid => Ground::Const(self.structure.is_fixed(at)),
                    Table::Choice => Ground::Const(self.choice[at / 64] >> (at % 64) & 1 == 1),
                    Table::State => self.known[at].ground(),
                };
                if positive { holds } else { holds.not() }
            }
            Formula::Equal(left, right) => {
                let equal = self.value(*left, environment) == self.value(*right, environment);
                Ground::Const(equal == positive)
            }
            Formula::Not(part) => self.ground(part, !positive, environment),
            Formula::All(parts) => {
                self.joined(positive, parts.iter().map(|part| (part, positive)), environment)
            }
            Formula::Any(parts) => {
                self.joined(!positive, parts.iter().map(|part| (part, positive)), environment)
            }
            Formula::Implies(left, right) => {
                let parts = [(&**left, !positive), (&**right, positive)];
                self.joined(!positive, parts.into_iter(), environment)
            }
            Formula::ForAll(variables, body) => {
                self.quantified(positive, variables, body, positive, environment)
            }
            Formula::Exists(variables, body) => {
                self.quantified(!positive, variables, body, positive, environment)
            }
        }
    }

    /// Parts, each with whether it is positive, up to the first that decides.
    fn joined<'f>(
        &self,
        all: bool,
        parts: impl Iterator<Item = (&'f Formula, bool)>,
        environment: &mut Environment,
    ) -> Ground {
        let mut grounds = Vec::new();
        for (part, positive) in parts {
            let ground = self.ground(part, positive, environment);
            if ground == Ground::Const(!all) {
                return ground;
            }
            grounds.push(ground);
        }
        Ground::joined(all, grounds)
    }

    fn quantified(
        &self,
        all: bool,
        variables: &[Term],
        body: &Formula,
        positive: bool,
        environment: &mut Environment,
    ) -> Ground {
        let Some((&variable, rest)) = variables.split_first() else {
            return self.ground(body, positive, environment);
        };
        let mut grounds = Vec::new();
        for value in 0..self.structure.size(variable.sort) {
            environment.push((variable, value));
            let ground = self.quantified(all, rest, body, positive, environment);
            environment.pop();
            if ground == Ground::Const(!all) {
                return ground;
            }
            grounds.push(ground);
        }
        Ground::joined(all, grounds)
    }

    /// Every action with every choice of values that is not plainly impossible.
    pub(super) fn instances(&mut self, actions: &[Action]) -> Vec<Instance> {
        let mut found = Vec::new();
        for (number, action) in actions.iter().enumerate() {
            let words = self.structure.choice_bits().div_ceil(64).max(1);
            self.choice = vec![0; words];
            if action.choices.is_empty() {
                self.instances_of(number, action, &[], &mut found);
                continue;
            }
            assert!(self.structure.choice_bits() <= 16, "more than 2^16 choices");
            // The least that satisfies the guards: what chooses less satisfies them not.
            for choice in 0..1u64 << self.structure.choice_bits() {
                self.choice = vec![choice];
                let less = (0..64).map(|bit| 1u64 << bit).filter(|bit| choice & bit != 0);
                let less: Vec<u64> = less.map(|bit| choice & !bit).collect();
                self.instances_of(number, action, &less, &mut found);
            }
        }
        found
    }

    fn instances_of(&mut self, number: usize, action: &Action, less: &[u64], found: &mut Vec<Instance>) {
        let mut at_depth = vec![Vec::new(); action.parameters.len() + 1];
        for guard in action.guards.iter().flat_map(|guard| guard.formula.conjuncts()) {
            let free = guard.free();
            let last = action.parameters.iter().rposition(|term| free.contains(term));
            at_depth[last.map_or(0, |at| at + 1)].push(guard);
        }
        let mut environment = Environment::new();
        self.parameters((number, action), &at_depth, less, Vec::new(), &mut environment, found);
    }

    fn parameters(
        &mut self,
        (number, action): (usize, &Action),
        at_depth: &[Vec<&Formula>],
        less: &[u64],
        guards: Vec<Ground>,
        environment: &mut Environment,
        found: &mut Vec<Instance>,
    ) {
        let depth = environment.len();
        let mut guards = guards;
        for guard in &at_depth[depth] {
            guards.push(self.ground(guard, true, environment));
            if guards.last() == Some(&Ground::Const(false)) {
                return;
            }
        }
        if let Some(&parameter) = action.parameters.get(depth) {
            for value in 0..self.structure.size(parameter.sort) {
                environment.push((parameter, value));
                self.parameters((number, action), at_depth, less, guards.clone(), environment, found);
                environment.pop();
            }
            return;
        }
        let chosen = self.choice.clone();
        for &less in less {
            self.choice = vec![less];
            let enough = at_depth.iter().flatten().map(|guard| self.ground(guard, true, environment));
            let enough: Vec<Ground> = enough.collect();
            guards.push(Ground::all(enough).not());
        }
        self.choice = chosen;
        let guard = Ground::all(guards);
        if guard == Ground::Const(false) {
            return;
        }
        let effects = self.effects(action, &guard, environment);
        if !effects.is_empty() {
            let values = environment.iter().map(|&(_, value)| value).collect();
            found.push(Instance { action: number, values, guard, effects });
        }
    }

    /// What bits become, but for those that stay as they are.
    fn effects(
        &self,
        action: &Action,
        guard: &Ground,
        environment: &mut Environment,
    ) -> BTreeMap<usize, Ground> {
        let mut effects = BTreeMap::new();
        let needed: BTreeMap<usize, bool> = guard.needs().into_iter().collect();
        for update in &action.updates {
            for tuple in self.structure.every_tuple(update.relation) {
                let (_, bit) = self.structure.bit(update.relation, &tuple);
                let depth = environment.len();
                environment.extend(update.places.iter().copied().zip(tuple));
                let becomes = self.ground(&update.becomes, true, environment);
                environment.truncate(depth);
                // Where the guard says what a bit is, it is that.
                let is = |value: &Ground| value.with(&|bit| needed.get(&bit).copied());
                if is(&becomes) != is(&self.known[bit].ground()) {
                    effects.insert(bit, becomes);
                }
            }
        }
        effects
    }

    /// Finds out which bits never change and which always are the same: all that are the same initially, until some
    /// action tells them apart. What is left is kept by every action, and so holds of every state reached.
    pub(super) fn settle(
        structure: &'a Structure,
        initial: &State,
        actions: &[Action],
    ) -> (Self, Vec<Instance>) {
        let mut this = Grounding::new(structure, initial);
        loop {
            let instances = this.instances(actions);
            let mut told: Vec<Vec<(usize, &Ground)>> = vec![Vec::new(); this.known.len()];
            for (number, instance) in instances.iter().enumerate() {
                for (&bit, becomes) in &instance.effects {
                    told[bit].push((number, becomes));
                }
            }
            // The first of each kind speaks for the others; what no action changes stays what it is.
            let mut kinds: BTreeMap<(Known, &Told<'_>), usize> = BTreeMap::new();
            let known: Vec<Known> = (this.known.iter().zip(&told).enumerate())
                .map(|(bit, (&known, told))| match (known, told.is_empty()) {
                    (Known::Always(_), true) => known,
                    _ => Known::As(*kinds.entry((known, told)).or_insert(bit)),
                })
                .collect();
            if known == this.known {
                return (this, instances);
            }
            this.known = known;
        }
    }
}

/// Which instances make something of a bit, and what.
type Told<'a> = [(usize, &'a Ground)];
