//! Correct replicas have the same state at the same checkpoint.

use crate::{History, Property, ServiceStep, Snapshot, Violation};
use pbft::service::Service;
use pbft::types::{Digest, SeqNo};
use std::collections::BTreeMap;

/// The digests of the checkpoints that correct replicas take, know to be stable, or fetch the state of, are
/// the same wherever the sequence number is.
///
/// Source: OSDI'99 §4.3.
pub struct CheckpointsAgree;

const NAME: &str = "checkpoints-agree";

impl<S: Service> Property<S> for CheckpointsAgree {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §4.3";
    const THEOREM: &'static str = "The checkpoints that correct replicas take, know to be stable or fetch \
                                   have one digest at each sequence number.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        let mut known = BTreeMap::new();
        for (&replica, history) in snapshot.replicas {
            for (n, digest, how) in checkpoints(history) {
                let (first, agreed, before) = *known.entry(n).or_insert((replica, digest, how));
                if agreed != digest {
                    let (n, first, replica) = (n.0, first.0, replica.0);
                    let what = format!(
                        "the state after n = {n} is {agreed:?}, {before} at replica {first}, and {digest:?}, \
                         {how} at replica {replica}"
                    );
                    return Err(Violation { property: NAME, what });
                }
            }
        }
        Ok(())
    }
}

/// The checkpoints that a replica took, knew to be stable or fetched the state of, and the state with which
/// its history begins.
pub(crate) fn checkpoints(history: &History) -> impl Iterator<Item = (SeqNo, Digest, &'static str)> {
    let taken = history.checkpoints.iter();
    let taken = taken.flat_map(|(&n, digests)| digests.iter().map(move |&digest| (n, digest, "taken")));
    let stable = history.stable.iter().map(|&(n, digest)| (n, digest, "stable"));
    let fetched = history.service_steps().iter().filter_map(|step| match *step {
        ServiceStep::Transferred { n, digest } => Some((n, digest, "fetched")),
        ServiceStep::Executed(_) => None,
    });
    let begun = history.base.iter().map(|base| (base.n, base.digest, "the beginning"));
    taken.chain(stable).chain(fetched).chain(begun)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, stable, taken, transferred};

    #[test]
    fn one_digest_taken_stable_and_fetched_agrees() {
        World::new()
            .with_all(0, &[taken(2, 1), stable(2, 1), taken(4, 2)])
            .with_all(1, &[stable(2, 1), transferred(2, 1), taken(4, 2), stable(4, 2)])
            .satisfies::<CheckpointsAgree>();
    }

    #[test]
    fn two_digests_taken_are_a_violation_at_two_replicas_and_at_one() {
        World::new()
            .with(0, taken(2, 1))
            .with_all(1, &[taken(4, 1), taken(2, 2)])
            .violates::<CheckpointsAgree>(
                "the state after n = 2 is 01010101, taken at replica 0, and 02020202, taken at replica 1",
            );
        World::new().with_all(0, &[taken(2, 1), taken(2, 2)]).violates::<CheckpointsAgree>(
            "the state after n = 2 is 01010101, taken at replica 0, and 02020202, taken at replica 0",
        );
    }

    #[test]
    fn a_stable_digest_that_differs_from_the_one_taken_is_a_violation() {
        World::new().with(0, taken(2, 1)).with(1, stable(2, 2)).violates::<CheckpointsAgree>(
            "the state after n = 2 is 01010101, taken at replica 0, and 02020202, stable at replica 1",
        );
    }

    #[test]
    fn a_fetched_digest_that_differs_from_the_stable_one_is_a_violation() {
        World::new().with_all(3, &[stable(2, 1), transferred(2, 2)]).violates::<CheckpointsAgree>(
            "the state after n = 2 is 01010101, stable at replica 3, and 02020202, fetched at replica 3",
        );
    }
}
