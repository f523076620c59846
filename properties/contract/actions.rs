//! Which actions a step takes, and with what: their guards are evaluated, and the ledger changes as their updates say.

mod checkpoints;
mod normal;
mod views;

use super::reading::{Element, Environment, evaluate};
use super::scene::{Scene, Slot};
use super::{Breach, Judging};
use pbft::replica::Bundle;

impl<B: Bundle> Judging<'_, '_, B> {
    /// Evaluates the guards of an action, taken with these values of its parameters after the actor.
    fn guards(
        &self,
        action: &'static str,
        scene: &Scene<'_, B>,
        values: &[Element],
        words: impl FnOnce() -> String,
    ) -> Result<(), Breach> {
        let (parameters, guards) = &self.contract.actions[action];
        let actor = Element::Replica(self.hand.setup.id);
        let mut environment: Environment =
            parameters.iter().copied().zip(std::iter::once(actor).chain(values.iter().copied())).collect();
        debug_assert_eq!(environment.len(), parameters.len());
        match guards.iter().find(|guard| !evaluate(&guard.formula, scene, &mut environment)) {
            None => Ok(()),
            Some(guard) => Err(Breach { action, guard: guard.name, words: words() }),
        }
    }
}
