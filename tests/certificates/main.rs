//! A certificate is believed for its claim alone: whichever replicas signed it, it verifies, and who receives
//! it does the same. No vote is taken out of it to be counted, and it proves nothing else.
//!
//! This is what allows the models to replace the votes in a certificate by the fact that they were valid
//! (`models/crypto.rs`). The claims are shown for ed25519 and for the models' scheme.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod replicas;
#[path = "../support/setups.rs"]
mod setups;
mod unproved;

use pbft::certificate::{PreparedCertificate, StableCertificate};
use pbft::crypto::Evidence;
use pbft::crypto::ed25519::Ed25519;
use pbft::message::{Commit, Message, NewView, PrePrepare};
use pbft::rejection::Rejection;
use pbft::replica::{Effect, Effects, Event, Expired, Fact, compute_o};
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use pbft_models::crypto::Symbolic;
use pbft_models::simulation::Scheme;
use replicas::{D, Member, Replicas, SignedViewChange};
use std::sync::Arc;
use unproved::Unproved;

/// The clusters looked at: n and f.
const SIZES: [(u16, u16); 2] = [(4, 1), (7, 2)];

/// What the certificates here claim to have prepared, above the stable checkpoint 2.
const PROPOSAL: PrePrepare = PrePrepare { view: View(0), n: SeqNo(3), digest: D };

/// A message with this prepared certificate in it.
fn with_prepared<C: Scheme>(replicas: &Replicas<C>, certificate: PreparedCertificate<C>) -> Message<C> {
    // View 9 is above the view of every certificate here.
    Message::ViewChange(replicas.view_change(2, 9, None, vec![certificate]))
}

// --- every choice of signers ---

fn every_choice_verifies<C: Scheme>() {
    for (n, f) in SIZES {
        let replicas = Replicas::<C>::new(n, f);
        let (prepared, stable) = (replicas.every_prepared(PROPOSAL), replicas.every_stable(2));
        // Q - 1 or more of the backups, Q or more of the replicas.
        assert_eq!((prepared.len(), stable.len()), if n == 4 { (3 + 1, 4 + 1) } else { (15 + 7, 21 + 8) });
        for certificate in prepared {
            assert_eq!(
                replicas.refusal(with_prepared(&replicas, certificate.clone())),
                None,
                "{certificate:?}"
            );
        }
        for certificate in stable {
            assert_eq!(replicas.refusal(Message::Stable(certificate.clone())), None, "{certificate:?}");
        }
    }
}

#[test]
fn whichever_backups_or_replicas_signed_a_certificate_it_verifies() {
    every_choice_verifies::<Ed25519>();
    every_choice_verifies::<Symbolic>();
}

// --- what the signers lead to ---

/// Certificates of one claim each, cycled through by the senders of VIEW-CHANGE.
struct Certificates<C: Scheme> {
    prepared: Vec<PreparedCertificate<C>>,
    stable: Vec<StableCertificate<C>>,
}

impl<C: Scheme> Certificates<C> {
    fn every_choice(replicas: &Replicas<C>) -> Self {
        Certificates { prepared: replicas.every_prepared(PROPOSAL), stable: replicas.every_stable(2) }
    }

    /// The same, beginning with other ones: the first VIEW-CHANGE holds the ones numbered `from`.
    fn rotated(&self, from: usize) -> Self {
        let (mut prepared, mut stable) = (self.prepared.clone(), self.stable.clone());
        prepared.rotate_left(from % self.prepared.len());
        stable.rotate_left(from % self.stable.len());
        Certificates { prepared, stable }
    }

    /// The first of each, for all senders.
    fn uniform(&self) -> Self {
        Certificates { prepared: self.prepared[..1].to_vec(), stable: self.stable[..1].to_vec() }
    }

    fn view_changes(&self, replicas: &Replicas<C>, senders: &[u16]) -> Vec<SignedViewChange<C>> {
        let (prepared, stable) = (self.prepared.iter().cycle(), self.stable.iter().cycle());
        let certificates = prepared.zip(stable).map(|(p, s)| (p.clone(), s.clone()));
        let signed = |(&by, (p, s))| replicas.view_change(by, 1, Some(s), vec![p]);
        senders.iter().zip(certificates).map(signed).collect()
    }
}

/// A replica after some messages, and all that came of them.
type End<C> = (Member<C>, Vec<Effect<C>>);

/// The primary of view 1 receives a quorum of VIEW-CHANGEs, its own included, and sends NEW-VIEW.
fn primary_after_view_changes<C: Scheme>(replicas: &Replicas<C>, certificates: &Certificates<C>) -> End<C> {
    let senders: Vec<u16> = (2..).take(replicas.cluster().quorum() - 1).collect();
    let (mut replica, mut effects) = (replicas.start(1), Vec::new());
    for view_change in certificates.view_changes(replicas, &senders) {
        effects.extend(replicas.deliver(&mut replica, 1, Message::ViewChange(view_change)));
    }
    let sent = effects.iter().any(|effect| matches!(effect, Effect::Send(_, Message::NewView(_))));
    assert!(sent && replica.view() == View(1));
    (replica, effects)
}

/// A backup receives NEW-VIEW for view 1.
fn backup_after_new_view<C: Scheme>(replicas: &Replicas<C>, certificates: &Certificates<C>) -> End<C> {
    let senders: Vec<u16> = (0..).take(replicas.cluster().quorum()).collect();
    let view_changes = certificates.view_changes(replicas, &senders);
    let (view, setup) = (View(1), &replicas.setups[1]);
    let plan = compute_o(&view_changes, &setup.rules).entries;
    assert_eq!(plan, [(PROPOSAL.n, D)]);
    let pre_prepares = plan.iter().map(|&(n, digest)| setup.sign(PrePrepare { view, n, digest })).collect();
    let new_view = setup.sign(NewView { view, view_changes: view_changes.into(), pre_prepares });
    let mut replica = replicas.start(2);
    let effects = replicas.deliver(&mut replica, 2, Message::NewView(Arc::new(new_view)));
    assert_eq!(replica.view(), view);
    (replica, effects)
}

/// A replica learns that a checkpoint it has not reached is stable.
fn replica_after_stable<C: Scheme>(replicas: &Replicas<C>, certificates: &Certificates<C>) -> End<C> {
    let mut replica = replicas.start(3);
    let effects = replicas.deliver(&mut replica, 3, Message::Stable(certificates.stable[0].clone()));
    assert_eq!(replica.durable().h(), SeqNo(2));
    (replica, effects)
}

/// Asserts that each scenario ends, by `same`, in the same way whichever replicas signed the certificates in
/// it: one choice for all senders, and another for each.
fn signers_make_no_difference<C: Scheme>(same: impl Fn(&End<C>, &End<C>)) {
    for (n, f) in SIZES {
        let replicas = Replicas::<C>::new(n, f);
        let every = Certificates::every_choice(&replicas);
        for scenario in [primary_after_view_changes, backup_after_new_view, replica_after_stable] {
            let first = scenario(&replicas, &every.uniform());
            for from in 0..every.prepared.len().max(every.stable.len()) {
                let rotated = every.rotated(from);
                same(&scenario(&replicas, &rotated), &first);
                same(&scenario(&replicas, &rotated.uniform()), &first);
            }
        }
    }
}

#[test]
fn who_signed_an_ed25519_certificate_shows_in_the_stored_proof_only() {
    signers_make_no_difference::<Ed25519>(|(replica, effects), (first, first_effects)| {
        let unproved = |list: &[Effect<Ed25519>]| list.iter().map(Unproved::unproved).collect::<Vec<_>>();
        assert_eq!(unproved(effects), unproved(first_effects));
        assert_eq!(replica.durable().unproved(), first.durable().unproved());
        assert_eq!((replica.service(), replica.clients()), (first.service(), first.clients()));
        assert_eq!(replica.transferring(), first.transferring());
    });
}

#[test]
fn who_signed_a_symbolic_certificate_shows_nowhere() {
    signers_make_no_difference::<Symbolic>(|end, first| assert_eq!(end, first));
}

// --- votes are not taken out ---

fn prepared_in<C: Scheme>(effects: &[Effect<C>]) -> bool {
    let commit = |effect: &Effect<C>| matches!(effect, Effect::Send(_, Message::Commit(_)));
    let fact = |effect: &Effect<C>| matches!(effect, Effect::Fact(Fact::Prepared { .. }));
    assert_eq!(effects.iter().any(commit), effects.iter().any(fact));
    effects.iter().any(fact)
}

/// What VIEW-CHANGE of replica 1 reports when it leaves its view.
fn reported<C: Scheme>(replicas: &Replicas<C>, mut replica: Member<C>) -> Vec<PreparedCertificate<C>> {
    let mut effects = Effects::new();
    replica.step(&replicas.setups[1], Event::Timeout(Expired::Progress), &mut effects);
    let sent = effects.sends().find_map(|(_, m)| if let Message::ViewChange(m) = m { Some(m) } else { None });
    sent.expect("VIEW-CHANGE is sent").content.prepared.clone()
}

/// Replica 1 lacks one message to be prepared, and gets a certificate with that message in it; then the
/// message.
fn nothing_is_taken_out<C: Scheme>() {
    for (n, f) in SIZES {
        let replicas = Replicas::<C>::new(n, f);
        let (proposal, pre_prepare) = replicas.pre_prepare(1);
        let needed = u16::try_from(replicas.cluster().quorum()).unwrap() - 1;
        let prepares: Vec<Message<C>> =
            (2..2 + needed).map(|by| Message::Prepare(replicas.prepare(by, proposal))).collect();
        let voters: Vec<u16> = (2..2 + needed).collect();
        let certificate = replicas.prepared(proposal, &voters);
        // Its own PREPARE follows from the PRE-PREPARE, so one of the others' is not needed.
        let prepares_missing = [std::slice::from_ref(&pre_prepare), &prepares[1..]].concat();
        let all_prepares = [prepares.clone(), vec![pre_prepare]].concat();
        for mut messages in [prepares_missing, all_prepares] {
            let last = messages.pop().expect("there are some");
            let mut replica = replicas.start(1);
            for message in messages {
                assert!(!prepared_in(&replicas.deliver(&mut replica, 1, message)));
            }
            let view_change =
                Message::ViewChange(replicas.view_change(3, 1, None, vec![certificate.clone()]));
            assert!(!prepared_in(&replicas.deliver(&mut replica, 1, view_change)), "n={n}");
            assert_eq!(reported(&replicas, replica.clone()), [], "n={n}");
            assert!(prepared_in(&replicas.deliver(&mut replica, 1, last)), "n={n}: nothing else was missing");
            assert_eq!(reported(&replicas, replica).len(), 1);
        }
    }
}

#[test]
fn a_message_that_is_seen_in_a_certificate_only_does_not_count() {
    nothing_is_taken_out::<Ed25519>();
    nothing_is_taken_out::<Symbolic>();
}

/// The new view carries over what prepared; PREPAREs of the old view do not prepare it again.
fn carried_over_is_not_prepared<C: Scheme>() {
    for (n, f) in SIZES {
        let replicas = Replicas::<C>::new(n, f);
        let every = Certificates::every_choice(&replicas);
        for scenario in [primary_after_view_changes, backup_after_new_view] {
            let (replica, effects) = scenario(&replicas, &every);
            assert!(!prepared_in(&effects));
            assert!(replica.durable().prepared.is_empty());
            assert!(replica.durable().log.contains_key(&(View(1), PROPOSAL.n)));
        }
    }
}

#[test]
fn what_a_new_view_carries_over_is_not_prepared_by_the_certificates_in_it() {
    carried_over_is_not_prepared::<Ed25519>();
    carried_over_is_not_prepared::<Symbolic>();
}

// --- a proof proves its claim only ---

fn a_proof_is_bound_to_its_claim<C: Scheme>() {
    for (n, f) in SIZES {
        let replicas = Replicas::<C>::new(n, f);
        for good in replicas.every_prepared(PROPOSAL) {
            // View n has the primary of view 0.
            let others = [
                PreparedCertificate { view: View(1), ..good.clone() },
                PreparedCertificate { view: View(u64::from(n)), ..good.clone() },
                PreparedCertificate { n: SeqNo(4), ..good.clone() },
                PreparedCertificate { digest: Digest::NULL, ..good.clone() },
            ];
            for other in others {
                let message = with_prepared(&replicas, other.clone());
                assert_eq!(replicas.refusal(message), Some(Rejection::BadPreparedCertificate), "{other:?}");
            }
            let stable = StableCertificate { n: SeqNo(4), digest: D, proof: good.proof };
            assert_eq!(replicas.refusal(Message::Stable(stable)), Some(Rejection::BadStableCertificate));
        }
        for good in replicas.every_stable(2) {
            let others = [
                StableCertificate { n: SeqNo(4), ..good.clone() },
                StableCertificate { digest: Digest::NULL, ..good.clone() },
            ];
            for other in others {
                let message = Message::Stable(other.clone());
                assert_eq!(replicas.refusal(message), Some(Rejection::BadStableCertificate), "{other:?}");
            }
            let prepared = PreparedCertificate { view: View(0), n: SeqNo(2), digest: D, proof: good.proof };
            let message = with_prepared(&replicas, prepared);
            assert_eq!(replicas.refusal(message), Some(Rejection::BadPreparedCertificate));
        }
    }
}

#[test]
fn a_proof_of_one_claim_proves_no_other() {
    a_proof_is_bound_to_its_claim::<Ed25519>();
    a_proof_is_bound_to_its_claim::<Symbolic>();
}

fn invalid_votes_prove_nothing<C: Scheme>() {
    let replicas = Replicas::<C>::new(4, 1);
    let good = replicas.votes(PROPOSAL, &[1, 2]);
    let with_vote = |vote| Evidence { votes: vec![good.votes[0].clone(), vote], ..good.clone() };
    let vote = |by, proposal| (ReplicaId(by), replicas.prepare(by, proposal).signature);
    let PrePrepare { view, n, digest } = PROPOSAL;
    let commit = replicas.setups[2].sign(Commit { view, n, digest, replica: ReplicaId(2) });
    let backups_proposal = Some(replicas.setups[1].sign(PROPOSAL).signature);
    for (what, votes) in [
        ("too few", replicas.votes(PROPOSAL, &[1])),
        ("one backup twice", replicas.votes(PROPOSAL, &[1, 1])),
        ("one backup twice beside enough", replicas.votes(PROPOSAL, &[1, 2, 2])),
        ("the primary's PREPARE", replicas.votes(PROPOSAL, &[0, 1])),
        ("an outsider", with_vote((ReplicaId(4), good.votes[1].1.clone()))),
        ("another's signature", with_vote((ReplicaId(3), good.votes[1].1.clone()))),
        ("a PREPARE of another view", with_vote(vote(2, PrePrepare { view: View(4), ..PROPOSAL }))),
        ("a PREPARE of another number", with_vote(vote(2, PrePrepare { n: SeqNo(4), ..PROPOSAL }))),
        ("a PREPARE of another digest", with_vote(vote(2, PrePrepare { digest: Digest::NULL, ..PROPOSAL }))),
        ("a COMMIT", with_vote((ReplicaId(2), commit.signature))),
        ("no PRE-PREPARE", Evidence { proposal: None, ..good.clone() }),
        ("a backup's PRE-PREPARE", Evidence { proposal: backups_proposal, ..good.clone() }),
    ] {
        let message = with_prepared(&replicas, replicas.seal(PROPOSAL, votes));
        assert_eq!(replicas.refusal(message), Some(Rejection::BadPreparedCertificate), "{what}");
    }
    let vote = |by, n, digest| (ReplicaId(by), replicas.checkpoint(by, n, digest));
    let two = [vote(0, 2, D), vote(1, 2, D)];
    for (what, third) in [
        ("too few", None),
        ("one replica twice", Some(vote(1, 2, D))),
        ("an outsider", Some((ReplicaId(4), replicas.checkpoint(2, 2, D)))),
        ("another's signature", Some((ReplicaId(3), replicas.checkpoint(2, 2, D)))),
        ("a CHECKPOINT of another number", Some(vote(2, 4, D))),
        ("a CHECKPOINT of another digest", Some(vote(2, 2, Digest::NULL))),
        ("a PREPARE", Some((ReplicaId(2), replicas.prepare(2, PROPOSAL).signature))),
    ] {
        let votes = two.iter().cloned().chain(third).collect();
        let message = Message::Stable(replicas.seal_stable(2, votes));
        assert_eq!(replicas.refusal(message), Some(Rejection::BadStableCertificate), "{what}");
    }
}

#[test]
fn a_proof_of_invalid_votes_proves_nothing() {
    invalid_votes_prove_nothing::<Ed25519>();
    invalid_votes_prove_nothing::<Symbolic>();
}
