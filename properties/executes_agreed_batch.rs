//! What runs is the agreed batch.

use crate::agreed::{Timestamps, executions, let_through};
use crate::base::Beginnings;
use crate::catalogue::Ordered;
use crate::{Execution, Property, Snapshot, Violation};
use pbft::replica::ExecutedRequest;
use pbft::service::Service;
use pbft::types::{ReplicaId, SeqNo};

/// At each sequence number a correct replica runs exactly the requests of the batch that the digest executed
/// there names, in the order of the batch, but for those whose client has had a request with the same or a
/// later timestamp executed.
///
/// Which batch a digest names is known from the [`Catalogue`](crate::Catalogue), and which timestamps have
/// been executed from the agreed batches themselves, from the first or from where a history begins: nothing here rests on what a replica
/// says that it ran, or keeps in its client table, so the table of a fetched state is judged like one's own.
/// From the first sequence number on that no correct replica executed, the table is not known; then whatever
/// runs must still be of the batch and in its order.
///
/// With [`Agreement`](crate::Agreement) the digest is the one that was committed; with
/// [`Validity`](crate::Validity) the results are the service's.
/// Source: OSDI'99 §4.2: replicas execute the requests that committed; §4.1: exactly once.
pub struct ExecutesAgreedBatch;

const NAME: &str = "executes-agreed-batch";

impl<S: Service> Property<S> for ExecutesAgreedBatch {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §4.2";
    const THEOREM: &'static str = "For the digest that it executes, a correct replica runs the requests of the \
                                   batch that the digest names, all of them in their order but for those that \
                                   have been executed before.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        let beginnings = Beginnings::of(snapshot);
        let mut last: Option<(SeqNo, Timestamps)> = None;
        for (n, replicas) in executions(snapshot) {
            let before = SeqNo(n.0.saturating_sub(1));
            let begun = || beginnings.at(before).map(|state| state.timestamps());
            let known = last.take().filter(|&(m, _)| m == before).map(|(_, known)| known).or_else(begun);
            for (place, &(replica, execution)) in replicas.iter().enumerate() {
                let named = snapshot.catalogue.batch(execution.digest).map_err(|names| {
                    let digest = execution.digest;
                    violation(replica, n, format!("{digest:?}, which names {names}"))
                })?;
                if let Some(known) = &known {
                    let mut after = known.clone();
                    ran_all(replica, execution, &let_through(named, &mut after))?;
                    if place == 0 {
                        // Where others executed another batch, `Agreement` is broken.
                        last = Some((n, after));
                    }
                } else {
                    ran_some(replica, execution, named)?;
                }
            }
        }
        Ok(())
    }
}

/// It ran these requests, and nothing else.
fn ran_all(replica: ReplicaId, execution: &Execution, due: &[&Ordered]) -> Result<(), Violation> {
    let told = |what: String| Err(violation(replica, execution.n, what));
    let digest = execution.digest;
    let mut ran = execution.requests.iter();
    for &request in due {
        match ran.next() {
            Some(other) if !is(other, request) => {
                let (other, due) = (of(&asked(other)), of(request));
                return told(format!("{digest:?} and ran {other} where {due} was due"));
            }
            Some(_) => {}
            None => return told(format!("{digest:?} without {}", of(request))),
        }
    }
    match ran.next() {
        Some(more) => told(format!("{digest:?} and ran {}, which was not due", of(&asked(more)))),
        None => Ok(()),
    }
}

/// What it ran is part of the batch, in its order.
fn ran_some(replica: ReplicaId, execution: &Execution, named: &[Ordered]) -> Result<(), Violation> {
    let mut left = named.iter();
    let stray = execution.requests.iter().find(|&ran| !left.any(|request| is(ran, request)));
    stray.map_or(Ok(()), |ran| {
        let what = format!("{:?} and ran {}, which was not due", execution.digest, of(&asked(ran)));
        Err(violation(replica, execution.n, what))
    })
}

fn is(ran: &ExecutedRequest, (client, timestamp, operation): &Ordered) -> bool {
    (ran.client, ran.timestamp, &ran.operation) == (*client, *timestamp, operation)
}

fn asked(ran: &ExecutedRequest) -> Ordered {
    (ran.client, ran.timestamp, ran.operation.clone())
}

fn of((client, timestamp, operation): &Ordered) -> String {
    format!("request {} of client {}, {operation:?}", timestamp.0, client.0)
}

fn violation(replica: ReplicaId, n: SeqNo, what: String) -> Violation {
    Violation { property: NAME, what: format!("replica {} executed at n = {} {what}", replica.0, n.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, executed, request, transferred};
    use std::slice::from_ref;

    /// Batch 1 has two requests, batch 2 another of client 0; batch 3 has batch 1's first once more, and a
    /// new one.
    fn world() -> (World, [ExecutedRequest; 4]) {
        let requests = [(0, 1, "a"), (1, 1, "b"), (0, 2, "c"), (1, 2, "d")];
        let requests = requests.map(|(client, t, operation)| request(client, t, operation, ""));
        let [a, b, c, d] = requests.clone();
        let world = World::new().proposed(1, &[a.clone(), b]).proposed(2, from_ref(&c)).proposed(3, &[a, d]);
        (world, requests)
    }

    #[test]
    fn whole_batches_without_what_has_executed_before_satisfy() {
        let (world, [a, b, c, d]) = world();
        let facts = [executed(1, 1, &[a, b]), executed(2, 2, &[c]), executed(3, 3, &[d])];
        world
            .with_all(0, &facts)
            .with_all(1, &facts[..2])
            .with_all(2, &[transferred(2, 7), facts[2].clone(), executed(4, 0, &[]), executed(5, 3, &[])])
            .satisfies::<ExecutesAgreedBatch>();
    }

    #[test]
    fn half_of_a_batch_is_a_violation_even_if_every_replica_runs_that_half() {
        let (world, [a, ..]) = world();
        let half = executed(1, 1, from_ref(&a));
        (0..4)
            .fold(world, |world, replica| world.with(replica, half.clone()))
            .violates::<ExecutesAgreedBatch>(
                "replica 0 executed at n = 1 01010101 without request 1 of client 1, \"b\"",
            );
    }

    #[test]
    fn another_order_another_request_and_one_too_many_are_violations() {
        let (fresh, [a, b, c, _]) = world();
        fresh.with(1, executed(1, 1, &[b.clone(), a.clone()])).violates::<ExecutesAgreedBatch>(
            "replica 1 executed at n = 1 01010101 and ran request 1 of client 1, \"b\" where request 1 of \
             client 0, \"a\" was due",
        );
        let (fresh, _) = world();
        let other = request(0, 1, "z", "");
        fresh.with(1, executed(1, 1, &[other, b.clone()])).violates::<ExecutesAgreedBatch>(
            "replica 1 executed at n = 1 01010101 and ran request 1 of client 0, \"z\" where request 1 of \
             client 0, \"a\" was due",
        );
        let (fresh, _) = world();
        fresh.with(1, executed(1, 1, &[a, b, c.clone()])).violates::<ExecutesAgreedBatch>(
            "replica 1 executed at n = 1 01010101 and ran request 2 of client 0, \"c\", which was not due",
        );
        let (fresh, _) = world();
        fresh.with(1, executed(1, 0, &[c])).violates::<ExecutesAgreedBatch>(
            "replica 1 executed at n = 1 null and ran request 2 of client 0, \"c\", which was not due",
        );
    }

    #[test]
    fn a_request_executed_before_is_not_due_at_a_replica_that_fetched_the_state_either() {
        let (world, [a, b, c, d]) = world();
        let facts = [executed(1, 1, &[a.clone(), b]), executed(2, 2, &[c])];
        world
            .with_all(0, &facts)
            .with_all(3, &[transferred(2, 7), executed(3, 3, &[a, d])])
            .violates::<ExecutesAgreedBatch>(
            "replica 3 executed at n = 3 03030303 and ran request 1 of client 0, \"a\" where request 2 of \
                 client 1, \"d\" was due",
        );
    }

    #[test]
    fn a_request_left_out_after_a_fetched_state_is_a_violation_if_others_executed_what_comes_before() {
        let (fresh, [a, b, c, _]) = world();
        let facts = [executed(1, 1, &[a, b]), executed(2, 2, &[c])];
        let behind = [transferred(2, 7), executed(3, 3, &[])];
        fresh.with_all(0, &facts).with_all(3, &behind).violates::<ExecutesAgreedBatch>(
            "replica 3 executed at n = 3 03030303 without request 2 of client 1, \"d\"",
        );
        // If nobody did, client 1 may have had it executed.
        world().0.with_all(3, &behind).satisfies::<ExecutesAgreedBatch>();
    }

    #[test]
    fn beyond_what_correct_replicas_executed_what_runs_must_still_be_of_the_batch_in_its_order() {
        let (fresh, [a, b, c, d]) = world();
        let beyond = |ran: &[ExecutedRequest]| [transferred(2, 7), executed(3, 1, ran)];
        fresh.with_all(3, &beyond(from_ref(&b))).satisfies::<ExecutesAgreedBatch>();
        world().0.with_all(3, &beyond(&[b, a])).violates::<ExecutesAgreedBatch>(
            "replica 3 executed at n = 3 01010101 and ran request 1 of client 0, \"a\", which was not due",
        );
        for stray in [c, d] {
            let world = world().0.with_all(3, &beyond(from_ref(&stray)));
            assert!(<ExecutesAgreedBatch as Property<pbft::kv::KeyValue>>::check(&world.snapshot()).is_err());
        }
    }

    #[test]
    fn a_digest_that_names_no_batch_is_a_violation_and_one_that_names_two_too() {
        let (world, [a, b, c, _]) = world();
        let world = world.proposed(2, from_ref(&a));
        world.with(2, executed(1, 2, from_ref(&c))).violates::<ExecutesAgreedBatch>(
            "replica 2 executed at n = 1 02020202, which names more than one batch",
        );
        World::new().with(2, executed(1, 1, &[a, b])).violates::<ExecutesAgreedBatch>(
            "replica 2 executed at n = 1 01010101, which names no batch that anybody proposed",
        );
    }
}
