//! How fast the engine explores, beside stateright's own searches: `cargo bench -p pbft-models`.
//!
//! Rates are distinct states a second; what a world has of transitions and takes of memory is printed before
//! it is measured. Every run explores from nothing, tables included, and checks the number of states.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_models::engine::{
    Exploration, Judgement, Limits, Outcome, Space, Successors, Unlearnt, explore as explore_space,
};
use pbft_models::world::{Delivery, Plain, World, WorldConfig};
use stateright::{Checker, Model, Property};
use std::hash::Hash;
use std::time::Duration;

/// Columns, and rows, of the grid.
const SIZE: u32 = 1 << 10;
const GRID_STATES: u64 = (SIZE as u64) * (SIZE as u64);
/// The lengths of steps. With long ones among them the grid is 124 steps deep, not two thousand: stateright
/// keeps the steps so far with every state that waits, and that is not to be measured.
const STEPS: [u32; 2] = [1, 32];

/// A walk right and up on a grid: the least work that a model can make, so that the search is measured.
#[derive(Clone, Copy)]
struct Grid;

/// One step.
#[derive(Clone, Copy, PartialEq)]
struct Step {
    right: u32,
    up: u32,
}

/// The steps that do not leave the grid.
fn steps(x: u32, y: u32) -> impl Iterator<Item = Step> {
    let all = STEPS.into_iter().flat_map(|by| [Step { right: by, up: 0 }, Step { right: 0, up: by }]);
    all.filter(move |step| x + step.right < SIZE && y + step.up < SIZE)
}

impl Space for Grid {
    type Scratch = ();

    fn width(&self) -> usize {
        2
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        vec![vec![0, 0]]
    }

    fn expand(
        &self,
        _: usize,
        state: &[u32],
        (): &mut (),
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        let (x, y) = (state[0], state[1]);
        steps(x, y).for_each(|step| successors(&[x + step.right, y + step.up]));
        Ok(if x < SIZE && y < SIZE { Judgement::Sound } else { Judgement::Unsound })
    }
}

impl Model for Grid {
    type State = (u32, u32);
    type Action = Step;

    fn init_states(&self) -> Vec<(u32, u32)> {
        vec![(0, 0)]
    }

    fn actions(&self, &(x, y): &(u32, u32), actions: &mut Vec<Step>) {
        actions.extend(steps(x, y));
    }

    fn next_state(&self, &(x, y): &(u32, u32), step: Step) -> Option<(u32, u32)> {
        Some((x + step.right, y + step.up))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        // Without one there is nothing to look for, and stateright stops at once.
        vec![Property::always("on the grid", |_, &(x, y): &(u32, u32)| x < SIZE && y < SIZE)]
    }
}

fn explore<S: Space>(space: &mut S, threads: usize, states: u64) -> Exploration {
    let found = explore_space(space, Limits { threads, ..Limits::default() }, &mut |_| true);
    assert_eq!((&found.outcome, found.states), (&Outcome::Exhausted, states));
    found
}

fn world(byzantine: &[u16], max_view: u64, requests: u32, delivery: Delivery) -> World {
    let config = WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_view: View(max_view),
        max_seq: SeqNo(1),
        ..WorldConfig::new(Cluster::new(4, 1), requests)
    };
    World::new(config, delivery).expect("these bounds make sense")
}

fn say(name: &str, found: &Exploration) {
    let each = found.state_bytes as f64 / found.states as f64;
    println!("{name}: {} states, {} transitions, {each:.1} bytes a state", found.states, found.transitions);
}

/// Measures both searches of stateright, in one thread and in two.
fn stateright<M>(group: &mut BenchmarkGroup<'_, WallTime>, model: impl Fn() -> M, states: u64)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + PartialEq,
{
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("stateright BFS", threads), |bencher| {
            bencher.iter(|| {
                let checker = model().checker().threads(threads).spawn_bfs().join();
                assert_eq!(checker.unique_state_count() as u64, states);
            });
        });
        group.bench_function(BenchmarkId::new("stateright DFS", threads), |bencher| {
            bencher.iter(|| {
                let checker = model().checker().threads(threads).spawn_dfs().join();
                assert_eq!(checker.unique_state_count() as u64, states);
            });
        });
    }
}

/// Measures the engine, in one thread and in two.
fn engine<S: Space>(group: &mut BenchmarkGroup<'_, WallTime>, space: impl Fn() -> S, states: u64) {
    for threads in [1, 2] {
        group.bench_function(BenchmarkId::new("engine", threads), |bencher| {
            bencher.iter(|| explore(&mut space(), threads, states));
        });
    }
}

fn group<'a>(criterion: &'a mut Criterion, name: &str, states: u64) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(states));
    group
}

fn grid(criterion: &mut Criterion) {
    say("grid", &explore(&mut Grid, 2, GRID_STATES));
    let mut group = group(criterion, "grid", GRID_STATES);
    engine(&mut group, || Grid, GRID_STATES);
    stateright(&mut group, || Grid, GRID_STATES);
}

/// Four replicas, one request, one view, one sequence number; every delivery by itself.
fn first_world(criterion: &mut Criterion) {
    const STATES: u64 = 106_797;
    let space = || world(&[], 0, 1, Delivery::One);
    say("first world", &explore(&mut space(), 2, STATES));
    let mut group = group(criterion, "first world", STATES);
    engine(&mut group, space, STATES);
    stateright(&mut group, || Plain::new(Cluster::new(4, 1), 1), STATES);
}

/// Two requests for one sequence number in three views; each delivery when it completes something.
fn lazy(criterion: &mut Criterion) {
    const STATES: u64 = 2_286_857;
    let space = || world(&[3], 2, 2, Delivery::Lazy);
    say("lazy, Byzantine 3", &explore(&mut space(), 2, STATES));
    engine(&mut group(criterion, "lazy, Byzantine 3", STATES), space, STATES);
}

/// The same with the first primary Byzantine: the faster of two runs, because ten of them, the least that
/// criterion takes, are minutes.
fn lazy_primary(_: &mut Criterion) {
    const STATES: u64 = 5_070_771;
    // As criterion: without this, targets are only to be run once and not to be measured.
    let runs = if std::env::args().any(|argument| argument == "--bench") { 2 } else { 1 };
    for threads in [1, 2] {
        let run = |_| explore(&mut world(&[0], 2, 2, Delivery::Lazy), threads, STATES);
        let fastest = (0..runs).map(run).min_by_key(|found| found.elapsed).expect("there is a run");
        let seconds = fastest.elapsed.as_secs_f64();
        say("lazy, Byzantine 0", &fastest);
        let (states, transitions) = (STATES as f64 / seconds, fastest.transitions as f64 / seconds);
        println!(
            "lazy, Byzantine 0/engine/{threads}: {seconds:.2} s, {states:.0} states/s, {transitions:.0} transitions/s"
        );
    }
}

criterion_group!(benches, grid, first_world, lazy, lazy_primary);
criterion_main!(benches);
