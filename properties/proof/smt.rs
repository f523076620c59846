//! The formulas as SMT-LIB 2.

use super::action::Update;
use super::formula::{Formula, Sort, Term};
use super::relations::Relation;
use super::relations::names::{INITIAL, N_0, VIEW_0};
use super::sexp::Sexp;
use std::collections::BTreeSet;

/// The relations that a step has changed: their symbols stand for what holds after it.
pub type Changed = BTreeSet<Relation>;

/// The symbol of a relation, before a step or after it.
pub fn symbol(relation: Relation, changed: &Changed) -> String {
    let suffix = if changed.contains(&relation) { ".after" } else { "" };
    format!("{}{suffix}", relation.name())
}

fn term(term: &Term) -> Sexp {
    Sexp::atom(term.symbol())
}

fn bound(variables: &[Term]) -> Sexp {
    let pair = |variable: &Term| Sexp::List(vec![term(variable), Sexp::atom(variable.sort.name())]);
    Sexp::List(variables.iter().map(pair).collect())
}

/// A formula, in which changed relations stand for what holds after the step.
pub fn formula(what: &Formula, changed: &Changed) -> Sexp {
    let inside = |part: &Formula| formula(part, changed);
    let joined = |head: &str, empty: &str, parts: &[Formula]| match parts {
        [] => Sexp::atom(empty),
        [one] => inside(one),
        _ => Sexp::call(head, parts.iter().map(inside)),
    };
    match what {
        Formula::Holds(relation, terms) => Sexp::call(&symbol(*relation, changed), terms.iter().map(term)),
        Formula::Equal(left, right) => Sexp::call("=", [term(left), term(right)]),
        Formula::Not(part) => Sexp::call("not", [inside(part)]),
        Formula::All(parts) => joined("and", "true", parts),
        Formula::Any(parts) => joined("or", "false", parts),
        Formula::Implies(left, right) => Sexp::call("=>", [inside(left), inside(right)]),
        Formula::ForAll(variables, body) => Sexp::call("forall", [bound(variables), inside(body)]),
        Formula::Exists(variables, body) => Sexp::call("exists", [bound(variables), inside(body)]),
    }
}

/// A line that gives a formula a name and asserts it.
pub fn assertion(name: &str, what: &Formula, changed: &Changed) -> String {
    let named = Sexp::call("!", [formula(what, changed), Sexp::atom(":named"), Sexp::atom(quoted(name))]);
    Sexp::call("assert", [named]).lines()
}

/// A symbol as SMT-LIB writes it.
pub fn quoted(name: &str) -> String {
    let is_simple = |c: char| c.is_ascii_alphanumeric() || "_.-+".contains(c);
    if name.chars().all(is_simple) { name.to_string() } else { format!("|{name}|") }
}

/// A line that declares a constant.
pub fn constant(term: &Term) -> String {
    format!("(declare-const {} {})", term.symbol(), term.sort.name())
}

/// The lines that declare sorts, constants and relations.
pub fn declarations() -> Vec<String> {
    let mut lines: Vec<String> =
        Sort::ALL.iter().map(|sort| format!("(declare-sort {} 0)", sort.name())).collect();
    lines.extend([VIEW_0.into(), N_0.into(), INITIAL.into()].iter().map(constant));
    for &relation in Relation::ALL {
        let sorts: Vec<&str> = relation.places().iter().map(|(_, sort)| sort.name()).collect();
        lines.push(format!("(declare-fun {} ({}) Bool)", relation.name(), sorts.join(" ")));
    }
    lines
}

/// The line that says what a relation is after a step.
pub fn after(update: &Update) -> String {
    let changed = Changed::from([update.relation]);
    let becomes = formula(&update.becomes, &Changed::new());
    let head = Sexp::atom(symbol(update.relation, &changed));
    Sexp::call("define-fun", [head, bound(&update.places), Sexp::atom("Bool"), becomes]).lines()
}
