//! Every step of every correct replica is a step of the protocol that is proved for all sizes.

mod promises;
mod run;
mod vacuity;

use pbft::crypto::Signed;
use pbft::crypto::ed25519::Ed25519;
use pbft::message::{Checkpoint, Commit, Message, NewView, Prepare, ViewChange};
use pbft::replica::{Durable, Effect, Event, Expired, Record};
use pbft::types::{Bytes, Cluster, Digest, ReplicaId, SeqNo, View};
use pbft_models::crypto::Symbolic;
use pbft_models::engine::{Limits, Outcome, explore};
use pbft_models::layered::Layered;
use pbft_models::lazy;
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::simulation::{Config, Failure, run as simulate};
use pbft_models::world::{Delivery, World, WorldConfig};
use pbft_properties::contract::{Signatures, Watcher};
use run::{Happened, Real, Taken, a_good_run};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn holds(n: u16, f: u16, seeds: std::ops::Range<u64>) {
    let (mut judged, mut actions) = (0, 0);
    for seed in seeds {
        let config = Config::hostile(seed, n, f);
        let report = simulate::<Symbolic, Rulebook>(&config, Rulebook::default())
            .unwrap_or_else(|failure| panic!("seed {seed}, n = {n}, f = {f}: {failure}"));
        judged += report.judged;
        actions += report.actions.values().sum::<u64>();
        println!("n = {n}, seed {seed}: {} steps, {:?}", report.judged, report.actions);
    }
    println!("n = {n}, f = {f}: {judged} steps, {actions} actions");
    assert!(actions > 0);
}

#[test]
fn steps_of_four_replicas_are_those_of_the_proved_protocol() {
    holds(4, 1, 0..40);
}

#[test]
fn steps_of_thirteen_replicas_are_those_of_the_proved_protocol() {
    holds(13, 4, 0..1);
}

#[test]
fn steps_of_thirty_one_replicas_are_those_of_the_proved_protocol() {
    holds(31, 10, 0..1);
}

/// The first breach of a mutant, among some seeds.
fn noticed(mutant: Mutant) -> Option<String> {
    for seed in 0..60 {
        let config = Config::by_contract(seed);
        let caught =
            std::panic::catch_unwind(|| simulate::<Symbolic, Rulebook>(&config, Rulebook::without(mutant)));
        if let Ok(Err(Failure::Breach(what))) = caught {
            return Some(format!("seed {seed}: {what}"));
        }
    }
    None
}

/// Those noticed there, as docs/PROOF.md lists them.
const NOTICED_IN_SIMULATIONS: [Mutant; 35] = [
    Mutant::PrepareQuorum,
    Mutant::CommitQuorum,
    Mutant::QuorumOfTwo,
    Mutant::VoteAgain,
    Mutant::AnyDigest,
    Mutant::AnyView,
    Mutant::SecondPrePrepare,
    Mutant::AnybodyProposes,
    Mutant::KeepVoting,
    Mutant::ActInOldView,
    Mutant::ForgedRequest,
    Mutant::PreparedWithoutBatch,
    Mutant::ExecuteAgain,
    Mutant::OutOfOrder,
    Mutant::NoLowWaterMark,
    Mutant::SenderInPayload,
    Mutant::NoCertificates,
    Mutant::UnverifiedCertificates,
    Mutant::RepeatedVoters,
    Mutant::PrePreparedInP,
    Mutant::SecondNewView,
    Mutant::ViewsGoBack,
    Mutant::ViewChangeQuorum,
    Mutant::RepeatedViewChanges,
    Mutant::ForgetPrepared,
    Mutant::KeepOldest,
    Mutant::BelieveO,
    Mutant::UnprovedCheckpoint,
    Mutant::LowestMinS,
    Mutant::CheckpointQuorum,
    Mutant::NoClientTable,
    Mutant::UnverifiedBlocks,
    Mutant::PersistNothing,
    Mutant::SendFirst,
    Mutant::RestartInViewZero,
];

#[test]
#[ignore = "long: sixty simulations of each mutant"]
fn mutants_are_noticed_at_a_step() {
    let mut all = Vec::new();
    for &mutant in Mutant::ALL {
        let found = noticed(mutant);
        println!("{}: {}", mutant.id(), found.as_deref().unwrap_or("-"));
        all.extend(found.map(|_| mutant));
    }
    assert_eq!(all, NOTICED_IN_SIMULATIONS);
}

const MINUTE: Duration = Duration::from_secs(60);

/// What the contract says of a mutant in the unreduced local systems of a world, without looking at any joint state.
fn noticed_in(mutant: Mutant, byzantine: u16, max_view: u64) -> Option<String> {
    let config = WorldConfig {
        byzantine: [ReplicaId(byzantine)].into(),
        max_view: View(max_view),
        max_seq: SeqNo(1),
        rules: Rulebook::without(mutant),
        ..WorldConfig::new(Cluster::new(4, 1), 2)
    };
    let mut world = World::new(config, Delivery::Lazy)
        .expect("these bounds make sense")
        .past_violations()
        .held_to_contract();
    let found = explore(&mut world, Limits::default(), &mut |_| true);
    assert_eq!(found.outcome, Outcome::Exhausted);
    // What is found in a part of the steps is found; without a rule there may be very many.
    let begun = Instant::now();
    let enough = &mut |_: &lazy::Conditions| (begun.elapsed() > MINUTE).then_some("enough");
    let conditions = lazy::check(&mut world, enough);
    conditions.first.get("contract").map(|broken| broken.what.clone())
}

#[test]
#[ignore = "long: two of the worlds have three views"]
fn what_simulations_do_not_meet_is_noticed_in_unreduced_local_systems() {
    for (mutant, byzantine, max_view) in [
        (Mutant::PrimaryPrepares, 0, 1),
        (Mutant::AnyBatch, 0, 1),
        (Mutant::Outsiders, 0, 1),
        (Mutant::CertificateQuorum, 0, 1),
        (Mutant::CertificateOfAnyView, 0, 1),
        (Mutant::ViewChangesOfAnyView, 2, 2),
        (Mutant::LowestViewWins, 0, 2),
    ] {
        assert!(!NOTICED_IN_SIMULATIONS.contains(&mutant));
        let found = noticed_in(mutant, byzantine, max_view);
        println!("{}: {found:?}", mutant.id());
        assert!(found.is_some(), "{}", mutant.id());
    }
}

#[test]
fn a_new_primary_may_take_a_stable_checkpoint_from_its_v_on_a_time_out() {
    let config = WorldConfig {
        max_view: View(1),
        max_seq: SeqNo(1),
        checkpoint_interval: Some(1),
        ..WorldConfig::new(Cluster::new(3, 1), 1)
    };
    let mut world = World::new(config, Delivery::Lazy).expect("these bounds make sense");
    assert_eq!(explore(&mut world, Limits::default(), &mut |_| true).outcome, Outcome::Exhausted);
    let conditions = lazy::check(&mut world, &mut |_| None);
    assert!(conditions.counts["contract"].0 > 10_000);
    assert_eq!(conditions.first.get("contract").map(|broken| &*broken.what), None);
}

/// What the contract says of a mutant in a world whose unreduced local systems are not walked.
fn noticed_along_the_run(config: WorldConfig, layered: bool) -> Option<String> {
    let enough = &mut |_: &lazy::Conditions| None;
    let (found, conditions) = if layered {
        // Nothing of this kind can go wrong here, so the exploration goes past what does.
        let mut world = Layered::new(config, false).expect("these bounds make sense");
        world = world.judged_by("linearizable").held_to_contract();
        (explore(&mut world, Limits::default(), &mut |_| true), world.check_conditions(enough))
    } else {
        let world = World::new(config, Delivery::One).expect("these bounds make sense");
        let mut world = world.past_violations().held_to_contract();
        (explore(&mut world, Limits::default(), &mut |_| true), world.check_conditions(enough))
    };
    assert_eq!(found.outcome, Outcome::Exhausted);
    assert!(conditions.counts["contract"].0 > 10);
    conditions.first.get("contract").map(|broken| broken.what.clone())
}

#[test]
fn mutants_are_noticed_in_worlds_whose_local_systems_are_not_walked() {
    let config = |mutant: Option<Mutant>, byzantine: u16, max_view: u64, requests: u32| WorldConfig {
        byzantine: [ReplicaId(byzantine)].into(),
        max_view: View(max_view),
        max_seq: SeqNo(1),
        rules: mutant.map(Rulebook::without).unwrap_or_default(),
        ..WorldConfig::new(Cluster::new(4, 1), requests)
    };
    for (mutant, byzantine, max_view, layered) in [
        (Mutant::PrepareQuorum, 3, 0, false),
        (Mutant::CommitQuorum, 3, 0, false),
        (Mutant::SecondPrePrepare, 0, 0, true),
        (Mutant::NoCertificates, 1, 1, true),
        (Mutant::ViewChangeQuorum, 1, 1, true),
    ] {
        let requests = if layered { 2 } else { 1 };
        let config = |mutant| config(mutant, byzantine, max_view, requests);
        let found = noticed_along_the_run(config(Some(mutant)), layered);
        println!("{}: {found:?}", mutant.id());
        assert!(found.is_some(), "{}", mutant.id());
        assert_eq!(noticed_along_the_run(config(None), layered), None);
    }
}

fn is_promise(message: &Message<Ed25519>) -> bool {
    use Message::{Checkpoint, Commit, NewView, PrePrepare, Prepare, ViewChange};
    matches!(message, PrePrepare(..) | Prepare(_) | Commit(_) | Checkpoint(_) | ViewChange(_) | NewView(_))
}

/// A watcher of each replica, which starts now.
fn watchers(run: &[Taken]) -> Vec<Watcher<Real>> {
    let watch = |id: u16| {
        let step = run.iter().find(|step| step.setup.id == ReplicaId(id)).expect("each takes a step");
        let mut watcher = Watcher::of_one_life(Signatures::Trust);
        watcher.starts(&step.setup, &Durable::default()).expect("it has promised nothing");
        watcher
    };
    (0..4).map(watch).collect()
}

#[test]
fn a_watcher_that_sees_messages_only_finds_the_same_actions() {
    let run = a_good_run();
    let mut watchers = watchers(&run);
    let mut actions = 0;
    for step in &run {
        let watcher = &mut watchers[usize::from(step.setup.id.0)];
        watcher.event(&step.event);
        let seen = watcher.effects(&step.setup, &step.effects).expect("it is one of the protocol's");
        assert_eq!(seen, Some(step.judge(&step.effects).expect("it is one of the protocol's")));
        actions += seen.map_or(0, |seen| seen.len());
    }
    assert!(actions >= 4 * 2 * 4, "{actions}");
}

#[test]
fn a_watcher_that_never_saw_the_votes_does_not_believe_in_the_quorum() {
    let run = a_good_run();
    for (hidden, guard) in [("PREPARE", "prepare-quorum"), ("COMMIT", "commit-quorum")] {
        for (id, mut watcher) in watchers(&run).into_iter().enumerate() {
            let mut own = run.iter().filter(|step| usize::from(step.setup.id.0) == id);
            let breach = own.find_map(|step| {
                match &step.event {
                    Event::Message(message) if message.name() == hidden => {
                        watcher.event(&Event::Timeout(Expired::Status));
                    }
                    event => watcher.event(event),
                }
                watcher.effects(&step.setup, &step.effects).err()
            });
            assert_eq!(breach.map(|breach| breach.guard), Some(guard), "at replica {id}");
            // It knows no more what the replica has done.
            let last =
                run.iter().rfind(|step| usize::from(step.setup.id.0) == id).expect("each takes a step");
            assert_eq!((watcher.judges(), watcher.effects(&last.setup, &last.effects)), (false, Ok(None)));
        }
    }
}

#[test]
fn what_leaves_before_its_record_or_without_it_is_a_breach() {
    let (mut early, mut without) = (0, 0);
    for step in a_good_run() {
        let promises = |effect: &&Happened| matches!(effect, Effect::Send(_, message) if is_promise(message));
        if step.records() == 0 || !step.effects.iter().any(|effect| promises(&effect)) {
            continue;
        }
        let (records, rest): (Vec<_>, Vec<_>) =
            step.effects.iter().cloned().partition(|effect| matches!(effect, Effect::Persist(_)));
        without += 1;
        step.guard_of(&rest);
        early += u32::from(step.guard_of(&[rest, records].concat()) == "persist-before-send");
    }
    assert!(early >= 20 && without >= 20, "{early} of {without}");
}

#[test]
fn what_says_something_else_is_a_breach() {
    let other = Digest([7; 32]);
    let mut seen = std::collections::BTreeMap::<&str, u32>::new();
    for step in a_good_run() {
        let keys = step.setup.keys.clone();
        let mut changed = |name: &'static str, effects: Option<Vec<Happened>>| {
            let Some(effects) = effects else { return };
            step.guard_of(&effects);
            *seen.entry(name).or_default() += 1;
        };
        changed(
            "digest of PREPARE",
            step.with(|message| match message {
                Message::Prepare(m) => {
                    Some(Message::Prepare(Signed::new(Prepare { digest: other, ..m.content }, &*keys)))
                }
                _ => None,
            }),
        );
        changed(
            "view of COMMIT",
            step.with(|message| match message {
                Message::Commit(m) => {
                    let view = m.content.view.next();
                    Some(Message::Commit(Signed::new(Commit { view, ..m.content }, &*keys)))
                }
                _ => None,
            }),
        );
        changed(
            "digest of CHECKPOINT",
            step.with(|message| match message {
                Message::Checkpoint(m) => {
                    Some(Message::Checkpoint(Signed::new(Checkpoint { digest: other, ..m.content }, &*keys)))
                }
                _ => None,
            }),
        );
        changed(
            "result of REPLY",
            step.with(|message| match message {
                Message::Reply(m) => {
                    let result = Bytes::from(&b"another"[..]);
                    let reply = pbft::message::Reply { result, ..m.content.clone() };
                    Some(Message::Reply(Signed::new(reply, &*keys)))
                }
                _ => None,
            }),
        );
    }
    println!("{seen:?}");
    assert_eq!(seen.len(), 4);
    assert!(seen.values().all(|&count| count >= 4), "{seen:?}");
}

#[test]
fn records_of_what_did_not_happen_are_breaches() {
    let mut guards = std::collections::BTreeSet::new();
    for step in a_good_run() {
        for effect in &step.effects {
            let Effect::Persist(record) = effect else { continue };
            let forged = match record {
                Record::Executed(n, digest) => vec![
                    (Record::Executed(n.next(), *digest), "execute"),
                    (Record::Executed(*n, Digest([7; 32])), "execute"),
                ],
                Record::ViewChange(m) => {
                    let less = ViewChange { prepared: Vec::new(), ..m.content.clone() };
                    let h = ViewChange { n: m.content.n.next(), ..m.content.clone() };
                    let same = m.content.prepared.is_empty();
                    let less = Record::ViewChange(Arc::new(step.setup.sign(less)));
                    let h = Record::ViewChange(Arc::new(step.setup.sign(h)));
                    [(!same).then_some((less, "less")), Some((h, "h"))].into_iter().flatten().collect()
                }
                Record::NewView(m) => {
                    let fewer = m.content.view_changes[1..].to_vec().into();
                    let fewer = NewView { view_changes: fewer, ..m.content.clone() };
                    vec![(Record::NewView(Arc::new(step.setup.sign(fewer))), "fewer")]
                }
                Record::Stable(certificate) => {
                    let mut fewer = certificate.clone();
                    fewer.proof.votes.pop();
                    let mut higher = certificate.clone();
                    higher.n = higher.n.next();
                    vec![(Record::Stable(fewer), "fewer"), (Record::Stable(higher), "higher")]
                }
                _ => continue,
            };
            for (forged, _) in forged {
                let forge =
                    |of: &Happened| if of == effect { Effect::Persist(forged.clone()) } else { of.clone() };
                let effects: Vec<Happened> = step.effects.iter().map(forge).collect();
                guards.insert(step.guard_of(&effects));
            }
        }
    }
    println!("{guards:?}");
    for guard in ["commit-quorum", "claims h", "view-change-quorum", "checkpoint-quorum"] {
        assert!(guards.contains(guard), "{guard} in {guards:?}");
    }
}

#[test]
fn a_quorum_that_is_one_short_is_a_breach() {
    let is_needed = |step: &Taken| step.judge(&step.effects).is_ok_and(|taken| taken.contains(&"commit"));
    let mut refused = 0;
    for step in a_good_run().into_iter().filter(is_needed) {
        // The same effects, if the message had not come that they rest on.
        let other = Taken { event: Event::Timeout(Expired::Status), ..step };
        if let Err(breach) = other.judge(&other.effects) {
            refused += u32::from(breach.guard == "prepare-quorum");
        }
    }
    assert!(refused > 0);
}
