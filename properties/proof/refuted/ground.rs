//! The question for a picture: propositional, as every sort of a small cluster has its elements by name.
//!
//! Quantifiers are written out, and whatever is the same in every picture is decided here. What is left are the atoms
//! of the state before and the parameters of the action, and a solver can be asked for the fewest that will do.

use super::super::Protocol;
use super::super::action::{Action, Clause};
use super::super::finite::Structure;
use super::super::formula::{Formula, Role, Term};
use super::super::relations::{Kind, Relation};
use super::super::sexp::Sexp;
use super::cluster::{Cluster, Sizes};
use super::usual::usual;
use std::collections::{BTreeMap, BTreeSet};

/// A grounded formula: decided, or a term of atoms.
#[derive(Clone)]
enum Ground {
    Decided(bool),
    Open(Sexp),
}

use Ground::{Decided, Open};

impl Ground {
    fn not(self) -> Ground {
        match self {
            Decided(holds) => Decided(!holds),
            Open(term) => Open(Sexp::call("not", [term])),
        }
    }

    /// All of them, or any of them: `decisive` decides alone.
    fn joined(parts: impl IntoIterator<Item = Ground>, decisive: bool) -> Ground {
        let mut open = Vec::new();
        for part in parts {
            match part {
                Decided(holds) if holds == decisive => return part,
                Decided(_) => {}
                Open(term) => open.push(term),
            }
        }
        match open.len() {
            0 => Decided(!decisive),
            1 => Open(open.remove(0)),
            _ => Open(Sexp::call(if decisive { "or" } else { "and" }, open)),
        }
    }

    fn sexp(self) -> Sexp {
        match self {
            Decided(holds) => Sexp::atom(holds.to_string()),
            Open(term) => term,
        }
    }
}

/// The name of an atom: the relation and its places.
pub(super) fn atom(relation: Relation, tuple: &[usize]) -> String {
    let places: Vec<String> = tuple.iter().map(usize::to_string).collect();
    format!("{} {}", relation.name(), places.join(" "))
}

/// The name of "the parameter has this value".
pub(super) fn choice(parameter: Term, value: usize) -> String {
    format!("{} = {value}", parameter.name)
}

fn quoted(name: &str, after: bool) -> Sexp {
    Sexp::atom(format!("|{name}{}|", if after { " after" } else { "" }))
}

type Values = BTreeMap<Term, usize>;

struct Grounding<'a> {
    structure: &'a Structure,
    fixed: BTreeMap<Relation, BTreeSet<Vec<usize>>>,
    changed: BTreeSet<Relation>,
}

impl Grounding<'_> {
    fn value(&self, term: Term, values: &Values) -> Option<usize> {
        // Every constant is the first of its sort.
        if term.role == Role::Constant { Some(0) } else { values.get(&term).copied() }
    }

    /// Each value that a term may have, and when it has it.
    fn possible(&self, term: Term, values: &Values) -> Vec<(usize, Ground)> {
        match self.value(term, values) {
            Some(value) => vec![(value, Decided(true))],
            None => (0..self.structure.size(term.sort))
                .map(|value| (value, Open(quoted(&choice(term, value), false))))
                .collect(),
        }
    }

    fn holds(&self, relation: Relation, terms: &[Term], values: &Values, after: bool) -> Ground {
        let mut tuples: Vec<(Vec<usize>, Vec<Ground>)> = vec![(Vec::new(), Vec::new())];
        for &term in terms {
            let possible = self.possible(term, values);
            let extended = |(tuple, when): &(Vec<usize>, Vec<Ground>)| {
                let one = |(value, is): &(usize, Ground)| {
                    let tuple = tuple.iter().copied().chain([*value]).collect();
                    (tuple, when.iter().cloned().chain([is.clone()]).collect())
                };
                possible.iter().map(one).collect::<Vec<_>>()
            };
            tuples = tuples.iter().flat_map(extended).collect();
        }
        let after = after && self.changed.contains(&relation);
        let cases = tuples.into_iter().map(|(tuple, when)| {
            let holds = match self.fixed.get(&relation) {
                Some(fixed) => Decided(fixed.contains(&tuple)),
                None => Open(quoted(&atom(relation, &tuple), after)),
            };
            Ground::joined(when.into_iter().chain([holds]), false)
        });
        Ground::joined(cases, true)
    }

    fn equal(&self, left: Term, right: Term, values: &Values) -> Ground {
        let (left, right) = (self.possible(left, values), self.possible(right, values));
        let both = left.into_iter().filter_map(|(value, is)| {
            let (_, too) = right.iter().find(|(other, _)| *other == value)?;
            Some(Ground::joined([is, too.clone()], false))
        });
        Ground::joined(both, true)
    }

    /// The formula; parameters without a value stay open.
    fn formula(&self, formula: &Formula, values: &Values, after: bool) -> Ground {
        let each = |parts: &[Formula]| {
            parts.iter().map(|part| self.formula(part, values, after)).collect::<Vec<_>>()
        };
        match formula {
            Formula::Holds(relation, terms) => self.holds(*relation, terms, values, after),
            Formula::Equal(left, right) => self.equal(*left, *right, values),
            Formula::Not(part) => self.formula(part, values, after).not(),
            Formula::All(parts) => Ground::joined(each(parts), false),
            Formula::Any(parts) => Ground::joined(each(parts), true),
            Formula::Implies(left, right) => {
                let left = self.formula(left, values, after).not();
                Ground::joined([left, self.formula(right, values, after)], true)
            }
            Formula::ForAll(variables, body) => self.quantified(variables, body, values, after, false),
            Formula::Exists(variables, body) => self.quantified(variables, body, values, after, true),
        }
    }

    fn quantified(
        &self,
        variables: &[Term],
        body: &Formula,
        values: &Values,
        after: bool,
        any: bool,
    ) -> Ground {
        let Some((&first, rest)) = variables.split_first() else { return self.formula(body, values, after) };
        let each = (0..self.structure.size(first.sort)).map(|value| {
            let mut inner = values.clone();
            inner.insert(first, value);
            self.quantified(rest, body, &inner, after, any)
        });
        Ground::joined(each, any)
    }
}

struct Script(String);

impl Script {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn assert(&mut self, what: Ground) {
        if !matches!(what, Decided(true)) {
            self.line(&Sexp::call("assert", [what.sexp()]).to_string());
        }
    }

    fn avoid(&mut self, what: &str, cost: usize) {
        self.line(&format!("(assert-soft (not |{what}|) :weight {cost})"));
    }
}

/// Asks for a picture: a state, and an action without the rules, after which an invariant does not hold. With `fewest`
/// the answer has as few atoms as there can be.
///
/// # Errors
/// If the sizes are out of bounds.
pub(super) fn question(
    without: &Protocol,
    cluster: &Cluster,
    sizes: Sizes,
    action: &Action,
    invariant: &Clause,
    fewest: bool,
) -> Result<String, String> {
    let structure = cluster.structure(sizes)?;
    let nothing = structure.empty();
    let rigid = Relation::ALL.iter().copied().filter(|&relation| Cluster::fixes(relation));
    let fixed = rigid.map(|relation| (relation, structure.tuples(&nothing, relation).into_iter().collect()));
    let changed = action.updates.iter().map(|update| update.relation).collect();
    let grounding = Grounding { structure: &structure, fixed: fixed.collect(), changed };
    let mut script = Script(String::new());
    let open: Vec<Relation> = Relation::ALL.iter().copied().filter(|&one| !Cluster::fixes(one)).collect();
    for &relation in &open {
        for tuple in structure.every_tuple(relation) {
            let name = atom(relation, &tuple);
            script.line(&format!("(declare-const |{name}| Bool)"));
            if grounding.changed.contains(&relation) {
                script.line(&format!("(declare-const |{name} after| Bool)"));
            }
        }
    }
    let none = Values::new();
    for &parameter in &action.parameters {
        one_value(&mut script, parameter, structure.size(parameter.sort));
    }
    who_is_correct(&mut script, cluster);
    let usual = usual();
    let always = without.axioms.iter().chain(&without.invariants).chain(&usual).chain(&action.guards);
    always.for_each(|clause| script.assert(grounding.formula(&clause.formula, &none, false)));
    for update in &action.updates {
        for tuple in structure.every_tuple(update.relation) {
            let values: Values = update.places.iter().copied().zip(tuple.iter().copied()).collect();
            let becomes = grounding.formula(&update.becomes, &values, false).sexp();
            let now = quoted(&atom(update.relation, &tuple), true);
            script.assert(Open(Sexp::call("=", [now, becomes])));
        }
    }
    script.assert(grounding.formula(&invariant.formula, &none, true).not());
    if fewest {
        for &relation in &open {
            costs(&mut script, &structure, relation);
        }
    }
    script.line("(check-sat)");
    Ok(script.0)
}

/// A parameter has one value.
fn one_value(script: &mut Script, parameter: Term, size: usize) {
    let names: Vec<String> = (0..size).map(|value| choice(parameter, value)).collect();
    names.iter().for_each(|name| script.line(&format!("(declare-const |{name}| Bool)")));
    script.assert(Ground::joined(names.iter().map(|name| Open(quoted(name, false))), true));
    for (at, name) in names.iter().enumerate() {
        for other in &names[..at] {
            script.line(&format!("(assert (not (and |{name}| |{other}|)))"));
        }
    }
}

/// No more members are Byzantine than may be, and every outsider is.
fn who_is_correct(script: &mut Script, cluster: &Cluster) {
    let name = |replica: usize| format!("|{}|", atom(Relation::correct, &[replica]));
    for outsider in cluster.n..cluster.replicas() {
        script.line(&format!("(assert (not {}))", name(outsider)));
    }
    for set in 0u32..1 << cluster.n {
        if set.count_ones() as usize == cluster.byzantine + 1 {
            let members = (0..cluster.n).filter(|member| set >> member & 1 == 1);
            let members: Vec<String> = members.map(name).collect();
            script.line(&format!("(assert (or {}))", members.join(" ")));
        }
    }
}

/// What each atom costs a reader: messages and memory most, what follows from them less, what is in the store as well
/// nothing. A Byzantine replica is worth a few messages, and so is a batch that nobody has signed.
fn costs(script: &mut Script, structure: &Structure, relation: Relation) {
    let cost = match relation.kind() {
        Kind::Message | Kind::Own => 10,
        Kind::Ghost => 4,
        Kind::Choice | Kind::Durable | Kind::Rigid => 1,
    };
    for tuple in structure.every_tuple(relation) {
        let name = atom(relation, &tuple);
        match relation {
            Relation::correct | Relation::authentic => {
                script.line(&format!("(assert-soft |{name}| :weight 25)"));
            }
            _ => script.avoid(&name, cost),
        }
    }
}
