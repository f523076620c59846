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
//! # What is shown
//!
//! Runs are taken in the order of the depth of their states, and once one is stuck those of that depth are taken to
//! their end. Of those that are stuck the one is shown that is first in the order of the strategies, then without a
//! restart, then by the first of all shortest ways to their states ([`crate::trace::canonical`]). [`Loss`] carries on
//! from whole replicas in the same way: a counterexample is stored only if it is stuck from there too, without the
//! steps that are not needed for that.
//!
//! # On the graph
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
mod starts;
mod strategy;
mod told;
mod whole;

pub use reach::Reach;
pub use run::{DELAY, MOST_VIEWS, Ran};
pub use strategy::Strategy;
pub use told::MOST_TOLD;
pub use whole::Loss;

use crate::engine::{Limits, Outcome, explore};
use crate::problem::Problem;
use crate::trace::{Step, canonical};
use crate::world::{Clients, Delivery, JointAgents, Joints, World, WorldConfig};
use serde::Serialize;
use starts::{Found, Starts};
use std::time::{Duration, Instant};

/// What this is called among properties.
pub const NAME: &str = "progress";

/// What it says, in one sentence.
pub const THEOREM: &str = "From every state, once everything that was sent is lost and the network delivers what is \
    sent from then on, every client's request executes, and it accepts the result.";

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

/// A run that did not come to its end: from a state that is the fewest steps away. Of several the first in the
/// order of the strategies, then one without a restart, then by the first of all ways.
#[derive(Clone, Debug, Serialize)]
pub struct Stuck {
    /// What happens in the state.
    #[serde(flatten)]
    pub loss: Loss,
    /// The way to the state, delivery by delivery.
    #[serde(skip)]
    pub steps: Vec<Step>,
    /// How the world gets to the state, step by step.
    pub how: Vec<String>,
    /// Why it stays there: what the replicas do, each thing once.
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
    let starts = Starts::new(&mut world, &joints, strategies);
    if let Some(refused) = world.take_refusal() {
        return Err(format!("what a crash leaves cannot be started from: {refused}").into());
    }
    let found_by_runs = starts.run(&world, limits.threads, go_on);
    if !go_on() {
        return Err("it was interrupted".into());
    }
    let Found { most_views, longest_ms, .. } = found_by_runs;
    let is_stuck = found_by_runs.stuck.is_some();
    let stuck = shown(&mut world, &starts, &joints, found_by_runs);
    if is_stuck && stuck.is_none() {
        // It must not pass for progress.
        return Err("a run is stuck, and the way to its state was not found again".into());
    }
    let example = reach.as_ref().and_then(|reach| reach.example);
    Ok(Progress {
        cut_off: example.map(|joint| way_to(&mut world, joint, limits)),
        reach,
        states: found.states,
        joints: starts.combinations,
        runs: starts.len(),
        most_views,
        longest_ms,
        elapsed: began.elapsed(),
        stuck,
    })
}

/// Of the runs that are stuck the one whose state is reached first: of all shortest ways to one of their states the
/// first.
fn shown(world: &mut World, starts: &Starts, joints: &Joints, found: Found) -> Option<Stuck> {
    let (rank, mut runs) = found.stuck?;
    let (depth, strategy, restarted) = rank;
    let there = joints.iter().filter(|(_, at)| **at == depth).map(|(joint, _)| *joint);
    let is_stuck = |joint: &_| starts.of(world, joint, rank).is_some_and(|start| runs.contains_key(&start));
    let stuck: Vec<JointAgents> = there.filter(is_stuck).collect();
    world.look_for(stuck);
    let way = canonical::way(world, depth)?;
    let joint = world.joint_agents(way.states.last()?);
    let ran = runs.swap_remove(&starts.of(world, &joint, rank)?)?;
    let how = way.states.windows(2).map(|pair| world.describe(&pair[0], &pair[1])).collect();
    Some(Stuck { loss: Loss { strategy, restarted }, steps: way.steps, how, why: ran.last })
}

/// The steps to a state.
fn way_to(world: &mut World, joint: JointAgents, limits: Limits) -> Vec<String> {
    world.look_for([joint]);
    match explore(world, limits, &mut |_| true).outcome {
        Outcome::Violated { path, .. } => {
            path.windows(2).map(|pair| world.describe(&pair[0], &pair[1])).collect()
        }
        _ => vec!["a state that was not found again".into()],
    }
}
