//! When a primary that does propose, and takes its time, is given up.
//!
//! OSDI'99 §4.4 leaves a view when a request has waited for as long as a time-out. A faulty primary may then
//! delay each request by almost that long, for ever: with the usual half second that leaves a hundredth of the
//! throughput. [`Lateness`] adds up, while requests wait under one primary, the time in which any of them has
//! waited longer than is [expected](Lateness::expect), and forgets two per cent of the other time. Once that
//! is a [budget](Lateness::new), the primary is late. So each request may sometimes wait, and no primary can
//! make many of them wait; and as *any* request counts, making only one client wait is noticed as fast.
//!
//! What is expected comes from the host, which measures it on what no f replicas decide: round trips to a
//! quorum and its own disk. As it may be too short for a load that the host has not seen, it doubles each time
//! that it has made the replica leave a view, and halves again after ten quiet minutes.
//!
//! Nothing but when a timer fires follows from this, which safety never depends on. There is no clock: points
//! in time are durations since an origin that the host chooses, such as its start.

use crate::types::{ClientId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Of time in which nobody waits too long, such a part makes up for time in which somebody does.
const FORGOTTEN: u32 = 50;
/// What is expected halves after so long in which no view was left for lateness.
const HALVES_AFTER: Duration = Duration::from_secs(600);
/// The most doublings.
const MAX_DOUBLINGS: u32 = 6;

/// How late the requests that one replica waits for are.
#[derive(Clone, Debug)]
pub struct Lateness {
    budget: Duration,
    expected: Duration,
    doublings: u32,
    /// When the doublings changed last.
    changed: Duration,
    waiting: BTreeMap<ClientId, (Timestamp, Duration)>,
    /// The same, the longest wait first.
    oldest: BTreeSet<(Duration, ClientId)>,
    /// Those that have not been overdue.
    in_time: BTreeSet<(Duration, ClientId)>,
    late: Duration,
    ticked: Duration,
}

impl Lateness {
    /// Nothing waits `now`. A primary may use up `budget`; requests are expected to take that long too, until
    /// [`Lateness::expect`] says better.
    pub fn new(budget: Duration, now: Duration) -> Self {
        Lateness {
            budget,
            expected: budget,
            doublings: 0,
            changed: now,
            waiting: BTreeMap::new(),
            oldest: BTreeSet::new(),
            in_time: BTreeSet::new(),
            late: Duration::ZERO,
            ticked: now,
        }
    }

    /// A request is expected to execute within this time after a replica has heard of it.
    pub fn expect(&mut self, expected: Duration) {
        self.expected = expected;
    }

    /// What is expected, doublings included.
    pub fn expected(&self) -> Duration {
        self.expected * (1 << self.doublings)
    }

    /// The lateness of this primary so far.
    pub fn late(&self) -> Duration {
        self.late
    }

    /// The replica has heard of this request `now` and waits for it. At most one for each client counts.
    pub fn waits(&mut self, client: ClientId, timestamp: Timestamp, now: Duration) {
        if self.waiting.get(&client).is_some_and(|&(waiting, _)| waiting >= timestamp) {
            return;
        }
        self.forget(client);
        self.waiting.insert(client, (timestamp, now));
        self.oldest.insert((now, client));
        self.in_time.insert((now, client));
    }

    /// The request of this client that is waited for, and since when.
    pub fn waiting(&self, client: ClientId) -> Option<(Timestamp, Duration)> {
        self.waiting.get(&client).copied()
    }

    /// The request that has waited longest.
    pub fn oldest(&self) -> Option<(ClientId, Timestamp)> {
        let &(_, client) = self.oldest.first()?;
        self.waiting.get(&client).map(|&(timestamp, _)| (client, timestamp))
    }

    /// The clients whose requests have waited longer than expected, each request once.
    pub fn overdue(&mut self, now: Duration) -> Vec<ClientId> {
        let expected = self.expected();
        let mut overdue = Vec::new();
        while let Some(&(since, client)) = self.in_time.first()
            && since + expected < now
        {
            self.in_time.pop_first();
            overdue.push(client);
        }
        overdue
    }

    /// This client's requests up to this one are no longer waited for.
    pub fn executed(&mut self, client: ClientId, timestamp: Timestamp) {
        if self.waiting.get(&client).is_some_and(|&(waiting, _)| waiting <= timestamp) {
            self.forget(client);
        }
    }

    /// Another primary begins, with everything that waits.
    pub fn view_entered(&mut self, now: Duration) {
        self.late = Duration::ZERO;
        self.waiting.values_mut().for_each(|(_, since)| *since = now);
        self.oldest = self.waiting.keys().map(|&client| (now, client)).collect();
        self.in_time = self.oldest.clone();
    }

    /// Time has passed until `now`; what passes for late counts since `from` only, and not at all if there is
    /// no such time: while no quorum is heard, or the replica is the primary or between views.
    pub fn tick(&mut self, now: Duration, from: Option<Duration>) {
        let passed = now.saturating_sub(self.ticked);
        self.ticked = self.ticked.max(now);
        if self.doublings > 0 && now.saturating_sub(self.changed) >= HALVES_AFTER {
            (self.doublings, self.changed) = (self.doublings - 1, now);
        }
        let oldest = from.and_then(|from| self.oldest.first().map(|&(since, _)| since.max(from)));
        match oldest.map(|since| now.saturating_sub(since).saturating_sub(self.expected())) {
            Some(over) if over > Duration::ZERO => self.late += passed.min(over),
            _ => self.late = self.late.saturating_sub(passed / FORGOTTEN),
        }
    }

    /// Whether the primary has used up its budget.
    pub fn is_late(&self) -> bool {
        self.late >= self.budget
    }

    /// The replica leaves the view for lateness.
    pub fn left(&mut self, now: Duration) {
        self.late = Duration::ZERO;
        (self.doublings, self.changed) = ((self.doublings + 1).min(MAX_DOUBLINGS), now);
    }

    fn forget(&mut self, client: ClientId) {
        if let Some((_, since)) = self.waiting.remove(&client) {
            self.oldest.remove(&(since, client));
            self.in_time.remove(&(since, client));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Requests of `clients`, one after the other without a break for each, which take so long for each of
    /// them. After how long the primary is late; nothing if it is not within `until`.
    fn late_after(clients: &[u64], until: u64) -> Option<u64> {
        let mut lateness = Lateness::new(ms(250), ms(0));
        lateness.expect(ms(60));
        let mut begun = vec![None; clients.len()];
        for now in 0..until {
            for (number, (&takes, begun)) in (0..).zip(clients.iter().zip(&mut begun)) {
                let client = ClientId(number);
                if begun.is_some_and(|at| now - at >= takes) {
                    lateness.executed(client, Timestamp(now - takes + 1));
                    *begun = None;
                }
                if begun.is_none() {
                    lateness.waits(client, Timestamp(now + 1), ms(now));
                    *begun = Some(now);
                }
            }
            if now % 10 == 0 {
                lateness.tick(ms(now), Some(ms(0)));
            }
            if lateness.is_late() {
                return Some(now);
            }
        }
        None
    }

    #[test]
    fn a_primary_that_delays_everything_is_late_soon_and_a_prompt_one_never() {
        assert_eq!(late_after(&[55; 3], 100_000), None);
        for (takes, within) in [(400, 350), (200, 500), (100, 900)] {
            let after = late_after(&[takes; 3], 100_000).unwrap();
            assert!(after <= within, "{takes} ms each: late after {after} ms");
        }
    }

    #[test]
    fn one_client_that_is_made_to_wait_is_noticed_among_a_thousand() {
        let mut clients = vec![7; 1000];
        clients[500] = 350;
        let after = late_after(&clients, 100_000).unwrap();
        assert!(after < 400, "late after {after} ms");
    }

    #[test]
    fn growing_by_ten_per_cent_a_second_does_not_help() {
        let mut lateness = Lateness::new(ms(250), ms(0));
        lateness.expect(ms(60));
        let (mut now, mut takes) = (0, 10.0);
        while !lateness.is_late() {
            lateness.waits(ClientId(0), Timestamp(now + 1), ms(now));
            for _ in 0..takes as u64 {
                now += 1;
                lateness.tick(ms(now), Some(ms(0)));
            }
            lateness.executed(ClientId(0), Timestamp(now));
            takes = 10.0 * 1.1_f64.powf(now as f64 / 1000.0);
        }
        assert!(takes < 80.0, "given up when requests take {takes} ms");
    }

    #[test]
    fn a_pause_now_and_then_is_forgiven() {
        let mut lateness = Lateness::new(ms(250), ms(0));
        lateness.expect(ms(60));
        for minute in 0..10 {
            let start = minute * 60_000;
            lateness.waits(ClientId(1), Timestamp(start + 1), ms(start));
            for now in (start..start + 300).step_by(10) {
                lateness.tick(ms(now), Some(ms(0)));
            }
            lateness.executed(ClientId(1), Timestamp(start + 1));
            assert!(!lateness.is_late());
            lateness.tick(ms(start + 59_990), Some(ms(0)));
        }
    }

    #[test]
    fn what_counts_begins_with_the_view_and_with_the_quorum() {
        let mut lateness = Lateness::new(ms(250), ms(0));
        lateness.expect(ms(60));
        lateness.waits(ClientId(1), Timestamp(1), ms(0));
        lateness.tick(ms(1000), None);
        lateness.tick(ms(1050), Some(ms(1000)));
        assert_eq!(lateness.late(), ms(0));
        lateness.tick(ms(1400), Some(ms(1000)));
        assert!(lateness.is_late());
        lateness.view_entered(ms(1400));
        lateness.tick(ms(1450), Some(ms(1000)));
        assert_eq!(lateness.late(), ms(0));
    }

    #[test]
    fn what_is_expected_doubles_with_each_view_left_and_halves_in_time() {
        let mut lateness = Lateness::new(ms(250), ms(0));
        lateness.expect(ms(60));
        (0..9).for_each(|_| lateness.left(ms(0)));
        assert_eq!(lateness.expected(), ms(60 << MAX_DOUBLINGS));
        (1..=3).for_each(|halving| lateness.tick(HALVES_AFTER * halving, None));
        assert_eq!(lateness.expected(), ms(60 << (MAX_DOUBLINGS - 3)));
    }
}
