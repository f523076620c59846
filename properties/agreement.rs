//! No two correct replicas execute different batches at one sequence number.

use crate::{Execution, Property, Snapshot, Violation};
use pbft::service::Service;
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::collections::BTreeMap;

/// The digests committed at one sequence number, in whichever views and at whichever correct replicas, are
/// one; and the batches executed there are one, with the same requests and the same results.
///
/// Source: OSDI'99 §4.5.1, safety.
pub struct Agreement;

const NAME: &str = "agreement";

impl<S: Service> Property<S> for Agreement {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §4.5.1";
    const THEOREM: &'static str = "No two correct replicas commit or execute different batches, or execute \
                                   them with different results, at one sequence number.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        let mut committed = BTreeMap::new();
        let mut executed = BTreeMap::new();
        for (&replica, history) in snapshot.replicas {
            for (&(view, n), digests) in history.committed() {
                for &digest in digests {
                    let first = *committed.entry(n).or_insert((replica, view, digest));
                    same_commit(n, first, (replica, view, digest))?;
                }
            }
            for execution in history.executions() {
                let first = *executed.entry(execution.n).or_insert((replica, execution));
                same_execution(first, (replica, execution))?;
            }
        }
        executed.iter().try_for_each(|(n, &(replica, execution))| match committed.get(n) {
            Some(&(by, view, digest)) if digest != execution.digest => {
                let (n, view, executed) = (n.0, view.0, execution.digest);
                Err(violation(format!(
                    "at n = {n}, replica {} committed {digest:?} in view {view} and replica {} executed \
                     {executed:?}",
                    by.0, replica.0
                )))
            }
            _ => Ok(()),
        })
    }
}

type Commit = (ReplicaId, View, Digest);

fn same_commit(n: SeqNo, first: Commit, second: Commit) -> Result<(), Violation> {
    if first.2 == second.2 {
        return Ok(());
    }
    let told = |(replica, view, digest): Commit| {
        format!("replica {} committed {digest:?} in view {}", replica.0, view.0)
    };
    Err(violation(format!("at n = {}, {} and {}", n.0, told(first), told(second))))
}

fn same_execution(
    (one, first): (ReplicaId, &Execution),
    (other, second): (ReplicaId, &Execution),
) -> Result<(), Violation> {
    let (n, one, other) = (first.n.0, one.0, other.0);
    if first.digest != second.digest {
        let digests = (first.digest, second.digest);
        return Err(violation(format!(
            "at n = {n}, replica {one} executed {:?} and replica {other} executed {:?}",
            digests.0, digests.1
        )));
    }
    if first.requests == second.requests {
        return Ok(());
    }
    let differ = first.requests.iter().zip(&second.requests).find(|(a, b)| a != b);
    let how = match differ {
        Some((a, b)) => format!("replica {one} ran {a:?} where replica {other} ran {b:?}"),
        None => {
            let (a, b) = (first.requests.len(), second.requests.len());
            format!("replica {one} ran {a} requests and replica {other} ran {b}")
        }
    };
    Err(violation(format!("at n = {n}, executing {:?}, {how}", first.digest)))
}

fn violation(what: String) -> Violation {
    Violation { property: NAME, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, committed, executed, request};

    #[test]
    fn the_same_batches_committed_in_different_views_and_executed_everywhere_agree() {
        let batch = [request(0, 1, "a", "x"), request(1, 1, "b", "y")];
        World::new()
            .with_all(0, &[committed(0, 1, 1), executed(1, 1, &batch)])
            .with_all(1, &[committed(1, 1, 1), executed(1, 1, &batch), executed(2, 2, &[])])
            .with_all(2, &[committed(0, 1, 1), committed(1, 1, 1), committed(0, 2, 2)])
            .satisfies::<Agreement>();
    }

    #[test]
    fn two_digests_executed_at_one_number_are_a_violation() {
        World::new()
            .with_all(0, &[executed(1, 1, &[]), executed(2, 2, &[])])
            .with_all(3, &[executed(1, 1, &[]), executed(2, 3, &[])])
            .violates::<Agreement>("at n = 2, replica 0 executed 02020202 and replica 3 executed 03030303");
    }

    #[test]
    fn two_digests_executed_at_one_number_by_one_replica_are_a_violation() {
        World::new()
            .with_all(0, &[executed(1, 1, &[]), executed(1, 2, &[])])
            .violates::<Agreement>("at n = 1, replica 0 executed 01010101 and replica 0 executed 02020202");
    }

    #[test]
    fn two_digests_committed_at_one_number_are_a_violation_across_replicas_and_views() {
        World::new().with(0, committed(0, 1, 1)).with(1, committed(2, 1, 2)).violates::<Agreement>(
            "at n = 1, replica 0 committed 01010101 in view 0 and replica 1 committed 02020202 in view 2",
        );
    }

    #[test]
    fn two_digests_committed_at_one_number_are_a_violation_at_one_replica_in_one_view() {
        World::new().with_all(0, &[committed(0, 1, 1), committed(0, 1, 2)]).violates::<Agreement>(
            "at n = 1, replica 0 committed 01010101 in view 0 and replica 0 committed 02020202 in view 0",
        );
    }

    #[test]
    fn different_results_of_one_request_are_a_violation() {
        World::new()
            .with(0, executed(1, 1, &[request(0, 1, "a", "x")]))
            .with(1, executed(1, 1, &[request(0, 1, "a", "y")]))
            .violates::<Agreement>(
                "at n = 1, executing 01010101, replica 0 ran ExecutedRequest { client: ClientId(0), \
                 timestamp: Timestamp(1), operation: \"a\", result: \"x\" } where replica 1 ran \
                 ExecutedRequest { client: ClientId(0), timestamp: Timestamp(1), operation: \"a\", result: \
                 \"y\" }",
            );
    }

    #[test]
    fn a_request_run_at_one_replica_and_passed_over_at_another_is_a_violation() {
        World::new()
            .with(0, executed(1, 1, &[request(0, 1, "a", "x")]))
            .with(1, executed(1, 1, &[]))
            .violates::<Agreement>(
                "at n = 1, executing 01010101, replica 0 ran 1 requests and replica 1 ran 0",
            );
    }

    #[test]
    fn a_batch_executed_where_another_committed_is_a_violation() {
        World::new().with(0, committed(0, 1, 1)).with(1, executed(1, 2, &[])).violates::<Agreement>(
            "at n = 1, replica 0 committed 01010101 in view 0 and replica 1 executed 02020202",
        );
    }
}
