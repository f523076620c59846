//! The thread that watches the timers.

use super::{Core, Shared, lock};
use crate::replica::{Bundle, Event, Timer};
use crate::runtime::transport::Buffers;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The longest sleep of the thread that watches the timers, and so how late one may fire.
const TIMER_TICK: Duration = Duration::from_millis(10);
/// A replica that waits in vain sends STATUS this many times more often.
const STALLED_STATUS_RATE: u32 = 4;
/// A tick that took so much longer than asked for means that the whole process was stopped.
const PROCESS_STOPPED: Duration = Duration::from_millis(200);

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
            if self.progress_is_due(now, overslept, &mut quorum) {
                self.step_locked(&mut core, Event::Timeout(Timer::Progress { backoff: 0 }));
            }
            if self.status_is_due(&mut core, now) {
                core.status = None;
                self.step_locked(&mut core, Event::Timeout(Timer::Status));
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

    /// Whether it is time to tell the others what this replica has: earlier if something should happen and
    /// does not, as a message may be lost. When a timer fires is for a host to choose.
    fn status_is_due(&self, core: &mut Core<B>, now: Instant) -> bool {
        let quiet = self.timeouts.status / STALLED_STATUS_RATE;
        let waiting = core.replica.awaits_progress();
        core.waiting_since = waiting.then(|| core.waiting_since.unwrap_or(now).max(core.executed_at));
        let stalled = core.waiting_since.is_some_and(|since| since + quiet <= now);
        let earlier = if stalled { self.timeouts.status - quiet } else { Duration::ZERO };
        core.status.is_some_and(|due| due <= now + earlier)
    }
}
