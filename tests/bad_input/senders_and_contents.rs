//! What is wrong with a message by itself: who sends it, what it says, its view and number.

use crate::messages::*;
use crate::support::{CLIENTS, Net};
use crate::{AT, Case};
use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, KeyRing, Signature};
use pbft::kv::Operation;
use pbft::message::{Batch, Message, NewView, PrePrepare, Request};
use pbft::parameters::{MAX_BLOCK_BYTES, MAX_RESULT_BYTES};
use pbft::rejection::Rejection;
use pbft::types::{Bytes, ClientId, Digest, Principal, SeqNo, View};
use std::sync::Arc;

// --- who sends ---

pub fn senders(net: &Net) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let own = one_of_each_by(1, keys(1));
    cases.extend(own.into_iter().map(|m| ("one bit of the signature", forged(m), Rejection::BadSignature)));
    let strangers = one_of_each_by(7, keys(7));
    cases.extend(strangers.into_iter().map(|m| ("an eighth replica", m, Rejection::UnknownSender)));
    for (what, ring) in [("another replica's name", keys(3)), ("a client's vote", client_keys(0))] {
        let messages = one_of_each_by(1, ring);
        cases.extend(messages.into_iter().map(|m| (what, m, Rejection::SignerIsNotSender)));
    }
    let good = net.put(0, 2, "a", "2");
    let by = |ring: &KeyRing| Signed::<_, Ed25519>::new(good.content.clone(), ring);
    let stranger = Request { client: ClientId(CLIENTS), ..good.content.clone() };
    let stranger = Signed::new(stranger, client_keys(CLIENTS));
    let pre_prepare = proposal(0, 2, batch([good.clone()]));
    let Message::PrePrepare(signed, requests) = pre_prepare.clone() else { unreachable!("it is one") };
    let proposed_by =
        |ring: &KeyRing| Message::PrePrepare(Signed::new(signed.content, ring), requests.clone());
    cases.extend([
        ("a forged request", forged(Message::Request(good.clone())), Rejection::BadSignature),
        ("another client's", Message::Request(by(client_keys(1))), Rejection::SignerIsNotSender),
        ("a replica's request", Message::Request(by(keys(1))), Rejection::SignerIsNotSender),
        ("an unregistered client", Message::Request(stranger), Rejection::UnknownSender),
        ("a forged PRE-PREPARE", forged(pre_prepare), Rejection::BadSignature),
        ("a backup's PRE-PREPARE", proposed_by(keys(1)), Rejection::NotPrimary),
        ("a client's PRE-PREPARE", proposed_by(client_keys(0)), Rejection::NotPrimary),
        ("an outsider's PRE-PREPARE", proposed_by(keys(7)), Rejection::UnknownSender),
        ("a forged NEW-VIEW", forged(new_view(1, v(), o())), Rejection::BadSignature),
        ("another replica's NEW-VIEW", new_view(3, v(), o()), Rejection::NotPrimary),
        ("an outsider's NEW-VIEW", new_view(7, v(), o()), Rejection::UnknownSender),
        ("a reply", Message::Reply(sign(1, reply(1, 0, 1, b"r"))), Rejection::NotForThisNode),
        ("the primary's PREPARE", Message::Prepare(sign(0, prepare(0, 1, D, 0))), Rejection::PrimaryPrepare),
    ]);
    cases
}

// --- what a message says in view 0 ---

pub fn contents(net: &Net) -> Vec<Case> {
    let (a, b) = (net.put(0, 2, "a", "2"), net.put(1, 6, "b", "2"));
    let one = batch([a.clone()]);
    let named = |digest, n, batch: Batch<Ed25519>| {
        let content = PrePrepare { view: View(0), n: SeqNo(n), digest };
        Message::PrePrepare(sign(0, content), Arc::new(batch))
    };
    let bad_signature = Signed { signature: Signature([9; 64]), ..a.clone() };
    let waits_forged = Signed { signature: Signature([9; 64]), ..net.put(1, 5, "b", "1") };
    let misattributed = Signed { signer: Principal::Client(ClientId(1)), ..a.clone() };
    let stranger = Request { client: ClientId(CLIENTS), ..a.content.clone() };
    let stranger = Signed::new(stranger, client_keys(CLIENTS));
    let put = Operation::Put { key: Bytes::from(&b"a"[..]), value: Bytes::from(&b"2"[..]) }.to_bytes();
    let read = net.request(0, 2, Operation::Get { key: Bytes::from(&b"a"[..]) }.to_bytes(), true);
    let no_read = net.request(0, 2, put, true);
    let long = net.request(0, 2, Bytes::from(vec![0; 65]), false);
    let half = |client| net.request(client, 9, Bytes::from(vec![0; 33]), false);
    let accepted = batch([net.put(0, 1, "a", "1")]);
    let five: Vec<SeqNo> = (1..=5).map(SeqNo).collect();
    vec![
        ("another batch", named(D, 2, one.clone()), Rejection::BadDigest),
        ("no batch named", named(Digest::NULL, 2, one.clone()), Rejection::BadDigest),
        ("no batch there", named(one.digest(), 2, batch([])), Rejection::BadDigest),
        ("the null request", proposal(0, 2, batch([])), Rejection::NullRequest),
        ("another digest", proposal(0, 1, one.clone()), Rejection::ConflictingPrePrepare),
        ("a forged request", proposal(0, 2, batch([bad_signature.clone()])), Rejection::BadRequest),
        ("one that waits, forged", proposal(0, 2, batch([waits_forged])), Rejection::BadRequest),
        ("a good and a forged one", proposal(0, 2, batch([b.clone(), bad_signature])), Rejection::BadRequest),
        ("another client's request", proposal(0, 2, batch([misattributed])), Rejection::BadRequest),
        ("an unregistered client", proposal(0, 2, batch([stranger])), Rejection::BadRequest),
        ("a read, ordered", proposal(0, 2, batch([read])), Rejection::BadRequest),
        ("three requests", proposal(0, 2, batch([a.clone(), b.clone(), a.clone()])), Rejection::Oversize),
        ("66 bytes of operations", proposal(0, 2, batch([half(0), half(1)])), Rejection::Oversize),
        ("66 bytes in a BATCH", Message::Batch(Arc::new(batch([half(0), half(1)]))), Rejection::Oversize),
        ("an operation of 65 bytes", Message::Request(long), Rejection::Oversize),
        ("a long block", Message::Block(Bytes::from(vec![0; MAX_BLOCK_BYTES + 1])), Rejection::Oversize),
        ("5 proposals of 4", Message::Status(sign(1, status(1, five.clone(), vec![]))), Rejection::Oversize),
        ("5 prepared of 4", Message::Status(sign(1, status(1, vec![], five))), Rejection::Oversize),
        (
            "a long result",
            Message::Reply(sign(1, reply(1, 0, 1, &[0; MAX_RESULT_BYTES + 1]))),
            Rejection::Oversize,
        ),
        ("a write called a read", Message::Request(no_read), Rejection::NotReadOnly),
        ("older than the one known", Message::Request(net.put(1, 4, "b", "0")), Rejection::OldTimestamp),
        ("a batch nobody named", Message::Batch(Arc::new(one.clone())), Rejection::Unwanted),
        ("the null request as a batch", Message::Batch(Arc::new(batch([]))), Rejection::Unwanted),
        ("a block nobody named", Message::Block(Bytes::from(&b"block"[..])), Rejection::Unwanted),
        ("between checkpoints", Message::Checkpoint(sign(1, checkpoint(3, D, 1))), Rejection::NotACheckpoint),
        ("the same PRE-PREPARE", proposal(0, 1, accepted), Rejection::Duplicate),
        ("our own PREPARE", Message::Prepare(sign(2, prepare(0, 1, D, 2))), Rejection::Duplicate),
        ("the same COMMIT", Message::Commit(sign(3, commit(0, 1, D, 3))), Rejection::Duplicate),
        ("a second COMMIT", Message::Commit(sign(3, commit(0, 1, Digest::NULL, 3))), Rejection::Duplicate),
        ("a second CHECKPOINT", Message::Checkpoint(sign(3, checkpoint(2, D, 3))), Rejection::Duplicate),
        (
            "a second VIEW-CHANGE",
            Message::ViewChange(Arc::new(sign(3, view_change(1, 3, vec![prepared(0, 2, D, &[1, 3])])))),
            Rejection::Duplicate,
        ),
        ("our own STATUS", Message::Status(sign(2, status(2, vec![], vec![]))), Rejection::Duplicate),
        ("our own FETCH", Message::Fetch(sign(2, fetch(2))), Rejection::Duplicate),
    ]
}

// --- views and windows ---

/// PRE-PREPARE, PREPARE and COMMIT for a slot, and what becomes of them.
pub fn slot(net: &Net, what: &'static str, view: u64, n: u64, reason: Rejection) -> Vec<Case> {
    let digest = batch([net.put(0, 9, "a", "9")]).digest();
    vec![
        (what, proposal(view, n, batch([net.put(0, 9, "a", "9")])), reason),
        (what, Message::Prepare(sign(3, prepare(view, n, digest, 3))), reason),
        (what, Message::Commit(sign(3, commit(view, n, digest, 3))), reason),
    ]
}

pub fn slots_of_view_0(net: &Net) -> Vec<Case> {
    let null_view = (0..3).map(|i| Arc::new(sign(i, view_change(0, i, vec![])))).collect();
    let null_view = NewView { view: View(0), view_changes: null_view, pre_prepares: vec![] };
    let mut cases = vec![
        (
            "leaving for view 0",
            Message::ViewChange(Arc::new(sign(1, view_change(0, 1, vec![])))),
            Rejection::WrongView,
        ),
        ("entering view 0", Message::NewView(Arc::new(sign(0, null_view))), Rejection::WrongView),
        ("checkpoint 0", Message::Checkpoint(sign(1, checkpoint(0, D, 1))), Rejection::OutOfWindow),
        ("above H", Message::Checkpoint(sign(1, checkpoint(6, D, 1))), Rejection::OutOfWindow),
        ("far above H", Message::Checkpoint(sign(1, checkpoint(u64::MAX - 1, D, 1))), Rejection::OutOfWindow),
    ];
    cases.extend(slot(net, "the next view", 1, 1, Rejection::WrongView));
    cases.extend(slot(net, "the last view", u64::MAX, 1, Rejection::WrongView));
    cases.extend(slot(net, "number 0", 0, 0, Rejection::OutOfWindow));
    cases.extend(slot(net, "H + 1", 0, 5, Rejection::OutOfWindow));
    cases.extend(slot(net, "the last number", 0, u64::MAX, Rejection::OutOfWindow));
    cases
}

pub fn slots_of_view_1(net: &Net) -> Vec<Case> {
    let stale = net.replicas[AT].durable().stable.clone().expect("a checkpoint is stable");
    let entered = net.replicas[AT].durable().new_view.as_ref().cloned().expect("view 1 was entered");
    let mut cases = vec![
        ("an executed request", Message::Request(net.put(0, 2, "k2", "v")), Rejection::OldTimestamp),
        ("h itself", Message::Checkpoint(sign(1, checkpoint(4, D, 1))), Rejection::OutOfWindow),
        ("known to be stable", Message::Stable(stale), Rejection::Duplicate),
        ("the view entered", Message::NewView(entered), Rejection::WrongView),
    ];
    cases.extend(slot(net, "the old view", 0, 6, Rejection::WrongView));
    cases.extend(slot(net, "h", 1, 4, Rejection::OutOfWindow));
    cases.extend(slot(net, "below h", 1, 3, Rejection::OutOfWindow));
    cases.extend(slot(net, "H + 1", 1, 9, Rejection::OutOfWindow));
    cases
}

pub fn slots_of_the_view_left(net: &Net) -> Vec<Case> {
    let entered = net.replicas[AT].durable().new_view.as_ref().cloned().expect("view 1 was entered");
    let mut cases = slot(net, "the view left", 1, 6, Rejection::LeavingView);
    cases.push(("the view left", Message::NewView(entered), Rejection::WrongView));
    cases
}
