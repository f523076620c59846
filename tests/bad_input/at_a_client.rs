//! The same at a client, where only replies are of use.

use crate::Case;
use crate::messages::*;
use crate::support::{CLIENTS, Msg as Sent, SEED};
use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::message::Message;
use pbft::parameters::MAX_RESULT_BYTES;
use pbft::rejection::Rejection;
use pbft::types::{Bytes, ClientId, Cluster, Timestamp};
use pbft_models::mutants::Rulebook;
use std::sync::Arc;

fn client_setup() -> ClientSetup<Ed25519, Rulebook> {
    ClientSetup {
        id: ClientId(0),
        cluster: Cluster::new(4, 1),
        keys: Arc::new(client_keys_of_four()),
        rules: Rulebook::under_test(),
    }
}

fn client_keys_of_four() -> KeyRing {
    KeyRing::insecure(SEED, 4, CLIENTS).1.swap_remove(0)
}

/// A client that waits for the answer to its request with timestamp 1.
fn waiting(setup: &ClientSetup<Ed25519, Rulebook>) -> Client<Ed25519> {
    let mut client = Client::new(ClientDurable::default());
    let operation = Bytes::from(&b"op"[..]);
    let invoke = ClientEvent::Invoke { operation, read_only: false, clock: Timestamp(0) };
    client.step(setup, invoke, &mut Vec::new());
    client
}

/// Why the client drops the message, if it does; then nothing has changed and nothing else happens.
fn dropped_by(
    setup: &ClientSetup<Ed25519, Rulebook>,
    before: &Client<Ed25519>,
    message: Sent,
) -> Option<Rejection> {
    let verified = match Client::verify(setup, message) {
        Ok(verified) => verified,
        Err(reason) => return Some(reason),
    };
    let (mut after, mut effects) = (before.clone(), Vec::new());
    after.step(setup, ClientEvent::Message(verified), &mut effects);
    let Some(ClientEffect::Reject(reason)) = effects.first() else { return None };
    assert_eq!(effects.len(), 1, "nothing but the rejection");
    assert!(after == *before, "{reason} left a trace");
    Some(*reason)
}

pub fn at_a_client() -> Vec<Case> {
    let answer = |i, client, timestamp| Message::Reply(sign(i, reply(i, client, timestamp, b"r")));
    let by = |ring: &KeyRing| Message::Reply(Signed::new(reply(1, 0, 1, b"r"), ring));
    vec![
        ("an outsider's reply", answer(7, 0, 1), Rejection::UnknownSender),
        ("a client's reply", by(client_keys(1)), Rejection::UnknownSender),
        ("another replica's name", by(keys(3)), Rejection::SignerIsNotSender),
        ("one bit of the signature", forged(answer(1, 0, 1)), Rejection::BadSignature),
        ("an earlier request", answer(1, 0, 0), Rejection::NotPending),
        ("a later request", answer(1, 0, 2), Rejection::NotPending),
        ("another client's request", answer(1, 1, 1), Rejection::NotPending),
        (
            "a long result",
            Message::Reply(sign(1, reply(1, 0, 1, &[0; MAX_RESULT_BYTES + 1]))),
            Rejection::Oversize,
        ),
        ("a vote", Message::Commit(sign(1, commit(0, 1, D, 1))), Rejection::NotForThisNode),
        ("a block", Message::Block(Bytes::default()), Rejection::NotForThisNode),
    ]
}

#[test]
fn a_client_drops_what_does_not_answer_its_request() {
    let setup = client_setup();
    let client = waiting(&setup);
    for (what, message, expected) in at_a_client() {
        assert_eq!(dropped_by(&setup, &client, message), Some(expected), "{what}");
    }
    let right = Message::Reply(sign(1, reply(1, 0, 1, b"r")));
    assert_eq!(dropped_by(&setup, &client, right.clone()), None);
    let idle = Client::new(ClientDurable::default());
    assert_eq!(dropped_by(&setup, &idle, right), Some(Rejection::NotPending));
}

#[test]
fn one_replica_that_answers_twice_does_not_convince_a_client() {
    let setup = client_setup();
    let mut client = waiting(&setup);
    let mut answer = |i: u16| {
        let message = Message::Reply(sign(i, reply(i, 0, 1, b"r")));
        let mut effects = Vec::new();
        let verified = Client::verify(&setup, message).expect("the reply is a replica's");
        client.step(&setup, ClientEvent::Message(verified), &mut effects);
        effects.iter().any(|effect| matches!(effect, ClientEffect::Completed { .. }))
    };
    assert!(!answer(1) && !answer(1) && !answer(1));
    assert!(answer(2));
}

#[test]
fn a_client_with_a_request_outstanding_refuses_another() {
    let setup = client_setup();
    let before = waiting(&setup);
    let (mut after, mut effects) = (before.clone(), Vec::new());
    let operation = Bytes::from(&b"another"[..]);
    let invoke = ClientEvent::Invoke { operation, read_only: false, clock: Timestamp(0) };
    after.step(&setup, invoke, &mut effects);
    assert_eq!(effects, [ClientEffect::Reject(Rejection::Busy)]);
    assert!(after == before);
}
