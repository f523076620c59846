//! Clients whose clock was wrong once: they are told, and go on.

use crate::support::{Cluster, TEST_DEADLINE};
use pbft::client::ClientDurable;
use pbft::kv::{Operation, Outcome};
use pbft::runtime::clients::clock;
use pbft::types::{Bytes, ClientId, Timestamp};
use std::time::{Duration, Instant};

const YEAR: u64 = 365 * 24 * 3600 * 1_000_000;

fn put(value: &'static [u8]) -> Operation {
    Operation::Put { key: Bytes::from(&b"key"[..]), value: Bytes::from(value) }
}

/// What becomes of an operation of a client that goes on from this timestamp: its outcome, or nothing if it is
/// refused.
fn invoke(cluster: &Cluster, id: u32, kept: Timestamp, operations: &[Operation]) -> Vec<Option<Outcome>> {
    let mut client = cluster.client(id);
    client.clients.keep_with(ClientId(id), ClientDurable { last: kept }, Box::new(|_, _| Ok(())));
    let mut outcomes = Vec::new();
    for operation in operations {
        let read_only = matches!(operation, Operation::Get { .. });
        client.clients.invoke(ClientId(id), operation.to_bytes(), read_only).unwrap();
        let deadline = Instant::now() + TEST_DEADLINE;
        loop {
            // What does nothing is waited for in vain: look again soon.
            let soon = Instant::now() + Duration::from_millis(100);
            if let Some(completion) = client.clients.wait(soon).unwrap().pop() {
                outcomes.push(Some(Outcome::from_bytes(&completion.result)));
                break;
            }
            if client.clients.refused() == [ClientId(id)] || !client.clients.is_waiting(ClientId(id)) {
                outcomes.push(None);
                break;
            }
            assert!(Instant::now() < deadline, "neither done nor refused: {operation:?}");
        }
    }
    outcomes
}

#[test]
fn a_clock_that_was_ahead_once_is_told_and_the_next_operation_is_executed() {
    let cluster = Cluster::new(4, |_| {});
    let ahead = Timestamp(clock().0 + YEAR);
    let get = Operation::Get { key: Bytes::from(&b"key"[..]) };
    assert!(invoke(&cluster, 0, ahead, &[put(b"1"), get.clone()]).iter().all(Option::is_some));
    // The same key with the right clock, and without what was kept.
    let outcomes = invoke(&cluster, 0, Timestamp(0), &[put(b"2"), put(b"3"), get.clone()]);
    assert_eq!((&outcomes[0], outcomes[1].is_some()), (&None, true));
    assert_eq!(outcomes[2], Some(Outcome::Value(Some(Bytes::from(&b"3"[..])))), "2 has not been executed");
    // A read is told too.
    let outcomes = invoke(&cluster, 0, Timestamp(0), &[get.clone(), get]);
    assert_eq!((&outcomes[0], outcomes[1].is_some()), (&None, true));
    cluster.stop();
}

#[test]
fn a_key_whose_timestamps_are_used_up_does_nothing_and_says_so() {
    let cluster = Cluster::new(4, |_| {});
    let last = Timestamp(u64::MAX - 1);
    let outcomes = invoke(&cluster, 0, last, &[put(b"1"), put(b"2")]);
    assert_eq!((outcomes[0].is_some(), &outcomes[1]), (true, &None));
    let before = Instant::now();
    let outcomes = invoke(&cluster, 0, Timestamp(0), &[put(b"3")]);
    assert_eq!(outcomes, [None]);
    assert!(before.elapsed() < Duration::from_secs(30));
    let get = Operation::Get { key: Bytes::from(&b"key"[..]) };
    let outcomes = invoke(&cluster, 1, Timestamp(0), &[get]);
    assert_eq!(outcomes, [Some(Outcome::Value(Some(Bytes::from(&b"1"[..]))))]);
    cluster.stop();
}
