//! Every step of every correct replica is a step of the protocol that is proved for all sizes.

use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::kv::{KeyValue, Operation};
use pbft::message::{Batch, Checkpoint, Commit, Message, NewView, PrePrepare, Prepare, Request, ViewChange};
use pbft::parameters::Parameters;
use pbft::replica::verify::verify;
use pbft::replica::{Durable, Effect, Effects, Event, Record, Replica, Setup, Timer, nodes};
use pbft::types::{Bytes, ClientId, Cluster, Digest, Principal, ReplicaId, SeqNo, Timestamp, View};
use pbft_models::crypto::Symbolic;
use pbft_models::engine::{Limits, Outcome, explore};
use pbft_models::lazy;
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::simulation::{Config, Failure, Simulated, run};
use pbft_models::world::{Delivery, World, WorldConfig};
use pbft_properties::contract::{Breach, Contract, Ledger, Signatures, Watcher};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn holds(n: u16, f: u16, seeds: std::ops::Range<u64>) {
    let (mut judged, mut actions) = (0, 0);
    for seed in seeds {
        let config = Config::hostile(seed, n, f);
        let report = run::<Symbolic, Rulebook>(&config, Rulebook::default())
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
#[ignore = "long: 31 replicas"]
fn steps_of_thirty_one_replicas_are_those_of_the_proved_protocol() {
    holds(31, 10, 0..1);
}

/// The first breach of a mutant, among some seeds.
fn noticed(mutant: Mutant) -> Option<String> {
    for seed in 0..60 {
        let config = Config::by_contract(seed);
        let caught =
            std::panic::catch_unwind(|| run::<Symbolic, Rulebook>(&config, Rulebook::without(mutant)));
        if let Ok(Err(Failure::Breach(what))) = caught {
            return Some(format!("seed {seed}: {what}"));
        }
    }
    None
}

#[test]
#[ignore = "long: sixty simulations of each mutant"]
fn mutants_are_noticed_at_a_step() {
    for &mutant in Mutant::ALL {
        println!("{}: {}", mutant.id(), noticed(mutant).unwrap_or("-".into()));
    }
}

/// What the contract says of a mutant in the unreduced local systems of a world, without looking at any joint state.
fn noticed_in(mutant: Mutant, byzantine: u16, checkpoints: bool) -> Option<String> {
    let config = WorldConfig {
        byzantine: [ReplicaId(byzantine)].into(),
        max_view: View(1),
        max_seq: SeqNo(1),
        checkpoint_interval: checkpoints.then_some(1),
        rules: Rulebook::without(mutant),
        ..WorldConfig::new(Cluster::new(4, 1), if checkpoints { 1 } else { 2 })
    };
    let mut world = World::new(config, Delivery::Lazy)
        .expect("these bounds make sense")
        .past_violations()
        .held_to_contract();
    let limits = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let found = explore(&mut world, limits, &mut |_| true);
    if found.outcome != Outcome::Exhausted {
        return None;
    }
    let begun = Instant::now();
    let conditions = lazy::check(&mut world, &mut |conditions| {
        let found = conditions.first.contains_key("contract");
        (found || begun.elapsed() > Duration::from_secs(60)).then_some("enough")
    });
    conditions.first.get("contract").map(|broken| format!("replica {byzantine} Byzantine: {}", broken.what))
}

#[test]
#[ignore = "long: the local systems of forty mutants"]
fn mutants_are_noticed_in_their_unreduced_local_systems() {
    let only = std::env::var("PBFT_ONLY").unwrap_or_default();
    for &mutant in
        Mutant::ALL.iter().filter(|mutant| only.is_empty() || only.split(',').any(|id| id == mutant.id()))
    {
        let mut worlds = [(0, false), (1, false), (3, false), (3, true)].into_iter();
        let found = worlds.find_map(|(byzantine, checkpoints)| noticed_in(mutant, byzantine, checkpoints));
        println!("{}: {}", mutant.id(), found.unwrap_or("-".into()));
    }
}

type Real = Simulated<Ed25519, Rulebook>;
type Happened = Effect<Ed25519>;

/// A step that a replica took in a good network, and everything that it is judged by.
struct Taken {
    ledger: Ledger<Real>,
    setup: Arc<Setup<Real>>,
    before: Replica<Real>,
    event: Event<Ed25519>,
    effects: Vec<Happened>,
}

impl Taken {
    fn judge(&self, effects: &[Happened]) -> Result<Vec<&'static str>, Breach> {
        let contract = Contract::new(Signatures::Check);
        contract.judge_step(&mut self.ledger.clone(), &self.setup, (&self.before, &self.event), effects)
    }

    fn records(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Persist(_))).count()
    }

    /// The breach, and the guard that fails.
    fn guard_of(&self, effects: &[Happened]) -> &'static str {
        let breach = self.judge(effects).expect_err("it is none of the protocol's");
        println!("{breach}");
        breach.guard
    }

    /// The effects with each message sent as `other` makes it; none if it makes nothing of any.
    fn with(&self, other: impl Fn(&Message<Ed25519>) -> Option<Message<Ed25519>>) -> Option<Vec<Happened>> {
        let changed = self.effects.iter().map(|effect| match effect {
            Effect::Send(to, message) => other(message).map(|message| Effect::Send(*to, message)),
            _ => None,
        });
        let changed: Vec<Option<Happened>> = changed.collect();
        changed.iter().any(Option::is_some).then(|| {
            changed.into_iter().zip(&self.effects).map(|(new, old)| new.unwrap_or(old.clone())).collect()
        })
    }
}

/// Two requests, a checkpoint after each, and a view change in between: every step of four replicas.
fn a_good_run() -> Vec<Taken> {
    let cluster = Cluster::new(4, 1);
    let (keys, clients) = KeyRing::insecure(0, 4, 1);
    let parameters = Parameters { checkpoint_interval: 1, window: 8, ..Parameters::default() };
    let setup = |(id, keys): (u16, KeyRing)| {
        let rules = Rulebook::default();
        let (id, keys, genesis) = (ReplicaId(id), Arc::new(keys), KeyValue::default());
        Arc::new(Setup::<Real> { id, cluster, parameters, keys, clients: 1, rules, genesis })
    };
    let setups: Vec<_> = (0..).zip(keys).map(setup).collect();
    let start =
        |setup: &Arc<Setup<Real>>| Replica::start(setup, None, &mut Effects::new()).expect("it has not run");
    let mut replicas: Vec<_> = setups.iter().map(start).collect();
    let mut ledgers: Vec<_> = setups.iter().map(|setup| Ledger::new(setup)).collect();
    let (contract, mut taken) = (Contract::new(Signatures::Check), Vec::new());
    let request = |timestamp| {
        let (key, value) = (Bytes::from(&b"key"[..]), Bytes::from(&b"value"[..]));
        let operation = Operation::Put { key, value }.to_bytes();
        let (timestamp, client) = (Timestamp(timestamp), ClientId(0));
        Message::Request(Signed::new(Request { operation, timestamp, client, read_only: false }, &clients[0]))
    };
    let mut waiting: VecDeque<(usize, Option<Message<Ed25519>>)> = VecDeque::new();
    for round in [Some(1), None, Some(2)] {
        waiting.extend((0..4).map(|to| (to, round.map(request))));
        while let Some((to, message)) = waiting.pop_front() {
            let event = match message {
                None => Event::Timeout(Timer::Progress { backoff: 0 }),
                Some(message) => match verify(&setups[to], message) {
                    Ok(message) => Event::Message(message),
                    Err(_) => continue,
                },
            };
            let (before, ledger, mut effects) = (replicas[to].clone(), ledgers[to].clone(), Effects::new());
            replicas[to].step(&setups[to], event.clone(), &mut effects);
            let effects: Vec<Happened> = effects.into_iter().collect();
            let setup = setups[to].clone();
            let judged = contract.judge_step(&mut ledgers[to], &setup, (&before, &event), &effects);
            assert!(judged.is_ok(), "{judged:?}");
            for effect in &effects {
                if let Effect::Send(destination, message) = effect {
                    let others = nodes(&cluster, to, *destination).into_iter().filter(|&node| node < 4);
                    waiting.extend(others.map(|node| (node, Some(message.clone()))));
                }
            }
            taken.push(Taken { ledger, setup, before, event, effects });
        }
    }
    assert!(replicas.iter().all(|replica| replica.view().0 == 1 && replica.last_executed().0 == 2));
    taken
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
                        watcher.event(&Event::Timeout(Timer::Status));
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
                    let fewer = m.content.view_changes[1..].to_vec();
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
        let other = Taken { event: Event::Timeout(Timer::Status), ..step };
        if let Err(breach) = other.judge(&other.effects) {
            refused += u32::from(breach.guard == "prepare-quorum");
        }
    }
    assert!(refused > 0);
}

/// The effects with other records, and what is sent as it was recorded.
fn forged(effects: &[Happened], other: impl Fn(&Record<Ed25519>) -> Option<Record<Ed25519>>) -> Option<Vec<Happened>> {
    let change = |effect: &Happened| match effect {
        Effect::Persist(record) => other(record).map(Effect::Persist),
        _ => None,
    };
    let changed: Vec<Option<Happened>> = effects.iter().map(change).collect();
    let all = || changed.iter().cloned().zip(effects).map(|(new, old)| new.unwrap_or(old.clone()));
    changed.iter().any(Option::is_some).then(|| all().collect())
}

#[test]
fn another_view_change_than_the_one_recorded_is_a_breach_now_and_later() {
    let mut seen = 0;
    for step in a_good_run() {
        let other = |message: &Message<Ed25519>| match message {
            Message::ViewChange(m) if m.content.replica == step.setup.id => {
                let other = ViewChange { n: SeqNo(0), stable: None, ..m.content.clone() };
                Some(Message::ViewChange(step.setup.sign(other).into()))
            }
            _ => None,
        };
        let Some(effects) = step.with(other) else { continue };
        assert_eq!(step.guard_of(&effects), "sent once");
        // The step as it was; and then, when the status timer fires, another one.
        let mut ledger = step.ledger.clone();
        let contract = Contract::new(Signatures::Check);
        let taken = contract.judge_step(&mut ledger, &step.setup, (&step.before, &step.event), &step.effects);
        taken.expect("it is one of the protocol's");
        let resent: Vec<Happened> = (effects.into_iter())
            .filter(|effect| matches!(effect, Effect::Send(_, Message::ViewChange(_))))
            .collect();
        let later = (&step.before, &Event::Timeout(Timer::Status));
        let breach = contract.judge_step(&mut ledger, &step.setup, later, &resent).expect_err("it is another");
        assert_eq!(breach.guard, if ledger_is_past(&step) { "to a later view" } else { "sent once" });
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
}

/// Whether the view that a step leaves for is entered in the same step.
fn ledger_is_past(step: &Taken) -> bool {
    step.effects.iter().any(|effect| matches!(effect, Effect::Persist(Record::NewView(_))))
}

#[test]
fn a_view_change_for_a_view_below_that_of_the_last_is_a_breach() {
    let mut seen = 0;
    for step in a_good_run() {
        let to = |view: View| {
            forged(&step.effects, |record| match record {
                Record::ViewChange(m) => {
                    let other = ViewChange { view, ..m.content.clone() };
                    Some(Record::ViewChange(Arc::new(step.setup.sign(other))))
                }
                _ => None,
            })
        };
        let (Some(ahead), Some(back)) = (to(View(3)), to(View(2))) else { continue };
        let only_records = |effects: Vec<Happened>| -> Vec<Happened> {
            effects.into_iter().filter(|effect| matches!(effect, Effect::Persist(Record::ViewChange(_)))).collect()
        };
        let both = [only_records(ahead.clone()), only_records(back.clone())].concat();
        assert_eq!(step.guard_of(&both), "sent once");
        let both = [only_records(back), only_records(ahead)].concat();
        assert_eq!(step.judge(&both), Ok(vec!["view_change", "view_change"]));
        seen += 1;
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn a_view_change_of_its_own_that_it_has_not_sent_counts_in_no_new_view() {
    let mut seen = 0;
    for step in a_good_run() {
        let remade = forged(&step.effects, |record| match record {
            Record::NewView(m) if m.signer == Principal::Replica(step.setup.id) => {
                let remade = m.content.view_changes.iter().map(|of| match of.content.replica == step.setup.id {
                    true => Arc::new(step.setup.sign(ViewChange { n: SeqNo(0), stable: None, ..of.content.clone() })),
                    false => of.clone(),
                });
                let new_view = NewView { view_changes: remade.collect(), ..m.content.clone() };
                Some(Record::NewView(Arc::new(step.setup.sign(new_view))))
            }
            _ => None,
        });
        let Some(effects) = remade else { continue };
        assert_eq!(step.guard_of(&effects), "view-change-quorum");
        seen += 1;
    }
    assert_eq!(seen, 1);
}

#[test]
fn a_store_without_the_batch_of_what_executed_or_prepared_is_a_breach() {
    let run = a_good_run();
    let mut lost = 0;
    for step in &run {
        let mut durable = step.before.durable().clone();
        if durable.executed.is_empty() && durable.prepared.is_empty() {
            continue;
        }
        assert_eq!(step.ledger.clone().restart(&step.setup, &durable), Ok(()));
        durable.batches.clear();
        let why = step.ledger.clone().restart(&step.setup, &durable).expect_err("a batch is missing");
        assert!(why.contains("the batch of"), "{why}");
        lost += 1;
    }
    assert!(lost > 0);
}

/// A Byzantine primary puts two requests of one client into a batch. Each is answered, in their order.
#[test]
fn each_request_of_a_batch_is_answered_though_two_are_of_one_client() {
    let run = a_good_run();
    let setup = &run.iter().find(|step| step.setup.id == ReplicaId(1)).expect("each takes a step").setup;
    let (keys, clients) = KeyRing::insecure(0, 4, 1);
    let request = |timestamp| {
        let (key, value) = (Bytes::from(&b"key"[..]), Bytes::from(vec![timestamp]));
        let operation = Operation::Put { key, value }.to_bytes();
        let (timestamp, client) = (Timestamp(timestamp.into()), ClientId(0));
        Signed::new(Request { operation, timestamp, client, read_only: false }, &clients[0])
    };
    let batch = Arc::new(Batch { requests: vec![request(1), request(2)] });
    let (view, n, digest) = (View(0), SeqNo(1), batch.digest());
    let mut messages =
        vec![Message::PrePrepare(Signed::new(PrePrepare { view, n, digest }, &keys[0]), batch)];
    for replica in [2, 3].map(ReplicaId) {
        let keys = &keys[usize::from(replica.0)];
        messages.push(Message::Prepare(Signed::new(Prepare { view, n, digest, replica }, keys)));
        messages.push(Message::Commit(Signed::new(Commit { view, n, digest, replica }, keys)));
    }
    let mut replica = Replica::start(setup, None, &mut Effects::new()).expect("it has not run");
    let (mut ledger, contract) = (Ledger::new(setup), Contract::new(Signatures::Check));
    let mut replies = Vec::new();
    for message in messages {
        let event = Event::Message(verify(setup, message).expect("it is valid"));
        let (before, mut effects) = (replica.clone(), Effects::new());
        replica.step(setup, event.clone(), &mut effects);
        let effects: Vec<Happened> = effects.into_iter().collect();
        replies.extend(effects.iter().filter(|of| matches!(of, Effect::Send(_, Message::Reply(_)))).cloned());
        let of = (&before, &event);
        // The second result under the first timestamp is nobody's.
        if let [Effect::Send(to, Message::Reply(first)), Effect::Send(_, Message::Reply(second))] = &replies[..] {
            let result = second.content.result.clone();
            let mixed = setup.sign(pbft::message::Reply { result, ..first.content.clone() });
            let swap = |effect: &Happened| match *effect == replies[0] {
                true => Effect::Send(*to, Message::Reply(mixed.clone())),
                false => effect.clone(),
            };
            let effects: Vec<Happened> = effects.iter().map(swap).collect();
            let breach = contract.judge_step(&mut ledger.clone(), setup, of, &effects);
            assert_eq!(breach.expect_err("it is of another request").guard, "the service");
        }
        contract.judge_step(&mut ledger, setup, of, &effects).expect("it is one of the protocol's");
    }
    assert_eq!(replies.len(), 2);
}
