//! Which actions a step takes, and with what: their guards are evaluated, and the ledger changes as their updates say.

mod checkpoints;
mod normal;
mod views;

use super::reading::{Element, Environment};
use super::scene::{Scene, Slot};
use super::{Breach, Guards, Judging};
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
        let Guards { parameters, guards } = &self.contract.actions[action];
        let mut environment: Environment = Environment::with_capacity(2 * parameters);
        environment.push(Element::Replica(self.hand.setup.id));
        environment.extend(values);
        debug_assert_eq!(environment.len(), *parameters);
        match guards.iter().find(|(_, guard)| !guard.holds(scene, &mut environment)) {
            None => Ok(()),
            Some(&(guard, _)) => Err(Breach { action, guard, words: words() }),
        }
    }
}
