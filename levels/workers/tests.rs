//! The same search by any number of workers, in one process and in several.

use super::*;
use crate::tests_on_disk::Named;
use crate::{Judgement, Successors, Unlearnt, explore};
use std::net::TcpListener;
use std::time::Duration;

/// What does not depend on the time, nor on where states are kept.
type Told = (Outcome, u64, u64, usize);

fn told(found: Exploration) -> Told {
    (found.outcome, found.states, found.transitions, found.depth)
}

fn limits() -> Limits {
    Limits { threads: 1, ..Limits::default() }
}

/// Explores in one process with so many workers.
fn among<S: Space + Send>(space: &mut S, here: usize, limits: Limits) -> Told {
    let workers = Workers { here, peers: None };
    told(explore_among(space, limits, None, workers, &mut |_| true).expect("nobody is gone"))
}

fn large(unsound: Option<u32>) -> Named {
    Named { size: 1_000_003, factor: 31, step: 654_321, unsound, ..Named::default() }
}

#[test]
fn any_number_of_workers_gives_the_same_names_counts_and_ways() {
    let mut all = Named::default();
    let expected = told(explore(&mut all, limits(), &mut |_| true));
    for here in [1, 2, 3] {
        let mut space = Named::default();
        assert_eq!(among(&mut space, here, limits()), expected, "{here} workers");
        assert!(space.numbers == all.numbers, "{here} workers give other names");
    }
    // States in the first batch of a level, in a later one, and in the last level.
    let numbers = [1, 2, 7, 10, 11].map(|part| all.numbers[all.numbers.len() / 12 * part]);
    for unsound in numbers.into_iter().chain(all.numbers.last().copied()) {
        let named = || Named { unsound: Some(unsound), ..Named::default() };
        let mut one = named();
        let expected = told(explore(&mut one, limits(), &mut |_| true));
        assert!(matches!(expected.0, Outcome::Violated { .. }));
        for here in [2, 3] {
            let mut space = named();
            assert_eq!(among(&mut space, here, limits()), expected, "{here} workers, {unsound}");
            assert!(space.numbers == one.numbers, "{here} workers give other names, {unsound}");
        }
    }
}
