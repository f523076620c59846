//! The world as the engine explores it.

use super::agents::AgentId;
use super::config::MAX_REPLICAS;
use super::explored::{Sent, State};
use super::judge::Joint;
use super::network::{Parts, SubjectNumber};
use super::recent::{Lookups, Recent};
use super::{Delivery, World};
use crate::engine::{Judgement, Space, Successors, Unlearnt};
use crate::lazy;
use pbft::types::Principal;
use smallvec::SmallVec;

/// Where a node can go.
type Targets = SmallVec<[AgentId; 8]>;

impl World {
    pub(crate) fn joint(&self, state: &State) -> Joint {
        let mut joint = [0; MAX_REPLICAS];
        for (position, &agent) in state.iter().enumerate() {
            joint[position] = self.agents[position].facts(agent).history;
        }
        joint
    }

    /// Names what each node has sent.
    fn sent(&self, state: &State) -> Sent {
        let mut sent = [0; MAX_REPLICAS];
        for (position, &agent) in state.iter().enumerate() {
            sent[position] = self.agents[position].facts(agent).sent;
        }
        sent
    }

    pub(crate) fn parts(&self, state: &State) -> impl Fn(SubjectNumber) -> Parts + '_ {
        self.parts_of(self.sent(state), state.len())
    }

    /// The same by what each of the first `nodes` has sent.
    fn parts_of(&self, sent: Sent, nodes: usize) -> impl Fn(SubjectNumber) -> Parts + '_ {
        let of = self.network.parts_of_each();
        move |number| {
            let mut parts = [0; MAX_REPLICAS];
            for (position, agents) in self.agents.iter().enumerate().take(nodes) {
                parts[position] = agents.part(sent[position], number, of);
            }
            parts
        }
    }

    /// Where the node at a position can go, ascending.
    fn targets(
        &self,
        position: usize,
        agent: AgentId,
        parts: &impl Fn(SubjectNumber) -> Parts,
        (targets, lookups): (&mut Targets, &mut Lookups),
    ) -> Result<(), Unlearnt> {
        targets.clear();
        let time_outs = self.time_outs();
        for &number in &self.agents[position].facts(agent).heeds {
            let available = if usize::from(number) >= time_outs {
                0
            } else {
                self.network.available_lately(usize::from(number), parts, lookups).ok_or(Unlearnt)?
            };
            let moves = self.agents[position].moves(agent, number, available).ok_or(Unlearnt)?;
            targets.extend_from_slice(moves);
        }
        targets.sort_unstable();
        targets.dedup();
        Ok(())
    }

    /// The same, if it was looked up lately.
    #[inline]
    fn recent_targets<'a>(
        &self,
        (state, sent): (&[u32], &Sent),
        position: usize,
        recent: &'a mut Recent,
    ) -> Result<&'a [AgentId], Unlearnt> {
        let agent = state[position];
        let mut about = *sent;
        about[position] = agent;
        recent.targets((position, about), |found| {
            self.targets(position, agent, &self.parts_of(*sent, state.len()), found)
        })
    }

    /// Rehearses the macro steps that are to be learnt for a state, but for those by what has no name yet.
    fn rehearse(&self, state: &[u32], parts: &impl Fn(SubjectNumber) -> Parts) {
        if self.delivery != Delivery::Lazy || self.config().crashes.is_some() {
            return;
        }
        for (position, &agent) in state.iter().enumerate() {
            let Principal::Replica(replica) = self.nodes[position] else { continue };
            let agents = &self.agents[position];
            let local = agents.agent(agent).local;
            for &heeded in &agents.facts(agent).heeds {
                let number = usize::from(heeded);
                let is_message = number < self.time_outs();
                let available = if is_message { self.network.available(number, parts) } else { Some(0) };
                let Some(available) = available else { continue };
                let is_known = agents.moves(agent, heeded, available).is_some()
                    || self.moves.contains_key(&(position, local, number, available));
                if is_known {
                    continue;
                }
                let subject = self.network.subjects().get(number).copied();
                let inputs = || {
                    let inputs = self.inputs(position, number, available);
                    self.with_requests(&self.tables, self.nodes[position], local, subject, inputs)
                };
                let closure = (lazy::accumulates(subject), inputs);
                self.rehearsals.rehearse(
                    (position, local, number),
                    (&self.tables, replica),
                    available,
                    closure,
                );
            }
        }
    }

    /// A step that sends something and otherwise changes nothing, if there is one, with its position.
    fn addition(
        &self,
        (state, sent): (&[u32], &Sent),
        recent: &mut Recent,
    ) -> Result<Option<(usize, AgentId)>, Unlearnt> {
        for (position, &agent) in state.iter().enumerate() {
            let targets = self.recent_targets((state, sent), position, recent)?;
            let agents = &self.agents[position];
            let is_same = |target: &AgentId| {
                let (before, after) = (agents.agent(agent), agents.agent(*target));
                *target != agent && (before.local, before.crashes) == (after.local, after.crashes)
            };
            if let Some(target) = targets.iter().copied().find(is_same) {
                return Ok(Some((position, target)));
            }
        }
        Ok(None)
    }
}

impl Space for World {
    type Scratch = Recent;

    fn width(&self) -> usize {
        self.nodes.len()
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        let state: Vec<AgentId> = (0..self.nodes.len()).map(|position| self.start(position)).collect();
        vec![state]
    }

    fn expand(
        &self,
        depth: usize,
        state: &[u32],
        recent: &mut Recent,
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        self.note_behaviour(state);
        self.note_joint(depth, state);
        let sent = self.sent(state);
        let mut next: SmallVec<[AgentId; MAX_REPLICAS]> = SmallVec::from_slice(state);
        let added = if self.adds_first { self.addition((state, &sent), recent)? } else { None };
        for (position, &agent) in state.iter().enumerate() {
            if added.is_some_and(|(at, _)| at != position) {
                continue;
            }
            let only = added.map(|(_, target)| [target]);
            let targets = match &only {
                Some(target) => target,
                None => self.recent_targets((state, &sent), position, recent)?,
            };
            for index in 0..targets.len() {
                let index = if self.listed_backwards { targets.len() - 1 - index } else { index };
                next[position] = targets[index];
                successors(&next);
            }
            next[position] = agent;
        }
        if let Some(found) = self.is_looked_for(state) {
            return Ok(if found { Judgement::Unsound } else { Judgement::Sound });
        }
        let joint = self.joint(state);
        let sound = recent.is_sound(joint, || self.judge.is_sound(&joint)) || !self.stops_at_violations;
        Ok(if sound { Judgement::Sound } else { Judgement::Unsound })
    }

    fn prepare(&self, _: usize, state: &[u32]) {
        let parts = self.parts(state);
        for (position, &agent) in state.iter().enumerate() {
            let heeds = self.agents[position].facts(agent).heeds.iter().map(|&number| usize::from(number));
            for number in heeds.filter(|&number| number < self.time_outs()) {
                self.network.work_out_ahead(&self.tables, number, &parts);
            }
        }
        self.rehearse(state, &parts);
    }

    fn forget_prepared(&mut self) {
        self.network.ahead.clear();
        self.rehearsals.clear();
        self.forget_passed();
    }

    fn learn(&mut self, _: usize, state: &[u32]) {
        for position in 0..state.len() {
            self.learn_agent(state, position);
        }
    }

    fn revisit(&self, depth: usize, state: &[u32], recent: &mut Recent) {
        self.note_behaviour(state);
        self.note_joint(depth, state);
        let joint = self.joint(state);
        recent.is_sound(joint, || self.judge.is_sound(&joint));
    }

    fn noted(&self) -> Vec<u8> {
        self.everything_noted()
    }

    fn merge_noted(&mut self, noted: &[u8]) {
        self.add_noted(noted);
    }

    fn complaint(&self, state: &[u32]) -> String {
        self.violation(state).map(|violation| violation.to_string()).unwrap_or_default()
    }
}
