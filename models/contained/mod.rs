//! What the real replicas of a world do is contained in the abstract protocol: each joint state is read as one of
//! [`pbft_properties::proof`], and each step of a real replica is a path of actions there.
//!
//! The exploration is the world's own; nothing is left out of it and nothing added. Of every joint state met
//! ([`seen`]): what each correct replica has sent, remembers and stores, as relations. Of every step ([`named`]): the
//! actions that its effects are, in their order. They are taken one after the other in the *global* finite structure,
//! from what the joint state before is read as: each must be enabled there for some evidence, and what comes of it must
//! be what the joint state after is read as. The first joint state is read as the initial state. So, by induction, to
//! each joint state of an exhausted world a state of the abstract protocol is reachable that looks the same: in
//! everything but ghosts, which no guard mentions, and evidence that may be lost (`allowed`, `carried`), which is had
//! again where it is needed.

mod named;
mod seen;

use crate::engine::{Judgement, Space, Successors, Unlearnt};
use crate::world::{AgentId, Recent, World};
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::types::{Digest, Principal, ReplicaId};
use pbft_properties::proof::explore::Bounds;
use pbft_properties::proof::{Protocol, Small, SmallState};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The actions that a step is: for each in turn the steps of the finite structure any of which it may be.
type Path = Result<Arc<[Act]>, String>;

/// An action, in words and as steps of the finite structure.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    name: String,
    words: String,
    steps: Vec<usize>,
}

/// A step of a replica: what it is, and the agent after it.
type Taken = (Path, AgentId);

/// A world, and whether what it does is contained.
pub struct Contained {
    world: World,
    small: Small,
    /// The digests of batches, by the numbers that they have in the finite structure.
    digests: Vec<Digest>,
    /// For each position and agent what is seen of it.
    seen: Vec<Vec<Option<Result<SmallState, String>>>>,
    taken: IndexMap<(usize, AgentId, u16, u32), Vec<Taken>, FixedState>,
    checked: AtomicU64,
}

impl Contained {
    /// The world, to be explored past violations of its own.
    ///
    /// # Panics
    /// If the world has crashes, checkpoints, client actors, batches of several requests, or several sequence numbers:
    /// it is not read.
    pub fn new(world: World) -> Self {
        let config = world.config();
        let is_read = config.crashes.is_none() && config.checkpoint_interval.is_none();
        assert!(is_read && config.max_seq.0 == 1 && config.max_batch == 1, "{} is not read", config.name());
        assert_eq!(config.clients, crate::world::Clients::Implicit, "{} is not read", config.name());
        let mut byzantine = config.byzantine.iter().map(|replica| usize::from(replica.0));
        let digests = seen::digests(config);
        let bounds = Bounds {
            n: config.cluster.n(),
            byzantine: byzantine.next(),
            views: usize::try_from(config.max_view.0).expect("a world has few views") + 1,
            batches: digests.len(),
            authentic: digests.len(),
            ..Bounds::four(0)
        };
        let small = Small::new(&Protocol::pbft(), &bounds);
        let seen = world.nodes().iter().map(|_| Vec::new()).collect();
        let world = world.past_violations();
        Contained { world, small, digests, seen, taken: IndexMap::default(), checked: AtomicU64::new(0) }
    }

    /// How many steps of joint states were found to be paths; those of states met twice by two threads count twice.
    pub fn checked(&self) -> u64 {
        self.checked.load(Ordering::Relaxed)
    }

    /// The actions that steps were found to be, each with how many steps of single replicas; where one is one of two,
    /// both by one name.
    pub fn actions(&self) -> BTreeMap<&str, usize> {
        let mut found = BTreeMap::new();
        let paths = self.taken.values().flatten().filter_map(|(path, _)| path.as_ref().ok());
        for act in paths.flat_map(|path| path.iter()) {
            *found.entry(act.name.as_str()).or_default() += 1;
        }
        found
    }

    fn replica(&self, position: usize) -> ReplicaId {
        match self.world.nodes()[position] {
            Principal::Replica(replica) => replica,
            Principal::Client(_) => unreachable!("a world with client actors is not read"),
        }
    }

    fn part(&self, position: usize, agent: AgentId) -> Result<&Result<SmallState, String>, Unlearnt> {
        self.seen[position].get(agent as usize).and_then(Option::as_ref).ok_or(Unlearnt)
    }

    /// What a joint state is read as.
    fn read(&self, state: &[u32]) -> Result<Result<SmallState, String>, Unlearnt> {
        let mut joint: SmallState = Default::default();
        for (position, &agent) in state.iter().enumerate() {
            match self.part(position, agent)? {
                Ok(part) => (0..joint.len()).for_each(|word| joint[word] |= part[word]),
                Err(what) => return Ok(Err(format!("no state reached: {what}"))),
            }
        }
        Ok(Ok(joint))
    }

    /// The first step from a state that is no path, in words; none if all are.
    fn leaves(&self, state: &[u32]) -> Result<Option<String>, Unlearnt> {
        let before = match self.read(state)? {
            Ok(before) => before,
            Err(what) => return Ok(Some(what)),
        };
        let mut after: Vec<u32> = state.to_vec();
        let parts = self.world.parts(state);
        for (position, &agent) in state.iter().enumerate() {
            for &number in &self.world.agents(position).facts(agent).heeds {
                let available = match usize::from(number) >= self.world.time_outs() {
                    true => 0,
                    false => self.world.network().available(usize::from(number), &parts).ok_or(Unlearnt)?,
                };
                let taken = self.taken.get(&(position, agent, number, available)).ok_or(Unlearnt)?;
                for (path, target) in taken {
                    after[position] = *target;
                    if let Some(what) = self.is_no_path(&before, path, &after)? {
                        return Ok(Some(format!("replica {}: {what}", self.replica(position).0)));
                    }
                    self.checked.fetch_add(1, Ordering::Relaxed);
                }
                after[position] = agent;
            }
        }
        Ok(None)
    }

    fn is_no_path(
        &self,
        before: &SmallState,
        path: &Path,
        after: &[u32],
    ) -> Result<Option<String>, Unlearnt> {
        let path = match path {
            Ok(path) => path,
            Err(what) => return Ok(Some(what.clone())),
        };
        let mut at = *before;
        for act in path.iter() {
            match self.small.after(&at, &act.steps) {
                Some(next) => at = next,
                None => return Ok(Some(format!("{} is not enabled", act.words))),
            }
        }
        Ok(match self.read(after)? {
            Ok(after) if self.small.looks_the_same(&at, &after) => None,
            Ok(after) => {
                let words: Vec<&str> = path.iter().map(|act| act.words.as_str()).collect();
                let differences = self.small.differences(&at, &after).join("; ");
                Some(format!("after [{}]: {differences}", words.join(", ")))
            }
            Err(what) => Some(what),
        })
    }

    /// Reads an agent.
    fn meet(&mut self, position: usize, agent: AgentId) {
        let known = &mut self.seen[position];
        let at = agent as usize;
        if known.len() <= at {
            known.resize(at + 1, None);
        }
        if known[at].is_none() {
            let replica = self.replica(position);
            let agent = self.world.agents(position).agent(agent);
            let holds = seen::holds(self.world.tables(), replica, agent, &self.digests);
            let part = holds.and_then(|holds| self.small.part(usize::from(replica.0), &holds));
            self.seen[position][at] = Some(part);
        }
    }

    fn learn_at(&mut self, state: &[u32], position: usize) {
        let agent = state[position];
        self.meet(position, agent);
        let replica = self.replica(position);
        for number in self.world.agents(position).facts(agent).heeds.clone() {
            let available = self.world.available(state, usize::from(number));
            if self.taken.contains_key(&(position, agent, number, available)) {
                continue;
            }
            let before = self.world.agents(position).agent(agent).clone();
            let mut taken = Vec::new();
            for step in self.world.moves(position, before.local, usize::from(number), available).iter() {
                let after = self.world.moved(&before, step);
                let target = self.world.agent(position, after);
                self.meet(position, target);
                let path = named::path(
                    &self.world.tables,
                    &self.small,
                    replica,
                    (before.local, step),
                    &self.digests,
                );
                taken.push((path, target));
            }
            self.taken.insert((position, agent, number, available), taken);
        }
    }
}

impl Space for Contained {
    type Scratch = Recent;

    fn width(&self) -> usize {
        self.world.width()
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        let initial = self.world.initial();
        for state in &initial {
            (0..state.len()).for_each(|position| self.meet(position, state[position]));
        }
        initial
    }

    fn expand(
        &self,
        depth: usize,
        state: &[u32],
        recent: &mut Recent,
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        let is_first = |joint: Result<SmallState, String>| {
            joint.is_ok_and(|joint| self.small.looks_the_same(&joint, &self.small.initial()))
        };
        if (depth == 0 && !is_first(self.read(state)?)) || self.leaves(state)?.is_some() {
            return Ok(Judgement::Unsound);
        }
        self.world.expand(depth, state, recent, successors)
    }

    fn learn(&mut self, depth: usize, state: &[u32]) {
        self.world.learn(depth, state);
        for position in 0..state.len() {
            self.learn_at(state, position);
        }
    }

    fn complaint(&self, state: &[u32]) -> String {
        match self.leaves(state) {
            Ok(Some(what)) => what,
            _ => "what is read of the first state is not the initial one".into(),
        }
    }
}
