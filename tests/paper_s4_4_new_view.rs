//! OSDI'99 §4.4, choosing and entering a new view, clause by clause. Leaving one: `paper_s4_4.rs`.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::Signed;
use pbft::message::{Batch, Message, NewView, Status, ViewChange, Wanted};
use pbft::rejection::Rejection;
use pbft::replica::{Fact, Timer};
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::sync::Arc;
use support::signing::{no_signature, some_digest};
use support::{C, Msg, NONE, Net, Step, batch, only, small};

type SignedViewChange = Arc<Signed<ViewChange<C>, C>>;

fn one(net: &Net, t: u64) -> Arc<Batch<C>> {
    batch(&[&net.put(0, t, "k", &format!("v{t}"))])
}

fn new_views(step: &Step) -> Vec<Arc<Signed<NewView<C>, C>>> {
    let inner = |m: &Msg| match m {
        Message::NewView(m) => m.clone(),
        other => panic!("{}", other.name()),
    };
    step.sent("NEW-VIEW").into_iter().map(inner).collect()
}

fn o_of(new_view: &Signed<NewView<C>, C>) -> Vec<(u64, Digest)> {
    new_view.content.pre_prepares.iter().map(|m| (m.content.n.0, m.content.digest)).collect()
}

/// What the primary of view 3 proposes on these VIEW-CHANGEs of 0 and 1, its own being empty.
fn o_at_3(net: &mut Net, from_0: SignedViewChange, from_1: SignedViewChange) -> Vec<(u64, Digest)> {
    assert_eq!(net.deliver(3, Message::ViewChange(from_0)).rejection(), None);
    let step = net.deliver(3, Message::ViewChange(from_1));
    let [sent] = &new_views(&step)[..] else { panic!("{step:?}") };
    let backup = net.deliver(2, Message::NewView(sent.clone()));
    assert_eq!((backup.rejection(), net.view(2)), (None, 3), "backups agree with the primary");
    o_of(sent)
}

// §4.4: the primary of v+1 multicasts NEW-VIEW when it has 2f VIEW-CHANGEs of others, besides its own.

#[test]
fn the_new_primary_sends_new_view_with_a_quorum_its_own_included_and_not_with_fewer() {
    for (n, f, quorum) in [(4, 1, 3), (7, 2, 5), (5, 1, 4)] {
        let mut net = Net::new(n, f, small());
        net.expire(1);
        for by in 2..quorum {
            let step = net.deliver(1, Message::ViewChange(net.empty_view_change(by, 1)));
            assert_eq!((new_views(&step).len(), net.view(1)), (0, 0), "n={n} by={by}");
        }
        let step = net.deliver(1, Message::ViewChange(net.empty_view_change(quorum, 1)));
        let [sent] = &new_views(&step)[..] else { panic!("n={n}: {step:?}") };
        let senders: Vec<usize> =
            sent.content.view_changes.iter().map(|m| usize::from(m.content.replica.0)).collect();
        assert_eq!(senders, only(1..quorum + 1), "n={n}");
        assert_eq!((net.view(1), net.replicas[1].leaving()), (1, None));
        assert!(step.facts().contains(&&Fact::ViewEntered { view: View(1), carried: vec![] }));
    }
}

#[test]
fn one_view_change_repeated_makes_no_quorum() {
    let mut net = Net::new(7, 2, small());
    net.expire(1);
    for by in [2, 2, 3, 3, 4, 4, 1] {
        net.deliver(1, Message::ViewChange(net.empty_view_change(by, 1)));
    }
    assert_eq!(net.view(1), 0);
    net.deliver(1, Message::ViewChange(net.empty_view_change(5, 1)));
    assert_eq!(net.view(1), 1);
}

#[test]
fn nobody_but_the_primary_of_the_view_sends_new_view() {
    let mut net = Net::four();
    net.expire(2);
    for by in [0, 1, 3] {
        let step = net.deliver(2, Message::ViewChange(net.empty_view_change(by, 1)));
        assert_eq!(new_views(&step).len(), 0);
    }
    assert_eq!(net.view(2), 0);
}

// §4.4: O.

#[test]
fn o_is_empty_when_nothing_prepared() {
    let mut net = Net::four();
    let (a, b) = (net.empty_view_change(0, 3), net.empty_view_change(1, 3));
    assert_eq!(o_at_3(&mut net, a, b), []);
}

#[test]
fn o_has_the_prepared_digests_and_null_for_the_gaps_below_max_s() {
    let mut net = Net::four();
    let (d2, d4) = (some_digest(2), some_digest(4));
    let a = net.view_change(0, 3, None, vec![net.prepared(0, 2, d2)]);
    let b = net.view_change(1, 3, None, vec![net.prepared(1, 4, d4)]);
    let expected = [(1, Digest::NULL), (2, d2), (3, Digest::NULL), (4, d4)];
    assert_eq!(o_at_3(&mut net, a, b), expected);
}

#[test]
fn o_starts_above_the_highest_stable_checkpoint_in_v() {
    let mut net = Net::four();
    let (d2, d4) = (some_digest(2), some_digest(4));
    let stable = net.stable(2, some_digest(9), &[0, 1, 2]);
    let a = net.view_change(0, 3, Some(stable), vec![]);
    let b = net.view_change(1, 3, None, vec![net.prepared(0, 2, d2), net.prepared(0, 4, d4)]);
    assert_eq!(o_at_3(&mut net, a, b), [(3, Digest::NULL), (4, d4)]);
    let mut net = Net::four();
    let low = net.stable(2, some_digest(9), &[0, 1, 2]);
    let high = net.stable(4, some_digest(8), &[0, 1, 2]);
    let a = net.view_change(0, 3, Some(high), vec![]);
    let b = net.view_change(1, 3, Some(low), vec![net.prepared(0, 3, d4)]);
    assert_eq!(o_at_3(&mut net, a, b), []);
    assert_eq!(net.h(2), 4);
}

#[test]
fn o_takes_the_certificate_of_the_highest_view_for_each_number() {
    let (early, late) = (some_digest(1), some_digest(2));
    for swapped in [false, true] {
        let mut net = Net::four();
        let (first, second) = if swapped { (1, 0) } else { (0, 1) };
        let old = net.view_change(first, 3, None, vec![net.prepared(0, 1, early), net.prepared(2, 2, late)]);
        let new = net.view_change(second, 3, None, vec![net.prepared(2, 1, late), net.prepared(1, 2, early)]);
        assert_eq!(o_at_3(&mut net, old, new), [(1, late), (2, late)]);
    }
}

// §4.4: a backup accepts a NEW-VIEW if it is signed properly, V is valid for v+1, and O is correct.

/// VIEW-CHANGEs of 0, 2 and 3 for view 1, of which 2's says that d prepared at 2; and the O that follows.
fn sound_v(net: &Net, d: Digest) -> (Vec<SignedViewChange>, Vec<(u64, Digest)>) {
    let reporting = net.view_change(2, 1, None, vec![net.prepared(0, 2, d)]);
    let v = vec![net.empty_view_change(0, 1), reporting, net.empty_view_change(3, 1)];
    (v, vec![(1, Digest::NULL), (2, d)])
}

#[test]
fn a_backup_refuses_a_new_view_whose_o_is_not_what_v_determines() {
    let mut net = Net::four();
    let (d, other) = (some_digest(1), some_digest(2));
    let (v, o) = sound_v(&net, d);
    let bad = [
        ("another digest", vec![(1, Digest::NULL), (2, other)]),
        ("null in its place", vec![(1, Digest::NULL), (2, Digest::NULL)]),
        ("a request in the gap", vec![(1, other), (2, d)]),
        ("the gap left out", vec![(2, d)]),
        ("the request left out", vec![(1, Digest::NULL)]),
        ("nothing", vec![]),
        ("an entry added", vec![(1, Digest::NULL), (2, d), (3, Digest::NULL)]),
        ("an entry twice", vec![(1, Digest::NULL), (2, d), (2, d)]),
        ("another order", vec![(2, d), (1, Digest::NULL)]),
    ];
    for (why, o) in bad {
        let step = net.deliver(3, net.new_view(1, 1, v.clone(), &o));
        assert_eq!((step.rejection(), net.view(3)), (Some(Rejection::BadNewViewO), 0), "{why}");
    }
    assert_eq!(net.deliver(3, net.new_view(1, 1, v, &o)).rejection(), None);
    assert_eq!(net.view(3), 1);
}

#[test]
fn a_backup_refuses_o_entries_of_another_view_or_signer() {
    let mut net = Net::four();
    let (v, o) = sound_v(&net, some_digest(1));
    let with = |net: &Net, pre_prepares| {
        let content = NewView { view: View(1), view_changes: v.clone().into(), pre_prepares };
        Message::NewView(Arc::new(net.sign(1, content)))
    };
    let entries = |by: usize, view: u64| -> Vec<_> {
        o.iter().map(|&(n, d)| Net::four().signed_pre_prepare(by, view, n, d)).collect()
    };
    net.assert_refused(3, with(&net, entries(1, 5)), Rejection::BadNewViewO);
    net.assert_refused(3, with(&net, entries(2, 1)), Rejection::NotPrimary);
    let mut forged = entries(1, 1);
    forged[0].signature = no_signature();
    net.assert_refused(3, with(&net, forged), Rejection::BadSignature);
    assert_eq!(net.deliver(3, with(&net, entries(1, 1))).rejection(), None);
}

#[test]
fn a_backup_refuses_a_new_view_whose_v_is_no_quorum_of_valid_view_changes() {
    let mut net = Net::four();
    let (v, o) = sound_v(&net, some_digest(1));
    let unproved = PreparedCertificate { n: SeqNo(3), ..net.prepared(0, 2, some_digest(1)) };
    let unstable = StableCertificate { n: SeqNo(4), ..net.stable(2, some_digest(9), &[0, 1, 2]) };
    let unsigned = Signed { signature: no_signature(), ..(*v[2]).clone() };
    let bad: Vec<(&str, Vec<SignedViewChange>)> = vec![
        ("one too few", v[1..].to_vec()),
        ("a sender twice", vec![v[0].clone(), v[1].clone(), v[1].clone()]),
        ("another view", vec![v[0].clone(), v[1].clone(), net.empty_view_change(3, 2)]),
        ("an earlier view", vec![v[0].clone(), v[1].clone(), net.empty_view_change(3, 0)]),
        ("a bad signature", vec![v[0].clone(), v[1].clone(), Arc::new(unsigned)]),
        ("a bad P", vec![v[0].clone(), v[1].clone(), net.view_change(3, 1, None, vec![unproved])]),
        ("a bad C", vec![v[0].clone(), v[1].clone(), net.view_change(3, 1, Some(unstable), vec![])]),
    ];
    for (why, v) in bad {
        let step = net.deliver(3, net.new_view(1, 1, v, &o));
        assert_eq!((step.rejection(), net.view(3)), (Some(Rejection::BadViewChangeSet), 0), "{why}");
    }
    net.assert_refused(3, net.new_view(2, 1, v.clone(), &o), Rejection::NotPrimary);
    let Message::NewView(good) = net.new_view(1, 1, v, &o) else { panic!("a NEW-VIEW") };
    let unsigned = Signed { signature: no_signature(), ..(*good).clone() };
    net.assert_refused(3, Message::NewView(Arc::new(unsigned)), Rejection::BadSignature);
    assert_eq!(net.deliver(3, Message::NewView(good)).rejection(), None);
}

#[test]
fn quorums_of_a_new_view_follow_n_and_f() {
    for (n, f, quorum) in [(7, 2, 5), (5, 1, 4)] {
        let mut net = Net::new(n, f, small());
        let v: Vec<_> = (1..=quorum).map(|by| net.empty_view_change(by, 1)).collect();
        net.assert_refused(2, net.new_view(1, 1, v[1..].to_vec(), &[]), Rejection::BadViewChangeSet);
        assert_eq!(net.deliver(2, net.new_view(1, 1, v, &[])).rejection(), None);
    }
}

// §4.4: a backup that accepts multicasts a PREPARE for each message in O and enters the view.

#[test]
fn a_backup_enters_the_view_and_prepares_every_entry_of_o() {
    let mut net = Net::four();
    let m = one(&net, 1);
    net.deliver(3, net.pre_prepare(0, 0, 2, &m));
    let (v, o) = sound_v(&net, m.digest());
    // It has not sent VIEW-CHANGE itself.
    let step = net.deliver(3, net.new_view(1, 1, v, &o));
    let expected = [net.prepare(3, 1, 1, Digest::NULL), net.prepare(3, 1, 2, m.digest())];
    assert_eq!(step.sent("PREPARE"), expected.iter().collect::<Vec<_>>());
    assert_eq!(
        (net.view(3), net.accepted(3, 1), net.accepted(3, 2)),
        (1, Some(Digest::NULL), Some(m.digest()))
    );
    // The null request commits like any other, and does nothing.
    for n in [1, 2] {
        let d = net.accepted(3, n).unwrap();
        assert_eq!(net.deliver(3, net.prepare(2, 1, n, d)).prepared(), [n]);
        net.deliver(3, net.commit(1, 1, n, d));
        net.deliver(3, net.commit(2, 1, n, d));
    }
    assert_eq!((net.last_executed(3), net.history(3).len()), (2, 1));
}

#[test]
fn the_new_primary_sends_no_prepare_for_o() {
    let mut net = Net::four();
    let (v, _) = sound_v(&net, some_digest(1));
    net.expire(1);
    let mut sent = Vec::new();
    for message in v {
        let step = net.deliver(1, Message::ViewChange(message));
        assert_eq!(step.sent("PREPARE").len(), 0);
        sent.extend(new_views(&step));
    }
    assert_eq!(sent.len(), 1);
}

#[test]
fn one_new_view_is_accepted_for_a_view_and_replays_change_nothing() {
    let mut net = Net::four();
    let (v, o) = sound_v(&net, some_digest(1));
    let first = net.new_view(1, 1, v.clone(), &o);
    net.deliver(3, first.clone());
    let empty = [0, 1, 3].map(|by| net.empty_view_change(by, 1)).to_vec();
    net.assert_refused(3, net.new_view(1, 1, empty, &[]), Rejection::WrongView);
    net.assert_refused(3, first.clone(), Rejection::WrongView);
    let v2 = [0, 1, 3].map(|by| net.empty_view_change(by, 2)).to_vec();
    net.deliver(3, net.new_view(2, 2, v2, &[]));
    assert_eq!(net.view(3), 2);
    net.assert_refused(3, first, Rejection::WrongView);
}

#[test]
fn a_replica_that_left_for_a_later_view_refuses_an_earlier_new_view() {
    let mut net = Net::four();
    net.expire(3);
    net.expire(3);
    assert_eq!(net.replicas[3].leaving(), Some(View(2)));
    let v = |net: &Net, view| [0, 1, 2].map(|by| net.empty_view_change(by, view)).to_vec();
    net.assert_refused(3, net.new_view(1, 1, v(&net, 1), &[]), Rejection::WrongView);
    assert_eq!(net.deliver(3, net.new_view(2, 2, v(&net, 2), &[])).rejection(), None);
    assert_eq!(net.view(3), 2);
}

// §4.4: requests are not executed again in the new view, and none that executed is lost.

#[test]
fn what_executed_before_the_view_change_does_not_execute_again() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 3);
    net.change_view_among(&only(0..4));
    assert_eq!([0, 1, 2, 3].map(|at| net.view(at)), [1; 4]);
    for at in 0..4 {
        let carried = net.disks[at].log.keys().map(|&(v, n)| (v.0, n.0)).collect::<Vec<_>>();
        assert_eq!(carried, [(1, 3)]);
        assert_eq!((net.certificate(at, 3).map(|(v, _)| v), net.history(at).len()), (Some(1), 3));
    }
    net.order_many(&only(0..4), 4, 1);
    for at in 0..4 {
        let numbers: Vec<u64> = net.history(at).iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
    }
}

#[test]
fn what_one_replica_executed_executes_everywhere_at_the_same_number() {
    let mut net = Net::four();
    let request = net.put(0, 1, "k", "v");
    net.inject(0, Message::Request(request));
    net.run(|_, to, m| m.name() != "COMMIT" || to == 3);
    assert_eq!([0, 1, 2, 3].map(|at| net.last_executed(at)), [0, 0, 0, 1]);
    // 3 crashes; 2 took part in the commit.
    net.change_view_among(&[0, 1, 2]);
    assert_eq!([0, 1, 2].map(|at| (net.view(at), net.last_executed(at))), [(1, 1); 3]);
    assert_eq!(net.disks[1].executed, net.disks[3].executed);
}

#[test]
fn a_known_request_that_o_does_not_carry_is_proposed_by_the_new_primary() {
    let mut net = Net::four();
    for at in 1..4 {
        net.deliver(at, Message::Request(net.put(0, 1, "k", "v")));
    }
    net.change_view_among(&[1, 2, 3]);
    for at in 1..4 {
        assert_eq!((net.view(at), net.value(at, "k")), (1, Some("v".into())));
    }
}

// §4.4: a replica obtains what it misses: batches named in O, and the checkpoint at min-s.

#[test]
fn a_replica_without_the_batch_of_an_entry_fetches_it_and_only_then_is_prepared() {
    let mut net = Net::four();
    let m = one(&net, 1);
    net.deliver(2, net.pre_prepare(0, 0, 2, &m));
    let (v, o) = sound_v(&net, m.digest());
    let step = net.deliver(3, net.new_view(1, 1, v, &o));
    let [Message::Fetch(fetch)] = step.sent("FETCH")[..] else { panic!("{step:?}") };
    assert_eq!(fetch.content.what, Wanted::Batch(m.digest()));
    for by in [0, 2] {
        assert_eq!(net.deliver(3, net.prepare(by, 1, 2, m.digest())).prepared(), NONE);
    }
    assert_eq!(net.fire(3, Timer::Status).sent("FETCH").len(), 1, "asked again");
    net.assert_refused(3, Message::Batch(one(&net, 7)), Rejection::Unwanted);
    let answer = net.deliver(2, net.fetch(3, fetch.content.what));
    let [batch] = answer.sent("BATCH")[..] else { panic!("{answer:?}") };
    let step = net.deliver(3, batch.clone());
    assert_eq!((step.prepared(), step.names()), (vec![2], vec!["COMMIT"]));
    net.assert_refused(3, batch.clone(), Rejection::Unwanted);
}

#[test]
fn a_batch_that_comes_with_another_pre_prepare_completes_the_entry_that_lacked_it() {
    // The primary of the new view proposes once more, at n = 3, what O carries over at n = 2.
    let mut net = Net::four();
    let m = one(&net, 1);
    net.deliver(2, net.pre_prepare(0, 0, 2, &m));
    let (v, o) = sound_v(&net, m.digest());
    net.deliver(3, net.new_view(1, 1, v, &o));
    for by in [0, 2] {
        assert_eq!(net.deliver(3, net.prepare(by, 1, 2, m.digest())).prepared(), NONE);
    }
    assert_eq!(net.deliver(3, net.pre_prepare(1, 1, 3, &m)).prepared(), [2]);
}

#[test]
fn a_batch_that_arrives_after_view_change_is_sent_prepares_nothing_in_the_view_left() {
    let mut net = Net::four();
    let m = one(&net, 1);
    let (v, o) = sound_v(&net, m.digest());
    net.deliver(3, net.new_view(1, 1, v, &o));
    for by in [0, 2] {
        net.deliver(3, net.prepare(by, 1, 2, m.digest()));
    }
    let step = net.expire(3);
    let [Message::ViewChange(left)] = step.sent("VIEW-CHANGE")[..] else {
        panic!("3 leaves view 1: {step:?}")
    };
    assert!((left.content.view, left.content.prepared.is_empty()) == (View(2), true));
    // P does not say that it prepared, so it must not help to commit: another batch may take its place.
    let step = net.deliver(3, Message::Batch(m.clone()));
    assert_eq!((step.prepared(), step.names(), net.certificate(3, 2)), (vec![], vec![], None));
    net.assert_refused(3, Message::Batch(m), Rejection::Unwanted);
}

#[test]
fn who_sent_prepare_still_has_the_batch_when_a_certificate_surfaces_views_later() {
    let mut net = Net::four();
    let m = one(&net, 1);
    // 1 and 2 send PREPARE; only the faulty primary receives both, and so holds the certificate.
    for at in [1, 2] {
        net.deliver(at, net.pre_prepare(0, 0, 1, &m));
    }
    let v1 = [1, 2, 3].map(|by| net.empty_view_change(by, 1)).to_vec();
    for at in [2, 3] {
        net.deliver(at, net.new_view(1, 1, v1.clone(), &[]));
    }
    let hidden = net.view_change(0, 2, None, vec![net.prepared(0, 1, m.digest())]);
    let v2 = vec![hidden, net.empty_view_change(1, 2), net.empty_view_change(3, 2)];
    let step = net.deliver(3, net.new_view(2, 2, v2, &[(1, m.digest())]));
    let [fetch] = step.sent("FETCH")[..] else { panic!("{step:?}") };
    assert_eq!(net.deliver(2, fetch.clone()).sent("BATCH").len(), 1);
    // A stable checkpoint that covers the number ends this.
    let stable = Message::Stable(net.stable(2, some_digest(9), &[0, 1, 3]));
    net.deliver(2, stable);
    assert_eq!(net.deliver(2, fetch.clone()).sent("BATCH").len(), 0);
}

#[test]
fn a_replica_whose_h_is_below_min_s_adopts_the_checkpoint_and_fetches_the_state() {
    let mut net = Net::four();
    net.order_many(&only(0..3), 1, 3);
    assert_eq!((net.h(0), net.h(3)), (2, 0));
    let before = net.disks[0].stable.clone();
    for at in 0..3 {
        let step = net.expire(at);
        net.route(at, &step);
    }
    net.run(|from, to, m| from < 3 && to < 3 || m.name() == "NEW-VIEW");
    assert_eq!((net.view(3), net.h(3), net.disks[3].stable.clone()), (1, 2, before));
    assert_eq!(net.replicas[3].transferring(), Some((SeqNo(2), 0)));
    net.gossip(&only(0..4));
    assert_eq!((net.last_executed(3), net.value(3, "k")), (3, Some("v3".into())));
}

#[test]
fn entries_of_o_at_or_below_a_replicas_own_checkpoint_are_passed_over() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 2);
    let (v, o) = sound_v(&net, some_digest(1));
    let step = net.deliver(3, net.new_view(1, 1, v, &o));
    assert_eq!((net.view(3), net.h(3), step.sent("PREPARE").len()), (1, 2, 0));
    assert_eq!(net.accepted(3, 2), None);
}

// Thesis §5.2: a replica left behind in an earlier view is sent the NEW-VIEW.

#[test]
fn a_lagging_replica_is_sent_the_new_view_unless_it_has_left_beyond_it() {
    let mut net = Net::four();
    net.change_view_among(&[0, 1, 2]);
    assert_eq!((net.view(0), net.view(3)), (1, 0));
    let status = |view, leaving: Option<u64>| Status {
        view: View(view),
        leaving: leaving.map(View),
        stable: SeqNo(0),
        executed: SeqNo(0),
        pre_prepared: vec![],
        prepared: vec![],
        replica: ReplicaId(3),
    };
    for (view, leaving, sent) in
        [(0, None, 1), (0, Some(1), 1), (0, Some(2), 0), (1, None, 0), (1, Some(2), 0), (2, None, 0)]
    {
        let step = net.deliver(0, Message::Status(net.sign(3, status(view, leaving))));
        assert_eq!(new_views(&step).len(), sent, "{view} {leaving:?}");
    }
    net.gossip(&only(0..4));
    assert_eq!(net.view(3), 1);
}
