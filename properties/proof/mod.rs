//! The abstract protocol, proved for every n, every view and every sequence number.
//!
//! PBFT as relations and actions: what correct replicas have sent, what each remembers and stores, and what it may do.
//! An inductive invariant, one page of it, implies agreement and validity. Everything is a value
//! of a [small typed language](formula), with two readings: [SMT-LIB](obligations), which `pbft prove` gives to a
//! solver, and [finite structures](finite), on which the same formulas are evaluated.
//!
//! Guards are local. They speak of what the acting replica has sent and remembers, and of evidence that it has in
//! hand: messages, signed by the members of a quorum. `correct` occurs in them only where a guard becomes harder to
//! satisfy if more replicas are correct. So whoever judges one replica's step, not knowing who is correct, takes all to
//! be, and messages sent to be those in hand; a guard that holds so holds of the whole system.
//!
//! `docs/PROOF.md` says what is proved, what is assumed, and what is not shown.

mod action;
mod axioms;
mod checkpoint;
mod counterexample;
mod crash;
mod evidence;
pub mod explore;
#[cfg(test)]
mod exploring;
pub mod finite;
pub mod formula;
mod ground;
mod invariants;
mod model;
mod normal_case;
mod obligations;
mod packed;
pub mod quorums;
mod refuted;
pub mod relations;
mod rules;
mod search;
mod sexp;
mod small;
pub mod smt;
mod state_transfer;
mod symmetry;
#[cfg(test)]
mod tests;
mod view_change;

pub use action::{Action, Clause, Update};
pub use axioms::QUORUM_RULES;
pub use counterexample::Counterexample;
pub use formula::{Formula, Sort, Term, View};
pub use obligations::{Answer, Obligation, Subject};
pub use refuted::{Candidate, Cluster, Refuted, Sizes, Stopped, Stored, candidates};
pub use rules::{NOT_GUARDS, NOT_NEEDED};
pub use sexp::Sexp;
pub use small::{Holds, Small, SmallState};

use quorums::{Lemma, lemmas};
use std::collections::BTreeSet;

/// The abstract protocol: all of it, or without some rules.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// The rules switched off.
    pub off: Vec<String>,
    /// What is assumed of what no step changes.
    pub axioms: Vec<Clause>,
    /// Why quorums are as an axiom says, for all sizes.
    pub lemmas: Vec<Lemma>,
    /// What replicas do.
    pub actions: Vec<Action>,
    /// What holds of every state that is reached, and of every state after one of which it holds.
    pub invariants: Vec<Clause>,
    /// What follows.
    pub theorems: Vec<Clause>,
}

impl Protocol {
    /// All of it.
    pub fn pbft() -> Self {
        let phases = [
            normal_case::actions(),
            view_change::actions(),
            checkpoint::actions(),
            state_transfer::actions(),
            crash::actions(),
        ];
        Protocol {
            off: Vec::new(),
            axioms: axioms::axioms(),
            lemmas: lemmas(),
            actions: phases.into_iter().flatten().collect(),
            invariants: invariants::invariants(),
            theorems: invariants::theorems(),
        }
    }

    /// The rules that some guard, update, axiom or lemma stands for.
    pub fn rules(&self) -> BTreeSet<&'static str> {
        let guards = self.actions.iter().flat_map(Action::rules);
        let axioms = self.axioms.iter().flat_map(|axiom| &axiom.weaker).map(|(rule, _)| *rule);
        guards.chain(axioms).chain(self.lemmas.iter().flat_map(Lemma::rules)).collect()
    }

    /// The protocol with these rules switched off as well; a rule that nothing stands for changes nothing.
    pub fn without(&self, rules: &[&str]) -> Self {
        let is_kept = |axiom: &&Clause| !axiom.weaker.iter().any(|(rule, _)| rules.contains(rule));
        Protocol {
            off: self.off.iter().cloned().chain(rules.iter().map(|rule| (*rule).to_string())).collect(),
            axioms: self.axioms.iter().filter(is_kept).cloned().collect(),
            actions: self.actions.iter().map(|action| action.with_rules_off(rules)).collect(),
            ..self.clone()
        }
    }

    /// The protocol in which only these actions are taken.
    pub fn with_actions(&self, names: &[&str]) -> Self {
        let actions = self.actions.iter().filter(|action| names.contains(&action.name)).cloned().collect();
        Protocol { actions, ..self.clone() }
    }
}
