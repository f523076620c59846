//! OSDI'99 §4.2, normal-case operation, clause by clause. The order of delivery and what is durable:
//! `paper_s4_2_order.rs`.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pbft::crypto::Signed;
use pbft::message::{Batch, Commit, Message, PrePrepare, Prepare, Request};
use pbft::parameters::Parameters;
use pbft::rejection::Rejection;
use pbft::replica::Destination;
use pbft::types::{Bytes, ClientId, Digest, ReplicaId, SeqNo, Timestamp, View};
use std::sync::Arc;
use support::signing::{no_signature, some_digest};
use support::{C, Msg, NONE, Net, Step, batch, only, small, was};

/// The batch with one PUT of client 0.
fn one(net: &Net, t: u64) -> Arc<Batch<C>> {
    batch(&[&net.put(0, t, "k", &format!("v{t}"))])
}

/// Replica 1 with an accepted PRE-PREPARE for n = 1, and its batch.
fn backup_with_pre_prepare() -> (Net, Arc<Batch<C>>) {
    let mut net = Net::four();
    let m = one(&net, 1);
    let step = net.deliver(1, net.pre_prepare(0, 0, 1, &m));
    assert_eq!(step.names(), ["PREPARE"]);
    (net, m)
}

/// Replica 1, prepared at n = 1: its own PREPARE and one other's.
fn prepared_backup() -> (Net, Digest) {
    let (mut net, m) = backup_with_pre_prepare();
    let step = net.deliver(1, net.prepare(2, 0, 1, m.digest()));
    assert_eq!(step.prepared(), [1]);
    (net, m.digest())
}

// §4.2: the primary assigns a sequence number and multicasts a pre-prepare with the requests.

#[test]
fn the_primary_assigns_consecutive_numbers_in_the_order_of_arrival() {
    let mut net = Net::four();
    for (client, n) in [(3, 1), (0, 2), (2, 3)] {
        let step = net.deliver(0, Message::Request(net.put(client, 1, "k", "v")));
        assert_eq!(step.batches(), [(n, vec![(client, 1)])]);
        let (to, Message::PrePrepare(m, batch)) = step.sends()[0] else { panic!("no PRE-PREPARE first") };
        assert_eq!(to, Destination::Replicas);
        assert_eq!(m.content, PrePrepare { view: View(0), n: SeqNo(n), digest: batch.digest() });
    }
}

#[test]
fn the_primary_does_not_assign_a_second_number_to_a_request() {
    let mut net = Net::four();
    let request = net.put(0, 1, "k", "v");
    net.deliver(0, Message::Request(request.clone()));
    let again = net.deliver(0, Message::Request(request));
    assert_eq!(again.batches(), []);
}

#[test]
fn a_backup_assigns_nothing() {
    let mut net = Net::four();
    let step = net.deliver(1, Message::Request(net.put(0, 1, "k", "v")));
    assert_eq!(step.batches(), []);
}

#[test]
fn a_request_without_its_clients_signature_is_not_ordered() {
    let mut net = Net::four();
    let good = net.put(0, 1, "k", "v");
    let forged = Signed { signature: no_signature(), ..good.clone() };
    net.assert_refused(0, Message::Request(forged), Rejection::BadSignature);
    let anothers = net.sign_as_client(1, good.content.clone());
    net.assert_refused(0, Message::Request(anothers), Rejection::SignerIsNotSender);
    let outsider = Request { client: ClientId(support::CLIENTS), ..good.content.clone() };
    let outsider = Signed { content: outsider, signer: signer_of(support::CLIENTS), ..good.clone() };
    net.assert_refused(0, Message::Request(outsider), Rejection::UnknownSender);
    assert_eq!(net.deliver(0, Message::Request(good)).names(), ["PRE-PREPARE"]);
}

fn signer_of(client: u32) -> pbft::types::Principal {
    pbft::types::Principal::Client(ClientId(client))
}

#[test]
fn the_primary_proposes_up_to_the_high_water_mark_and_no_further() {
    let mut net = Net::new(4, 1, Parameters { max_in_flight: 100, ..small() });
    for client in 0..5 {
        net.deliver(0, Message::Request(net.put(client, 1, "k", "v")));
    }
    let proposed: Vec<u64> = net.steps[0].iter().flat_map(Step::batches).map(|(n, _)| n).collect();
    assert_eq!(proposed, [1, 2, 3, 4]);
}

// §4.2: a backup accepts a pre-prepare provided ...

#[test]
fn a_backup_accepts_a_sound_pre_prepare_logs_it_and_sends_prepare_to_all() {
    let mut net = Net::four();
    let m = one(&net, 1);
    let step = net.deliver(1, net.pre_prepare(0, 0, 1, &m));
    let content = Prepare { view: View(0), n: SeqNo(1), digest: m.digest(), replica: ReplicaId(1) };
    let expected = Message::Prepare(net.sign(1, content));
    assert_eq!(step.sends(), [(Destination::Replicas, &expected)]);
    assert_eq!(net.accepted(1, 1), Some(m.digest()));
    assert_eq!(net.disks[1].batches.get(&m.digest()), Some(&m));
}

#[test]
fn a_pre_prepare_with_a_wrong_signature_is_refused() {
    let mut net = Net::four();
    let m = one(&net, 1);
    let mut signed = net.signed_pre_prepare(0, 0, 1, m.digest());
    signed.signature = no_signature();
    net.assert_refused(1, Message::PrePrepare(signed, m), Rejection::BadSignature);
}

#[test]
fn a_pre_prepare_with_a_request_no_client_signed_is_refused() {
    let mut net = Net::four();
    let forged = Signed { signature: no_signature(), ..net.put(0, 1, "k", "v") };
    let m = batch(&[&net.put(1, 1, "k", "v"), &forged]);
    let parameters = Parameters { max_batch_requests: 2, ..small() };
    net.setups[1].parameters = parameters;
    net.assert_refused(1, net.pre_prepare(0, 0, 1, &m), Rejection::BadRequest);
    let sound = batch(&[&net.put(1, 1, "k", "v"), &net.put(0, 1, "k", "v")]);
    assert_eq!(net.deliver(1, net.pre_prepare(0, 0, 1, &sound)).names(), ["PREPARE"]);
}

#[test]
fn a_pre_prepare_whose_digest_names_another_batch_is_refused() {
    let mut net = Net::four();
    let (m, other) = (one(&net, 1), one(&net, 2));
    let signed = net.signed_pre_prepare(0, 0, 1, other.digest());
    net.assert_refused(1, Message::PrePrepare(signed, m), Rejection::BadDigest);
}

#[test]
fn a_batch_beyond_its_bounds_or_with_an_unordered_read_is_refused() {
    let mut net = Net::four();
    let two = batch(&[&net.put(0, 1, "k", "v"), &net.put(1, 1, "k", "v")]);
    net.assert_refused(1, net.pre_prepare(0, 0, 1, &two), Rejection::Oversize);
    let long = batch(&[&net.put(0, 1, "k", &"v".repeat(1024))]);
    net.assert_refused(1, net.pre_prepare(0, 0, 1, &long), Rejection::Oversize);
    let read = batch(&[&net.get(0, 1, "k")]);
    net.assert_refused(1, net.pre_prepare(0, 0, 1, &read), Rejection::BadRequest);
}

#[test]
fn a_pre_prepare_of_another_view_is_refused() {
    let mut net = Net::four();
    let m = one(&net, 1);
    net.assert_refused(2, net.pre_prepare(1, 1, 1, &m), Rejection::WrongView);
    net.change_view_among(&only(0..4));
    assert_eq!(net.view(2), 1);
    net.assert_refused(2, net.pre_prepare(0, 0, 1, &m), Rejection::WrongView);
    assert_eq!(net.deliver(2, net.pre_prepare(1, 1, 1, &m)).names(), ["PREPARE"]);
}

#[test]
fn a_second_digest_for_a_view_and_number_is_refused() {
    let (mut net, m) = backup_with_pre_prepare();
    let other = one(&net, 2);
    net.assert_refused(1, net.pre_prepare(0, 0, 1, &other), Rejection::ConflictingPrePrepare);
    net.assert_refused(1, net.pre_prepare(0, 0, 1, &m), Rejection::Duplicate);
    assert_eq!(net.accepted(1, 1), Some(m.digest()));
    assert_eq!(net.deliver(1, net.pre_prepare(0, 0, 2, &other)).names(), ["PREPARE"]);
}

#[test]
fn a_pre_prepare_at_or_below_h_or_above_big_h_is_refused() {
    let mut net = Net::four();
    let m = one(&net, 9);
    net.assert_refused(1, net.pre_prepare(0, 0, 0, &m), Rejection::OutOfWindow);
    net.assert_refused(1, net.pre_prepare(0, 0, 5, &m), Rejection::OutOfWindow);
    assert_eq!(net.deliver(1, net.pre_prepare(0, 0, 4, &m)).names(), ["PREPARE"]);

    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 2);
    assert_eq!(net.h(1), 2);
    net.assert_refused(1, net.pre_prepare(0, 0, 2, &m), Rejection::OutOfWindow);
    net.assert_refused(1, net.pre_prepare(0, 0, 7, &m), Rejection::OutOfWindow);
    for n in [6, 3] {
        assert_eq!(net.deliver(1, net.pre_prepare(0, 0, n, &m)).names(), ["PREPARE"], "n={n}");
    }
}

#[test]
fn a_pre_prepare_of_a_backup_is_refused() {
    let mut net = Net::four();
    let m = one(&net, 1);
    net.assert_refused(1, net.pre_prepare(2, 0, 1, &m), Rejection::NotPrimary);
    net.assert_refused(0, net.pre_prepare(0, 0, 1, &m), Rejection::Duplicate);
}

#[test]
fn a_null_pre_prepare_outside_of_a_new_view_is_refused() {
    let mut net = Net::four();
    let null = batch(&[]);
    assert_eq!(null.digest(), Digest::NULL);
    net.assert_refused(1, net.pre_prepare(0, 0, 1, &null), Rejection::NullRequest);
}

// §4.2: prepares are accepted if correctly signed, in the view and in the window.

#[test]
fn a_prepare_is_logged_only_if_signature_view_window_and_sender_are_right() {
    let (mut net, m) = backup_with_pre_prepare();
    let d = m.digest();
    let content = Prepare { view: View(0), n: SeqNo(1), digest: d, replica: ReplicaId(2) };
    let unsigned = Signed { signature: no_signature(), ..net.sign(2, content) };
    net.assert_refused(1, Message::Prepare(unsigned), Rejection::BadSignature);
    let impersonating = net.sign(3, content);
    net.assert_refused(1, Message::Prepare(impersonating), Rejection::SignerIsNotSender);
    net.assert_refused(1, net.prepare(2, 1, 1, d), Rejection::WrongView);
    net.assert_refused(1, net.prepare(2, 0, 0, d), Rejection::OutOfWindow);
    net.assert_refused(1, net.prepare(2, 0, 5, d), Rejection::OutOfWindow);
    net.assert_refused(1, net.prepare(0, 0, 1, d), Rejection::PrimaryPrepare);
    assert_eq!(net.certificate(1, 1), None);
    assert_eq!(net.deliver(1, net.prepare(2, 0, 1, d)).prepared(), [1]);
}

#[test]
fn a_clients_signature_makes_no_vote() {
    let (mut net, m) = backup_with_pre_prepare();
    let content = Prepare { view: View(0), n: SeqNo(1), digest: m.digest(), replica: ReplicaId(2) };
    let by_client = net.sign_as_client(2, content);
    net.assert_refused(1, Message::Prepare(by_client), Rejection::SignerIsNotSender);
}

#[test]
fn a_prepare_of_one_sender_counts_once() {
    let mut net = Net::four();
    let m = one(&net, 1);
    net.deliver(0, Message::Request(m.requests[0].clone()));
    assert_eq!(net.deliver(0, net.prepare(2, 0, 1, m.digest())).prepared(), NONE);
    net.assert_refused(0, net.prepare(2, 0, 1, m.digest()), Rejection::Duplicate);
    net.assert_refused(0, net.prepare(2, 0, 1, some_digest(1)), Rejection::Duplicate);
    assert_eq!(net.deliver(0, net.prepare(3, 0, 1, m.digest())).prepared(), [1]);
}

// §4.2: prepared(m, v, n, i): the request, its pre-prepare and 2f matching prepares of different backups.

#[test]
fn a_replica_is_prepared_with_exactly_two_f_prepares_its_own_included() {
    for (n, f, needed) in [(4, 1, 2), (7, 2, 4), (5, 1, 3)] {
        let mut net = Net::new(n, f, small());
        let m = one(&net, 1);
        net.deliver(1, net.pre_prepare(0, 0, 1, &m));
        for (count, by) in (2..2 + needed).enumerate() {
            // Its own PREPARE is one of them.
            let step = net.deliver(1, net.prepare(by, 0, 1, m.digest()));
            let enough = count + 2 == needed;
            assert_eq!(step.prepared().len(), usize::from(enough), "n={n}, {} prepares", count + 2);
            if enough {
                break;
            }
        }
        assert_eq!(net.certificate(1, 1), Some((0, m.digest())));
    }
}

#[test]
fn the_primary_needs_two_f_prepares_of_others() {
    let mut net = Net::four();
    let m = one(&net, 1);
    net.deliver(0, Message::Request(m.requests[0].clone()));
    assert_eq!(net.deliver(0, net.prepare(1, 0, 1, m.digest())).names(), Vec::<&str>::new());
    assert_eq!(net.deliver(0, net.prepare(2, 0, 1, m.digest())).names(), ["COMMIT"]);
}

#[test]
fn prepares_for_another_digest_or_number_do_not_prepare() {
    let (mut net, m) = backup_with_pre_prepare();
    assert_eq!(net.deliver(1, net.prepare(2, 0, 1, some_digest(1))).prepared(), NONE);
    assert_eq!(net.deliver(1, net.prepare(3, 0, 2, m.digest())).prepared(), NONE);
    assert_eq!(net.certificate(1, 1), None);
    assert_eq!(net.deliver(1, net.prepare(3, 0, 1, m.digest())).prepared(), [1]);
}

#[test]
fn prepares_of_an_earlier_view_do_not_prepare() {
    let (mut net, m) = backup_with_pre_prepare();
    net.change_view_among(&[1, 2, 3]);
    assert_eq!((net.view(2), net.accepted(2, 1)), (1, None));
    net.assert_refused(2, net.prepare(3, 0, 1, m.digest()), Rejection::WrongView);
    net.deliver(2, net.pre_prepare(1, 1, 1, &m));
    assert_eq!(net.certificate(2, 1), None);
    assert_eq!(net.deliver(2, net.prepare(3, 1, 1, m.digest())).prepared(), [1]);
}

#[test]
fn prepares_without_the_pre_prepare_do_not_prepare() {
    let mut net = Net::four();
    let m = one(&net, 1);
    for by in [2, 3] {
        let step = net.deliver(1, net.prepare(by, 0, 1, m.digest()));
        assert_eq!((step.rejection(), step.prepared()), (None, vec![]));
    }
    let step = net.deliver(1, net.pre_prepare(0, 0, 1, &m));
    assert_eq!((step.names(), step.prepared()), (vec!["PREPARE", "COMMIT"], vec![1]));
}

// §4.2: a replica multicasts COMMIT when it becomes prepared.

#[test]
fn commit_is_sent_once_when_prepared_and_not_before() {
    let (mut net, m) = backup_with_pre_prepare();
    assert!(net.steps[1].iter().all(|step| step.sent("COMMIT").is_empty()));
    let step = net.deliver(1, net.prepare(2, 0, 1, m.digest()));
    let content = Commit { view: View(0), n: SeqNo(1), digest: m.digest(), replica: ReplicaId(1) };
    let expected = Message::Commit(net.sign(1, content));
    assert_eq!(step.sends(), [(Destination::Replicas, &expected)]);
    let late = net.deliver(1, net.prepare(3, 0, 1, m.digest()));
    assert_eq!(late.names(), Vec::<&str>::new());
}

#[test]
fn a_commit_is_logged_only_if_signature_view_window_and_sender_are_right() {
    let (mut net, d) = prepared_backup();
    let content = Commit { view: View(0), n: SeqNo(1), digest: d, replica: ReplicaId(2) };
    let unsigned = Signed { signature: no_signature(), ..net.sign(2, content) };
    net.assert_refused(1, Message::Commit(unsigned), Rejection::BadSignature);
    let impersonating = net.sign(3, content);
    net.assert_refused(1, Message::Commit(impersonating), Rejection::SignerIsNotSender);
    net.assert_refused(1, net.commit(2, 1, 1, d), Rejection::WrongView);
    net.assert_refused(1, net.commit(2, 0, 0, d), Rejection::OutOfWindow);
    net.assert_refused(1, net.commit(2, 0, 5, d), Rejection::OutOfWindow);
    net.deliver(1, net.commit(2, 0, 1, d));
    net.assert_refused(1, net.commit(2, 0, 1, d), Rejection::Duplicate);
    assert_eq!(net.last_executed(1), 0);
    assert_eq!(net.deliver(1, net.commit(0, 0, 1, d)).committed(), [1]);
}

// §4.2: committed-local(m, v, n, i): prepared and 2f + 1 matching commits of different replicas.

#[test]
fn a_replica_is_committed_local_with_exactly_a_quorum_of_commits_its_own_included() {
    for (n, f, quorum) in [(4, 1, 3), (7, 2, 5), (5, 1, 4)] {
        let mut net = Net::new(n, f, small());
        let m = one(&net, 1);
        net.deliver(1, net.pre_prepare(0, 0, 1, &m));
        for by in 2..quorum {
            net.deliver(1, net.prepare(by, 0, 1, m.digest()));
        }
        assert_eq!(net.certificate(1, 1), Some((0, m.digest())), "n={n}");
        for by in 2..quorum {
            assert_eq!(net.deliver(1, net.commit(by, 0, 1, m.digest())).committed(), NONE, "n={n} by={by}");
        }
        let step = net.deliver(1, net.commit(0, 0, 1, m.digest()));
        assert_eq!((step.committed(), step.executed()), (vec![1], vec![1]), "n={n}");
    }
}

#[test]
fn commits_for_another_digest_or_number_do_not_commit() {
    let (mut net, d) = prepared_backup();
    assert_eq!(net.deliver(1, net.commit(2, 0, 1, d)).committed(), NONE);
    assert_eq!(net.deliver(1, net.commit(3, 0, 1, some_digest(1))).committed(), NONE);
    assert_eq!(net.deliver(1, net.commit(0, 0, 2, d)).committed(), NONE);
    assert_eq!(net.deliver(1, net.commit(0, 0, 1, d)).committed(), [1]);
}

#[test]
fn commits_before_prepared_are_kept_and_do_not_stand_in_for_it() {
    let (mut net, m) = backup_with_pre_prepare();
    for by in [0, 2, 3] {
        let step = net.deliver(1, net.commit(by, 0, 1, m.digest()));
        assert_eq!((step.rejection(), step.committed()), (None, vec![]));
    }
    let step = net.deliver(1, net.prepare(3, 0, 1, m.digest()));
    assert_eq!((step.prepared(), step.committed(), step.executed()), (vec![1], vec![1], vec![1]));
}

// §4.2: requests execute in the order of their numbers, and the replies go to the clients.

fn commit_fully(net: &mut Net, at: usize, n: u64, m: &Arc<Batch<C>>) -> Step {
    net.deliver(at, net.pre_prepare(0, 0, n, m));
    for by in [2, 3] {
        net.deliver(at, net.prepare(by, 0, n, m.digest()));
    }
    net.deliver(at, net.commit(2, 0, n, m.digest()));
    net.deliver(at, net.commit(3, 0, n, m.digest()))
}

#[test]
fn a_batch_that_commits_early_waits_for_its_predecessors() {
    let mut net = Net::four();
    let (first, second) = (batch(&[&net.put(0, 1, "k", "a")]), batch(&[&net.put(1, 1, "k", "b")]));
    let early = commit_fully(&mut net, 1, 2, &second);
    assert_eq!((early.committed(), early.executed()), (vec![2], vec![]));
    assert_eq!(early.names(), Vec::<&str>::new());
    let step = commit_fully(&mut net, 1, 1, &first);
    assert_eq!(step.executed(), [1, 2]);
    assert_eq!(net.value(1, "k"), Some("b".into()));
    let replies: Vec<_> = step.sent("REPLY").into_iter().map(reply_in).collect();
    assert_eq!(replies, [(0, 1, was(None)), (1, 1, was(Some("a")))]);
}

fn reply_in(message: &Msg) -> (u32, u64, Bytes) {
    let Message::Reply(reply) = message else { panic!("{}", message.name()) };
    (reply.content.client.0, reply.content.timestamp.0, reply.content.result.clone())
}

#[test]
fn a_reply_goes_to_the_client_with_view_timestamp_replica_and_result() {
    let (mut net, d) = prepared_backup();
    net.deliver(1, net.commit(2, 0, 1, d));
    let step = net.deliver(1, net.commit(3, 0, 1, d));
    let [(to, Message::Reply(reply))] = step.sends()[..] else { panic!("{step:?}") };
    assert_eq!(to, Destination::Client(ClientId(0)));
    assert!(reply.signature_is_valid(&net.setups[0].keys));
    let content = &reply.content;
    let (view, t) = (content.view, content.timestamp);
    assert_eq!((view, t, content.replica), (View(0), Timestamp(1), ReplicaId(1)));
    assert_eq!(content.result, was(None));
}

// §4.2, §4.1: a request whose timestamp is not above the client's last executed one does not run again.

#[test]
fn a_request_at_two_sequence_numbers_executes_once() {
    let mut net = Net::four();
    let m = one(&net, 1);
    assert_eq!(commit_fully(&mut net, 1, 1, &m).executed(), [1]);
    let again = commit_fully(&mut net, 1, 2, &m);
    assert_eq!((again.executed(), again.sent("REPLY").len()), (vec![2], 0));
    assert_eq!(net.history(1).len(), 1);
}

#[test]
fn an_older_request_after_a_newer_one_of_its_client_does_not_execute() {
    let mut net = Net::four();
    let (newer, older, anothers) = (one(&net, 2), one(&net, 1), batch(&[&net.put(1, 1, "k", "x")]));
    for (n, m) in [(1, &newer), (2, &older), (3, &anothers)] {
        commit_fully(&mut net, 1, n, m);
    }
    let history: Vec<_> = net.history(1).iter().map(|(n, r)| (*n, r.client.0, r.timestamp.0)).collect();
    assert_eq!(history, [(1, 0, 2), (3, 1, 1)]);
}

// What cannot matter is not even verified by a host: `heeds` and `has_accepted`. That it has no effect is checked at every
// delivery in these tests.

#[test]
fn votes_that_are_there_or_beyond_a_quorum_are_dropped_before_they_are_verified() {
    let (mut net, m) = backup_with_pre_prepare();
    let d = m.digest();
    let drops = |net: &Net, messages: [Msg; 4]| messages.map(|message| net.is_dropped(1, &message));
    let (two, three) = (net.prepare(2, 0, 1, d), net.prepare(3, 0, 1, d));
    let (by_two, by_three) = (net.commit(2, 0, 1, d), net.commit(3, 0, 1, d));
    let all = [two.clone(), three.clone(), by_two.clone(), by_three.clone()];
    assert_eq!(drops(&net, all.clone()), [false; 4]);
    net.deliver(1, by_two);
    assert_eq!(drops(&net, all.clone()), [false, false, true, false]);
    // With its own this is a quorum.
    net.deliver(1, two);
    assert_eq!(drops(&net, all.clone()), [true, true, true, false]);
    assert!(net.is_dropped(1, &net.pre_prepare(0, 0, 1, &m)));
    net.deliver(1, by_three);
    assert_eq!(drops(&net, all.clone()), [true; 4]);
    for message in all {
        net.assert_refused(1, message, Rejection::Duplicate);
    }
}

#[test]
fn a_second_vote_of_one_sender_is_dropped_before_it_is_verified() {
    let mut net = Net::four();
    let (d, e) = (some_digest(1), some_digest(2));
    net.deliver(1, net.prepare(2, 0, 1, d));
    assert!(net.is_dropped(1, &net.prepare(2, 0, 1, d)) && net.is_dropped(1, &net.prepare(2, 0, 1, e)));
    assert!(!net.is_dropped(1, &net.prepare(3, 0, 1, d)) && !net.is_dropped(1, &net.prepare(2, 0, 2, d)));
}
