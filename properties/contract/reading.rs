//! The formulas read at one replica: each sort has the elements that the step at hand mentions, and a relation holds of
//! what the ledger and the evidence in hand say.

use crate::proof::formula::{Formula, Role, Sort, Term};
use crate::proof::relations::Relation;
use pbft::types::{Digest, ReplicaId, SeqNo, View};

/// An element of a sort.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Element {
    Replica(ReplicaId),
    View(View),
    Number(SeqNo),
    Digest(Digest),
    /// A batch goes by the digest that it really has.
    Batch(Digest),
    State(StateName),
    /// By its place among the quorums of the step.
    Quorum(usize),
}

/// How a state is called.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum StateName {
    /// The ledger's own, after this number.
    After(SeqNo),
    /// The one with this digest.
    Root(Digest),
}

/// What there is, and what holds of it.
pub(super) trait Reading {
    /// Whether something holds of an element of this sort.
    fn any(&self, sort: Sort, holds: impl FnMut(Element) -> bool) -> bool;

    /// Whether a relation holds of these elements.
    fn holds(&self, relation: Relation, of: &[Element]) -> bool;
}

/// What variables stand for, those last that were bound last.
pub(super) type Environment = Vec<Element>;

/// A formula whose variables have been found: a term is what it stands for, or its place in the environment.
#[derive(Debug)]
pub(super) enum Bound {
    Holds(Relation, Vec<Slot>),
    Equal(Slot, Slot),
    Not(Box<Bound>),
    All(Vec<Bound>),
    Any(Vec<Bound>),
    Implies(Box<Bound>, Box<Bound>),
    /// For all values, or else for some, of variables of these sorts.
    Quantified {
        for_all: bool,
        sorts: Vec<Sort>,
        body: Box<Bound>,
    },
}

/// What a term is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Slot {
    At(usize),
    Is(Element),
}

impl Slot {
    fn of(term: Term, scope: &[Term]) -> Self {
        if term.role == Role::Constant {
            match term.name {
                "view_0" => return Slot::Is(Element::View(View(0))),
                "n_0" => return Slot::Is(Element::Number(SeqNo(0))),
                _ => {}
            }
        }
        let place = scope.iter().rposition(|&variable| variable == term);
        Slot::At(place.expect("a guard mentions parameters, what it binds, and constants"))
    }

    fn value(self, environment: &Environment) -> Element {
        match self {
            Slot::At(place) => environment[place],
            Slot::Is(element) => element,
        }
    }
}

impl Bound {
    /// A formula whose free variables are these.
    pub(super) fn new(formula: &Formula, scope: &mut Vec<Term>) -> Self {
        let all = |parts: &[Formula], scope: &mut Vec<Term>| {
            parts.iter().map(|part| Bound::new(part, scope)).collect()
        };
        match formula {
            Formula::Holds(relation, terms) => {
                Bound::Holds(*relation, terms.iter().map(|&term| Slot::of(term, scope)).collect())
            }
            Formula::Equal(left, right) => Bound::Equal(Slot::of(*left, scope), Slot::of(*right, scope)),
            Formula::Not(part) => Bound::Not(Box::new(Bound::new(part, scope))),
            Formula::All(parts) => Bound::All(all(parts, scope)),
            Formula::Any(parts) => Bound::Any(all(parts, scope)),
            Formula::Implies(left, right) => {
                Bound::Implies(Box::new(Bound::new(left, scope)), Box::new(Bound::new(right, scope)))
            }
            Formula::ForAll(variables, body) | Formula::Exists(variables, body) => {
                let outside = scope.len();
                scope.extend(variables);
                let body = Box::new(Bound::new(body, scope));
                scope.truncate(outside);
                let for_all = matches!(formula, Formula::ForAll(..));
                Bound::Quantified { for_all, sorts: variables.iter().map(|of| of.sort).collect(), body }
            }
        }
    }

    /// Whether it holds, its free variables being what the environment says.
    pub(super) fn holds(&self, reading: &impl Reading, environment: &mut Environment) -> bool {
        match self {
            Bound::Holds(relation, slots) => {
                let mut of = [Element::Quorum(0); 4];
                for (place, slot) in slots.iter().enumerate() {
                    of[place] = slot.value(environment);
                }
                reading.holds(*relation, &of[..slots.len()])
            }
            Bound::Equal(left, right) => left.value(environment) == right.value(environment),
            Bound::Not(part) => !part.holds(reading, environment),
            Bound::All(parts) => parts.iter().all(|part| part.holds(reading, environment)),
            Bound::Any(parts) => parts.iter().any(|part| part.holds(reading, environment)),
            Bound::Implies(left, right) => {
                !left.holds(reading, environment) || right.holds(reading, environment)
            }
            Bound::Quantified { for_all, sorts, body } => {
                some(sorts, body, !for_all, reading, environment) != *for_all
            }
        }
    }
}

/// Whether, for some values of variables of these sorts, it is `wanted` that the body holds.
fn some(
    sorts: &[Sort],
    body: &Bound,
    wanted: bool,
    reading: &impl Reading,
    environment: &mut Environment,
) -> bool {
    let Some((&sort, rest)) = sorts.split_first() else {
        return body.holds(reading, environment) == wanted;
    };
    reading.any(sort, |element| {
        environment.push(element);
        let found = some(rest, body, wanted, reading, environment);
        environment.pop();
        found
    })
}
