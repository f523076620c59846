//! The correct replicas of a simulation: steps, effects in their order, crashes in between, restarts.

use super::network::{Happening, MS, Time};
use super::run::{Node, Simulation};
use super::{Failure, HeldTo, Scheme, Simulated};
use pbft::crypto::{Crypto, Verified};
use pbft::message::Message;
use pbft::presence::{ProgressTimer, shows_presence};
use pbft::replica::nodes;
use pbft::replica::{Bundle, Durable, Effect, Effects, Event, Fact, Record, Replica, Setup, Timeouts, Timer};
use pbft::rules::Rules;
use pbft::store::{Identity, open, seal};
use pbft::types::{Digest, ReplicaId};
use pbft_properties::contract::Ledger;
use rand::RngExt;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// A replica before a step, and what then happens.
type Before<C, R> = (Replica<Simulated<C, R>>, Event<C>);

pub(super) fn micros(time: Duration) -> Time {
    Time::try_from(time.as_micros()).unwrap_or(Time::MAX)
}

/// A correct replica and its machine.
pub(super) struct Server<B: Bundle> {
    pub(super) setup: Arc<Setup<B>>,
    /// None while it is down.
    pub(super) replica: Option<Replica<B>>,
    /// What it has sent; none after a step that is none of the abstract protocol.
    pub(super) ledger: Option<Ledger<B>>,
    /// What its records add up to on stable storage.
    pub(super) durable: Durable<B::Crypto>,
    pub(super) timer: ProgressTimer,
    /// The exponent that the replica asked for last.
    pub(super) backoff: u8,
    /// How often it has started the progress timer.
    pub(super) started: u64,
    pub(super) progress: u64,
    pub(super) status: u64,
}

/// Whether a state is worth a second look after this: it is at a checkpoint, or a view has ended or begun.
fn is_rare<C: Crypto>(effect: &Effect<C>) -> bool {
    matches!(effect, Effect::Persist(Record::Snapshot(_) | Record::ViewChange(_) | Record::NewView(_)))
}

/// What a segment of a journal begins with is the whole state.
fn assert_resumes<B: Bundle<Service: Eq>>(setup: &Setup<B>, replica: &Replica<B>) {
    if let Some(volatile) = replica.volatile(setup) {
        let resumed = Replica::resume(setup, replica.durable().clone(), &volatile);
        assert!(resumed.as_ref() == Ok(replica), "replica {} does not go on as it was", setup.id.0);
    }
}

impl<B: Bundle> Server<B> {
    /// One that is down and has never run.
    pub(super) fn new(setup: Arc<Setup<B>>, timeouts: Timeouts) -> Self {
        Server {
            replica: None,
            ledger: Some(Ledger::new(&setup)),
            durable: Durable::default(),
            timer: ProgressTimer::new(&setup.cluster, setup.id, timeouts, Duration::ZERO),
            backoff: 0,
            started: 0,
            progress: 0,
            status: 0,
            setup,
        }
    }
}

impl<C: Scheme, R: Rules + Copy + Debug + Default + Ord + Hash> Simulation<C, R> {
    pub(super) fn step(&mut self, node: usize, event: Event<C>) {
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        let Some(replica) = &mut server.replica else { return };
        let mut effects = Effects::new();
        let before = (replica.clone(), event.clone());
        replica.step(&server.setup, event, &mut effects);
        // States of mutants may break them.
        if server.setup.rules == R::default() && self.config.held_to == HeldTo::Both {
            assert_eq!(replica.check_invariants(&server.setup), Ok(()), "replica {node}");
            if effects.iter().any(is_rare) {
                assert_resumes(&server.setup, replica);
            }
        }
        self.carry_out(node, effects, Some(&before));
    }

    /// Holds what is carried out of a step, or of a start, to the contract.
    fn hold_to_contract(&mut self, node: usize, before: Option<&Before<C, R>>, effects: &[Effect<C>]) {
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        let Some(ledger) = &mut server.ledger else { return };
        let judged = match before {
            Some((before, event)) => {
                self.contract.judge_step(ledger, &server.setup, (before, event), effects)
            }
            None => self.contract.judge_start(ledger, &server.setup, effects),
        };
        match judged {
            Ok(actions) => {
                self.report.judged += 1;
                actions.into_iter().for_each(|action| *self.report.actions.entry(action).or_default() += 1);
            }
            Err(breach) => self.breaches(node, breach.to_string()),
        }
    }

    /// A replica has done what the protocol does not; it is judged no further.
    fn breaches(&mut self, node: usize, what: String) {
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        server.ledger = None;
        let ends = match self.config.held_to {
            HeldTo::Both => server.setup.rules == R::default(),
            HeldTo::Contract => true,
            HeldTo::Properties => false,
        };
        if ends {
            self.breach.get_or_insert(format!("replica {node}: {what}"));
        }
    }

    /// Carries out the effects in order, or as many of them as a crash leaves time for.
    pub(super) fn carry_out(&mut self, node: usize, effects: Effects<C>, before: Option<&Before<C, R>>) {
        let crashes = self.config.crashes && !self.weather.healed && self.rng.random_range(0..150) == 0;
        let effects: Vec<Effect<C>> = effects.into_iter().collect();
        let count = effects.len();
        let left = if crashes { self.rng.random_range(0..=count) } else { count };
        // A fact goes with the record before it, so the crash comes after the fact.
        let facts = effects[left..].iter().take_while(|effect| matches!(effect, Effect::Fact(_)));
        let until = left + facts.count();
        self.hold_to_contract(node, before, &effects[..until]);
        for effect in effects.into_iter().take(until) {
            self.carry_out_one(node, effect);
        }
        if until < count {
            self.crash(node);
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
                if let Timer::Progress { backoff } = timer {
                    server.backoff = backoff;
                    server.started += 1;
                    server.timer.set(backoff, Duration::from_micros(self.agenda.now()));
                }
                self.watch(node, timer);
            }
            Effect::CancelProgressTimer => {
                server.timer.cancel();
                server.progress += 1;
            }
            Effect::Fact(fact) => self.record(node, &fact),
            Effect::Reject(reason) => self.drop_message(reason),
        }
    }

    /// Plans to look at a timer when it is due.
    pub(super) fn watch(&mut self, node: usize, timer: Timer) {
        let now = Duration::from_micros(self.agenda.now());
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        let (status, generation, after) = match timer {
            Timer::Status => {
                server.status += 1;
                (true, server.status, Some(self.status))
            }
            Timer::Progress { .. } => {
                server.progress += 1;
                let after = match self.config.presence {
                    true => server.timer.due(now).map(|due| due.saturating_sub(now)),
                    false => Some(self.config.timeouts.duration(timer)),
                };
                (false, server.progress, after.map(micros))
            }
        };
        if let Some(after) = after {
            let after = after + self.rng.random_range(0..=after / 4);
            self.agenda.plan(after, Happening::Timer { node, status, generation });
        }
    }

    /// A timer is looked at: it fires, or, if time has passed that does not count, is looked at again.
    pub(super) fn fire(&mut self, node: usize, status: bool, generation: u64) {
        let now = Duration::from_micros(self.agenda.now());
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        let current = if status { server.status } else { server.progress };
        if server.replica.is_none() || current != generation {
            return;
        }
        let timer = if status { Timer::Status } else { Timer::Progress { backoff: 0 } };
        if status || !self.config.presence || server.timer.fires(now) {
            self.step(node, Event::Timeout(timer.expired()));
        } else {
            self.watch(node, timer);
        }
    }

    /// A verified message arrives.
    pub(super) fn receive(&mut self, node: usize, message: Verified<Message<C>>) {
        let now = Duration::from_micros(self.agenda.now());
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        let heard = shows_presence(&message).is_some_and(|replica| server.timer.heard(replica, now));
        if heard && self.config.presence {
            self.watch(node, Timer::Progress { backoff: 0 });
        }
        self.step(node, Event::Message(message));
    }

    pub(super) fn record(&mut self, node: usize, fact: &Fact) {
        match fact {
            Fact::ViewLeft { .. } => {
                if let Node::Correct(server) = &mut self.nodes[node] {
                    server.timer.view_left();
                }
                self.report.views_left += 1;
            }
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
        if server.replica.is_some() {
            self.stop(node);
            let down = self.rng.random_range(10 * MS..400 * MS);
            self.agenda.plan(down, Happening::Restart { node });
        }
    }

    /// A replica is gone until somebody restarts it.
    pub(super) fn stop(&mut self, node: usize) {
        let Node::Correct(server) = &mut self.nodes[node] else { return };
        server.replica = None;
        self.trace(|| format!("r{node} crashes"));
        self.report.crashes += 1;
    }

    pub(super) fn restart(&mut self, node: usize) -> Result<(), Failure> {
        let Node::Correct(server) = &mut self.nodes[node] else { return Ok(()) };
        server.progress += 1;
        server.status += 1;
        let now = Duration::from_micros(self.agenda.now());
        server.timer = ProgressTimer::new(&self.cluster, server.setup.id, self.config.timeouts, now);
        server.backoff = 0;
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
        if let Some(ledger) = &mut server.ledger
            && let Err(lost) = ledger.restart(&server.setup, &stored)
        {
            self.breaches(node, format!("durable means durable: {lost}"));
            // It may not even start.
            self.breach.take().map_or(Ok(()), |breach| Err(Failure::Breach(breach)))?;
        }
        let Node::Correct(server) = &mut self.nodes[node] else { return Ok(()) };
        let mut effects = Effects::new();
        let replica = Replica::start(&server.setup, Some(stored), &mut effects)
            .map_err(|error| Failure::CannotRestart(error.to_string()))?;
        server.replica = Some(replica);
        self.carry_out(node, effects, None);
        Ok(())
    }
}
