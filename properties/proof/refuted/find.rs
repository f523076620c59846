//! Which pictures are asked for, and reading them from a solver's answer.

use super::super::obligations::{Answer, Obligation, Subject};
use super::super::relations::Relation;
use super::super::sexp::Sexp;
use super::super::{Protocol, Term, finite::Structure};
use super::cluster::{Cluster, Sizes};
use super::ground::{atom, choice, question};
use super::{Kind, Refuted, Stored};
use std::collections::BTreeSet;

/// An invariant that an action may break without a rule.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The rule.
    pub rule: String,
    /// The action.
    pub action: &'static str,
    /// The invariant.
    pub invariant: &'static str,
}

/// What says most if it breaks comes first, as in what `pbft prove` tells.
pub const TELLING: [&str; 6] = [
    "chosen_unique",
    "result_unique",
    "certificate_unique",
    "committed_preserved",
    "one_vote",
    "safe_unchoosable",
];

/// The sizes to look in, small ones first.
const SIZES: [Sizes; 8] = [
    sizes(1, 2, 2, 1),
    sizes(2, 2, 2, 1),
    sizes(1, 2, 2, 2),
    sizes(1, 2, 2, 3),
    sizes(3, 2, 2, 1),
    sizes(2, 3, 2, 2),
    sizes(1, 3, 2, 3),
    sizes(2, 3, 2, 3),
];

const fn sizes(views: usize, numbers: usize, batches: usize, states: usize) -> Sizes {
    Sizes { views, numbers, batches, states }
}

/// The invariants that a rule may be needed for, the most telling first.
pub fn candidates(rule: &str) -> Vec<Candidate> {
    let whole = Protocol::pbft();
    let without = whole.without(&[rule]);
    let is_axiom = without.axioms.len() < whole.axioms.len();
    let changed = |name: &str| {
        is_axiom || whole.actions.iter().any(|action| action.name == name && action.rules().contains(rule))
    };
    let mut found: Vec<(usize, Candidate)> = Vec::new();
    for obligation in without.obligations() {
        if let Subject::Consecution(action, invariant) = obligation.subject
            && changed(action)
        {
            let rank = TELLING.iter().position(|name| *name == invariant).unwrap_or(TELLING.len());
            found.push((rank, Candidate { rule: rule.into(), action, invariant }));
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, candidate)| candidate).collect()
}

impl Candidate {
    /// Whether it is among what says most if it breaks.
    pub fn is_telling(&self) -> bool {
        TELLING.contains(&self.invariant)
    }

    /// The sizes in which to ask, small ones first.
    pub fn sizes(&self) -> &'static [Sizes] {
        &SIZES
    }

    /// The question to a solver for a picture of these sizes; with `fewest` for the one with the least to read.
    pub fn question(&self, sizes: Sizes, fewest: bool) -> Obligation {
        let without = Protocol::pbft().without(&[&self.rule]);
        let action = without.actions.iter().find(|action| action.name == self.action);
        let invariant = without.invariants.iter().find(|clause| clause.name == self.invariant);
        let (action, invariant) = (action.expect("it is one"), invariant.expect("it is one"));
        let cluster = Cluster::without(&self.rule);
        let script = question(&without, &cluster, sizes, action, invariant, fewest);
        Obligation {
            subject: Subject::Consecution(self.action, self.invariant),
            says: invariant.says.into(),
            script: script.expect("the sizes are within bounds"),
            expected: Answer::Unsatisfiable,
            witnesses: Vec::new(),
        }
    }

    /// The counterexample that a solver's model is, once it is evaluated.
    ///
    /// # Errors
    /// If it is none.
    pub fn found(&self, sizes: Sizes, model: &Sexp) -> Result<Refuted, String> {
        let structure = Cluster::without(&self.rule).structure(sizes)?;
        let holds = true_atoms(model);
        let without = Protocol::pbft().without(&[&self.rule]);
        let action = without.actions.iter().find(|action| action.name == self.action);
        let action = action.ok_or("there is no such action")?;
        let value = |&parameter: &Term| {
            let values = 0..structure.size(parameter.sort);
            let chosen = values.into_iter().find(|&value| holds.contains(&choice(parameter, value)));
            chosen.map(|value| (parameter.name.to_string(), value)).ok_or("a parameter has no value")
        };
        let stored = Stored {
            rule: self.rule.clone(),
            action: self.action.into(),
            invariant: self.invariant.into(),
            sizes,
            before: before(&structure, &holds),
            with: action.parameters.iter().map(value).collect::<Result<_, _>>()?,
        };
        let read = Refuted::read(stored)?;
        Ok(read.without_the_superfluous())
    }
}

/// The atoms before the step that hold in a model, in the order of the relations.
fn before(structure: &Structure, holds: &BTreeSet<String>) -> Vec<String> {
    let open = Relation::ALL.iter().copied().filter(|&relation| !Cluster::fixes(relation));
    let atoms = open.flat_map(|relation| {
        structure.every_tuple(relation).into_iter().map(move |tuple| atom(relation, &tuple))
    });
    atoms.filter(|name| holds.contains(name)).collect()
}

/// The names of the constants that are true in a model.
fn true_atoms(model: &Sexp) -> BTreeSet<String> {
    let truth = |definition: &Sexp| match definition.parts() {
        [_, Sexp::Atom(name), _, _, Sexp::Atom(value)] if value == "true" => {
            Some(name.trim_matches('|').to_string())
        }
        _ => None,
    };
    model.parts().iter().filter_map(truth).collect()
}

impl Refuted {
    /// Leaves out atoms one at a time, as long as it is a counterexample: where a solver had no time to find the
    /// fewest, and what it adds for nothing.
    pub fn without_the_superfluous(self) -> Refuted {
        let mut least = self;
        let mut at = least.stored.before.len();
        while at > 0 {
            at -= 1;
            let line = &least.stored.before[at];
            // Who is correct, and what clients have signed, is to be said.
            if line.starts_with("correct ") || line.starts_with("authentic ") {
                continue;
            }
            let mut stored = least.stored.clone();
            stored.before.remove(at);
            if let Ok(smaller) = Refuted::read(stored) {
                least = smaller;
                at = least.stored.before.len();
            }
        }
        least
    }

    /// How much there is to read: messages and memory before the step, the store and what follows left out.
    pub fn length(&self) -> usize {
        let relations = Relation::ALL.iter().filter(|one| matches!(one.kind(), Kind::Message | Kind::Own));
        let byzantine = (0..self.cluster.replicas()).filter(|&replica| !self.is_correct(replica)).count();
        relations.map(|&relation| self.holds(relation).len()).sum::<usize>() + 2 * byzantine
    }
}
