//! Bad input: every message that a correct replica or client does not send is dropped for the reason it
//! deserves, changes nothing and is not answered.

mod support_input;

use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
use pbft::crypto::ed25519::{Ed25519, KeyRing, Signature};
use pbft::crypto::{Content, Evidence, Signed};
use pbft::kv::Operation;
use pbft::message::{
    Batch, Checkpoint, Commit, Fetch, MAX_BLOCK_BYTES, MAX_RESULT_BYTES, Message, NewView, PrePrepare,
    Prepare, Reply, Request, Status, ViewChange, Wanted,
};
use pbft::rejection::Rejection;
use pbft::replica::verify::verify;
use pbft::replica::{Effect, Effects, Event, Timer};
use pbft::rules::Pbft;
use pbft::types::{Bytes, ClientId, Cluster, Digest, Principal, ReplicaId, SeqNo, Timestamp, View};
use pbft::wire;
use std::collections::BTreeSet;
use std::sync::Arc;
use support_input::{CLIENTS, Net, SEED, Sent};

/// The replica that is sent bad input: a backup in views 0 and 1.
const AT: usize = 2;
const D: Digest = Digest([0xdd; 32]);

/// What is wrong with a message, the message, and the reason it is dropped for.
type Case = (&'static str, Sent, Rejection);

type Change = Signed<ViewChange<Ed25519>, Ed25519>;

/// Keys of everybody, and of replicas and clients that are not configured.
fn keys(replica: u16) -> KeyRing {
    KeyRing::insecure(SEED, 8, 10).0.swap_remove(usize::from(replica))
}

fn client_keys(client: u32) -> KeyRing {
    let mut rings = KeyRing::insecure(SEED, 8, 10).1;
    rings.swap_remove(usize::try_from(client).expect("a client index fits"))
}

fn sign<T: Content>(replica: u16, content: T) -> Signed<T, Ed25519> {
    Signed::new(content, &keys(replica))
}

// --- messages, each right in itself ---

fn proposal(view: u64, n: u64, batch: Batch<Ed25519>) -> Sent {
    let primary = u16::try_from(view % 4).expect("a remainder is small");
    let content = PrePrepare { view: View(view), n: SeqNo(n), digest: batch.digest() };
    Message::PrePrepare(sign(primary, content), Arc::new(batch))
}

fn prepare(view: u64, n: u64, digest: Digest, i: u16) -> Prepare {
    Prepare { view: View(view), n: SeqNo(n), digest, replica: ReplicaId(i) }
}

fn commit(view: u64, n: u64, digest: Digest, i: u16) -> Commit {
    Commit { view: View(view), n: SeqNo(n), digest, replica: ReplicaId(i) }
}

fn checkpoint(n: u64, digest: Digest, i: u16) -> Checkpoint {
    Checkpoint { n: SeqNo(n), digest, replica: ReplicaId(i) }
}

fn status(i: u16, pre_prepared: Vec<SeqNo>, prepared: Vec<SeqNo>) -> Status {
    let (view, leaving, stable, executed) = (View(0), None, SeqNo(0), SeqNo(0));
    Status { view, leaving, stable, executed, pre_prepared, prepared, replica: ReplicaId(i) }
}

fn fetch(i: u16) -> Fetch {
    Fetch { what: Wanted::Batch(D), replica: ReplicaId(i) }
}

fn reply(i: u16, client: u32, timestamp: u64, result: &[u8]) -> Reply {
    Reply {
        view: View(0),
        timestamp: Timestamp(timestamp),
        client: ClientId(client),
        replica: ReplicaId(i),
        result: Bytes::from(result),
    }
}

fn view_change(view: u64, i: u16, prepared: Vec<PreparedCertificate<Ed25519>>) -> ViewChange<Ed25519> {
    ViewChange { view: View(view), n: SeqNo(0), stable: None, prepared, replica: ReplicaId(i) }
}

/// The certificate that `digest` prepared, with the PREPAREs of these replicas.
fn prepared(view: u64, n: u64, digest: Digest, voters: &[u16]) -> PreparedCertificate<Ed25519> {
    let primary = u16::try_from(view % 4).expect("a remainder is small");
    let pre_prepare = PrePrepare { view: View(view), n: SeqNo(n), digest };
    let vote = |&i: &u16| (ReplicaId(i), sign(i, prepare(view, n, digest, i)).signature);
    let proof = Evidence {
        proposal: Some(sign(primary, pre_prepare).signature),
        votes: voters.iter().map(vote).collect(),
    };
    PreparedCertificate { view: View(view), n: SeqNo(n), digest, proof }
}

/// The certificate that a checkpoint is stable, with the CHECKPOINTs of these replicas.
fn stable(n: u64, digest: Digest, voters: &[u16]) -> StableCertificate<Ed25519> {
    let vote = |&i: &u16| (ReplicaId(i), sign(i, checkpoint(n, digest, i)).signature);
    let proof = Evidence { proposal: None, votes: voters.iter().map(vote).collect() };
    StableCertificate { n: SeqNo(n), digest, proof }
}

/// Three VIEW-CHANGEs for view 1; batch `D` prepared at sequence number 2.
fn v() -> Vec<Arc<Change>> {
    let change = |i| Arc::new(sign(i, view_change(1, i, vec![prepared(0, 2, D, &[1, 3])])));
    [0, 1, 3].map(change).to_vec()
}

/// What `v()` determines: the null request at 1, `D` at 2.
fn o() -> Vec<Signed<PrePrepare, Ed25519>> {
    let entry = |(n, digest)| sign(1, PrePrepare { view: View(1), n: SeqNo(n), digest });
    [(1, Digest::NULL), (2, D)].map(entry).to_vec()
}

fn new_view(signer: u16, v: Vec<Arc<Change>>, o: Vec<Signed<PrePrepare, Ed25519>>) -> Sent {
    let content = NewView { view: View(1), view_changes: v, pre_prepares: o };
    Message::NewView(Arc::new(sign(signer, content)))
}

fn batch<const K: usize>(requests: [Signed<Request, Ed25519>; K]) -> Batch<Ed25519> {
    Batch { requests: requests.to_vec() }
}

// --- states ---

/// Replica 2 in view 0 with h = 0: it has accepted a PRE-PREPARE for 1 and has a COMMIT, a CHECKPOINT and a
/// VIEW-CHANGE of replica 3, and a request of client 1.
fn in_view_0() -> Net {
    let mut net = Net::new();
    net.send(AT, proposal(0, 1, batch([net.put(0, 1, "a", "1")])));
    net.send(AT, Message::Commit(sign(3, commit(0, 1, D, 3))));
    net.send(AT, Message::Checkpoint(sign(3, checkpoint(2, D, 3))));
    net.send(AT, Message::ViewChange(Arc::new(sign(3, view_change(1, 3, vec![])))));
    net.send(AT, Message::Request(net.put(1, 5, "b", "1")));
    // What it answers reaches nobody.
    for other in [0, 1, 3] {
        net.connected[other] = false;
    }
    net.settle();
    net
}

/// Everybody in view 1 with h = 4; client 0 has been answered up to timestamp 3, client 1 up to 5.
fn in_view_1() -> Net {
    let mut net = Net::new();
    net.execute(0, 1..=3);
    for at in 1..4 {
        net.fire(at, Timer::Progress { backoff: 0 });
    }
    net.settle();
    net.execute(1, 4..=5);
    assert_eq!((net.replicas[AT].view(), net.replicas[AT].durable().h()), (View(1), SeqNo(4)));
    net
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
    let verified = match verify(setup, message) {
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

/// Every kind of signed message, by replica `i`, with its keys or another's.
fn one_of_each_by(i: u16, keys: &KeyRing) -> Vec<Sent> {
    fn by<T: Content>(keys: &KeyRing, content: T) -> Signed<T, Ed25519> {
        Signed::new(content, keys)
    }
    vec![
        Message::Prepare(by(keys, prepare(0, 1, D, i))),
        Message::Commit(by(keys, commit(0, 1, D, i))),
        Message::Checkpoint(by(keys, checkpoint(4, D, i))),
        Message::ViewChange(Arc::new(by(keys, view_change(1, i, vec![])))),
        Message::Reply(by(keys, reply(i, 0, 1, b"r"))),
        Message::Status(by(keys, status(i, vec![], vec![]))),
        Message::Fetch(by(keys, fetch(i))),
    ]
}

/// The same message with one bit of its signature changed.
fn forged(message: Sent) -> Sent {
    fn forge<T: Clone>(signed: &Signed<T, Ed25519>) -> Signed<T, Ed25519> {
        let mut signature = signed.signature;
        signature.0[0] ^= 1;
        Signed { signature, ..signed.clone() }
    }
    match message {
        Message::Request(m) => Message::Request(forge(&m)),
        Message::PrePrepare(m, batch) => Message::PrePrepare(forge(&m), batch),
        Message::Prepare(m) => Message::Prepare(forge(&m)),
        Message::Commit(m) => Message::Commit(forge(&m)),
        Message::Checkpoint(m) => Message::Checkpoint(forge(&m)),
        Message::ViewChange(m) => Message::ViewChange(Arc::new(forge(&m))),
        Message::NewView(m) => Message::NewView(Arc::new(forge(&m))),
        Message::Reply(m) => Message::Reply(forge(&m)),
        Message::Status(m) => Message::Status(forge(&m)),
        Message::Fetch(m) => Message::Fetch(forge(&m)),
        unsigned => unsigned,
    }
}

// --- who sends ---

fn senders(net: &Net) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let own = one_of_each_by(1, &keys(1));
    cases.extend(own.into_iter().map(|m| ("one bit of the signature", forged(m), Rejection::BadSignature)));
    let strangers = one_of_each_by(7, &keys(7));
    cases.extend(strangers.into_iter().map(|m| ("an eighth replica", m, Rejection::UnknownSender)));
    for (what, ring) in [("another replica's name", keys(3)), ("a client's vote", client_keys(0))] {
        let messages = one_of_each_by(1, &ring);
        cases.extend(messages.into_iter().map(|m| (what, m, Rejection::SignerIsNotSender)));
    }
    let good = net.put(0, 2, "a", "2");
    let by = |ring: &KeyRing| Signed::<_, Ed25519>::new(good.content.clone(), ring);
    let stranger = Request { client: ClientId(CLIENTS), ..good.content.clone() };
    let stranger = Signed::new(stranger, &client_keys(CLIENTS));
    let pre_prepare = proposal(0, 2, batch([good.clone()]));
    let Message::PrePrepare(signed, requests) = pre_prepare.clone() else { unreachable!("it is one") };
    let proposed_by =
        |ring: &KeyRing| Message::PrePrepare(Signed::new(signed.content, ring), requests.clone());
    cases.extend([
        ("a forged request", forged(Message::Request(good.clone())), Rejection::BadSignature),
        ("another client's", Message::Request(by(&client_keys(1))), Rejection::SignerIsNotSender),
        ("a replica's request", Message::Request(by(&keys(1))), Rejection::SignerIsNotSender),
        ("an unregistered client", Message::Request(stranger), Rejection::UnknownSender),
        ("a forged PRE-PREPARE", forged(pre_prepare), Rejection::BadSignature),
        ("a backup's PRE-PREPARE", proposed_by(&keys(1)), Rejection::NotPrimary),
        ("a client's PRE-PREPARE", proposed_by(&client_keys(0)), Rejection::NotPrimary),
        ("an outsider's PRE-PREPARE", proposed_by(&keys(7)), Rejection::UnknownSender),
        ("a forged NEW-VIEW", forged(new_view(1, v(), o())), Rejection::BadSignature),
        ("another replica's NEW-VIEW", new_view(3, v(), o()), Rejection::NotPrimary),
        ("an outsider's NEW-VIEW", new_view(7, v(), o()), Rejection::UnknownSender),
        ("a reply", Message::Reply(sign(1, reply(1, 0, 1, b"r"))), Rejection::NotForThisNode),
        ("the primary's PREPARE", Message::Prepare(sign(0, prepare(0, 1, D, 0))), Rejection::PrimaryPrepare),
    ]);
    cases
}

// --- what a message says in view 0 ---

fn contents(net: &Net) -> Vec<Case> {
    let (a, b) = (net.put(0, 2, "a", "2"), net.put(1, 6, "b", "2"));
    let one = batch([a.clone()]);
    let named = |digest, n, batch: Batch<Ed25519>| {
        let content = PrePrepare { view: View(0), n: SeqNo(n), digest };
        Message::PrePrepare(sign(0, content), Arc::new(batch))
    };
    let bad_signature = Signed { signature: Signature([9; 64]), ..a.clone() };
    let misattributed = Signed { signer: Principal::Client(ClientId(1)), ..a.clone() };
    let stranger = Request { client: ClientId(CLIENTS), ..a.content.clone() };
    let stranger = Signed::new(stranger, &client_keys(CLIENTS));
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
fn slot(net: &Net, what: &'static str, view: u64, n: u64, reason: Rejection) -> Vec<Case> {
    let digest = batch([net.put(0, 9, "a", "9")]).digest();
    vec![
        (what, proposal(view, n, batch([net.put(0, 9, "a", "9")])), reason),
        (what, Message::Prepare(sign(3, prepare(view, n, digest, 3))), reason),
        (what, Message::Commit(sign(3, commit(view, n, digest, 3))), reason),
    ]
}

fn slots_of_view_0(net: &Net) -> Vec<Case> {
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

fn slots_of_view_1(net: &Net) -> Vec<Case> {
    let stale = net.replicas[AT].durable().stable.clone().expect("a checkpoint is stable");
    let entered = net.replicas[AT].durable().new_view.clone().expect("view 1 was entered");
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

fn slots_of_the_view_left(net: &Net) -> Vec<Case> {
    let entered = net.replicas[AT].durable().new_view.clone().expect("view 1 was entered");
    let mut cases = slot(net, "the view left", 1, 6, Rejection::LeavingView);
    cases.push(("the view left", Message::NewView(entered), Rejection::WrongView));
    cases
}

// --- certificates ---

fn stable_certificates() -> Vec<Case> {
    let reason = Rejection::BadStableCertificate;
    let altered = |change: fn(&mut StableCertificate<Ed25519>)| {
        let mut certificate = stable(2, D, &[0, 1, 3]);
        change(&mut certificate);
        certificate
    };
    let certificates = [
        ("too few voters", stable(2, D, &[0, 1])),
        ("a voter twice", stable(2, D, &[0, 1, 1])),
        ("a voter twice beside a quorum", stable(2, D, &[0, 1, 3, 3])),
        ("an outsider", stable(2, D, &[0, 1, 7])),
        ("an outsider beside a quorum", stable(2, D, &[0, 1, 3, 7])),
        ("between checkpoints", stable(3, D, &[0, 1, 3])),
        ("the initial state", stable(0, D, &[0, 1, 3])),
        ("no votes", stable(2, D, &[])),
        ("another digest", altered(|c| c.digest = Digest::NULL)),
        ("another number", altered(|c| c.n = SeqNo(4))),
        ("a forged vote", altered(|c| c.proof.votes[0].1.0[0] ^= 1)),
        ("a vote under another name", altered(|c| c.proof.votes[0].0 = ReplicaId(2))),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (what, certificate) in certificates {
        let content = ViewChange {
            n: certificate.n,
            stable: Some(certificate.clone()),
            ..view_change(1, 1, Vec::new())
        };
        cases.push((what, Message::Stable(certificate), reason));
        cases.push((what, Message::ViewChange(Arc::new(sign(1, content))), reason));
    }
    let none = ViewChange { n: SeqNo(2), ..view_change(1, 1, vec![]) };
    let other =
        ViewChange { n: SeqNo(4), stable: Some(stable(2, D, &[0, 1, 3])), ..view_change(1, 1, vec![]) };
    cases.push(("no proof of n", Message::ViewChange(Arc::new(sign(1, none))), reason));
    cases.push(("a proof of another n", Message::ViewChange(Arc::new(sign(1, other))), reason));
    cases
}

fn prepared_certificates() -> Vec<Case> {
    let altered = |change: fn(&mut PreparedCertificate<Ed25519>)| {
        let mut certificate = prepared(0, 1, D, &[1, 3]);
        change(&mut certificate);
        vec![certificate]
    };
    let good = |n| prepared(0, n, D, &[1, 3]);
    let lists = [
        ("too few voters", vec![prepared(0, 1, D, &[1])]),
        ("a voter twice", vec![prepared(0, 1, D, &[1, 1])]),
        ("a voter twice beside a quorum", vec![prepared(0, 1, D, &[1, 3, 3])]),
        ("the primary among the voters", vec![prepared(0, 1, D, &[0, 1])]),
        ("the primary beside a quorum", vec![prepared(0, 1, D, &[0, 1, 3])]),
        ("an outsider", vec![prepared(0, 1, D, &[1, 7])]),
        ("an outsider beside a quorum", vec![prepared(0, 1, D, &[1, 3, 7])]),
        ("no votes", vec![prepared(0, 1, D, &[])]),
        ("another digest", altered(|c| c.digest = Digest::NULL)),
        ("another view", altered(|c| c.view = View(1))),
        ("another number", altered(|c| c.n = SeqNo(2))),
        ("no PRE-PREPARE", altered(|c| c.proof.proposal = None)),
        ("a forged PRE-PREPARE", altered(|c| c.proof.proposal = Some(Signature([9; 64])))),
        ("a backup's PRE-PREPARE", altered(|c| c.proof.proposal = Some(c.proof.votes[0].1))),
        ("a forged vote", altered(|c| c.proof.votes[0].1.0[0] ^= 1)),
        ("the view changed to", vec![prepared(2, 1, D, &[1, 3])]),
        ("a later view", vec![prepared(6, 1, D, &[1, 3])]),
        ("not above n", vec![good(0)]),
        ("above the window", vec![good(5)]),
        ("one number twice", vec![good(1), good(1)]),
        ("not ascending", vec![good(2), good(1)]),
        ("a good and a bad one", vec![good(1), prepared(0, 2, D, &[1])]),
    ];
    let case = |(what, list)| {
        let message = Message::ViewChange(Arc::new(sign(1, view_change(2, 1, list))));
        (what, message, Rejection::BadPreparedCertificate)
    };
    lists.into_iter().map(case).collect()
}

// --- NEW-VIEW ---

fn new_views() -> Vec<Case> {
    let set = |change: fn(&mut Vec<Arc<Change>>)| {
        let mut list = v();
        change(&mut list);
        new_view(1, list, o())
    };
    let plan = |change: fn(&mut Vec<Signed<PrePrepare, Ed25519>>)| {
        let mut list = o();
        change(&mut list);
        new_view(1, v(), list)
    };
    let entry = |signer, view, n, digest| sign(signer, PrePrepare { view: View(view), n: SeqNo(n), digest });
    let bad_change = |i, content| Arc::new(sign(i, content));
    let with = |change| {
        let mut list = v();
        list[2] = change;
        new_view(1, list, o())
    };
    let with_entry = |entry| {
        let mut list = o();
        list[1] = entry;
        new_view(1, v(), list)
    };
    let mut forged_change = Change::clone(&v()[2]);
    forged_change.signature.0[0] ^= 1;
    let mut forged_entry = o()[1].clone();
    forged_entry.signature.0[0] ^= 1;
    let bad = Rejection::BadViewChangeSet;
    let bad_o = Rejection::BadNewViewO;
    vec![
        ("two VIEW-CHANGEs", set(|v| v.truncate(2)), bad),
        ("none", set(Vec::clear), bad),
        ("one sender twice", set(|v| v[2] = v[1].clone()), bad),
        ("one sender twice beside a quorum", set(|v| v.push(v[1].clone())), bad),
        ("five of four", set(|v| v.extend(v.clone())), bad),
        ("for another view", with(bad_change(3, view_change(2, 3, vec![]))), bad),
        ("for the view before", with(bad_change(3, view_change(0, 3, vec![]))), bad),
        ("a bad certificate", with(bad_change(3, view_change(1, 3, vec![prepared(0, 2, D, &[1])]))), bad),
        ("an outsider's VIEW-CHANGE", with(bad_change(7, view_change(1, 7, vec![]))), bad),
        ("another's name", with(bad_change(0, view_change(1, 3, vec![]))), bad),
        ("a forged VIEW-CHANGE", with(Arc::new(forged_change)), bad),
        ("an empty O", plan(Vec::clear), bad_o),
        ("an O without its first entry", plan(|o| o.retain(|m| m.content.n > SeqNo(1))), bad_o),
        ("an O without its last entry", plan(|o| o.truncate(1)), bad_o),
        ("an O that is not ascending", plan(|o| o.swap(0, 1)), bad_o),
        ("an entry twice", plan(|o| o.push(o[1].clone())), bad_o),
        ("another digest in O", with_entry(entry(1, 1, 2, Digest::NULL)), bad_o),
        ("another number in O", with_entry(entry(1, 1, 3, D)), bad_o),
        ("another view in O", with_entry(entry(1, 0, 2, D)), bad_o),
        ("an entry of another replica", with_entry(entry(0, 1, 2, D)), Rejection::NotPrimary),
        ("an entry of an outsider", with_entry(entry(7, 1, 2, D)), Rejection::UnknownSender),
        ("a forged entry", with_entry(forged_entry), Rejection::BadSignature),
    ]
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
    let own = one_of_each_by(1, &keys(1));
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
        ("too much", vec![wire::VERSION; wire::MAX_MESSAGE_BYTES + 1], Rejection::Oversize),
    ]
}

#[test]
fn bytes_that_are_no_message_never_reach_a_replica() {
    for (what, bytes, expected) in undecodable() {
        assert_eq!(wire::decode::<Ed25519>(&bytes).err(), Some(expected), "{what}");
    }
}

// --- at a client ---

fn client_setup() -> ClientSetup<Ed25519, Pbft> {
    ClientSetup {
        id: ClientId(0),
        cluster: Cluster::new(4, 1),
        keys: Arc::new(client_keys_of_four()),
        rules: Pbft,
    }
}

fn client_keys_of_four() -> KeyRing {
    KeyRing::insecure(SEED, 4, CLIENTS).1.swap_remove(0)
}

/// A client that waits for the answer to its request with timestamp 1.
fn waiting(setup: &ClientSetup<Ed25519, Pbft>) -> Client<Ed25519> {
    let mut client = Client::new(ClientDurable::default());
    let operation = Bytes::from(&b"op"[..]);
    let invoke = ClientEvent::Invoke { operation, read_only: false, clock: Timestamp(0) };
    client.step(setup, invoke, &mut Vec::new());
    client
}

/// Why the client drops the message, if it does; then nothing has changed and nothing else happens.
fn dropped_by(
    setup: &ClientSetup<Ed25519, Pbft>,
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

fn at_a_client() -> Vec<Case> {
    let answer = |i, client, timestamp| Message::Reply(sign(i, reply(i, client, timestamp, b"r")));
    let by = |ring: &KeyRing| Message::Reply(Signed::new(reply(1, 0, 1, b"r"), ring));
    vec![
        ("an outsider's reply", answer(7, 0, 1), Rejection::UnknownSender),
        ("a client's reply", by(&client_keys(1)), Rejection::UnknownSender),
        ("another replica's name", by(&keys(3)), Rejection::SignerIsNotSender),
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
