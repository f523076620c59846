//! How the replica does.

use super::{Shared, lock};
use crate::replica::Bundle;
use crate::runtime::control::Health;
use std::time::Instant;

impl<B: Bundle> Shared<B> {
    /// What a request is expected to take and why, and how late the primary is, in microseconds.
    fn measured(&self) -> Vec<(String, u64)> {
        let now = self.started.elapsed();
        let delays = lock(&self.delays);
        let (trip, sync, batch) = (delays.quorum_trip(now), delays.sync(now), delays.batch(now));
        drop(delays);
        let lateness = lock(&self.lateness);
        [
            ("quorum_trip_us", trip),
            ("sync_us", sync),
            ("batch_us", batch),
            ("expected_us", lateness.expected()),
            ("late_us", lateness.late()),
        ]
        .map(|(name, time)| (name.into(), u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
        .into()
    }

    pub(super) fn health(&self) -> Health {
        let now = Instant::now();
        let milliseconds =
            |since: Instant| u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX);
        let others = self.health_of_others();
        let core = lock(&self.core);
        let replica = &core.replica;
        let progress = lock(&self.progress);
        let presence = progress.presence();
        let mut counters: Vec<(String, u64)> =
            self.counters.all().into_iter().map(|(name, value)| (name.into(), value)).collect();
        counters.push(("incomplete_bytes".into(), self.transport.incomplete_bytes() as u64));
        counters.push(("session_bytes".into(), self.transport.session_bytes() as u64));
        let (receive, send) = self.transport.granted_buffers();
        counters.push(("receive_buffer_bytes".into(), receive as u64));
        counters.push(("send_buffer_bytes".into(), send as u64));
        counters.push(("longest_step_us".into(), self.counters.longest_step_us()));
        counters.extend(self.measured());
        let counted = core.witness.as_ref().map(|witness| lock(witness).counts()).unwrap_or_default();
        counters.extend(counted.into_iter().map(|(name, value)| (name.into(), value)));
        let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Health {
            idle_ms: milliseconds(core.executed_at),
            heard: presence.count(now - self.started) as u64,
            heard_ms: (presence.last_heard().iter())
                .map(|heard| heard.map(|at| milliseconds(self.started + at)))
                .collect(),
            rejections: self.counters.rejections().into_iter().map(|(r, n)| (r.into(), n)).collect(),
            counters,
            peers: others.peers,
            clients: others.clients,
            members: others.members,
            other_members: others.other_members,
            cpu_us: usage.tv_sec.unsigned_abs() * 1_000_000 + usage.tv_nsec.unsigned_abs() / 1000,
            pid: std::process::id(),
            ..Health::of(&self.setup, replica)
        }
    }
}
