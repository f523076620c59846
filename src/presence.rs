//! When a progress time-out counts: while a quorum of replicas is heard.
//!
//! OSDI'99 §4.5.2 doubles the time-out with each view in which nothing executes. That finds how slow the
//! network is, and is no answer to too few replicas: if a quorum comes together now and then, for too short a
//! time to execute anything, each time adds a doubling, and when it is back for good clients wait for the
//! time-out of the outage. So two things do not count: time in which fewer than a quorum are heard, and views
//! that failed before that time ended. What is heard says nothing that is signed by anybody else, and
//! nothing follows from it but when a timer fires, which safety never depends on.
//!
//! [`Presence`] says since when a quorum has been heard without a break, and [`ProgressTimer`] is the timer of
//! [`Timer::Progress`] by that rule. Neither has a clock: points in time are durations since an origin that
//! the host chooses, such as its start.
//!
//! What is assumed, beyond an end to loss and a bound on delays that nobody knows (§3): whoever is there is
//! heard at least once in each [window](Timeouts::presence_window). How long messages travel does not matter.
//! Who flaps faster than the window counts as present, as does a Byzantine replica that says STATUS and takes
//! no part otherwise.

use crate::crypto::Crypto;
use crate::message::Message;
use crate::replica::{Timeouts, Timer};
use crate::rules::MAX_BACKOFF;
use crate::types::{Cluster, Principal, ReplicaId};
use std::time::Duration;

/// The replica that is shown to be there by this message, if it is verified and arrived from the network: who
/// signed it, except for PRE-PREPARE and NEW-VIEW, which others send again in the place of a primary that may
/// be gone.
pub fn shows_presence<C: Crypto>(message: &Message<C>) -> Option<ReplicaId> {
    match (message, message.signer()?) {
        (Message::PrePrepare(..) | Message::NewView(_), _) | (_, Principal::Client(_)) => None,
        (_, Principal::Replica(replica)) => Some(replica),
    }
}

/// Which replicas are heard, and since when they have been a quorum without a break.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Presence {
    own: ReplicaId,
    quorum: usize,
    window: Duration,
    /// When each replica was heard last.
    heard: Vec<Option<Duration>>,
    /// Since when a quorum was heard, as of what was heard last.
    since: Option<Duration>,
    latest: Duration,
}

impl Presence {
    /// Nobody heard yet but the replica itself, `own`, which starts `now`. Others count as heard for as long
    /// as the window after each message, the end included.
    pub fn new(cluster: &Cluster, own: ReplicaId, window: Duration, now: Duration) -> Self {
        let mut presence = Presence {
            own,
            quorum: cluster.quorum(),
            window,
            heard: vec![None; cluster.n()],
            since: None,
            latest: now,
        };
        presence.since = (presence.count(now) >= presence.quorum).then_some(now);
        presence
    }

    /// A replica is heard. Returns whether this makes a quorum, after fewer were heard. A time before that of
    /// an earlier call counts as that one; a replica that does not exist is ignored.
    pub fn heard(&mut self, replica: ReplicaId, now: Duration) -> bool {
        let now = now.max(self.latest);
        self.latest = now;
        let since = self.since(now);
        if let Some(last) = self.heard.get_mut(usize::from(replica.0)) {
            *last = Some(now);
        }
        // Between two calls the number only falls: a quorum that is left at the end was there all the time.
        self.since = since.or((self.count(now) >= self.quorum).then_some(now));
        since.is_none() && self.since.is_some()
    }

    /// The number of replicas heard, itself included.
    pub fn count(&self, now: Duration) -> usize {
        let others = self.heard.iter().enumerate().filter(|&(other, heard)| {
            other != usize::from(self.own.0) && heard.is_some_and(|at| now <= at + self.window)
        });
        1 + others.count()
    }

    /// Since when a quorum has been heard without a break; nothing if fewer are heard.
    pub fn since(&self, now: Duration) -> Option<Duration> {
        self.since.filter(|_| self.count(now) >= self.quorum)
    }

    /// When each replica was heard last.
    pub fn last_heard(&self) -> &[Option<Duration>] {
        &self.heard
    }
}

/// The progress timer of one replica. It fires once a quorum has been heard without a break for as long as it
/// runs, and the exponent is at most the number of views left since that break.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProgressTimer {
    presence: Presence,
    timeouts: Timeouts,
    /// Since when it runs, and the exponent that the replica asked for.
    running: Option<(Duration, u8)>,
    /// Views left since a quorum has been heard without a break, at most [`MAX_BACKOFF`].
    left: u8,
}

impl ProgressTimer {
    /// The timer of a replica that starts `now`. It does not run, and nobody has been heard.
    pub fn new(cluster: &Cluster, own: ReplicaId, timeouts: Timeouts, now: Duration) -> Self {
        let presence = Presence::new(cluster, own, timeouts.presence_window(), now);
        ProgressTimer { presence, timeouts, running: None, left: 0 }
    }

    /// [`Effect::SetTimer`](crate::replica::Effect::SetTimer) with this exponent.
    pub fn set(&mut self, backoff: u8, now: Duration) {
        self.running = Some((now, backoff));
    }

    /// [`Effect::CancelProgressTimer`](crate::replica::Effect::CancelProgressTimer).
    pub fn cancel(&mut self) {
        self.running = None;
    }

    /// From now on the base time-out is this, and the window follows from it: what the host measures shows that
    /// messages take longer, or no longer. A host must measure it on what no f replicas decide.
    pub fn follow(&mut self, progress: Duration) {
        self.timeouts.progress = progress;
        self.presence.window = self.timeouts.presence_window();
    }

    /// [`Fact::ViewLeft`](crate::replica::Fact::ViewLeft): the replica has given up a view.
    pub fn view_left(&mut self) {
        self.left = self.left.saturating_add(1).min(MAX_BACKOFF);
    }

    /// A replica is heard ([`shows_presence`]). Returns whether this makes a quorum, after fewer were heard.
    pub fn heard(&mut self, replica: ReplicaId, now: Duration) -> bool {
        let regained = self.presence.heard(replica, now);
        if regained {
            // What failed before failed for want of replicas, which says nothing about the network.
            self.left = 0;
        }
        regained
    }

    /// The process did not run for this time, which therefore does not count.
    pub fn stopped_for(&mut self, time: Duration) {
        self.running = self.running.map(|(set, backoff)| (set + time, backoff));
    }

    /// When it fires if a quorum is heard until then. Nothing if it does not run, or fewer are heard: whether
    /// it is due then changes when [`ProgressTimer::heard`] says so.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        let (set, backoff) = self.running?;
        let since = self.presence.since(now)?;
        let backoff = backoff.min(self.left);
        Some(set.max(since) + self.timeouts.duration(Timer::Progress { backoff }))
    }

    /// Whether it fires now; it then runs no longer.
    pub fn fires(&mut self, now: Duration) -> bool {
        let fires = self.due(now).is_some_and(|due| due <= now);
        if fires {
            self.running = None;
        }
        fires
    }

    /// Who is heard.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// A window of 500 ms.
    const TIMEOUTS: Timeouts =
        Timeouts { progress: Duration::from_millis(500), status: Duration::from_millis(100) };

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Replica 0 of four, where three are a quorum.
    fn timer() -> ProgressTimer {
        ProgressTimer::new(&Cluster::new(4, 1), ReplicaId(0), TIMEOUTS, ms(0))
    }

    /// These are heard each 100 ms.
    fn hear(timer: &mut ProgressTimer, replicas: &[u16], from: u64, to: u64) {
        for now in (from..=to).step_by(100) {
            for &replica in replicas {
                timer.heard(ReplicaId(replica), ms(now));
            }
        }
    }

    #[test]
    fn a_timer_fires_when_it_is_due_while_a_quorum_is_heard() {
        let mut timer = timer();
        hear(&mut timer, &[1, 2], 0, 1000);
        timer.set(0, ms(1000));
        hear(&mut timer, &[1, 2], 1100, 1400);
        assert!(!timer.fires(ms(1499)));
        assert!(timer.fires(ms(1500)));
        assert!(!timer.fires(ms(1501)), "it fires once");
    }

    #[test]
    fn a_replica_cut_off_alone_stays_in_its_view() {
        let mut timer = timer();
        hear(&mut timer, &[1, 2, 3], 0, 1000);
        timer.set(0, ms(1001));
        for now in (1001..100_000).step_by(10) {
            assert!(!timer.fires(ms(now)), "{now}");
        }
        // And for as long as the time-out after it is back.
        hear(&mut timer, &[1, 2, 3], 100_000, 100_400);
        assert!(!timer.fires(ms(100_499)));
        assert!(timer.fires(ms(100_500)));
    }

    #[test]
    fn nobody_is_heard_after_a_start_and_one_more_is_not_enough() {
        let mut timer = timer();
        timer.set(0, ms(0));
        assert_eq!((timer.due(ms(0)), timer.presence().count(ms(0))), (None, 1));
        hear(&mut timer, &[3], 0, 5000);
        // Its own messages, sent back by somebody, and those of nobody do not count.
        hear(&mut timer, &[0, 4], 0, 5000);
        assert_eq!((timer.due(ms(5000)), timer.presence().count(ms(5000))), (None, 2));
    }

    #[test]
    fn doublings_from_before_a_quorum_was_heard_again_do_not_count() {
        let mut timer = timer();
        hear(&mut timer, &[1, 2], 0, 0);
        for backoff in 1..=MAX_BACKOFF {
            timer.view_left();
            timer.set(backoff, ms(0));
        }
        assert_eq!(timer.due(ms(0)), Some(ms(500 << MAX_BACKOFF)));
        assert_eq!(timer.due(ms(501)), None);
        hear(&mut timer, &[1, 2], 700, 700);
        assert_eq!(timer.due(ms(700)), Some(ms(1200)));
    }

    #[test]
    fn time_outs_double_while_a_quorum_is_heard_up_to_their_bound() {
        let mut timer = timer();
        // The replica has reached its bound in an outage, and asks for nothing else.
        hear(&mut timer, &[1, 2], 0, 0);
        for left in 0..=2 * MAX_BACKOFF {
            timer.set(MAX_BACKOFF, ms(0));
            assert_eq!(timer.due(ms(0)), Some(ms(500 << left.min(MAX_BACKOFF))));
            timer.view_left();
        }
        // Something executes, and the replica begins at the base again.
        timer.set(0, ms(0));
        assert_eq!(timer.due(ms(0)), Some(ms(500)));
    }

    #[test]
    fn a_timer_that_runs_follows_what_is_measured() {
        let mut timer = timer();
        hear(&mut timer, &[1, 2], 0, 400);
        timer.set(0, ms(400));
        timer.follow(ms(2000));
        assert_eq!(timer.due(ms(1500)), Some(ms(2400)), "with a window as long");
        timer.follow(ms(500));
        assert_eq!((timer.due(ms(900)), timer.due(ms(901))), (Some(ms(900)), None));
    }

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count() {
        let mut timer = timer();
        hear(&mut timer, &[1, 2], 0, 0);
        timer.set(0, ms(0));
        timer.stopped_for(ms(300));
        hear(&mut timer, &[1, 2], 400, 700);
        assert_eq!(timer.due(ms(700)), Some(ms(800)));
    }

    #[test]
    fn a_replica_that_is_a_quorum_alone_needs_nobody() {
        let mut timer = ProgressTimer::new(&Cluster::new(1, 0), ReplicaId(0), TIMEOUTS, ms(3));
        timer.set(0, ms(4));
        assert!(!timer.fires(ms(503)));
        assert!(timer.fires(ms(504)));
    }

    #[test]
    fn where_the_quorum_is_the_whole_cluster_every_replica_must_be_heard() {
        // n = 2, f = 0: the quorum is 2.
        let mut timer = ProgressTimer::new(&Cluster::new(2, 0), ReplicaId(1), TIMEOUTS, ms(0));
        timer.set(0, ms(0));
        assert_eq!(timer.due(ms(900)), None);
        assert!(timer.heard(ReplicaId(0), ms(900)));
        assert_eq!(timer.due(ms(900)), Some(ms(1400)));
    }

    /// STATUS of the other two of a quorum at this interval, 30 % of it lost: how much later than due a timer
    /// fires in the worst of `timers` cases.
    fn latest_with_loss(interval: u64, backoff: u8, timers: u64) -> Duration {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut timer, mut now, mut latest) = (timer(), 0, ms(0));
        for _ in 0..timers {
            let due = ms(now) + TIMEOUTS.duration(Timer::Progress { backoff });
            (0..backoff).for_each(|_| timer.view_left());
            timer.set(backoff, ms(now));
            while !timer.fires(ms(now)) {
                now += 1;
                for replica in 1..=2 {
                    if now % interval == 0 && rng.random_range(0..100) >= 30 {
                        timer.heard(ReplicaId(replica), ms(now));
                    }
                }
            }
            latest = latest.max(ms(now).saturating_sub(due));
        }
        latest
    }

    #[test]
    fn loss_of_thirty_percent_does_not_stop_a_timer() {
        // At the rate of the runtime while anything waits, not even the longest is put off.
        assert_eq!(latest_with_loss(25, MAX_BACKOFF, 20).as_millis() / 1000, 0);
        // At a quarter of the rate it is put off now and then, by not much more than it lasts.
        assert!(latest_with_loss(100, 0, 2000) < ms(2500), "{:?}", latest_with_loss(100, 0, 2000));
    }

    /// The definition: at each point of the time a quorum, itself included, was heard within the window
    /// before. Points are half milliseconds: between two milliseconds there may be nobody.
    fn naively(heard: &[(u64, u16)], quorum: usize, window: u64, from: u64, to: u64) -> bool {
        (from..=to).all(|point| {
            let is_heard = |&replica: &u16| {
                heard.iter().any(|&(at, who)| who == replica && 2 * at <= point && point <= 2 * (at + window))
            };
            1 + (1..4).filter(is_heard).count() >= quorum
        })
    }

    proptest! {
        #[test]
        fn presence_is_a_quorum_heard_at_each_point_in_time(
            steps in vec((0..30u64, 0..4u16), 0..40), window in 1..25u64, after in 0..40u64
        ) {
            let cluster = Cluster::new(4, 1);
            let mut presence = Presence::new(&cluster, ReplicaId(0), ms(window), ms(0));
            let (mut now, mut heard) = (0, Vec::new());
            for (pause, replica) in steps {
                now += pause;
                let before = naively(&heard, 3, window, 2 * now, 2 * now);
                heard.push((now, replica));
                let regained = presence.heard(ReplicaId(replica), ms(now));
                prop_assert_eq!(regained, !before && naively(&heard, 3, window, 2 * now, 2 * now));
            }
            now += after;
            match presence.since(ms(now)) {
                None => prop_assert!(!naively(&heard, 3, window, 2 * now, 2 * now)),
                Some(since) => {
                    let since = u64::try_from(since.as_millis()).expect("it is short");
                    prop_assert!(naively(&heard, 3, window, 2 * since, 2 * now));
                    let earlier = (2 * since).saturating_sub(1);
                    prop_assert!(since == 0 || !naively(&heard, 3, window, earlier, earlier));
                }
            }
        }

        #[test]
        fn a_timer_fires_once_a_quorum_was_heard_at_each_point_of_its_whole_duration(
            steps in vec((0..300u64, 1..4u16), 0..60), set in 0..2000u64
        ) {
            let mut timer = timer();
            timer.set(0, ms(set));
            let mut next = 0;
            let steps = steps.into_iter().map(|(pause, replica)| {
                next += pause;
                (next, replica)
            });
            let (heard, mut told, mut points) = (steps.collect::<Vec<_>>(), 0, 0);
            for now in 0..set + 6000 {
                while let Some(&(_, replica)) = heard.get(told).filter(|&&(at, _)| at == now) {
                    timer.heard(ReplicaId(replica), ms(now));
                    told += 1;
                }
                let is_heard = |point| naively(&heard[..told], 3, 500, point, point);
                // Since the millisecond before, too.
                let goes_on = is_heard((2 * now).saturating_sub(1));
                points = if is_heard(2 * now) { 1 + if goes_on { points } else { 0 } } else { 0 };
                // From 500 ms before until now, both included, there are 501 points.
                let due = now >= set + 500 && points > 500;
                prop_assert_eq!(timer.fires(ms(now)), due, "at {}", now);
                if due {
                    break;
                }
            }
        }
    }
}
