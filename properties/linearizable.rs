//! What the calls of correct clients return is what one copy of the service returns.

use crate::agreed::{bounded, executions};
use crate::{Call, Property, Snapshot, Violation};
use pbft::service::Service;
use pbft::types::{Bytes, ClientId, SeqNo, Timestamp};
use std::collections::BTreeMap;

/// The order in which correct replicas execute, with each read that was not ordered put at some place in it,
/// explains every result that a correct client's call returned; and a call that ended before another began
/// stands before it.
///
/// This implies linearizability (Herlihy and Wing 1990) and says more: the order is that of the replicas. A
/// call that has not ended, or was given up, may have taken effect, but not before a call that had ended when
/// it began. A read without order is put at the lowest place that explains its result and comes after all
/// that ended before it; if any placing of the reads will do, that one does, as each constraint only bounds a
/// place from below. Sources: OSDI'99 §3 (linearizability) and §5.1 (reads).
pub struct Linearizable;

const NAME: &str = "linearizable";

/// A place in the order: `2p` for what executes as the `p`-th request, `2k + 1` for a read after `k` of them.
type Place = usize;

impl<S: Service> Property<S> for Linearizable {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §3, §5.1";
    const THEOREM: &'static str = "The order of execution, with reads that were not ordered put into it, explains \
                                   what every call of a correct client returned, and puts a call that ended \
                                   before another began before it.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        if snapshot.calls.is_empty() {
            return Ok(());
        }
        let order = Order::of(snapshot);
        let mut places: Vec<Option<Place>> = vec![None; snapshot.calls.len()];
        let mut open: Vec<usize> = (0..snapshot.calls.len()).collect();
        // What ended before a call began is placed before it.
        while !open.is_empty() {
            let (ready, waiting): (Vec<usize>, Vec<usize>) = open
                .iter()
                .partition(|&&at| snapshot.calls[at].after.iter().all(|before| !open.contains(before)));
            if ready.is_empty() {
                return Err(violation("calls ended before each other".into()));
            }
            for at in ready {
                places[at] = order.place(snapshot, at, &places)?;
            }
            open = waiting;
        }
        Ok(())
    }
}

/// What correct replicas have executed, one after the other.
struct Order {
    /// The place of each request.
    places: BTreeMap<(ClientId, Timestamp), Place>,
    results: BTreeMap<(ClientId, Timestamp), Bytes>,
    /// The requests in their order.
    requests: Vec<(ClientId, Bytes)>,
}

impl Order {
    fn of<S: Service>(snapshot: &Snapshot<'_, S>) -> Self {
        let mut order = Order { places: BTreeMap::new(), results: BTreeMap::new(), requests: Vec::new() };
        let executions = executions(snapshot);
        let agreed = (1..).map_while(|n| executions.get(&SeqNo(n))?.first());
        for request in agreed.flat_map(|(_, execution)| &execution.requests) {
            let key = (request.client, request.timestamp);
            order.requests.push((request.client, request.operation.clone()));
            order.places.entry(key).or_insert(2 * order.requests.len());
            order.results.entry(key).or_insert_with(|| request.result.clone());
        }
        order
    }

    /// The place of a call, if it has one, after those that ended before it began.
    fn place<S: Service>(
        &self,
        snapshot: &Snapshot<'_, S>,
        at: usize,
        places: &[Option<Place>],
    ) -> Result<Option<Place>, Violation> {
        let call = &snapshot.calls[at];
        let before = call.after.iter().filter_map(|&before| Some((places[before]?, before)));
        let last = before.max();
        let lowest = last.map_or(0, |(place, _)| place);
        if let Some((result, true)) = &call.result {
            return self.read(snapshot, call, lowest, result).map(Some);
        }
        let executed = call.ordered.iter().find_map(|&t| Some((*self.places.get(&(call.client, t))?, t)));
        let Some((place, timestamp)) = executed else {
            return match &call.result {
                Some((result, _)) => Err(violation(format!(
                    "{} returned {result:?}, and no correct replica has executed it",
                    told(call)
                ))),
                None => Ok(None),
            };
        };
        if let Some((first, before)) = last
            && place < first
        {
            let before = told(&snapshot.calls[before]);
            return Err(violation(format!("{} takes effect before {before}, which had ended", told(call))));
        }
        let known = &self.results[&(call.client, timestamp)];
        match &call.result {
            Some((result, _)) if result != known => {
                Err(violation(format!("{} returned {result:?}, and executes with {known:?}", told(call))))
            }
            _ => Ok(Some(place)),
        }
    }

    /// The lowest place at or above `lowest` where a read returns this.
    fn read<S: Service>(
        &self,
        snapshot: &Snapshot<'_, S>,
        call: &Call,
        lowest: Place,
        result: &Bytes,
    ) -> Result<Place, Violation> {
        let mut service = snapshot.genesis.clone();
        let mut earlier = false;
        for count in 0..=self.requests.len() {
            if let Some((client, operation)) = count.checked_sub(1).and_then(|last| self.requests.get(last)) {
                service.execute(*client, operation);
            }
            let place = 2 * count + 1;
            let answer = service.read(call.client, &call.operation);
            let explains = answer.is_some_and(|answer| bounded(&answer) == &result[..]);
            if explains && place >= lowest {
                return Ok(place);
            }
            earlier |= explains;
        }
        Err(violation(if earlier {
            format!("{} returned {result:?}, which is older than what had ended when it began", told(call))
        } else {
            format!("{} returned {result:?}, which no state explains", told(call))
        }))
    }
}

fn told(call: &Call) -> String {
    let operation = String::from_utf8_lossy(&call.operation);
    format!("call {} of client {} ({operation})", call.number, call.client.0)
}

fn violation(what: String) -> Violation {
    Violation { property: NAME, what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, bytes, executed, run};
    use pbft::kv::{KeyValue, Operation};
    use pbft::replica::ExecutedRequest;

    fn put(value: &str) -> Bytes {
        Operation::Put { key: bytes("x"), value: bytes(value) }.to_bytes()
    }

    fn get() -> Bytes {
        Operation::Get { key: bytes("x") }.to_bytes()
    }

    /// A call of this operation; its requests to be ordered have these timestamps.
    fn call(client: u32, number: usize, operation: Bytes, ordered: &[u64], after: &[usize]) -> Call {
        let ordered = ordered.iter().copied().map(Timestamp).collect();
        Call { client: ClientId(client), number, operation, ordered, result: None, after: after.to_vec() }
    }

    fn returning(call: Call, result: &Bytes, unordered: bool) -> Call {
        Call { result: Some((result.clone(), unordered)), ..call }
    }

    /// Client 0 writes "a", and then client 1 writes "b"; what a read of the register returns before, between
    /// and after.
    fn two_writes() -> (World, [ExecutedRequest; 2], [Bytes; 3]) {
        let mut service = KeyValue::default();
        let read = |service: &KeyValue| service.read(ClientId(2), &get()).expect("it is a read");
        let before = read(&service);
        let a = run(&mut service, 0, 1, put("a"));
        let between = read(&service);
        let b = run(&mut service, 1, 1, put("b"));
        let after = read(&service);
        let world = World::new()
            .with(2, executed(1, 1, std::slice::from_ref(&a)))
            .with(2, executed(2, 2, std::slice::from_ref(&b)));
        (world, [a, b], [before, between, after])
    }

    #[test]
    fn what_is_concurrent_may_stand_in_either_order() {
        let (world, [a, b], states) = two_writes();
        let mut world = world
            .call(returning(call(0, 1, put("a"), &[1], &[]), &a.result, false))
            .call(returning(call(1, 1, put("b"), &[1], &[]), &b.result, false));
        for state in &states {
            world = world.call(returning(call(2, 1, get(), &[], &[]), state, true));
        }
        world.satisfies::<Linearizable>();
    }

    #[test]
    fn a_read_after_a_write_that_ended_sees_it_or_what_is_later() {
        let (_, [a, _], states) = two_writes();
        for (state, is_old) in states.iter().zip([true, false, false]) {
            let (world, ..) = two_writes();
            let world = world
                .call(returning(call(0, 1, put("a"), &[1], &[]), &a.result, false))
                .call(returning(call(2, 1, get(), &[], &[0]), state, true));
            if is_old {
                world.violates::<Linearizable>(&format!(
                    "call 1 of client 2 ({}) returned {state:?}, which is older than what had ended when it began",
                    String::from_utf8_lossy(&get())
                ));
            } else {
                world.satisfies::<Linearizable>();
            }
        }
    }

    #[test]
    fn reads_one_after_the_other_do_not_go_back() {
        let (_, _, [before, between, after]) = two_writes();
        for (first, second, holds) in [
            (&before, &after, true),
            (&between, &between, true),
            (&after, &between, false),
            (&between, &before, false),
        ] {
            let (world, ..) = two_writes();
            let world = world.call(returning(call(3, 1, get(), &[], &[1]), second, true)).call(returning(
                call(2, 1, get(), &[], &[]),
                first,
                true,
            ));
            assert_eq!(Linearizable::check(&world.snapshot()).is_ok(), holds, "{first:?} {second:?}");
        }
    }

    #[test]
    fn a_write_takes_effect_after_what_had_ended_when_it_began_even_if_it_never_ends() {
        let (_, [a, b], [_, _, both]) = two_writes();
        let (world, ..) = two_writes();
        let late = world.call(returning(call(1, 1, put("b"), &[1], &[]), &b.result, false)).call(call(
            0,
            1,
            put("a"),
            &[1],
            &[0],
        ));
        let (a_told, b_told) = (put("a"), put("b"));
        late.violates::<Linearizable>(&format!(
            "call 1 of client 0 ({}) takes effect before call 1 of client 1 ({}), which had ended",
            String::from_utf8_lossy(&a_told),
            String::from_utf8_lossy(&b_told)
        ));
        // A read that saw both had ended before "b" was asked for.
        let (world, ..) = two_writes();
        let world = world.call(returning(call(2, 1, get(), &[], &[]), &both, true)).call(returning(
            call(1, 1, put("b"), &[1], &[0]),
            &b.result,
            false,
        ));
        assert!(Linearizable::check(&world.snapshot()).is_err());
        let (world, ..) = two_writes();
        world.call(returning(call(0, 1, put("a"), &[1], &[]), &a.result, false)).satisfies::<Linearizable>();
    }

    #[test]
    fn a_result_that_nothing_explains_is_a_violation() {
        let (world, ..) = two_writes();
        let world = world.call(returning(call(2, 1, get(), &[], &[]), &bytes("lie"), true));
        assert!(Linearizable::check(&world.snapshot()).unwrap_err().what.contains("which no state explains"));
        let (world, ..) = two_writes();
        let world = world.call(returning(call(0, 1, put("a"), &[1], &[]), &bytes("lie"), false));
        assert!(Linearizable::check(&world.snapshot()).unwrap_err().what.contains("and executes with"));
        let (world, ..) = two_writes();
        let world = world.call(returning(call(0, 1, put("c"), &[7], &[]), &bytes("x"), false));
        assert!(
            Linearizable::check(&world.snapshot())
                .unwrap_err()
                .what
                .contains("no correct replica has executed it")
        );
    }

    #[test]
    fn a_read_that_was_ordered_after_all_stands_where_it_executed() {
        let mut service = KeyValue::default();
        let a = run(&mut service, 0, 1, put("a"));
        let read = run(&mut service, 1, 2, get());
        let requests = [a.clone(), read.clone()];
        let world = World::new().with(0, executed(1, 1, &requests));
        world
            .call(returning(call(0, 1, put("a"), &[1], &[]), &a.result, false))
            .call(returning(call(1, 1, get(), &[2], &[0]), &read.result, false))
            .satisfies::<Linearizable>();
    }
}
