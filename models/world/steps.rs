//! The steps of replicas, each taken once.

use super::Modelled;
use super::settle::Settled;
use super::tables::{Input, Local, LocalId, MessageId, Step, Tables};
use super::views::Views;
use crate::crypto::Symbolic;
use pbft::replica::noted::has_read_v;
use pbft::replica::verify::verify;
use pbft::replica::{Durable, Effects, Event, Expired, Replica, Setup};
use pbft::types::{Principal, ReplicaId};
use pbft_properties::History;
use pbft_properties::contract::{Contract, Ledger, is_judged};
use std::sync::Arc;

impl Tables {
    /// Starts a replica; returns its local state and what it sends.
    pub fn start(&mut self, replica: ReplicaId) -> Step {
        let mut effects = Effects::new();
        let setup = self.setups[usize::from(replica.0)].clone();
        let replica = Replica::start(&setup, None, &mut effects)
            .expect("the initial state is one the replica can start from");
        let mut local = Local { replica, history: History::default(), stored: None, ledger: None };
        let views = Views::before(&local.history, &local.replica);
        let durable = local.replica.durable().clone();
        let sends = self.settle(&mut local, durable, views, effects, false);
        Step { to: self.add_local(local), sends }
    }

    /// Takes a step: the real code, `verify` and `Replica::step`, runs the first time only. Nothing happens
    /// if a message does not verify.
    pub fn step(&mut self, node: impl Into<Principal>, from: LocalId, input: Input) -> Step {
        match node.into() {
            Principal::Replica(replica) => self.step_replica(replica, from, input),
            Principal::Client(client) => self.step_client(client, from, input),
        }
    }

    fn step_replica(&mut self, replica: ReplicaId, from: LocalId, input: Input) -> Step {
        if let Some(step) = self.steps.get(&(replica, from, input)) {
            return step.clone();
        }
        let step = self.rehearsed_step(from, input).unwrap_or_else(|| self.new_step(replica, from, input));
        self.steps.insert((replica, from, input), step.clone());
        step
    }

    fn new_step(&mut self, replica: ReplicaId, from: LocalId, input: Input) -> Step {
        let mut step = Step { to: from, sends: Arc::default() };
        let event = match input.message() {
            Some(message) => self.verified(replica, message),
            None => self.event(replica, input),
        };
        if event.is_some() || input == Input::Crash {
            let mut local = self.local(from).clone();
            step.sends = self.take_input(replica, &mut local, event, input);
            step.to = self.add_local(local);
        }
        step
    }

    pub(super) fn take_input(
        &mut self,
        replica: ReplicaId,
        local: &mut Local,
        event: Option<Event<Symbolic>>,
        input: Input,
    ) -> Arc<[MessageId]> {
        match (event, input.crash()) {
            (Some(event), None) if local.ledger.is_some() => {
                let before = local.replica.clone();
                self.take_held(replica, (&before, local), event)
            }
            (Some(event), None) => self.take(replica, local, event),
            (event, carried_out) => {
                let units = event.clone().map(|event| self.units(&local.replica, replica, event));
                let carried_out = usize::from(carried_out.unwrap_or_default());
                let done = units.into_iter().flatten().take(carried_out).flatten().collect();
                self.crash(replica, local, (event, done))
            }
        }
    }

    /// What a step makes the replica do; nothing if a message does not verify, and for a crash between steps.
    pub(crate) fn event(&self, replica: ReplicaId, input: Input) -> Option<Event<Symbolic>> {
        match input {
            Input::Message(message) | Input::CrashDuring(Some(message), _) => {
                verify(self.setup(replica), self.message(message).clone()).map(Event::Message).ok()
            }
            Input::TimeOut | Input::CrashDuring(None, _) => Some(Event::Timeout(Expired::Progress)),
            Input::Crash => None,
        }
    }

    /// What a message makes the replica do. It is verified the first time only: that depends on no state.
    fn verified(&mut self, replica: ReplicaId, message: MessageId) -> Option<Event<Symbolic>> {
        if let Some(known) = self.verified.get(&(replica, message)) {
            return known.clone();
        }
        let event = self.event(replica, Input::Message(message));
        self.verified.insert((replica, message), event.clone());
        event
    }

    /// The same of any step, without remembering it.
    pub(super) fn event_of(&self, replica: ReplicaId, input: Input) -> Option<Event<Symbolic>> {
        let known = input.message().and_then(|message| self.verified.get(&(replica, message)));
        known.cloned().unwrap_or_else(|| self.event(replica, input))
    }

    /// Takes a step of a replica, whether or not it has been taken before; returns what it sends.
    pub(crate) fn take(
        &mut self,
        replica: ReplicaId,
        local: &mut Local,
        event: Event<Symbolic>,
    ) -> Arc<[MessageId]> {
        let settled = self.taken(replica, local, event);
        self.name(settled)
    }

    /// The same, but names nothing.
    pub(super) fn taken(&self, replica: ReplicaId, local: &mut Local, event: Event<Symbolic>) -> Settled {
        let mut effects = Effects::new();
        let views = Views::before(&local.history, &local.replica);
        let stored = if self.keeps_disks { local.on_disk() } else { Durable::default() };
        local.replica.step(&self.setups[usize::from(replica.0)], event, &mut effects);
        self.settled(local, stored, views, effects, false)
    }

    /// The same of a local state that is `before`, and the step is held to the contract.
    pub(crate) fn take_held(
        &mut self,
        replica: ReplicaId,
        (before, local): (&Replica<Modelled>, &mut Local),
        event: Event<Symbolic>,
    ) -> Arc<[MessageId]> {
        let mut effects = Effects::new();
        let views = Views::before(&local.history, &local.replica);
        let stored = if self.keeps_disks { local.on_disk() } else { Durable::default() };
        has_read_v();
        local.replica.step(&self.setups[usize::from(replica.0)], event.clone(), &mut effects);
        self.reads_v = has_read_v();
        if effects.iter().any(is_judged) {
            let effects = effects.iter().as_slice();
            self.hold_to_contract(replica, local, |contract, ledger, setup| {
                let judged = contract.judge_step(ledger, setup, (before, &event), effects);
                judged.map_err(|breach| breach.to_string())
            });
        }
        self.settle(local, stored, views, effects, false)
    }

    /// Judges something that the replica has done by its ledger.
    pub(super) fn hold_to_contract<T>(
        &mut self,
        replica: ReplicaId,
        local: &mut Local,
        judge: impl FnOnce(&Contract, &mut Ledger<Modelled>, &Setup<Modelled>) -> Result<T, String>,
    ) {
        let Some(ledger) = &mut local.ledger else { return };
        let judged = judge(&self.contract, Arc::make_mut(ledger), &self.setups[usize::from(replica.0)]);
        if let Err(what) = judged {
            self.breach.get_or_insert(format!("r{}: {what}", replica.0));
        }
    }

    /// What a replica did that the abstract protocol does not, if one did.
    pub(crate) fn take_breach(&mut self) -> Option<String> {
        self.breach.take()
    }

    /// What an event would make a replica do in this state; nothing is recorded.
    pub fn try_step(&self, replica: ReplicaId, from: LocalId, event: Event<Symbolic>) -> Effects<Symbolic> {
        let mut state = self.local(from).replica.clone();
        let mut effects = Effects::new();
        state.step(self.setup(replica), event, &mut effects);
        effects
    }
}
