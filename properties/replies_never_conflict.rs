//! Correct clients accept one result for a request, and a true one.

use crate::{Accepted, Property, Snapshot, Violation};
use pbft::service::Service;
use pbft::types::{Bytes, ClientId, ReplicaId, Timestamp};
use std::collections::BTreeMap;

/// A correct client accepts at most one result for each of its timestamps, and the result of a request that
/// is not read-only is one with which a correct replica executed it.
///
/// Where histories begin in the middle, the results in the client tables with which they begin count as
/// executed; and a request older than the last of its client in such a table may have executed before, so
/// nothing is said of it if nobody is known to have executed it. A read-only request is answered without being executed; whether its result is current is a matter of
/// linearizability, which takes the times of invocation into account. Source: OSDI'99 §4.1.
pub struct RepliesNeverConflict;

const NAME: &str = "replies-never-conflict";

type Executed<'a> = BTreeMap<(ClientId, Timestamp), BTreeMap<&'a Bytes, ReplicaId>>;

impl<S: Service> Property<S> for RepliesNeverConflict {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §4.1";
    const THEOREM: &'static str = "A correct client accepts one result for a request, and unless the request \
                                   is read-only a correct replica executed it with that result.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        let mut results = BTreeMap::new();
        // Of the executions only those of accepted requests are looked at.
        let mut executed = Executed::new();
        for Accepted { client, timestamp, result, read_only } in snapshot.accepted {
            let first = *results.entry((*client, *timestamp)).or_insert(result);
            if first != result {
                let (client, timestamp) = (client.0, timestamp.0);
                return Err(violation(format!(
                    "client {client} accepted {first:?} and {result:?} for its request {timestamp}"
                )));
            }
            if !read_only {
                executed.entry((*client, *timestamp)).or_default();
            }
        }
        if executed.is_empty() {
            return Ok(());
        }
        for (&replica, history) in snapshot.replicas {
            for request in history.executions().flat_map(|execution| &execution.requests) {
                if let Some(known) = executed.get_mut(&(request.client, request.timestamp)) {
                    known.entry(&request.result).or_insert(replica);
                }
            }
        }
        let tables: Vec<_> =
            snapshot.replicas.iter().filter_map(|(&r, history)| Some((r, history.base()?.table()))).collect();
        for (replica, table) in &tables {
            for (&client, (timestamp, result)) in table {
                if let Some(known) = executed.get_mut(&(client, *timestamp)) {
                    known.entry(result).or_insert(*replica);
                }
            }
        }
        let may_be_older = |client: &ClientId, timestamp: &Timestamp| {
            tables.iter().any(|(_, table)| table.get(client).is_some_and(|(last, _)| last > timestamp))
        };
        executed.retain(|(client, timestamp), known| !known.is_empty() || !may_be_older(client, timestamp));
        for ((client, timestamp), known) in &executed {
            if let Some(&result) = results.get(&(*client, *timestamp)) {
                was_executed(*client, *timestamp, result, known)?;
            }
        }
        Ok(())
    }
}

fn was_executed(
    client: ClientId,
    timestamp: Timestamp,
    accepted: &Bytes,
    executed: &BTreeMap<&Bytes, ReplicaId>,
) -> Result<(), Violation> {
    if executed.contains_key(accepted) {
        return Ok(());
    }
    let how = match executed.first_key_value() {
        Some((result, replica)) => format!("replica {} executed with {result:?}", replica.0),
        None => "no correct replica executed".to_owned(),
    };
    Err(violation(format!(
        "client {} accepted {accepted:?} for its request {}, which {how}",
        client.0, timestamp.0
    )))
}

fn violation(what: String) -> Violation {
    Violation { property: NAME, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, executed, request};

    #[test]
    fn a_result_that_one_correct_replica_executed_may_be_accepted_twice() {
        World::new()
            .with(2, executed(1, 1, &[request(0, 1, "a", "x"), request(1, 1, "a", "y")]))
            .accepted(0, 1, "x", false)
            .accepted(1, 1, "y", false)
            .accepted(0, 1, "x", false)
            .satisfies::<RepliesNeverConflict>();
    }

    #[test]
    fn a_read_only_result_need_not_have_executed() {
        World::new().accepted(0, 1, "x", true).satisfies::<RepliesNeverConflict>();
    }

    #[test]
    fn two_results_accepted_for_one_request_are_a_violation_read_only_or_not() {
        let both = World::new()
            .with(0, executed(1, 1, &[request(0, 1, "a", "x")]))
            .with(1, executed(1, 1, &[request(0, 1, "a", "y")]));
        both.accepted(0, 1, "x", false)
            .accepted(0, 1, "y", false)
            .violates::<RepliesNeverConflict>("client 0 accepted \"x\" and \"y\" for its request 1");
        World::new()
            .accepted(0, 1, "x", true)
            .accepted(0, 1, "y", true)
            .violates::<RepliesNeverConflict>("client 0 accepted \"x\" and \"y\" for its request 1");
    }

    #[test]
    fn a_result_that_no_correct_replica_executed_is_a_violation() {
        let another = request(1, 1, "a", "x");
        World::new()
            .with(0, executed(1, 1, &[another]))
            .accepted(0, 1, "x", false)
            .violates::<RepliesNeverConflict>(
                "client 0 accepted \"x\" for its request 1, which no correct replica executed",
            );
    }

    #[test]
    fn a_result_other_than_the_executed_one_is_a_violation() {
        World::new()
            .with(3, executed(1, 1, &[request(0, 1, "a", "y")]))
            .accepted(0, 1, "x", false)
            .violates::<RepliesNeverConflict>(
            "client 0 accepted \"x\" for its request 1, which replica 3 executed with \"y\"",
        );
    }
}
