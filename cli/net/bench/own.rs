//! The benchmark of this program's own runtime: a process for each replica.

use super::{Arguments, Judged, Measured, Recovery, histogram};
use crate::net::addresses::free_addresses;
use crate::net::cluster::Processes;
use crate::net::keygen::{Size, blank, generate};
use crate::net::observer::{self, Asking, Who};
use crate::output::interrupted;
use hdrhistogram::Histogram;
use pbft::crypto::ed25519::Ed25519;
use pbft::kv::Operation;
use pbft::rules::Pbft;
use pbft::runtime::Clients;
use pbft::runtime::control::Health;
use pbft::runtime::counters::thread_time;
use pbft::types::{Bytes, ClientId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Before counting begins, when all clients have been served once.
const WARM_UP: Duration = Duration::from_secs(1);
/// So long all clients together may wait for that.
const IN_SERVICE: Duration = Duration::from_secs(60);
/// Between two looks at whether it is so.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// By this part two accounts of one thing may differ.
const ACCURACY: f64 = 0.1;
/// And by so much processor time, which the system counts in ticks of some milliseconds.
const TICKS: Duration = Duration::from_millis(100);
/// So long after its primary was killed the cluster should be as fast as before.
const RECOVERED_AFTER: Duration = Duration::from_secs(2);
/// A request that has no result so long after the end is an error.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// The number of clients that one thread drives.
const CLIENTS_PER_THREAD: u32 = 128;

/// Runs a cluster in a temporary directory and measures it.
pub fn measure(arguments: &Arguments) -> Result<Measured, String> {
    let directory = tempfile::Builder::new()
        .prefix("pbft-bench-")
        .tempdir()
        .map_err(|error| format!("cannot make a temporary directory: {error}"))?;
    let keys = arguments.clients * arguments.outstanding;
    let threads = keys.div_ceil(CLIENTS_PER_THREAD);
    let of_each = keys.div_ceil(threads);
    let size = Size {
        replicas: arguments.replicas,
        f: None,
        clients: threads * of_each,
        clients_per_host: of_each,
        observers: 1,
    };
    let mut file = blank(size, free_addresses(arguments.replicas)?);
    file.store = arguments.store;
    file.journal = arguments.journal;
    // The loopback interface takes long datagrams.
    file.datagram_bytes = 16 * 1024;
    file.workers = usize::from(arguments.workers);
    file.parameters.max_in_flight = arguments.max_in_flight;
    file.parameters.max_batch_requests = arguments.max_batch as usize;
    let config = generate(directory.path(), file, of_each)?;
    let mut processes = Processes::start(directory.path(), &config, arguments.judge)?;
    processes.wait_until_ready(&config)?;

    let mut asker = observer::open(&config, Who::Anybody)?;
    let window = Arc::new(Window::default());
    let mut drivers = Vec::new();
    for thread in 0..threads {
        let ids = thread * of_each..keys.min((thread + 1) * of_each);
        let ids: Vec<ClientId> = ids.map(ClientId).collect();
        let clients = config.open(&ids, config.client_timeout(), 1400)?;
        let interval =
            arguments.rate.map(|rate| Duration::from_secs_f64(f64::from(threads) / f64::from(rate)));
        let driver = Driver { clients, size: arguments.size as usize, interval, window: window.clone() };
        drivers.push(std::thread::spawn(move || driver.run()));
    }
    window.wait_for_all(keys, arguments.rate)?;
    sleep_until(Instant::now() + WARM_UP)?;
    let before = statuses(&mut asker)?;
    let used_before = used(&before);
    let (begin, end) = window.open(Duration::from_secs(arguments.seconds));
    let mut killed = None;
    if arguments.kill_primary {
        sleep_until(begin + (end - begin) / 2)?;
        processes.kill(0);
        killed = Some(Instant::now());
    }
    sleep_until(end)?;
    let after = if killed.is_some() { Vec::new() } else { statuses(&mut asker)? };
    let used_after = used(&after);
    let mut outcomes = Vec::new();
    for driver in drivers {
        outcomes.push(driver.join().map_err(|_| "a thread of clients panicked")??);
    }
    processes.stop()?;
    if arguments.rate.is_none() && killed.is_none() {
        agree_with_littles_law(keys, &outcomes, end - begin)?;
    }
    let mut measured = sum_up(arguments, outcomes, &before, &after);
    if let (Some(before), Some(after), Some(told)) = (used_before, used_after, measured.replica_cpu) {
        agree_on_processor_time(told, after.saturating_sub(before))?;
    }
    measured.recovery = killed.map(|killed| recovery(&measured.completions, begin, killed, end));
    Ok(measured)
}

/// When requests are counted, and what must have happened before.
#[derive(Default)]
struct Window {
    /// Clients that have had an answer.
    served: AtomicU32,
    times: OnceLock<(Instant, Instant)>,
}

impl Window {
    /// Waits until all clients have had an answer: a figure with some of them is one of fewer clients.
    fn wait_for_all(&self, clients: u32, rate: Option<u32>) -> Result<(), String> {
        let each_once =
            rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(f64::from(clients) / f64::from(rate)));
        let deadline = Instant::now() + IN_SERVICE + 2 * each_once;
        loop {
            let served = self.served.load(Ordering::Relaxed);
            if served >= clients {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!(
                    "{served} of {clients} clients were answered in {} s, so nothing was measured: take fewer",
                    (IN_SERVICE + 2 * each_once).as_secs()
                ));
            }
            sleep_until(Instant::now() + LOOK_EVERY)?;
        }
    }

    /// Counts from now on, for so long.
    fn open(&self, length: Duration) -> (Instant, Instant) {
        *self.times.get_or_init(|| {
            let begin = Instant::now();
            (begin, begin + length)
        })
    }

    fn holds(&self, at: Instant) -> bool {
        self.times.get().is_some_and(|&(begin, end)| (begin..end).contains(&at))
    }

    fn is_over(&self, at: Instant) -> bool {
        self.times.get().is_some_and(|&(_, end)| at >= end)
    }
}

/// As many requests are outstanding as the rate and the mean latency say: `L = λW`.
fn agree_with_littles_law(outstanding: u32, outcomes: &[Outcome], length: Duration) -> Result<(), String> {
    let waited: Duration = outcomes.iter().map(|outcome| outcome.waited).sum();
    let by_latency = waited.as_secs_f64() / length.as_secs_f64();
    let errors: u64 = outcomes.iter().map(|outcome| outcome.errors).sum();
    if errors == 0 && (by_latency / f64::from(outstanding) - 1.0).abs() > ACCURACY {
        return Err(format!(
            "{outstanding} requests were outstanding, and by their rate and latency {by_latency:.0}, so nothing was \
             measured: take more --seconds, or fewer clients"
        ));
    }
    Ok(())
}

/// What the replicas say that they have used is what the system says.
fn agree_on_processor_time(told: Duration, counted: Duration) -> Result<(), String> {
    let off = told.abs_diff(counted);
    if off > TICKS && off.as_secs_f64() > ACCURACY * counted.as_secs_f64() {
        return Err(format!(
            "the replicas say that they have used {told:.2?} of processor time, and the system {counted:.2?}, so nothing \
             was measured: run it again"
        ));
    }
    Ok(())
}

/// The processor time of these processes so far, where the system has it in /proc.
fn used(replicas: &[Health]) -> Option<Duration> {
    let ticks = rustix::param::clock_ticks_per_second();
    let of = |health: &Health| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", health.pid)).ok()?;
        // After the name, which may hold anything, come the state and ten numbers, and then the two times.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
        Some(Duration::from_secs_f64((user + system) as f64 / ticks as f64))
    };
    if replicas.is_empty() { None } else { replicas.iter().map(of).sum() }
}

/// Waits, unless Ctrl-C is pressed.
fn sleep_until(end: Instant) -> Result<(), String> {
    while Instant::now() < end {
        if interrupted() {
            return Err("interrupted: nothing was measured".into());
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
    }
    Ok(())
}

/// How service went on after the primary was killed.
fn recovery(completions: &[Instant], begin: Instant, killed: Instant, end: Instant) -> Recovery {
    let rate = |from: Instant, to: Instant| {
        let count = completions.iter().filter(|&&at| (from..to).contains(&at)).count();
        count as f64 / to.saturating_duration_since(from).as_secs_f64().max(f64::MIN_POSITIVE)
    };
    // What was committed when the primary died is still answered; then comes the gap.
    let gap = |pair: &[Instant]| (pair[1] >= killed).then(|| pair[1].duration_since(pair[0].max(killed)));
    Recovery {
        gap: completions.windows(2).filter_map(gap).max().unwrap_or(end.saturating_duration_since(killed)),
        before: rate(begin, killed),
        after_two_seconds: rate(killed + RECOVERED_AFTER, end),
    }
}

fn statuses(asker: &mut Asking) -> Result<Vec<Health>, String> {
    let answers = asker.ask(ANSWER_WAIT)?;
    let all: Option<Vec<Health>> = answers.into_iter().collect();
    all.ok_or_else(|| "a replica has stopped or does not answer".into())
}

/// What one thread of clients saw.
struct Outcome {
    latency: Histogram<u64>,
    errors: u64,
    completions: Vec<Instant>,
    /// The sum of latencies.
    waited: Duration,
    cpu: Duration,
    verified: u64,
}

struct Driver {
    clients: Clients<Ed25519, Pbft>,
    size: usize,
    /// Between two requests of an open loop.
    interval: Option<Duration>,
    window: Arc<Window>,
}

impl Driver {
    fn operation(&self, client: ClientId, count: u64) -> Bytes {
        let key = Bytes::from(format!("bench-{}", client.0).into_bytes());
        let rest = self.size.saturating_sub(key.len() + 4).max(8);
        let mut value = vec![b'.'; rest];
        value[..8].copy_from_slice(&count.to_le_bytes());
        Operation::Put { key, value: Bytes::from(value) }.to_bytes()
    }

    fn run(mut self) -> Result<Outcome, String> {
        let failed = |error: std::io::Error| format!("a client failed: {error}");
        let mut outcome = Outcome {
            latency: histogram(),
            errors: 0,
            completions: Vec::new(),
            waited: Duration::ZERO,
            cpu: Duration::ZERO,
            verified: 0,
        };
        let mut idle: VecDeque<ClientId> = self.clients.ids().collect();
        let all = idle.len();
        let mut due = Instant::now();
        let mut started: BTreeMap<ClientId, Instant> = BTreeMap::new();
        let mut served = BTreeSet::new();
        let (mut count, mut cpu_before, mut verified_before) = (0, None, 0);
        loop {
            let now = Instant::now();
            if cpu_before.is_none() && self.window.holds(now) {
                cpu_before = Some(thread_time());
                verified_before = self.clients.counters().verified.get();
            }
            if self.window.is_over(now) || interrupted() {
                break;
            }
            while self.interval.is_none() || due <= now {
                let Some(client) = idle.pop_front() else { break };
                count += 1;
                started.insert(client, if self.interval.is_some() { due } else { Instant::now() });
                due += self.interval.unwrap_or_default();
                let operation = self.operation(client, count);
                self.clients.invoke(client, operation, false).map_err(failed)?;
            }
            let look = now + LOOK_EVERY;
            let until = if self.interval.is_some() && !idle.is_empty() { due.min(look) } else { look };
            self.collect(until, &mut idle, &mut served, &started, &mut outcome).map_err(failed)?;
        }
        outcome.cpu = thread_time().saturating_sub(cpu_before.unwrap_or_default());
        outcome.verified = self.clients.counters().verified.get() - verified_before;
        let deadline = Instant::now() + ANSWER_WAIT;
        while idle.len() < all && Instant::now() < deadline && !interrupted() {
            self.collect(deadline, &mut idle, &mut served, &started, &mut outcome).map_err(failed)?;
        }
        outcome.errors = (all - idle.len()) as u64;
        Ok(outcome)
    }

    fn collect(
        &mut self,
        until: Instant,
        idle: &mut VecDeque<ClientId>,
        served: &mut BTreeSet<ClientId>,
        started: &BTreeMap<ClientId, Instant>,
        outcome: &mut Outcome,
    ) -> std::io::Result<()> {
        for completion in self.clients.wait(until)? {
            let now = Instant::now();
            idle.push_back(completion.client);
            if served.insert(completion.client) {
                self.window.served.fetch_add(1, Ordering::Relaxed);
            }
            if self.window.holds(now) {
                let took =
                    started.get(&completion.client).map_or(completion.took, |&at| now.duration_since(at));
                outcome.waited += took;
                outcome.latency.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
                outcome.completions.push(now);
            }
        }
        Ok(())
    }
}

fn sum_up(arguments: &Arguments, outcomes: Vec<Outcome>, before: &[Health], after: &[Health]) -> Measured {
    let mut latency = histogram();
    let (mut errors, mut client_cpu, mut client_verified) = (0, Duration::ZERO, 0);
    let mut completions = Vec::new();
    for outcome in outcomes {
        latency.add(outcome.latency).expect("the histograms are alike");
        errors += outcome.errors;
        client_cpu += outcome.cpu;
        client_verified += outcome.verified;
        completions.extend(outcome.completions);
    }
    completions.sort_unstable();
    let gaps = completions.windows(2).map(|pair| pair[1].duration_since(pair[0]));
    let longest_stall = gaps.max().unwrap_or(Duration::from_secs(arguments.seconds));
    let requests = latency.len().max(1) as f64;
    let grown = |name: &str| -> f64 {
        after.iter().zip(before).map(|(a, b)| a.counter(name).saturating_sub(b.counter(name))).sum::<u64>()
            as f64
    };
    let costs = super::Costs::measure(arguments.size, 1);
    let replica_cpu: u64 = after.iter().zip(before).map(|(a, b)| a.cpu_us.saturating_sub(b.cpu_us)).sum();
    let sign = grown("signed") * costs.sign;
    let phases = vec![
        ("sign", sign / requests),
        ("verify", grown("verify_ns") / 1000.0 / requests),
        ("other_steps", (grown("step_ns") / 1000.0 - sign).max(0.0) / requests),
        ("send", grown("send_ns") / 1000.0 / requests),
        ("store", grown("store_ns") / 1000.0 / requests),
        ("clients", client_cpu.as_secs_f64() * 1e6 / requests),
    ];
    let (phases, replica_cpu) =
        if after.is_empty() { (Vec::new(), None) } else { (phases, Some(replica_cpu)) };
    let counts = vec![
        ("store_wait_us_per_request", grown("store_wait_ns") / 1000.0 / requests),
        ("requests_per_batch", grown("requests") / grown("batches").max(1.0)),
        ("verified_by_replicas_per_request", grown("verified") / requests),
        ("verified_together_per_request", grown("verified_together") / requests),
        ("dropped_unverified_per_request", grown("unheeded") / requests),
        ("verified_by_clients_per_request", client_verified as f64 / requests),
        ("datagrams_per_request", grown("datagrams_received") / requests),
        ("views_entered", grown("views_entered")),
        ("views_left_for_lateness", grown("late_primaries")),
        (
            "expected_ms",
            after.iter().map(|health| health.counter("expected_us")).max().unwrap_or(0) as f64 / 1000.0,
        ),
    ];
    let counts = if after.is_empty() { Vec::new() } else { counts };
    let steps = grown("steps").max(1.0);
    let judged = arguments.judge.then(|| Judged {
        steps: grown("judged_steps") as u64,
        actions: grown("judged_actions") as u64,
        breaches: after.iter().map(|health| health.counter("judged_breaches")).sum(),
        us_per_step: grown("judge_ns") / 1000.0 / steps,
        step_us: grown("step_ns") / 1000.0 / steps,
        without: None,
    });
    Measured {
        latency,
        errors,
        elapsed: Duration::from_secs(arguments.seconds),
        longest_stall,
        completions,
        recovery: None,
        judged,
        replica_cpu: replica_cpu.map(Duration::from_micros),
        cpu_us: replica_cpu.map(|us| us + u64::try_from(client_cpu.as_micros()).unwrap_or(0)),
        phases,
        counts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(waited: u64, errors: u64) -> Outcome {
        let waited = Duration::from_secs(waited);
        let (latency, completions, cpu) = (histogram(), Vec::new(), Duration::ZERO);
        Outcome { latency, errors, completions, waited, cpu, verified: 0 }
    }

    #[test]
    fn a_figure_of_fewer_clients_than_were_asked_for_is_refused() {
        let length = Duration::from_secs(4);
        // 2,560 clients wait for four seconds each; 210 of them do.
        assert_eq!(agree_with_littles_law(2560, &[outcome(5_120, 0), outcome(5_120, 0)], length), Ok(()));
        let refused = agree_with_littles_law(2560, &[outcome(840, 0)], length);
        assert!(refused.is_err_and(|why| why.contains("2560") && why.contains("210")));
    }

    #[test]
    fn replicas_that_say_they_used_nothing_are_not_believed() {
        let seconds = Duration::from_secs;
        assert!(agree_on_processor_time(Duration::ZERO, seconds(6)).is_err());
        assert_eq!(agree_on_processor_time(seconds(20), seconds(21)), Ok(()));
        assert_eq!(agree_on_processor_time(Duration::from_millis(20), Duration::from_millis(90)), Ok(()));
    }

    #[test]
    fn counting_waits_for_the_last_client() {
        let window = Window::default();
        window.served.store(3, Ordering::Relaxed);
        assert_eq!(window.wait_for_all(3, None), Ok(()));
        assert!(!window.holds(Instant::now()));
        let (begin, end) = window.open(Duration::from_secs(4));
        assert!(window.holds(begin) && !window.holds(end) && window.is_over(end));
    }
}
