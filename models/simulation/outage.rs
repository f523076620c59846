//! A long outage: f replicas are gone for good, and one more than the rest can do without comes and goes.
//!
//! Each time a quorum is together for too short a time to execute anything, if it is long enough to leave a
//! view. What is measured is how long clients wait once the quorum is back for good.

use super::network::{MS, Time};
use super::replicas::micros;
use super::run::{Node, Simulation};
use super::{Config, Failure, Scheme};
use pbft::kv::Operation;
use pbft::replica::{Timeouts, Timer};
use pbft::rules::{MAX_BACKOFF, Rules};
use pbft::types::Bytes;
use rand::RngExt;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

/// The interval between STATUS messages while nothing comes or goes, so that there are fewer events: without
/// a quorum nothing follows from what they say.
const IDLE_STATUS: Time = 60_000 * MS;
/// How long they are sent as often as configured after a replica has gone.
const AFTERMATH: Time = 3_000 * MS;
/// The operations of the client that asks all the time: more than execute in any outage looked at.
const OPERATIONS: usize = 50_000;
/// How long the simulation waits for requests after the return.
const PATIENCE: Time = 3_600_000 * MS;
/// Requests that must execute after the return.
const AFTERWARDS: usize = 4;

/// An outage. Everything else follows from the seed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outage {
    /// Chooses the schedule, who is gone and the workload.
    pub seed: u64,
    /// The number of replicas.
    pub n: u16,
    /// The number of Byzantine replicas tolerated; so many are gone for good.
    pub f: u16,
    /// How long it lasts.
    pub length: Duration,
    /// How long the last of a quorum is there each time: the shortest and the longest.
    pub up: (Duration, Duration),
    /// Whether it goes within 5 ms of when the timer of another is started, if that is earlier: the worst
    /// that can happen to time-outs that double.
    pub treacherous: bool,
    /// How long it is gone each time: the shortest and the longest.
    pub down: (Duration, Duration),
    /// Whether time-outs count only while a quorum is heard.
    pub presence: bool,
}

/// What came of an outage.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Returned {
    /// How often a quorum was together meanwhile.
    pub flaps: u64,
    /// How many requests executed then.
    pub executed_meanwhile: usize,
    /// How often a replica left a view during the outage.
    pub views_left_meanwhile: u64,
    /// The highest exponent that a replica asked for at the return.
    pub backoff: u8,
    /// How long after the return the request that was waiting was answered.
    pub waiting: Duration,
    /// How long the first request took that a client made at the return.
    pub first: Duration,
    /// The longest that any of its next three took.
    pub slowest_next: Duration,
    /// How often a replica left a view after the return.
    pub views_left_after: u64,
    /// Messages delivered and timers fired.
    pub events: u64,
}

/// Runs an outage with the default time-outs over the scheme `C` and the rules `R`.
///
/// # Errors
/// The first failure; that no request is answered in the hour after the return is one.
pub fn outage<C: Scheme, R: Rules + Copy + Debug + Default + Ord + Hash>(
    outage: &Outage,
    rules: R,
) -> Result<Returned, Failure> {
    let config = Config {
        clients: 2,
        operations: OPERATIONS,
        byzantine: 0,
        loss: 5,
        crashes: false,
        partitions: false,
        wire: false,
        timeouts: Timeouts::default(),
        presence: outage.presence,
        client_backoff: MAX_BACKOFF,
        ..Config::hostile(outage.seed, outage.n, outage.f)
    };
    let mut simulation = Simulation::<C, R>::new(config, rules);
    // The second client asks nothing until the return.
    if let Some(Node::Client(customer)) = simulation.nodes.last_mut() {
        customer.workload.clear();
    }
    simulation.start()?;
    simulation.suffer(outage)
}

impl<C: Scheme, R: Rules + Copy + Debug + Default + Ord + Hash> Simulation<C, R> {
    fn suffer(mut self, outage: &Outage) -> Result<Returned, Failure> {
        let n = self.cluster.n();
        let first = self.rng.random_range(0..n);
        let mut chosen = (0..n).map(|i| (first + i) % n);
        let gone: Vec<usize> = chosen.by_ref().take(usize::from(outage.f)).collect();
        // As many more as leave one fewer than a quorum.
        let flapping: Vec<usize> = chosen.take(n - gone.len() + 1 - self.cluster.quorum()).collect();
        let start = 1_000 * MS;
        self.until(start, |_| false)?;
        gone.iter().chain(&flapping).for_each(|&node| self.stop(node));
        let (completed, left) = (self.report.completed, self.report.views_left);
        let mut flaps = 0;
        loop {
            let after = AFTERMATH.min(micros(outage.down.0));
            let gone_until = self.agenda.now() + self.between(outage.down);
            self.until(self.agenda.now() + after, |_| false)?;
            self.set_status(IDLE_STATUS);
            self.until(gone_until, |_| false)?;
            self.set_status(micros(self.config.timeouts.status));
            flapping.iter().try_for_each(|&node| self.restart(node))?;
            if gone_until >= start + micros(outage.length) {
                break;
            }
            flaps += 1;
            let up = self.agenda.now() + self.between(outage.up);
            let started = self.timers_started(&flapping);
            let treason = |simulation: &Self| simulation.timers_started(&flapping) > started;
            if self.until(up, |simulation| outage.treacherous && treason(simulation))? {
                let soon = self.agenda.now() + self.rng.random_range(0..5 * MS);
                self.until(soon.min(up), |_| false)?;
            }
            flapping.iter().for_each(|&node| self.stop(node));
        }
        self.return_for_good(flaps, completed, left)
    }

    fn return_for_good(mut self, flaps: u64, before: usize, left: u64) -> Result<Returned, Failure> {
        let returned = self.agenda.now();
        let (completed, left_at_return) = (self.report.completed, self.report.views_left);
        let asked = |node: &Node<C, R>| match node {
            Node::Correct(server) if server.replica.is_some() => server.backoff,
            _ => 0,
        };
        let backoff = self.nodes.iter().map(asked).max().unwrap_or(0);
        let (waiting, fresh) = (self.cluster.n(), self.cluster.n() + 1);
        let served_before = self.served(waiting);
        let (mut took, mut waited, mut asked_at) = (Vec::new(), None, returned);
        if let Node::Client(customer) = &mut self.nodes[fresh] {
            let (key, value) = (Bytes::from(&b"after"[..]), Bytes::from(&b"it"[..]));
            customer.workload = vec![(Operation::Put { key, value }.to_bytes(), false); AFTERWARDS];
        }
        self.invoke_next(fresh);
        while took.len() < AFTERWARDS || waited.is_none() {
            let all = (took.len(), waited.is_some());
            let changed = |simulation: &Self| {
                (simulation.served(fresh), simulation.served(waiting) > served_before) != all
            };
            if !self.until(returned + PATIENCE, changed)? {
                return Err(Failure::NoProgress(self.where_it_stands()));
            }
            let now = self.agenda.now();
            if self.served(fresh) > took.len() {
                took.push(Duration::from_micros(now - asked_at));
                asked_at = now;
            } else {
                waited = Some(Duration::from_micros(now - returned));
            }
        }
        self.news = true;
        self.judge()?;
        Ok(Returned {
            flaps,
            executed_meanwhile: completed - before,
            views_left_meanwhile: left_at_return - left,
            backoff,
            waiting: waited.unwrap_or_default(),
            first: took[0],
            slowest_next: took[1..].iter().copied().max().unwrap_or_default(),
            views_left_after: self.report.views_left - left_at_return,
            events: self.report.events,
        })
    }

    /// How many requests of a client have been answered.
    fn served(&self, node: usize) -> usize {
        match &self.nodes[node] {
            Node::Client(customer) => customer.done,
            _ => 0,
        }
    }

    /// Goes on until this time, or until `enough` holds after an event: returns whether it does.
    fn until(&mut self, time: Time, enough: impl Fn(&Self) -> bool) -> Result<bool, Failure> {
        while let Some(happening) = self.agenda.next_until(time) {
            self.report.events += 1;
            self.happen(happening)?;
            if enough(self) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn between(&mut self, (shortest, longest): (Duration, Duration)) -> Time {
        self.rng.random_range(micros(shortest)..=micros(longest))
    }

    /// How often a replica that does not flap has started its progress timer.
    fn timers_started(&self, flapping: &[usize]) -> u64 {
        let started = |(i, node): (usize, &Node<C, R>)| match node {
            Node::Correct(server) if !flapping.contains(&i) => server.started,
            _ => 0,
        };
        self.nodes.iter().enumerate().map(started).sum()
    }

    /// From now on all send STATUS at this interval.
    fn set_status(&mut self, interval: Time) {
        self.status = interval;
        (0..self.cluster.n()).for_each(|node| self.watch(node, Timer::Status));
    }
}
