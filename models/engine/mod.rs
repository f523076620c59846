//! Exhaustive exploration, level by level.
//!
//! Every state reachable within the space's bounds is visited once; a violation is found at the least number of
//! steps from the start. States are compared exactly, never by a fingerprint, so no collision can hide one. A
//! run that is cut short says so: only [`Outcome::Exhausted`] is a claim about all states.

use foldhash::fast::FixedState;
use indexmap::IndexMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A state graph. States are small keys; whatever they stand for is the space's own business.
pub trait Space {
    /// A state.
    type State: Copy + Eq + Hash;
    /// What leads from one state to the next; `Action`s name steps in traces.
    type Action: Copy;

    /// The states to start from.
    fn initial(&mut self) -> Vec<Self::State>;

    /// Everything that can happen in `state`, with the state it leads to. Steps that lead back to `state` may
    /// be left out.
    fn successors(&mut self, state: Self::State, out: &mut Vec<(Self::Action, Self::State)>);

    /// Judges one state. Called once for each state, in the order of their distance from the start.
    ///
    /// # Errors
    /// What is violated.
    fn judge(&mut self, state: Self::State) -> Result<(), String>;
}

/// How an exploration ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome<A, S> {
    /// Every reachable state was visited and judged sound.
    Exhausted,
    /// A state was judged unsound. The trace is a shortest one: the steps and the states they lead to.
    Violated {
        /// What is violated.
        what: String,
        /// The state started from.
        start: S,
        /// Each step, with the state after it.
        trace: Vec<(A, S)>,
    },
    /// The limit on memory or the caller stopped the run: nothing is claimed about what was not visited.
    NotExhausted {
        /// Why it stopped.
        why: &'static str,
    },
}

/// What an exploration did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exploration<A, S> {
    /// How it ended.
    pub outcome: Outcome<A, S>,
    /// Distinct states visited.
    pub states: usize,
    /// Distinct edges between them, loops left out.
    pub transitions: u64,
    /// The most steps that any visited state is away from the start.
    pub depth: usize,
    /// Wall time.
    pub elapsed: Duration,
}

/// How far an exploration is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// States visited so far.
    pub states: usize,
    /// Edges seen so far.
    pub transitions: u64,
    /// States of the level being expanded.
    pub frontier: usize,
    /// The number of that level.
    pub depth: usize,
    /// Wall time so far.
    pub elapsed: Duration,
}

/// Between two calls of the progress report.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// Explores all of `space`, or as much of it as `max_states` allows, telling `progress` now and then. The
/// exploration stops when `progress` returns false.
pub fn explore<S: Space>(
    space: &mut S,
    max_states: usize,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Exploration<S::Action, S::State> {
    let began = Instant::now();
    let mut search = Search { seen: IndexMap::default(), transitions: 0 };
    let mut level = 0..0;
    for state in space.initial() {
        search.seen.entry(state).or_insert(None);
    }
    level.end = search.seen.len();
    let (mut depth, mut reported) = (0, began);
    let outcome = 'levels: loop {
        if let Some(violated) = search.judge(space, level.clone()) {
            break violated;
        }
        for index in level.clone() {
            search.expand(space, index);
            if search.seen.len() > max_states {
                break 'levels Outcome::NotExhausted { why: "the limit on states was reached" };
            }
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                let (states, transitions) = (search.seen.len(), search.transitions);
                let frontier = level.len();
                if !progress(Progress { states, transitions, frontier, depth, elapsed: began.elapsed() }) {
                    break 'levels Outcome::NotExhausted { why: "it was interrupted" };
                }
            }
        }
        level = level.end..search.seen.len();
        if level.is_empty() {
            break Outcome::Exhausted;
        }
        depth += 1;
    };
    // What a level discovers is one step further away, whether or not that level was finished.
    let depth = depth + usize::from(search.seen.len() > level.end);
    Exploration {
        outcome,
        states: search.seen.len(),
        transitions: search.transitions,
        depth,
        elapsed: began.elapsed(),
    }
}

/// States in the order of their discovery, each with the step that discovered it.
struct Search<A, S> {
    seen: IndexMap<S, Option<(usize, A)>, FixedState>,
    transitions: u64,
}

impl<A: Copy, S: Copy + Eq + Hash> Search<A, S> {
    fn expand<P: Space<Action = A, State = S>>(&mut self, space: &mut P, index: usize) {
        let Some((&state, _)) = self.seen.get_index(index) else { return };
        let mut successors = Vec::new();
        space.successors(state, &mut successors);
        let mut targets: IndexMap<S, A, FixedState> = IndexMap::default();
        for (action, target) in successors {
            if target != state {
                targets.entry(target).or_insert(action);
            }
        }
        self.transitions += targets.len() as u64;
        for (target, action) in targets {
            self.seen.entry(target).or_insert(Some((index, action)));
        }
    }

    fn judge<P: Space<Action = A, State = S>>(
        &self,
        space: &mut P,
        level: std::ops::Range<usize>,
    ) -> Option<Outcome<A, S>> {
        for index in level {
            let (&state, _) = self.seen.get_index(index)?;
            if let Err(what) = space.judge(state) {
                let (start, trace) = self.trace(index)?;
                return Some(Outcome::Violated { what, start, trace });
            }
        }
        None
    }

    /// The steps by which a state was discovered.
    fn trace(&self, mut index: usize) -> Option<(S, Vec<(A, S)>)> {
        let mut trace = Vec::new();
        loop {
            let (&state, parent) = self.seen.get_index(index)?;
            match *parent {
                None => {
                    trace.reverse();
                    return Some((state, trace));
                }
                Some((from, action)) => {
                    trace.push((action, state));
                    index = from;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A walk on a grid, with an unsound corner.
    struct Grid {
        size: u32,
        unsound: Option<(u32, u32)>,
    }

    impl Space for Grid {
        type State = (u32, u32);
        type Action = char;

        fn initial(&mut self) -> Vec<(u32, u32)> {
            vec![(0, 0)]
        }

        fn successors(&mut self, (x, y): (u32, u32), out: &mut Vec<(char, (u32, u32))>) {
            if x + 1 < self.size {
                out.push(('x', (x + 1, y)));
            }
            if y + 1 < self.size {
                out.push(('y', (x, y + 1)));
            }
        }

        fn judge(&mut self, state: (u32, u32)) -> Result<(), String> {
            if Some(state) == self.unsound { Err("unsound".into()) } else { Ok(()) }
        }
    }

    #[test]
    fn every_state_and_every_edge_is_counted_once() {
        let mut grid = Grid { size: 20, unsound: None };
        let found = explore(&mut grid, usize::MAX, &mut |_| true);
        assert_eq!(found.outcome, Outcome::Exhausted);
        assert_eq!((found.states, found.transitions, found.depth), (400, 2 * 20 * 19, 38));
    }

    #[test]
    fn a_violation_comes_with_a_shortest_trace() {
        let mut grid = Grid { size: 20, unsound: Some((2, 3)) };
        let found = explore(&mut grid, usize::MAX, &mut |_| true);
        let Outcome::Violated { what, start, trace } = found.outcome else { panic!("not found") };
        assert_eq!((what.as_str(), start, trace.len()), ("unsound", (0, 0), 5));
        assert_eq!(trace.last().map(|&(_, state)| state), Some((2, 3)));
    }

    #[test]
    fn a_truncated_run_is_not_exhausted() {
        let mut grid = Grid { size: 20, unsound: None };
        let found = explore(&mut grid, 100, &mut |_| true);
        assert!(matches!(found.outcome, Outcome::NotExhausted { .. }));
        assert!(found.states < 400);
    }
}
