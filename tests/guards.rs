//! No guard of the contract is idle: for each there is a mistake of which it is the one that notices.
//!
//! Two kinds of mistakes: mutants of the replica, in simulations with replicas that lie; and steps of a good run of which
//! one effect says something else, or that do not have the message that they rest on.

mod contract_run;

use contract_run::{Happened, Taken, a_good_run};
use pbft::crypto::Signed;
use pbft::message::{Batch, Checkpoint, Message, NewView, ViewChange};
use pbft::replica::{Effect, Event, Record, Timer};
use pbft::types::{Digest, SeqNo, View};
use pbft_models::crypto::Symbolic;
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::simulation::{Config, Failure, Strategy, run};
use pbft_properties::contract::{Contract, Signatures};
use pbft_properties::proof::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An action and one of its guards.
type Guard = (String, String);

fn guard(action: &str, guard: &str) -> Guard {
    (action.to_string(), guard.to_string())
}

const OTHER: Digest = Digest([7; 32]);

/// What a record may say instead.
fn forged(
    step: &Taken,
    record: &Record<pbft::crypto::ed25519::Ed25519>,
) -> Vec<Record<pbft::crypto::ed25519::Ed25519>> {
    let sign_view_change = |content| Record::ViewChange(Arc::new(step.setup.sign::<ViewChange<_>>(content)));
    let sign_new_view = |content| Record::NewView(Arc::new(step.setup.sign::<NewView<_>>(content)));
    match record {
        Record::PrePrepared(m, batch) => {
            let with = |view: View, n: SeqNo, digest: Digest, batch: Arc<Batch<_>>| {
                let mut content = m.content;
                (content.view, content.n, content.digest) = (view, n, digest);
                Record::PrePrepared(Signed::new(content, &*step.setup.keys), batch)
            };
            let of = m.content;
            vec![
                with(of.view.next(), of.n, of.digest, batch.clone()),
                with(of.view, SeqNo(0), of.digest, batch.clone()),
                with(of.view, of.n, OTHER, batch.clone()),
                with(of.view, of.n, of.digest, Arc::new(Batch::default())),
                with(of.view, of.n.next(), of.digest, batch.clone()),
            ]
        }
        Record::Prepared(of) => {
            let mut others = vec![of.clone(); 4];
            others[0].view = of.view.next();
            others[1].digest = OTHER;
            others[2].n = SeqNo(0);
            others[3].n = of.n.next();
            others.into_iter().map(Record::Prepared).collect()
        }
        Record::Executed(n, digest) => vec![
            Record::Executed(n.next(), *digest),
            Record::Executed(SeqNo(n.0.saturating_sub(1)), *digest),
            Record::Executed(*n, OTHER),
        ],
        Record::ViewChange(m) => {
            let of = &m.content;
            vec![
                sign_view_change(ViewChange { view: View(0), ..of.clone() }),
                sign_view_change(ViewChange { prepared: Vec::new(), ..of.clone() }),
                sign_view_change(ViewChange { n: of.n.next(), ..of.clone() }),
            ]
        }
        Record::NewView(m) => {
            let of = &m.content;
            let entries = |digest: Digest, n: SeqNo| {
                let mut content = of.pre_prepares.first().map_or_else(
                    || pbft::message::PrePrepare { view: of.view, n, digest },
                    |entry| entry.content,
                );
                (content.n, content.digest) = (n, digest);
                vec![Signed::new(content, &*step.setup.keys)]
            };
            let n = of.pre_prepares.first().map_or(SeqNo(1), |entry| entry.content.n);
            vec![
                sign_new_view(NewView { view_changes: of.view_changes[1..].to_vec(), ..of.clone() }),
                sign_new_view(NewView { view: View(0), ..of.clone() }),
                sign_new_view(NewView { pre_prepares: entries(OTHER, n), ..of.clone() }),
                sign_new_view(NewView { pre_prepares: entries(OTHER, SeqNo(1)), ..of.clone() }),
                sign_new_view(NewView { pre_prepares: entries(OTHER, n.next()), ..of.clone() }),
            ]
        }
        Record::Stable(certificate) => {
            let mut fewer = certificate.clone();
            fewer.proof.votes.pop();
            vec![Record::Stable(fewer)]
        }
        _ => Vec::new(),
    }
}

fn note(found: &mut BTreeMap<Guard, String>, step: &Taken, what: &str, effects: &[Happened]) {
    if let Err(breach) = step.judge(effects) {
        found.entry(guard(breach.action, breach.guard)).or_insert(format!("{what}: {breach}"));
    }
}

/// The guards that fail of steps of a good run in which something is forged, each with the first that is met.
fn of_forged_steps() -> BTreeMap<Guard, String> {
    let mut found = BTreeMap::new();
    for step in a_good_run() {
        for (at, effect) in step.effects.iter().enumerate() {
            let mut others: Vec<Happened> = match effect {
                Effect::Persist(record) => forged(&step, record).into_iter().map(Effect::Persist).collect(),
                Effect::Send(to, Message::Checkpoint(m)) => {
                    let content = Checkpoint { digest: OTHER, ..m.content };
                    let checkpoint = Signed::new(content, &*step.setup.keys);
                    vec![Effect::Send(*to, Message::Checkpoint(checkpoint))]
                }
                _ => Vec::new(),
            };
            for other in others.drain(..) {
                let mut effects = step.effects.clone();
                effects[at] = other;
                note(&mut found, &step, "forged", &effects);
            }
            let mut without = step.effects.clone();
            without.remove(at);
            note(&mut found, &step, "left out", &without);
        }
        // The message that it rests on has not come.
        let alone = Taken { event: Event::Timeout(Timer::Status), ..step };
        note(&mut found, &alone, "without its message", &alone.effects);
        // All of it once more.
        let contract = Contract::new(Signatures::Check);
        let mut ledger = alone.ledger.clone();
        let mut again =
            || contract.judge_step(&mut ledger, &alone.setup, (&alone.before, &alone.event), &alone.effects);
        if again().is_ok()
            && let Err(breach) = again()
        {
            found.entry(guard(breach.action, breach.guard)).or_insert(format!("again: {breach}"));
        }
    }
    found
}

/// The guards of which a mutant is noticed in a simulation, with the words of the first breach.
fn of_mutant(mutant: Mutant, seed: u64) -> Option<(Guard, String)> {
    let strategy = Some(Strategy::ALL[seed as usize % Strategy::ALL.len()]);
    let config = Config {
        by_contract: true,
        byzantine: u16::from(seed % 3 != 0),
        strategy,
        ..Config::hostile(seed, 4, 1)
    };
    let caught = std::panic::catch_unwind(|| run::<Symbolic, Rulebook>(&config, Rulebook::without(mutant)));
    let Ok(Err(Failure::Breach(what))) = caught else { return None };
    let named = what.rsplit_once('(')?.1.trim_end_matches(')').to_string();
    let (action, name) = named.split_once(": ")?;
    Some((guard(action, name), what))
}

#[test]
#[ignore = "long: sixty simulations of each mutant"]
fn trial_of_guards() {
    let forged = of_forged_steps();
    let mut found: BTreeMap<Guard, BTreeSet<(&str, u64)>> = BTreeMap::new();
    let seeds: u64 = std::env::var("PBFT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(60);
    for &mutant in Mutant::ALL {
        let mut own = BTreeSet::new();
        for seed in 0..seeds {
            if let Some((guard, _)) = of_mutant(mutant, seed)
                && own.insert(guard.clone())
            {
                println!("{}, seed {seed}: {guard:?}", mutant.id());
                found.entry(guard).or_default().insert((mutant.id(), seed));
            }
        }
    }
    for action in Protocol::pbft().actions {
        for one in &action.guards {
            let key = guard(action.name, one.name);
            println!("GUARD {key:?}: mutants {:?}; forged {:?}", found.get(&key), forged.get(&key));
        }
    }
    for key in forged.keys().chain(found.keys()) {
        println!("MET {key:?}");
    }
}
