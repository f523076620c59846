//! Only what clients asked for executes, in order, with the results of the service.

use crate::agreed::{bounded, executions};
use crate::base::Beginnings;
use crate::{Execution, History, Property, ServiceStep, Snapshot, Violation};
use pbft::replica::ExecutedRequest;
use pbft::service::Service;
use pbft::types::{ReplicaId, SeqNo};

/// Every request that a correct replica executes was issued by its client; each replica executes one
/// sequence number after the other, except where it fetches a later state; the null request runs nothing;
/// and the results are those of the service that executes, from its initial state, the agreed batches in
/// order.
///
/// Results are known up to the first sequence number that no correct replica executed, and from where a
/// history begins in the middle, likewise.
/// Source: OSDI'99 §3: the service behaves as a centralised implementation that executes operations
/// one at a time.
pub struct Validity;

const NAME: &str = "validity";

impl<S: Service> Property<S> for Validity {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §3";
    const THEOREM: &'static str = "Correct replicas execute authentic requests only, in the order of \
                                   sequence numbers, with the results that the service gives from its \
                                   initial state.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        for (&replica, history) in snapshot.replicas {
            in_order(replica, history)?;
            for execution in history.executions() {
                authentic(snapshot, replica, execution)?;
            }
        }
        results(snapshot)
    }
}

fn in_order(replica: ReplicaId, history: &History) -> Result<(), Violation> {
    let mut last = history.base.as_ref().map_or(SeqNo(0), |base| base.n);
    for step in &history.service {
        let (n, fits, did) = match step {
            ServiceStep::Executed(execution) => (execution.n, execution.n == last.next(), "executed"),
            ServiceStep::Transferred { n, .. } => (*n, *n > last, "fetched the state after"),
        };
        if !fits {
            let (replica, n, last) = (replica.0, n.0, last.0);
            return Err(violation(format!(
                "replica {replica} {did} n = {n}, with the state after n = {last}"
            )));
        }
        last = n;
    }
    Ok(())
}

fn authentic<S: Service>(
    snapshot: &Snapshot<'_, S>,
    replica: ReplicaId,
    execution: &Execution,
) -> Result<(), Violation> {
    let (replica, n) = (replica.0, execution.n.0);
    let null = execution.digest == pbft::types::Digest::NULL;
    if null && !execution.requests.is_empty() {
        return Err(violation(format!("replica {replica} ran requests for the null request at n = {n}")));
    }
    execution.requests.iter().try_for_each(|ExecutedRequest { client, timestamp, operation, .. }| {
        if snapshot.authentic.contains(&(*client, *timestamp, operation.clone())) {
            return Ok(());
        }
        let (client, timestamp) = (client.0, timestamp.0);
        Err(violation(format!(
            "replica {replica} executed {operation:?} at n = {n} as request {timestamp} of client {client}, \
             which never issued it"
        )))
    })
}

/// Runs the service on the first execution of each number, and compares the others' with the same results.
/// Where their requests differ, [`Agreement`](crate::Agreement) is broken instead.
fn results<S: Service>(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
    let beginnings = Beginnings::of(snapshot);
    let mut known: Option<(SeqNo, S)> = None;
    for (n, replicas) in executions(snapshot) {
        let before = SeqNo(n.0.saturating_sub(1));
        let begun = || beginnings.at(before).map(|state| state.service);
        let Some(mut service) =
            known.take().filter(|&(m, _)| m == before).map(|(_, service)| service).or_else(begun)
        else {
            continue;
        };
        let agreed = replicas.first().map_or(&[][..], |(_, execution)| &execution.requests);
        for (index, request) in agreed.iter().enumerate() {
            let full = service.execute(request.client, &request.operation);
            let result = bounded(&full);
            for &(replica, execution) in &replicas {
                let own = execution.requests.get(index).filter(|own| same_request(own, request));
                if let Some(own) = own.filter(|own| &*own.result != result) {
                    return Err(wrong_result(replica, n, own, result));
                }
            }
        }
        known = Some((n, service));
    }
    Ok(())
}

fn same_request(one: &ExecutedRequest, other: &ExecutedRequest) -> bool {
    (one.client, one.timestamp, &one.operation) == (other.client, other.timestamp, &other.operation)
}

fn wrong_result(replica: ReplicaId, n: SeqNo, own: &ExecutedRequest, result: &[u8]) -> Violation {
    let (timestamp, client) = (own.timestamp.0, own.client.0);
    violation(format!(
        "replica {} executed request {timestamp} of client {client} at n = {} with {:?}, where the service \
         gives {:?}",
        replica.0,
        n.0,
        own.result,
        pbft::types::Bytes::from(result)
    ))
}

fn violation(what: String) -> Violation {
    Violation { property: NAME, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, bytes, executed, overlong, request, run, transferred};
    use pbft::kv::{KeyValue, Operation};
    use pbft::parameters::MAX_RESULT_BYTES;
    use pbft::replica::Fact;
    use pbft::types::Bytes;
    use std::slice::from_ref;

    fn put(value: &str) -> Bytes {
        Operation::Put { key: bytes("k"), value: bytes(value) }.to_bytes()
    }

    /// Three batches of one client, as the service runs them, all of them issued.
    fn three_batches() -> (World, [ExecutedRequest; 3]) {
        let mut service = KeyValue::default();
        let requests = [(1, "a"), (2, "b"), (3, "c")].map(|(t, value)| run(&mut service, 0, t, put(value)));
        let world = requests.iter().fold(World::new(), World::issued);
        (world, requests)
    }

    fn executions(requests: &[ExecutedRequest; 3]) -> [Fact; 3] {
        let [a, b, c] = requests.clone();
        [executed(1, 1, &[a]), executed(2, 2, &[b]), executed(3, 3, &[c])]
    }

    #[test]
    fn issued_requests_in_order_with_the_results_of_the_service_are_valid() {
        let (world, requests) = three_batches();
        let facts = executions(&requests);
        world
            .with_all(0, &facts)
            .with_all(1, &facts[..1])
            .with_all(2, &[transferred(2, 7), facts[2].clone(), executed(4, 0, &[])])
            .satisfies::<Validity>();
    }

    #[test]
    fn a_request_that_no_client_issued_is_a_violation() {
        let (world, requests) = three_batches();
        let mut service = KeyValue::default();
        let what = |timestamp, client| {
            format!(
                "replica 1 executed {:?} at n = 1 as request {timestamp} of client {client}, which never \
                 issued it",
                put("a")
            )
        };
        let invented = run(&mut service, 0, 9, put("a"));
        let (another_timestamp, another_client) = (what(9, 0), what(1, 1));
        world.with(1, executed(1, 1, &[invented])).violates::<Validity>(&another_timestamp);
        let world = requests.iter().fold(World::new(), World::issued);
        let invented = run(&mut KeyValue::default(), 1, 1, put("a"));
        world.with(1, executed(1, 1, &[invented])).violates::<Validity>(&another_client);
    }

    #[test]
    fn another_operation_under_an_issued_timestamp_is_a_violation() {
        let (world, _) = three_batches();
        world.with(1, executed(1, 1, &[request(0, 1, "z", "\x02")])).violates::<Validity>(
            "replica 1 executed \"z\" at n = 1 as request 1 of client 0, which never issued it",
        );
    }

    #[test]
    fn a_result_that_the_service_does_not_give_is_a_violation_at_every_replica() {
        let (world, requests) = three_batches();
        let facts = executions(&requests);
        let wrong = ExecutedRequest { result: bytes("lie"), ..requests[1].clone() };
        let wrong = [facts[0].clone(), executed(2, 2, &[wrong])];
        let what = |replica| {
            let right = &requests[1].result;
            format!(
                "replica {replica} executed request 2 of client 0 at n = 2 with \"lie\", where the service \
                 gives {right:?}"
            )
        };
        world.with_all(0, &wrong).with_all(1, &facts).violates::<Validity>(&what(0));
        let (world, _) = three_batches();
        world.with_all(0, &facts).with_all(1, &wrong).violates::<Validity>(&what(1));
    }

    #[test]
    fn a_result_from_a_fetched_state_is_compared_with_the_executions_of_others() {
        let (world, requests) = three_batches();
        let wrong = ExecutedRequest { result: bytes("lie"), ..requests[2].clone() };
        let what = format!(
            "replica 1 executed request 3 of client 0 at n = 3 with \"lie\", where the service gives {:?}",
            requests[2].result
        );
        let behind = [transferred(2, 7), executed(3, 3, &[wrong])];
        world.with_all(0, &executions(&requests)[..2]).with_all(1, &behind).violates::<Validity>(&what);
    }

    #[test]
    fn results_beyond_what_correct_replicas_executed_are_not_judged() {
        let (world, requests) = three_batches();
        let unknown = ExecutedRequest { result: bytes("?"), ..requests[2].clone() };
        world.with_all(1, &[transferred(2, 7), executed(3, 3, &[unknown])]).satisfies::<Validity>();
    }

    #[test]
    fn a_result_is_compared_as_cut_off_at_its_bound() {
        let genesis = overlong("k");
        let full = run(&mut genesis.clone(), 0, 1, put("short"));
        assert!(full.result.len() > MAX_RESULT_BYTES);
        let cut = ExecutedRequest { result: Bytes::from(&full.result[..MAX_RESULT_BYTES]), ..full.clone() };
        let world = || World::from(genesis.clone()).issued(&full);
        world().with(0, executed(1, 1, &[cut])).satisfies::<Validity>();
        let uncut = world().with(0, executed(1, 1, from_ref(&full)));
        assert!(<Validity as Property<KeyValue>>::check(&uncut.snapshot()).is_err());
    }

    #[test]
    fn a_gap_in_a_replicas_execution_is_a_violation_without_a_state_transfer_up_to_it() {
        World::new()
            .with_all(2, &[executed(1, 0, &[]), executed(3, 0, &[])])
            .violates::<Validity>("replica 2 executed n = 3, with the state after n = 1");
        World::new()
            .with_all(2, &[transferred(2, 7), executed(4, 0, &[])])
            .violates::<Validity>("replica 2 executed n = 4, with the state after n = 2");
    }

    #[test]
    fn going_back_is_a_violation_by_execution_and_by_state_transfer() {
        World::new()
            .with_all(2, &[executed(1, 0, &[]), executed(1, 0, &[])])
            .violates::<Validity>("replica 2 executed n = 1, with the state after n = 1");
        World::new()
            .with_all(2, &[executed(1, 0, &[]), executed(2, 0, &[]), transferred(2, 7)])
            .violates::<Validity>("replica 2 fetched the state after n = 2, with the state after n = 2");
    }

    #[test]
    fn a_request_run_for_the_null_request_is_a_violation() {
        let (world, [first, ..]) = three_batches();
        world
            .with(0, executed(1, 0, &[first]))
            .violates::<Validity>("replica 0 ran requests for the null request at n = 1");
    }
}
