//! The steps that an exploration has taken, held to the [contract](pbft_properties::contract): each distinct
//! one of a replica, with each ledger that any path of such steps gives it.
//!
//! Only what the run meets is judged. Where lazy delivery walks the unreduced local systems, every step that
//! any environment can lead to is, and this is not needed.

use super::tables::{Input, Local, LocalId, Tables};
use super::{Modelled, World};
use crate::lazy::{CONTRACT, Conditions, Watch};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::types::ReplicaId;
use pbft_properties::contract::Ledger;
use std::sync::Arc;

/// A local state, in a round where there are rounds: the same state may go on in another way in another one.
pub(crate) type Place = (usize, LocalId);

/// Where one replica has been: what was delivered to it where, and where that led. Without a delivery the
/// state has only been given another form.
#[derive(Default)]
pub(crate) struct Paths {
    onward: IndexMap<Place, Vec<(Vec<Input>, Place)>, FixedState>,
}

impl Paths {
    /// It has gone from one place to another by these inputs.
    pub(crate) fn add(&mut self, from: Place, inputs: Vec<Input>, to: Place) {
        if !inputs.is_empty() || from != to {
            self.onward.entry(from).or_default().push((inputs, to));
        }
    }
}

type Held = Arc<Ledger<Modelled>>;

impl World {
    /// Judges every step that the replicas have taken, or until `watch` says why to stop.
    pub(super) fn hold_all_steps(&mut self, conditions: &mut Conditions, watch: &mut Watch<'_>) {
        for position in 0..self.correct.len() {
            if !self.share.has(position) {
                continue;
            }
            let paths = self.tables.paths(self.correct[position]);
            self.hold_steps(position, &paths, conditions, watch);
        }
    }

    /// Judges the steps of the replica at this position, all along its paths.
    pub(crate) fn hold_steps(
        &mut self,
        position: usize,
        paths: &Paths,
        conditions: &mut Conditions,
        watch: &mut Watch<'_>,
    ) {
        if !self.is_held_to_contract() {
            return;
        }
        let counters = self.tables.counters();
        let replica = self.correct[position];
        let start = self.start(position);
        let start = (0, self.agents[position].agent(start).local);
        let ledger = Arc::new(Ledger::<Modelled>::new(self.tables.setup(replica)));
        let mut met: IndexSet<(Place, Held), FixedState> = IndexSet::from_iter([(start, ledger)]);
        let mut next = 0;
        while let Some((from, ledger)) = met.get_index(next).cloned() {
            next += 1;
            if !conditions.goes_on(watch) {
                break;
            }
            for (inputs, to) in paths.onward.get(&from).into_iter().flatten() {
                let after = self.hold_path(replica, (from.1, ledger.clone()), inputs, conditions);
                met.insert((*to, after));
            }
        }
        self.tables.restore_counters(counters);
        if next == met.len() {
            let reached: IndexSet<Place, FixedState> = met.iter().map(|(place, _)| *place).collect();
            let missed = paths.onward.keys().find(|from| !reached.contains(*from));
            conditions.note(CONTRACT, missed.is_none(), || {
                let state = missed.map(|from| &self.tables.local(from.1).replica);
                format!("a step of replica {} was not judged: no path leads to {state:?}", replica.0)
            });
        }
    }

    /// Judges the steps of one path; returns the ledger at its end.
    fn hold_path(
        &mut self,
        replica: ReplicaId,
        (mut at, mut ledger): (LocalId, Held),
        inputs: &[Input],
        conditions: &mut Conditions,
    ) -> Held {
        for &input in inputs {
            let Some(after) = self.tables.take_again(replica, (at, &ledger), input) else { continue };
            let breach = self.tables.take_breach();
            conditions.note(CONTRACT, breach.is_none(), || {
                let event = self.tables.tell(input);
                let state = &self.tables.local(at).replica;
                format!("{}\n  event: {event}\n  state: {state:?}", breach.unwrap_or_default())
            });
            ledger = after;
            at = self.tables.step(replica, at, input).to;
        }
        ledger
    }
}

impl Tables {
    /// Takes a step again, from a local state with this ledger: the ledger after it. None if a message does
    /// not verify.
    fn take_again(
        &mut self,
        replica: ReplicaId,
        (from, ledger): (LocalId, &Held),
        input: Input,
    ) -> Option<Held> {
        let event = self.event(replica, input);
        if event.is_none() && input != Input::Crash {
            return None;
        }
        let mut local = Local { ledger: Some(ledger.clone()), ..self.local(from).clone() };
        self.take_input(replica, &mut local, event, input);
        local.ledger
    }

    /// Every step that a replica has taken, and every other form that its states were given.
    fn paths(&self, replica: ReplicaId) -> Paths {
        let mut paths = Paths::default();
        for (&(of, from, input), step) in &self.steps {
            if of == replica {
                paths.add((0, from), vec![input], (0, step.to));
            }
        }
        for (&(of, from), bare) in &self.bare {
            if of == replica {
                paths.add((0, from), Vec::new(), (0, bare.alive));
                paths.add((0, from), Vec::new(), (0, bare.normal));
            }
        }
        paths
    }

    /// What is counted while steps are taken: to be put back when some are taken again.
    fn counters(&self) -> [u64; 3] {
        [self.cut_sends, self.recorded, self.restarts]
    }

    fn restore_counters(&mut self, counters: [u64; 3]) {
        [self.cut_sends, self.recorded, self.restarts] = counters;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Limits, Outcome, explore};
    use crate::world::{Delivery, WorldConfig};
    use pbft::types::Cluster;

    #[test]
    fn a_step_that_no_path_leads_to_is_said_to_be_unjudged() {
        let mut world =
            World::new(WorldConfig::new(Cluster::new(4, 1), 1), Delivery::One).expect("it is one");
        let found = explore(&mut world, Limits::default(), &mut |_| true);
        assert_eq!(found.outcome, Outcome::Exhausted);
        let mut paths = world.tables.paths(world.correct[1]);
        for failed in [false, true] {
            let mut conditions = Conditions::default();
            world.hold_steps(1, &paths, &mut conditions, &mut |_| None);
            assert!(conditions.counts[CONTRACT].0 > 10);
            assert_eq!(conditions.first.contains_key(CONTRACT), failed);
            let (&from, onward) = paths.onward.first().expect("it has steps");
            let onward = onward.clone();
            paths.onward.insert((from.0 + 1, from.1), onward);
        }
    }
}
