//! So much a second, in small bursts.

use std::time::{Duration, Instant};

/// The most at a time: what could not be sent in time is not made up for all at once.
const BURST: u64 = 256;

/// How much of something is due.
pub struct Pace {
    rate: u64,
    from: Instant,
    done: u64,
}

impl Pace {
    /// `rate` a second, beginning `from` then.
    pub fn new(rate: u64, from: Instant) -> Self {
        Pace { rate, from, done: 0 }
    }

    /// How many are due now; they are taken to be done.
    pub fn take(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.from);
        let all = u64::try_from(passed.as_micros()).unwrap_or(u64::MAX).saturating_mul(self.rate) / 1_000_000;
        let due = all.saturating_sub(self.done);
        self.done = all;
        due.min(BURST)
    }

    /// How long until the next is due, at most `most`.
    pub fn rest(&self, now: Instant, most: Duration) -> Duration {
        let next = (self.done + 1).saturating_mul(1_000_000) / self.rate.max(1);
        (self.from + Duration::from_micros(next)).saturating_duration_since(now).min(most)
    }
}
