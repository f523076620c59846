//! What a replica has in hand of a NEW-VIEW, `allowed` and `carried`, is not kept in states: it is had again where it is
//! used.
//!
//! Action `forget` may take it away at any time, and as long as a replica is in the view it can be had again. So states
//! are explored in which all of it is forgotten, and a step that needs some is taken right after one that gives it. Each
//! such pair, with `forget` after it, is a path of the protocol: nothing is reached that it does not reach. And nothing is
//! missed: to each state reached the same without evidence is explored, by induction over steps, if
//!
//! - evidence is only ever added, or forgotten, and what else becomes of a state does not depend on it;
//! - guards only ask for evidence to be there, and those of the steps that give it do not;
//! - whoever can have evidence can have it after every other step as well;
//! - of what two steps give, a guard uses one;
//! - a claim mentions one piece of evidence, and is easier to satisfy without it. Then it is enough to look at each state
//!   with the evidence of each step that gives any, which the search does.
//!
//! [`Evidence::of`] looks at the steps and claims, written out, and says what does not hold of them. Pairs of steps of
//! which the third is not plain must not both be enabled in any state: the search looks, and begins again without the
//! reduction if they are.

use super::finite::Structure;
use super::ground::{Ground, Known};
use super::packed::{Bits, Packed, Step};
use super::relations::Relation;
use std::collections::BTreeSet;

/// Evidence, and who gives, needs and forgets it.
#[derive(Debug, Default)]
pub(super) struct Evidence<const W: usize> {
    bits: BTreeSet<usize>,
    /// Steps that give evidence.
    pub gives: Vec<usize>,
    /// Steps that need it.
    pub needs: Vec<usize>,
    /// Steps that only forget it.
    pub forgets: BTreeSet<usize>,
    /// A step that gives evidence, and one after which it might not be had again: not both are ever enabled.
    pub apart: Vec<(usize, usize)>,
    /// Claims that mention it.
    pub claims: Vec<usize>,
}

/// The alternatives of a guard.
fn alternatives(guard: &Ground) -> Vec<&Ground> {
    match guard {
        Ground::Any(parts) => parts.iter().collect(),
        other => vec![other],
    }
}

/// Whether no state satisfies both, or the effects of the second leave the first as it is.
fn is_kept<const W: usize>(guard: &Ground, by: &Step<W>) -> bool {
    let falsifies = |guard: &Ground| {
        guard
            .literals()
            .iter()
            .any(|(bit, value)| by.effects.get(bit).is_some_and(|becomes| *becomes != Ground::Const(*value)))
    };
    let excludes = |one: &Ground, other: &Ground| {
        let needed = other.needs();
        one.needs().iter().any(|&(bit, value)| needed.contains(&(bit, !value)))
    };
    alternatives(guard)
        .iter()
        .all(|one| !falsifies(one) || alternatives(&by.ground).iter().all(|other| excludes(one, other)))
}

impl<const W: usize> Evidence<W> {
    /// None: every state is kept as it is.
    pub(super) fn kept() -> Self {
        Evidence::default()
    }

    /// That of a protocol.
    ///
    /// # Errors
    /// What does not hold that the reduction rests on.
    pub(super) fn of(structure: &Structure, packed: &Packed<W>) -> Result<Self, String> {
        let mut this = Evidence::kept();
        for &relation in Relation::ALL.iter().filter(|relation| relation.is_state()) {
            let is_evidence = matches!(relation, Relation::allowed | Relation::carried);
            for tuple in structure.every_tuple(relation) {
                if let Known::As(bit) = packed.known[structure.bit(relation, &tuple).1]
                    && is_evidence
                {
                    this.bits.insert(packed.place[&bit]);
                }
            }
        }
        for &relation in Relation::ALL.iter().filter(|relation| relation.is_state()) {
            for tuple in structure.every_tuple(relation) {
                if let Known::As(bit) = packed.known[structure.bit(relation, &tuple).1]
                    && !matches!(relation, Relation::allowed | Relation::carried)
                    && this.bits.contains(&packed.place[&bit])
                {
                    return Err(format!("{} goes with evidence", relation.name()));
                }
            }
        }
        this.sort_steps(packed)?;
        this.sort_claims(packed)?;
        for &gives in &this.gives {
            let guard = &packed.steps[gives].ground;
            let others = (0..packed.steps.len()).filter(|step| !this.forgets.contains(step));
            let lost = others.filter(|&other| !is_kept(guard, &packed.steps[other]));
            this.apart.extend(lost.map(|other| (gives, other)));
        }
        for &needs in &this.needs {
            let used: BTreeSet<usize> = this.of_guard(&packed.steps[needs]).collect();
            let given = |&step: &usize| -> BTreeSet<usize> {
                packed.steps[step].effects.keys().copied().filter(|bit| used.contains(bit)).collect()
            };
            let given: Vec<BTreeSet<usize>> = this.gives.iter().map(given).collect();
            let is_chain = |one: &BTreeSet<usize>| {
                given.iter().all(|other| one.is_subset(other) || other.is_subset(one))
            };
            if !given.iter().all(is_chain) {
                return Err("a guard uses what two steps give".into());
            }
        }
        Ok(this)
    }

    fn of_guard<'a>(&'a self, step: &'a Step<W>) -> impl Iterator<Item = usize> + 'a {
        step.ground.literals().into_iter().map(|(bit, _)| bit).filter(|bit| self.bits.contains(bit))
    }

    fn sort_steps(&mut self, packed: &Packed<W>) -> Result<(), String> {
        let mut forgotten = BTreeSet::new();
        for (number, step) in packed.steps.iter().enumerate() {
            if step.ground.literals().iter().any(|(bit, value)| self.bits.contains(bit) && !value) {
                return Err("a guard asks for evidence not to be there".into());
            }
            let is_of = |ground: &Ground| ground.literals().iter().any(|(bit, _)| self.bits.contains(bit));
            if step.effects.values().any(is_of) {
                return Err("what becomes of a state depends on evidence".into());
            }
            let (evidence, others): (Vec<_>, Vec<_>) =
                step.effects.iter().partition(|(bit, _)| self.bits.contains(bit));
            let needs = is_of(&step.ground);
            let is = |value: bool| evidence.iter().all(|(_, becomes)| **becomes == Ground::Const(value));
            match evidence.is_empty() {
                true if needs => self.needs.push(number),
                true => {}
                false if is(false) && others.is_empty() && step.ground == Ground::Const(true) => {
                    forgotten.extend(evidence.iter().map(|(bit, _)| **bit));
                    self.forgets.insert(number);
                }
                false if is(true) && !needs => self.gives.push(number),
                false => return Err("a step does something else to evidence than to give it".into()),
            }
        }
        match forgotten == self.bits {
            true => Ok(()),
            false => Err("not all evidence can be forgotten at any time".into()),
        }
    }

    fn sort_claims(&mut self, packed: &Packed<W>) -> Result<(), String> {
        for (number, claim) in packed.claims.iter().enumerate() {
            let literals = claim.ground.literals();
            let evidence: Vec<_> = literals.iter().filter(|(bit, _)| self.bits.contains(bit)).collect();
            match evidence.as_slice() {
                [] => {}
                [(_, false)] => self.claims.push(number),
                _ => return Err(format!("{} mentions evidence twice, or asks for it", claim.name)),
            }
        }
        Ok(())
    }

    /// The state without evidence.
    pub(super) fn forgotten(&self, mut state: Bits<W>) -> Bits<W> {
        for bit in &self.bits {
            state[bit / 64] &= !(1 << (bit % 64));
        }
        state
    }
}
