//! What macro steps only pass through, forgotten now and then.
//!
//! Most local states that an exploration meets are inside of closures: 670,808 had been met with replica 1 Byzantine
//! in the bound of docs/ENGINE.md, where replicas could be in 41,066 with what they had sent, and they and the steps
//! between them took most of the memory. The exploration itself does not need them again, but for closures from the
//! same state by other messages; the conditions of an exploration do.

use super::World;
use pbft::types::Principal;

/// Local states that are passed through before they are forgotten. A state takes some kilobytes, steps included.
const PASSED: usize = if cfg!(test) { 1 << 6 } else { 1 << 17 };

impl World {
    /// From now on local states that macro steps only pass through are forgotten now and then, and so are the
    /// steps between them, where nobody is going to ask for them: the conditions of an exploration do. What is
    /// met again is worked out again.
    pub(crate) fn forget_what_is_passed(&mut self) {
        self.kept.get_or_insert(0);
    }

    /// Forgets what is only passed through, if there is enough of it.
    pub(super) fn forget_passed(&mut self) {
        if self.kept.is_none_or(|kept| self.tables.kept() - kept < PASSED) {
            return;
        }
        let is_replica = |position: usize| matches!(self.nodes[position], Principal::Replica(_));
        let replicas = (0..self.nodes.len()).filter(|&position| is_replica(position));
        let reached = replicas.flat_map(|position| self.agents[position].all().map(|agent| agent.local));
        let moves = self.moves.iter().filter(|((position, ..), _)| is_replica(*position));
        let known = moves.flat_map(|(&(_, from, ..), moves)| moves.iter().map(|step| step.to).chain([from]));
        self.tables.keep_only(reached.chain(known));
        self.kept = Some(self.tables.kept());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Agent, Delivery, World, WorldConfig};
    use super::PASSED;
    use crate::engine::{Limits, Outcome, explore};
    use pbft::types::{Cluster, ReplicaId, View};

    #[test]
    fn whoever_forgets_what_was_passed_through_explores_the_same() {
        let config = WorldConfig {
            byzantine: [ReplicaId(0)].into(),
            max_view: View(1),
            ..WorldConfig::new(Cluster::new(4, 1), 1)
        };
        let explored = |forgets: bool, threads: usize| {
            let mut world = World::new(config.clone(), Delivery::Lazy).unwrap();
            if forgets {
                world.forget_what_is_passed();
            }
            let found = explore(&mut world, Limits { threads, ..Limits::default() }, &mut |_| true);
            assert_eq!(found.outcome, Outcome::Exhausted);
            (world, (found.states, found.transitions, found.depth))
        };
        let (whole, expected) = explored(false, 1);
        assert_eq!(whole.tables.kept(), whole.tables.sizes().0);
        for threads in [1, 2] {
            let (world, counts) = explored(true, threads);
            assert_eq!(counts, expected);
            let last = world.kept.unwrap();
            assert!(0 < last && world.tables.kept() <= last + 2 * PASSED);
            assert!(
                2 * world.tables.kept() < whole.tables.kept(),
                "{} of {}",
                world.tables.kept(),
                whole.tables.kept()
            );
            assert!(world.tables.sizes().0 > whole.tables.sizes().0, "nothing was met again");
            for position in 0..world.nodes().len() {
                let told = |of: &World, agent: &Agent| {
                    (of.tables.local(agent.local).clone(), agent.sent.clone(), agent.crashes)
                };
                let all =
                    |of: &World| of.agents(position).all().map(|agent| told(of, agent)).collect::<Vec<_>>();
                assert!(all(&world) == all(&whole), "position {position}");
            }
        }
    }
}
