//! Thesis §5.3, fetching the state of a stable checkpoint block by block, case by case.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pbft::crypto::Crypto;
use pbft::kv::{KeyValue, Operation};
use pbft::message::{Message, Wanted};
use pbft::parameters::Parameters;
use pbft::rejection::Rejection;
use pbft::replica::Timer;
use pbft::types::{Bytes, Digest, SeqNo};
use support::{C, Msg, Net, Step, batch, only, request, small, was};

/// Replica 3 on its way to the state at 4, with the digest of the block it asked for first.
fn transferring() -> (Net, Digest, Step) {
    let mut net = Net::one_left_behind();
    let stable = net.disks[0].stable.clone().unwrap();
    let root = stable.digest;
    let step = net.deliver(3, Message::Stable(stable));
    (net, root, step)
}

fn wanted(step: &Step) -> Vec<Digest> {
    let block = |m: &Msg| match m {
        Message::Fetch(m) => match m.content.what {
            Wanted::Block(digest) => digest,
            Wanted::Batch(_) => panic!("no batch is missing"),
        },
        other => panic!("{}", other.name()),
    };
    step.sent("FETCH").into_iter().map(block).collect()
}

fn block_of(net: &mut Net, digest: Digest) -> Bytes {
    let step = net.deliver(0, net.fetch(3, Wanted::Block(digest)));
    match step.sent("BLOCK")[..] {
        [Message::Block(block)] => block.clone(),
        _ => panic!("no block {digest:?}"),
    }
}

#[test]
fn each_block_is_checked_by_its_digest_and_a_wrong_one_is_refused() {
    let (mut net, root, step) = transferring();
    assert_eq!(wanted(&step), [root]);
    assert_eq!((net.h(3), net.last_executed(3)), (4, 0));
    let node = block_of(&mut net, root);
    let mut damaged = node.to_vec();
    damaged[5] ^= 1;
    net.assert_refused(3, Message::Block(Bytes::from(damaged)), Rejection::Unwanted);
    assert_eq!(net.replicas[3].transferring(), Some((SeqNo(4), 0)));

    let leaves = wanted(&net.deliver(3, Message::Block(node)));
    assert_eq!(leaves.len(), 2, "one chunk of the service, one of the client table");
    let first = block_of(&mut net, leaves[0]);
    let mut damaged = first.to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    net.assert_refused(3, Message::Block(Bytes::from(damaged)), Rejection::Unwanted);
    assert_eq!(net.deliver(3, Message::Block(first.clone())).rejection(), None);
    net.assert_refused(3, Message::Block(first), Rejection::Unwanted);
    assert_eq!((net.last_executed(3), net.value(3, "k")), (0, None));
    let second = block_of(&mut net, leaves[1]);
    net.deliver(3, Message::Block(second.clone()));
    assert_eq!((net.last_executed(3), net.value(3, "k")), (4, Some("v4".into())));
    net.assert_refused(3, Message::Block(second), Rejection::Unwanted);
}

#[test]
fn a_lost_block_is_asked_for_again_from_another_replica() {
    let (mut net, root, step) = transferring();
    let asked = |step: &Step| {
        let fetches = step.sends().into_iter().filter(|(_, m)| m.name() == "FETCH");
        fetches.map(|(to, _)| to).collect::<Vec<_>>()
    };
    let again = net.fire(3, Timer::Status);
    assert_eq!(wanted(&again), [root]);
    assert_eq!((asked(&step).len(), asked(&again).len()), (1, 1));
    assert_ne!(asked(&step), asked(&again));
}

#[test]
fn a_fetched_client_table_prevents_old_requests_from_executing_again() {
    let mut net = Net::one_left_behind();
    net.gossip(&only(0..4));
    assert_eq!(net.last_executed(3), 5);
    for t in 1..=4 {
        net.assert_refused(
            3,
            Message::Request(net.put(0, t, "k", &format!("v{t}"))),
            Rejection::OldTimestamp,
        );
    }
    // Even where a primary orders an old request again, at 6.
    let old = batch(&[&net.put(0, 2, "k", "v2")]);
    net.deliver(3, net.pre_prepare(0, 0, 6, &old));
    for by in [1, 2] {
        net.deliver(3, net.prepare(by, 0, 6, old.digest()));
    }
    for by in [0, 1] {
        net.deliver(3, net.commit(by, 0, 6, old.digest()));
    }
    assert_eq!((net.last_executed(3), net.value(3, "k")), (6, Some("v5".into())));
    assert_eq!(net.history(3).len(), 1);
}

#[test]
fn a_replica_that_caught_up_answers_from_the_fetched_client_table() {
    let mut net = Net::four();
    net.order_many(&only(0..3), 1, 4);
    net.gossip(&only(0..4));
    assert_eq!(net.history(3), []);
    let step = net.deliver(3, Message::Request(net.put(0, 4, "k", "v4")));
    let [Message::Reply(reply)] = step.sent("REPLY")[..] else { panic!("{step:?}") };
    assert_eq!(reply.content.result, was(Some("v3")));
}

#[test]
fn a_transfer_of_many_blocks_ends_with_the_same_state() {
    let parameters = Parameters { max_batch_bytes: 64 * 1024, ..small() };
    let mut net = Net::new(4, 1, parameters);
    for t in 1..=16u64 {
        let key = Bytes::from(format!("key{t}").into_bytes());
        let operation = Operation::Put { key, value: Bytes::from(vec![7; 40_000]) };
        let request = net.sign_as_client(0, request(0, t, &operation, false));
        net.order_among(&only(0..3), &request);
    }
    net.gossip(&only(0..4));
    let blocks = net.steps[3].iter().map(|step| step.sent("FETCH").len()).sum::<usize>();
    assert!(blocks > 16, "{blocks} blocks");
    assert_eq!(net.replicas[3].service(), net.replicas[0].service());
    assert_ne!(net.replicas[3].service(), &KeyValue::default());
}

#[test]
fn a_newer_checkpoint_takes_the_place_of_a_transfer_under_way() {
    let (mut net, root, _) = transferring();
    let node = block_of(&mut net, root);
    net.deliver(3, Message::Block(node));
    net.order_many(&only(0..3), 6, 1);
    assert_eq!(net.h(0), 6);
    net.gossip(&only(0..4));
    assert_eq!((net.h(3), net.last_executed(3)), (6, 6));
    assert_eq!(net.replicas[3].clients(), net.replicas[0].clients());
}

#[test]
fn blocks_fetched_for_an_older_checkpoint_are_not_asked_for_again() {
    let mut net = Net::four();
    let still = net.put(1, 1, "still", "v");
    net.order_among(&only(0..3), &still);
    net.order_many(&only(0..3), 1, 3);
    let proof = |net: &Net| net.disks[0].stable.clone().unwrap();
    let (first, step) = (proof(&net), net.h(0));
    assert_eq!(step, 4);
    net.deliver(3, Message::Stable(first.clone()));
    let node = block_of(&mut net, first.digest);
    let leaves = wanted(&net.deliver(3, Message::Block(node)));
    assert_eq!(leaves.len(), 3, "the buckets of two keys, and the client table");
    for &leaf in &leaves[..2] {
        let block = block_of(&mut net, leaf);
        net.deliver(3, Message::Block(block));
    }
    net.order_many(&only(0..3), 4, 2);
    let second = proof(&net);
    let step = net.deliver(3, Message::Stable(second.clone()));
    assert_eq!(wanted(&step), [second.digest]);
    let node = block_of(&mut net, second.digest);
    let changed = wanted(&net.deliver(3, Message::Block(node)));
    let blocks: Vec<Digest> = net.replicas[0].blocks().iter().map(|block| C::digest(block)).collect();
    let same = leaves[..2].iter().filter(|leaf| blocks.contains(leaf)).count();
    assert!(
        same > 0 && changed.len() == 3 - same,
        "{same} of the old blocks are in the new state, {changed:?} were asked for"
    );
    for leaf in changed {
        let block = block_of(&mut net, leaf);
        net.deliver(3, Message::Block(block));
    }
    assert_eq!((net.last_executed(3), net.value(3, "still")), (6, Some("v".into())));
}

#[test]
fn a_crash_in_the_middle_of_a_transfer_starts_it_again() {
    let (mut net, root, _) = transferring();
    let step = net.restart(3, net.replayed(3));
    assert_eq!(wanted(&step), [root]);
    net.route(3, &step);
    net.run_all();
    assert_eq!((net.last_executed(3), net.value(3, "k")), (5, Some("v5".into())));
}
