//! The worlds whose verdicts are claimed: one table, for the command line, the documents and the tests.

use crate::report::Explore;
use crate::world::{Application, Crashes, WorldConfig};
use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use std::time::Duration;

/// A world of a suite.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its bounds.
    pub config: WorldConfig,
    /// How it is explored.
    pub explore: Explore,
    /// The smallest suite that it is part of.
    pub suite: Suite,
    /// For a hunt the time it takes: nothing is claimed, but a violation would be one.
    pub hunt: Option<Duration>,
}

/// A suite; each is part of the next.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Suite {
    /// Less than two minutes on two cores.
    Default,
    /// Everything that is claimed, and short hunts: half an hour of processor time.
    Full,
    /// Larger worlds too, about which nothing is claimed, and long hunts.
    Night,
}

/// Worlds that differ in who is Byzantine and in how they are explored.
struct Family {
    n: u16,
    f: u16,
    byzantine: &'static [&'static [u16]],
    max_view: u64,
    max_seq: u64,
    requests: u32,
    max_batch: usize,
    checkpoint_interval: Option<u64>,
    window: Option<u64>,
    crashes: Option<Crashes>,
    /// Clients that call for this, in the place of requests.
    calls: Option<&'static str>,
    explore: &'static [Explore],
    suite: Suite,
    /// For hunts, how many seconds each takes.
    hunt: Option<u64>,
}

/// Four replicas, one of them Byzantine at most; view 0, one sequence number, two requests that compete for
/// it.
const FOUR: Family = Family {
    n: 4,
    f: 1,
    byzantine: ANYBODY,
    max_view: 0,
    max_seq: 1,
    requests: 2,
    max_batch: 1,
    checkpoint_interval: None,
    window: None,
    crashes: None,
    calls: None,
    explore: &[Explore::Lazy],
    suite: Suite::Default,
    hunt: None,
};

const ONE_BY_ONE: &[Explore] = &[Explore::None];
const BOTH_WAYS: &[Explore] = &[Explore::None, Explore::Lazy];
const IN_ROUNDS: &[Explore] = &[Explore::Layered];
const IN_ROUNDS_TOO: &[Explore] = &[Explore::Lazy, Explore::Layered];
const NOBODY: &[&[u16]] = &[&[]];
const ANYBODY: &[&[u16]] = &[&[], &[0], &[1], &[2], &[3]];
/// Nobody, the primary of view 0, and one of three backups: what they can do is the same but for their names.
const IN_VIEW_0: &[&[u16]] = &[&[], &[0], &[3]];
const OTHER_BACKUPS: &[&[u16]] = &[&[1], &[2]];
const SOMEBODY: &[&[u16]] = &[&[0], &[1], &[2], &[3]];

/// Crashes without bound.
const ANYWHERE: Option<Crashes> = Some(Crashes { at_most: None, between_steps: false });

/// Each of three replicas, and nobody.
const EVERY_THIRD: &[&[u16]] = &[&[], &[0], &[1], &[2]];

/// Every claim, and hunts. The default suite takes some two minutes on two cores.
const FAMILIES: &[Family] = &[
    Family { requests: 1, ..FOUR },
    Family { requests: 1, byzantine: NOBODY, explore: ONE_BY_ONE, ..FOUR },
    Family { requests: 1, byzantine: SOMEBODY, explore: ONE_BY_ONE, suite: Suite::Full, ..FOUR },
    FOUR,
    Family { byzantine: NOBODY, explore: ONE_BY_ONE, suite: Suite::Full, ..FOUR },
    Family { max_view: 1, explore: IN_ROUNDS_TOO, ..FOUR },
    Family { max_view: 2, byzantine: SOMEBODY, explore: IN_ROUNDS, ..FOUR },
    Family { max_view: 2, byzantine: SOMEBODY, suite: Suite::Full, ..FOUR },
    // Only with a second sequence number can a view change leave a gap, for a null request to fill.
    Family { max_view: 1, max_seq: 2, byzantine: &[&[3]], explore: IN_ROUNDS, ..FOUR },
    Family { max_view: 1, max_seq: 2, byzantine: &[&[3]], suite: Suite::Night, ..FOUR },
    // Fewer than 3f + 1 replicas are safe as long as quorums are as large as they must be then: everybody.
    Family { n: 3, byzantine: &[&[0], &[1], &[2]], explore: BOTH_WAYS, ..FOUR },
    Family { n: 3, byzantine: &[&[0], &[1], &[2]], max_view: 1, ..FOUR },
    // With a view change too they can be explored one by one, without any reduction.
    Family {
        n: 3,
        requests: 1,
        byzantine: EVERY_THIRD,
        max_view: 1,
        explore: BOTH_WAYS,
        suite: Suite::Full,
        ..FOUR
    },
    Family { n: 3, byzantine: EVERY_THIRD, max_view: 1, explore: ONE_BY_ONE, suite: Suite::Full, ..FOUR },
    Family {
        n: 3,
        requests: 1,
        byzantine: &[&[], &[1], &[2]],
        max_view: 2,
        explore: BOTH_WAYS,
        suite: Suite::Full,
        ..FOUR
    },
    Family { n: 3, requests: 1, byzantine: &[&[0]], max_view: 2, suite: Suite::Full, ..FOUR },
    Family {
        n: 3,
        requests: 1,
        byzantine: &[&[0]],
        max_view: 2,
        explore: ONE_BY_ONE,
        suite: Suite::Night,
        ..FOUR
    },
    Family {
        n: 3,
        requests: 1,
        byzantine: EVERY_THIRD,
        max_view: 1,
        checkpoint_interval: Some(1),
        explore: BOTH_WAYS,
        suite: Suite::Full,
        ..FOUR
    },
    // More replicas than 3f + 1: quorums are no longer 2f + 1.
    Family { n: 6, byzantine: &[&[], &[0], &[5]], ..FOUR },
    Family { n: 7, f: 2, byzantine: NOBODY, ..FOUR },
    Family { n: 7, f: 2, byzantine: &[&[0, 1]], requests: 1, ..FOUR },
    Family { n: 7, f: 2, byzantine: &[&[0, 1], &[5, 6]], suite: Suite::Full, ..FOUR },
    // Both requests in one batch, or each in one of its own.
    Family { max_batch: 2, byzantine: &[&[0]], ..FOUR },
    Family { max_batch: 2, max_view: 1, byzantine: &[&[3]], ..FOUR },
    Family { max_batch: 2, max_view: 1, byzantine: &[&[1]], suite: Suite::Full, ..FOUR },
    Family { max_batch: 2, max_view: 1, byzantine: &[&[0]], suite: Suite::Night, ..FOUR },
    // Every request is a checkpoint, and fills the window.
    Family { byzantine: NOBODY, checkpoint_interval: Some(1), ..FOUR },
    Family {
        n: 3,
        requests: 1,
        byzantine: &[&[0], &[1], &[2]],
        checkpoint_interval: Some(1),
        explore: BOTH_WAYS,
        ..FOUR
    },
    Family {
        checkpoint_interval: Some(1),
        max_view: 1,
        byzantine: &[&[0], &[1]],
        suite: Suite::Full,
        ..FOUR
    },
    Family { checkpoint_interval: Some(1), max_view: 1, byzantine: &[&[3]], suite: Suite::Night, ..FOUR },
    Family { checkpoint_interval: Some(1), max_view: 1, byzantine: NOBODY, suite: Suite::Full, ..FOUR },
    Family {
        requests: 1,
        byzantine: NOBODY,
        checkpoint_interval: Some(1),
        explore: ONE_BY_ONE,
        suite: Suite::Full,
        ..FOUR
    },
    Family {
        max_view: 1,
        max_seq: 2,
        byzantine: &[&[3]],
        checkpoint_interval: Some(2),
        suite: Suite::Night,
        ..FOUR
    },
    Family {
        requests: 1,
        max_view: 1,
        max_seq: 2,
        byzantine: &[&[], &[1], &[3]],
        suite: Suite::Full,
        ..FOUR
    },
    Family { requests: 1, max_view: 1, max_seq: 2, byzantine: &[&[0], &[2]], suite: Suite::Night, ..FOUR },
    Family {
        requests: 1,
        max_view: 1,
        max_seq: 2,
        byzantine: &[&[3]],
        checkpoint_interval: Some(1),
        suite: Suite::Night,
        ..FOUR
    },
    Family { max_seq: 2, checkpoint_interval: Some(1), byzantine: &[&[], &[3]], ..FOUR },
    // Correct replicas crash between any two effects of any step, any number of times, and restart.
    Family { crashes: ANYWHERE, ..FOUR },
    Family { max_view: 1, crashes: ANYWHERE, byzantine: &[&[3]], ..FOUR },
    Family { max_view: 1, crashes: ANYWHERE, byzantine: &[&[], &[0], &[1]], suite: Suite::Full, ..FOUR },
    Family { max_seq: 2, crashes: ANYWHERE, byzantine: IN_VIEW_0, suite: Suite::Full, ..FOUR },
    Family {
        checkpoint_interval: Some(1),
        crashes: ANYWHERE,
        byzantine: IN_VIEW_0,
        suite: Suite::Full,
        ..FOUR
    },
    Family {
        n: 3,
        requests: 1,
        byzantine: &[&[0], &[1], &[2]],
        crashes: ANYWHERE,
        explore: BOTH_WAYS,
        suite: Suite::Full,
        ..FOUR
    },
    Family {
        requests: 1,
        max_view: 1,
        checkpoint_interval: Some(1),
        crashes: ANYWHERE,
        suite: Suite::Night,
        ..FOUR
    },
    Family { requests: 1, max_view: 2, crashes: ANYWHERE, suite: Suite::Night, ..FOUR },
    // With two requests the search ends (6,162,304 states), and the simulation wants more than 17 GiB.
    Family {
        max_view: 1,
        checkpoint_interval: Some(1),
        crashes: ANYWHERE,
        byzantine: &[&[3]],
        suite: Suite::Night,
        ..FOUR
    },
    // Clients that wait for each other and read without order: what they see is linearizable.
    Family { calls: Some("w.r"), byzantine: &[&[0], &[3]], ..FOUR },
    Family { calls: Some("w.r"), max_seq: 2, byzantine: IN_VIEW_0, suite: Suite::Full, ..FOUR },
    Family { calls: Some("wr.w"), max_seq: 2, byzantine: &[&[0], &[3]], suite: Suite::Full, ..FOUR },
    Family { calls: Some("w.r"), max_view: 1, byzantine: &[&[3]], suite: Suite::Full, ..FOUR },
    Family { calls: Some("w.r"), max_view: 1, byzantine: &[&[0], &[1]], suite: Suite::Night, ..FOUR },
    Family { calls: Some("wr.w-g"), max_seq: 2, byzantine: &[&[3]], suite: Suite::Night, ..FOUR },
    Family { calls: Some("wr.w"), max_seq: 2, byzantine: NOBODY, suite: Suite::Night, ..FOUR },
    Family { calls: Some("w.r-z"), max_seq: 2, byzantine: &[&[3]], suite: Suite::Night, ..FOUR },
    // The second number is beyond the window until the first is stable.
    Family { max_seq: 2, checkpoint_interval: Some(1), window: Some(1), ..FOUR },
    Family { max_seq: 2, suite: Suite::Full, ..FOUR },
    Family { max_view: 2, byzantine: NOBODY, suite: Suite::Night, ..FOUR },
    // Replicas 2 and 3 are never primaries in views 0 and 1: what they can do is the same but for their
    // names.
    Family { checkpoint_interval: Some(1), max_view: 1, byzantine: &[&[2]], suite: Suite::Night, ..FOUR },
    Family { max_batch: 2, max_view: 1, byzantine: &[&[2]], suite: Suite::Night, ..FOUR },
    Family { max_view: 1, crashes: ANYWHERE, byzantine: &[&[2]], suite: Suite::Night, ..FOUR },
    // In view 0 neither is replica 1.
    Family { max_seq: 2, crashes: ANYWHERE, byzantine: OTHER_BACKUPS, suite: Suite::Night, ..FOUR },
    Family {
        checkpoint_interval: Some(1),
        crashes: ANYWHERE,
        byzantine: OTHER_BACKUPS,
        suite: Suite::Night,
        ..FOUR
    },
    Family { calls: Some("w.r"), max_seq: 2, byzantine: OTHER_BACKUPS, suite: Suite::Night, ..FOUR },
    Family { n: 7, f: 2, byzantine: &[&[0, 5]], suite: Suite::Night, ..FOUR },
    // About these nothing is claimed, and it takes long.
    Family {
        n: 7,
        f: 2,
        max_view: 1,
        byzantine: &[&[0, 1], &[0, 5], &[5, 6]],
        explore: IN_ROUNDS,
        suite: Suite::Night,
        ..FOUR
    },
    Family {
        requests: 1,
        max_view: 1,
        max_seq: 2,
        byzantine: &[&[1], &[2]],
        checkpoint_interval: Some(1),
        suite: Suite::Night,
        ..FOUR
    },
    Family {
        max_seq: 2,
        checkpoint_interval: Some(1),
        byzantine: &[&[0], &[1], &[2]],
        suite: Suite::Night,
        ..FOUR
    },
    Family {
        max_view: 1,
        max_seq: 2,
        byzantine: &[&[0], &[1], &[2]],
        explore: IN_ROUNDS,
        suite: Suite::Night,
        ..FOUR
    },
    // Three view changes.
    Family { requests: 1, max_view: 3, suite: Suite::Night, ..FOUR },
    Family {
        n: 7,
        f: 2,
        requests: 1,
        max_view: 1,
        byzantine: &[&[0, 1], &[5, 6]],
        suite: Suite::Night,
        ..FOUR
    },
    // These take 13 GiB of memory: `--memory 16`.
    Family {
        max_view: 1,
        max_seq: 2,
        byzantine: &[&[2], &[3]],
        checkpoint_interval: Some(1),
        suite: Suite::Night,
        ..FOUR
    },
    // What cannot be exhausted is hunted through, nearest states first.
    Family { max_view: 1, max_seq: 2, byzantine: &[&[0], &[1]], checkpoint_interval: Some(1), ..HUNT },
    Family { n: 7, f: 2, max_view: 1, byzantine: &[&[0, 1]], ..HUNT },
    Family { max_view: 2, max_seq: 2, byzantine: SOMEBODY, ..HUNT },
];

/// A look for violations, three seconds long.
const HUNT: Family = Family { suite: Suite::Full, hunt: Some(3), ..FOUR };

/// Every world, those of the default suite first, hunts last.
pub fn all() -> Vec<Entry> {
    let mut all: Vec<Entry> = FAMILIES.iter().flat_map(Family::entries).collect();
    all.sort_by_key(|entry| (entry.suite, entry.hunt.is_some()));
    all
}

impl Family {
    fn entries(&self) -> Vec<Entry> {
        let ways = self.byzantine.iter().flat_map(|&who| self.explore.iter().map(move |&how| (who, how)));
        let entry = |(who, explore)| Entry {
            config: self.config(who),
            explore,
            suite: self.suite,
            hunt: self.hunt.map(Duration::from_secs),
        };
        ways.map(entry).collect()
    }

    fn config(&self, byzantine: &[u16]) -> WorldConfig {
        let config = WorldConfig {
            byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
            max_view: View(self.max_view),
            max_seq: SeqNo(self.max_seq),
            max_batch: self.max_batch,
            checkpoint_interval: self.checkpoint_interval,
            window: self.window,
            crashes: self.crashes,
            ..WorldConfig::new(Cluster::new(self.n, self.f), self.requests)
        };
        match self.calls {
            Some(calls) => {
                config.with_application(Application::parse(calls).expect("the table is well-formed"))
            }
            None => config,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_world_makes_sense_and_is_there_once() {
        let names: BTreeSet<_> = all().iter().map(|entry| (entry.config.name(), entry.explore)).collect();
        assert_eq!(names.len(), all().len());
        for entry in all() {
            assert_eq!(entry.config.problem(), None, "{}", entry.config.name());
            // With more than f Byzantine replicas nothing is claimed.
            assert!(entry.config.byzantine.len() <= entry.config.cluster.f(), "{}", entry.config.name());
        }
    }

    #[test]
    fn a_hunt_is_not_part_of_the_default_suite_and_claims_nothing_that_is_claimed() {
        let (hunts, claims): (Vec<_>, Vec<_>) = all().into_iter().partition(|entry| entry.hunt.is_some());
        assert!(!hunts.is_empty() && hunts.iter().all(|entry| entry.suite > Suite::Default));
        let same = |one: &Entry, other: &Entry| one.config == other.config && one.explore == other.explore;
        assert!(hunts.iter().all(|hunt| !claims.iter().any(|claim| same(hunt, claim))));
    }

    #[test]
    fn a_name_says_the_bounds_and_who_is_byzantine() {
        let config = WorldConfig { checkpoint_interval: Some(1), ..FOUR.config(&[3]) };
        assert_eq!(config.name(), "n4f1-byz3-v0k1r2b1-c1w1");
        assert_eq!(FOUR.config(&[]).name(), "n4f1-byznone-v0k1r2b1");
    }
}
