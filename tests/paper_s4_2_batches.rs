//! OSDI'99 §4.2 and thesis §5.1.4: which requests a primary proposes together, and when.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pbft::kv::Operation;
use pbft::message::Message;
use pbft::parameters::Parameters;
use pbft::rejection::Rejection;
use pbft::replica::Timer;
use pbft::types::Bytes;
use support::{Net, Step, request, small};

#[test]
fn a_batch_is_bounded_by_count_and_keeps_the_order_of_arrival() {
    let parameters = Parameters { max_batch_requests: 2, max_in_flight: 1, ..small() };
    let mut net = Net::new(4, 1, parameters);
    for client in [4, 3, 5, 1, 2] {
        net.inject(0, Message::Request(net.put(client, 1, "k", "v")));
    }
    net.run_all();
    let proposed: Vec<_> = net.steps[0].iter().flat_map(Step::batches).collect();
    let expected = [(1, vec![(4, 1)]), (2, vec![(3, 1), (5, 1)]), (3, vec![(1, 1), (2, 1)])];
    assert_eq!(proposed, expected);
}

#[test]
fn a_batch_is_bounded_by_bytes_and_one_request_may_use_them_all() {
    let parameters = Parameters { max_batch_requests: 8, max_batch_bytes: 100, max_in_flight: 1, ..small() };
    let mut net = Net::new(4, 1, parameters);
    let of_size = |net: &Net, client: u32, bytes: usize| {
        let operation = Operation::Get { key: Bytes::from(vec![7; bytes - 2]) };
        let request = request(client, 1, &operation, false);
        assert_eq!(request.operation.len(), bytes);
        Message::Request(net.sign_as_client(client, request))
    };
    for (client, bytes) in [(0, 10), (1, 50), (2, 50), (3, 1 + 1), (4, 100)] {
        net.inject(0, of_size(&net, client, bytes));
    }
    net.assert_refused(0, of_size(&Net::four(), 5, 101), Rejection::Oversize);
    net.run_all();
    let proposed: Vec<_> = net.steps[0].iter().flat_map(Step::batches).collect();
    assert_eq!(
        proposed,
        [(1, vec![(0, 1)]), (2, vec![(1, 1), (2, 1)]), (3, vec![(3, 1)]), (4, vec![(4, 1)])]
    );
}

#[test]
fn while_a_batch_is_in_flight_only_a_full_one_joins_it() {
    let parameters = Parameters { max_batch_requests: 2, max_batch_bytes: 100, max_in_flight: 3, ..small() };
    let mut net = Net::new(4, 1, parameters);
    let proposed =
        |step: &Step| step.batches().into_iter().map(|(n, batch)| (n, batch.len())).collect::<Vec<_>>();
    let put = |net: &mut Net, client: u32, value: &str| {
        let message = Message::Request(net.put(client, 1, "k", value));
        let step = net.deliver(0, message);
        net.route(0, &step);
        proposed(&step)
    };
    assert_eq!(put(&mut net, 0, "v"), [(1, 1)], "nothing is in flight");
    assert_eq!(put(&mut net, 1, "v"), [], "one request is not a full batch");
    assert_eq!(put(&mut net, 2, "v"), [(2, 2)], "two are");
    assert_eq!(put(&mut net, 3, &"v".repeat(96)), [(3, 1)], "or so many bytes");
    assert_eq!(put(&mut net, 4, "v"), []);
    assert_eq!(put(&mut net, 5, "v"), [], "three are in flight");
    net.run_all();
    let last = net.steps[0].iter().flat_map(Step::batches).next_back().unwrap();
    assert_eq!((last.0, last.1.len()), (4, 2), "what waited goes together");
    assert_eq!(net.last_executed(3), 4);
}

#[test]
fn a_replica_awaits_progress_from_a_request_or_a_proposal_to_its_execution_and_between_views() {
    let mut net = Net::four();
    assert!(net.replicas.iter().all(|replica| !replica.awaits_progress()));
    let message = Message::Request(net.put(0, 1, "k", "v"));
    let step = net.deliver(0, message);
    assert!(net.replicas[0].awaits_progress() && !net.replicas[1].awaits_progress());
    net.route(0, &step);
    net.run(|_, _, m| m.name() != "COMMIT");
    assert!(net.replicas.iter().all(|replica| replica.awaits_progress()), "it is proposed");
    let mut net = Net::four();
    net.order_many(&support::only(0..4), 1, 1);
    assert!(net.replicas.iter().all(|replica| !replica.awaits_progress()), "it has executed");
    net.fire(1, Timer::Progress { backoff: 0 });
    assert!(net.replicas[1].awaits_progress(), "it waits for a view");
}
