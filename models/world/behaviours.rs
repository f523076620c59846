//! Behaviours: states without what replicas keep to themselves.
//!
//! How a replica represents what it has received, and how much of it, is its own affair; another program that
//! follows the same protocol may keep more or less. What each replica has done and what it has sent is not.
//! So the combinations of those that occur are what two implementations can be compared by, state by state.

use super::config::{Clients, MAX_REPLICAS};
use super::tables::MessageId;
use super::{State, World};
use foldhash::fast::FixedState;
use indexmap::IndexSet;
use pbft_properties::History;
use std::sync::Mutex;

/// What each correct replica has done, and what it has sent, in the order of their numbers.
pub type Behaviour<'a> = Vec<(&'a History, &'a [MessageId])>;

/// For each replica the name that its agents give to what it has done and sent.
pub(super) type Behaving = [u32; MAX_REPLICAS];

/// Those met so far.
pub(super) type Met = Mutex<IndexSet<Behaving, FixedState>>;

impl World {
    /// The same world, in which behaviours are recorded as its states are visited; not with client actors.
    #[must_use]
    pub fn recording_behaviours(mut self) -> Self {
        let recorded = self.config().clients == Clients::Implicit;
        self.behaviours = recorded.then(Met::default);
        self
    }

    /// Every behaviour of the states visited so far, if they are recorded.
    pub fn behaviours(&self) -> Option<Vec<Behaviour<'_>>> {
        let met = self.behaviours.as_ref()?.lock().expect("nobody panics while recording");
        let own = |position: usize, name: u32| {
            let (history, sent) = self.agents[position].behaviour(name);
            (self.judge.history(history), sent)
        };
        let all = |names: &Behaving| (0..self.correct.len()).map(|at| own(at, names[at])).collect();
        Some(met.iter().map(all).collect())
    }

    pub(super) fn note_behaviour(&self, state: &State) {
        let Some(met) = &self.behaviours else { return };
        let mut names = [0; MAX_REPLICAS];
        for (position, &agent) in state.iter().enumerate() {
            names[position] = self.agents[position].facts(agent).behaviour;
        }
        met.lock().expect("nobody panics while recording").insert(names);
    }
}
