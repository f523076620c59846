//! Each request executes at most once.

use crate::base::Table;
use crate::{Property, Snapshot, Violation};
use pbft::service::Service;
use pbft::types::SeqNo;
use std::collections::BTreeMap;

/// The timestamps of a client's requests strictly increase along the execution of each correct replica,
/// across state transfers too, and correct replicas that execute one request do so at one sequence number.
///
/// Source: OSDI'99 §4.1: timestamps ensure exactly-once semantics.
pub struct AtMostOnce;

const NAME: &str = "at-most-once";

impl<S: Service> Property<S> for AtMostOnce {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §4.1";
    const THEOREM: &'static str = "Along the execution of a correct replica the timestamps of each client \
                                   strictly increase, and a request executes at one sequence number only.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        let mut places = BTreeMap::new();
        for (&replica, history) in snapshot.replicas {
            let table = history.base.as_deref().map(|base| (base.n, base.table()));
            let of =
                |(n, table): (SeqNo, Table)| table.into_iter().map(move |(client, (t, _))| (client, (t, n)));
            let mut last: BTreeMap<_, _> = table.into_iter().flat_map(of).collect();
            for execution in history.executions() {
                let n = execution.n;
                for request in &execution.requests {
                    let (client, timestamp) = (request.client, request.timestamp);
                    if let Some((before, at)) = last.insert(client, (timestamp, n))
                        && timestamp <= before
                    {
                        return Err(violation(format!(
                            "replica {} executed request {} of client {} at n = {}, after its request {} at \
                             n = {}",
                            replica.0, timestamp.0, client.0, n.0, before.0, at.0
                        )));
                    }
                    let (first, at) = *places.entry((client, timestamp)).or_insert((replica, n));
                    if at != n {
                        return Err(violation(format!(
                            "request {} of client {} executed at n = {} at replica {} and at n = {} at \
                             replica {}",
                            timestamp.0, client.0, at.0, first.0, n.0, replica.0
                        )));
                    }
                }
            }
        }
        Ok(())
    }
}

fn violation(what: String) -> Violation {
    Violation { property: NAME, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, executed, request, transferred};
    use std::slice::from_ref;

    #[test]
    fn clients_may_skip_timestamps_and_share_them_with_each_other() {
        let first = executed(1, 1, &[request(0, 1, "a", ""), request(1, 1, "a", ""), request(0, 4, "a", "")]);
        let second = executed(2, 2, &[request(0, 5, "a", ""), request(1, 2, "a", "")]);
        World::new()
            .with_all(0, &[first, second.clone()])
            .with_all(1, &[transferred(1, 7), second])
            .satisfies::<AtMostOnce>();
    }

    #[test]
    fn a_request_executed_twice_by_one_replica_is_a_violation() {
        let again = request(2, 1, "a", "");
        World::new()
            .with_all(0, &[executed(1, 1, from_ref(&again)), executed(2, 2, from_ref(&again))])
            .violates::<AtMostOnce>(
            "replica 0 executed request 1 of client 2 at n = 2, after its request 1 at n = 1",
        );
    }

    #[test]
    fn a_request_executed_twice_in_one_batch_is_a_violation() {
        let again = request(2, 1, "a", "");
        World::new().with(0, executed(1, 1, &[again.clone(), again])).violates::<AtMostOnce>(
            "replica 0 executed request 1 of client 2 at n = 1, after its request 1 at n = 1",
        );
    }

    #[test]
    fn a_lower_timestamp_after_a_higher_one_is_a_violation_even_across_a_state_transfer() {
        let (high, low) = (request(0, 3, "a", ""), request(0, 2, "a", ""));
        World::new()
            .with_all(3, &[executed(1, 1, &[high]), transferred(4, 7), executed(5, 2, &[low])])
            .violates::<AtMostOnce>(
            "replica 3 executed request 2 of client 0 at n = 5, after its request 3 at n = 1",
        );
    }

    #[test]
    fn a_request_executed_at_two_numbers_by_two_replicas_is_a_violation() {
        let request = [request(0, 1, "a", "")];
        World::new()
            .with(0, executed(1, 1, &request))
            .with_all(1, &[executed(1, 2, &[]), executed(2, 1, &request)])
            .violates::<AtMostOnce>(
                "request 1 of client 0 executed at n = 1 at replica 0 and at n = 2 at replica 1",
            );
    }
}
