//! Taking the moves of a node: what its agent is afterwards.

use super::World;
use super::agents::{Agent, AgentId};
use super::explored::{Move, State};
use super::resent::carries;
use super::tables::{Input, LocalId, MessageId, Tables};
use pbft::types::Principal;
use std::sync::Arc;

impl World {
    /// The agent after a step.
    pub(crate) fn after(&mut self, position: usize, agent: AgentId, step: &Move) -> AgentId {
        let after = self.moved(self.agents[position].agent(agent), step);
        self.agent(position, after)
    }

    /// What an agent is after a step.
    pub(crate) fn moved(&self, before: &Agent, step: &Move) -> Agent {
        let is_bounded = self.config().crashes.is_some_and(|crashes| crashes.at_most.is_some());
        let crashes = before.crashes + u8::from(is_bounded && step.crash.is_some());
        let sent = match step.crash {
            None => union(&before.sent, &step.sends),
            Some(_) => self.sent_again(&before.sent, &step.sends),
        };
        Agent { local: step.to, sent, crashes }
    }

    /// What has been sent when this is sent again: but for proposals that a NEW-VIEW sent has in its `O`.
    fn sent_again(&self, sent: &Arc<[MessageId]>, again: &Arc<[MessageId]>) -> Arc<[MessageId]> {
        let all = union(sent, again);
        let is_carried = |proposal: MessageId| {
            all.iter().any(|&id| carries(self.tables.message(id), self.tables.message(proposal)))
        };
        let new = again.iter().copied().filter(|&id| sent.contains(&id) || !is_carried(id));
        union(sent, &new.collect())
    }

    /// Whether an agent may take a step: a replica may have crashed too often.
    pub(crate) fn may_take(&self, position: usize, agent: &Agent, step: &Move) -> bool {
        let is_client = matches!(self.nodes[position], Principal::Client(_));
        step.crash.is_none() || is_client || self.can_crash(agent.crashes)
    }

    /// The agent that the one at `position` becomes by one delivery or time-out; none if it stays what it is.
    pub(crate) fn agent_after(&mut self, position: usize, id: AgentId, input: Input) -> Option<AgentId> {
        let agent = self.agents[position].agent(id).clone();
        let steps = one_by_one(&mut self.tables, self.nodes[position], agent.local, &[input]);
        let step = steps.into_iter().find(|step| self.may_take(position, &agent, step))?;
        let after = self.moved(&agent, &step);
        let target = self.agent(position, after);
        (target != id).then_some(target)
    }

    pub(super) fn learn_agent(&mut self, state: &State, position: usize) {
        let id = state[position];
        let heeds = self.agents[position].facts(id).heeds.clone();
        for number in heeds {
            let available = self.available(state, usize::from(number));
            if self.agents[position].moves(id, number, available).is_some() {
                continue;
            }
            let agent = self.agents[position].agent(id).clone();
            let mut targets: Vec<AgentId> = Vec::new();
            for step in self.moves(position, agent.local, usize::from(number), available).iter() {
                if !self.may_take(position, &agent, step) {
                    continue;
                }
                let after = self.moved(&agent, step);
                let target = self.agent(position, after);
                if target != id && !targets.contains(&target) {
                    targets.push(target);
                }
            }
            self.agents[position].add_moves(id, number, available, &targets);
        }
    }

    /// The step by which `before` leads to `after`: whose it is, and what it is.
    pub fn step_between(&mut self, before: &State, after: &State) -> Option<(Principal, Move)> {
        let position = (0..before.len()).find(|&position| before[position] != after[position])?;
        let agent = self.agents[position].agent(before[position]).clone();
        let target = self.agents[position].agent(after[position]).clone();
        let heeds = self.agents[position].facts(before[position]).heeds.clone();
        for number in heeds {
            let available = self.available(before, usize::from(number));
            for step in self.moves(position, agent.local, usize::from(number), available).iter() {
                if self.may_take(position, &agent, step) && self.moved(&agent, step) == target {
                    return Some((self.nodes[position], step.clone()));
                }
            }
        }
        None
    }
}

/// Every delivery that changes something, by itself.
///
/// The exponent of a client's time-out is left out: it only grows.
pub(crate) fn one_by_one(
    tables: &mut Tables,
    node: Principal,
    local: LocalId,
    inputs: &[Input],
) -> Vec<Move> {
    let mut all = Vec::new();
    for &input in inputs {
        let mut inside = Vec::new();
        if let Principal::Replica(replica) = node {
            inside.extend(tables.crashes_during(replica, local, input));
        }
        for input in [input].into_iter().chain(inside) {
            let mut step = tables.step(node, local, input);
            if let Principal::Client(_) = node {
                step.to = tables.bare(node, step.to).alive;
            }
            let (path, crash) = (input.message().into_iter().collect(), input.crash());
            all.push(Move { path, crash, to: step.to, sends: step.sends });
        }
    }
    all.retain(|step| step.to != local || !step.sends.is_empty());
    all
}

/// Both, ascending.
pub(crate) fn union(one: &Arc<[MessageId]>, other: &Arc<[MessageId]>) -> Arc<[MessageId]> {
    if other.iter().all(|message| one.binary_search(message).is_ok()) {
        return one.clone();
    }
    let mut all = [&one[..], &other[..]].concat();
    all.sort_unstable();
    all.dedup();
    all.into()
}
