//! The search: all states of one distance from the start before any of the next.

use super::store::{SHARDS, StateId, Store, shard_of};
use super::{Exploration, INTERRUPTED, Judgement, Limits, Outcome, Progress, Space};
use rayon::prelude::*;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// States expanded between two looks at the limits. Not a function of the number of threads: see the module
/// above.
const BATCH: usize = 1 << 15;
/// States that one thread takes at a time.
const CHUNK: usize = 512;
/// States, or successors of one state, that a thread takes between two looks at the limits.
const LOOK_AFTER: usize = 32;
const LOOK_AFTER_SUCCESSORS: usize = 1 << 14;
/// Between two calls of the progress report.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Explores all of `space`, or as much of it as `limits` allow, telling `progress` now and then. The
/// exploration stops when `progress` returns false.
///
/// # Panics
/// If the system does not let it start the threads asked for.
pub fn explore<S: Space>(
    space: &mut S,
    limits: Limits,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Exploration {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(limits.threads.max(1)).build();
    let pool = pool.expect("threads can be started");
    let began = Instant::now();
    let mut store = Store::new(space.width());
    for state in space.initial() {
        store.shards[shard_of(&state)].add(&state, StateId::NONE);
    }
    let gate = Gate { limits, began, over: OnceLock::new() };
    let mut search = Search { space, store, gate, reported: began, transitions: 0, depth: 0 };
    let (outcome, complete) = search.run(&pool, progress);
    Exploration {
        outcome,
        states: search.store.len(),
        transitions: search.transitions,
        // What a level discovers is one step further away, whether or not that level was finished.
        depth: search.depth + usize::from(!complete),
        elapsed: began.elapsed(),
        state_bytes: search.store.bytes(),
    }
}

struct Search<'a, S> {
    space: &'a mut S,
    store: Store,
    gate: Gate,
    reported: Instant,
    transitions: u64,
    depth: usize,
}

/// Whether a limit has been reached. One state can have so many successors that there is no waiting for the
/// end of a batch.
struct Gate {
    limits: Limits,
    began: Instant,
    over: OnceLock<&'static str>,
}

impl Gate {
    /// Why the search must stop, if it must: once it must, it always must.
    fn look(&self) -> Option<&'static str> {
        let why = if self.began.elapsed() > self.limits.time {
            Some("the limit on time was reached")
        } else if (self.limits.allocated)() > self.limits.bytes {
            Some("the limit on memory was reached")
        } else {
            None
        };
        if let Some(why) = why {
            return Some(self.over.get_or_init(|| why));
        }
        self.over.get().copied()
    }
}

/// What one thread found in one chunk.
struct Found {
    /// For each shard, states and where they come from: the words of one after those of the other.
    candidates: Vec<Vec<u32>>,
    transitions: u64,
    unlearnt: Vec<StateId>,
    unsound: Option<StateId>,
}

impl<S: Space> Search<'_, S> {
    /// How it ended, and whether the last level was left without discovering anything.
    fn run(
        &mut self,
        pool: &rayon::ThreadPool,
        progress: &mut dyn FnMut(Progress) -> bool,
    ) -> (Outcome, bool) {
        let mut from = vec![0; SHARDS];
        loop {
            let to = self.store.lengths();
            let level = self.store.between(&from, &to);
            if level.is_empty() {
                // The level before discovered nothing.
                self.depth -= 1;
                return (Outcome::Exhausted, true);
            }
            if self.space.is_layered() {
                self.store.forget_index();
            }
            for batch in level.chunks(BATCH) {
                if let Some(unsound) = self.expand(pool, batch) {
                    let what = self.space.complaint(self.store.state(unsound));
                    return (Outcome::Violated { what, path: self.store.path(unsound) }, self.is_last(&to));
                }
                if let Some(why) = self.stop(level.len() as u64, progress) {
                    return (Outcome::NotExhausted { why }, self.is_last(&to));
                }
            }
            from = to;
            self.depth += 1;
        }
    }

    fn is_last(&self, level_end: &[usize]) -> bool {
        self.store.lengths() == level_end
    }

    /// Expands a batch; returns the first state that is unsound.
    fn expand(&mut self, pool: &rayon::ThreadPool, batch: &[StateId]) -> Option<StateId> {
        let mut waiting = batch.to_vec();
        let mut unsound: Option<StateId> = None;
        while !waiting.is_empty() {
            let (space, store, depth, gate) = (&*self.space, &self.store, self.depth, &self.gate);
            let found: Vec<Found> = pool.install(|| {
                waiting.par_chunks(CHUNK).map(|chunk| look(space, store, depth, chunk, gate)).collect()
            });
            self.transitions += found.iter().map(|found| found.transitions).sum::<u64>();
            let first = found.iter().find_map(|found| found.unsound);
            unsound = unsound.or(first);
            pool.install(|| {
                self.store.shards.par_iter_mut().enumerate().for_each(|(number, shard)| {
                    for found in &found {
                        for candidate in found.candidates[number].chunks_exact(space.width() + 1) {
                            let (&origin, state) = candidate.split_last().expect("a state has an origin");
                            shard.add(state, StateId::from_word(origin));
                        }
                    }
                });
            });
            waiting = found.into_iter().flat_map(|found| found.unlearnt).collect();
            for &id in &waiting {
                if self.gate.look().is_some() {
                    return unsound;
                }
                self.space.learn(self.depth, self.store.state(id));
            }
        }
        unsound
    }

    /// Why the search must stop here, if it must.
    fn stop(&mut self, frontier: u64, progress: &mut dyn FnMut(Progress) -> bool) -> Option<&'static str> {
        let states = self.store.len();
        if states > self.gate.limits.states {
            return Some("the limit on states was reached");
        }
        if let Some(why) = self.gate.look() {
            return Some(why);
        }
        if self.reported.elapsed() < REPORT_EVERY {
            return None;
        }
        self.reported = Instant::now();
        let (transitions, depth) = (self.transitions, self.depth);
        let now = Progress { states, transitions, frontier, depth, elapsed: self.gate.began.elapsed() };
        (!progress(now)).then_some(INTERRUPTED)
    }
}

/// Expands the states of a chunk, or those of them that the limits leave time and memory for.
fn look<S: Space>(space: &S, store: &Store, depth: usize, chunk: &[StateId], gate: &Gate) -> Found {
    let mut found =
        Found { candidates: vec![Vec::new(); SHARDS], transitions: 0, unlearnt: Vec::new(), unsound: None };
    let mut successors: Vec<u32> = Vec::new();
    for (taken, &id) in chunk.iter().enumerate() {
        if taken % LOOK_AFTER == 0 && gate.look().is_some() {
            break;
        }
        successors.clear();
        let (mut listed, mut over) = (0, false);
        let mut list = |state: &[u32]| {
            listed += 1;
            over |= listed % LOOK_AFTER_SUCCESSORS == 0 && gate.look().is_some();
            if !over {
                successors.extend_from_slice(state);
            }
        };
        match space.expand(depth, store.state(id), &mut list) {
            Err(_) => found.unlearnt.push(id),
            Ok(judgement) => {
                for state in successors.chunks_exact(space.width()) {
                    let candidates = &mut found.candidates[shard_of(state)];
                    candidates.extend_from_slice(state);
                    candidates.push(id.word());
                    found.transitions += 1;
                }
                if judgement == Judgement::Unsound && found.unsound.is_none() {
                    found.unsound = Some(id);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Successors;
    use super::super::Unlearnt;
    use super::*;
    use std::collections::BTreeSet;

    /// A walk on a grid, with an unsound corner; every column has to be learnt.
    struct Grid {
        size: u32,
        unsound: Option<(u32, u32)>,
        learnt: BTreeSet<u32>,
    }

    impl Grid {
        fn new(size: u32, unsound: Option<(u32, u32)>) -> Self {
            Grid { size, unsound, learnt: BTreeSet::new() }
        }
    }

    impl Space for Grid {
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
            successors: &mut Successors<'_>,
        ) -> Result<Judgement, Unlearnt> {
            let (x, y) = (state[0], state[1]);
            if x + 1 < self.size {
                successors(&[x + 1, y]);
            }
            if !self.learnt.contains(&x) {
                return Err(Unlearnt);
            }
            if y + 1 < self.size {
                successors(&[x, y + 1]);
            }
            Ok(if Some((x, y)) == self.unsound { Judgement::Unsound } else { Judgement::Sound })
        }

        fn learn(&mut self, _: usize, state: &[u32]) {
            self.learnt.insert(state[0]);
        }

        fn complaint(&self, _: &[u32]) -> String {
            "unsound".into()
        }
    }

    fn run(grid: &mut Grid, threads: usize) -> Exploration {
        explore(grid, Limits { threads, ..Limits::default() }, &mut |_| true)
    }

    #[test]
    fn every_state_and_every_edge_is_counted_once_by_any_number_of_threads() {
        for threads in [1, 2, 3] {
            let found = run(&mut Grid::new(300, None), threads);
            assert_eq!(found.outcome, Outcome::Exhausted);
            assert_eq!((found.states, found.transitions, found.depth), (90_000, 2 * 300 * 299, 598));
        }
    }

    #[test]
    fn a_violation_comes_with_a_shortest_path_the_same_for_any_number_of_threads() {
        let paths = [1, 2].map(|threads| {
            let found = run(&mut Grid::new(20, Some((2, 3))), threads);
            let Outcome::Violated { what, path } = found.outcome else { panic!("not found") };
            assert_eq!((what.as_str(), path.len(), path.last()), ("unsound", 6, Some(&vec![2, 3])));
            path
        });
        assert_eq!(paths[0], paths[1]);
    }

    #[test]
    fn a_run_over_a_limit_is_not_exhausted() {
        let limits = [
            Limits { states: 100, ..Limits::default() },
            Limits { time: Duration::ZERO, ..Limits::default() },
            Limits { bytes: 1, allocated: || 2, ..Limits::default() },
        ];
        for limits in limits {
            let found = explore(&mut Grid::new(300, None), limits, &mut |_| true);
            assert!(matches!(found.outcome, Outcome::NotExhausted { .. }));
            assert!(found.states < 90_000);
        }
    }

    #[test]
    fn an_interrupted_run_is_not_exhausted() {
        struct Endless;
        impl Space for Endless {
            fn width(&self) -> usize {
                1
            }
            fn initial(&mut self) -> Vec<Vec<u32>> {
                vec![vec![0]]
            }
            fn expand(
                &self,
                _: usize,
                state: &[u32],
                successors: &mut Successors<'_>,
            ) -> Result<Judgement, Unlearnt> {
                successors(&[state[0].wrapping_add(1)]);
                Ok(Judgement::Sound)
            }
            fn learn(&mut self, _: usize, _: &[u32]) {}
            fn complaint(&self, _: &[u32]) -> String {
                String::new()
            }
        }
        let found = explore(&mut Endless, Limits::default(), &mut |progress| progress.states < 3);
        assert!(matches!(found.outcome, Outcome::NotExhausted { why: INTERRUPTED }));
    }

    #[test]
    fn a_state_takes_at_most_48_bytes() {
        let found = run(&mut Grid::new(600, None), 2);
        let each = found.state_bytes as f64 / found.states as f64;
        assert!(each < 48.0, "{each} bytes a state");
    }
}
