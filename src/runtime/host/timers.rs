//! The thread that watches the timers.

use super::{Core, Shared, lock};
use crate::message::Message;
use crate::replica::{Bundle, Destination, Event, Expired};
use crate::runtime::control::{self, Control};
use crate::runtime::output::Outgoing;
use crate::runtime::transport::Buffers;
use crate::types::{ClientId, ReplicaId, View};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The longest sleep of the thread that watches the timers, and so how late one may fire.
const TIMER_TICK: Duration = Duration::from_millis(10);
/// A replica that waits in vain sends STATUS this many times more often.
const STALLED_STATUS_RATE: u32 = 4;
/// A tick that took so much longer than asked for means that the whole process was stopped.
const PROCESS_STOPPED: Duration = Duration::from_millis(200);
/// The progress time-out is this multiple of what is expected of a request, if that is more than configured.
const PROGRESS_FACTOR: u32 = 2;
/// How often a replica says that the primary is late while it is.
const SAY_LATE_AGAIN: Duration = Duration::from_millis(50);
/// How long that counts.
const SAID_LATELY: Duration = Duration::from_secs(1);

impl<B: Bundle> Shared<B> {
    pub(super) fn watch_timers(&self) {
        let (mut slept_from, mut quorum) = (Instant::now(), false);
        let mut buffers = Buffers::default();
        while !self.stop.load(Relaxed) {
            std::thread::sleep(TIMER_TICK);
            let now = Instant::now();
            let overslept = now.duration_since(slept_from).saturating_sub(TIMER_TICK);
            slept_from = now;
            self.transport.tick(&mut buffers);
            self.compare_members(now, &mut buffers);
            let mut core = lock(&self.core);
            let late = self.primary_is_late(&mut core, overslept);
            if self.progress_is_due(now, overslept, &mut quorum) || late || self.turn_is_over(&core) {
                self.step_locked(&mut core, Event::Timeout(Expired::Progress));
            }
            if self.status_is_due(&mut core, now) {
                core.status = None;
                self.step_locked(&mut core, Event::Timeout(Expired::Status));
                self.ask_how_far();
            }
            drop(core);
            self.flush();
        }
    }

    /// Whether the progress timer fires, after a tick that took so much longer than asked for. Logs when a
    /// quorum begins or ceases to be heard.
    fn progress_is_due(&self, now: Instant, overslept: Duration, quorum: &mut bool) -> bool {
        let now = now - self.started;
        let mut progress = lock(&self.progress);
        if overslept > PROCESS_STOPPED {
            // The process was stopped: that is not the time that a timer measures, and what arrived
            // meanwhile has not been looked at. If it was longer than the window, nobody counts as heard.
            progress.stopped_for(overslept);
        }
        if *quorum != progress.presence().since(now).is_some() {
            *quorum = !*quorum;
            let heard = progress.presence().count(now);
            tracing::info!(heard, quorum = *quorum, "time-outs count while a quorum is heard");
        }
        progress.fires(now)
    }

    /// Whether the primary is late, as this replica and f others say: so one whose own ways are slow does not
    /// leave a view alone.
    fn primary_is_late(&self, core: &mut Core<B>, overslept: Duration) -> bool {
        let now = self.started.elapsed();
        let view = core.replica.view();
        let takes_part =
            core.replica.leaving().is_none() && self.setup.cluster.primary(view) != self.setup.id;
        let since = lock(&self.progress).presence().since(now).filter(|_| takes_part);
        let mut lateness = lock(&self.lateness);
        if overslept > PROCESS_STOPPED {
            lateness.view_entered(now);
        }
        let (least, most) = self.patience.expected;
        let expected = lock(&self.delays).expected(now).clamp(least, most);
        lateness.expect(expected);
        lock(&self.progress).follow(self.timeouts.progress.max(expected * PROGRESS_FACTOR));
        // What was fetched with a state, or came in another view, has not been told one by one.
        while let Some((client, timestamp)) = lateness.oldest()
            && core.replica.waiting_request(client).is_none_or(|r| r.content.timestamp != timestamp)
        {
            lateness.executed(client, timestamp);
        }
        if takes_part {
            for client in lateness.overdue(now) {
                self.relay(core, client);
            }
        }
        lateness.tick(now, since);
        if !lateness.is_late() || !takes_part {
            return false;
        }
        if core.said_late.is_none_or(|at| at + SAY_LATE_AGAIN <= now) {
            core.said_late = Some(now);
            self.send_control(&Control::Late(view));
        }
        let others = |&(&replica, &(late, at)): &(&ReplicaId, &(View, Duration))| {
            replica != self.setup.id && late == view && now < at + SAID_LATELY
        };
        let said = lock(&self.late).iter().filter(others).count();
        let enough = said >= self.setup.cluster.f();
        if enough {
            tracing::info!(view = view.0, expected = ?lateness.expected(), "the primary is late");
            self.counters.late_primaries.add(1);
            lateness.left(now);
        }
        enough
    }

    /// Whether the primary has had its turn, if the configuration gives turns.
    fn turn_is_over(&self, core: &Core<B>) -> bool {
        let turn = self.patience.checkpoints;
        let over = turn > 0 && core.checkpoints >= turn && core.replica.leaving().is_none();
        if over {
            self.counters.turns.add(1);
        }
        over
    }

    /// Asks the other replicas how far they are.
    fn ask_how_far(&self) {
        let number = lock(&self.delays).ask(self.started.elapsed());
        self.send_control(&Control::Ping(number));
    }

    fn send_control(&self, control: &Control<B::Crypto>) {
        let mut others = self.hosts.replicas();
        others.remove(usize::from(self.setup.id.0));
        lock(&self.outbox).push(Outgoing::Control(others, control::encode(control)));
    }

    /// Relays what waits of a client to the primary (OSDI'99 §4.1), which may not have it.
    fn relay(&self, core: &Core<B>, client: ClientId) {
        if let Some(request) = core.replica.waiting_request(client) {
            self.counters.relayed.add(1);
            let primary = Destination::Replica(self.setup.cluster.primary(core.replica.view()));
            lock(&self.outbox).push(Outgoing::Send(primary, Message::Request(request.clone())));
        }
    }

    /// Whether it is time to tell the others what this replica has: earlier if something should happen and
    /// does not, as a message may be lost. When a timer fires is for a host to choose.
    fn status_is_due(&self, core: &mut Core<B>, now: Instant) -> bool {
        // More often than answers can come would only be more to do for machines that have too much to do.
        let trip = lock(&self.delays).quorum_trip(self.started.elapsed()).min(self.timeouts.status);
        let quiet = (self.timeouts.status / STALLED_STATUS_RATE).max(trip);
        let waiting = core.replica.awaits_progress();
        core.waiting_since = waiting.then(|| core.waiting_since.unwrap_or(now).max(core.executed_at));
        let stalled = core.waiting_since.is_some_and(|since| since + quiet <= now);
        let earlier = if stalled { self.timeouts.status - quiet } else { Duration::ZERO };
        core.status.is_some_and(|due| due <= now + earlier)
    }
}
