//! The adversary of the worlds is complete: whatever a production validator accepts of what can be built from the
//! messages sent and the Byzantine replicas' keys is in its set, up to what no receiver's step depends on.
//!
//! Situations are taken from random walks of real replicas (`walk`). In each, messages are built by brute force
//! over all their fields (`parts`, `build`, `build_new_views`), exhaustively where they are few and at random where
//! they are many, from the seed that is printed. Each that `verify` accepts must be offered in its canonical form
//! (`form`); and where that is another message, real replicas in states they have been in must do the same with
//! both. Messages beyond the bounds of the world (a higher view or number) are counted and let pass.
//!
//! What requests say is a bound of a world too. The clients' are as signed; of what an outsider can ask for, or a
//! forger where signatures are not checked, one request stands for all; and where receivers believe the sender
//! named in a message, requests made up in a client's name are not part of the worlds.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod build;
mod build_new_views;
mod form;
mod parts;
mod report;
mod setting;
mod walk;

use form::NOBODYS;
use pbft::message::Message;
use pbft::replica::Setup;
use pbft::types::{Cluster, Digest, ReplicaId, SeqNo, View};
use pbft_models::crypto::Symbolic;
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{Modelled, WorldConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use report::Report;
use setting::Setting;
use std::sync::Arc;
use walk::walk;

/// Signatures of the models.
pub type C = Symbolic;
/// What is built.
pub type Msg = Message<C>;
/// A key, as the configuration of who holds it.
pub type Own = Arc<Setup<Modelled>>;

/// What walks and random choices follow from, if the environment variable `PBFT_SEED` names nothing else.
const SEED: u64 = 20;

fn seed() -> u64 {
    std::env::var("PBFT_SEED").map_or(SEED, |seed| seed.parse().expect("PBFT_SEED is a number"))
}

/// A world by its Byzantine replicas, highest view, highest number and, if there is a checkpoint at every number, the
/// length of the window.
type Shape = (&'static [u16], u64, u64, Option<u64>);

fn world((byzantine, max_view, max_seq, window): Shape, rules: Rulebook) -> WorldConfig {
    WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_view: View(max_view),
        max_seq: SeqNo(max_seq),
        checkpoint_interval: window.map(|_| 1),
        window,
        rules,
        ..WorldConfig::new(Cluster::new(4, 1), 2)
    }
}

/// Builds messages in one situation of a world; of the adversary's set only what is kept counts.
fn examine(setting: &Setting, number: u64, keep: &dyn Fn(&Msg) -> bool, report: &mut Report) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed().wrapping_mul(1 << 20) + number);
    // Every third is hardly under way.
    let steps = rng.random_range(0..if number % 3 == 2 { 12 } else { 90 });
    let situation = walk(setting, steps, &mut rng);
    report.examine(setting, &situation, keep, &mut rng);
}

/// Whether in some situation something is missing, or differs from its canonical form.
fn is_noticed(setting: &Setting, keep: &dyn Fn(&Msg) -> bool, what: fn(&Report) -> &[String]) -> bool {
    (0..60).any(|number| {
        let mut report = Report::default();
        examine(setting, number, keep, &mut report);
        !what(&report).is_empty()
    })
}

/// Nothing is missing and nothing differs.
fn assert_complete(shape: Shape, rules: Rulebook, situations: u64) -> Report {
    let setting = Setting::new(world(shape, rules), rules);
    let mut report = Report::default();
    (0..situations).for_each(|number| examine(&setting, number, &|_| true, &mut report));
    let what = format!("seed {}, {shape:?}, {}", seed(), rules.name());
    println!("{what}: {}", report.in_words());
    assert!(report.missing.is_empty(), "{what}: not offered: {}", report.missing[0]);
    assert!(report.differ.is_empty(), "{what}: not the same as its canonical form: {}", report.differ[0]);
    report
}

#[test]
fn whatever_the_papers_validator_accepts_is_offered() {
    for shape in [
        (&[0][..], 0, 1, None),
        (&[0], 1, 1, None),
        (&[1], 1, 1, None),
        (&[3], 2, 1, None),
        (&[2], 2, 1, None),
        (&[1], 1, 2, None),
        (&[1], 1, 2, Some(2)),
        (&[2], 2, 2, Some(2)),
        (&[2], 2, 2, Some(1)),
        (&[0, 1], 1, 1, Some(2)),
    ] {
        let report = assert_complete(shape, Rulebook::default(), 9);
        assert!(report.literal > 100 && report.compared > 200, "{shape:?}: hardly anything is accepted");
        let (max_view, certified) = (shape.1, report.certified);
        assert!(certified[0] > 0 && (max_view == 0 || certified[1] > 0), "{shape:?}: nothing prepares");
    }
    // With nobody Byzantine batches and what can be put together of the others' votes remain.
    assert_complete((&[], 1, 2, Some(2)), Rulebook::default(), 4);
}

/// The rules that decide what a validator accepts or whose votes count.
const LOST: [Mutant; 28] = [
    Mutant::Outsiders,
    Mutant::RepeatedVoters,
    Mutant::SeveralPerN,
    Mutant::CertificateAnywhere,
    Mutant::CertificateOfAnyView,
    Mutant::RepeatedViewChanges,
    Mutant::ViewChangesOfAnyView,
    Mutant::PrepareQuorum,
    Mutant::QuorumOfTwo,
    Mutant::PrimaryPrepares,
    Mutant::VoteAgain,
    Mutant::AnyDigest,
    Mutant::AnybodyProposes,
    Mutant::ActInOldView,
    Mutant::ForgedRequest,
    Mutant::AnyBatch,
    Mutant::NoHighWaterMark,
    Mutant::NoLowWaterMark,
    Mutant::SenderInPayload,
    Mutant::UnverifiedCertificates,
    Mutant::CertificateQuorum,
    Mutant::PrePreparedInP,
    Mutant::ViewChangeQuorum,
    Mutant::LowestViewWins,
    Mutant::BelieveO,
    Mutant::UnprovedCheckpoint,
    Mutant::LowestMinS,
    Mutant::CheckpointQuorum,
];

#[test]
fn whatever_a_mutants_validator_accepts_is_offered() {
    for mutant in LOST {
        for shape in [(&[1][..], 1, 1, None), (&[2], 2, 2, Some(1)), (&[0, 1], 1, 1, Some(2))] {
            assert_complete(shape, Rulebook::without(mutant), 3);
        }
    }
}

// --- that this can fail ---

#[test]
fn an_adversary_that_knows_of_no_liberty_is_found_incomplete() {
    for (mutant, shape) in [
        (Mutant::Outsiders, (&[1][..], 1, 1, None)),
        (Mutant::RepeatedVoters, (&[1], 1, 1, None)),
        (Mutant::SeveralPerN, (&[1], 1, 1, None)),
        (Mutant::CertificateAnywhere, (&[1], 1, 2, Some(1))),
        (Mutant::CertificateOfAnyView, (&[1], 1, 1, None)),
        (Mutant::RepeatedViewChanges, (&[1], 1, 1, None)),
        (Mutant::ViewChangesOfAnyView, (&[2], 2, 1, None)),
        (Mutant::AnybodyProposes, (&[1], 1, 1, None)),
        (Mutant::AnyBatch, (&[1], 1, 1, None)),
        (Mutant::SenderInPayload, (&[1], 1, 1, None)),
        (Mutant::UnverifiedCertificates, (&[1], 1, 1, None)),
        (Mutant::BelieveO, (&[1], 1, 1, None)),
        (Mutant::UnprovedCheckpoint, (&[1], 1, 1, Some(2))),
    ] {
        let setting = Setting::new(world(shape, Rulebook::without(mutant)), Rulebook::default());
        assert!(is_noticed(&setting, &|_| true, |report| &report.missing), "{mutant:?}");
    }
}

#[test]
fn a_class_of_messages_taken_away_is_missed() {
    type Class = (&'static str, fn(&Msg) -> bool);
    let classes: [Class; 10] = [
        ("null PREPAREs", |m| matches!(m, Message::Prepare(m) if m.content.digest == Digest::NULL)),
        ("COMMITs for nothing", |m| matches!(m, Message::Commit(m) if m.content.digest == NOBODYS)),
        ("PRE-PREPAREs", |m| matches!(m, Message::PrePrepare(..))),
        ("CHECKPOINTs for nothing", |m| matches!(m, Message::Checkpoint(m) if m.content.digest == NOBODYS)),
        ("certificates of checkpoints", |m| matches!(m, Message::Stable(_))),
        ("VIEW-CHANGEs with C", |m| matches!(m, Message::ViewChange(m) if m.content.stable.is_some())),
        ("VIEW-CHANGEs with P", |m| matches!(m, Message::ViewChange(m) if !m.content.prepared.is_empty())),
        ("VIEW-CHANGEs without", |m| matches!(m, Message::ViewChange(m) if m.content.prepared.is_empty())),
        ("NEW-VIEWs with O", |m| matches!(m, Message::NewView(m) if !m.content.pre_prepares.is_empty())),
        ("NEW-VIEWs without", |m| matches!(m, Message::NewView(m) if m.content.pre_prepares.is_empty())),
    ];
    let setting = Setting::new(world((&[1], 1, 2, Some(2)), Rulebook::default()), Rulebook::default());
    for (name, class) in classes {
        assert!(is_noticed(&setting, &|message| !class(message), |report| &report.missing), "{name}");
    }
}

#[test]
fn a_canonical_form_that_leaves_out_too_much_is_noticed() {
    let rules = Rulebook::default();
    let setting = Setting { blind_to_o: true, ..Setting::new(world((&[1], 1, 1, None), rules), rules) };
    assert!(is_noticed(&setting, &|_| true, |report| &report.differ));
}
