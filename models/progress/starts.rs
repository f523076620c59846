//! Everything that is run from, and the runs.
//!
//! They are run in the order of the depth of their states. Once one is stuck, those of that depth are run to the end
//! and none that is deeper; so which of them is shown does not depend on which thread came first.

use super::run::{Cluster, Ran};
use super::strategy::Strategy;
use crate::world::{JointAgents, JointLocals, Joints, MessageId, Modelled, World};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::replica::Replica;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Where a run begins.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Start {
    joint: JointLocals,
    /// Whether these are states after a restart.
    restarted: bool,
    strategy: Strategy,
    /// Names what the Byzantine replicas keep.
    learnt: usize,
}

/// Everything that is run from.
#[derive(Default)]
pub(super) struct Starts {
    /// With the least depth of a state of the world of which each is made: the least first.
    starts: IndexMap<Start, usize, FixedState>,
    /// How many combinations of local states there are.
    pub(super) combinations: usize,
    /// What Byzantine replicas can keep, by its name; 0 is nothing.
    learnt: IndexSet<Vec<MessageId>, FixedState>,
}

/// By what runs that are stuck are told apart before the steps to their states are: depth, strategy, and whether the
/// replicas were restarted.
pub(super) type Rank = (usize, Strategy, bool);

/// What came of the runs.
#[derive(Default)]
pub(super) struct Found {
    pub(super) most_views: u64,
    pub(super) longest_ms: u64,
    /// The runs of the first rank at which one is stuck, those that are stuck.
    pub(super) stuck: Option<(Rank, IndexMap<Start, Ran, FixedState>)>,
}

impl Start {
    fn rank(&self, depth: usize) -> Rank {
        (depth, self.strategy, self.restarted)
    }

    /// The correct replicas, each with a NEW-VIEW by which it can have entered its view.
    fn replicas(&self, world: &World) -> Vec<Replica<Modelled>> {
        let replica = |(position, &id)| {
            let local = world.tables().local(self.joint[position]);
            let mut replica = local.replica.clone();
            replica.put_new_view(world.entered_by(id, local));
            replica
        };
        world.correct().iter().enumerate().map(replica).collect()
    }
}

impl Starts {
    /// Those of a world with these states, which are all of it.
    pub(super) fn new(world: &mut World, joints: &Joints, strategies: &[Strategy]) -> Self {
        let mut all = Starts { learnt: IndexSet::from_iter([Vec::new()]), ..Starts::default() };
        let mut combinations = IndexSet::<_, FixedState>::default();
        // Without Byzantine replicas there is nothing to choose.
        let strategies = if world.config().byzantine.is_empty() { &[Strategy::Silent] } else { strategies };
        for (joint, &depth) in joints {
            let is_new = combinations.insert(world.locals(joint));
            let learnt = match strategies.iter().any(|strategy| strategy.derives()) {
                true => all.learnt.insert_full(world.available_to(joint)).0,
                false => 0,
            };
            for &strategy in strategies {
                let learnt = if strategy.derives() { learnt } else { 0 };
                if learnt == 0 && !is_new {
                    continue;
                }
                for restarted in [false, true] {
                    let joint = locals(world, joint, restarted);
                    all.starts.entry(Start { joint, restarted, strategy, learnt }).or_insert(depth);
                }
            }
        }
        all.combinations = combinations.len();
        all
    }

    /// The start of this rank from a state.
    pub(super) fn of(&self, world: &mut World, joint: &JointAgents, rank: Rank) -> Option<Start> {
        let (_, strategy, restarted) = rank;
        let learnt = match strategy.derives() {
            true => self.learnt.get_index_of(&world.available_to(joint))?,
            false => 0,
        };
        Some(Start { joint: locals(world, joint, restarted), restarted, strategy, learnt })
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Runs from them, until some depth has been run to its end at which one is stuck, or `go_on` says stop.
    pub(super) fn run(&self, world: &World, threads: usize, go_on: &(dyn Fn() -> bool + Sync)) -> Found {
        let cluster = Cluster::new(world, &self.learnt.iter().flatten().copied().collect());
        let (next, found) = (AtomicUsize::new(0), Mutex::new(Found::default()));
        let locked = || found.lock().expect("nobody panics with it");
        std::thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| {
                    while let Some((start, &depth)) =
                        self.starts.get_index(next.fetch_add(1, Ordering::Relaxed))
                    {
                        if !go_on() {
                            return;
                        }
                        if locked().rank().is_some_and(|rank| start.rank(depth) > rank) {
                            continue;
                        }
                        let (replicas, learnt) = (start.replicas(world), &self.learnt[start.learnt]);
                        let ran = cluster.run(world, start.strategy, replicas, learnt);
                        locked().add(start, depth, ran);
                    }
                });
            }
        });
        found.into_inner().expect("nobody panics with it")
    }
}

impl Found {
    fn rank(&self) -> Option<Rank> {
        self.stuck.as_ref().map(|(rank, _)| *rank)
    }

    fn add(&mut self, start: &Start, depth: usize, ran: Ran) {
        self.most_views = self.most_views.max(ran.views);
        self.longest_ms = self.longest_ms.max(ran.took_ms);
        if !ran.is_stuck() {
            return;
        }
        let rank = start.rank(depth);
        match &mut self.stuck {
            Some((known, _)) if *known < rank => {}
            Some((known, runs)) if *known == rank => drop(runs.insert(start.clone(), ran)),
            _ => self.stuck = Some((rank, IndexMap::from_iter([(start.clone(), ran)]))),
        }
    }
}

/// The local states of a state, or what they are after a restart.
fn locals(world: &mut World, joint: &JointAgents, restarted: bool) -> JointLocals {
    let (mut locals, replicas) = (world.locals(joint), world.correct().len());
    if restarted {
        for (position, local) in locals.iter_mut().enumerate().take(replicas) {
            *local = world.restarted(position, *local);
        }
    }
    locals
}
