//! A counterexample to induction: a state with all invariants, a step, and what no longer holds.
//!
//! A solver gives a model. It is evaluated here by the finite reading of the same formulas, so it is checked without
//! trust in the solver, and made smaller while it remains one.

use super::action::{Action, Clause};
use super::axioms::initially;
use super::finite::{Evaluator, Situation, State, Structure};
use super::formula::{Formula, Role, Sort, Term};
use super::model::Model;
use super::obligations::{Obligation, Subject};
use super::relations::names::{INITIAL, N_0, VIEW_0};
use super::relations::{Kind, Relation};
use super::{Protocol, Sexp};
use std::collections::BTreeSet;

/// A counterexample, smaller than which none was found by leaving things out.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// What does not hold, in a sentence.
    pub broken: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Who is there, and in what order.
    pub setting: Vec<String>,
    /// What holds before the step, or of the state if there is no step.
    pub before: Vec<String>,
    /// The action, what it is, and with which parameters it is taken; none if there is no step.
    pub step: Option<(&'static str, &'static str, String)>,
    /// What the step makes true and what it ends.
    pub changes: Vec<String>,
    /// The values for which what is broken fails.
    pub values: String,
}

/// How often a counterexample is evaluated to make it smaller: some are large, and any of them is right.
const MOST_EVALUATIONS: usize = 2_000;

struct Assumed {
    mentions: BTreeSet<Relation>,
    evaluator: Evaluator,
    values: Vec<usize>,
}

struct Case<'a> {
    structure: Structure,
    state: State,
    choice: Vec<u64>,
    step: Option<(&'a Action, Vec<usize>)>,
    /// What holds before the step: each with the relations that it mentions, and the values of its variables.
    assumed: Vec<Assumed>,
    clause: &'a Clause,
    broken: (Evaluator, Vec<usize>),
    witnesses: Vec<(Term, usize)>,
}

impl Protocol {
    /// Reads the counterexample to an obligation from a solver's model.
    ///
    /// # Errors
    /// If the model cannot be read, if it is no counterexample by the finite reading, or if the obligation is of a kind
    /// that has none in states.
    pub fn counterexample(&self, obligation: &Obligation, model: &Sexp) -> Result<Counterexample, String> {
        let model = Model::read(model)?;
        let mut case = self.case(obligation, &model)?;
        if !case.stands(None) {
            return Err(format!(
                "the solver's model is no counterexample to {} when evaluated",
                obligation.subject.name()
            ));
        }
        case.shrink();
        Ok(case.tell())
    }

    fn case<'a>(&'a self, obligation: &Obligation, model: &Model) -> Result<Case<'a>, String> {
        let (action, clause) = match obligation.subject {
            Subject::Consecution(action, invariant) => (Some(action), self.clause(invariant)),
            Subject::Initiation(invariant) => (None, self.clause(invariant)),
            Subject::Theorem(theorem) => (None, self.clause(theorem)),
            _ => return Err(format!("{} has no counterexample in states", obligation.subject.name())),
        };
        let clause = clause.ok_or("the obligation is of another protocol")?;
        let sizes: Vec<(Sort, usize)> = Sort::ALL.iter().map(|&sort| (sort, model.size(sort))).collect();
        let constants: [Term; 3] = [VIEW_0.into(), N_0.into(), INITIAL.into()];
        let constants = constants.map(|term| (term, model.constant(term)));
        let mut structure = Structure::new(&sizes, &constants);
        let mut state = structure.empty();
        let mut choice = vec![0; structure.choice_bits().div_ceil(64).max(1)];
        for &relation in Relation::ALL {
            for tuple in structure.every_tuple(relation) {
                if model.relation(relation, &tuple)? {
                    match relation.kind() {
                        Kind::Rigid => structure.fix(relation, &tuple),
                        Kind::Choice => structure.set(&mut choice, relation, &tuple, true),
                        _ => structure.set(&mut state, relation, &tuple, true),
                    }
                }
            }
        }
        let step = action.and_then(|name| self.actions.iter().find(|action| action.name == name));
        let values = |terms: &[Term]| terms.iter().map(|&term| model.constant(term)).collect::<Vec<_>>();
        let mut assumed: Vec<Assumed> = Vec::new();
        let assume = |formula: &Formula, terms: &[Term]| Assumed {
            mentions: formula.relations(),
            evaluator: structure.prepare(formula, terms),
            values: values(terms),
        };
        let always = |formula: &Formula| assume(formula, &[]);
        assumed.extend(self.axioms.iter().map(|axiom| always(&axiom.formula)));
        if matches!(obligation.subject, Subject::Initiation(_)) {
            let state = Relation::ALL.iter().filter(|relation| relation.is_state());
            assumed.extend(state.map(|&relation| always(&initially(relation))));
        } else {
            assumed.extend(self.invariants.iter().map(|invariant| always(&invariant.formula)));
        }
        for guard in step.into_iter().flat_map(|action| &action.guards) {
            let terms = &step.expect("it has guards").parameters;
            assumed.push(assume(&guard.formula, terms));
        }
        let variables: Vec<Term> = match &clause.formula {
            Formula::ForAll(variables, _) => variables.clone(),
            _ => Vec::new(),
        };
        let body = match &clause.formula {
            Formula::ForAll(_, body) => body.as_ref(),
            other => other,
        };
        let witnesses: Vec<Term> =
            variables.iter().map(|&term| Term { role: Role::Witness, ..term }).collect();
        let broken = (structure.prepare(body, &variables), values(&witnesses));
        let witnesses = variables.iter().copied().zip(values(&witnesses)).collect();
        let step = step.map(|action| (action, values(&action.parameters)));
        Ok(Case { structure, state, choice, step, assumed, clause, broken, witnesses })
    }

    fn clause(&self, name: &str) -> Option<&Clause> {
        self.invariants.iter().chain(&self.theorems).find(|clause| clause.name == name)
    }
}

impl Case<'_> {
    fn after(&self) -> State {
        let before = Situation { state: &self.state, choice: &self.choice };
        match &self.step {
            Some((action, values)) => self.structure.after(action, &before, values),
            None => self.state.clone(),
        }
    }

    /// Whether everything assumed holds, or whatever of it mentions a relation, and what is broken does not.
    fn stands(&self, about: Option<Relation>) -> bool {
        let before = Situation { state: &self.state, choice: &self.choice };
        let is_asked = |what: &&Assumed| about.is_none_or(|relation| what.mentions.contains(&relation));
        let holds = |what: &Assumed| what.evaluator.holds(&self.structure, &before, &what.values);
        if !self.assumed.iter().filter(is_asked).all(holds) {
            return false;
        }
        let after = self.after();
        let after = Situation { state: &after, choice: &[] };
        !self.broken.0.holds(&self.structure, &after, &self.broken.1)
    }

    /// Leaves out whatever can be left out, one thing at a time.
    fn shrink(&mut self) {
        let mut evaluations = 0;
        loop {
            let mut smaller = false;
            for &relation in Relation::ALL.iter().filter(|relation| relation.is_state()) {
                for tuple in self.structure.tuples(&self.state, relation) {
                    evaluations += 1;
                    if evaluations > MOST_EVALUATIONS {
                        return;
                    }
                    self.structure.set(&mut self.state, relation, &tuple, false);
                    let stands = self.stands(Some(relation));
                    self.structure.set(&mut self.state, relation, &tuple, !stands);
                    smaller |= stands;
                }
            }
            if !smaller {
                return;
            }
        }
    }

    fn thing(&self, sort: Sort, at: usize) -> String {
        match sort {
            Sort::Replica | Sort::View | Sort::Number => at.to_string(),
            Sort::Digest => format!("d{at}"),
            Sort::Batch => format!("b{at}"),
            Sort::State => format!("s{at}"),
            Sort::Quorum => {
                let members = (0..self.structure.size(Sort::Replica)).filter(|&replica| {
                    self.structure.tuples(&self.state, Relation::member).contains(&vec![replica, at])
                });
                let members: Vec<String> = members.map(|replica| replica.to_string()).collect();
                format!("{{{}}}", members.join(", "))
            }
        }
    }

    fn says(&self, relation: Relation, tuple: &[usize]) -> String {
        let thing = |(&(_, sort), &at): (&(&str, Sort), &usize)| self.thing(sort, at);
        relation.says_of(&relation.places().iter().zip(tuple).map(thing).collect::<Vec<_>>())
    }

    fn with_values(&self, values: impl Iterator<Item = (Term, usize)>) -> String {
        let told = values.map(|(term, at)| format!("{} = {}", term.name, self.thing(term.sort, at)));
        told.collect::<Vec<_>>().join(", ")
    }

    fn tell(&self) -> Counterexample {
        let state = |relation: &&Relation| relation.is_state();
        // What invariants say follows from messages and memory is left out.
        let is_plain = |relation: &&Relation| matches!(relation.kind(), Kind::Message | Kind::Own);
        let mut before: Vec<String> = Vec::new();
        for &relation in Relation::ALL.iter().filter(state) {
            for tuple in self.structure.tuples(&self.state, relation) {
                before.push(self.says(relation, &tuple));
            }
        }
        let after = self.after();
        let mut changes = Vec::new();
        for &relation in Relation::ALL.iter().filter(state).filter(is_plain) {
            let (was, is) =
                (self.structure.tuples(&self.state, relation), self.structure.tuples(&after, relation));
            let new = is.iter().filter(|tuple| !was.contains(tuple));
            changes.extend(new.map(|tuple| self.says(relation, tuple)));
            let gone = was.iter().filter(|tuple| !is.contains(tuple));
            changes.extend(gone.map(|tuple| format!("no longer: {}", self.says(relation, tuple))));
        }
        let step = self.step.as_ref().map(|(action, values)| {
            let parameters = action.parameters.iter().copied().zip(values.iter().copied());
            (action.name, action.says, self.with_values(parameters))
        });
        if self.step.as_ref().is_some_and(|(action, _)| !action.choices.is_empty()) {
            let chosen = self.structure.tuples(&self.choice, Relation::report);
            changes.extend(chosen.iter().map(|tuple| self.says(Relation::report, tuple)));
        }
        Counterexample {
            broken: self.clause.says,
            name: self.clause.name,
            setting: self.setting(),
            before,
            step,
            changes,
            values: self.with_values(self.witnesses.iter().copied()),
        }
    }

    fn setting(&self) -> Vec<String> {
        let all = self.structure.size(Sort::Replica);
        let correct = self.structure.tuples(&self.state, Relation::correct);
        let byzantine: Vec<String> =
            (0..all).filter(|&one| !correct.contains(&vec![one])).map(|one| one.to_string()).collect();
        let named = (0..all).map(|one| one.to_string()).collect::<Vec<_>>().join(", ");
        let byzantine = match byzantine.as_slice() {
            [] => "all correct".to_string(),
            [one] => format!("{one} is Byzantine"),
            several => format!("{} are Byzantine", several.join(", ")),
        };
        let mut setting = vec![format!("replicas {named}; {byzantine}")];
        let primaries = self.structure.tuples(&self.state, Relation::primary);
        setting.extend(primaries.iter().map(|tuple| self.says(Relation::primary, tuple)));
        setting
    }
}
