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
    fn any(&self, sort: Sort, holds: &mut dyn FnMut(Element) -> bool) -> bool;

    /// Whether a relation holds of these elements.
    fn holds(&self, relation: Relation, of: &[Element]) -> bool;
}

/// What variables stand for.
pub(super) type Environment = Vec<(Term, Element)>;

fn value(term: Term, environment: &Environment) -> Element {
    if term.role == Role::Constant {
        match term.name {
            "view_0" => return Element::View(View(0)),
            "n_0" => return Element::Number(SeqNo(0)),
            _ => {}
        }
    }
    // Most differ in their sort: names are compared last.
    let is_it = |variable: &Term| {
        (variable.sort, variable.role) == (term.sort, term.role) && variable.name == term.name
    };
    let found = environment.iter().rev().find(|(variable, _)| is_it(variable));
    found.map(|&(_, value)| value).expect("a guard mentions parameters, what it binds, and constants")
}

/// Whether a formula holds, its free variables being what the environment says.
pub(super) fn evaluate(formula: &Formula, reading: &dyn Reading, environment: &mut Environment) -> bool {
    match formula {
        Formula::Holds(relation, terms) => {
            let mut of = [Element::Quorum(0); 4];
            for (place, &term) in terms.iter().enumerate() {
                of[place] = value(term, environment);
            }
            reading.holds(*relation, &of[..terms.len()])
        }
        Formula::Equal(left, right) => value(*left, environment) == value(*right, environment),
        Formula::Not(part) => !evaluate(part, reading, environment),
        Formula::All(parts) => parts.iter().all(|part| evaluate(part, reading, environment)),
        Formula::Any(parts) => parts.iter().any(|part| evaluate(part, reading, environment)),
        Formula::Implies(left, right) => {
            !evaluate(left, reading, environment) || evaluate(right, reading, environment)
        }
        Formula::ForAll(variables, body) => {
            !some(variables, reading, environment, &|environment| !evaluate(body, reading, environment))
        }
        Formula::Exists(variables, body) => {
            some(variables, reading, environment, &|environment| evaluate(body, reading, environment))
        }
    }
}

/// Whether something holds for some values of the variables.
fn some(
    variables: &[Term],
    reading: &dyn Reading,
    environment: &mut Environment,
    holds: &dyn Fn(&mut Environment) -> bool,
) -> bool {
    let Some((&variable, rest)) = variables.split_first() else { return holds(environment) };
    reading.any(variable.sort, &mut |element| {
        environment.push((variable, element));
        let found = some(rest, reading, environment, holds);
        environment.pop();
        found
    })
}
