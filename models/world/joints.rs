//! Combinations of local states, without what has been sent.

use super::config::MAX_REPLICAS;
use super::tables::{Input, Local, LocalId};
use super::{State, World};
use crate::crypto::Symbolic;
use foldhash::fast::FixedState;
use indexmap::IndexSet;
use pbft::crypto::Signed;
use pbft::message::{Message, NewView};
use pbft::replica::verify::verify;
use pbft::types::{Principal, ReplicaId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// The local states of the correct replicas, by their positions; the rest is the first.
pub type JointLocals = [LocalId; MAX_REPLICAS];

type SignedNewView = Signed<NewView<Symbolic>, Symbolic>;

/// Those that occur.
pub type Joints = IndexSet<JointLocals, FixedState>;

/// A combination that is looked for.
pub(super) struct LookedFor {
    locals: [Option<LocalId>; MAX_REPLICAS],
    /// Whether they are what is left after a restart of what a state has.
    restarted: bool,
}

impl World {
    /// The same world, in which combinations of local states are recorded as its states are visited, and from
    /// whose local states replicas can be restarted.
    #[must_use]
    pub fn recording_joints(mut self) -> Self {
        let config = self.config().clone();
        self.tables.allow_crashes(&config);
        self.joints = Some(Mutex::default());
        self
    }

    /// The combinations of the states visited so far; recording ends.
    pub fn take_joints(&mut self) -> Joints {
        let joints = self.joints.take().unwrap_or_default();
        joints.into_inner().expect("nobody panics while recording")
    }

    pub(super) fn note_joint(&self, state: &State) {
        let Some(joints) = &self.joints else { return };
        joints.lock().expect("nobody panics while recording").insert(self.locals(state));
    }

    fn locals(&self, state: &State) -> JointLocals {
        let mut locals = [LocalId::new(0); MAX_REPLICAS];
        for (position, &agent) in state.iter().enumerate().take(self.correct.len()) {
            locals[position] = self.agents[position].agent(agent).local;
        }
        locals
    }

    /// A NEW-VIEW by which a replica in this state can have entered its view: one with the `O` that it has
    /// reported. None in view 0.
    pub fn entered_by(&self, replica: ReplicaId, local: &Local) -> Option<Arc<SignedNewView>> {
        let view = local.replica.view();
        let entry = local.history.entries().filter(|entry| entry.view == view).last()?;
        let setup = self.tables.setup(replica);
        let found = self.tables.all_messages().find_map(|id| match self.tables.message(id) {
            Message::NewView(m) if m.content.view == view => {
                let proposals = m.content.pre_prepares.iter().map(|entry| entry.content);
                let above = proposals.filter(|proposal| proposal.n > entry.h);
                let carried: BTreeMap<_, _> = above.map(|proposal| (proposal.n, proposal.digest)).collect();
                let is_valid = carried == entry.carried && verify(setup, Message::NewView(m.clone())).is_ok();
                is_valid.then(|| m.clone())
            }
            _ => None,
        });
        Some(found.expect("a view is entered by a NEW-VIEW of the world"))
    }

    /// What the replica at this position is after a restart, whole.
    pub fn restarted(&mut self, position: usize, local: LocalId) -> LocalId {
        self.tables.step(Principal::Replica(self.correct[position]), local, Input::Crash).to
    }

    /// Why a restart was refused, if one was.
    pub fn take_refusal(&mut self) -> Option<String> {
        self.tables.take_refusal()
    }

    /// From now on a state with these local states counts as one that violates something, and no other does;
    /// they may be what it has after a restart of every replica.
    pub fn look_for(&mut self, locals: [Option<LocalId>; MAX_REPLICAS], restarted: bool) {
        self.looked_for = Some(LookedFor { locals, restarted });
    }

    /// Whether a state is the one looked for; none if none is.
    pub(super) fn is_looked_for(&self, state: &State) -> Option<bool> {
        let wanted = self.looked_for.as_ref()?;
        let locals = self.locals(state);
        let found = (0..self.correct.len()).all(|position| {
            let local = locals[position];
            let local = match wanted.restarted {
                true => self.tables.known_restart(self.correct[position], local),
                false => Some(local),
            };
            local == wanted.locals[position]
        });
        Some(found)
    }
}
