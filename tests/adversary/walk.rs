//! Reachable situations: what has been sent, and the states the correct replicas have been in, on random
//! walks of real replicas among everything that the network and the adversary can deliver.

use crate::Msg;
use crate::setting::Setting;
use pbft::message::Message;
use pbft::replica::verify::verify;
use pbft::replica::{Effects, Event, Expired, Replica};
use pbft::types::SeqNo;
use pbft_models::world::Modelled;
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;

/// The most states of each replica that are kept.
const STATES: usize = 64;

/// Where a walk has come to.
pub struct Situation {
    /// What correct replicas have sent, and the requests.
    pub sent: BTreeSet<Msg>,
    /// The states that each correct replica has been in, in the order of the correct replicas.
    pub states: Vec<Vec<Replica<Modelled>>>,
}

impl Situation {
    /// What has been sent, as the adversary takes it.
    pub fn sent(&self) -> Vec<&Msg> {
        self.sent.iter().collect()
    }
}

/// Every replica has started and knows the requests.
fn start(setting: &Setting) -> Situation {
    let mut situation = Situation { sent: setting.requests.iter().cloned().collect(), states: Vec::new() };
    for setup in &setting.correct {
        let mut effects = Effects::new();
        let replica = Replica::start(setup, None, &mut effects).expect("the initial state is sound");
        note_sends(setting, &mut situation.sent, &effects);
        situation.states.push(vec![replica]);
    }
    for position in 0..setting.correct.len() {
        for request in &setting.requests {
            deliver(setting, &mut situation, position, request);
        }
    }
    situation
}

/// Walks `steps` steps that change something.
pub fn walk(setting: &Setting, steps: usize, rng: &mut ChaCha8Rng) -> Situation {
    let mut situation = start(setting);
    let mut derived = setting.adversary.derive(&situation.sent());
    let (byzantine, timely) = (rng.random_range(0..4), rng.random_range(1..25));
    let (mut done, mut tries) = (0, 0);
    while done < steps && tries < 60 * steps {
        tries += 1;
        let position = rng.random_range(0..setting.correct.len());
        let before = situation.sent.len();
        let changed = if rng.random_range(0..timely * 10) == 0 {
            time_out(setting, &mut situation, position)
        } else {
            let sent: Vec<_> = situation.sent.iter().collect();
            let message = if rng.random_range(0..4) < byzantine { derived.choose(rng) } else { None };
            let Some(message) = message.or_else(|| sent.choose(rng).copied()).cloned() else { continue };
            deliver(setting, &mut situation, position, &message)
        };
        done += usize::from(changed);
        if situation.sent.len() > before {
            derived = setting.adversary.derive(&situation.sent());
        }
    }
    situation
}

/// Everything that correct replicas send arrives everywhere, until nothing new is sent.
pub fn undisturbed(setting: &Setting) -> Situation {
    let mut situation = start(setting);
    loop {
        let sent: Vec<Msg> = situation.sent.iter().cloned().collect();
        for (message, position) in sent.iter().flat_map(|m| (0..setting.correct.len()).map(move |at| (m, at)))
        {
            deliver(setting, &mut situation, position, message);
        }
        if situation.sent.len() == sent.len() {
            return situation;
        }
    }
}

fn deliver(setting: &Setting, situation: &mut Situation, position: usize, message: &Msg) -> bool {
    let verified = verify(&setting.correct[position], message.clone());
    verified.is_ok_and(|verified| step(setting, situation, position, Event::Message(verified)))
}

fn time_out(setting: &Setting, situation: &mut Situation, position: usize) -> bool {
    let Some(replica) = situation.states[position].last() else { return false };
    let next = replica.leaving().unwrap_or(replica.view()).next();
    let event = Event::Timeout(Expired::Progress);
    next <= setting.config.max_view && step(setting, situation, position, event)
}

fn step(
    setting: &Setting,
    situation: &mut Situation,
    position: usize,
    event: Event<pbft_models::crypto::Symbolic>,
) -> bool {
    let states = &mut situation.states[position];
    let Some(mut replica) = states.last().cloned() else { return false };
    let mut effects = Effects::new();
    replica.step(&setting.correct[position], event, &mut effects);
    let changed = states.last() != Some(&replica);
    if changed {
        states.push(replica);
        if states.len() > STATES {
            states.remove(0);
        }
    }
    note_sends(setting, &mut situation.sent, &effects);
    changed
}

/// Adds what is part of the world: worlds leave out STATUS, FETCH, state transfer and what goes to clients.
fn note_sends(setting: &Setting, sent: &mut BTreeSet<Msg>, effects: &Effects<pbft_models::crypto::Symbolic>) {
    for (_, message) in effects.sends() {
        let within = |n: SeqNo| n <= setting.config.max_seq;
        let part = match message {
            Message::PrePrepare(m, _) => within(m.content.n),
            Message::Prepare(m) => within(m.content.n),
            Message::Commit(m) => within(m.content.n),
            Message::Checkpoint(m) => within(m.content.n),
            Message::ViewChange(_) | Message::NewView(_) | Message::Stable(_) | Message::Batch(_) => true,
            _ => false,
        };
        if part {
            sent.insert(message.clone());
        }
    }
}
