//! How long things take, and how large they are: counts in fixed buckets.
//!
//! Nothing is locked or allocated to count: a search among at most [`MAX_BOUNDS`] bounds, and two relaxed
//! additions. Measured by one thread on a busy machine of two cores, optimised as the development profile is: 16 to
//! 18 ns for each value (the ignored test below prints it). A step, a batch and a store commit count one or two each.

use super::counters::nanoseconds;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The most bounds of a histogram.
pub const MAX_BOUNDS: usize = 16;

/// From 10 microseconds to 10 seconds, in nanoseconds.
const TIMES: &[u64] = &[
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
    3_000_000_000,
    10_000_000_000,
];
/// Powers of two.
const SIZES: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];

/// Counts of values, by size. They wrap after 2^64.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is beyond the last.
    counts: [AtomicU64; MAX_BOUNDS + 1],
    sum: AtomicU64,
}

/// What a histogram held at one time. While others count, the sum may be of a few values more or fewer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Snapshot {
    /// The largest value of each bucket, and how many values it has; `None` for what is beyond all bounds.
    pub buckets: Vec<(Option<u64>, u64)>,
    /// The sum of all values.
    pub sum: u64,
}

impl Snapshot {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|&(_, count)| count).sum()
    }
}

impl Histogram {
    /// Of durations, in nanoseconds.
    pub fn of_times() -> Self {
        Self::new(TIMES)
    }

    /// Of numbers of things.
    pub fn of_sizes() -> Self {
        Self::new(SIZES)
    }

    fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.len() <= MAX_BOUNDS && bounds.is_sorted());
        Histogram { bounds, counts: Default::default(), sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Counts a duration.
    pub fn took(&self, time: Duration) {
        self.observe(nanoseconds(time));
    }

    /// What it holds.
    pub fn snapshot(&self) -> Snapshot {
        let bounds = self.bounds.iter().map(|&bound| Some(bound)).chain([None]);
        let counts = self.counts.iter().map(|count| count.load(Relaxed));
        Snapshot { buckets: bounds.zip(counts).collect(), sum: self.sum.load(Relaxed) }
    }
}

/// Those of a replica.
#[derive(Debug)]
pub struct Histograms {
    /// From a batch's PRE-PREPARE, sent or accepted, to its execution.
    pub execution: Histogram,
    /// Making a group of records durable.
    pub store_commit: Histogram,
    /// A step of the replica.
    pub step: Histogram,
    /// Requests executed from one batch.
    pub batch: Histogram,
}

impl Default for Histograms {
    fn default() -> Self {
        Histograms {
            execution: Histogram::of_times(),
            store_commit: Histogram::of_times(),
            step: Histogram::of_times(),
            batch: Histogram::of_sizes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::counters::thread_time;

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_is_not_below_it() {
        let histogram = Histogram::of_sizes();
        for value in [0, 1, 2, 3, 4, 5, 1024, 1025, u64::MAX / 2] {
            histogram.observe(value);
        }
        let seen = histogram.snapshot();
        let filled: Vec<_> = seen.buckets.iter().copied().filter(|&(_, count)| count > 0).collect();
        let expected =
            vec![(Some(1), 2), (Some(2), 1), (Some(4), 2), (Some(8), 1), (Some(1024), 1), (None, 2)];
        assert_eq!((filled, seen.count()), (expected, 9));
        assert_eq!(seen.sum, 2064 + u64::MAX / 2);
        assert_eq!(seen.buckets.len(), SIZES.len() + 1);
    }

    #[test]
    fn times_are_told_apart_from_ten_microseconds_to_ten_seconds() {
        let histogram = Histogram::of_times();
        for time in [Duration::ZERO, Duration::from_micros(11), Duration::from_secs(10), Duration::MAX] {
            histogram.took(time);
        }
        let counts: Vec<u64> = histogram.snapshot().buckets.iter().map(|&(_, count)| count).collect();
        assert_eq!(counts, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    }

    /// `cargo test --lib histogram -- --ignored --nocapture` prints what a value costs.
    #[test]
    #[ignore = "a measurement"]
    fn what_counting_costs() {
        let histogram = Histogram::of_times();
        let before = thread_time();
        for value in 0..10_000_000_u64 {
            histogram.observe(std::hint::black_box(value * 997));
        }
        println!("{:?} of processor time for each value", (thread_time() - before) / 10_000_000);
        assert_eq!(histogram.snapshot().count(), 10_000_000);
    }
}
