//! Layered exploration: rounds one after the other.
//!
//! A view has rounds: timers fire, VIEW-CHANGEs are collected, the primary hears of requests, NEW-VIEW and
//! PRE-PREPAREs arrive, PREPAREs arrive, COMMITs arrive. What a replica sends in a round arrives in a later
//! one, and an event of an earlier round after one of a later round does nothing, or the two commute. So
//! every execution can be rearranged, without changing what is sent, reported or reached, so that each round
//! is over everywhere before the next begins. A step of this exploration is a whole round: every correct
//! replica, independently of the others, takes any of the macro steps of [`crate::lazy`] that the round has
//! for it, one after the other, or none.
//!
//! What makes it small is what can be forgotten when a round is over:
//! - *Cut* ([`forms`]): messages that arrive in rounds that are over, the log of a view that is over. What
//!   the adversary can prove, and what has been committed by whom in which view, become one word each of the
//!   state.
//! - *Stand in*: of two things that a replica can do in a round, one may be able to stand in for the other,
//!   whatever happens later: more is sent, more is reported, and every later event leads to a state that can
//!   stand in again. Then the other is left out. So every replica leaves for each view, say: it can enter the
//!   view all the same, and nothing makes use of its not having left.
//!
//! All of this is checked on the real code ([`conditions`]), in every run. Worlds with checkpoints have no
//! rounds.
//!
//! With whole histories ([`Layered::new`], `whole_histories`) nothing stands in for anything and histories
//! are never cut, so that what each replica can have done can be compared with other explorations.
//!
//! A violation is shown as an execution of whole replicas ([`Layered::unroll`]), without the macro steps that
//! are not needed for it; there may be a shorter one. A violation that no such execution shows is no verdict.

mod conditions;
pub mod forms;
mod held;
mod rounds;
mod unroll;

pub use rounds::{Phase, Round};

use crate::engine::{Judgement, Space, Successors, Unlearnt};
use crate::lazy::{Conditions, Watch};
use crate::problem::Problem;
use crate::world::{
    AgentId, ClientHistory, Clients, Delivery, Joint, KnowledgeId, NOTHING, Parts, Share, Witnesses, World,
    WorldConfig,
};
use foldhash::fast::FixedState;
use forms::{Decided, Forms, merged};
use indexmap::{IndexMap, IndexSet};
use pbft::replica::Subject;
use pbft::types::View;
use pbft_properties::{History, Violation};
use rounds::{round_of, rounds};
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names what has been committed.
type DecidedId = u32;

/// What is available about each subject of a round.
type Offer = SmallVec<[u32; 8]>;

/// One thing that a replica can do in a round: the agent after it, cut down, and what it has committed.
type Choice = (AgentId, DecidedId);

/// Where one agent goes: position, agent, round, and what it is offered.
type Occasion = (usize, AgentId, usize, Offer);

/// A world explored round by round.
pub struct Layered {
    world: World,
    forms: Forms,
    rounds: Vec<Round>,
    /// The subjects of each round, batches among those of its proposals.
    subjects: Vec<Vec<usize>>,
    choices: IndexMap<Occasion, Arc<Vec<Choice>>, FixedState>,
    decided: IndexSet<Decided, FixedState>,
    merges: IndexMap<(DecidedId, DecidedId), DecidedId, FixedState>,
    judged: IndexMap<(Joint, DecidedId), Result<Witnesses, Violation>, FixedState>,
    duties: conditions::Duties,
}

impl Layered {
    /// The world with these bounds.
    ///
    /// # Errors
    /// If the bounds make no sense, or have checkpoints.
    pub fn new(config: WorldConfig, whole_histories: bool) -> Result<Self, Problem> {
        let max_view = config.max_view;
        if (1..=config.max_seq.0).any(|n| n % config.parameters().checkpoint_interval == 0) {
            return Err(
                "worlds with checkpoints have no rounds: use --explore lazy, or no checkpoints".into()
            );
        }
        if config.crashes.is_some() {
            return Err("worlds with crashes have no rounds: use --explore lazy, or no --crashes".into());
        }
        if config.clients == Clients::Actors {
            return Err("worlds with client actors have no rounds: use --explore lazy".into());
        }
        let world = World::new(config, Delivery::Lazy)?;
        let rounds = rounds(max_view);
        let about = |round: &Round| {
            let is_of = |subject: &Subject| match subject {
                Subject::Batch => round.phase == Phase::Propose,
                Subject::Request(..) => round.phase == Phase::Order,
                _ => round_of(*subject) == Some(*round),
            };
            let numbered = world.network.subjects().iter().enumerate();
            numbered.filter(|(_, subject)| is_of(subject)).map(|(number, _)| number).collect()
        };
        Ok(Layered {
            subjects: rounds.iter().map(about).collect(),
            forms: Forms { max_view, whole_histories },
            rounds,
            world,
            choices: IndexMap::default(),
            decided: IndexSet::from_iter([Decided::new()]),
            merges: IndexMap::default(),
            judged: IndexMap::default(),
            duties: conditions::Duties::default(),
        })
    }

    /// The same world, judged by this property alone: what violates others is explored like anything else.
    #[must_use]
    pub fn judged_by(self, property: &'static str) -> Self {
        Layered { world: self.world.judged_by(property), ..self }
    }

    /// The same world, whose steps are held to the [contract](pbft_properties::contract) though its rules are not the
    /// protocol's.
    #[must_use]
    pub fn held_to_contract(self) -> Self {
        Layered { world: self.world.held_to_contract(), ..self }
    }

    /// From now on only a share of the conditions is checked.
    pub fn set_share(&mut self, share: Share) {
        self.world.set_share(share);
    }

    /// The world itself.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Every combination of histories that occurs, as far as they are not cut.
    pub fn all_histories(&self) -> impl Iterator<Item = (Vec<&History>, Vec<&ClientHistory>)> {
        let joints: BTreeSet<Joint> = self.judged.keys().map(|&(joint, _)| joint).collect();
        joints.into_iter().map(|joint| self.world.joint_histories(joint))
    }

    /// What has been seen to happen.
    pub fn witnesses(&self) -> Witnesses {
        let mut all = Witnesses::default();
        self.judged.values().flatten().for_each(|&happened| all.add(happened));
        // Of what is committed in several views a state names the lowest only, but each was named by itself
        // first.
        self.decided.iter().flatten().for_each(|&(view, n, _)| all.add_commit(view, n));
        all
    }

    /// Checks the conditions of this exploration, and those of lazy delivery, on everything explored so far,
    /// or until `watch` says why to stop.
    pub fn check_conditions(&mut self, watch: &mut Watch<'_>) -> Conditions {
        conditions::check(self, watch)
    }

    fn split<'a>(&self, state: &'a [u32]) -> (&'a [AgentId], KnowledgeId, DecidedId) {
        let (agents, rest) = state.split_at(self.world.correct.len());
        (agents, rest[0], rest[1])
    }

    fn parts(&self, agents: &[AgentId]) -> impl Fn(usize) -> Parts + '_ {
        self.world.parts(agents)
    }

    /// Whether an agent heeds anything in this round, deliveries apart from time-outs.
    fn heeds(&self, position: usize, agent: AgentId, round: usize) -> bool {
        let heeds = &self.world.agents[position].facts(agent).heeds;
        self.subjects[round].iter().any(|&number| heeds.iter().any(|&heeded| usize::from(heeded) == number))
    }

    /// What the adversary knows when a round begins: the certificates of a view are put together once its
    /// PREPAREs have been sent, and of no use in the last view.
    fn learns(&self, round: usize) -> bool {
        self.rounds[round].phase == Phase::Prepare && self.rounds[round].view < self.forms.max_view
    }

    fn forgets(&self, round: usize) -> bool {
        self.rounds[round].phase == Phase::Propose && self.rounds[round].view == self.forms.max_view
    }

    /// Whether one choice may stand in for another that it goes on from: what is checked to be so afterwards.
    fn stands_in(&self, position: usize, round: usize) -> bool {
        let Round { view, phase } = self.rounds[round];
        let free = !self.forms.proposes_again(&self.world, position, self.rounds[round]);
        !self.forms.whole_histories
            && match phase {
                Phase::Leave => true,
                Phase::Order => false,
                Phase::Assemble | Phase::Propose | Phase::Commit => free,
                // Having prepared, a replica must say so in its VIEW-CHANGE.
                Phase::Prepare => view == self.forms.max_view,
            }
    }

    fn offer(&self, round: usize, agents: &[AgentId], known: KnowledgeId) -> Option<Offer> {
        let parts = self.parts(agents);
        let available = |&number: &usize| self.world.network.available_given(number, known, &parts);
        self.subjects[round].iter().map(available).collect()
    }

    fn learn_offer(&mut self, round: usize, agents: &[AgentId], known: KnowledgeId) -> Offer {
        let all: Vec<Parts> =
            (0..self.world.network.parts_of_each()).map(|n| self.parts(agents)(n)).collect();
        let World { network, tables, .. } = &mut self.world;
        let subjects = self.subjects[round].iter();
        subjects.map(|&number| network.work_out_given(tables, number, known, &|n| all[n])).collect()
    }

    fn name_decided(&mut self, decided: Decided) -> DecidedId {
        let index = match self.decided.get_index_of(&decided) {
            Some(known) => known,
            None => self.decided.insert_full(decided).0,
        };
        u32::try_from(index).expect("a table of more than 2^32 entries does not fit in memory")
    }

    fn merge(&mut self, one: DecidedId, other: DecidedId) -> DecidedId {
        if other == 0 || one == other {
            return one;
        }
        if let Some(&known) = self.merges.get(&(one, other)) {
            return known;
        }
        let of = |id: DecidedId| self.decided.get_index(id as usize).expect("what is named is known");
        let both = merged(of(one), of(other));
        let both = self.name_decided(both);
        self.merges.insert((one, other), both);
        both
    }

    fn known_merge(&self, one: DecidedId, other: DecidedId) -> Option<DecidedId> {
        if other == 0 || one == other { Some(one) } else { self.merges.get(&(one, other)).copied() }
    }

    /// The agents that the one at `position` can be at the end of a round, each with the choices that lead on
    /// from it; itself first.
    fn reached(
        &mut self,
        position: usize,
        agent: AgentId,
        round: usize,
        offer: &Offer,
    ) -> IndexMap<AgentId, Vec<AgentId>, FixedState> {
        let mut reached: IndexMap<AgentId, Vec<AgentId>, FixedState> = IndexMap::default();
        reached.insert(agent, Vec::new());
        let mut next = 0;
        while let Some((&from, _)) = reached.get_index(next) {
            let mut onward = Vec::new();
            for (number, available) in self.events(position, from, round, offer) {
                for step in self.world.moves_of(position, from, number, available) {
                    self.duties.step(&self.world, position, from, round, self.rounds[round], &step);
                    let to = self.world.after(position, from, &step);
                    if to != from && !onward.contains(&to) {
                        onward.push(to);
                    }
                }
            }
            for &to in &onward {
                reached.entry(to).or_default();
            }
            reached[next] = onward;
            next += 1;
        }
        reached
    }

    /// What can happen to an agent in a round: subjects, or time-outs, and what is available about them.
    fn events(&self, position: usize, agent: AgentId, round: usize, offer: &Offer) -> Vec<(usize, u32)> {
        let heeds = &self.world.agents[position].facts(agent).heeds;
        let heeded = |number: usize| heeds.iter().any(|&heeded| usize::from(heeded) == number);
        let offered = self.subjects[round].iter().copied().zip(offer.iter().copied());
        // Whoever is still in an earlier view heard of requests in the round of that one.
        let is_late =
            self.rounds[round].phase == Phase::Order && self.view(position, agent) != self.rounds[round].view;
        let mut events: Vec<_> = offered.filter(|&(number, _)| heeded(number) && !is_late).collect();
        let time_outs = self.world.time_outs();
        if heeded(time_outs)
            && self.rounds[round] == (Round { view: self.next_view(position, agent), phase: Phase::Leave })
        {
            events.push((time_outs, 0));
        }
        events
    }

    /// The view that an agent is in.
    fn view(&self, position: usize, agent: AgentId) -> View {
        let local = self.world.agents[position].agent(agent).local;
        self.world.tables.local(local).replica.view()
    }

    /// The view for which the timer of an agent makes it leave.
    fn next_view(&self, position: usize, agent: AgentId) -> View {
        let local = self.world.agents[position].agent(agent).local;
        let replica = &self.world.tables.local(local).replica;
        replica.leaving().unwrap_or(replica.view()).next()
    }

    fn learn_choices(&mut self, occasion: &Occasion) {
        if self.choices.contains_key(occasion) {
            return;
        }
        let (position, agent, round, offer) = occasion;
        let reached = self.reached(*position, *agent, *round, offer);
        let stands_in = self.stands_in(*position, *round);
        let mut choices: Vec<Choice> = Vec::new();
        for (&end, onward) in &reached {
            if stands_in && !onward.is_empty() {
                self.duties.left_out(*position, *round, end, &reached);
                continue;
            }
            let (cut, decided) = self.forms.cut(&mut self.world, *position, end, self.rounds[*round]);
            self.duties.cut(&self.world, *position, *round, end, cut);
            let choice = (cut, self.name_decided(decided));
            if !choices.contains(&choice) {
                choices.push(choice);
            }
        }
        self.choices.insert(occasion.clone(), Arc::new(choices));
    }

    /// What each agent is offered in a round: nothing if it heeds nothing then.
    fn occasions(&self, round: usize, agents: &[AgentId], offer: &Offer) -> SmallVec<[Occasion; 4]> {
        let occasion = |(position, &agent): (usize, &AgentId)| {
            let offer = if self.heeds(position, agent, round) { offer.clone() } else { Offer::new() };
            (position, agent, round, offer)
        };
        agents.iter().enumerate().map(occasion).collect()
    }

    fn is_offered(&self, round: usize, agents: &[AgentId]) -> bool {
        agents.iter().enumerate().any(|(position, &agent)| self.heeds(position, agent, round))
    }

    /// What the adversary knows in the round after the beginning of this one.
    fn knowledge_after(&self, round: usize, agents: &[AgentId], known: KnowledgeId) -> Option<KnowledgeId> {
        if self.forgets(round) {
            Some(NOTHING)
        } else if self.learns(round) {
            self.world.network.knowing(known, self.parts(agents)(self.world.network.evidence()))
        } else {
            Some(known)
        }
    }
}

impl Space for Layered {
    type Scratch = ();

    fn width(&self) -> usize {
        self.world.correct.len() + 2
    }

    fn is_layered(&self) -> bool {
        true
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        let mut states = self.world.initial();
        states.iter_mut().for_each(|state| state.extend([NOTHING, 0]));
        states
    }

    fn expand(
        &self,
        depth: usize,
        state: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        let (agents, known, decided) = self.split(state);
        let verdict = self.judged.get(&(self.world.joint(agents), decided)).ok_or(Unlearnt)?;
        let sound = verdict.is_ok() || !self.world.stops_at_violations;
        let judgement = if sound { Judgement::Sound } else { Judgement::Unsound };
        if depth == self.rounds.len() {
            return Ok(judgement);
        }
        let offer = if self.is_offered(depth, agents) {
            self.offer(depth, agents, known).ok_or(Unlearnt)?
        } else {
            Offer::new()
        };
        let known = self.knowledge_after(depth, agents, known).ok_or(Unlearnt)?;
        let mut lists: SmallVec<[&[Choice]; 8]> = SmallVec::new();
        for occasion in self.occasions(depth, agents, &offer) {
            lists.push(self.choices.get(&occasion).ok_or(Unlearnt)?);
        }
        let mut next: SmallVec<[u32; 10]> = SmallVec::from_slice(state);
        next[agents.len()] = known;
        self.product(&lists, 0, decided, &mut next, successors)?;
        Ok(judgement)
    }

    fn learn(&mut self, depth: usize, state: &[u32]) {
        let (agents, known, decided) = self.split(state);
        let joint = self.world.joint(agents);
        if !self.judged.contains_key(&(joint, decided)) {
            let facts = self.decided.get_index(decided as usize).expect("what is named is known");
            let verdict = self.world.judge.look_at(&joint, facts);
            self.judged.insert((joint, decided), verdict);
        }
        if depth == self.rounds.len() {
            return;
        }
        let offer = if self.is_offered(depth, agents) {
            self.learn_offer(depth, agents, known)
        } else {
            Offer::new()
        };
        if self.learns(depth) {
            let parts = self.parts(agents)(self.world.network.evidence());
            self.world.network.learn(&self.world.tables, known, parts);
        }
        let mut merged = IndexSet::<DecidedId, FixedState>::from_iter([decided]);
        for occasion in self.occasions(depth, agents, &offer) {
            self.learn_choices(&occasion);
            let added: Vec<DecidedId> = self.choices[&occasion].iter().map(|&(_, decided)| decided).collect();
            let before: Vec<DecidedId> = merged.iter().copied().collect();
            merged.clear();
            for one in before {
                for &other in &added {
                    merged.insert(self.merge(one, other));
                }
            }
        }
    }

    fn complaint(&self, state: &[u32]) -> String {
        let (agents, _, decided) = self.split(state);
        match self.judged.get(&(self.world.joint(agents), decided)) {
            Some(Err(violation)) => violation.to_string(),
            _ => String::new(),
        }
    }
}

impl Layered {
    /// Every combination of the replicas' choices.
    fn product(
        &self,
        lists: &[&[Choice]],
        position: usize,
        decided: DecidedId,
        next: &mut SmallVec<[u32; 10]>,
        successors: &mut Successors<'_>,
    ) -> Result<(), Unlearnt> {
        let Some(choices) = lists.get(position) else {
            next[position + 1] = decided;
            successors(next);
            return Ok(());
        };
        for &(agent, added) in *choices {
            next[position] = agent;
            let decided = self.known_merge(decided, added).ok_or(Unlearnt)?;
            self.product(lists, position + 1, decided, next, successors)?;
        }
        Ok(())
    }
}
