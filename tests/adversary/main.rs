//! The adversary of the worlds is complete: whatever a production validator accepts of what can be built from
//! the messages sent and the Byzantine replicas' keys is in its set, up to what no receiver's step depends
//! on.
//!
//! Situations are taken from random walks of real replicas (`walk`). In each, messages are built by brute
//! force over all their fields (`parts`, `build`, `build_new_views`), exhaustively where they are few and at
//! random where they are many, from the seed that is printed. Each that `verify` accepts must be offered in
//! its canonical form (`form`); and where that is another message, real replicas in states they have been in
//! must do the same with both. Messages beyond the bounds of the world (a higher view or number) are counted
//! and let pass.
//!
//! What requests say is a bound of a world too. The clients' are as signed; of what an outsider can ask for,
//! or a forger where signatures are not checked, one request stands for all; and where receivers believe the
//! sender named in a message, requests made up in a client's name are not part of the worlds.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

mod build;
mod build_new_views;
mod form;
mod parts;
mod report;
mod setting;
mod walk;

use form::{LOWEST, NOBODYS};
use pbft::client::Client;
use pbft::crypto::{Content, Signed};
use pbft::message::{Message, NewView, Reply};
use pbft::replica::{Setup, Subject, compute_o};
use pbft::types::{Bytes, ClientId, Cluster, Digest, ReplicaId, SeqNo, Timestamp, View};
use pbft_models::crypto::Symbolic;
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{Modelled, WorldConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use report::Report;
use setting::Setting;
use std::collections::BTreeSet;
use std::sync::Arc;
use walk::{undisturbed, walk};

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

/// A world by its numbers of replicas and of faults, its Byzantine replicas, highest view, highest number
/// and, if there is a checkpoint at every number, the length of the window.
type Shape = (u16, u16, &'static [u16], u64, u64, Option<u64>);

fn world((n, f, byzantine, max_view, max_seq, window): Shape, rules: Rulebook) -> WorldConfig {
    WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_view: View(max_view),
        max_seq: SeqNo(max_seq),
        checkpoint_interval: window.map(|_| 1),
        window,
        rules,
        ..WorldConfig::new(Cluster::new(n, f), 2)
    }
}

/// Builds messages in one situation of a world; of the adversary's set only what is kept counts.
fn examine(setting: &Setting, number: u64, keep: &dyn Fn(&Msg) -> bool, report: &mut Report) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed().wrapping_mul(1 << 20) + number);
    // Every third is hardly under way.
    let n = setting.config.cluster.n();
    let steps = rng.random_range(0..if number % 3 == 2 { 12 } else { 90 * n * n / 16 });
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
fn assert_complete(config: WorldConfig, situations: u64) -> Report {
    let what = format!("seed {}, {}, {}", seed(), config.name(), config.rules.name());
    let rules = config.rules;
    let setting = Setting::new(config, rules);
    let mut report = Report::default();
    (0..situations).for_each(|number| examine(&setting, number, &|_| true, &mut report));
    println!("{what}: {}", report.in_words());
    assert!(report.missing.is_empty(), "{what}: not offered: {}", report.missing[0]);
    assert!(report.differ.is_empty(), "{what}: not the same as its canonical form: {}", report.differ[0]);
    report
}

#[test]
fn whatever_the_papers_validator_accepts_is_offered() {
    for shape in [
        (4, 1, &[0][..], 0, 1, None),
        (4, 1, &[0], 1, 1, None),
        (4, 1, &[1], 1, 1, None),
        (4, 1, &[3], 2, 1, None),
        (4, 1, &[2], 2, 1, None),
        (4, 1, &[1], 1, 2, None),
        (4, 1, &[1], 1, 2, Some(2)),
        (4, 1, &[2], 2, 2, Some(2)),
        (4, 1, &[2], 2, 2, Some(1)),
        (4, 1, &[0, 1], 1, 1, Some(2)),
    ] {
        let report = assert_complete(world(shape, Rulebook::default()), 9);
        assert!(report.literal > 100 && report.compared > 200, "{shape:?}: hardly anything is accepted");
        let (max_view, certified) = (shape.3, report.certified);
        assert!(certified[0] > 0 && (max_view == 0 || certified[1] > 0), "{shape:?}: nothing prepares");
    }
    // With nobody Byzantine batches and what can be put together of the others' votes remain.
    assert_complete(world((4, 1, &[], 1, 2, Some(2)), Rulebook::default()), 4);
}

#[test]
fn certificates_for_two_numbers_are_offered_together() {
    let rules = Rulebook::default();
    for shape in [(4, 1, &[1][..], 1, 2, None), (4, 1, &[1], 1, 2, Some(1))] {
        let setting = Setting::new(world(shape, rules), rules);
        let mut report = Report::default();
        let mut rng = ChaCha8Rng::seed_from_u64(seed());
        report.examine(&setting, &undisturbed(&setting), &|_| true, &mut rng);
        println!("seed {}, {shape:?}: {}", seed(), report.in_words());
        assert!(report.missing.is_empty(), "{shape:?}: not offered: {}", report.missing[0]);
        assert!(report.differ.is_empty(), "{shape:?}: {}", report.differ[0]);
        // With a window of one only one number prepares at a time.
        assert!(shape.5.is_some() || report.two_numbers > 0, "{shape:?}: no P has two");
    }
}

#[test]
fn whatever_is_accepted_among_more_replicas_or_in_batches_of_two_is_offered() {
    let mut certified = 0;
    for shape in [
        (6, 2, &[0, 3][..], 1, 1, None),
        (6, 2, &[1, 5], 1, 1, None),
        (7, 2, &[1, 4], 1, 1, None),
        (7, 2, &[1, 2], 1, 1, Some(2)),
    ] {
        let report = assert_complete(world(shape, Rulebook::default()), 6);
        let is_primary = shape.2.contains(&1);
        assert!(!is_primary || report.kinds.contains_key("NEW-VIEW"), "{shape:?}: no NEW-VIEW is accepted");
        certified += report.certified[0];
    }
    assert!(certified > 0, "nothing prepares");
    for rules in [Rulebook::default(), Rulebook::without(Mutant::ForgedRequest)] {
        assert_complete(WorldConfig { max_batch: 2, ..world((4, 1, &[1], 1, 1, Some(2)), rules) }, 3);
    }
}

/// REPLYs go to clients, whose validator is another.
#[test]
fn whatever_reply_a_client_accepts_is_offered() {
    for rules in [Mutant::SenderInPayload, Mutant::Outsiders, Mutant::OneReply].map(Rulebook::without) {
        let setting = Setting::new(world((4, 1, &[1], 1, 1, None), rules), rules);
        let (client, timestamp) = (ClientId(0), Timestamp(1));
        let offered = setting.adversary.about(Subject::Reply(client, timestamp), &[], None);
        let results: BTreeSet<_> = offered.iter().filter_map(result).collect();
        let clients = setting.config.client_setups();
        let mut accepted = 0;
        for (own, replica) in parts::in_every_name(&setting) {
            for (view, result) in [0, 1].into_iter().flat_map(|view| results.iter().map(move |r| (view, r))) {
                let result = result.clone();
                let signed = own.sign(Reply { view: View(view), timestamp, client, replica, result });
                for &signer in setting.signers.iter().chain([&signed.signer]) {
                    let reply = Message::Reply(Signed { signer, ..signed.clone() });
                    let is_known = setting.config.cluster.contains(replica) || own.id == replica;
                    if is_known && Client::verify(&clients[0], reply.clone()).is_ok() {
                        accepted += 1;
                        assert!(offered.contains(&reply), "{}: {reply:?}", rules.name());
                    }
                }
            }
        }
        assert!(results.len() > 1 && accepted > 0, "{}: no reply is accepted", rules.name());
    }
}

fn result(message: &Msg) -> Option<Bytes> {
    match message {
        Message::Reply(m) => Some(m.content.result.clone()),
        _ => None,
    }
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
        for shape in
            [(4, 1, &[1][..], 1, 1, None), (4, 1, &[2], 2, 2, Some(1)), (4, 1, &[0, 1], 1, 1, Some(2))]
        {
            assert_complete(world(shape, Rulebook::without(mutant)), 3);
        }
    }
}

// --- that this can fail ---

#[test]
fn an_adversary_that_knows_of_no_liberty_is_found_incomplete() {
    for (mutant, shape) in [
        (Mutant::Outsiders, (4, 1, &[1][..], 1, 1, None)),
        (Mutant::RepeatedVoters, (4, 1, &[1], 1, 1, None)),
        (Mutant::SeveralPerN, (4, 1, &[1], 1, 1, None)),
        (Mutant::CertificateAnywhere, (4, 1, &[1], 1, 2, Some(1))),
        (Mutant::CertificateOfAnyView, (4, 1, &[1], 1, 1, None)),
        (Mutant::RepeatedViewChanges, (4, 1, &[1], 1, 1, None)),
        (Mutant::ViewChangesOfAnyView, (4, 1, &[2], 2, 1, None)),
        (Mutant::AnybodyProposes, (4, 1, &[1], 1, 1, None)),
        (Mutant::AnyBatch, (4, 1, &[1], 1, 1, None)),
        (Mutant::SenderInPayload, (4, 1, &[1], 1, 1, None)),
        (Mutant::UnverifiedCertificates, (4, 1, &[1], 1, 1, None)),
        (Mutant::BelieveO, (4, 1, &[1], 1, 1, None)),
        (Mutant::UnprovedCheckpoint, (4, 1, &[1], 1, 1, Some(2))),
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
        ("CHECKPOINTs", |m| matches!(m, Message::Checkpoint(_))),
        ("certificates of checkpoints", |m| matches!(m, Message::Stable(_))),
        ("VIEW-CHANGEs with C", |m| matches!(m, Message::ViewChange(m) if m.content.stable.is_some())),
        ("VIEW-CHANGEs with P", |m| matches!(m, Message::ViewChange(m) if !m.content.prepared.is_empty())),
        ("VIEW-CHANGEs without", |m| matches!(m, Message::ViewChange(m) if m.content.prepared.is_empty())),
        ("NEW-VIEWs with O", |m| matches!(m, Message::NewView(m) if !m.content.pre_prepares.is_empty())),
        ("NEW-VIEWs without", |m| matches!(m, Message::NewView(m) if m.content.pre_prepares.is_empty())),
    ];
    let setting = Setting::new(world((4, 1, &[1], 1, 2, Some(2)), Rulebook::default()), Rulebook::default());
    for (name, class) in classes {
        assert!(is_noticed(&setting, &|message| !class(message), |report| &report.missing), "{name}");
    }
}

/// Of what only receivers that have lost a rule accept, and of batches.
#[test]
fn a_class_of_unsound_messages_taken_away_is_missed() {
    type Class = (&'static str, Option<Mutant>, fn(&Msg) -> bool);
    let classes: [Class; 8] = [
        ("batches of two", None, |m| matches!(m, Message::Batch(batch) if batch.requests.len() > 1)),
        (
            "PREPAREs for the lowest digest",
            None,
            |m| matches!(m, Message::Prepare(m) if m.content.digest == LOWEST),
        ),
        ("forged requests", Some(Mutant::ForgedRequest), |m| matches!(m, Message::Request(_))),
        (
            "PREPAREs in others' names",
            Some(Mutant::SenderInPayload),
            |m| matches!(m, Message::Prepare(m) if Some(m.signer) != m.content.sender()),
        ),
        (
            "VIEW-CHANGEs in others' names",
            Some(Mutant::SenderInPayload),
            |m| matches!(m, Message::ViewChange(m) if Some(m.signer) != m.content.sender()),
        ),
        (
            "VIEW-CHANGEs with what is not proved",
            Some(Mutant::UnverifiedCertificates),
            |m| matches!(m, Message::ViewChange(m) if m.content.prepared.iter().any(|c| !c.proof.is_accepted())),
        ),
        (
            "another batch than the one named",
            Some(Mutant::AnyBatch),
            |m| matches!(m, Message::PrePrepare(m, batch) if m.content.digest != batch.digest()),
        ),
        (
            "NEW-VIEWs that V does not lead to",
            Some(Mutant::BelieveO),
            |m| matches!(m, Message::NewView(m) if leads_elsewhere(&m.content)),
        ),
    ];
    for (name, mutant, class) in classes {
        let rules = Rulebook { without: mutant };
        let config = WorldConfig { max_batch: 2, ..world((4, 1, &[1], 1, 1, None), rules) };
        let setting = Setting::new(config, rules);
        assert!(is_noticed(&setting, &|message| !class(message), |report| &report.missing), "{name}");
    }
}

fn leads_elsewhere(content: &NewView<C>) -> bool {
    let proposed: Vec<_> = content.pre_prepares.iter().map(|m| (m.content.n, m.content.digest)).collect();
    compute_o(&content.view_changes, &Rulebook::default()).entries != proposed
}

#[test]
fn a_canonical_form_that_leaves_out_too_much_is_noticed() {
    let rules = Rulebook::default();
    let setting = Setting { blind_to_o: true, ..Setting::new(world((4, 1, &[1], 1, 1, None), rules), rules) };
    assert!(is_noticed(&setting, &|_| true, |report| &report.differ));
}
