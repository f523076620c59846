//! Random walks of the unreduced world, held against an exhausted reduced one.
//!
//! Where delivery one by one cannot be exhausted, its random walks must still show nothing that a reduced
//! exploration has not shown: in every state of a walk, what the correct replicas have done must occur there,
//! at each of them and together. A walk that shows something else refutes the reduction, or the exploration;
//! that none does, in however many walks, is evidence and no proof. At its end every eighth walk compares
//! what the network offers with all that has been sent and all that the adversary makes of it, and with what
//! was offered before: more is never made into less. Walks move real replicas by themselves: of the
//! exploration they use the network and the adversary, and neither its states nor its moves. Every run of
//! `pbft check` takes some in each reduced world without clients that call, but, in the default suite, by layers.
//!
//! Walks choose a node, a subject that it heeds, and a message about it, each uniformly. How readily
//! time-outs are taken is drawn for each walk, or views would change before anything happens; and whether the
//! adversary sticks to a few digests, or votes would hardly ever match.

use crate::crypto::Symbolic;
use crate::engine::{Exploration, Limits, Outcome, Progress, Space, explore};
use crate::problem::Problem;
use crate::world::{
    ClientHistory, Clients, Delivery, Input, Joint, MAX_REPLICAS, MessageId, Tables, World, WorldConfig,
};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::crypto::Signed;
use pbft::message::{Batch, Message, PrePrepare, ViewChange};
use pbft::replica::{Subject, compute_o};
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use pbft_properties::History;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Local states after which the tables of the unreduced world are thrown away, to bound the memory.
const MAX_LOCALS: usize = 400_000;
/// Of this many walks one compares the network at its end with what was sent: the adversary makes everything
/// at once for that.
const COMPARE_EVERY: u64 = 8;
/// Walks between two calls of the progress report.
const REPORT_EVERY: u64 = 256;

/// A lazy world, and what walks held against it have shown.
#[derive(Clone, Debug)]
pub struct Projection {
    /// The exploration of the lazy world.
    pub lazy: Exploration,
    /// How many combinations of histories occur there.
    pub joints: usize,
    /// How many of them violate something.
    pub violations: usize,
    /// The walks; none unless the lazy world is exhausted.
    pub walks: Option<WalkReport>,
}

/// What walks have shown.
#[derive(Clone, Debug)]
pub struct WalkReport {
    /// The seed of all walks.
    pub seed: u64,
    /// The most steps of a walk.
    pub length: usize,
    /// Walks taken.
    pub walks: u64,
    /// Steps of all of them together.
    pub steps: u64,
    /// Walks that went on until nothing could happen any more.
    pub ended: u64,
    /// Walks at whose end the network was compared with what has been sent, unless they show something first.
    pub compared: u64,
    /// Distinct combinations of histories on the walks.
    pub joints: usize,
    /// Wall time of the walks.
    pub elapsed: Duration,
    /// The first walk that shows something that the exploration does not.
    pub missing: Option<Missing>,
}

/// A walk that shows something that the exploration does not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Missing {
    /// The number of the walk.
    pub walk: u64,
    /// What does not occur.
    pub what: String,
    /// The steps of the walk in words.
    pub steps: Vec<String>,
}

/// How far [`project`] is.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// The lazy world is being explored.
    Lazy(Progress),
    /// Walks are being taken.
    Walks(&'a WalkReport),
}

/// Explores the lazy world of `config` to its end, past violations, and holds walks of the unreduced one
/// against it. `progress` is called now and then, and false stops.
///
/// # Errors
/// If the bounds make no sense, or clients are part of the world.
pub fn project(
    config: &WorldConfig,
    walks: u64,
    seed: u64,
    limits: Limits,
    progress: &mut dyn FnMut(Stage<'_>) -> bool,
) -> Result<Projection, Problem> {
    let mut lazy = World::new(config.clone(), Delivery::Lazy)?.past_violations();
    let found = explore(&mut lazy, limits, &mut |now| progress(Stage::Lazy(now)));
    let shown = Shown::of(lazy.all_histories());
    let walks = match found.outcome {
        Outcome::Exhausted => {
            Some(hold_against(&shown, config, walks, seed, &mut |now| progress(Stage::Walks(now)))?)
        }
        _ => None,
    };
    Ok(Projection { lazy: found, joints: lazy.judge.joints().count(), violations: lazy.violations(), walks })
}

/// What correct replicas have done in an exhausted exploration.
#[derive(Default)]
pub struct Shown {
    /// The histories at each replica.
    histories: Vec<IndexSet<History, FixedState>>,
    /// Those that occur together, by their places there.
    joints: IndexSet<Joint, FixedState>,
}

impl Shown {
    /// What these combinations show.
    pub fn of<'a>(all: impl Iterator<Item = (Vec<&'a History>, Vec<&'a ClientHistory>)>) -> Self {
        let mut shown = Shown::default();
        for (replicas, _) in all {
            let mut joint = [0; MAX_REPLICAS];
            shown.histories.resize_with(replicas.len().max(shown.histories.len()), IndexSet::default);
            for (position, history) in replicas.into_iter().enumerate() {
                let known = &mut shown.histories[position];
                let place = known.get_index_of(history);
                let place = place.unwrap_or_else(|| known.insert_full(history.clone()).0);
                joint[position] = name(place);
            }
            shown.joints.insert(joint);
        }
        shown
    }

    fn find(&self, position: usize, history: &History) -> Option<u32> {
        self.histories.get(position)?.get_index_of(history).map(name)
    }
}

fn name(place: usize) -> u32 {
    u32::try_from(place).expect("a table of more than 2^32 entries does not fit in memory")
}

/// Takes `walks` walks of the unreduced world of `config`, or as many as `progress` allows: it is called now
/// and then, and false stops.
///
/// # Errors
/// If the bounds make no sense, or clients are part of the world.
pub fn hold_against(
    shown: &Shown,
    config: &WorldConfig,
    walks: u64,
    seed: u64,
    progress: &mut dyn FnMut(&WalkReport) -> bool,
) -> Result<WalkReport, Problem> {
    if config.clients == Clients::Actors {
        return Err("walks are compared by what replicas do, without clients in the world".into());
    }
    let began = Instant::now();
    let mut walker = Walker::new(config, shown)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut report = WalkReport {
        seed,
        length: length(config),
        walks: 0,
        steps: 0,
        ended: 0,
        compared: 0,
        joints: 0,
        elapsed: Duration::ZERO,
        missing: None,
    };
    while report.walks < walks && report.missing.is_none() {
        // Each walk has a stream of its own, so that it can be taken by itself.
        random.set_stream(report.walks);
        random.set_word_pos(0);
        walker.walk(&mut random, &mut report);
        report.walks += 1;
        report.joints = walker.seen.len();
        report.elapsed = began.elapsed();
        if walker.world.tables().sizes().0 > MAX_LOCALS {
            walker.restart(config)?;
        }
        if report.walks.is_multiple_of(REPORT_EVERY) && !progress(&report) {
            break;
        }
    }
    Ok(report)
}

/// Long enough for every replica to receive about everything in every view.
fn length(config: &WorldConfig) -> usize {
    let views = usize::try_from(config.max_view.0).unwrap_or(usize::MAX).saturating_add(1);
    let numbers = usize::try_from(config.max_seq.0).unwrap_or(usize::MAX);
    let in_a_view = config.correct().len() * config.cluster.n() * (1 + 2 * numbers);
    views.saturating_mul(in_a_view)
}

/// What is drawn once for each walk.
struct Mood {
    /// One time-out is taken in this number of chances for one.
    patience: u32,
    /// Digests that messages are preferably about; any, if none.
    liked: Option<Digest>,
}

struct Walker<'a> {
    world: World,
    start: Vec<u32>,
    shown: &'a Shown,
    /// The digests that clients' requests have.
    digests: Vec<Digest>,
    /// What is shown, by position and the names of the walks' world.
    names: IndexMap<(usize, u32), Option<u32>, FixedState>,
    /// Combinations, by the names of the walks' world, that have been found among those shown.
    found: IndexSet<Joint, FixedState>,
    /// The same by the names of what is shown.
    seen: IndexSet<Joint, FixedState>,
}

impl<'a> Walker<'a> {
    fn new(config: &WorldConfig, shown: &'a Shown) -> Result<Self, Problem> {
        let mut world = World::new(config.clone(), Delivery::One)?;
        let start = world.initial().swap_remove(0);
        let digest = |request| Batch { requests: vec![request] }.digest();
        Ok(Walker {
            world,
            start,
            shown,
            digests: config.signed_requests().into_iter().map(digest).collect(),
            names: IndexMap::default(),
            found: IndexSet::default(),
            seen: IndexSet::default(),
        })
    }

    /// Forgets all names.
    fn restart(&mut self, config: &WorldConfig) -> Result<(), Problem> {
        let seen = std::mem::take(&mut self.seen);
        *self = Walker { seen, ..Walker::new(config, self.shown)? };
        Ok(())
    }

    fn walk(&mut self, random: &mut ChaCha8Rng, report: &mut WalkReport) {
        let mut states = vec![self.start.clone()];
        let liked = random.random_bool(0.5) && !self.digests.is_empty();
        let liked = liked.then(|| self.digests[random.random_range(0..self.digests.len())]);
        let mood = Mood { patience: 1 << random.random_range(0..9), liked };
        loop {
            let state = states.last().expect("a walk has a start");
            if let Err(what) = self.project(state) {
                report.missing = Some(self.missing(report.walks, what, &states));
                return;
            }
            let state = state.clone();
            let next = if states.len() > report.length { None } else { self.step(&state, random, &mood) };
            let Some(next) = next else {
                report.ended += u64::from(states.len() <= report.length);
                if report.walks.is_multiple_of(COMPARE_EVERY) {
                    report.compared += 1;
                    let earlier = states[random.random_range(0..states.len())].clone();
                    let what = self.loses_nothing(&earlier, &state);
                    report.missing = what.err().map(|what| self.missing(report.walks, what, &states));
                }
                return;
            };
            report.steps += 1;
            states.push(next);
        }
    }

    fn missing(&mut self, walk: u64, what: String, states: &[Vec<u32>]) -> Missing {
        let steps = states.windows(2).map(|pair| self.world.describe(&pair[0], &pair[1]));
        Missing { walk, what, steps: steps.collect() }
    }

    /// Holds what the network offers in a state against all that has been sent and all that the adversary
    /// makes of it at once, and against what it has offered earlier: of less, no more.
    fn loses_nothing(&mut self, earlier: &[u32], state: &[u32]) -> Result<(), String> {
        let before = self.world.all_available(earlier);
        let offered = self.world.all_available(state);
        let mut all: BTreeSet<MessageId> = self.world.network.given().iter().copied().collect();
        for (position, &agent) in state.iter().enumerate() {
            all.extend(self.world.agents[position].agent(agent).sent.iter());
        }
        let made = {
            let sent: Vec<_> = all.iter().map(|&id| self.world.tables.message(id)).collect();
            self.world.network.adversary().derive(&sent)
        };
        all.extend(made.into_iter().map(|message| self.world.tables.add_message(message)));
        let says = |id: MessageId| says(&self.world.tables, id);
        let offered: BTreeSet<Said> = offered.into_iter().map(says).collect();
        let subjects = self.world.network.subjects();
        let is_of_world = |id: &MessageId| {
            Subject::of(self.world.tables.message(*id)).is_some_and(|subject| subjects.contains(&subject))
        };
        let lost = all.into_iter().chain(before).filter(is_of_world).find(|&id| !offered.contains(&says(id)));
        match lost {
            Some(id) => Err(format!("the network does not offer {:?}", self.world.tables.message(id))),
            None => Ok(()),
        }
    }

    /// Some state that is one step away.
    fn step(&mut self, state: &[u32], random: &mut ChaCha8Rng, mood: &Mood) -> Option<Vec<u32>> {
        let time_outs = self.world.time_outs();
        let mut chances: Vec<(usize, usize)> = Vec::new();
        for (position, &agent) in state.iter().enumerate() {
            let heeds = &self.world.agents[position].facts(agent).heeds;
            chances.extend(heeds.iter().map(|&number| (position, usize::from(number))));
        }
        let mut put_off = Vec::new();
        while let Some((position, number)) = draw(&mut chances, random).or_else(|| draw(&mut put_off, random))
        {
            if number >= time_outs && !chances.is_empty() && random.random_range(0..mood.patience) > 0 {
                put_off.push((position, number));
                continue;
            }
            let available = self.world.available(state, number);
            let mut inputs = self.world.inputs(position, number, available);
            while let Some(input) = self.draw_liked(&mut inputs, random, mood) {
                let input = self.cut_short(position, state[position], input, random);
                if let Some(agent) = self.world.agent_after(position, state[position], input) {
                    let mut next = state.to_vec();
                    next[position] = agent;
                    return Some(next);
                }
            }
        }
        None
    }

    /// Now and then the replica crashes in the middle of it.
    fn cut_short(&self, position: usize, agent: u32, input: Input, random: &mut ChaCha8Rng) -> Input {
        let Principal::Replica(replica) = self.world.nodes()[position] else { return input };
        let agent = self.world.agents[position].agent(agent);
        if !self.world.can_crash(agent.crashes) || random.random_range(0..8) > 0 {
            return input;
        }
        let mut inside = self.world.tables.crashes_during(replica, agent.local, input);
        draw(&mut inside, random).unwrap_or(input)
    }

    /// Draws a message, seven times of eight one about the digest that is liked.
    fn draw_liked(&self, inputs: &mut Vec<Input>, random: &mut ChaCha8Rng, mood: &Mood) -> Option<Input> {
        let is_liked = |input: &Input| match *input {
            Input::Message(id) => mood.liked.is_none_or(|liked| self.digest(id).is_none_or(|d| d == liked)),
            _ => true,
        };
        let liked: Vec<usize> = (0..inputs.len()).filter(|&place| is_liked(&inputs[place])).collect();
        if !liked.is_empty() && random.random_range(0..8) > 0 {
            return Some(inputs.swap_remove(liked[random.random_range(0..liked.len())]));
        }
        draw(inputs, random)
    }

    fn digest(&self, id: MessageId) -> Option<Digest> {
        match self.world.tables().message(id) {
            Message::PrePrepare(m, _) => Some(m.content.digest),
            Message::Prepare(m) => Some(m.content.digest),
            Message::Commit(m) => Some(m.content.digest),
            _ => None,
        }
    }

    /// Looks up what has been done by this state.
    fn project(&mut self, state: &[u32]) -> Result<(), String> {
        let joint = self.world.joint(state);
        if self.found.contains(&joint) {
            return Ok(());
        }
        let mut there = [0; MAX_REPLICAS];
        for (position, &name) in joint.iter().enumerate().take(state.len()) {
            let (shown, history) = (self.shown, self.world.judge.history(name));
            let known = self.names.entry((position, name)).or_insert_with(|| shown.find(position, history));
            there[position] = known.ok_or_else(|| {
                let replica = self.world.correct[position].0;
                format!("this history of replica {replica} does not occur: {history:?}")
            })?;
        }
        if !self.shown.joints.contains(&there) {
            return Err(format!("these histories do not occur together: {:?}", self.world.histories(state)));
        }
        self.found.insert(joint);
        self.seen.insert(there);
        Ok(())
    }
}

/// What a message says: the same of NEW-VIEWs that differ in `V` alone, and of certificates that differ in
/// votes alone.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum Said {
    /// The view, who signed it, min-s and `O`.
    NewView(View, Principal, Option<(SeqNo, Digest)>, Vec<Signed<PrePrepare, Symbolic>>),
    /// The view, in whose name it is, who signed it, min-s, and what its certificates claim: for what nobody
    /// has voted for yet the adversary makes certificates without votes, which a receiver without that rule
    /// takes as well.
    ViewChange(View, ReplicaId, Principal, Option<(SeqNo, Digest)>, Vec<(View, SeqNo, Digest)>),
    Other(MessageId),
}

fn says(tables: &Tables, id: MessageId) -> Said {
    match tables.message(id) {
        Message::NewView(m) => {
            let stable = compute_o(&m.content.view_changes, &tables.setup(ReplicaId(0)).rules).stable;
            let min_s = stable.map(|stable| (stable.n, stable.digest));
            Said::NewView(m.content.view, m.signer, min_s, m.content.pre_prepares.clone())
        }
        Message::ViewChange(m) => {
            let ViewChange { view, replica, stable, prepared, .. } = &m.content;
            let stable = stable.as_ref().map(|stable| (stable.n, stable.digest));
            let prepared = prepared.iter().map(|c| (c.view, c.n, c.digest)).collect();
            Said::ViewChange(*view, *replica, m.signer, stable, prepared)
        }
        _ => Said::Other(id),
    }
}

/// Removes and returns one of them.
fn draw<T>(from: &mut Vec<T>, random: &mut ChaCha8Rng) -> Option<T> {
    if from.is_empty() {
        return None;
    }
    let place = random.random_range(0..from.len());
    Some(from.swap_remove(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbft::types::Cluster;

    #[test]
    fn what_the_network_offered_it_offers_later_and_every_eighth_walk_compares() {
        let config = WorldConfig::new(Cluster::new(4, 1), 1);
        let mut lazy = World::new(config.clone(), Delivery::Lazy).unwrap();
        assert_eq!(explore(&mut lazy, Limits::default(), &mut |_| true).outcome, Outcome::Exhausted);
        let shown = Shown::of(lazy.all_histories());
        let report = hold_against(&shown, &config, 17, 0, &mut |_| true).unwrap();
        assert_eq!((report.missing, report.compared), (None, 3));
        let mut walker = Walker::new(&config, &shown).unwrap();
        let (mut random, mood) = (ChaCha8Rng::seed_from_u64(0), Mood { patience: 1, liked: None });
        let (start, mut state) = (walker.start.clone(), walker.start.clone());
        for _ in 0..5 {
            state = walker.step(&state, &mut random, &mood).expect("something can happen");
        }
        assert_eq!(walker.loses_nothing(&start, &state), Ok(()));
        let lost = walker.loses_nothing(&state, &start).unwrap_err();
        assert!(lost.contains("the network does not offer"), "{lost}");
    }
}
