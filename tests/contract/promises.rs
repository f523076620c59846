//! What a replica has promised: that it says nothing else later, and still has what it needs.

use crate::run::{Happened, Taken, a_good_run, forged};
use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::kv::Operation;
use pbft::message::{Batch, Commit, Message, NewView, PrePrepare, Prepare, Request, ViewChange};
use pbft::replica::verify::verify;
use pbft::replica::{Effect, Effects, Event, Expired, Record, Replica};
use pbft::types::{Bytes, ClientId, Principal, ReplicaId, SeqNo, Timestamp, View};
use pbft_properties::contract::{Contract, Ledger, Signatures};
use std::sync::Arc;

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
        let later = (&step.before, &Event::Timeout(Expired::Status));
        let breach =
            contract.judge_step(&mut ledger, &step.setup, later, &resent).expect_err("it is another");
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
            effects
                .into_iter()
                .filter(|effect| matches!(effect, Effect::Persist(Record::ViewChange(_))))
                .collect()
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
                let remade =
                    m.content.view_changes.iter().map(|of| match of.content.replica == step.setup.id {
                        true => Arc::new(step.setup.sign(ViewChange {
                            n: SeqNo(0),
                            stable: None,
                            ..of.content.clone()
                        })),
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
        if let [Effect::Send(to, Message::Reply(first)), Effect::Send(_, Message::Reply(second))] =
            &replies[..]
        {
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

#[test]
fn an_older_checkpoint_in_place_of_a_later_one_is_a_breach() {
    let run = a_good_run();
    let stable = |of: &Happened| match of {
        Effect::Persist(Record::Stable(certificate)) => Some(certificate.clone()),
        _ => None,
    };
    let oldest = run.iter().flat_map(|step| &step.effects).find_map(stable).expect("there is a checkpoint");
    let mut seen = 0;
    for step in run.iter().filter(|step| step.effects.iter().filter_map(stable).any(|of| of.n > oldest.n)) {
        let (mut ledger, contract) = (step.ledger.clone(), Contract::new(Signatures::Check));
        let of = (&step.before, &step.event);
        contract
            .judge_step(&mut ledger, &step.setup, of, &step.effects)
            .expect("it is one of the protocol's");
        // Then the older one arrives, and is recorded.
        let late = verify(&step.setup, Message::Stable(oldest.clone())).expect("it is valid");
        let back = [Effect::Persist(Record::Stable(oldest.clone()))];
        let breach =
            contract.judge_step(&mut ledger, &step.setup, (&step.before, &Event::Message(late)), &back);
        assert_eq!(breach.expect_err("h was higher").guard, "h only grows");
        seen += 1;
    }
    assert_eq!(seen, 4);
}
