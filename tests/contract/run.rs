//! A run in a good network, each of whose steps can be judged again, as it was or otherwise.

use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::kv::{KeyValue, Operation};
use pbft::message::{Message, Request};
use pbft::parameters::Parameters;
use pbft::replica::verify::verify;
use pbft::replica::{Effect, Effects, Event, Expired, Record, Replica, Setup, nodes};
use pbft::types::{Bytes, ClientId, Cluster, ReplicaId, Timestamp};
use pbft_models::mutants::Rulebook;
use pbft_models::simulation::Simulated;
use pbft_properties::contract::{Breach, Contract, Ledger, Signatures};
use std::collections::VecDeque;
use std::sync::Arc;

pub type Real = Simulated<Ed25519, Rulebook>;
pub type Happened = Effect<Ed25519>;

/// A step that a replica took in a good network, and everything that it is judged by.
pub struct Taken {
    pub ledger: Ledger<Real>,
    pub setup: Arc<Setup<Real>>,
    pub before: Replica<Real>,
    pub event: Event<Ed25519>,
    pub effects: Vec<Happened>,
}

impl Taken {
    pub fn judge(&self, effects: &[Happened]) -> Result<Vec<&'static str>, Breach> {
        let contract = Contract::new(Signatures::Check);
        contract.judge_step(&mut self.ledger.clone(), &self.setup, (&self.before, &self.event), effects)
    }

    pub fn records(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Persist(_))).count()
    }

    /// The breach, and the guard that fails.
    pub fn guard_of(&self, effects: &[Happened]) -> &'static str {
        let breach = self.judge(effects).expect_err("it is none of the protocol's");
        println!("{breach}");
        breach.guard
    }

    /// The effects with each message sent as `other` makes it; none if it makes nothing of any.
    pub fn with(
        &self,
        other: impl Fn(&Message<Ed25519>) -> Option<Message<Ed25519>>,
    ) -> Option<Vec<Happened>> {
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
pub fn a_good_run() -> Vec<Taken> {
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
                None => Event::Timeout(Expired::Progress),
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

/// The effects with other records, and what is sent as it was recorded.
pub fn forged(
    effects: &[Happened],
    other: impl Fn(&Record<Ed25519>) -> Option<Record<Ed25519>>,
) -> Option<Vec<Happened>> {
    let change = |effect: &Happened| match effect {
        Effect::Persist(record) => other(record).map(Effect::Persist),
        _ => None,
    };
    let changed: Vec<Option<Happened>> = effects.iter().map(change).collect();
    let all = || changed.iter().cloned().zip(effects).map(|(new, old)| new.unwrap_or(old.clone()));
    changed.iter().any(Option::is_some).then(|| all().collect())
}
