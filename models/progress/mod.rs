//! Progress: from every state that a world can be in, the clients' requests execute.
//!
//! # What is decided
//!
//! A world is explored to its end, with lazy delivery. For each combination of local states of the correct
//! replicas that occurs in it, let there be a moment at which *everything that was sent before is lost*, and
//! from which on the network delivers what is sent, in [`DELAY`]; timers run as hosts run them, with
//! production's time-outs and [`ProgressTimer`](pbft::presence::ProgressTimer); and each client,
//! production's, asks for its operation again. What replicas and clients send again by STATUS and time-outs
//! is then all there is. [`run`] carries that on, with real replicas, until every client has accepted a
//! result. It must come to that within [`MOST_VIEWS`] views, and the most that were needed are reported. (Not
//! until all replicas have executed: one that has left a view alone waits for the others, and is brought up
//! to date by the next checkpoint.)
//!
//! A combination is taken twice, as it is and with every correct replica restarted from what is durable; and
//! with each [`Strategy`] of the Byzantine replicas.
//!
//! The second statement is about the graph of the states, and loses nothing: [`reach`].
//!
//! # What is not
//!
//! - That the exploration loses no combination is not checked here: `pbft check` of the same world shows it.
//! - The exploration keeps normal forms. What they leave out is part of what is lost: requests that wait and
//!   votes of others, which arrive again or are no longer needed; how far the time-out had grown, which
//!   begins at its base. A replica that remembers some of it is not run. The NEW-VIEW by which a replica has
//!   entered its view is put back: one with the same `O`.
//! - Delays are equal, so there is one schedule for each state and strategy and not all of them.
//! - A Byzantine replica does what its strategy says, and no worse: of what it could say it says everything or
//!   nothing, at once, and never a part at a time of its choice.
//! - Without checkpoints the window is long enough for every request: worlds have shorter ones. With them it
//!   is that of the world, and moves.

mod derives;
mod reach;
mod run;

pub use reach::Reach;
pub use run::{DELAY, MOST_VIEWS, Ran, Strategy};

use crate::engine::{Limits, Outcome, explore};
use crate::problem::Problem;
use crate::world::{Clients, Delivery, JointAgents, Joints, MessageId, World, WorldConfig};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use run::{Cluster, Start};
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Progress {
    /// States of the exploration.
    pub states: u64,
    /// Combinations of local states among them.
    pub joints: usize,
    /// Runs from them: two for each, and for each strategy, equal ones once.
    pub runs: usize,
    /// The most views above the highest at the start in which a run ended.
    pub most_views: u64,
    /// The longest that a run took, in milliseconds of its own time.
    pub longest_ms: u64,
    /// Wall time of the runs.
    pub elapsed: Duration,
    /// What can be reached on the graph of the states, where the primary of the highest view is correct.
    pub reach: Option<Reach>,
    /// How one gets to a state from which no good end can be reached, step by step, if there is one.
    pub cut_off: Option<Vec<String>>,
    /// A run that did not come to its end, if there is one.
    pub stuck: Option<Stuck>,
}

/// A run that did not come to its end.
#[derive(Clone, Debug, Serialize)]
pub struct Stuck {
    /// What the Byzantine replicas do.
    pub strategy: Strategy,
    /// Whether the replicas were restarted first.
    pub restarted: bool,
    /// How the world gets to the state, step by step.
    pub how: Vec<String>,
    /// Why it stays there: what the replicas did last.
    pub why: Vec<String>,
}

/// Explores a world, and carries on from each of its states. `go_on` is asked now and then, and false stops.
///
/// # Errors
/// If the bounds make no sense, if too few replicas are correct for anything to be decided, if clients are
/// part of the world, if it is not exhausted within the limits, or if a replica does not start from what a
/// crash leaves.
pub fn check(
    config: &WorldConfig,
    strategies: &[Strategy],
    limits: Limits,
    go_on: &(dyn Fn() -> bool + Sync),
) -> Result<Progress, Problem> {
    let (n, f, quorum) = (config.cluster.n(), config.cluster.f(), config.cluster.quorum());
    if n < 3 * f + 1 || config.correct().len() < quorum {
        return Err(format!(
            "progress needs n >= 3f + 1, and {quorum} correct replicas: here are {} of {n}",
            config.correct().len()
        )
        .into());
    }
    if config.clients == Clients::Actors {
        return Err("progress is for worlds without client actors".into());
    }
    let mut world = World::new(config.clone(), Delivery::Lazy)?.past_violations().recording_joints();
    let found = explore(&mut world, limits, &mut |_| go_on());
    if let Outcome::NotExhausted { why } = found.outcome {
        return Err(format!("the world was not exhausted: {why}").into());
    }
    let joints = world.take_joints();
    let reach = reach::applies(&world).then(|| reach::reach(&mut world, &joints, go_on)).transpose()?;
    let began = Instant::now();
    let Starts { starts, combinations, learnt } = starts(&mut world, &joints, strategies);
    if let Some(refused) = world.take_refusal() {
        return Err(format!("what a crash leaves cannot be started from: {refused}").into());
    }
    let cluster = Cluster::new(&world, &learnt.iter().flatten().copied().collect());
    let next = AtomicUsize::new(0);
    let best = Mutex::new((0, 0, None::<(usize, Ran)>));
    std::thread::scope(|scope| {
        for _ in 0..limits.threads.max(1) {
            scope.spawn(|| {
                while let Some((start, _)) = starts.get_index(next.fetch_add(1, Ordering::Relaxed)) {
                    if !go_on() || best.lock().expect("nobody panics with it").2.is_some() {
                        return;
                    }
                    let ran = cluster.run(&world, start, &learnt[start.learnt]);
                    let mut best = best.lock().expect("nobody panics with it");
                    best.0 = best.0.max(ran.views);
                    best.1 = best.1.max(ran.took_ms);
                    if ran.is_stuck {
                        let place = starts.get_index_of(start).expect("it is there");
                        best.2.get_or_insert((place, ran));
                    }
                }
            });
        }
    });
    let (most_views, longest_ms, stuck) = best.into_inner().expect("nobody panics with it");
    if !go_on() {
        return Err("it was interrupted".into());
    }
    let stuck = stuck.map(|(place, ran)| {
        let (start, joint) = starts.get_index(place).expect("it is there");
        let how = way_to(&mut world, *joint, limits);
        Stuck { strategy: start.strategy, restarted: start.restarted, how, why: ran.last }
    });
    let example = reach.as_ref().and_then(|reach| reach.example);
    Ok(Progress {
        cut_off: example.map(|joint| way_to(&mut world, joint, limits)),
        reach,
        states: found.states,
        joints: combinations,
        runs: starts.len(),
        most_views,
        longest_ms,
        elapsed: began.elapsed(),
        stuck,
    })
}

/// Everything that is run from.
#[derive(Default)]
struct Starts {
    /// With a state of the world of which each is made.
    starts: IndexMap<Start, JointAgents, FixedState>,
    /// Combinations of local states.
    combinations: usize,
    /// What Byzantine replicas can keep, by its name; 0 is nothing.
    learnt: IndexSet<Vec<MessageId>, FixedState>,
}

fn starts(world: &mut World, joints: &Joints, strategies: &[Strategy]) -> Starts {
    let mut all = Starts { learnt: IndexSet::from_iter([Vec::new()]), ..Starts::default() };
    let mut combinations = IndexSet::<_, FixedState>::default();
    let replicas = world.correct().len();
    // Without Byzantine replicas there is nothing to choose.
    let strategies = if world.config().byzantine.is_empty() { &[Strategy::Silent] } else { strategies };
    for joint in joints {
        let locals = world.locals(joint);
        let is_new = combinations.insert(locals);
        let learnt = match strategies.iter().any(|strategy| strategy.derives()) {
            true => all.learnt.insert_full(world.available_to(joint)).0,
            false => 0,
        };
        let mut restarted = locals;
        for (position, local) in restarted.iter_mut().enumerate().take(replicas) {
            *local = world.restarted(position, *local);
        }
        for &strategy in strategies {
            let learnt = if strategy.derives() { learnt } else { 0 };
            if learnt == 0 && !is_new {
                continue;
            }
            for (joint_locals, restarted) in [(locals, false), (restarted, true)] {
                let start = Start { joint: joint_locals, restarted, strategy, learnt };
                all.starts.entry(start).or_insert(*joint);
            }
        }
    }
    all.combinations = combinations.len();
    all
}

/// The steps to a state.
fn way_to(world: &mut World, joint: JointAgents, limits: Limits) -> Vec<String> {
    world.look_for(joint);
    match explore(world, limits, &mut |_| true).outcome {
        Outcome::Violated { path, .. } => {
            path.windows(2).map(|pair| world.describe(&pair[0], &pair[1])).collect()
        }
        _ => vec!["a state that was not found again".into()],
    }
}
