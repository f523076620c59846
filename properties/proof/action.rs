//! Actions, guards and updates as values, and what switching off a rule makes of them.

use super::formula::{Formula, Replica, Term, truth};
use super::relations::{Relation, correct};
use std::collections::BTreeSet;

/// A formula with a name, a sentence, and what is left of it without a rule.
#[derive(Clone, Debug)]
pub struct Clause {
    /// The name, in the words of the rules where one stands for it.
    pub name: &'static str,
    /// What it says, in a sentence; empty for a guard, whose name says it.
    pub says: &'static str,
    /// The formula.
    pub formula: Formula,
    /// Rules that it stands for, each with what is left when that rule is switched off.
    pub weaker: Vec<(&'static str, Formula)>,
}

impl Clause {
    /// The formula when these rules are switched off.
    fn without(&self, rules: &[&str]) -> Formula {
        let off = self.weaker.iter().filter(|(rule, _)| rules.contains(rule));
        let mut left: Vec<Formula> = off.map(|(_, formula)| formula.clone()).collect();
        match left.len() {
            0 => self.formula.clone(),
            1 => left.remove(0),
            _ => Formula::Any(left),
        }
    }
}

/// A relation, and what it becomes.
#[derive(Clone, Debug)]
pub struct Update {
    /// What changes.
    pub relation: Relation,
    /// Its places, as [`Relation::own_variables`].
    pub places: Vec<Term>,
    /// What holds of them afterwards.
    pub becomes: Formula,
    /// Rules without which the relation becomes something else.
    pub other: Vec<(&'static str, Formula)>,
}

/// Makes an atom true and leaves the rest of its relation as it is.
///
/// # Panics
/// If `atom` is no atom.
pub fn adds(atom: Formula) -> Update {
    adds_each([], atom, truth())
}

/// Makes an atom true for each value of some variables for which a condition holds.
///
/// # Panics
/// If `atom` is no atom.
pub fn adds_each<const K: usize>(each: [Term; K], atom: Formula, condition: Formula) -> Update {
    let Formula::Holds(relation, terms) = atom else { panic!("only an atom can be made true") };
    let places = relation.own_variables();
    let place_of = |term: Term| {
        let at = terms.iter().position(|&own| own == term).filter(|_| each.contains(&term));
        at.map_or(term, |at| places[at])
    };
    let mut conditions: Vec<Formula> = (terms.iter().zip(&places))
        .filter(|(term, _)| !each.contains(term))
        .map(|(&term, &place)| Formula::Equal(place, term))
        .collect();
    if condition != truth() {
        conditions.push(condition.rename(&place_of));
    }
    let before = Formula::Holds(relation, places.clone());
    let becomes = before | Formula::All(conditions);
    Update { relation, places, becomes, other: Vec::new() }
}

/// Gives a relation new values: the atom's terms are variables, and the formula says what holds of them.
///
/// # Panics
/// If `atom` is no atom of distinct variables.
pub fn becomes(atom: Formula, formula: Formula) -> Update {
    let (relation, places, becomes) = placed(&atom, &formula);
    Update { relation, places, becomes, other: Vec::new() }
}

fn placed(atom: &Formula, formula: &Formula) -> (Relation, Vec<Term>, Formula) {
    let Formula::Holds(relation, terms) = atom else { panic!("only an atom becomes something") };
    let places = relation.own_variables();
    let place_of = |term: Term| terms.iter().position(|&own| own == term).map_or(term, |at| places[at]);
    let becomes = formula.rename(&place_of);
    (*relation, places, becomes)
}

impl Update {
    /// Without the rule nothing changes.
    pub fn only_with(mut self, rules: &[&'static str]) -> Self {
        let unchanged = Formula::Holds(self.relation, self.places.clone());
        self.other.extend(rules.iter().map(|&rule| (rule, unchanged.clone())));
        self
    }

    /// Without the rule the relation becomes something else.
    pub fn unless(mut self, rule: &'static str, atom: Formula, formula: Formula) -> Self {
        self.other.push((rule, placed(&atom, &formula).2));
        self
    }
}

/// Something that a correct replica does.
#[derive(Clone, Debug)]
pub struct Action {
    /// The name.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub says: &'static str,
    /// The replica that takes it.
    pub actor: Term,
    /// What it is taken with, the actor first: numbers, views, and the evidence in hand.
    pub parameters: Vec<Term>,
    /// More evidence, for guards with a rule switched off.
    pub spare: Vec<Term>,
    /// Relations that the actor chooses.
    pub choices: Vec<Relation>,
    /// What must hold before.
    pub guards: Vec<Clause>,
    /// What changes; the right-hand sides speak of the state before.
    pub updates: Vec<Update>,
}

impl Action {
    /// An action of a correct replica.
    pub fn new<const K: usize>(
        name: &'static str,
        says: &'static str,
        actor: Replica,
        parameters: [Term; K],
    ) -> Self {
        let action = Action {
            name,
            says,
            actor: actor.into(),
            parameters: [Term::from(actor)].into_iter().chain(parameters).collect(),
            spare: Vec::new(),
            choices: Vec::new(),
            guards: Vec::new(),
            updates: Vec::new(),
        };
        action.guard("correct", correct(actor))
    }

    /// Evidence for guards that have lost a rule.
    pub fn spare<const K: usize>(mut self, spare: [Term; K]) -> Self {
        self.spare.extend(spare);
        self
    }

    /// A relation that the actor chooses.
    pub fn chooses(mut self, relation: Relation) -> Self {
        self.choices.push(relation);
        self
    }

    /// One more condition.
    pub fn guard(mut self, name: &'static str, formula: Formula) -> Self {
        self.guards.push(Clause { name, says: "", formula, weaker: Vec::new() });
        self
    }

    /// What is left of the last condition without a rule.
    pub fn without(mut self, rule: &'static str, formula: Formula) -> Self {
        self.guards.last_mut().expect("every action has a guard").weaker.push((rule, formula));
        self
    }

    /// Without any of these rules nothing is left of the last condition.
    pub fn dropped_without(self, rules: &[&'static str]) -> Self {
        rules.iter().fold(self, |action, rule| action.without(rule, truth()))
    }

    /// What changes.
    pub fn updates<const K: usize>(mut self, updates: [Update; K]) -> Self {
        self.updates.extend(updates);
        self
    }

    /// The rules that its guards and updates stand for.
    pub fn rules(&self) -> BTreeSet<&'static str> {
        let guards = self.guards.iter().flat_map(|guard| &guard.weaker);
        guards.chain(self.updates.iter().flat_map(|update| &update.other)).map(|(rule, _)| *rule).collect()
    }

    /// The action when these rules are switched off.
    pub fn with_rules_off(&self, rules: &[&str]) -> Action {
        let guard =
            |guard: &Clause| Clause { formula: guard.without(rules), weaker: Vec::new(), ..guard.clone() };
        let update = |update: &Update| {
            let other = update.other.iter().find(|(rule, _)| rules.contains(rule));
            let becomes = other.map_or_else(|| update.becomes.clone(), |(_, formula)| formula.clone());
            Update { becomes, other: Vec::new(), ..update.clone() }
        };
        let guards: Vec<Clause> =
            self.guards.iter().map(guard).filter(|guard| guard.formula != truth()).collect();
        let updates: Vec<Update> = self.updates.iter().map(update).collect();
        let free: BTreeSet<Term> = guards.iter().flat_map(|guard| guard.formula.free()).collect();
        let spare = self.spare.iter().copied().filter(|term| free.contains(term));
        let parameters = self.parameters.iter().copied().chain(spare).collect();
        Action { parameters, spare: Vec::new(), guards, updates, ..self.clone() }
    }
}

/// A clause that says something of every state.
pub fn states(name: &'static str, says: &'static str, formula: Formula) -> Clause {
    Clause { name, says, formula, weaker: Vec::new() }
}
