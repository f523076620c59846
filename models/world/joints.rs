//! Combinations of local states, with what each has sent.

use super::agents::{Agent, AgentId};
use super::config::MAX_REPLICAS;
use super::resent::questions;
use super::tables::{Input, Local, LocalId, MessageId};
use super::{State, World};
use crate::crypto::Symbolic;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::crypto::Signed;
use pbft::message::{Message, NewView};
use pbft::replica::Event;
use pbft::replica::verify::verify;
use pbft::types::{Principal, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// The local states of the correct replicas, by their positions; the rest is the first.
pub type JointLocals = [LocalId; MAX_REPLICAS];

/// The agents of the correct replicas, by their positions; the rest is the first.
pub type JointAgents = [AgentId; MAX_REPLICAS];

type SignedNewView = Signed<NewView<Symbolic>, Symbolic>;

/// Those that occur, each with its distance from the start: the nearest first, and then by the names of the agents.
pub type Joints = IndexMap<JointAgents, usize, FixedState>;

/// What correct replicas send when they are asked, by STATUS, FETCH and their status timers: batches, states
/// and proofs that nobody need have sent before among it.
pub struct Asked {
    /// For each position.
    questions: Vec<Vec<Event<Symbolic>>>,
    answers: IndexMap<(usize, LocalId), Vec<MessageId>, FixedState>,
}

impl Asked {
    /// Nothing has been asked yet in this world, which has been explored.
    pub fn new(world: &World) -> Self {
        let questions = world.correct.iter().map(|&replica| questions(world, replica)).collect();
        Asked { questions, answers: IndexMap::default() }
    }

    fn answers(&mut self, world: &mut World, position: usize, local: LocalId) -> &[MessageId] {
        let questions = &self.questions[position];
        self.answers.entry((position, local)).or_insert_with(|| {
            let replica = world.correct[position];
            let answer = |question: &Event<Symbolic>| {
                let effects = world.tables.try_step(replica, local, question.clone());
                effects.sends().map(|(_, message)| message.clone()).collect::<Vec<_>>()
            };
            let answers: BTreeSet<_> = questions.iter().flat_map(answer).collect();
            let of_world = |message: &Message<Symbolic>| {
                !matches!(message, Message::Status(_) | Message::Fetch(_)) && !world.tables.is_beyond(message)
            };
            let answers: Vec<_> = answers.into_iter().filter(of_world).collect();
            answers.into_iter().map(|message| world.tables.add_message(message)).collect()
        })
    }
}

impl World {
    /// The same world, in which combinations of local states are recorded as its states are visited, and from
    /// whose local states replicas can be restarted.
    #[must_use]
    pub fn recording_joints(mut self) -> Self {
        let config = self.config().clone();
        self.tables.allow_crashes(&config);
        self.joints = Some(Mutex::default());
        self
    }

    /// The combinations of the states visited so far; recording ends.
    pub fn take_joints(&mut self) -> Joints {
        let joints = self.joints.take().unwrap_or_default();
        let mut joints = joints.into_inner().expect("nobody panics while recording");
        // Threads note them in any order.
        joints.sort_unstable_by(|one, depth, other, other_depth| (depth, one).cmp(&(other_depth, other)));
        joints
    }

    pub(super) fn note_joint(&self, depth: usize, state: &State) {
        let Some(joints) = &self.joints else { return };
        let mut joints = joints.lock().expect("nobody panics while recording");
        joints.entry(self.joint_agents(state)).or_insert(depth);
    }

    /// The agents of the correct replicas in a state.
    pub(crate) fn joint_agents(&self, state: &State) -> JointAgents {
        let mut agents = [0; MAX_REPLICAS];
        for (position, &agent) in state.iter().enumerate().take(self.correct.len()) {
            agents[position] = agent;
        }
        agents
    }

    /// The local states of a combination.
    pub fn locals(&self, joint: &JointAgents) -> JointLocals {
        let mut locals = [LocalId::new(0); MAX_REPLICAS];
        for (position, &agent) in joint.iter().enumerate().take(self.correct.len()) {
            locals[position] = self.agents[position].agent(agent).local;
        }
        locals
    }

    /// Every message that can reach a replica in a state with these agents, in the order of contents.
    pub fn available_to(&mut self, joint: &JointAgents) -> Vec<MessageId> {
        let correct = self.correct.len();
        let mut all = self.all_available(&joint[..correct]);
        all.sort_by(|&one, &other| self.tables.message(one).cmp(self.tables.message(other)));
        all
    }

    /// Where the correct replicas can go by what they have sent themselves, what they send when they are
    /// asked, and the clients' requests, without crashes.
    pub fn unhelped(&mut self, joint: &JointAgents, asked: &mut Asked) -> Vec<JointAgents> {
        let correct = self.correct.len();
        let mut sent: BTreeSet<MessageId> = self.network.given().iter().copied().collect();
        for (position, &agent) in joint.iter().enumerate().take(correct) {
            let Agent { local, sent: by_itself, .. } = self.agents[position].agent(agent).clone();
            sent.extend(by_itself.iter());
            sent.extend(asked.answers(self, position, local));
        }
        let mut next = Vec::new();
        for position in 0..correct {
            let agent = self.agents[position].agent(joint[position]).clone();
            let heeds = self.agents[position].facts(joint[position]).heeds.clone();
            for number in heeds.iter().map(|&number| usize::from(number)) {
                if number == self.crashes() {
                    continue;
                }
                let available = match self.network.subjects().get(number).copied() {
                    Some(subject) => self.network.name_list(&self.tables, subject, &sent),
                    None => 0,
                };
                for step in self.moves(position, agent.local, number, available).iter() {
                    let mut joint = *joint;
                    if step.crash.is_none() {
                        joint[position] = self.after(position, joint[position], step);
                        next.push(joint);
                    }
                }
            }
        }
        next.retain(|next| next != joint);
        next
    }

    /// A NEW-VIEW by which a replica in this state can have entered its view: one with the `O` that it has
    /// reported. None in view 0.
    pub fn entered_by(&self, replica: ReplicaId, local: &Local) -> Option<Arc<SignedNewView>> {
        let view = local.replica.view();
        let entry = local.history.entries().filter(|entry| entry.view == view).last()?;
        let setup = self.tables.setup(replica);
        let found = self.tables.all_messages().find_map(|id| match self.tables.message(id) {
            Message::NewView(m) if m.content.view == view => {
                let proposals = m.content.pre_prepares.iter().map(|entry| entry.content);
                let above = proposals.filter(|proposal| proposal.n > entry.h);
                let carried: BTreeMap<_, _> = above.map(|proposal| (proposal.n, proposal.digest)).collect();
                let is_valid = carried == entry.carried && verify(setup, Message::NewView(m.clone())).is_ok();
                is_valid.then(|| m.clone())
            }
            _ => None,
        });
        Some(found.expect("a view is entered by a NEW-VIEW of the world"))
    }

    /// What the replica at this position is after a restart, whole.
    pub fn restarted(&mut self, position: usize, local: LocalId) -> LocalId {
        self.tables.step(Principal::Replica(self.correct[position]), local, Input::Crash).to
    }

    /// Why a restart was refused, if one was.
    pub fn take_refusal(&mut self) -> Option<String> {
        self.tables.take_refusal()
    }

    /// From now on a state with the agents of one of these counts as one that violates something, and no
    /// other does.
    pub fn look_for(&mut self, joints: impl IntoIterator<Item = JointAgents>) {
        self.looked_for = Some(joints.into_iter().collect());
    }

    /// Whether a state is one of those looked for; none if none is.
    pub(super) fn is_looked_for(&self, state: &State) -> Option<bool> {
        self.looked_for.as_ref().map(|wanted| wanted.contains(&self.joint_agents(state)))
    }
}
