//! From a violation found round by round to an execution of the real replicas.
//!
//! Layered states are cut down and histories with them, so a violation is shown by taking the same macro
//! steps, delivery by delivery, with whole replicas and whole histories ([`crate::trace`]).

use super::Layered;
use super::forms::merged;
use crate::trace::{Execution, Executor, Happening, Step};
use crate::world::{AgentId, Move};
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::types::Principal;

impl Layered {
    /// The execution that a path of layered states stands for, up to its first violation and without unneeded
    /// steps; none if the whole states do not violate anything.
    pub fn unroll(&mut self, path: &[Vec<u32>]) -> Option<Execution> {
        let mut steps = Vec::new();
        for (round, pair) in path.windows(2).enumerate() {
            steps.extend(self.steps_of_round(round, &pair[0], &pair[1])?);
        }
        let executor = Executor::new(self.world.config()).ok()?;
        let mut executor = match self.world.judge.only() {
            Some(property) => executor.judged_by(property),
            None => executor,
        };
        Execution::new(&mut executor, steps)
    }

    /// The steps by which one layered state leads to the next.
    fn steps_of_round(&mut self, round: usize, before: &[u32], after: &[u32]) -> Option<Vec<Step>> {
        let (agents, known, decided) = self.split(before);
        let (agents, offer) = (
            agents.to_vec(),
            if self.is_offered(round, agents) {
                self.offer(round, agents, known)?
            } else {
                super::Offer::new()
            },
        );
        let (targets, _, decided_after) = self.split(after);
        let targets = targets.to_vec();
        // For each position every chain to an end that is cut to the target, with what it commits.
        let mut found = vec![(Vec::new(), self.decided.get_index(decided as usize)?.clone())];
        for (position, (&agent, &target)) in agents.iter().zip(&targets).enumerate() {
            let mut longer = Vec::new();
            for (chain, end) in self.chains(position, agent, round, &offer) {
                let (cut, more) = self.forms.cut(&mut self.world, position, end, self.rounds[round]);
                if cut == target {
                    let all = found
                        .iter()
                        .map(|(steps, known)| ([&steps[..], &chain[..]].concat(), merged(known, &more)));
                    longer.extend(all);
                }
            }
            longer.sort_by_key(|(steps, _)| steps.len());
            longer.dedup_by(|(_, one), (_, other)| one == other);
            found = longer;
        }
        let wanted = self.decided.get_index(decided_after as usize)?;
        found.into_iter().find(|(_, decided)| decided == wanted).map(|(steps, _)| steps)
    }

    /// Every agent that one can be at the end of a round, and the steps that lead there.
    fn chains(
        &mut self,
        position: usize,
        agent: AgentId,
        round: usize,
        offer: &super::Offer,
    ) -> Vec<(Vec<Step>, AgentId)> {
        let mut found: IndexMap<AgentId, Vec<Step>, FixedState> = IndexMap::default();
        found.insert(agent, Vec::new());
        let mut next = 0;
        while let Some((&from, chain)) = found.get_index(next) {
            let chain = chain.clone();
            next += 1;
            for (number, available) in self.events(position, from, round, offer) {
                for step in self.world.moves_of(position, from, number, available) {
                    let to = self.world.after(position, from, &step);
                    let steps = self.single_steps(position, &step);
                    found.entry(to).or_insert_with(|| [&chain[..], &steps[..]].concat());
                }
            }
        }
        found.into_iter().map(|(end, chain)| (chain, end)).collect()
    }

    fn single_steps(&self, position: usize, step: &Move) -> Vec<Step> {
        let node = Principal::Replica(self.world.correct[position]);
        let message = |&id| Happening::Deliver(self.world.tables.message(id).clone());
        let mut what: Vec<Happening> = step.path.iter().map(message).collect();
        if what.is_empty() {
            what.push(Happening::TimeOut);
        }
        what.into_iter().map(|what| Step { node, what }).collect()
    }
}
