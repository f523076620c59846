//! OSDI'99 §4.4 and §4.5.2, leaving a view, clause by clause. Entering one: `paper_s4_4_new_view.rs`.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pbft::crypto::Signed;
use pbft::message::{Batch, Message, Request, ViewChange};
use pbft::rejection::Rejection;
use pbft::replica::{Destination, Effect, Fact, Record, Timer};
use pbft::rules::MAX_BACKOFF;
use pbft::types::{ReplicaId, SeqNo, View};
use std::sync::Arc;
use support::signing::{no_signature, some_digest};
use support::{C, Msg, NONE, Net, Step, batch, only, small};

type SignedViewChange = Arc<Signed<ViewChange<C>, C>>;

fn one(net: &Net, t: u64) -> Arc<Batch<C>> {
    batch(&[&net.put(0, t, "k", &format!("v{t}"))])
}

/// The VIEW-CHANGEs sent in a step.
fn view_changes(step: &Step) -> Vec<SignedViewChange> {
    let inner = |m: &Msg| match m {
        Message::ViewChange(m) => m.clone(),
        other => panic!("{}", other.name()),
    };
    step.sent("VIEW-CHANGE").into_iter().map(inner).collect()
}

/// The views of the VIEW-CHANGEs sent in a step.
fn targets(step: &Step) -> Vec<u64> {
    view_changes(step).iter().map(|m| m.content.view.0).collect()
}

/// Makes a batch prepared at a backup of view 0 that is neither 0 nor 2 nor 3.
fn prepare_at_1(net: &mut Net, n: u64, m: &Arc<Batch<C>>) {
    net.deliver(1, net.pre_prepare(0, 0, n, m));
    net.deliver(1, net.prepare(2, 0, n, m.digest()));
    assert_eq!(net.certificate(1, n), Some((0, m.digest())));
}

fn deliver_view_change(net: &mut Net, to: usize, by: usize, v: u64) -> Step {
    let message = Message::ViewChange(net.empty_view_change(by, v));
    net.deliver(to, message)
}

// §4.4: a backup runs a timer while it waits for a request to execute.

#[test]
fn the_timer_starts_on_a_known_request_and_not_again_on_its_repetition() {
    let mut net = Net::four();
    let request = Message::Request(net.put(0, 1, "k", "v"));
    assert_eq!(net.deliver(1, request.clone()).timer(), Some(Some(0)));
    assert_eq!(net.deliver(1, request).timer(), None);
    let invalid = Signed { signature: no_signature(), ..net.put(0, 1, "k", "v") };
    assert_eq!(net.deliver(2, Message::Request(invalid)).timer(), None);
}

/// Orders the first request of each client at replica 1, at `n`; returns the step that executed it.
fn execute_at_1(net: &mut Net, n: u64, request: &Signed<Request, C>) -> Step {
    let m = batch(&[request]);
    prepare_at_1(net, n, &m);
    net.deliver(1, net.commit(2, 0, n, m.digest()));
    let step = net.deliver(1, net.commit(3, 0, n, m.digest()));
    assert_eq!(step.executed(), [n]);
    step
}

#[test]
fn the_timer_stops_when_the_request_has_executed() {
    let mut net = Net::four();
    let request = net.put(0, 1, "k", "v");
    net.deliver(1, Message::Request(request.clone()));
    assert_eq!(execute_at_1(&mut net, 1, &request).timer(), Some(None));
}

#[test]
fn the_timer_restarts_if_another_request_is_waited_for() {
    let mut net = Net::four();
    let (first, second) = (net.put(0, 1, "k", "a"), net.put(1, 1, "k", "b"));
    for request in [&first, &second] {
        net.deliver(1, Message::Request(request.clone()));
    }
    assert_eq!(execute_at_1(&mut net, 1, &first).timer(), Some(Some(0)));
    assert_eq!(execute_at_1(&mut net, 2, &second).timer(), Some(None));
}

#[test]
fn executing_another_request_does_not_restart_the_timer() {
    let mut net = Net::four();
    let (awaited, other) = (net.put(0, 1, "k", "a"), net.put(1, 1, "k", "b"));
    net.deliver(1, Message::Request(awaited));
    // A primary that serves the others and censors this one is found out all the same.
    assert_eq!(execute_at_1(&mut net, 1, &other).timer(), None);
}

// §4.4: on expiry the backup stops accepting messages other than checkpoint, view-change and new-view.

#[test]
fn a_replica_that_left_takes_no_part_in_its_old_view() {
    let mut net = Net::four();
    let (prepared, open) = (one(&net, 1), one(&net, 2));
    prepare_at_1(&mut net, 1, &prepared);
    net.deliver(1, net.pre_prepare(0, 0, 2, &open));
    net.expire(1);
    assert_eq!((net.view(1), net.replicas[1].leaving()), (0, Some(View(1))));
    let third = one(&net, 3);
    net.assert_refused(1, net.pre_prepare(0, 0, 3, &third), Rejection::LeavingView);
    net.assert_refused(1, net.prepare(2, 0, 2, open.digest()), Rejection::LeavingView);
    for by in [2, 3] {
        net.assert_refused(1, net.commit(by, 0, 1, prepared.digest()), Rejection::LeavingView);
    }
    assert_eq!((net.certificate(1, 2), net.last_executed(1)), (None, 0));
}

#[test]
fn a_primary_that_left_assigns_nothing() {
    let mut net = Net::four();
    net.expire(0);
    let step = net.deliver(0, Message::Request(net.put(0, 1, "k", "v")));
    assert_eq!(step.sent("PRE-PREPARE").len(), 0);
}

#[test]
fn a_replica_that_left_still_accepts_checkpoint_view_change_and_new_view() {
    let mut net = Net::four();
    net.expire(3);
    for by in [0, 1] {
        assert_eq!(net.deliver(3, net.checkpoint(by, 2, some_digest(1))).rejection(), None);
    }
    assert_eq!(net.deliver(3, net.checkpoint(2, 2, some_digest(1))).stable(), [2]);
    assert_eq!(deliver_view_change(&mut net, 3, 2, 1).rejection(), None);
    let v = [0, 1, 2].map(|by| net.empty_view_change(by, 1)).to_vec();
    net.deliver(3, net.new_view(1, 1, v, &[]));
    assert_eq!((net.view(3), net.replicas[3].leaving()), (1, None));
}

// §4.4: <VIEW-CHANGE, v+1, n, C, P, i>.

#[test]
fn view_change_carries_view_checkpoint_proof_and_what_prepared_above_it() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 2);
    let (prepared, pre_prepared) = (one(&net, 3), one(&net, 4));
    prepare_at_1(&mut net, 4, &prepared);
    net.deliver(1, net.pre_prepare(0, 0, 3, &pre_prepared));
    let step = net.expire(1);
    let [sent] = &view_changes(&step)[..] else { panic!("{step:?}") };
    assert_eq!(step.sends()[0].0, Destination::Replicas);
    let ViewChange { view, n, stable, prepared: p, replica } = &sent.content;
    assert_eq!((*view, *n, *replica), (View(1), SeqNo(2), ReplicaId(1)));
    assert_eq!(stable.as_ref(), net.disks[1].stable.as_ref());
    assert_eq!(stable.as_ref().map(|c| c.n), Some(SeqNo(2)));
    let p: Vec<_> = p.iter().map(|c| (c.view, c.n, c.digest)).collect();
    assert_eq!(p, [(View(0), SeqNo(4), prepared.digest())]);
    assert_eq!(net.deliver(2, Message::ViewChange(sent.clone())).rejection(), None);
}

#[test]
fn view_change_in_the_initial_state_claims_nothing() {
    let mut net = Net::four();
    let step = net.expire(1);
    assert_eq!(view_changes(&step), [net.empty_view_change(1, 1)]);
    let left = Fact::ViewLeft { view: View(0), to: View(1) };
    assert!(step.facts().contains(&&left));
}

#[test]
fn p_has_one_certificate_for_each_number_and_it_is_the_latest() {
    let mut net = Net::four();
    let m = one(&net, 1);
    // Prepared everywhere in view 0, committed nowhere; prepared again in view 1.
    net.inject(0, Message::Request(m.requests[0].clone()));
    net.run(|_, _, m| m.name() != "COMMIT");
    for at in 0..4 {
        let step = net.expire(at);
        net.route(at, &step);
    }
    net.run(|_, _, m| !matches!(m.name(), "COMMIT"));
    assert_eq!((net.view(2), net.certificate(2, 1)), (1, Some((1, m.digest()))));
    let step = net.expire(2);
    let p: Vec<_> = view_changes(&step)[0].content.prepared.iter().map(|c| (c.view.0, c.n.0)).collect();
    assert_eq!(p, [(1, 1)]);
}

#[test]
fn a_certificate_survives_views_in_which_nothing_replaces_it() {
    let mut net = Net::four();
    let m = one(&net, 1);
    prepare_at_1(&mut net, 1, &m);
    let v = [0, 2, 3].map(|by| net.empty_view_change(by, 2)).to_vec();
    net.deliver(1, net.new_view(2, 2, v, &[]));
    assert_eq!((net.view(1), net.certificate(1, 1)), (2, Some((0, m.digest()))));
    let p: Vec<_> = view_changes(&net.expire(1))[0].content.prepared.iter().map(|c| c.view.0).collect();
    assert_eq!(p, [0]);
}

// §4.4: what a VIEW-CHANGE must prove.

#[test]
fn a_view_change_is_accepted_only_if_every_claim_in_it_is_proved() {
    let mut net = Net::four();
    let (d, other) = (some_digest(1), some_digest(2));
    let good = net.prepared(0, 3, d);
    let stable = net.stable(2, some_digest(9), &[0, 1, 2]);
    let with = |p| net.view_change(3, 1, Some(stable.clone()), p);
    let mut forged = good.clone();
    forged.proof.votes[0].1 = no_signature();
    let mut unproposed = good.clone();
    unproposed.proof.proposal = None;
    let mut others_digest = good.clone();
    others_digest.digest = other;
    let mut others_number = good.clone();
    others_number.n = SeqNo(4);
    let outside = |n| net.prepared(0, n, d);
    let bad = [
        ("one PREPARE too few", with(vec![net.prepared_by(0, 0, 3, d, &[1])])),
        ("one backup twice", with(vec![net.prepared_by(0, 0, 3, d, &[1, 1])])),
        ("the primary among the backups", with(vec![net.prepared_by(0, 0, 3, d, &[0, 1])])),
        ("proposed by a backup", with(vec![net.prepared_by(1, 0, 3, d, &[2, 3])])),
        ("a forged PREPARE", with(vec![forged])),
        ("no PRE-PREPARE", with(vec![unproposed])),
        ("another digest", with(vec![others_digest])),
        ("another number", with(vec![others_number])),
        ("a certificate of the view changed to", with(vec![net.prepared(1, 3, d)])),
        ("a certificate of a later view", with(vec![net.prepared(2, 3, d)])),
        ("at the checkpoint", with(vec![outside(2)])),
        ("above the window", with(vec![outside(7)])),
        ("two for one number", with(vec![good.clone(), good.clone()])),
        ("descending", with(vec![outside(4), good.clone()])),
    ];
    let sound = with(vec![good, outside(6)]);
    for (why, message) in bad {
        let step = net.deliver(1, Message::ViewChange(message));
        assert_eq!(step.rejection(), Some(Rejection::BadPreparedCertificate), "{why}");
    }
    assert_eq!(net.deliver(1, Message::ViewChange(sound)).rejection(), None);
}

#[test]
fn a_view_change_needs_the_proof_of_its_checkpoint_and_its_senders_signature() {
    let mut net = Net::four();
    let d = some_digest(9);
    let content = |net: &Net, stable, n| {
        let content =
            ViewChange { view: View(1), n: SeqNo(n), stable, prepared: vec![], replica: ReplicaId(3) };
        net.sign(3, content)
    };
    let stable = net.stable(2, d, &[0, 1, 2]);
    for (stable, n) in [
        (None, 2),
        (Some(stable.clone()), 4),
        (Some(stable.clone()), 0),
        (Some(net.stable(2, d, &[0, 1])), 2),
        (Some(net.stable(2, d, &[0, 1, 1])), 2),
        (Some(net.stable(3, d, &[0, 1, 2])), 3),
    ] {
        let message = Message::ViewChange(Arc::new(content(&net, stable, n)));
        net.assert_refused(1, message, Rejection::BadStableCertificate);
    }
    let good = content(&net, Some(stable), 2);
    let unsigned = Signed { signature: no_signature(), ..good.clone() };
    net.assert_refused(1, Message::ViewChange(Arc::new(unsigned)), Rejection::BadSignature);
    let anothers = net.sign(2, good.content.clone());
    net.assert_refused(1, Message::ViewChange(Arc::new(anothers)), Rejection::SignerIsNotSender);
    assert_eq!(net.deliver(1, Message::ViewChange(Arc::new(good))).rejection(), None);
}

#[test]
fn view_changes_for_views_already_reached_are_refused() {
    let mut net = Net::four();
    net.change_view_among(&only(0..4));
    for v in [0, 1] {
        let message = Message::ViewChange(net.empty_view_change(3, v));
        net.assert_refused(2, message, Rejection::WrongView);
    }
    net.expire(2);
    net.expire(2);
    assert_eq!(net.replicas[2].leaving(), Some(View(3)));
    let message = Message::ViewChange(net.empty_view_change(3, 2));
    net.assert_refused(2, message, Rejection::WrongView);
    assert_eq!(deliver_view_change(&mut net, 2, 3, 3).rejection(), None);
    let again = Message::ViewChange(net.empty_view_change(3, 3));
    net.assert_refused(2, again, Rejection::Duplicate);
}

// §4.5.2: the timer for the new view starts with 2f + 1 VIEW-CHANGEs; each failed view doubles it.

#[test]
fn the_timer_of_the_new_view_starts_only_when_a_quorum_has_left() {
    for (n, f, quorum) in [(4, 1, 3), (7, 2, 5), (5, 1, 4)] {
        let mut net = Net::new(n, f, small());
        net.deliver(0, Message::Request(net.put(0, 1, "k", "v")));
        assert_eq!(net.expire(0).timer(), Some(None), "n={n}");
        for by in 2..quorum {
            assert_eq!(deliver_view_change(&mut net, 0, by, 1).timer(), None, "n={n} by={by}");
        }
        assert_eq!(deliver_view_change(&mut net, 0, quorum, 1).timer(), Some(Some(1)), "n={n}");
    }
}

#[test]
fn the_exponent_grows_with_each_failed_view_up_to_its_bound() {
    let mut net = Net::four();
    net.expire(0);
    for v in 1..14u64 {
        let primary = usize::try_from(v % 4).unwrap();
        if primary == 0 {
            net.expire(0);
            continue;
        }
        deliver_view_change(&mut net, 0, 1, v);
        let step = deliver_view_change(&mut net, 0, 2, v);
        let expected = u8::try_from(v).unwrap().min(MAX_BACKOFF);
        assert_eq!(step.timer(), Some(Some(expected)), "view {v}");
        assert_eq!(targets(&net.expire(0)), [v + 1]);
    }
}

#[test]
fn the_exponent_resets_when_a_request_executes() {
    let mut net = Net::four();
    net.change_view_among(&only(0..4));
    let waiting = net.deliver(2, Message::Request(net.put(0, 1, "k", "v")));
    assert_eq!(waiting.timer(), Some(Some(1)));
    net.inject(1, Message::Request(net.put(0, 1, "k", "v")));
    net.run_all();
    assert_eq!(net.last_executed(2), 1);
    let waiting = net.deliver(2, Message::Request(net.put(0, 2, "k", "v")));
    assert_eq!(waiting.timer(), Some(Some(0)));
}

#[test]
fn a_new_view_restarts_the_timer_for_the_request_still_waited_for() {
    let mut net = Net::four();
    net.deliver(3, Message::Request(net.put(0, 1, "k", "v")));
    net.expire(3);
    let v = [0, 1, 2].map(|by| net.empty_view_change(by, 1)).to_vec();
    assert_eq!(net.deliver(3, net.new_view(1, 1, v, &[])).timer(), Some(Some(1)));
}

// §4.5.2: f + 1 VIEW-CHANGEs for views above its own make a replica join the smallest of them.

#[test]
fn f_plus_one_view_changes_for_higher_views_make_a_replica_join_the_smallest() {
    for (n, f) in [(4, 1), (5, 1), (7, 2)] {
        let mut net = Net::new(n, f, small());
        for (by, v) in (1..).zip([9, 4, 6]).take(usize::from(f)) {
            assert_eq!(targets(&deliver_view_change(&mut net, 0, by, v)), NONE, "n={n}: f are not enough");
        }
        let step = deliver_view_change(&mut net, 0, usize::from(f) + 1, 5);
        assert_eq!(targets(&step), [if f == 1 { 5 } else { 4 }], "n={n}");
    }
}

#[test]
fn one_replica_moves_nobody_however_many_views_it_names() {
    let mut net = Net::four();
    for v in [2, 3, 1_000_000, u64::MAX] {
        assert_eq!(targets(&deliver_view_change(&mut net, 0, 2, v)), NONE);
    }
    net.expire(0);
    assert_eq!(net.replicas[0].leaving(), Some(View(1)), "its own VIEW-CHANGE does not count");
    assert_eq!(targets(&deliver_view_change(&mut net, 0, 3, 2)), [2]);
}

#[test]
fn a_replica_between_views_joins_a_higher_one_and_never_a_lower() {
    let mut net = Net::four();
    net.expire(0);
    net.expire(0);
    for by in [1, 3] {
        let message = Message::ViewChange(net.empty_view_change(by, 1));
        net.assert_refused(0, message, Rejection::WrongView);
    }
    deliver_view_change(&mut net, 0, 1, 2);
    assert_eq!(targets(&deliver_view_change(&mut net, 0, 3, 2)), NONE, "2 is where it is");
    deliver_view_change(&mut net, 0, 1, 3);
    assert_eq!(targets(&deliver_view_change(&mut net, 0, 3, 3)), [3]);
}

#[test]
fn the_order_in_which_view_changes_arrive_leaves_no_trace() {
    let end = |order: [usize; 3]| {
        let mut net = Net::new(7, 2, small());
        for by in order {
            if by == 0 {
                net.expire(0);
            } else {
                deliver_view_change(&mut net, 0, by, 1);
            }
        }
        net.replicas[0].clone()
    };
    // Where the own VIEW-CHANGE is sent first, in the middle, and last.
    let first = end([0, 2, 3]);
    for order in [[0, 3, 2], [2, 0, 3], [3, 0, 2], [2, 3, 0]] {
        assert_eq!(end(order), first, "{order:?}");
    }
}

// §4.4, thesis §5.2: VIEW-CHANGE is sent again until the new view is entered.

#[test]
fn view_change_is_retransmitted_while_leaving_and_not_after() {
    let mut net = Net::four();
    assert_eq!(targets(&net.fire(0, Timer::Status)), NONE);
    let sent = view_changes(&net.expire(0));
    assert_eq!(view_changes(&net.fire(0, Timer::Status)), sent);
    let v = [0, 1, 2].map(|by| net.empty_view_change(by, 1)).to_vec();
    net.deliver(0, net.new_view(1, 1, v, &[]));
    assert_eq!(targets(&net.fire(0, Timer::Status)), NONE);
}

#[test]
fn a_view_change_survives_the_loss_of_every_first_message() {
    let mut net = Net::four();
    for at in 0..4 {
        net.expire(at);
    }
    net.gossip(&only(0..4));
    assert_eq!([0, 1, 2, 3].map(|at| net.view(at)), [1; 4]);
}

// What VIEW-CHANGE promises is durable before it leaves, and the records alone restore it.

#[test]
fn view_change_leaves_after_its_record() {
    let mut net = Net::four();
    net.expire(0);
    net.expire(0);
    net.assert_promises_kept(&["VIEW-CHANGE"]);
    let recorded: Vec<_> = net.steps[0].iter().map(|step| step.0.first()).collect();
    assert!(recorded.iter().all(|effect| matches!(effect, Some(Effect::Persist(Record::ViewChange(_))))));
}

#[test]
fn a_restarted_replica_is_still_between_the_views() {
    let mut net = Net::four();
    let m = one(&net, 1);
    prepare_at_1(&mut net, 1, &m);
    let sent = view_changes(&net.expire(1));
    net.assert_restarts_agree();
    net.restart(1, net.replayed(1));
    assert_eq!(net.replicas[1].leaving(), Some(View(1)));
    net.assert_refused(1, net.commit(2, 0, 1, m.digest()), Rejection::LeavingView);
    assert_eq!(view_changes(&net.fire(1, Timer::Status)), sent);
    deliver_view_change(&mut net, 1, 2, 1);
    let step = deliver_view_change(&mut net, 1, 3, 1);
    assert_eq!(step.sent("NEW-VIEW").len(), 1, "its own VIEW-CHANGE still counts");
}

// What a NEW-VIEW and the PREPAREs for its O promise is durable before they leave.

#[test]
fn new_view_and_the_prepares_for_o_leave_after_their_record() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 3);
    net.change_view_among(&only(0..4));
    net.order_many(&only(0..4), 4, 1);
    net.assert_promises_kept(&["VIEW-CHANGE", "NEW-VIEW", "PRE-PREPARE", "PREPARE", "COMMIT", "REPLY"]);
}

#[test]
fn a_restart_from_the_records_equals_one_from_the_state_across_views() {
    let mut net = Net::four();
    net.order_many(&only(0..4), 1, 3);
    for round in 0..3 {
        net.change_view_among(&only(0..4));
        net.assert_restarts_agree();
        net.order_many(&only(0..4), 4 + round, 1);
        net.assert_restarts_agree();
    }
    assert_eq!((net.view(3), net.last_executed(3)), (3, 6));
}

#[test]
fn a_restarted_replica_stays_in_its_view_and_goes_on() {
    let mut net = Net::four();
    net.change_view_among(&only(0..4));
    for at in 0..4 {
        let step = net.restart(at, net.replayed(at));
        net.route(at, &step);
    }
    net.run_all();
    net.order_many(&only(0..4), 1, 3);
    assert_eq!([0, 1, 2, 3].map(|at| (net.view(at), net.last_executed(at))), [(1, 3); 4]);
}
