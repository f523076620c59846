//! The steps of one journal, held to the protocol that is proved for all sizes.

use crate::net::config::Served;
use pbft::crypto::ed25519::Ed25519;
use pbft::replica::{Durable, Effect, Effects, Event, Replica, Setup};
use pbft_properties::contract::{Breach, Signatures, Watcher};

/// Holds them, and counts. Messages in a journal are verified as they are replayed.
pub(super) struct Held {
    watcher: Watcher<Served>,
    /// The steps judged, and the actions that they are.
    pub(super) steps: u64,
    pub(super) actions: u64,
    life: u64,
    step: u64,
    breach: Option<String>,
}

impl Default for Held {
    fn default() -> Self {
        let watcher = Watcher::new(Signatures::Trust);
        Held { watcher, steps: 0, actions: 0, life: 0, step: 0, breach: None }
    }
}

impl Held {
    /// What the replica has done is known only from here on.
    pub(super) fn begins(&mut self, setup: &Setup<Served>, replica: &Replica<Served>) {
        self.watcher.begins(setup, replica, self.step);
    }

    /// The step after which that is.
    pub(super) fn goes_on_after(&mut self, steps: u64) {
        self.step = steps;
        self.watcher.goes_on_after(steps);
    }

    /// A life begins.
    pub(super) fn starts(&mut self, setup: &Setup<Served>, life: u64, replica: &Replica<Served>) {
        (self.life, self.step) = (life, 0);
        let none = Durable::default();
        let stored = replica.durable();
        // The state of a service that has done nothing is not stored.
        let is_new = Durable { snapshot: none.snapshot.clone(), ..stored.clone() } == none;
        let started = self.watcher.starts(setup, if is_new { &none } else { stored });
        self.note(started.map(|()| None));
    }

    pub(super) fn event(&mut self, event: &Event<Ed25519>) {
        self.step += 1;
        self.watcher.event(event);
    }

    pub(super) fn effects(&mut self, setup: &Setup<Served>, effects: &Effects<Ed25519>) {
        let effects: &[Effect<Ed25519>] = effects.iter().as_slice();
        let judged = self.watcher.effects(setup, effects);
        self.note(judged);
    }

    pub(super) fn carried_out(&mut self, steps: u64) {
        self.watcher.carried_out(steps);
    }

    fn note(&mut self, judged: Result<Option<Vec<&'static str>>, Breach>) {
        match judged {
            Ok(None) => {}
            Ok(Some(actions)) => {
                self.steps += 1;
                self.actions += actions.len() as u64;
            }
            Err(breach) => {
                self.breach.get_or_insert(format!("life {}, step {}: {breach}", self.life, self.step));
            }
        }
    }

    /// The first step that is none of the protocol's.
    pub(super) fn breach(&self) -> Option<&str> {
        self.breach.as_deref()
    }

    /// What was judged, in words.
    pub(super) fn words(&self) -> Option<String> {
        let judged = format!("{} steps of the proved protocol, {} actions", self.steps, self.actions);
        match &self.breach {
            Some(breach) => Some(format!("NOT A STEP OF THE PROVED PROTOCOL: {breach}")),
            None => (self.steps > 0).then_some(judged),
        }
    }
}
