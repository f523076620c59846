//! The same from whole replicas, from which nothing has been forgotten: how a run that is stuck is shown.

use super::run::{Cluster, Ran};
use super::strategy::Strategy;
use crate::problem::Problem;
use crate::trace::{Configuration, Executor, Step};
use crate::world::{Modelled, WorldConfig};
use pbft::replica::{Effects, Replica};
use serde::{Deserialize, Serialize};

/// The moment at which everything that was sent is lost.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Loss {
    /// What the Byzantine replicas do from then on.
    pub strategy: Strategy,
    /// Whether every correct replica restarts then.
    pub restarted: bool,
}

impl Loss {
    /// Carries on from there, with the replicas as they are.
    ///
    /// # Errors
    /// If one of them does not start from what is durable.
    pub fn carry_on(self, executor: &mut Executor, configuration: &Configuration) -> Result<Ran, Problem> {
        let correct = self.replicas(executor, configuration)?;
        let learnt = match self.strategy.derives() {
            true => executor.available_to_any(configuration),
            false => Vec::new(),
        };
        let world = executor.world();
        let cluster = Cluster::new(world, &learnt.iter().copied().collect());
        Ok(cluster.run(world, self.strategy, correct, &learnt))
    }

    fn replicas(
        self,
        executor: &Executor,
        configuration: &Configuration,
    ) -> Result<Vec<Replica<Modelled>>, Problem> {
        let setups = executor.config().setups();
        let correct = executor.config().correct().into_iter().enumerate();
        let replica = |(position, id): (usize, pbft::types::ReplicaId)| {
            let local = executor.replica(configuration, position);
            if !self.restarted {
                return Ok(local.replica.clone());
            }
            // What it sends at once is lost with everything else.
            Replica::start(&setups[usize::from(id.0)], Some(local.on_disk()), &mut Effects::new())
                .map_err(|why| format!("r{} does not start again: {why}", id.0).into())
        };
        correct.map(replica).collect()
    }

    /// What is needed of these steps: without any one of them, and without the deliveries that then are of messages
    /// nobody has sent, every request executes. None if all do after all steps.
    ///
    /// # Errors
    /// If the bounds make no sense, or a replica does not start from what is durable.
    pub fn needed(self, config: &WorldConfig, steps: &[Step]) -> Result<Option<Vec<Step>>, Problem> {
        let mut executor = Executor::new(config)?;
        let Some(mut needed) = self.stuck_after(&mut executor, steps.to_vec())? else { return Ok(None) };
        let mut at = needed.len();
        while at > 0 {
            at -= 1;
            let mut fewer = needed.clone();
            fewer.remove(at);
            if let Some(fewer) = self.stuck_after(&mut executor, fewer)? {
                // What was needed for the step dropped may be needed no more.
                (at, needed) = (fewer.len(), fewer);
            }
        }
        Ok(Some(needed))
    }

    /// Those of the steps that could be taken, if a request never executes after them.
    fn stuck_after(self, executor: &mut Executor, steps: Vec<Step>) -> Result<Option<Vec<Step>>, Problem> {
        let mut configuration = executor.start();
        let mut taken = Vec::new();
        for step in steps {
            let step = executor.as_sent(&configuration, step);
            let Ok(came) = executor.take(&configuration, &step) else { continue };
            configuration = came.after;
            taken.push(step);
        }
        Ok(self.carry_on(executor, &configuration)?.is_stuck().then_some(taken))
    }
}
