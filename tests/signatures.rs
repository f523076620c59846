//! Which signatures are valid is the same wherever a message is met: alone, in a batch, with a proposal, again.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod support;

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use pbft::crypto::ed25519::{Ed25519, KeyRing, PublicKeys, Signature};
use pbft::crypto::{Content, Crypto, Signed};
use pbft::message::{Batch, Commit, Message, PrePrepare, Reply, Request};
use pbft::parameters::Parameters;
use pbft::rejection::Rejection;
use pbft::replica::verify::{verify, verify_knowing, verify_requests};
use pbft::replica::{Destination, Effect, Effects, Event, Replica, Setup};
use pbft::types::{Bytes, ClientId, Cluster, Digest, Principal, ReplicaId, SeqNo, Timestamp, View};
use sha2::{Digest as _, Sha512};
use std::collections::BTreeMap;
use std::sync::Arc;
use support::Real;

const DOMAIN: Digest = Digest([3; 32]);
const CLIENTS: u32 = 70;

fn secret(who: Principal) -> [u8; 32] {
    Ed25519::digest(&postcard::to_stdvec(&who).expect("it can be written")).0
}

fn everybody() -> Vec<Principal> {
    let replicas = (0..4).map(|id| Principal::Replica(ReplicaId(id)));
    replicas.chain((0..CLIENTS).map(|id| Principal::Client(ClientId(id)))).collect()
}

fn ring(who: Principal) -> KeyRing {
    let public: BTreeMap<_, _> =
        everybody().into_iter().map(|who| (who, KeyRing::public_key(&secret(who)))).collect();
    KeyRing::among(DOMAIN, who, &secret(who), PublicKeys::new(&public).expect("keys")).expect("a key")
}

fn setup(id: u16) -> Setup<Real> {
    Setup {
        id: ReplicaId(id),
        cluster: Cluster::new(4, 1),
        parameters: Parameters::default(),
        keys: Arc::new(ring(Principal::Replica(ReplicaId(id)))),
        clients: CLIENTS,
        rules: Default::default(),
        genesis: Default::default(),
    }
}

fn content(client: u32, timestamp: u64) -> Request {
    let operation = pbft::kv::Operation::Get { key: Bytes::from(&b"k"[..]) }.to_bytes();
    Request { operation, timestamp: Timestamp(timestamp), client: ClientId(client), read_only: false }
}

fn request(client: u32, timestamp: u64) -> Signed<Request, Ed25519> {
    Signed::new(content(client, timestamp), &ring(Principal::Client(ClientId(client))))
}

/// The client's signature whose R is moved by a point, made with its secret key.
fn crafted(client: u32, timestamp: u64, moved: EdwardsPoint) -> Signed<Request, Ed25519> {
    let (who, content) = (Principal::Client(ClientId(client)), content(client, timestamp));
    let hash = Sha512::digest(secret(who));
    let mut low: [u8; 32] = hash[..32].try_into().expect("half");
    low[0] &= 248;
    low[31] = (low[31] & 63) | 64;
    let (a, nonce) = (Scalar::from_bytes_mod_order(low), Scalar::from(timestamp + 7));
    let r = (EdwardsPoint::mul_base(&nonce) + moved).compress().to_bytes();
    let hash = Sha512::new().chain_update(r).chain_update(KeyRing::public_key(&secret(who)));
    let hash = hash.chain_update(DOMAIN.0).chain_update(content.to_be_signed());
    let s = nonce + Scalar::from_bytes_mod_order_wide(&hash.finalize().into()) * a;
    let mut signature = Signature([0; 64]);
    signature.0[..32].copy_from_slice(&r);
    signature.0[32..].copy_from_slice(s.as_bytes());
    Signed { content, signer: who, signature }
}

/// What each way by which a request reaches a replica says of it, alone or with so many good ones.
fn judged(setup: &Setup<Real>, one: &Signed<Request, Ed25519>) -> Vec<bool> {
    let mut found = vec![
        one.signature_is_valid(&setup.keys),
        setup.membership().check(one).is_ok(),
        verify(setup, Message::Request(one.clone())).is_ok(),
        Signed::all_valid(&[one], &setup.keys),
    ];
    let primary = ring(Principal::Replica(ReplicaId(0)));
    for others in [0, 1, 63] {
        for first in [true, false] {
            let mut requests: Vec<_> = (1..=others).map(|client| request(client, 1)).collect();
            requests.insert(if first { 0 } else { requests.len() }, one.clone());
            let known_others: Vec<_> = requests.iter().filter(|other| *other != one).cloned().collect();
            let batch = Arc::new(Batch { requests });
            let proposal = PrePrepare { view: View(0), n: SeqNo(1), digest: batch.digest() };
            let proposal = Message::PrePrepare(Signed::new(proposal, &primary), batch.clone());
            let all: Vec<_> = batch.requests.iter().collect();
            found.push(Signed::all_valid(&all, &setup.keys));
            found.push(verify(setup, Message::Batch(batch.clone())).is_ok());
            found.push(verify(setup, proposal.clone()).is_ok());
            found.push(verify_knowing(setup, proposal, &|request| known_others.contains(request)).is_ok());
        }
    }
    found
}

#[test]
fn a_request_that_one_way_takes_no_other_way_refuses() {
    let setup = setup(1);
    for moved in EIGHT_TORSION {
        let one = crafted(0, 9, moved);
        assert!(judged(&setup, &one).iter().all(|&valid| valid), "{one:?}");
        // Strict verification knows one of them only: the rule is another, and not mixed in anywhere.
        let strictly = Ed25519::verify(&setup.keys, one.signer, &one.content.to_be_signed(), &one.signature);
        assert_eq!(strictly, moved == EIGHT_TORSION[0]);
        let mut bad = one.clone();
        bad.content.timestamp = Timestamp(10);
        assert!(judged(&setup, &bad).iter().all(|&valid| !valid));
        let mut bad = one;
        bad.signature.0[50] ^= 1;
        assert!(judged(&setup, &bad).iter().all(|&valid| !valid));
    }
}

/// Of several at once the same is found as of each, in its place.
#[test]
fn several_requests_at_once_are_judged_as_one_by_one() {
    let setup = setup(1);
    let good =
        |client| if client % 2 == 0 { request(client, 1) } else { crafted(client, 1, EIGHT_TORSION[3]) };
    let mut oversize = content(8, 1);
    oversize.operation = vec![0; setup.parameters.max_batch_bytes + 1].into();
    let oversize = Signed::new(oversize, &ring(Principal::Client(ClientId(8))));
    let mut forged = request(9, 1);
    forged.signature.0[3] ^= 1;
    let mut anothers = request(10, 1);
    anothers.signer = Principal::Client(ClientId(11));
    let mut unknown = request(12, 1);
    (unknown.content.client, unknown.signer) = (ClientId(CLIENTS), Principal::Client(ClientId(CLIENTS)));
    let all: Vec<_> = (0..8).map(good).collect();
    for bad in
        [vec![], vec![oversize.clone()], vec![forged.clone()], vec![oversize, forged, anothers, unknown]]
    {
        for count in [0, 1, 2, 8] {
            let mut requests = all[..count].to_vec();
            for (at, bad) in bad.iter().enumerate() {
                requests.insert(at.min(requests.len()), bad.clone());
            }
            let each: Vec<_> =
                requests.iter().map(|request| verify(&setup, Message::Request(request.clone()))).collect();
            assert_eq!(verify_requests(&setup, requests), each);
        }
    }
}

/// Two requests with other signatures are one request: nothing is told apart by a signature.
#[test]
fn batches_of_the_same_requests_have_one_digest_whatever_their_signatures() {
    let (one, other) = (crafted(0, 9, EIGHT_TORSION[1]), request(0, 9));
    assert_ne!(one.signature, other.signature);
    let digest = |request: &Signed<Request, Ed25519>| Batch { requests: vec![request.clone()] }.digest();
    assert_eq!(digest(&one), digest(&other));
}

/// Votes stay under the strict rule.
#[test]
fn a_vote_with_a_commitment_that_was_moved_is_refused() {
    let setup = setup(1);
    let vote = Commit { view: View(0), n: SeqNo(1), digest: DOMAIN, replica: ReplicaId(2) };
    let good = Signed::<_, Ed25519>::new(vote, &ring(Principal::Replica(ReplicaId(2))));
    assert!(verify(&setup, Message::Commit(good.clone())).is_ok());
    let who = Principal::Replica(ReplicaId(2));
    let hash = Sha512::digest(secret(who));
    let mut low: [u8; 32] = hash[..32].try_into().expect("half");
    low[0] &= 248;
    low[31] = (low[31] & 63) | 64;
    for (number, moved) in EIGHT_TORSION.into_iter().enumerate() {
        let nonce = Scalar::from(5_u8);
        let r = (EdwardsPoint::mul_base(&nonce) + moved).compress().to_bytes();
        let hash = Sha512::new().chain_update(r).chain_update(KeyRing::public_key(&secret(who)));
        let hash = hash.chain_update(DOMAIN.0).chain_update(vote.to_be_signed());
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let s = nonce + k * Scalar::from_bytes_mod_order(low);
        let mut signature = Signature([0; 64]);
        signature.0[..32].copy_from_slice(&r);
        signature.0[32..].copy_from_slice(s.as_bytes());
        let found = verify(&setup, Message::Commit(Signed { signature, ..good.clone() }));
        assert_eq!(found.is_ok(), number == 0);
        assert_eq!(found.err(), (number > 0).then_some(Rejection::BadSignature));
    }
}

// --- replies ---

/// The replies of replica 1 to a batch of so many requests.
fn replies(count: u32) -> Vec<Signed<Reply, Ed25519>> {
    let one = setup(1);
    let mut effects = Effects::new();
    let mut replica = Replica::start(&one, None, &mut effects).expect("a fresh start");
    let batch = Arc::new(Batch { requests: (0..count).map(|client| request(client, 1)).collect() });
    let (view, n, digest) = (View(0), SeqNo(1), batch.digest());
    let by = |id| setup(id);
    let mut messages = vec![Message::PrePrepare(by(0).sign(PrePrepare { view, n, digest }), batch)];
    let prepare = |replica| pbft::message::Prepare { view, n, digest, replica };
    messages.extend([2, 3].map(|id| Message::Prepare(by(id).sign(prepare(ReplicaId(id))))));
    let commit = |replica| Commit { view, n, digest, replica };
    messages.extend([0, 2, 3].map(|id| Message::Commit(by(id).sign(commit(ReplicaId(id))))));
    for message in messages {
        let message = verify(&one, message).expect("it is valid");
        replica.step(&one, Event::Message(message), &mut effects);
    }
    let reply = |effect: Effect<Ed25519>| match effect {
        Effect::Send(Destination::Client(client), Message::Reply(reply))
            if reply.content.client == client =>
        {
            Some(reply)
        }
        _ => None,
    };
    effects.into_iter().filter_map(reply).collect()
}

#[test]
fn the_replies_of_a_batch_bear_one_signature_and_each_convinces_third_parties() {
    for count in [1, 2, 3, 64] {
        let replies = replies(count);
        assert_eq!(replies.len(), count as usize);
        let depth = count.next_power_of_two().trailing_zeros() as usize;
        let third = ring(Principal::Client(ClientId(69)));
        for reply in &replies {
            assert_eq!(reply.signature.signature, replies[0].signature.signature);
            assert_eq!(reply.signature.path.0.len(), depth);
            assert!(reply.signature_is_valid(&third));
        }
    }
}

#[test]
fn a_reply_with_the_path_or_the_result_of_another_is_refused() {
    let (replies, third) = (replies(5), ring(Principal::Client(ClientId(69))));
    for (at, reply) in replies.iter().enumerate() {
        for (by, other) in replies.iter().enumerate() {
            let mixed = Signed { signature: other.signature.clone(), ..reply.clone() };
            assert_eq!(mixed.signature_is_valid(&third), at == by);
        }
        // The root has been verified, and that helps nobody who says something else.
        assert!(reply.signature_is_valid(&third));
        let content = Reply { result: Bytes::from(&b"forged"[..]), ..reply.content.clone() };
        assert!(!Signed { content, ..reply.clone() }.signature_is_valid(&third));
        let signer = Principal::Replica(ReplicaId(2));
        assert!(!Signed { signer, ..reply.clone() }.signature_is_valid(&third));
        let mut bare = reply.clone();
        bare.signature.path.0.clear();
        assert!(!bare.signature_is_valid(&third));
    }
}
