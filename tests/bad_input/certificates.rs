//! Certificates that prove nothing, and NEW-VIEWs that do not follow from their VIEW-CHANGEs.

use crate::Case;
use crate::messages::*;
use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, Signature};
use pbft::message::{Message, PrePrepare, ViewChange};
use pbft::rejection::Rejection;
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use std::sync::Arc;

pub fn stable_certificates() -> Vec<Case> {
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

pub fn prepared_certificates() -> Vec<Case> {
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

pub fn new_views() -> Vec<Case> {
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
