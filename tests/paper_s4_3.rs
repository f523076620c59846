//! OSDI'99 §4.3, checkpoints, garbage collection and state transfer, clause by clause.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pbft::crypto::Signed;
use pbft::message::{Checkpoint, Message, Status};
use pbft::parameters::Parameters;
use pbft::rejection::Rejection;
use pbft::replica::{Effect, Fact, Record, Timer};
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use support::signing::{no_signature, some_digest};
use support::{C, Msg, NONE, Net, Step, batch, only, small};

/// The digests in the CHECKPOINTs that a replica sent, by sequence number.
fn checkpoints_sent(net: &Net, at: usize) -> Vec<(u64, Digest)> {
    let content = |m: &Msg| match m {
        Message::Checkpoint(m) => (m.content.n.0, m.content.digest),
        other => panic!("{}", other.name()),
    };
    let sent = net.steps[at].iter().flat_map(|step| step.sent("CHECKPOINT"));
    sent.map(content).collect()
}

/// Four replicas that have executed two batches, where no CHECKPOINT has been delivered; and its digest.
fn at_a_checkpoint() -> (Net, Digest) {
    let mut net = Net::four();
    for t in 1..=2 {
        net.inject(0, Message::Request(net.put(0, t, "k", &format!("v{t}"))));
        net.run(|_, _, m| m.name() != "CHECKPOINT");
    }
    assert_eq!(net.last_executed(3), 2);
    let digest = checkpoints_sent(&net, 3)[0].1;
    (net, digest)
}

// §4.3: a checkpoint is taken when the sequence number is divisible by K.

#[test]
fn a_checkpoint_is_taken_at_multiples_of_the_interval_only() {
    for (checkpoint_interval, expected) in [(2, vec![2, 4, 6]), (3, vec![3, 6]), (7, vec![])] {
        let parameters = Parameters { checkpoint_interval, window: 2 * checkpoint_interval, ..small() };
        let mut net = Net::new(4, 1, parameters);
        net.order_many(&only(0..4), 1, 6);
        for at in 0..4 {
            let taken: Vec<u64> = checkpoints_sent(&net, at).into_iter().map(|(n, _)| n).collect();
            assert_eq!(taken, expected, "K = {checkpoint_interval}");
        }
    }
}

#[test]
fn correct_replicas_send_the_same_checkpoint_digest() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 4);
    let expected = checkpoints_sent(&net, 0);
    assert_eq!(expected.len(), 2);
    assert!((1..4).all(|at| checkpoints_sent(&net, at) == expected));
    assert_ne!(expected[0].1, expected[1].1);
}

// §4.3: the digest in CHECKPOINT is that of the state; the last replies are part of the state.

/// The digest after two batches with these requests: client, timestamp, value.
fn digest_after(requests: [(u32, u64, &str); 2]) -> Digest {
    let mut net = Net::four();
    for (client, t, value) in requests {
        let request = net.put(client, t, "k", value);
        net.order_among(&only(0..4), &request);
    }
    checkpoints_sent(&net, 0)[0].1
}

#[test]
fn the_digest_covers_the_service_state() {
    let one = digest_after([(0, 1, "a"), (0, 2, "b")]);
    assert_eq!(one, digest_after([(0, 1, "a"), (0, 2, "b")]));
    assert_ne!(one, digest_after([(0, 1, "a"), (0, 2, "c")]));
}

#[test]
fn states_that_differ_only_in_the_client_table_have_different_digests() {
    let one = digest_after([(0, 1, "a"), (0, 2, "b")]);
    // Another timestamp, another client, another last result: the service state is the same.
    assert_ne!(one, digest_after([(0, 1, "a"), (0, 3, "b")]));
    assert_ne!(one, digest_after([(0, 1, "a"), (1, 2, "b")]));
    assert_ne!(one, digest_after([(0, 1, "x"), (0, 2, "b")]));
}

// §4.3: CHECKPOINTs are collected; 2f + 1 with the same digest from different replicas prove it stable.

#[test]
fn a_checkpoint_is_stable_with_exactly_a_quorum_its_own_included() {
    for (n, f, quorum) in [(4, 1, 3), (7, 2, 5), (5, 1, 4)] {
        let mut net = Net::new(n, f, small());
        for t in 1..=2 {
            net.inject(0, Message::Request(net.put(0, t, "k", "v")));
            net.run(|_, _, m| m.name() != "CHECKPOINT");
        }
        let digest = checkpoints_sent(&net, 0)[0].1;
        // Its own is one of them.
        for by in 1..quorum - 1 {
            assert_eq!(net.deliver(0, net.checkpoint(by, 2, digest)).stable(), NONE, "n={n}, {by} others");
        }
        assert_eq!(net.h(0), 0);
        assert_eq!(net.deliver(0, net.checkpoint(quorum - 1, 2, digest)).stable(), [2], "n={n}");
        assert_eq!(net.h(0), 2);
    }
}

#[test]
fn mismatching_or_repeated_checkpoints_make_nothing_stable() {
    let (mut net, digest) = at_a_checkpoint();
    assert_eq!(net.deliver(3, net.checkpoint(0, 2, digest)).stable(), NONE);
    net.assert_refused(3, net.checkpoint(0, 2, digest), Rejection::Duplicate);
    assert_eq!(net.deliver(3, net.checkpoint(1, 2, some_digest(1))).stable(), NONE);
    assert_eq!(net.deliver(3, net.checkpoint(1, 4, digest)).stable(), NONE);
    assert_eq!(net.h(3), 0);
    assert_eq!(net.deliver(3, net.checkpoint(2, 2, digest)).stable(), [2]);
}

#[test]
fn a_checkpoint_is_logged_only_if_signature_sender_interval_and_window_are_right() {
    let (mut net, digest) = at_a_checkpoint();
    let content = Checkpoint { n: SeqNo(2), digest, replica: ReplicaId(0) };
    let unsigned = Signed { signature: no_signature(), ..net.sign(0, content) };
    net.assert_refused(3, Message::Checkpoint(unsigned), Rejection::BadSignature);
    net.assert_refused(3, Message::Checkpoint(net.sign(1, content)), Rejection::SignerIsNotSender);
    net.assert_refused(3, net.checkpoint(0, 3, digest), Rejection::NotACheckpoint);
    net.assert_refused(3, net.checkpoint(0, 0, digest), Rejection::OutOfWindow);
    net.assert_refused(3, net.checkpoint(0, 6, digest), Rejection::OutOfWindow);
    assert_eq!(net.deliver(3, net.checkpoint(0, 2, digest)).rejection(), None);
}

// §4.3: a stable checkpoint discards the log up to n and all earlier checkpoints, and moves h and H.

#[test]
fn a_stable_checkpoint_discards_what_it_covers_and_nothing_above() {
    let (mut net, digest) = at_a_checkpoint();
    net.inject(0, Message::Request(net.put(0, 3, "k", "v3")));
    net.run(|_, _, m| m.name() != "CHECKPOINT");
    let numbers = |net: &Net| {
        let disk = &net.disks[3];
        let log: Vec<u64> = disk.log.keys().map(|(_, n)| n.0).collect();
        let prepared: Vec<u64> = disk.prepared.keys().map(|n| n.0).collect();
        (log, prepared, disk.executed.keys().map(|n| n.0).collect::<Vec<u64>>(), disk.batches.len())
    };
    assert_eq!(numbers(&net), (vec![1, 2, 3], vec![1, 2, 3], vec![1, 2, 3], 3));
    for by in [0, 1] {
        net.deliver(3, net.checkpoint(by, 2, digest));
    }
    assert_eq!(numbers(&net), (vec![3], vec![3], vec![3], 1));
    let proof = net.disks[3].stable.clone().unwrap();
    assert_eq!((proof.n, proof.digest), (SeqNo(2), digest));
    assert_eq!(net.disks[3].snapshot.n, SeqNo(2));
    let marks = net.replicas[3].watermarks(&net.setups[3]);
    assert_eq!((marks.h, marks.high()), (SeqNo(2), SeqNo(6)));
    // Votes for what is over are of no use; the same votes above h are.
    net.assert_refused(3, net.checkpoint(2, 2, digest), Rejection::OutOfWindow);
    let m = batch(&[&net.put(1, 1, "k", "w")]);
    net.assert_refused(3, net.prepare(1, 0, 2, m.digest()), Rejection::OutOfWindow);
    net.assert_refused(3, net.commit(1, 0, 2, m.digest()), Rejection::OutOfWindow);
    net.assert_refused(3, net.pre_prepare(0, 0, 7, &m), Rejection::OutOfWindow);
    assert_eq!(net.deliver(3, net.pre_prepare(0, 0, 6, &m)).names(), ["PREPARE"]);
}

#[test]
fn a_full_window_stops_the_primary_until_a_checkpoint_is_stable() {
    let mut net = Net::four();
    for t in 1..=5 {
        net.inject(0, Message::Request(net.put(0, t, "k", "v")));
        net.run(|_, _, m| m.name() != "CHECKPOINT");
    }
    let proposed = |net: &Net| net.steps[0].iter().map(|step| step.sent("PRE-PREPARE").len()).sum::<usize>();
    assert_eq!((proposed(&net), net.last_executed(0)), (4, 4));
    let digest = checkpoints_sent(&net, 0)[0].1;
    assert_eq!(net.deliver(0, net.checkpoint(1, 2, digest)).names(), Vec::<&str>::new());
    let step = net.deliver(0, net.checkpoint(2, 2, digest));
    assert_eq!((step.stable(), step.names()), (vec![2], vec!["PRE-PREPARE"]));
}

#[test]
fn the_cluster_goes_on_for_many_windows() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 21);
    for at in 0..4 {
        assert_eq!((net.h(at), net.last_executed(at)), (20, 21));
        assert!(net.disks[at].log.len() <= 4);
    }
}

// §4.3, §4.4 and thesis §5.3: a replica behind a stable checkpoint fetches the state.

#[test]
fn a_replica_that_missed_everything_catches_up_through_status_and_goes_on_executing() {
    let mut net = Net::one_left_behind();
    let step = net.fire(3, Timer::Status);
    net.route(3, &step);
    net.run_all();
    assert_eq!((net.h(3), net.last_executed(3)), (4, 5));
    assert_eq!(net.replicas[3].service(), net.replicas[0].service());
    assert_eq!(net.replicas[3].clients(), net.replicas[0].clients());
    let transferred = net.steps[3].iter().flat_map(Step::facts).any(|fact| {
        matches!(fact, Fact::StateTransferred { n: SeqNo(4), digest }
            if Some(*digest) == net.disks[0].stable.as_ref().map(|stable| stable.digest))
    });
    assert!(transferred);
    assert_eq!(net.history(3).iter().map(|(n, _)| *n).collect::<Vec<_>>(), [5]);
    net.order_many(&only(0..4), 6, 3);
    assert_eq!((net.h(3), net.last_executed(3)), (8, 8));
    assert_eq!(net.value(3, "k"), Some("v8".into()));
}

#[test]
fn a_status_is_answered_with_the_stable_certificate_only_where_it_is_news() {
    let mut net = Net::one_left_behind();
    let status = |stable| Status {
        view: View(0),
        leaving: None,
        stable: SeqNo(stable),
        executed: SeqNo(5),
        pre_prepared: vec![SeqNo(5)],
        prepared: vec![SeqNo(5)],
        replica: ReplicaId(3),
    };
    let step = net.deliver(0, Message::Status(net.sign(3, status(3))));
    assert_eq!(step.sent("STABLE").len(), 1);
    let step = net.deliver(0, Message::Status(net.sign(3, status(4))));
    assert_eq!(step.sent("STABLE").len(), 0);
}

#[test]
fn a_stable_certificate_must_prove_its_claim() {
    let mut net = Net::one_left_behind();
    let digest = net.disks[0].stable.as_ref().unwrap().digest;
    let mut forged = net.stable(4, digest, &[0, 1, 2]);
    forged.proof.votes[2].1 = no_signature();
    let mut with_outsider = net.stable(4, digest, &[0, 1, 2]);
    with_outsider.proof.votes[2].0 = ReplicaId(4);
    let mut moved = net.stable(2, digest, &[0, 1, 2]);
    moved.n = SeqNo(4);
    let mut renamed = net.stable(4, some_digest(1), &[0, 1, 2]);
    renamed.digest = digest;
    let bad = [
        net.stable(4, digest, &[0, 1]),
        net.stable(4, digest, &[0, 1, 1]),
        net.stable(3, digest, &[0, 1, 2]),
        net.stable(0, digest, &[0, 1, 2]),
        forged,
        with_outsider,
        moved,
        renamed,
    ];
    for certificate in bad {
        net.assert_refused(3, Message::Stable(certificate), Rejection::BadStableCertificate);
    }
    let good = Message::Stable(net.stable(4, digest, &[0, 1, 2]));
    assert_eq!(net.deliver(3, good.clone()).stable(), [4]);
    net.assert_refused(3, good, Rejection::Duplicate);
}

#[test]
fn a_replica_that_executed_the_checkpointed_state_itself_fetches_nothing() {
    let (mut net, digest) = at_a_checkpoint();
    let step = net.deliver(3, Message::Stable(net.stable(2, digest, &[0, 1, 2])));
    assert_eq!((step.stable(), step.sent("FETCH").len()), (vec![2], 0));
    assert_eq!(net.replicas[3].transferring(), None);
}

// What a message promises is durable before it leaves, and the records alone restore the replica.

#[test]
fn checkpoints_leave_after_the_records_of_what_they_vouch_for() {
    let mut net = Net::one_left_behind();
    net.gossip(&only(0..4));
    net.order_many(&only(0..4), 6, 3);
    net.assert_promises_kept(&["CHECKPOINT", "REPLY"]);
}

#[test]
fn the_log_is_discarded_only_after_the_proof_is_recorded() {
    let (mut net, digest) = at_a_checkpoint();
    net.deliver(3, net.checkpoint(0, 2, digest));
    let step = net.deliver(3, net.checkpoint(1, 2, digest));
    let [Effect::Persist(Record::Stable(proof)), Effect::Fact(_), Effect::Persist(Record::Snapshot(own))] =
        &step.0[..]
    else {
        panic!("{step:?}")
    };
    assert_eq!((proof.n, own.n, own.tree.root()), (SeqNo(2), SeqNo(2), proof.digest));
}

#[test]
fn a_restart_from_the_records_equals_one_from_the_state_across_checkpoints_and_transfer() {
    let mut net = Net::four();
    for t in 1..=7 {
        net.order_many(&only(0..3), t, 1);
        net.assert_restarts_agree();
    }
    net.gossip(&only(0..4));
    net.assert_restarts_agree();
    assert_eq!((net.h(3), net.last_executed(3)), (6, 7));
}

#[test]
fn a_crash_between_the_proof_and_the_snapshot_loses_nothing() {
    let (mut net, digest) = at_a_checkpoint();
    for by in [0, 1] {
        net.deliver(3, net.checkpoint(by, 2, digest));
    }
    let Some(Record::<C>::Snapshot(_)) = net.records[3].pop() else { panic!("the snapshot is last") };
    let torn = net.replayed(3);
    assert_eq!((torn.h(), torn.snapshot.n, torn.last_executed()), (SeqNo(2), SeqNo(0), SeqNo(2)));
    let step = net.restart(3, torn);
    assert_eq!(step.sent("FETCH").len(), 0);
    assert_eq!((net.h(3), net.last_executed(3), net.value(3, "k")), (2, 2, Some("v2".into())));
    assert_eq!(net.replicas[3].durable().snapshot.tree.root(), digest);
}
