//! No guard is there for nothing: each is the first to fail for some mutant, some mistake in the source, or a real step
//! that is not left as it was; or it is said why it never is.

use crate::Happened;
use crate::run::{Real, Taken, a_good_run};
use pbft::certificate::PreparedCertificate;
use pbft::crypto::Evidence;
use pbft::crypto::ed25519::Ed25519;
use pbft::message::{NewView, PrePrepare, Prepare, ViewChange};
use pbft::replica::{Effect, Record, Setup, Snapshot};
use pbft::types::{Digest, ReplicaId, SeqNo, View};
use pbft_models::crypto::Symbolic;
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::simulation::{Config, Failure, run as simulate};
use pbft_properties::contract::{Breach, Contract, Signatures, is_judged};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::sync::Arc;

type Certificate = PreparedCertificate<Ed25519>;

/// Guards, each with a mutant and a simulation of it that it is the first to fail in.
const MUTANTS: [(&str, Mutant, u64); 34] = [
    ("adopt: checkpoint-proof", Mutant::RepeatedVoters, 2),
    ("checkpoint: executed", Mutant::NoClientTable, 0),
    ("commit: leave-old-view", Mutant::AnyView, 8),
    ("commit: stop-after-view-change", Mutant::KeepVoting, 0),
    ("commit: prepared-has-batch", Mutant::PreparedWithoutBatch, 2),
    ("commit: prepare-quorum", Mutant::PrepareQuorum, 0),
    ("committed_local: commit-quorum", Mutant::CommitQuorum, 0),
    ("enter: view-change-quorum", Mutant::QuorumOfTwo, 50),
    ("enter: view-increases", Mutant::ViewsGoBack, 24),
    ("execute: in-order", Mutant::OutOfOrder, 0),
    ("execute: the service", Mutant::ExecuteAgain, 11),
    ("fetch: transfer-verified", Mutant::UnverifiedBlocks, 0),
    ("new_view_entry: min-s-from-all", Mutant::LowestMinS, 7),
    ("new_view_entry: the certificate's PRE-PREPARE", Mutant::UnverifiedCertificates, 2),
    ("new_view_entry: the certificate's PREPAREs", Mutant::UnverifiedCertificates, 49),
    ("new_view_open: min-s-from-all", Mutant::LowestMinS, 9),
    ("pre_prepare: leave-old-view", Mutant::RestartInViewZero, 1),
    ("pre_prepare: stop-after-view-change", Mutant::KeepVoting, 2),
    ("pre_prepare: request-authentic", Mutant::ForgedRequest, 16),
    ("prepare: signed by its sender", Mutant::AnybodyProposes, 53),
    ("prepare: leave-old-view", Mutant::ActInOldView, 13),
    ("prepare: stop-after-view-change", Mutant::KeepVoting, 3),
    ("prepare: low-water-mark", Mutant::NoLowWaterMark, 0),
    ("prepare: first-pre-prepare-wins", Mutant::SecondPrePrepare, 28),
    ("prepare: request-authentic", Mutant::BelieveO, 13),
    ("stable: checkpoint-quorum", Mutant::VoteAgain, 2),
    ("view_change: to a later view", Mutant::RestartInViewZero, 8),
    ("view_change: sent once", Mutant::RestartInViewZero, 3),
    ("view_change: P holds what prepared", Mutant::NoCertificates, 0),
    ("pre_prepare: persist-before-send", Mutant::PersistNothing, 0),
    ("prepare: persist-before-send", Mutant::PersistNothing, 14),
    ("commit: persist-before-send", Mutant::KeepOldest, 0),
    ("view_change: persist-before-send", Mutant::PersistNothing, 50),
    ("adopt: h only grows", Mutant::NoLowWaterMark, 24),
];

/// Guards, each with a mistake in the source and what docs/CONTRACT.md says of it.
const MISTAKES: [(&str, &str); 3] = [
    ("pre_prepare: in O, or not determined by it", "compute-o-without-last-view-change"),
    ("view_change: claims h", "view-change-h-of-state"),
    ("crash: durable means durable", "durable-executed-batches-dropped"),
];

/// Guards that are never the first to fail, for what is judged, or named, before them.
const BY_CONSTRUCTION: [(&str, &str); 11] = [
    ("execute: committed", "`committed_local` is judged first where it is not"),
    ("new_view_entry: in that view", "`enter` is judged first"),
    ("new_view_entry: view-change-quorum", "`enter` is judged first"),
    ("new_view_open: in that view", "`enter` is judged first"),
    ("new_view_open: view-change-quorum", "`enter` is judged first"),
    ("new_view_open: no certificate", "where there is one it is `new_view_entry`"),
    ("pre_prepare: primary", "whoever is not the primary is judged by `prepare`"),
    ("prepare: only-primary-proposes", "the primary's PRE-PREPARE is the one that is looked for"),
    (
        "pre_prepare: digest-names-batch",
        "batches are looked for by the digests that they have; none is not authentic",
    ),
    ("checkpoint: persist-before-send", "only what is recorded has executed"),
    (
        "prepare: digest-names-batch",
        "batches are looked for by the digests that they have; none is not authentic",
    ),
];

/// How the breach that ends a simulation of a mutant is named: `action: guard`.
fn breach_of(mutant: Mutant, seed: u64) -> Option<String> {
    let config = Config::by_contract(seed);
    let rules = || Rulebook::without(mutant);
    let ended = catch_unwind(|| match seed.is_multiple_of(2) {
        true => simulate::<Ed25519, Rulebook>(&config, rules()),
        false => simulate::<Symbolic, Rulebook>(&config, rules()),
    });
    match ended {
        Ok(Err(Failure::Breach(what))) => named(&what).map(str::to_owned),
        _ => None,
    }
}

/// The last parentheses of a breach.
fn named(what: &str) -> Option<&str> {
    what.rsplit_once('(')?.1.split_once(')').map(|(name, _)| name)
}

fn guards() -> impl Iterator<Item = String> {
    let contract = Contract::new(Signatures::Check);
    let guards: Vec<String> = contract.guards().map(|(action, guard)| format!("{action}: {guard}")).collect();
    guards.into_iter()
}

#[test]
#[ignore = "long: it finds rows of the table"]
fn which_mutants_fail_which_guards() {
    let mut found: BTreeMap<String, (Mutant, u64)> = BTreeMap::new();
    for &mutant in Mutant::ALL {
        for seed in 0..60 {
            if let Some(guard) = breach_of(mutant, seed) {
                found.entry(guard).or_insert((mutant, seed));
            }
        }
    }
    for (guard, ..) in MUTANTS {
        assert!(found.contains_key(guard), "{guard}");
    }
    for guard in guards() {
        match found.remove(&guard) {
            Some((mutant, seed)) => println!("| {guard} | {}, simulation {seed} |", mutant.id()),
            None => println!("| {guard} | - |"),
        }
    }
    println!("of no guard in the list: {found:?}");
}

/// The guards that fail first for real steps that are not left as they were.
fn doctored() -> BTreeSet<String> {
    let run = a_good_run();
    let mut effects: Vec<&Happened> = Vec::new();
    for effect in run.iter().flat_map(|step| &step.effects).filter(|effect| is_judged(effect)) {
        if !effects.contains(&effect) {
            effects.push(effect);
        }
    }
    let mut found = BTreeSet::new();
    let mut note = |judged: Result<_, Breach>| {
        if let Err(Breach { action, guard, .. }) = judged {
            found.insert(format!("{action}: {guard}"));
        }
    };
    for step in &run {
        // An effect of another step by itself, and before and after its own.
        for &other in &effects {
            let alone = vec![other.clone()];
            note(step.judge(&[&alone[..], &step.effects].concat()));
            note(step.judge(&[&step.effects, &alone[..]].concat()));
            note(step.judge(&alone));
        }
        // The rest of its own, with nothing in hand any more.
        for first in 0..step.effects.len() {
            let contract = Contract::new(Signatures::Check);
            let (mut ledger, of) = (step.ledger.clone(), (&step.before, &step.event));
            let begun = contract.judge_step(&mut ledger, &step.setup, of, &step.effects[..first]);
            begun.expect("it is one of the protocol's");
            note(contract.judge_start(&mut ledger, &step.setup, &step.effects[first..]));
        }
        // The state after one number for that after another.
        for (&other, n) in effects.iter().flat_map(|other| [(other, 1), (other, 2)]) {
            if let Effect::Persist(Record::Snapshot(snapshot)) = other {
                let snapshot = Snapshot { n: SeqNo(n), ..Snapshot::clone(snapshot) };
                note(step.judge(&[Effect::Persist(Record::Snapshot(Arc::new(snapshot)))]));
            }
        }
    }
    for step in new_views(&run) {
        note(step.judge(&step.effects));
    }
    found
}

/// A certificate that nobody has put together: all replicas vote for it.
fn certificate(setups: &[Arc<Setup<Real>>], (view, n, digest): (View, SeqNo, Digest)) -> Certificate {
    let primary = usize::try_from(view.0).expect("it is small") % setups.len();
    let proposal = Some(setups[primary].sign(PrePrepare { view, n, digest }).signature);
    let votes = setups.iter().filter(|setup| usize::from(setup.id.0) != primary);
    let votes =
        votes.map(|setup| (setup.id, setup.sign(Prepare { view, n, digest, replica: setup.id }).signature));
    Certificate { view, n, digest, proof: Evidence { proposal, votes: votes.collect() } }
}

/// What replica 3 may be made to record by NEW-VIEWs that Byzantine replicas alone would send.
fn new_views(run: &[Taken]) -> Vec<Taken> {
    let setup =
        |id: u16| run.iter().find(|step| step.setup.id.0 == id).expect("it took a step").setup.clone();
    let setups: Vec<_> = (0..4).map(setup).collect();
    let batches = run.iter().flat_map(|step| &step.effects).filter_map(|effect| match effect {
        Effect::Persist(Record::PrePrepared(_, batch)) if !batch.requests.is_empty() => Some(batch.clone()),
        _ => None,
    });
    let batches: BTreeMap<Digest, _> = batches.map(|batch| (batch.digest(), batch)).collect();
    let [(&a, _), (&b, batch_b)] = batches.iter().collect::<Vec<_>>()[..2] else { panic!("two batches") };
    let n = SeqNo(1);
    let record = |view: u64, certificates: [Option<(u64, Digest)>; 2], o: Option<Digest>| {
        let view = View(view);
        let view_change = |(of, certified): (u16, Option<(u64, Digest)>)| {
            let certified = certified.map(|(view, digest)| certificate(&setups, (View(view), n, digest)));
            let (prepared, replica) = (certified.into_iter().collect(), ReplicaId(of));
            Arc::new(setups[usize::from(of)].sign(ViewChange {
                view,
                n: SeqNo(0),
                stable: None,
                prepared,
                replica,
            }))
        };
        let [first, second] = certificates;
        let view_changes = [(0, first), (1, second), (2, None)].map(view_change).to_vec();
        let primary = &setups[usize::try_from(view.0).expect("it is small")];
        let pre_prepares = o.map(|digest| primary.sign(PrePrepare { view, n, digest })).into_iter().collect();
        Record::NewView(Arc::new(primary.sign(NewView {
            view,
            view_changes: view_changes.into(),
            pre_prepares,
        })))
    };
    let later = setups[1].sign(PrePrepare { view: View(1), n, digest: b });
    let made = [
        // A certificate of the view that is being entered.
        vec![record(1, [Some((1, a)), None], Some(a))],
        // Not the certificate of the highest view.
        vec![record(2, [Some((0, a)), Some((1, b))], Some(a))],
        // Something else at a number of which V has a certificate and O no entry.
        vec![record(1, [Some((0, a)), None], None), Record::PrePrepared(later, batch_b.clone())],
    ];
    let start = run.iter().find(|step| step.setup.id == ReplicaId(3)).expect("it took a step");
    let step = |records: Vec<Record<Ed25519>>| Taken {
        ledger: start.ledger.clone(),
        setup: start.setup.clone(),
        before: start.before.clone(),
        event: start.event.clone(),
        effects: records.into_iter().map(Effect::Persist).collect(),
    };
    made.into_iter().map(step).collect()
}

#[test]
fn every_guard_is_the_first_to_fail_for_something() {
    let doctored = doctored();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONTRACT.md");
    let table = std::fs::read_to_string(page).expect("the page is there");
    let mut reasons: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (guard, mutant, seed) in MUTANTS {
        assert_eq!(breach_of(mutant, seed).as_deref(), Some(guard), "{}, simulation {seed}", mutant.id());
        reasons.entry(guard).or_default().insert("a mutant");
    }
    for (guard, mistake) in MISTAKES {
        let row = table.lines().find(|line| line.starts_with(&format!("| {mistake} |")));
        assert!(
            row.is_some_and(|row| row.contains(guard.trim_start_matches("crash: "))),
            "{mistake}: {row:?}"
        );
        reasons.entry(guard).or_default().insert("a mistake in the source");
    }
    for guard in &doctored {
        reasons.entry(guard).or_default().insert("a step that is not left as it was");
    }
    for (guard, why) in BY_CONSTRUCTION {
        assert_eq!(reasons.get(guard), None, "it fails, though {why}");
        reasons.entry(guard).or_default().insert(why);
    }
    for guard in guards() {
        println!("{guard}: {:?}", reasons.get(&*guard));
        assert!(reasons.remove(&*guard).is_some(), "{guard} has never failed");
    }
    assert!(reasons.is_empty(), "no guards: {reasons:?}");
}
