//! Bad input: every message that a correct replica or client does not send is dropped for the reason it
//! deserves, changes nothing and is not answered.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod at_a_client;
mod certificates;
mod messages;
mod senders_and_contents;
#[path = "../support/mod.rs"]
mod support;

use at_a_client::at_a_client;
use certificates::{new_views, prepared_certificates, stable_certificates};
use messages::*;
use pbft::crypto::Signed;
use pbft::crypto::ed25519::Ed25519;
use pbft::message::{Message, Request, ViewChange};
use pbft::rejection::Rejection;
use pbft::replica::verify::{verify, verify_knowing};
use pbft::replica::{Effect, Effects, Event, Timer};
use pbft::types::{Bytes, SeqNo};
use pbft::wire;
use senders_and_contents::*;
use std::collections::BTreeSet;
use std::sync::Arc;
use support::{Msg as Sent, Net, small_batches};

/// The replica that is sent bad input: a backup in views 0 and 1.
const AT: usize = 2;

/// What is wrong with a message, the message, and the reason it is dropped for.
type Case = (&'static str, Sent, Rejection);

// --- states ---

/// Replica 2 in view 0 with h = 0: it has accepted a PRE-PREPARE for 1 and has a COMMIT, a CHECKPOINT and a
/// VIEW-CHANGE of replica 3, and a request of client 1.
fn in_view_0() -> Net {
    let mut net = Net::new(4, 1, small_batches());
    let sent = [
        proposal(0, 1, batch([net.put(0, 1, "a", "1")])),
        Message::Commit(sign(3, commit(0, 1, D, 3))),
        Message::Checkpoint(sign(3, checkpoint(2, D, 3))),
        Message::ViewChange(Arc::new(sign(3, view_change(1, 3, vec![])))),
        Message::Request(net.put(1, 5, "b", "1")),
    ];
    for message in sent {
        // What it answers reaches nobody.
        assert_eq!(net.deliver(AT, message).rejection(), None);
    }
    net
}

/// Everybody in view 1 with h = 4; client 0 has been answered up to timestamp 3, client 1 up to 5.
fn in_view_1() -> Net {
    Net::lived(small_batches())
}

/// The same, after replica 2 has sent VIEW-CHANGE for view 2.
fn leaving_view_1() -> Net {
    let mut net = in_view_1();
    net.fire(AT, Timer::Progress { backoff: 0 });
    net
}

// --- what becomes of a message ---

/// Why the replica drops the message, if it does; then nothing has changed and nothing else happens.
fn dropped_at(net: &Net, message: Sent) -> Option<Rejection> {
    let (setup, before) = (&net.setups[AT], &net.replicas[AT]);
    let waits = |request: &Signed<Request, Ed25519>| {
        before.waiting_request(request.content.client).is_some_and(|waiting| waiting == request)
    };
    let knowing = verify_knowing(setup, message.clone(), &waits).map(|_| ());
    let verified = verify(setup, message);
    assert_eq!(
        verified.as_ref().map(|_| ()),
        knowing.as_ref().map(|_| ()),
        "what waits here changes no verdict"
    );
    let verified = match verified {
        Ok(verified) => verified,
        Err(reason) => return Some(reason),
    };
    let (mut after, mut effects) = (before.clone(), Effects::new());
    after.step(setup, Event::Message(verified), &mut effects);
    let reason = effects.rejection()?;
    assert_eq!(
        effects.into_iter().collect::<Vec<_>>(),
        [Effect::Reject(reason)],
        "nothing but the rejection"
    );
    assert!(after == *before, "{reason} left a trace");
    Some(reason)
}

fn check(net: &Net, cases: Vec<Case>) {
    for (what, message, expected) in cases {
        assert_eq!(dropped_at(net, message), Some(expected), "{what}");
    }
}

fn accepted(net: &Net, messages: Vec<Sent>) {
    for message in messages {
        let name = message.name();
        assert_eq!(dropped_at(net, message), None, "{name}");
    }
}

// --- the claims ---

#[test]
fn messages_of_who_may_not_send_them_are_dropped() {
    let net = in_view_0();
    check(&net, senders(&net));
}

#[test]
fn messages_that_say_what_may_not_be_said_are_dropped() {
    let net = in_view_0();
    check(&net, contents(&net));
}

#[test]
fn messages_of_other_views_and_outside_of_the_window_are_dropped() {
    let nets = [in_view_0(), in_view_1(), leaving_view_1()];
    check(&nets[0], slots_of_view_0(&nets[0]));
    check(&nets[1], slots_of_view_1(&nets[1]));
    check(&nets[2], slots_of_the_view_left(&nets[2]));
}

#[test]
fn certificates_that_prove_nothing_are_dropped() {
    let net = in_view_0();
    check(&net, stable_certificates());
    check(&net, prepared_certificates());
}

#[test]
fn new_views_that_do_not_follow_from_their_view_changes_are_dropped() {
    check(&in_view_0(), new_views());
}

/// Without this a case could be dropped for something else that is wrong with all of its kind.
#[test]
fn the_messages_that_the_bad_ones_were_made_from_are_accepted() {
    let net = in_view_0();
    let a = net.put(0, 2, "a", "2");
    let half = |client| net.request(client, 9, Bytes::from(vec![0; 32]), false);
    let four: Vec<SeqNo> = (1..=4).map(SeqNo).collect();
    let with_stable =
        ViewChange { n: SeqNo(2), stable: Some(stable(2, D, &[0, 1, 3])), ..view_change(1, 1, vec![]) };
    let own = one_of_each_by(1, keys(1));
    accepted(&net, own.into_iter().filter(|m| !matches!(m, Message::Reply(_))).collect());
    accepted(
        &net,
        vec![
            Message::Request(a.clone()),
            Message::Request(net.request(0, 2, Bytes::from(vec![0; 64]), false)),
            proposal(0, 2, batch([a.clone()])),
            proposal(0, 4, batch([half(0), half(1)])),
            Message::Status(sign(1, status(1, four.clone(), four))),
            Message::Checkpoint(sign(1, checkpoint(4, D, 1))),
            Message::Stable(stable(2, D, &[0, 1, 3])),
            Message::Stable(stable(2, D, &[0, 1, 2, 3])),
            Message::ViewChange(Arc::new(sign(1, with_stable))),
            Message::ViewChange(Arc::new(sign(1, view_change(2, 1, vec![prepared(0, 1, D, &[1, 3])])))),
            Message::ViewChange(Arc::new(sign(1, view_change(2, 1, vec![prepared(0, 4, D, &[1, 2, 3])])))),
            new_view(1, v(), o()),
        ],
    );
    let net = in_view_1();
    accepted(&net, slot(&net, "", 1, 6, Rejection::Duplicate).into_iter().map(|(_, m, _)| m).collect());
}

fn undecodable() -> Vec<(&'static str, Vec<u8>, Rejection)> {
    let good = wire::encode(&Message::Fetch(sign(1, fetch(1))));
    vec![
        ("nothing", vec![], Rejection::Malformed),
        ("a version and nothing", vec![wire::VERSION], Rejection::Malformed),
        ("no such variant", vec![wire::VERSION, 13, 0, 0, 0], Rejection::Malformed),
        ("half a message", good[..good.len() / 2].to_vec(), Rejection::Malformed),
        ("more than a message", [&good[..], &[0]].concat(), Rejection::Malformed),
        ("another version", [&[wire::VERSION + 1], &good[1..]].concat(), Rejection::WrongVersion),
        ("too much", vec![wire::VERSION; pbft::parameters::MAX_MESSAGE_BYTES + 1], Rejection::Oversize),
    ]
}

#[test]
fn bytes_that_are_no_message_never_reach_a_replica() {
    for (what, bytes, expected) in undecodable() {
        assert_eq!(wire::decode::<Ed25519>(&bytes).err(), Some(expected), "{what}");
    }
}

/// Reasons that no message of a peer leads to.
const NOT_OF_A_PEER: [Rejection; 2] = [
    // The application's own doing: it invokes while a request is outstanding.
    Rejection::Busy,
    // A quorum vouches for the digests of fetched state; only a broken service cannot restore it.
    Rejection::BadState,
];

#[test]
fn every_reason_a_peer_can_give_is_given_by_some_case() {
    let nets = [in_view_0(), in_view_1(), leaving_view_1()];
    let tables = [
        senders(&nets[0]),
        contents(&nets[0]),
        slots_of_view_0(&nets[0]),
        slots_of_view_1(&nets[1]),
        slots_of_the_view_left(&nets[2]),
        stable_certificates(),
        prepared_certificates(),
        new_views(),
        at_a_client(),
    ];
    let of_messages = tables.into_iter().flatten().map(|(_, _, reason)| reason);
    let given: BTreeSet<Rejection> =
        of_messages.chain(undecodable().into_iter().map(|(_, _, reason)| reason)).collect();
    let missing: Vec<Rejection> =
        Rejection::ALL.iter().copied().filter(|reason| !given.contains(reason)).collect();
    assert_eq!(missing, NOT_OF_A_PEER);
}
