//! Counterexamples to induction that are stored, one for each rule, so that they can be drawn without a solver.
//!
//! What is stored is a state of a [small cluster](cluster), and an action. Reading evaluates it: before the action all
//! axioms, all invariants and the [usual facts](usual) hold, the guards without the rule hold, and the named invariant
//! does not hold afterwards; and with the rule this step is not there, whatever the evidence. So a file that is read
//! says something true, whoever has written it.

mod cluster;
mod find;
mod ground;
mod usual;

pub use cluster::{Cluster, Sizes};
pub use find::{Candidate, candidates};

use super::Protocol;
use super::action::{Action, Clause};
use super::finite::{Situation, State, Structure};
use super::formula::{Formula, Sort, Term};
use super::relations::{Kind, Relation};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
pub(super) use usual::usual;

/// A counterexample as it is stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// The rule that is switched off.
    pub rule: String,
    /// The action that is taken.
    pub action: String,
    /// The invariant that does not hold afterwards.
    pub invariant: String,
    /// How much of everything there is.
    pub sizes: Sizes,
    /// What holds before: a relation and its places, as numbers. What every picture has in common is left out.
    pub before: Vec<String>,
    /// The values of the action's parameters.
    pub with: BTreeMap<String, usize>,
}

/// What keeps the step from being taken with the rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stopped {
    /// Guards do not hold; each with the values for which it fails, where it says something of all.
    Guards(Vec<(&'static str, Vec<(Term, usize)>)>),
    /// The action does something else, after which every invariant holds: the relations that become otherwise.
    Outcome(Vec<Relation>),
    /// There is no such cluster: an assumption, as a sentence, and the values for which it fails.
    Assumption(&'static str, Vec<(Term, usize)>),
}

/// A counterexample that was read, and is one.
#[derive(Clone, Debug)]
pub struct Refuted {
    /// As it is stored.
    pub stored: Stored,
    /// Who there is.
    pub cluster: Cluster,
    /// The action without the rule.
    pub action: Action,
    /// What does not hold afterwards.
    pub invariant: Clause,
    /// The values for which it does not.
    pub fails_for: Vec<(Term, usize)>,
    /// Why the step is not there with the rule.
    pub stopped: Stopped,
    structure: Structure,
    before: State,
    after: State,
    choice: Vec<u64>,
    values: Vec<usize>,
}

impl Refuted {
    /// Reads what is stored, and evaluates it.
    ///
    /// # Errors
    /// In which respect it is no counterexample.
    pub fn read(stored: Stored) -> Result<Refuted, String> {
        let whole = Protocol::pbft();
        let rule = stored.rule.clone();
        if !whole.rules().contains(rule.as_str()) {
            return Err(format!("nothing in the abstract protocol stands for {rule}"));
        }
        let without = whole.without(&[&rule]);
        let named = |protocol: &Protocol| {
            let mut actions = protocol.actions.iter();
            actions.find(|action| action.name == stored.action).cloned()
        };
        let action = named(&without).ok_or_else(|| format!("no action is called {}", stored.action))?;
        let kept = named(&whole).ok_or("the protocols have the same actions")?;
        let invariant = without.invariants.iter().find(|clause| clause.name == stored.invariant).cloned();
        let invariant = invariant.ok_or_else(|| format!("no invariant is called {}", stored.invariant))?;
        let cluster = Cluster::without(&rule);
        let mut structure = cluster.structure(stored.sizes)?;
        let mut before = structure.empty();
        let mut choice = vec![0; structure.choice_bits().div_ceil(64).max(1)];
        for line in &stored.before {
            let (relation, tuple) = atom(line, &structure)?;
            match relation.kind() {
                Kind::Rigid => structure.fix(relation, &tuple),
                Kind::Choice => structure.set(&mut choice, relation, &tuple, true),
                _ => structure.set(&mut before, relation, &tuple, true),
            }
        }
        let values = values(&action, &stored.with, &structure)?;
        let after = structure.after(&action, &Situation { state: &before, choice: &choice }, &values);
        let mut read = Refuted {
            stored,
            cluster,
            invariant,
            action,
            fails_for: Vec::new(),
            stopped: Stopped::Guards(Vec::new()),
            structure,
            before,
            after,
            choice,
            values,
        };
        read.check(&without)?;
        read.stopped = read.stopped_by(&whole, &kept)?;
        Ok(read)
    }

    /// That it is a counterexample without the rule.
    fn check(&mut self, without: &Protocol) -> Result<(), String> {
        let byzantine = (0..self.cluster.replicas()).filter(|&replica| !self.is_correct(replica));
        let (members, outsiders): (Vec<usize>, Vec<usize>) =
            byzantine.partition(|&replica| replica < self.cluster.n);
        if members.len() > self.cluster.byzantine || outsiders.len() != self.cluster.outsiders {
            return Err("more replicas are Byzantine than may be, or an outsider is not".into());
        }
        let usual = usual();
        let always = without.axioms.iter().chain(&without.invariants).chain(&usual);
        for clause in always {
            if let Some(values) = self.failing(&clause.formula, &[], &self.before) {
                let values = in_words(&values);
                return Err(format!(
                    "before the step {} does not hold{values}: {}",
                    clause.name, clause.says
                ));
            }
        }
        let parameters: Vec<(Term, usize)> =
            self.action.parameters.iter().copied().zip(self.values.clone()).collect();
        for guard in &self.action.guards {
            if self.failing(&guard.formula, &parameters, &self.before).is_some() {
                return Err(format!("{} cannot be taken: {} does not hold", self.action.name, guard.name));
            }
        }
        let failing = self.failing(&self.invariant.formula, &[], &self.after);
        self.fails_for = failing.ok_or_else(|| format!("{} holds after the step", self.invariant.name))?;
        Ok(())
    }

    /// Why the step is not there with the rule.
    fn stopped_by(&self, whole: &Protocol, kept: &Action) -> Result<Stopped, String> {
        for axiom in &whole.axioms {
            if let Some(values) = self.failing(&axiom.formula, &[], &self.before) {
                return Ok(Stopped::Assumption(axiom.says, values));
            }
        }
        let value = |term: &Term| self.with(term.name).expect("switching a rule off leaves parameters");
        let parameters: Vec<(Term, usize)> =
            kept.parameters.iter().map(|term| (*term, value(term))).collect();
        let failing = |guard: &Clause| {
            let values = self.failing(&guard.formula, &parameters, &self.before)?;
            Some((guard.name, values))
        };
        let guards: Vec<_> = kept.guards.iter().filter_map(failing).collect();
        if !guards.is_empty() {
            return match self.other_evidence(kept, &parameters) {
                None => Ok(Stopped::Guards(guards)),
                Some(how) => Err(format!("with the rule the same can be done{}", in_words(&how))),
            };
        }
        let values: Vec<usize> = parameters.iter().map(|(_, value)| *value).collect();
        let after = self.structure.after(kept, &self.situation(&self.before), &values);
        for invariant in &whole.invariants {
            if self.failing(&invariant.formula, &[], &after).is_some() {
                return Err(format!("with the rule {} does not hold afterwards either", invariant.name));
            }
        }
        let differs = |relation: &&Relation| {
            relation.is_state()
                && self.structure.tuples(&after, **relation) != self.structure.tuples(&self.after, **relation)
        };
        Ok(Stopped::Outcome(Relation::ALL.iter().filter(differs).copied().collect()))
    }

    /// Evidence with which the guards hold and the action does the same: values of the parameters that no update
    /// mentions.
    fn other_evidence(&self, kept: &Action, parameters: &[(Term, usize)]) -> Option<Vec<(Term, usize)>> {
        let effects: BTreeSet<Term> = kept.updates.iter().flat_map(|update| update.becomes.free()).collect();
        let (evidence, effects): (Vec<_>, Vec<_>) =
            parameters.iter().copied().partition(|(term, _)| !effects.contains(term));
        let guards: Vec<Formula> = kept.guards.iter().map(|guard| guard.formula.clone()).collect();
        let terms: Vec<Term> = evidence.into_iter().map(|(term, _)| term).collect();
        let nowhere = Formula::Any(vec![!Formula::All(guards)]);
        self.assignment(&terms, &nowhere, &effects, &self.before)
    }

    /// The values of its outer variables for which a formula does not hold; none if it holds.
    fn failing(
        &self,
        formula: &Formula,
        given: &[(Term, usize)],
        state: &State,
    ) -> Option<Vec<(Term, usize)>> {
        match formula {
            Formula::All(parts) => parts.iter().find_map(|part| self.failing(part, given, state)),
            Formula::ForAll(variables, body) => self.assignment(variables, body, given, state),
            _ => self.assignment(&[], formula, given, state),
        }
    }

    /// The first values of these variables for which a formula does not hold.
    fn assignment(
        &self,
        variables: &[Term],
        body: &Formula,
        given: &[(Term, usize)],
        state: &State,
    ) -> Option<Vec<(Term, usize)>> {
        let terms: Vec<Term> = given.iter().map(|(term, _)| *term).chain(variables.iter().copied()).collect();
        let evaluator = self.structure.prepare(body, &terms);
        let situation = self.situation(state);
        let sizes: Vec<usize> = variables.iter().map(|term| self.structure.size(term.sort)).collect();
        let all: usize = sizes.iter().product();
        (0..all).find_map(|number| {
            let mut rest = number;
            let mut values = Vec::new();
            for size in sizes.iter().rev() {
                values.insert(0, rest % size);
                rest /= size;
            }
            let every: Vec<usize> = given.iter().map(|(_, value)| *value).chain(values.clone()).collect();
            let holds = evaluator.holds(&self.structure, &situation, &every);
            (!holds).then(|| variables.iter().copied().zip(values).collect())
        })
    }

    fn situation<'a>(&'a self, state: &'a State) -> Situation<'a> {
        Situation { state, choice: &self.choice }
    }

    /// Whether a replica is correct.
    pub fn is_correct(&self, replica: usize) -> bool {
        self.holds(Relation::correct).contains(&vec![replica])
    }

    /// How many there are of a sort.
    pub fn size(&self, sort: Sort) -> usize {
        self.structure.size(sort)
    }

    /// What a relation holds of before the step.
    pub fn holds(&self, relation: Relation) -> Vec<Vec<usize>> {
        let bits = if relation.kind() == Kind::Choice { &self.choice[..] } else { &self.before[..] };
        self.structure.tuples(bits, relation)
    }

    /// What a relation holds of after the step.
    pub fn holds_after(&self, relation: Relation) -> Vec<Vec<usize>> {
        self.structure.tuples(&self.after, relation)
    }

    /// The value of a parameter of the action; none if it has none of this name.
    pub fn with(&self, name: &str) -> Option<usize> {
        let at = self.action.parameters.iter().position(|term| term.name == name)?;
        self.values.get(at).copied()
    }

    /// The members of a quorum.
    pub fn members(&self, quorum: usize) -> Vec<usize> {
        let all = self.holds(Relation::member);
        all.into_iter().filter(|tuple| tuple[1] == quorum).map(|tuple| tuple[0]).collect()
    }
}

fn in_words(values: &[(Term, usize)]) -> String {
    let told: Vec<String> = values.iter().map(|(term, value)| format!("{} = {value}", term.name)).collect();
    if told.is_empty() { String::new() } else { format!(" with {}", told.join(", ")) }
}

/// An atom as it is stored: `prepare 1 0 1 0`.
fn atom(line: &str, structure: &Structure) -> Result<(Relation, Vec<usize>), String> {
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let relation = Relation::ALL.iter().copied().find(|relation| relation.name() == name);
    let relation = relation.ok_or_else(|| format!("{line:?} is of no relation"))?;
    if Cluster::fixes(relation) {
        return Err(format!("{line:?} is the same in every picture, and not stored"));
    }
    let tuple: Vec<usize> =
        words.map(str::parse).collect::<Result<_, _>>().map_err(|_| format!("{line:?}"))?;
    let places = relation.places();
    let fits = |(place, value): (&(&str, Sort), &usize)| *value < structure.size(place.1);
    if tuple.len() != places.len() || !places.iter().zip(&tuple).all(fits) {
        return Err(format!("{line:?} speaks of what is not there"));
    }
    Ok((relation, tuple))
}

/// The values of an action's parameters, in their order.
fn values(
    action: &Action,
    with: &BTreeMap<String, usize>,
    structure: &Structure,
) -> Result<Vec<usize>, String> {
    if with.len() != action.parameters.len() {
        return Err(format!("{} has {} parameters", action.name, action.parameters.len()));
    }
    let value = |term: &Term| {
        let value = with.get(term.name).copied().filter(|value| *value < structure.size(term.sort));
        value.ok_or_else(|| format!("{} has a parameter {}", action.name, term.name))
    };
    action.parameters.iter().map(value).collect()
}
