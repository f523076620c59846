//! What a host measures to know how long a request should take: round trips, syncs, the work of a batch.
//!
//! None of it is decided by f replicas. The round trip to a quorum is the longest of the shortest ones that
//! make a quorum with this replica: f that answer late, or not at all, are left out, and f that answer early make
//! it at most as short as the way to the nearest correct ones. Syncs and work are this machine's own. A round
//! trip is measured by a [`Ping`](super::control::Control::Ping) that waits in the other's queues like a vote, and
//! whose answer leaves after what was recorded before it is durable: so it holds the load of the other
//! machines.

use crate::types::{Cluster, ReplicaId};
use std::time::Duration;

/// How long a measurement counts, at least; at most twice as long.
const COUNTS: Duration = Duration::from_secs(2);
/// Beyond what is measured: how late threads wake up.
const SLACK: Duration = Duration::from_millis(10);

/// The highest of the last few seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    current: Duration,
    before: Duration,
    since: Duration,
}

impl Recent {
    fn turn(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        if passed >= COUNTS {
            self.before = if passed < 2 * COUNTS { self.current } else { Duration::ZERO };
            (self.current, self.since) = (Duration::ZERO, now);
        }
    }

    fn add(&mut self, value: Duration, now: Duration) {
        self.turn(now);
        self.current = self.current.max(value);
    }

    fn highest(mut self, now: Duration) -> Duration {
        self.turn(now);
        self.current.max(self.before)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Way {
    trips: Recent,
    /// The last question, and when it was sent, if it has no answer yet.
    asked: Option<(u64, Duration)>,
    /// The last round trip.
    last: Option<Duration>,
}

/// What one replica has measured lately.
#[derive(Clone, Debug)]
pub struct Delays {
    own: ReplicaId,
    quorum: usize,
    ways: Vec<Way>,
    sync: Recent,
    batch: Recent,
    next: u64,
}

impl Delays {
    /// Nothing is measured yet by replica `own`.
    pub fn new(cluster: &Cluster, own: ReplicaId) -> Self {
        let ways = vec![Way::default(); cluster.n()];
        let (sync, batch) = Default::default();
        Delays { own, quorum: cluster.quorum(), ways, sync, batch, next: 0 }
    }

    /// All others are asked `now`; with what number.
    pub fn ask(&mut self, now: Duration) -> u64 {
        self.next += 1;
        for way in &mut self.ways {
            if let Some((_, at)) = way.asked.replace((self.next, now)) {
                // No answer yet: it takes at least that long.
                way.trips.add(now.saturating_sub(at), now);
            }
        }
        self.next
    }

    /// A replica has answered. Counts once, and for the last question only.
    pub fn answered(&mut self, replica: ReplicaId, number: u64, now: Duration) {
        let Some(way) = self.ways.get_mut(usize::from(replica.0)) else { return };
        if let Some((_, at)) = way.asked.take_if(|(asked, _)| *asked == number) {
            let trip = now.saturating_sub(at);
            way.trips.add(trip, now);
            way.last = Some(trip);
        }
    }

    /// Making records durable took so long.
    pub fn synced(&mut self, took: Duration, now: Duration) {
        self.sync.add(took, now);
    }

    /// Verifying a batch and the step for it took so long.
    pub fn handled(&mut self, took: Duration, now: Duration) {
        self.batch.add(took, now);
    }

    /// The last round trip to a replica, if there was one.
    pub fn last_trip(&self, replica: ReplicaId) -> Option<Duration> {
        self.ways.get(usize::from(replica.0))?.last
    }

    /// The longest round trip lately to the nearest replicas that make a quorum with this one.
    pub fn quorum_trip(&self, now: Duration) -> Duration {
        let others = self.ways.iter().enumerate().filter(|&(other, _)| other != usize::from(self.own.0));
        let mut trips: Vec<Duration> = others.map(|(_, way)| way.trips.highest(now)).collect();
        trips.sort_unstable();
        let last = self.quorum.checked_sub(2).and_then(|index| trips.get(index));
        last.copied().unwrap_or_default()
    }

    /// The longest sync lately.
    pub fn sync(&self, now: Duration) -> Duration {
        self.sync.highest(now)
    }

    /// The longest work for a batch lately.
    pub fn batch(&self, now: Duration) -> Duration {
        self.batch.highest(now)
    }

    /// How long a request may take from when this replica hears of it until it executes, under a correct
    /// primary: to the primary and through three phases, two round trips in all, with a sync in each phase;
    /// and twice the work of a batch, as the one before may have to end first.
    pub fn expected(&self, now: Duration) -> Duration {
        2 * self.quorum_trip(now) + 3 * self.sync.highest(now) + 2 * self.batch.highest(now) + SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn no_single_replica_makes_the_way_to_a_quorum_longer() {
        let mut delays = Delays::new(&Cluster::new(4, 1), ReplicaId(1));
        for round in 0..10 {
            let asked = round * 100;
            let number = delays.ask(ms(asked));
            delays.answered(ReplicaId(0), number, ms(asked + 2));
            delays.answered(ReplicaId(3), number, ms(asked + 5));
            delays.answered(ReplicaId(3), number, ms(asked + 90));
            delays.answered(ReplicaId(2), number - round % 2, ms(asked + 80));
        }
        assert_eq!(delays.quorum_trip(ms(1000)), ms(5));
        assert_eq!(delays.last_trip(ReplicaId(3)), Some(ms(5)));
    }

    #[test]
    fn who_does_not_answer_is_as_far_as_the_question_is_old() {
        let mut delays = Delays::new(&Cluster::new(4, 1), ReplicaId(0));
        delays.ask(ms(0));
        let number = delays.ask(ms(300));
        delays.answered(ReplicaId(1), number, ms(301));
        assert_eq!(delays.quorum_trip(ms(301)), ms(300));
    }

    #[test]
    fn what_was_measured_is_forgotten() {
        let mut delays = Delays::new(&Cluster::new(4, 1), ReplicaId(0));
        delays.synced(ms(50), ms(1000));
        delays.handled(ms(3), ms(1000));
        assert_eq!(delays.expected(ms(2900)), ms(166));
        delays.synced(ms(1), ms(3500));
        assert_eq!(delays.expected(ms(3600)), ms(166));
        assert_eq!(delays.expected(ms(6000)), ms(13));
        assert_eq!(delays.expected(ms(60_000)), SLACK);
    }
}
