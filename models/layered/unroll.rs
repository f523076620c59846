//! From a violation found round by round to an execution of the real replicas.
//!
//! Layered states are cut down and histories with them, so a violation is shown by going through the same macro steps
//! with whole states and whole histories, each message available when it is delivered. Then every macro step that is
//! not needed is left out.

use super::Layered;
use super::forms::merged;
use crate::crypto::Symbolic;
use crate::world::{AgentId, Input, Judge, Local, LocalId, MessageId, Move, Tables, WorldConfig};
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::message::Message;
use pbft::replica::Subject;
use pbft::types::{Principal, ReplicaId};
use pbft_properties::Violation;
use std::collections::BTreeSet;

type Msg = Message<Symbolic>;

/// Whether a message can be delivered once others have been sent.
type Available<'a> = dyn FnMut(&Msg, &[&Msg]) -> bool + 'a;

/// A macro step of an execution.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Whose it is.
    pub replica: ReplicaId,
    /// What is delivered; nothing for a time-out.
    pub messages: Vec<Msg>,
}

/// An execution that ends in a violation.
#[derive(Clone, Debug)]
pub struct Execution {
    /// The steps.
    pub steps: Vec<Happening>,
    /// What is violated.
    pub what: Violation,
}

impl Layered {
    /// The execution that a path of layered states stands for, up to its first violation and without unneeded
    /// steps; none if the whole states do not violate anything.
    pub fn unroll(&mut self, path: &[Vec<u32>]) -> Option<Execution> {
        let mut steps = Vec::new();
        for (round, pair) in path.windows(2).enumerate() {
            steps.extend(self.steps_of_round(round, &pair[0], &pair[1])?);
        }
        let what = self.violation(&steps)?;
        let mut execution = Execution { steps, what };
        execution.steps.truncate(self.first_violation(&execution.steps)?);
        self.leave_out_unneeded(&mut execution);
        Some(execution)
    }

    /// The macro steps by which one layered state leads to the next.
    fn steps_of_round(&mut self, round: usize, before: &[u32], after: &[u32]) -> Option<Vec<Happening>> {
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

    /// Every agent that one can be at the end of a round, and the macro steps that lead there.
    fn chains(
        &mut self,
        position: usize,
        agent: AgentId,
        round: usize,
        offer: &super::Offer,
    ) -> Vec<(Vec<Happening>, AgentId)> {
        let mut found: IndexMap<AgentId, Vec<Happening>, FixedState> = IndexMap::default();
        found.insert(agent, Vec::new());
        let mut next = 0;
        while let Some((&from, chain)) = found.get_index(next) {
            let chain = chain.clone();
            next += 1;
            for (number, available) in self.events(position, from, round, offer) {
                for step in self.world.moves_of(position, from, number, available) {
                    let to = self.world.after(position, from, &step);
                    let happening = self.happening(position, &step);
                    found.entry(to).or_insert_with(|| [&chain[..], &[happening]].concat());
                }
            }
        }
        found.into_iter().map(|(end, chain)| (chain, end)).collect()
    }

    fn happening(&self, position: usize, step: &Move) -> Happening {
        let messages = step.path.iter().map(|&id| self.world.tables.message(id).clone()).collect();
        Happening { replica: self.world.correct[position], messages }
    }

    fn violation(&self, steps: &[Happening]) -> Option<Violation> {
        Replay::new(self.world.config()).run(steps, &mut |_, _| true).1
    }

    /// After how many steps the first violation is there.
    fn first_violation(&self, steps: &[Happening]) -> Option<usize> {
        let (taken, what) = Replay::new(self.world.config()).run(steps, &mut |_, _| true);
        what.map(|_| taken)
    }

    fn leave_out_unneeded(&self, execution: &mut Execution) {
        let mut at = execution.steps.len();
        while at > 0 {
            at -= 1;
            let mut without = execution.steps.clone();
            without.remove(at);
            let adversary = self.world.network.adversary();
            let mut available = |message: &Msg, sent: &[&Msg]| {
                sent.contains(&message) || adversary.derive(sent).contains(message)
            };
            if let (taken, Some(what)) = Replay::new(self.world.config()).run(&without, &mut available) {
                without.truncate(taken);
                *execution = Execution { steps: without, what };
                at = at.min(execution.steps.len());
            }
        }
    }
}

/// Whole states and histories of the correct replicas.
struct Replay {
    config: WorldConfig,
    correct: Vec<ReplicaId>,
    tables: Tables,
    judge: Judge,
    locals: Vec<LocalId>,
    sent: BTreeSet<MessageId>,
}

impl Replay {
    fn new(config: &WorldConfig) -> Self {
        let mut tables = Tables::new(config, false);
        let (mut locals, mut sent) = (Vec::new(), BTreeSet::new());
        for replica in config.correct() {
            let mut at = tables.start(replica);
            sent.extend(at.sends.iter().copied());
            for request in config.signed_requests() {
                let request = tables.add_message(Message::Request(request));
                at = tables.step(replica, at.to, Input::Message(request));
                sent.extend(at.sends.iter().copied());
            }
            locals.push(at.to);
        }
        let judge = Judge::new(config);
        Replay { config: config.clone(), correct: config.correct(), tables, judge, locals, sent }
    }

    /// Takes the steps until something is violated: how many those are, and what it is. A delivery that is not
    /// `available` is left out.
    fn run(mut self, steps: &[Happening], available: &mut Available<'_>) -> (usize, Option<Violation>) {
        for (taken, step) in steps.iter().enumerate() {
            let Some(position) = self.correct.iter().position(|&replica| replica == step.replica) else {
                continue;
            };
            if step.messages.is_empty() {
                self.step(position, Input::TimeOut);
            }
            for message in &step.messages {
                let message = self.as_sent(message);
                let sent: Vec<&Msg> = self.sent.iter().map(|&id| self.tables.message(id)).collect();
                if available(&message, &sent) {
                    let id = self.tables.add_message(message);
                    self.step(position, Input::Message(id));
                }
            }
            if let Some(what) = self.complaint() {
                return (taken + 1, Some(what));
            }
        }
        (steps.len(), None)
    }

    fn step(&mut self, position: usize, input: Input) {
        let step = self.tables.step(self.correct[position], self.locals[position], input);
        self.locals[position] = step.to;
        self.sent.extend(step.sends.iter().copied());
    }

    /// A correct primary's NEW-VIEW as it was sent here: the exploration takes one for all with the same `O`.
    fn as_sent(&self, message: &Msg) -> Msg {
        let Message::NewView(m) = message else { return message.clone() };
        let primary = self.config.cluster.primary(m.content.view);
        if m.signer != Principal::Replica(primary) || self.config.byzantine.contains(&primary) {
            return message.clone();
        }
        let of_view = |id: &&MessageId| {
            Subject::of(self.tables.message(**id)) == Some(Subject::NewView(m.content.view))
        };
        let sent = self.sent.iter().find(of_view).map(|&id| self.tables.message(id).clone());
        sent.unwrap_or_else(|| message.clone())
    }

    fn complaint(&mut self) -> Option<Violation> {
        let mut joint = [0; crate::world::MAX_REPLICAS];
        for (position, &local) in self.locals.iter().enumerate() {
            let Local { history, .. } = self.tables.local(local);
            joint[position] = self.judge.name(history);
        }
        self.judge.look_at(&joint, &[]).err()
    }
}

impl Execution {
    /// The steps in words.
    pub fn told(&self, config: &WorldConfig) -> Vec<String> {
        let told = |step: &Happening| crate::world::in_words(step.replica, &step.messages, config);
        self.steps.iter().map(told).collect()
    }
}
