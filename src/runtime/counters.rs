//! What happened how often; for `pbft status`, metrics and the benchmark, never for decisions.

use super::histogram::Histograms;
use super::sessions::{Peer, Why};
use crate::rejection::Rejection;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Processor time is measured for one call of this number, which counts for all: asking the kernel for it,
/// twice for each message and phase, would take a twentieth of it. A prime, so that no pattern of messages
/// keeps in step with it.
const SAMPLED: u64 = 13;

/// A number that only grows, until it wraps.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// The counters of one process.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: Counter,)*
            rejected: [Counter; Rejection::ALL.len()],
            dropped: [Counter; Why::ALL.len()],
            timed: Counter,
            longest_step_ns: AtomicU64,
            /// How long things took, and how large they were.
            pub histograms: Histograms,
        }

        impl Counters {
            /// What each of them counts, by name.
            pub const HELP: &[(&str, &str)] = &[$((stringify!($name), concat!($($doc),+)),)*];

            /// Every counter but the rejections, with its name.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Datagrams received.
    datagrams_received,
    /// Datagrams sent.
    datagrams_sent,
    /// Datagrams that the kernel did not take.
    not_sent,
    /// Datagrams that found no session, and no room to wait for one.
    no_session,
    /// What came in sessions and is no frame.
    no_frame,
    /// Messages that found the queue of their host full.
    over_quota,
    /// STATUS, VIEW-CHANGEs and NEW-VIEWs that came too soon after those before.
    too_often,
    /// Reads that are not newer than an earlier one of their client.
    old_reads,
    /// Requests of clients that have another one waiting.
    waits_at_client,
    /// Messages not sent again within the round trip of the first time.
    sent_just_now,
    /// Requests whose signatures were verified together with those of others.
    verified_together,
    /// Requests relayed to the primary after a wait.
    relayed,
    /// Views left because the primary was late.
    late_primaries,
    /// Views left because it was the next primary's turn.
    turns,
    /// Fragments asked for again.
    fragments_asked,
    /// Fragments sent again.
    fragments_resent,
    /// Messages dropped before verification, because the replica has no use for them.
    unheeded,
    /// Messages verified.
    verified,
    /// Replies to clients that no host speaks for.
    no_host,
    /// Messages of observers that are no queries.
    observer_refused,
    /// Queries that were not answered because their host asks too often.
    queries_refused,
    /// Steps of the replica.
    steps,
    /// Messages signed.
    signed,
    /// Batches executed.
    batches,
    /// Requests executed.
    requests,
    /// Views entered.
    views_entered,
    /// States fetched from others.
    transfers,
    /// Stable checkpoints.
    stable_checkpoints,
    /// Records made durable.
    records,
    /// Groups of records made durable together.
    commits,
    /// Estimated processor time of verifying, in nanoseconds.
    verify_ns,
    /// Estimated processor time of steps, in nanoseconds: signing, executing, digests.
    step_ns,
    /// Estimated processor time of writing the store, in nanoseconds.
    store_ns,
    /// Time that the store took, waiting included, in nanoseconds.
    store_wait_ns,
    /// Estimated processor time of encoding and sending, in nanoseconds.
    send_ns,
}

impl Counters {
    /// Does something, and adds an estimate of the processor time that it took to `phase`, in nanoseconds.
    pub fn timed<T>(&self, phase: &Counter, act: impl FnOnce() -> T) -> T {
        if !self.timed.0.fetch_add(1, Relaxed).is_multiple_of(SAMPLED) {
            return act();
        }
        let before = thread_time();
        let outcome = act();
        phase.add(nanoseconds(thread_time().saturating_sub(before)).saturating_mul(SAMPLED));
        outcome
    }

    /// Notes how long a step took.
    pub fn stepped(&self, took: Duration) {
        self.steps.add(1);
        self.histograms.step.took(took);
        self.longest_step_ns.fetch_max(nanoseconds(took), Relaxed);
    }

    /// The longest that service paused for one step, in microseconds: for a checkpoint, or to install a
    /// state.
    pub fn longest_step_us(&self) -> u64 {
        self.longest_step_ns.load(Relaxed) / 1000
    }

    /// Counts a message dropped for this reason.
    pub fn reject(&self, reason: Rejection) {
        if let Some(index) = Rejection::ALL.iter().position(|&other| other == reason) {
            self.rejected[index].add(1);
        }
    }

    /// Counts a datagram that no session took, for this reason.
    pub fn drop_datagram(&self, why: Why) {
        if let Some(index) = Why::ALL.iter().position(|&other| other == why) {
            self.dropped[index].add(1);
        }
    }

    /// The reasons for which messages and datagrams were dropped, and how many.
    pub fn rejections(&self) -> Vec<(&'static str, u64)> {
        let messages = Rejection::ALL.iter().map(|reason| reason.as_str());
        let datagrams = Why::ALL.iter().map(|why| why.as_str());
        let counts = self.rejected.iter().chain(&self.dropped).map(Counter::get);
        messages.chain(datagrams).zip(counts).filter(|&(_, n)| n > 0).collect()
    }
}

/// What one host sent that was dropped.
#[derive(Debug, Default)]
pub struct PeerCounters {
    /// Messages that are none, or whose signatures or certificates do not verify.
    pub failed_verification: Counter,
    /// Messages that were dropped because it sends too many.
    pub over_quota: Counter,
}

/// Those of every host.
#[derive(Debug)]
pub struct Peers(Box<[PeerCounters]>);

impl Peers {
    /// All zero, for so many hosts.
    pub fn new(hosts: usize) -> Self {
        // One more, for a host that does not exist.
        Peers((0..=hosts).map(|_| PeerCounters::default()).collect())
    }

    /// Those of one host.
    pub fn of(&self, host: Peer) -> &PeerCounters {
        &self.0[(host.0 as usize).min(self.0.len() - 1)]
    }
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The processor time that this thread has used.
pub fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
