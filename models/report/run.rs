//! Exploring a world within limits, with its conditions.

use super::together::{Together, problem};
use super::{Explore, Findings, Observables, Options, Report, report};
use crate::engine::{
    Directory, Exploration, Limits, Outcome, Progress, Space, explore, explore_among, explore_in,
};
use crate::layered::Layered;
use crate::lazy::{Conditions, Watch};
use crate::problem::Problem;
use crate::trace::{Execution, Executor, canonical};
use crate::walks::{Shown, hold_against};
use crate::world::{Clients, Delivery, Share, World, WorldConfig};
use cpu_time::ProcessTime;
use pbft_properties::Violation;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// The world is being explored.
    Exploring(Progress),
    /// The conditions of the reduction are being checked.
    Checking {
        /// How many checks have been made.
        checked: u64,
        /// Wall time of the checks so far.
        elapsed: Duration,
    },
}

/// Called now and then with how far a run is; the run stops when it returns false.
pub type OnProgress<'a> = dyn FnMut(Stage) -> bool + 'a;

/// Explores a world and checks the conditions of the reduction. It stops when `progress` returns false.
///
/// # Errors
/// If the bounds make no sense ([`WorldConfig::problem`]).
pub fn run(
    config: WorldConfig,
    how: Explore,
    options: &Options,
    progress: &mut OnProgress<'_>,
) -> Result<Report, Problem> {
    let (began, cpu) = (Instant::now(), ProcessTime::now());
    let (findings, peak_bytes) = watching(options.allocated, || found(&config, how, options, progress));
    let mut report = report(&config, how, options, findings?);
    report.peak_bytes = peak_bytes;
    report.seconds = began.elapsed().as_secs_f64();
    report.cpu_seconds = cpu.elapsed().as_secs_f64();
    Ok(report)
}

/// Does it, and says how much was allocated at most meanwhile, conditions and all.
fn watching<T>(allocated: fn() -> usize, work: impl FnOnce() -> T) -> (T, usize) {
    let (done, peak) = (AtomicBool::new(false), AtomicUsize::new(allocated()));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(allocated(), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        // Also when the work panics, or this would wait for ever.
        let _done = Done(&done);
        work()
    });
    (result, peak.into_inner().max(allocated()))
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The seed of all walks.
const WALKS_SEED: u64 = 0;

/// Between two looks at what is allocated.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Between two calls of the progress report while conditions are checked.
const REPORT_EVERY: Duration = Duration::from_millis(500);

fn found(
    config: &WorldConfig,
    how: Explore,
    options: &Options,
    progress: &mut OnProgress<'_>,
) -> Result<Findings, Problem> {
    let judged = |world: World| match options.judged_by {
        Some(property) => world.judged_by(property),
        None => world,
    };
    match how {
        Explore::None => {
            let world = judged(World::new(config.clone(), Delivery::One)?);
            let mut world = if options.behaviours { world.recording_behaviours() } else { world };
            explored(&mut world, options, progress)
        }
        Explore::Lazy => {
            explored(&mut judged(World::new(config.clone(), Delivery::Lazy)?), options, progress)
        }
        Explore::Layered => {
            layered(&mut Layered::new(config.clone(), options.observables)?, options, progress)
        }
    }
}

fn run_engine<S: Space + Send>(
    space: &mut S,
    directory: Option<Directory>,
    options: &Options,
    progress: &mut OnProgress<'_>,
) -> Result<Exploration, Problem> {
    let Options { threads, memory: bytes, time, allocated, .. } = *options;
    let limits = Limits { threads, time, bytes, allocated, ..Limits::default() };
    let (directory, progress) = (directory.as_ref(), &mut |now| progress(Stage::Exploring(now)));
    match &options.together {
        Some(together) => explore_among(space, limits, directory, together.workers(), progress)
            .map_err(|trouble| problem(&trouble, directory.is_some())),
        None => explore_in(space, limits, directory, progress).map_err(|trouble| trouble.to_string().into()),
    }
}

fn directory(config: &WorldConfig, how: Explore, options: &Options) -> Option<Directory> {
    let mut directory = options.disk.as_ref()?.directory(config, how);
    if how == Explore::Layered && options.observables {
        // It does without two of its reductions then: names and states are others.
        directory.identity.push_str(" without two of its reductions");
    }
    Some(directory)
}

/// The share of this process in the conditions.
fn share(options: &Options) -> Share {
    options.together.as_ref().map_or_else(Share::default, Together::share)
}

/// Checks conditions within the limits of `options`, together with other processes if there are some.
fn check_conditions(
    options: &Options,
    progress: &mut OnProgress<'_>,
    check: impl FnOnce(&mut Watch<'_>) -> Conditions,
) -> Result<Conditions, Problem> {
    let (began, mut reported) = (Instant::now(), Instant::now());
    let mut stops = |conditions: &Conditions| {
        if (options.allocated)() > options.memory {
            return Some("the limit on memory was reached while conditions were checked");
        }
        if reported.elapsed() < REPORT_EVERY {
            return None;
        }
        reported = Instant::now();
        let now = Stage::Checking { checked: conditions.checked(), elapsed: began.elapsed() };
        (!progress(now)).then_some("it was interrupted while conditions were checked")
    };
    let Some(together) = &options.together else { return Ok(check(&mut stops)) };
    let own = check(&mut |conditions| {
        let own = stops(conditions);
        if own.is_some() {
            together.halt();
        }
        own.or_else(|| together.stops())
    });
    together.gathered(own, options.disk.is_some())
}

fn layered(
    layered: &mut Layered,
    options: &Options,
    progress: &mut OnProgress<'_>,
) -> Result<Findings, Problem> {
    let directory = directory(layered.world().config(), Explore::Layered, options);
    layered.set_share(share(options));
    let exploration = run_engine(layered, directory, options, progress)?;
    let world = layered.world();
    let (local_states, cut_by_bound) = (world.tables().sizes().0, world.cut_by_bound());
    let message_sets = message_sets(world);
    let exhausted = exploration.outcome == Outcome::Exhausted;
    let observables = (exhausted && options.observables).then(|| Observables::of_layered(layered));
    let execution = match &exploration.outcome {
        Outcome::Violated { path, .. } => layered.unroll(path),
        _ => None,
    };
    let conditions = match exhausted && options.conditions && !options.hunt {
        true => check_conditions(options, progress, |watch| {
            let config = layered.world().config().clone();
            let shown = |goes_on: &dyn Fn() -> bool| whole(&config, options, goes_on);
            with_walks(&config, options, watch, shown, |watch| layered.check_conditions(watch))
        })?,
        false => Conditions::default(),
    };
    Ok(Findings {
        witnesses: layered.witnesses(),
        conditions: Some(conditions),
        trace: execution.as_ref().map(Execution::told).unwrap_or_default(),
        violation: execution.as_ref().map(|execution| execution.violation.clone()),
        execution,
        local_states,
        message_sets,
        cut_by_bound,
        observables,
        exploration,
    })
}

/// Checks conditions, and takes walks meanwhile, if this can be: not with clients in the world. `shown` says
/// what the exploration has shown.
fn with_walks(
    config: &WorldConfig,
    options: &Options,
    watch: &mut Watch<'_>,
    shown: impl FnOnce(&dyn Fn() -> bool) -> Option<Shown> + Send,
    check: impl FnOnce(&mut Watch<'_>) -> Conditions,
) -> Conditions {
    let is_elsewhere = options.together.as_ref().is_some_and(|together| !together.takes_walks());
    if options.walks == 0 || is_elsewhere || config.clients == Clients::Actors {
        return check(watch);
    }
    let stop = AtomicBool::new(false);
    let goes_on = || !stop.load(Ordering::Relaxed);
    let take = || {
        let shown = shown(&goes_on)?;
        hold_against(&shown, config, options.walks, WALKS_SEED, &mut |_| goes_on()).ok()
    };
    std::thread::scope(|scope| {
        let walks = scope.spawn(take);
        let mut conditions = check(watch);
        while !walks.is_finished() {
            std::thread::sleep(LOOK_EVERY);
            stop.fetch_or(!conditions.goes_on(watch), Ordering::Relaxed);
        }
        match walks.join() {
            Ok(found) => found.into_iter().for_each(|found| conditions.add_walks(found.walks, found.missing)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        conditions
    })
}

/// All the histories that an exploration in rounds shows when it cuts none.
fn whole(config: &WorldConfig, options: &Options, goes_on: &dyn Fn() -> bool) -> Option<Shown> {
    let mut whole = Layered::new(config.clone(), true).ok()?;
    let Options { threads, memory: bytes, time, allocated, .. } = *options;
    let limits = Limits { threads, time, bytes, allocated, ..Limits::default() };
    let exploration = explore(&mut whole, limits, &mut |_| goes_on());
    (exploration.outcome == Outcome::Exhausted).then(|| Shown::of(whole.all_histories()))
}

fn explored(
    world: &mut World,
    options: &Options,
    progress: &mut OnProgress<'_>,
) -> Result<Findings, Problem> {
    let how = match world.delivery() {
        Delivery::One => Explore::None,
        Delivery::Lazy => Explore::Lazy,
    };
    let directory = directory(world.config(), how, options);
    world.set_share(share(options));
    if !options.conditions || options.hunt {
        world.forget_what_is_passed();
    }
    let exploration = run_engine(world, directory, options, progress)?;
    // Conditions take steps that no execution takes, so everything is counted before them.
    let (local_states, cut_by_bound) = (world.tables().sizes().0, world.cut_by_bound());
    let (violation, trace) = match &exploration.outcome {
        Outcome::Violated { path, .. } => told(world, path),
        _ => (None, Vec::new()),
    };
    let execution = match &exploration.outcome {
        Outcome::Violated { path, .. } if options.execution => {
            shown(world, path.len() - 1, options.judged_by)
        }
        _ => None,
    };
    let exhausted = exploration.outcome == Outcome::Exhausted;
    let observables = (exhausted && options.observables).then(|| Observables::of(world));
    let conditions = match exhausted && options.conditions && !options.hunt {
        true => check_conditions(options, progress, |watch| match world.delivery() {
            Delivery::One => world.check_conditions(watch),
            Delivery::Lazy => {
                let (config, shown) = (world.config().clone(), Shown::of(world.all_histories()));
                with_walks(&config, options, watch, |_| Some(shown), |watch| world.check_conditions(watch))
            }
        })?,
        false => Conditions::default(),
    };
    Ok(Findings {
        witnesses: world.witnesses(),
        conditions: Some(conditions),
        violation,
        trace,
        execution,
        local_states,
        message_sets: message_sets(world),
        cut_by_bound,
        observables,
        exploration,
    })
}

/// The violation that lies this number of steps away, as an execution of whole replicas.
fn shown(world: &mut World, steps: usize, judged_by: Option<&'static str>) -> Option<Execution> {
    let executor = Executor::new(world.config()).ok()?;
    let mut executor = match judged_by {
        Some(property) => executor.judged_by(property),
        None => executor,
    };
    Execution::new(&mut executor, canonical::shortest(world, steps)?)
}

/// What is violated at the end of a path, and its steps in words.
fn told(world: &mut World, path: &[Vec<u32>]) -> (Option<Violation>, Vec<String>) {
    let violation = path.last().and_then(|state| world.violation(state));
    let trace = path.windows(2).map(|pair| world.describe(&pair[0], &pair[1])).collect();
    (violation, trace)
}

fn message_sets(world: &World) -> usize {
    let at = |position| {
        let agents = world.agents(position);
        let sent = (0..).take(agents.len()).map(|id| &agents.agent(id).sent);
        sent.collect::<BTreeSet<_>>().len()
    };
    (0..world.correct().len()).map(at).sum()
}
