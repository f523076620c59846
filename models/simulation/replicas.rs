//! The correct replicas of a simulation: steps, effects in their order, crashes in between, restarts.

use super::network::{Happening, MS, Time};
use super::run::{Node, Simulation};
use super::{Failure, Scheme};
use pbft::replica::nodes;
use pbft::replica::{Bundle, Durable, Effect, Effects, Event, Fact, Replica, Setup, Timer};
use pbft::rules::Rules;
use pbft::store::{Identity, open, seal};
use pbft::types::{Digest, ReplicaId};
use rand::RngExt;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

/// Base of the progress time-out.
const PROGRESS: Time = 120 * MS;
/// Interval between STATUS messages.
const STATUS: Time = 40 * MS;

/// A correct replica and its machine.
pub(super) struct Server<B: Bundle> {
    pub(super) setup: Arc<Setup<B>>,
    /// None while it is down.
    pub(super) replica: Option<Replica<B>>,
    /// What its records add up to on stable storage.
    pub(super) durable: Durable<B::Crypto>,
    pub(super) progress: u64,
    pub(super) status: u64,
}

impl<C: Scheme, R: Rules + Copy + Debug + Default + Ord + Hash> Simulation<C, R> {
    pub(super) fn step(&mut self, node: usize, event: Event<C>) {
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        let Some(replica) = &mut server.replica else { return };
        let mut effects = Effects::new();
        replica.step(&server.setup, event, &mut effects);
        // States of mutants may break them.
        if server.setup.rules == R::default() {
            assert_eq!(replica.check_invariants(&server.setup), Ok(()), "replica {node}");
        }
        self.carry_out(node, effects);
    }

    /// Carries out the effects in order, or as many of them as a crash leaves time for.
    pub(super) fn carry_out(&mut self, node: usize, effects: Effects<C>) {
        let crashes = self.config.crashes && !self.weather.healed && self.rng.random_range(0..150) == 0;
        let mut left = crashes.then(|| self.rng.random_range(0..=effects.iter().count()));
        for effect in effects {
            // A fact goes with the record before it, so the crash comes after the fact.
            let is_fact = matches!(effect, Effect::Fact(_));
            if let Some(left) = &mut left {
                if *left == 0 && !is_fact {
                    return self.crash(node);
                }
                *left = left.saturating_sub(1);
            }
            self.carry_out_one(node, effect);
        }
    }

    pub(super) fn carry_out_one(&mut self, node: usize, effect: Effect<C>) {
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        match effect {
            Effect::Persist(record) => server.durable.apply(&record, &server.setup.rules),
            Effect::Send(to, message) => {
                let to = nodes(&server.setup.cluster, node, to);
                self.learn_batch(&message);
                for to in to {
                    self.transmit(node, to, &message);
                }
            }
            Effect::SetTimer(timer) => {
                let (status, generation, after) = match timer {
                    Timer::Status => {
                        server.status += 1;
                        (true, server.status, STATUS)
                    }
                    Timer::Progress { backoff } => {
                        server.progress += 1;
                        (false, server.progress, PROGRESS << backoff)
                    }
                };
                let after = after + self.rng.random_range(0..after / 4);
                self.agenda.plan(after, Happening::Timer { node, status, generation });
            }
            Effect::CancelProgressTimer => server.progress += 1,
            Effect::Fact(fact) => self.record(node, &fact),
            Effect::Reject(reason) => self.drop_message(reason),
        }
    }

    pub(super) fn record(&mut self, node: usize, fact: &Fact) {
        match fact {
            Fact::ViewEntered { view, .. } => {
                self.report.highest_view = self.report.highest_view.max(view.0);
            }
            Fact::StateTransferred { .. } => self.report.transfers += 1,
            Fact::CheckpointStable { .. } => self.report.stable_checkpoints += 1,
            _ => {}
        }
        let replica = ReplicaId(u16::try_from(node).expect("a replica's index is small"));
        self.trace(|| format!("r{node} {fact:?}"));
        if let Some(history) = self.histories.get_mut(&replica) {
            history.record(fact);
            self.news = true;
        }
    }

    pub(super) fn trace(&self, line: impl FnOnce() -> String) {
        if self.config.trace {
            eprintln!("{:>9} us {}", self.agenda.now(), line());
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        if server.replica.take().is_some() {
            self.trace(|| format!("r{node} crashes"));
            self.report.crashes += 1;
            let down = self.rng.random_range(10 * MS..400 * MS);
            self.agenda.plan(down, Happening::Restart { node });
        }
    }

    pub(super) fn restart(&mut self, node: usize) -> Result<(), Failure> {
        let Node::Correct(server) = &mut self.nodes[node] else { return Ok(()) };
        server.progress += 1;
        server.status += 1;
        let identity = Identity {
            domain: Digest::NULL,
            replica: server.setup.id,
            cluster: self.cluster,
            parameters: self.parameters,
        };
        let stored = if self.config.wire {
            open(&identity, &seal(&identity, &server.durable))
                .map_err(|error| Failure::CannotRestart(error.to_string()))?
        } else {
            server.durable.clone()
        };
        let mut effects = Effects::new();
        let replica = Replica::start(&server.setup, Some(stored), &mut effects)
            .map_err(|error| Failure::CannotRestart(error.to_string()))?;
        server.replica = Some(replica);
        self.carry_out(node, effects);
        Ok(())
    }
}
