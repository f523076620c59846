//! Showing by exploration that a property can fail in a world.

use crate::engine::{Exploration, Limits, Outcome, Space, explore};
use crate::layered::Layered;
use crate::mutants::{Mutant, Rulebook};
use crate::problem::Problem;
use crate::report::{Explore, Options};
use crate::trace::{Executor, Step, single_steps, violation};
use crate::world::{Delivery, World, WorldConfig};
use std::time::Duration;

/// What came of an attempt to violate a property.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tried {
    /// The deliveries and time-outs, carried out by whole replicas, after which it is violated; or why there
    /// are none.
    pub steps: Result<usize, &'static str>,
    /// States visited.
    pub states: u64,
    /// Wall time of the exploration.
    pub elapsed: Duration,
}

/// Explores a world without this rule until the property is violated, past violations of others; then has
/// whole replicas carry out the steps to it. `go_on` is asked now and then, and false stops.
///
/// # Errors
/// If the bounds make no sense, or have no rounds and are to be explored round by round.
pub fn violate(
    config: &WorldConfig,
    how: Explore,
    without: Mutant,
    property: &'static str,
    options: &Options,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Tried, Problem> {
    let config = WorldConfig { rules: Rulebook::without(without), ..config.clone() };
    let delivery = match how {
        Explore::Layered => return in_rounds(config, property, options, go_on),
        Explore::Lazy => Delivery::Lazy,
        Explore::None => Delivery::One,
    };
    let mut world = World::new(config.clone(), delivery)?.judged_by(property);
    let found = run(&mut world, options, go_on);
    let mut executor = Executor::new(&config)?.judged_by(property);
    Ok(tried(found, &mut |path| {
        let steps = steps(&mut world, path)?;
        violation(&mut executor, steps).map(|(taken, _)| taken.len())
    }))
}

fn in_rounds(
    config: WorldConfig,
    property: &'static str,
    options: &Options,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Tried, Problem> {
    let mut layered = Layered::new(config, false)?.judged_by(property);
    let found = run(&mut layered, options, go_on);
    Ok(tried(found, &mut |path| layered.unroll(path).map(|execution| execution.steps.len())))
}

fn tried(found: Exploration, whole: &mut dyn FnMut(&[Vec<u32>]) -> Option<usize>) -> Tried {
    let steps = match &found.outcome {
        Outcome::Violated { path, .. } => whole(path).ok_or("whole replicas do not show it"),
        Outcome::Exhausted => Err("it is violated nowhere"),
        Outcome::NotExhausted { why } => Err(*why),
    };
    Tried { steps, states: found.states, elapsed: found.elapsed }
}

fn run<S: Space>(space: &mut S, options: &Options, go_on: &mut dyn FnMut() -> bool) -> Exploration {
    let Options { threads, memory: bytes, time, allocated, .. } = *options;
    let limits = Limits { threads, time, bytes, allocated, ..Limits::default() };
    explore(space, limits, &mut |_| go_on())
}

/// The single steps of a path.
fn steps(world: &mut World, path: &[Vec<u32>]) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for pair in path.windows(2) {
        let (node, step) = world.step_between(&pair[0], &pair[1])?;
        let path = step.path.iter().map(|&id| world.tables().message(id).clone()).collect();
        steps.extend(single_steps(node, path, step.crash));
    }
    Some(steps)
}
