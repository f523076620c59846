//! What holds of every state that a correct replica reaches: for tests, simulations and debug builds.

use super::view_change::MAX_VIEWS_PER_SENDER;
use super::{Bundle, Replica, Setup, restore};

/// An invariant that a state breaks, in words.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("this state cannot be a correct replica's: {0}")]
pub struct BrokenInvariant(String);

impl<B: Bundle> Replica<B> {
    /// Checks what a restart would check of the durable state, and the bound of every collection.
    ///
    /// It costs as much as there is to look at, so hosts call it in debug builds only. States of mutants may
    /// break it.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check_invariants(&self, setup: &Setup<B>) -> Result<(), BrokenInvariant> {
        restore::check(setup, &self.durable).map_err(|error| BrokenInvariant(error.to_string()))?;
        let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let (n, clients) = (setup.cluster.n(), number(u64::from(setup.clients)));
        let window = number(setup.parameters.window);
        let checkpoints = window / number(setup.parameters.checkpoint_interval.max(1)) + 1;
        let h = self.durable.h();
        // A store keeps no record of own snapshots between two bases, so a start from a long log behind h stands on
        // as many batches as there are in it. No more are executed until the state has been fetched.
        let is_behind = self.last_executed() < h;
        if is_behind && self.transfer.is_none() {
            return Err(BrokenInvariant(format!("nothing fetches the state at {}", h.0)));
        }
        let executed = if is_behind { 0 } else { self.durable.executed.len() };
        let bounds = [
            // The view entered, and while it is left nothing more; then O takes its place.
            ("log", self.durable.log.len(), window.saturating_mul(2)),
            ("certificates", self.durable.prepared.len(), window),
            ("executed batches", executed, window.saturating_mul(2)),
            ("PREPAREs", self.prepares.cells().count(), n.saturating_mul(window)),
            ("COMMITs", self.commits.cells().count(), n.saturating_mul(window)),
            ("committed numbers", self.committed.len(), window),
            ("CHECKPOINTs", self.checkpoints.cells().count(), n.saturating_mul(checkpoints)),
            ("snapshots", self.snapshots.len(), checkpoints),
            ("VIEW-CHANGEs", self.view_changes.cells().count(), n.saturating_mul(MAX_VIEWS_PER_SENDER)),
            ("waiting requests", self.requests.pool.len(), clients),
            ("queued requests", self.requests.queue.len(), clients),
            ("proposed requests", self.proposed.len(), clients),
            ("waiting reads", self.reads.len(), clients),
        ];
        if let Some((what, held, bound)) = bounds.into_iter().find(|(_, held, bound)| held > bound) {
            return Err(BrokenInvariant(format!("{held} {what}, where {bound} is the bound")));
        }
        let low = self.committed.keys().chain(self.snapshots.keys()).find(|&&number| number <= h);
        match low {
            Some(number) => Err(BrokenInvariant(format!("{} is kept, and is covered by {}", number.0, h.0))),
            None => Ok(()),
        }
    }
}
