//! OSDI'99 §4.2, normal-case operation: the order of delivery does not matter, and what a message promises is
//! durable before it leaves.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pbft::message::Message;
use pbft::parameters::Parameters;
use pbft::rejection::Rejection;
use pbft::replica::{Effect, Record};
use rand::{RngExt, SeedableRng};
use support::{C, Net, batch, only, small};

// §4.2: nothing depends on the order in which messages arrive.

/// Three requests of three clients, ordered with messages picked at random.
fn deliver_in_some_order(seed: u64, parameters: Parameters) -> Net {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let mut net = Net::new(4, 1, parameters);
    for client in 0..3 {
        net.inject(0, Message::Request(net.put(client, 1, "k", &format!("v{client}"))));
    }
    while !net.in_flight.is_empty() {
        let chosen = rng.random_range(0..net.in_flight.len());
        let (_, to, message) = net.in_flight.remove(chosen).unwrap();
        net.inject(to, message);
    }
    net
}

const EXPECTED: [(u64, u32); 3] = [(1, 0), (2, 1), (3, 2)];

fn clients_in_history(net: &Net, at: usize) -> Vec<(u64, u32)> {
    net.history(at).iter().map(|(n, r)| (*n, r.client.0)).collect()
}

#[test]
fn any_order_of_delivery_gives_the_same_executions_and_replies() {
    for seed in 0..400 {
        let net = deliver_in_some_order(seed, Parameters { checkpoint_interval: 8, window: 16, ..small() });
        for at in 0..4 {
            assert_eq!(clients_in_history(&net, at), EXPECTED, "seed {seed}, replica {at}");
        }
        assert_eq!(net.replies.len(), 12, "seed {seed}");
    }
}

#[test]
fn any_order_of_delivery_gives_the_same_state_where_checkpoints_overtake_execution() {
    let mut transferred = 0;
    for seed in 0..400 {
        let net = deliver_in_some_order(seed, small());
        for at in 0..4 {
            // A replica that learns of the stable checkpoint first fetches the state instead.
            let history = clients_in_history(&net, at);
            assert!(history.is_sorted(), "seed {seed}, replica {at}: {history:?}");
            assert!(history.iter().all(|e| EXPECTED.contains(e)), "seed {seed}, replica {at}: {history:?}");
            transferred += usize::from(history.len() < EXPECTED.len());
            assert_eq!((net.h(at), net.last_executed(at)), (2, 3), "seed {seed}, replica {at}");
            assert_eq!(net.replicas[at].service(), net.replicas[0].service(), "seed {seed}, replica {at}");
            assert_eq!(net.replicas[at].clients(), net.replicas[0].clients(), "seed {seed}, replica {at}");
        }
    }
    assert!(transferred > 0, "no checkpoint overtook an execution");
}

// What a message promises is durable before it leaves, and the records alone restore the replica.

#[test]
fn pre_prepare_prepare_commit_and_reply_leave_after_their_records() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 3);
    net.assert_promises_kept(&["PRE-PREPARE", "PREPARE", "COMMIT", "REPLY", "CHECKPOINT"]);
    let records = |wanted: fn(&Record<C>) -> bool| net.records[1].iter().filter(|&r| wanted(r)).count();
    assert_eq!(records(|r| matches!(r, Record::PrePrepared(..))), 3);
    assert_eq!(records(|r| matches!(r, Record::Prepared(_))), 3);
    assert_eq!(records(|r| matches!(r, Record::Executed(..))), 3);
}

#[test]
fn a_restart_from_the_records_equals_one_from_the_durable_state_at_every_step() {
    let mut net = Net::four();
    for t in 1..=3 {
        net.inject(0, Message::Request(net.put(0, t, "k", "v")));
        while let Some((_, to, message)) = net.in_flight.pop_front() {
            let step = net.inject(to, message);
            if step.0.iter().any(|effect| matches!(effect, Effect::Persist(_))) {
                net.assert_restarts_agree();
            }
        }
    }
    assert_eq!(net.last_executed(3), 3);
}

#[test]
fn a_restarted_backup_prepares_no_other_digest_for_a_number_it_prepared_before() {
    let mut net = Net::four();
    let [m, other] = ["a", "b"].map(|value| batch(&[&net.put(0, 1, "k", value)]));
    net.deliver(1, net.pre_prepare(0, 0, 1, &m));
    net.restart(1, net.replayed(1));
    net.assert_refused(1, net.pre_prepare(0, 0, 1, &other), Rejection::ConflictingPrePrepare);
    assert_eq!(net.deliver(1, net.prepare(2, 0, 1, m.digest())).prepared(), [1]);
}
