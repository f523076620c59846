//! The formulas on finite structures: given how many elements each sort has, and which tuples each relation holds of,
//! a formula is true or false.

use super::action::{Action, Update};
use super::formula::{Formula, Role, Sort, Term};
use super::relations::{Kind, Relation};
use std::collections::BTreeMap;

/// What the relations that a step may change hold of: a bit for each tuple.
pub type State = Box<[u64]>;

/// How many elements each sort has, what constants stand for, and what the rigid relations hold of.
#[derive(Clone, Debug)]
pub struct Structure {
    sizes: BTreeMap<Sort, usize>,
    constants: BTreeMap<&'static str, usize>,
    layouts: BTreeMap<Relation, Layout>,
    rigid: State,
    words: usize,
    choice_bits: usize,
}

/// Where the bits of a relation are.
#[derive(Clone, Debug)]
struct Layout {
    table: Table,
    offset: usize,
    strides: Vec<usize>,
    sizes: Vec<usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Table {
    Rigid,
    State,
    Choice,
}

impl Structure {
    /// A structure in which no rigid relation holds of anything yet.
    ///
    /// # Panics
    /// If a sort has no size.
    pub fn new(sizes: &[(Sort, usize)], constants: &[(Term, usize)]) -> Self {
        let sizes: BTreeMap<Sort, usize> = sizes.iter().copied().collect();
        let (mut layouts, mut used) = (BTreeMap::new(), [0; 3]);
        for &relation in Relation::ALL {
            let table = match relation.kind() {
                Kind::Rigid => Table::Rigid,
                Kind::Choice => Table::Choice,
                _ => Table::State,
            };
            let mine: Vec<usize> = relation.places().iter().map(|(_, sort)| sizes[sort]).collect();
            let mut strides = vec![1; mine.len()];
            (0..mine.len().saturating_sub(1))
                .rev()
                .for_each(|at| strides[at] = strides[at + 1] * mine[at + 1]);
            let offset = used[table as usize];
            used[table as usize] += mine.iter().product::<usize>();
            layouts.insert(relation, Layout { table, offset, strides, sizes: mine });
        }
        let [rigid, state, choice_bits] = used;
        let constants = constants.iter().map(|(term, value)| (term.name, *value)).collect();
        let words = |bits: usize| bits.div_ceil(64).max(1);
        let rigid = vec![0; words(rigid)].into();
        Structure { sizes, constants, layouts, rigid, words: words(state), choice_bits }
    }

    /// How many elements the sort has.
    pub fn size(&self, sort: Sort) -> usize {
        self.sizes[&sort]
    }

    /// How many bits a state has.
    pub(super) fn state_bits(&self) -> usize {
        let all = self.layouts.values().filter(|layout| layout.table == Table::State);
        all.map(|layout| layout.sizes.iter().product::<usize>()).sum()
    }

    /// Where the bit of a tuple is.
    pub(super) fn bit(&self, relation: Relation, tuple: &[usize]) -> (Table, usize) {
        let layout = &self.layouts[&relation];
        (layout.table, layout.at(tuple))
    }

    /// Whether a bit of the rigid relations is set.
    pub(super) fn is_fixed(&self, at: usize) -> bool {
        get(&self.rigid, at)
    }

    /// What a constant stands for; none if the term is a variable.
    pub(super) fn constant(&self, term: Term) -> Option<usize> {
        (term.role == Role::Constant).then(|| self.constants[term.name])
    }

    /// A state in which nothing holds.
    pub fn empty(&self) -> State {
        vec![0; self.words].into()
    }

    /// How many tuples the relations that an action may choose have.
    pub fn choice_bits(&self) -> usize {
        self.choice_bits
    }

    /// Makes a rigid relation hold of a tuple.
    pub fn fix(&mut self, relation: Relation, tuple: &[usize]) {
        let at = self.layouts[&relation].at(tuple);
        set(&mut self.rigid, at, true);
    }

    /// Makes a relation hold of a tuple, or not: in a state, or in a choice if it is one.
    pub fn set(&self, bits: &mut [u64], relation: Relation, tuple: &[usize], holds: bool) {
        set(bits, self.layouts[&relation].at(tuple), holds);
    }

    /// Every tuple of a relation.
    pub fn every_tuple(&self, relation: Relation) -> Vec<Vec<usize>> {
        self.layouts[&relation].tuples().collect()
    }

    /// The tuples that a relation holds of in a state, or in a choice if it is one.
    pub fn tuples(&self, state: &[u64], relation: Relation) -> Vec<Vec<usize>> {
        let layout = &self.layouts[&relation];
        let bits = if layout.table == Table::Rigid { &self.rigid } else { state };
        layout.tuples().filter(|tuple| get(bits, layout.at(tuple))).collect()
    }

    /// Whether a formula holds of a state, its free variables being what they are said to be.
    pub fn holds(&self, formula: &Formula, state: &State, values: &[(Term, usize)]) -> bool {
        let terms: Vec<Term> = values.iter().map(|(term, _)| *term).collect();
        let values: Vec<usize> = values.iter().map(|(_, value)| *value).collect();
        self.prepare(formula, &terms).holds(self, &Situation { state, choice: &[] }, &values)
    }

    /// Translates a formula, to be evaluated often, with values for these variables.
    pub fn prepare(&self, formula: &Formula, terms: &[Term]) -> Evaluator {
        let mut slots = Slots::default();
        terms.iter().for_each(|&term| {
            slots.of(term);
        });
        let code = self.compile(formula, &mut slots);
        Evaluator { code, slots: slots.all.len() }
    }

    /// The state after an action that is taken with these values of its parameters.
    pub fn after(&self, action: &Action, before: &Situation<'_>, values: &[usize]) -> State {
        let mut slots = Slots::default();
        action.parameters.iter().for_each(|&term| {
            slots.of(term);
        });
        let mut after: State = before.state.into();
        for update in &action.updates {
            let update = self.compile_update(update, &mut slots);
            let mut environment = values.to_vec();
            environment.resize(slots.all.len(), 0);
            self.update(&update, before, &mut after, &mut environment);
        }
        after
    }

    /// Translates a formula, its variables being in these slots.
    pub(super) fn compile(&self, formula: &Formula, slots: &mut Slots) -> Code {
        let many = |parts: &[Formula], slots: &mut Slots| {
            parts.iter().map(|part| self.compile(part, slots)).collect::<Vec<_>>()
        };
        match formula {
            Formula::Holds(relation, terms) => {
                let layout = &self.layouts[relation];
                let mut at = layout.offset;
                let mut places = Vec::new();
                for (term, &stride) in terms.iter().zip(&layout.strides) {
                    match self.operand(*term, slots) {
                        Operand::Value(value) => at += value * stride,
                        Operand::Slot(slot) => places.push((slot, stride)),
                    }
                }
                Code::Bit { table: layout.table, at, places }
            }
            Formula::Equal(left, right) => {
                Code::Equal(self.operand(*left, slots), self.operand(*right, slots))
            }
            Formula::Not(part) => Code::Not(Box::new(self.compile(part, slots))),
            Formula::All(parts) => Code::All(many(parts, slots)),
            Formula::Any(parts) => Code::Any(many(parts, slots)),
            Formula::Implies(left, right) => {
                let negated = Code::Not(Box::new(self.compile(left, slots)));
                Code::Any(vec![negated, self.compile(right, slots)])
            }
            Formula::ForAll(variables, body) => self.quantify(variables, body, slots, true),
            Formula::Exists(variables, body) => self.quantify(variables, body, slots, false),
        }
    }

    /// A quantifier over several variables. What makes the rest superfluous is looked at as soon as its variables have
    /// values: the premises of an implication, or the parts of a conjunction.
    fn quantify(&self, variables: &[Term], body: &Formula, slots: &mut Slots, every: bool) -> Code {
        let outer = slots.names.clone();
        let bound: Vec<(usize, usize)> =
            variables.iter().map(|&variable| (slots.fresh(variable), self.size(variable.sort))).collect();
        let (early, rest) = match body {
            Formula::Implies(premise, conclusion) if every => {
                (premise.conjuncts(), Some(conclusion.as_ref()))
            }
            Formula::All(_) if !every => (body.conjuncts(), None),
            other => (Vec::new(), Some(other)),
        };
        let mut at_depth: Vec<Vec<Code>> = vec![Vec::new(); variables.len()];
        for part in early {
            let free = part.free();
            let depth = variables.iter().rposition(|variable| free.contains(variable)).unwrap_or(0);
            at_depth[depth].push(self.compile(part, slots));
        }
        let innermost = rest.map(|rest| self.compile(rest, slots));
        slots.names = outer;
        let decide = |early: Vec<Code>, inner: Option<Code>| match every {
            true => Code::Any(early.into_iter().map(|part| Code::Not(Box::new(part))).chain(inner).collect()),
            false => Code::All(early.into_iter().chain(inner).collect()),
        };
        let wrap = |inner: Option<Code>, ((slot, size), early)| {
            let body = Box::new(decide(early, inner));
            Some(Code::Quantified { every, slot, size, body })
        };
        let code = bound.into_iter().zip(at_depth).rev().fold(innermost, wrap);
        code.expect("a quantifier binds something")
    }

    fn operand(&self, term: Term, slots: &mut Slots) -> Operand {
        match term.role {
            Role::Constant => Operand::Value(self.constants[term.name]),
            _ => Operand::Slot(slots.of(term)),
        }
    }

    /// Whether translated code holds.
    pub(super) fn run(&self, code: &Code, view: &Situation<'_>, environment: &mut [usize]) -> bool {
        match code {
            Code::Bit { table, at, places } => {
                let bits = match table {
                    Table::Rigid => &self.rigid,
                    Table::State => view.state,
                    Table::Choice => view.choice,
                };
                get(bits, at + places.iter().map(|&(slot, stride)| environment[slot] * stride).sum::<usize>())
            }
            Code::Equal(left, right) => left.value(environment) == right.value(environment),
            Code::Not(part) => !self.run(part, view, environment),
            Code::All(parts) => parts.iter().all(|part| self.run(part, view, environment)),
            Code::Any(parts) => parts.iter().any(|part| self.run(part, view, environment)),
            Code::Quantified { every, slot, size, body } => {
                let decided = (0..*size).any(|value| {
                    environment[*slot] = value;
                    self.run(body, view, environment) != *every
                });
                decided != *every
            }
        }
    }

    /// Translates an update.
    pub(super) fn compile_update(&self, update: &Update, slots: &mut Slots) -> CompiledUpdate {
        let names = slots.names.clone();
        let mine: Vec<usize> = update.places.iter().map(|&place| slots.fresh(place)).collect();
        // What only adds leaves all tuples alone but those with the values that it names.
        let conditions = match &update.becomes {
            Formula::Any(parts) => match parts.as_slice() {
                [Formula::Holds(relation, _), Formula::All(conditions)] if *relation == update.relation => {
                    conditions.as_slice()
                }
                _ => &[],
            },
            _ => &[],
        };
        let fixed_at = |place: &Term, slots: &mut Slots| {
            conditions.iter().find_map(|condition| match condition {
                Formula::Equal(left, right) if left == place => Some(self.operand(*right, slots)),
                _ => None,
            })
        };
        let fixed = update.places.iter().map(|place| fixed_at(place, slots)).collect();
        let code = self.compile(&update.becomes, slots);
        slots.names = names;
        CompiledUpdate { layout: self.layouts[&update.relation].clone(), places: mine, fixed, code }
    }

    /// Makes `after` what an update makes of a state.
    pub(super) fn update(
        &self,
        update: &CompiledUpdate,
        before: &Situation<'_>,
        after: &mut State,
        environment: &mut [usize],
    ) {
        self.update_from(update, before, after, environment, 0, update.layout.offset);
    }

    fn update_from(
        &self,
        update: &CompiledUpdate,
        before: &Situation<'_>,
        after: &mut State,
        environment: &mut [usize],
        place: usize,
        at: usize,
    ) {
        let Some(&slot) = update.places.get(place) else {
            set(after, at, self.run(&update.code, before, environment));
            return;
        };
        let values = match &update.fixed[place] {
            Some(operand) => {
                let value = operand.value(environment);
                value..value + 1
            }
            None => 0..update.layout.sizes[place],
        };
        for value in values {
            environment[slot] = value;
            let at = at + value * update.layout.strides[place];
            self.update_from(update, before, after, environment, place + 1, at);
        }
    }
}

/// A state, and what the action at hand has chosen, as bits.
pub struct Situation<'a> {
    /// The state.
    pub state: &'a [u64],
    /// What is chosen; may be empty where nothing is.
    pub choice: &'a [u64],
}

/// A formula translated for one structure.
#[derive(Clone, Debug)]
pub struct Evaluator {
    code: Code,
    slots: usize,
}

impl Evaluator {
    /// Whether it holds, given a value for each variable that it was prepared for.
    pub fn holds(&self, structure: &Structure, situation: &Situation<'_>, values: &[usize]) -> bool {
        let mut environment = values.to_vec();
        environment.resize(self.slots, 0);
        structure.run(&self.code, situation, &mut environment)
    }
}

/// Where the values of variables are.
#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    names: BTreeMap<Term, usize>,
    pub all: Vec<Term>,
}

impl Slots {
    /// The slot of a variable.
    pub fn of(&mut self, term: Term) -> usize {
        self.names.get(&term).copied().unwrap_or_else(|| self.fresh(term))
    }

    /// A new slot, from now on that of the variable.
    fn fresh(&mut self, term: Term) -> usize {
        self.all.push(term);
        self.names.insert(term, self.all.len() - 1);
        self.all.len() - 1
    }
}

#[derive(Clone, Debug)]
pub(super) enum Operand {
    Value(usize),
    Slot(usize),
}

impl Operand {
    fn value(&self, environment: &[usize]) -> usize {
        match self {
            Operand::Value(value) => *value,
            Operand::Slot(slot) => environment[*slot],
        }
    }
}

/// A translated formula.
#[derive(Clone, Debug)]
pub(super) enum Code {
    Bit { table: Table, at: usize, places: Vec<(usize, usize)> },
    Equal(Operand, Operand),
    Not(Box<Code>),
    All(Vec<Code>),
    Any(Vec<Code>),
    Quantified { every: bool, slot: usize, size: usize, body: Box<Code> },
}

/// A translated update.
#[derive(Clone, Debug)]
pub(super) struct CompiledUpdate {
    layout: Layout,
    places: Vec<usize>,
    fixed: Vec<Option<Operand>>,
    code: Code,
}

impl Layout {
    fn at(&self, tuple: &[usize]) -> usize {
        self.offset + tuple.iter().zip(&self.strides).map(|(value, stride)| value * stride).sum::<usize>()
    }

    fn tuples(&self) -> impl Iterator<Item = Vec<usize>> {
        let count = self.sizes.iter().product();
        (0..count).map(|number: usize| {
            self.sizes.iter().zip(&self.strides).map(|(size, stride)| number / stride % size).collect()
        })
    }
}

fn get(bits: &[u64], at: usize) -> bool {
    bits[at / 64] >> (at % 64) & 1 == 1
}

fn set(bits: &mut [u64], at: usize, holds: bool) {
    let bit = 1 << (at % 64);
    if holds { bits[at / 64] |= bit } else { bits[at / 64] &= !bit }
}
