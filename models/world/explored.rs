//! The world as a space of small states for the engine: one word for each correct replica, its agent; then,
//! if clients are part of the world, one for each client.

use super::agents::{Agent, AgentId, AgentInfo, Agents};
use super::config::{Clients, MAX_REPLICAS, WorldConfig};
use super::crashes::RESTARTING;
use super::judge::Judge;
use super::network::{Network, SubjectNumber, reply_subjects, request_subjects, subjects};
use super::rehearsed::Rehearsals;
use super::tables::{Input, LocalId, MessageId, Step, Tables};
use super::taking::one_by_one;
use crate::adversary::{Adversary, Bounds};
use crate::lazy::{self, Conditions, Watch};
use crate::mutants::Rulebook;
use crate::problem::Problem;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::message::Message;
use pbft::replica::Subject;
use pbft::types::{ClientId, Principal, ReplicaId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The agents of a state.
pub type State = [AgentId];

/// What each node has sent, by its name ([`AgentInfo::sent`]).
pub(crate) type Sent = [u32; MAX_REPLICAS];

/// How deliveries are explored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// Each by itself.
    One,
    /// When it completes something: see [`crate::lazy`].
    Lazy,
}

/// One step of a replica or client in a world: the deliveries, none for a time-out and for a crash between
/// steps, and what comes of them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Move {
    /// The messages delivered, the last of which makes something happen.
    pub path: Vec<MessageId>,
    /// If it ends in a crash, after how many effects of the last delivery, or of the
    /// time-out; 0 between steps.
    pub crash: Option<u8>,
    /// The local state after it.
    pub to: LocalId,
    /// What it sends, ascending.
    pub sends: Arc<[MessageId]>,
}

/// The position of a replica, its local state, a subject, and what is available about it.
type Occasion = (usize, LocalId, SubjectNumber, u32);

/// The world.
pub struct World {
    config: WorldConfig,
    held_to_contract: bool,
    pub(crate) correct: Vec<ReplicaId>,
    /// The correct replicas, and the clients that are part of the world.
    pub(super) nodes: Vec<Principal>,
    pub(crate) delivery: Delivery,
    pub(crate) tables: Tables,
    pub(crate) network: Network,
    pub(crate) agents: Vec<Agents>,
    pub(crate) judge: Judge,
    /// The requests that can be heard of from the start: the clients', and those that the adversary makes up.
    requests: Vec<MessageId>,
    pub(super) moves: IndexMap<Occasion, Arc<Vec<Move>>, FixedState>,
    cut_time_outs: u64,
    /// If what is only passed through is forgotten: how many local states were kept when it was.
    pub(super) kept: Option<usize>,
    pub(super) rehearsals: Rehearsals,
    pub(crate) stops_at_violations: bool,
    pub(super) listed_backwards: bool,
    /// Whether a step that only sends something comes before all others: what is on the network more allows
    /// no less, so whatever can happen can happen after it.
    pub(super) adds_first: bool,
    pub(super) behaviours: Option<super::behaviours::Met>,
    pub(super) joints: Option<std::sync::Mutex<super::joints::Joints>>,
    pub(super) share: super::Share,
    pub(super) looked_for: Option<BTreeSet<super::joints::JointAgents>>,
}

impl World {
    /// The world with these bounds.
    ///
    /// # Errors
    /// If they make no sense ([`WorldConfig::problem`]).
    pub fn new(config: WorldConfig, delivery: Delivery) -> Result<Self, Problem> {
        if let Some(problem) = config.problem() {
            return Err(problem.into());
        }
        let (setups, requests, correct) = (config.setups(), config.all_signed(), config.correct());
        let own = |replica: &ReplicaId| setups[usize::from(replica.0)].clone();
        let bounds =
            Bounds { max_view: config.max_view, max_seq: config.max_seq, max_batch: config.max_batch };
        let byzantine = config.byzantine.iter().map(own).collect();
        let judges: Vec<_> = correct.iter().map(own).collect();
        let mut adversary = Adversary::new(byzantine, &judges, &requests, bounds);
        let from_the_start = match config.application {
            Some(_) => config.signed_by_rogue(),
            None => requests.clone(),
        };
        adversary.knows_when_sent(requests.iter().filter(|m| !from_the_start.contains(m)).cloned());
        let interval = config.parameters().checkpoint_interval;
        let mut subjects = subjects(config.max_view, config.max_seq, interval);
        subjects.extend(request_subjects(&config));
        let mut nodes: Vec<Principal> = correct.iter().copied().map(Principal::Replica).collect();
        if config.clients == Clients::Actors {
            subjects.extend(reply_subjects(&config));
            nodes.extend((0..config.requests).map(|client| Principal::Client(ClientId(client))));
        }
        // The adversary may speak of what no correct replica speaks of.
        for message in adversary.derive(&[]) {
            let more = Subject::of(&message);
            subjects.extend(more.filter(|subject| !subjects.contains(subject)));
        }
        let mut tables = Tables::new(&config, delivery == Delivery::Lazy);
        let given: Vec<MessageId> = match (config.clients, &config.application) {
            (Clients::Actors, None) => Vec::new(),
            _ => from_the_start.into_iter().map(|m| tables.add_message(Message::Request(m))).collect(),
        };
        let made_up = adversary.derive(&[]).into_iter().filter(|m| matches!(m, Message::Request(_)));
        let made_up: Vec<MessageId> = made_up.map(|m| tables.add_message(m)).collect();
        Ok(World {
            requests: given.iter().copied().chain(made_up).collect(),
            judge: Judge::new(&config, nodes.len()),
            tables,
            network: Network::new(subjects, adversary, given),
            agents: nodes.iter().map(|_| Agents::default()).collect(),
            nodes,
            moves: IndexMap::default(),
            cut_time_outs: 0,
            kept: None,
            rehearsals: Rehearsals::default(),
            stops_at_violations: true,
            listed_backwards: false,
            adds_first: delivery == Delivery::Lazy && config.application.is_some(),
            behaviours: None,
            joints: None,
            looked_for: None,
            share: super::Share::default(),
            delivery,
            correct,
            config,
            held_to_contract: false,
        })
    }

    /// The same world, explored to its end even if something is violated on the way: [`World::violations`]
    /// says how often.
    #[must_use]
    pub fn past_violations(self) -> Self {
        World { stops_at_violations: false, ..self }
    }

    /// The same world, whose local systems are held to the [contract](pbft_properties::contract) though its rules are not
    /// the protocol's.
    #[must_use]
    pub fn held_to_contract(self) -> Self {
        World { held_to_contract: true, ..self }
    }

    /// Whether steps are held to the contract: a mutant keeps it only by chance.
    pub(crate) fn is_held_to_contract(&self) -> bool {
        self.held_to_contract || self.config.rules == Rulebook::default()
    }

    /// The same world, judged by this property alone: what violates others is explored like anything else.
    #[must_use]
    pub fn judged_by(mut self, property: &'static str) -> Self {
        self.judge.judge_only(property);
        self
    }

    /// The same world, in which everything that can happen is listed the other way round.
    #[must_use]
    pub fn listed_backwards(self) -> Self {
        World { listed_backwards: true, ..self }
    }

    /// The bounds.
    pub fn config(&self) -> &WorldConfig {
        &self.config
    }

    /// How deliveries are explored.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The tables of local states and messages.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What can be delivered.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The agents that the node at this position can be.
    pub fn agents(&self, position: usize) -> &Agents {
        &self.agents[position]
    }

    /// The correct replicas, in the order of their positions.
    pub fn correct(&self) -> &[ReplicaId] {
        &self.correct
    }

    /// The correct replicas, and then the clients that are part of the world, in the order of their
    /// positions.
    pub fn nodes(&self) -> &[Principal] {
        &self.nodes
    }

    /// How many steps the bounds kept from happening or left incomplete: time-outs that would lead beyond the
    /// highest view, and steps that send something about a sequence number beyond the highest. Each counts once, or
    /// once more if it was forgotten.
    pub fn cut_by_bound(&self) -> u64 {
        self.cut_time_outs + self.tables.cut_sends()
    }

    /// The number that stands for time-outs among subjects.
    pub(crate) fn time_outs(&self) -> SubjectNumber {
        self.network.subjects().len()
    }

    /// The number that stands for crashes between steps among subjects.
    pub(crate) fn crashes(&self) -> SubjectNumber {
        self.network.subjects().len() + 1
    }

    /// What is available about a subject in a state; works it out if need be.
    pub(crate) fn available(&mut self, state: &State, number: SubjectNumber) -> u32 {
        if number >= self.time_outs() {
            return 0;
        }
        if let Some(known) = self.network.available(number, &self.parts(state)) {
            return known;
        }
        let mut all = vec![[0; MAX_REPLICAS]; self.network.parts_of_each()];
        for (number, parts) in all.iter_mut().enumerate() {
            *parts = self.parts(state)(number);
        }
        self.network.work_out(&mut self.tables, number, &|number| all[number])
    }

    /// Every message that can reach a replica in this state.
    pub fn all_available(&mut self, state: &State) -> Vec<MessageId> {
        let numbers = 0..self.time_outs();
        let available: Vec<_> = numbers.map(|number| self.available(state, number)).collect();
        available.into_iter().flat_map(|id| self.network.list(id).to_vec()).collect()
    }

    /// Names the agent at `position` with this local state, that has sent this and crashed so often.
    pub(crate) fn agent(&mut self, position: usize, agent: Agent) -> AgentId {
        let local = agent.local;
        if let Some(known) = self.agents[position].find(&agent) {
            return known;
        }
        let history = match self.nodes[position] {
            Principal::Replica(_) => self.judge.name(&self.tables.local(local).history),
            Principal::Client(_) => {
                let history = self.tables.client_history(local, &agent.sent);
                self.judge.name_client(history)
            }
        };
        let parts = self.network.split(&self.tables, &agent.sent);
        let heeds = match self.nodes[position] {
            Principal::Replica(replica) => self.heeds(replica, local, agent.crashes),
            Principal::Client(_) => self.heeded_by_client(&self.tables, self.nodes[position], local),
        };
        let heeds = heeds.into_iter().map(|number| u16::try_from(number).expect("a world has few subjects"));
        let heeds = heeds.collect();
        let behaviour = self.agents[position].name_behaviour(history, &agent.sent);
        let sent = self.agents[position].name_parts(&parts);
        self.agents[position].add(agent, AgentInfo { history, behaviour, heeds, sent })
    }

    fn heeds(&mut self, replica: ReplicaId, local: LocalId, crashes: u8) -> Vec<SubjectNumber> {
        let mut numbers = match self.delivery {
            Delivery::One => self.everything_and_time_outs(local),
            Delivery::Lazy => self.lazily_heeded(&self.tables, replica, local),
        };
        if self.config.max_view.0 > 0 && numbers.last() != Some(&self.time_outs()) {
            self.cut_time_outs += 1;
        }
        if self.can_crash(crashes) {
            numbers.push(self.crashes());
        }
        numbers
    }

    /// Whether a replica that has crashed so often may crash.
    pub(crate) fn can_crash(&self, crashes: u8) -> bool {
        self.config.crashes.is_some_and(|all| all.at_most.is_none_or(|most| crashes < most))
    }

    /// Without a reduction nothing is filtered.
    fn everything_and_time_outs(&self, local: LocalId) -> Vec<SubjectNumber> {
        let time_out = self.can_time_out(&self.tables, local).then(|| self.time_outs());
        (0..self.time_outs()).chain(time_out).collect()
    }

    /// The subjects whose messages lazy delivery delivers in a normal form, and time-outs.
    pub(crate) fn lazily_heeded(
        &self,
        tables: &Tables,
        replica: ReplicaId,
        local: LocalId,
    ) -> Vec<SubjectNumber> {
        let setup = tables.setup(replica);
        let state = &tables.local(local).replica;
        let heeds = |subject: Subject| match subject {
            // Until it collects them for its own NEW-VIEW, all they can do is make it join: see `lazy`.
            Subject::ViewChange(view) => state.assembles_new_view(setup, view),
            _ => state.heeds(setup, subject),
        };
        let subjects = self.network.subjects().iter().enumerate();
        let heeded = subjects.filter(|&(_, &subject)| heeds(subject)).map(|(number, _)| number);
        heeded.chain(self.can_time_out(tables, local).then(|| self.time_outs())).collect()
    }

    fn can_time_out(&self, tables: &Tables, local: LocalId) -> bool {
        let state = &tables.local(local).replica;
        state.leaving().unwrap_or(state.view()) < self.config.max_view
    }

    /// The subjects whose messages a client heeds in this state, what can happen to it by itself, and giving up.
    pub(crate) fn heeded_by_client(
        &self,
        tables: &Tables,
        node: Principal,
        local: LocalId,
    ) -> Vec<SubjectNumber> {
        let subjects = self.network.subjects().iter().enumerate();
        let heeded = subjects.filter(|&(_, &subject)| tables.heeds(node, local, subject));
        let mut numbers: Vec<_> = heeded.map(|(number, _)| number).collect();
        let Principal::Client(client) = node else { return numbers };
        if tables.client_goes_on(client, local) {
            numbers.push(self.time_outs());
        }
        if tables.client_gives_up(local) {
            numbers.push(self.crashes());
        }
        numbers
    }

    /// What can happen to the node at `position` by what is available about a subject.
    pub(crate) fn inputs(&self, position: usize, number: SubjectNumber, available: u32) -> Vec<Input> {
        if number == self.time_outs() {
            return vec![Input::TimeOut];
        }
        if number == self.crashes() {
            return vec![Input::Crash];
        }
        let node = self.nodes[position];
        let reaching = self.network.list(available).iter().filter(|&&id| self.tables.reaches(id, node));
        let mut inputs: Vec<Input> = reaching.copied().map(Input::Message).collect();
        if self.listed_backwards {
            inputs.reverse();
        }
        inputs
    }

    /// What the node at `position` can do in `local` with what is available about a subject.
    pub(crate) fn moves(
        &mut self,
        position: usize,
        local: LocalId,
        number: SubjectNumber,
        available: u32,
    ) -> Arc<Vec<Move>> {
        if let Some(known) = self.moves.get(&(position, local, number, available)) {
            return known.clone();
        }
        let node = self.nodes[position];
        let inputs = self.inputs(position, number, available);
        let subject = self.network.subjects().get(number).copied();
        let moves = match self.delivery {
            Delivery::One => one_by_one(&mut self.tables, node, local, &inputs),
            Delivery::Lazy => {
                let inputs = self.with_requests(&self.tables, node, local, subject, inputs);
                let of = (position, local, number);
                self.tables.rehearsal = self.rehearsals.lend(of);
                let moves = lazy::moves(&mut self.tables, node, local, subject, &inputs);
                self.rehearsals.give_back(of, self.tables.rehearsal.take());
                moves
            }
        };
        let moves = Arc::new(moves);
        self.moves.insert((position, local, number, available), moves.clone());
        moves
    }

    /// The messages about a subject, and, where a batch holds several requests, the requests that a replica
    /// can have heard of before: those that wait together are proposed together, by whatever lets a primary
    /// propose.
    pub(crate) fn with_requests(
        &self,
        tables: &Tables,
        node: Principal,
        local: LocalId,
        subject: Option<Subject>,
        mut inputs: Vec<Input>,
    ) -> Vec<Input> {
        let Principal::Replica(id) = node else { return inputs };
        if self.config.max_batch == 1 || subject.is_none() {
            return inputs;
        }
        let replica = &tables.local(local).replica;
        let proposes = self.config.cluster.primary(replica.leaving().unwrap_or(replica.view())) == id;
        if proposes {
            let requests = self.requests.iter().copied().map(Input::Message);
            let more: Vec<_> = requests.filter(|request| !inputs.contains(request)).collect();
            inputs.extend(more);
        }
        inputs
    }

    /// For each local state at a position and each subject, what was available when it moved.
    pub(crate) fn occasions(
        &self,
        position: usize,
    ) -> impl Iterator<Item = (LocalId, SubjectNumber, u32)> + '_ {
        let here = self.moves.keys().filter(move |&&(at, ..)| at == position);
        here.map(|&(_, local, number, available)| (local, number, available))
    }

    /// What an agent can do with what is available about a subject.
    pub(crate) fn moves_of(
        &mut self,
        position: usize,
        agent: AgentId,
        number: SubjectNumber,
        available: u32,
    ) -> Vec<Move> {
        let local = self.agents[position].agent(agent).local;
        self.moves(position, local, number, available).to_vec()
    }

    /// Checks the conditions of the reduction on everything explored so far, or until `watch` says why to
    /// stop. Without a reduction those are *resending*, *binding* and *carried* alone.
    /// Of a world that is shared among processes, this one's share: [`World::set_share`].
    pub fn check_conditions(&mut self, watch: &mut Watch<'_>) -> Conditions {
        let before = self.restarts_told_elsewhere();
        let mut conditions = match self.delivery {
            Delivery::One => self.check_resending(watch),
            Delivery::Lazy => lazy::check(self, watch),
        };
        if !self.has_judged_steps(&conditions) {
            self.hold_all_steps(&mut conditions, watch);
        }
        self.add_if_first(&mut conditions, || self.check_binding());
        self.add_if_first(&mut conditions, || self.check_carried());
        if self.config.crashes.is_some() {
            let refused = self.tables.take_refusal();
            let (checked, failed) = (self.tables.restarts() - before, u64::from(refused.is_some()));
            conditions.add_counted(RESTARTING, checked, failed, refused);
        }
        conditions
    }

    /// The state in which a node starts, whole, and what it has sent by then.
    pub(crate) fn first_step(&mut self, position: usize) -> Step {
        match self.nodes[position] {
            Principal::Replica(replica) => self.tables.start(replica),
            Principal::Client(client) => self.tables.start_client(client),
        }
    }

    pub(super) fn start(&mut self, position: usize) -> AgentId {
        let mut at = self.first_step(position);
        if self.delivery == Delivery::Lazy {
            at.to = self.tables.bare(self.nodes[position], at.to).normal;
        }
        self.agent(position, Agent { local: at.to, sent: at.sends, crashes: 0 })
    }
}
