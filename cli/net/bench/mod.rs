//! `pbft bench`: a cluster on this machine under load, and what its machine could do at best.

mod compare;
mod costs;
mod own;
mod plot;
mod spawned;
mod table;

use super::config::file::StoreKind;
use crate::say;
use compare::Earlier;
use costs::Costs;
use hdrhistogram::Histogram;
use serde_json::Value;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The options of `pbft bench`.
#[derive(Clone, clap::Args)]
pub struct Arguments {
    /// Clients, each in its own name and with its own key.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: u32,
    /// Requests that each of them has outstanding; a key for each, as one key has one request at a time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    outstanding: u32,
    /// Open loop: this number of requests per second in all, whatever the answers. Latency counts from when
    /// one was due.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// The bytes of an operation, which puts a value.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(16..=16384))]
    size: u32,
    /// How long to measure, after a second to warm up.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Where the replicas keep what they must remember.
    #[arg(long, value_enum, default_value = "disk")]
    store: StoreKind,
    /// Let each replica write a journal; with this program's own runtime only.
    #[arg(long, conflicts_with = "table")]
    journal: bool,
    /// Measure three times, without, with and without `pbft replica --judge`, and tell what that costs; with this
    /// program's own runtime only.
    #[arg(long, conflicts_with_all = ["table", "kill_primary"])]
    judge: bool,
    /// What runs the replica: this program, or stateright's own `spawn` with serde_json, which keeps nothing.
    #[arg(long, value_enum, default_value = "own")]
    runtime: Runtime,
    /// The number of replicas.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(4..=31))]
    replicas: u16,
    /// The most requests in a batch; 1 orders each by itself.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_batch: u32,
    /// The most batches in flight.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    max_in_flight: u64,
    /// Threads of a replica that receive, verify and step.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Kill the primary in the middle, and tell how service goes on; with this program's own runtime only,
    /// and --seconds 6 or more.
    #[arg(long)]
    kill_primary: bool,
    /// Print one JSON object and nothing else; with --table an array of them.
    #[arg(long)]
    json: bool,
    /// Tell how many times as fast, and as late, it is as in an earlier run: the file has what that run printed with
    /// --json.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Measure 1, 16, 64 and 256 clients, in memory, durable and under stateright (with the same batches, and
    /// with batches of one), and print a table.
    #[arg(long, conflicts_with_all = ["clients", "outstanding", "rate", "store", "runtime", "kill_primary"])]
    table: bool,
    /// With --table: draw it too, as an SVG picture.
    #[arg(long, value_name = "FILE", requires = "table")]
    plot: Option<PathBuf>,
}

/// What runs the replicas.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Runtime {
    /// `src/runtime`.
    Own,
    /// `stateright::actor::spawn`.
    Stateright,
}

/// What was measured.
pub struct Measured {
    /// Microseconds from invocation to result.
    latency: Histogram<u64>,
    errors: u64,
    /// How long requests were counted.
    elapsed: Duration,
    /// The longest time in which nothing completed.
    longest_stall: Duration,
    /// Processor time of everything, in microseconds; none where a replica was killed.
    cpu_us: Option<u64>,
    /// That of the replicas, as they say.
    replica_cpu: Option<Duration>,
    /// Processor time of replicas and clients by phase, in microseconds a request; empty for stateright, or
    /// where a replica was killed.
    phases: Vec<(&'static str, f64)>,
    /// How often what happened, and other times; empty where the phases are.
    counts: Vec<(&'static str, f64)>,
    /// When results came, in order; empty for stateright.
    completions: Vec<Instant>,
    /// If the primary was killed.
    recovery: Option<Recovery>,
    /// If steps were judged.
    judged: Option<Judged>,
}

/// What judging the steps of all replicas took, and what it found.
pub struct Judged {
    /// Steps while requests were counted.
    steps: u64,
    actions: u64,
    breaches: u64,
    /// Microseconds of processor time a step, estimated.
    us_per_step: f64,
    /// The same of taking it.
    step_us: f64,
    /// Requests a second, and processor time a request, of the runs without.
    without: Option<(f64, f64)>,
}

/// How service went on after the primary was killed.
pub struct Recovery {
    /// The longest time without a result from then on.
    gap: Duration,
    /// Requests a second before.
    before: f64,
    /// The same from two seconds after to the end.
    after_two_seconds: f64,
}

impl Measured {
    fn per_second(&self) -> f64 {
        self.latency.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn cpu_per_request(&self) -> Option<f64> {
        self.cpu_us.map(|us| us as f64 / self.latency.len().max(1) as f64)
    }

    fn milliseconds(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

/// Counts from here on.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("an hour with three digits is a valid range")
}

fn measure(arguments: &Arguments) -> Result<Measured, String> {
    match arguments.runtime {
        Runtime::Own => own::measure(arguments),
        Runtime::Stateright => spawned::measure(arguments),
    }
}

/// Measures, and prints what came out.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let earlier = arguments.compare.as_deref().map(Earlier::read).transpose()?;
    if arguments.table {
        return table::run(arguments, earlier.as_ref());
    }
    if arguments.kill_primary && (arguments.runtime == Runtime::Stateright || arguments.seconds < 6) {
        return Err("--kill-primary needs this program's own runtime and at least --seconds 6".into());
    }
    if arguments.journal && arguments.runtime == Runtime::Stateright {
        return Err(
            "stateright's runtime writes no journal: leave out --journal or --runtime stateright".into()
        );
    }
    if arguments.judge && arguments.runtime == Runtime::Stateright {
        return Err("stateright's runtime has no judge: leave out --judge or --runtime stateright".into());
    }
    let concurrent = arguments.clients.saturating_mul(arguments.outstanding);
    let costs = Costs::measure(arguments.size, concurrent.min(arguments.max_batch));
    let without = || -> Result<_, String> {
        let measured = measure(&Arguments { judge: false, ..arguments.clone() })?;
        Ok((measured.per_second(), measured.cpu_per_request().unwrap_or(f64::NAN)))
    };
    let before = if arguments.judge { Some(without()?) } else { None };
    let mut measured = measure(arguments)?;
    if let (Some(judged), Some(before)) = (&mut measured.judged, before) {
        // What else the machine does changes slowly.
        let after = without()?;
        judged.without = Some((f64::midpoint(before.0, after.0), f64::midpoint(before.1, after.1)));
    }
    let limit = costs.limit(arguments.replicas);
    let mut object = object(arguments, &measured, &costs, limit);
    let ratios = earlier.map(|earlier| earlier.ratios(&object)).transpose()?;
    if arguments.json {
        for (name, ratio) in ratios.into_iter().flatten() {
            object[format!("{name}_ratio")] = ratio.into();
        }
        say!("{object}");
    } else {
        tell(arguments, &measured, &costs, limit);
        if let Some(ratios) = ratios {
            say!("{}", compare::in_words(&ratios));
        }
    }
    let breaches = measured.judged.as_ref().map_or(0, |judged| judged.breaches);
    Ok(ExitCode::from(u8::from(measured.errors > 0 || breaches > 0)))
}

/// All of it, as `--json` prints it.
fn object(arguments: &Arguments, measured: &Measured, costs: &Costs, limit: f64) -> Value {
    let store = match arguments.runtime {
        Runtime::Own => format!("{:?}", arguments.store).to_lowercase(),
        Runtime::Stateright => "none".into(),
    };
    let mut object = serde_json::json!({
        "clients": arguments.clients,
        "outstanding": arguments.outstanding,
        "rate": arguments.rate,
        "size": arguments.size,
        "store": store,
        "journal": arguments.journal,
        "runtime": format!("{:?}", arguments.runtime).to_lowercase(),
        "replicas": arguments.replicas,
        "max_batch": arguments.max_batch,
        "max_in_flight": arguments.max_in_flight,
        "workers": arguments.workers,
        "requests": measured.latency.len(),
        "seconds": measured.elapsed.as_secs_f64(),
        "requests_per_s": measured.per_second(),
        "p50_ms": measured.milliseconds(0.5),
        "p99_ms": measured.milliseconds(0.99),
        "max_ms": measured.latency.max() as f64 / 1000.0,
        "longest_stall_ms": measured.longest_stall.as_secs_f64() * 1000.0,
        "cpu_us_per_request": measured.cpu_per_request(),
        "errors": measured.errors,
        "sign_us": costs.sign,
        "verify_us": costs.verify,
        "verify_together_us": costs.verify_together,
        "verify_known_us": costs.verify_known,
        "datagram_us": costs.datagram,
        "processors": costs.processors,
        "limit_requests_per_s": limit,
    });
    for (name, us) in &measured.phases {
        object[format!("{name}_us_per_request")] = (*us).into();
    }
    for (name, count) in &measured.counts {
        object[*name] = (*count).into();
    }
    if let Some(judged) = &measured.judged {
        object["judged_steps"] = judged.steps.into();
        object["judged_actions"] = judged.actions.into();
        object["judged_breaches"] = judged.breaches.into();
        object["judge_us_per_step"] = judged.us_per_step.into();
        object["step_us"] = judged.step_us.into();
        object["requests_per_s_without_judge"] = judged.without.map(|(rate, _)| rate).into();
        object["cpu_us_per_request_without_judge"] = judged.without.map(|(_, us)| us).into();
    }
    if let Some(recovery) = &measured.recovery {
        object["gap_ms"] = (recovery.gap.as_secs_f64() * 1000.0).into();
        object["requests_per_s_before"] = recovery.before.into();
        object["requests_per_s_after_2_s"] = recovery.after_two_seconds.into();
    }
    object
}

fn tell(arguments: &Arguments, measured: &Measured, costs: &Costs, limit: f64) {
    let asked = arguments.rate.map(|rate| format!(" of {rate} asked for")).unwrap_or_default();
    say!(
        "{:.0} requests/s{asked} ({} in {:.1} s), {} errors",
        measured.per_second(),
        measured.latency.len(),
        measured.elapsed.as_secs_f64(),
        measured.errors
    );
    say!(
        "latency: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms; longest time without a result {:.0} ms",
        measured.milliseconds(0.5),
        measured.milliseconds(0.99),
        measured.latency.max() as f64 / 1000.0,
        measured.longest_stall.as_secs_f64() * 1000.0
    );
    if let Some(Recovery { gap, before, after_two_seconds }) = &measured.recovery {
        say!(
            "the primary was killed: nothing was answered for {} ms; {before:.0} requests/s before, {after_two_seconds:.0} \
             from two seconds after",
            gap.as_millis()
        );
    }
    if let Some(us) = measured.cpu_per_request() {
        let phases: Vec<String> =
            measured.phases.iter().map(|(name, us)| format!("{name} {us:.0}")).collect();
        let phases = if phases.is_empty() { String::new() } else { format!(": {}", phases.join(", ")) };
        say!("processor time a request: {us:.0} us{phases}");
    }
    if let Some(judged) = &measured.judged {
        say!(
            "judged: {} steps, {} actions of the proved protocol, {} breaches; {:.1} us a step, which itself takes {:.1} us",
            judged.steps,
            judged.actions,
            judged.breaches,
            judged.us_per_step,
            judged.step_us
        );
        if let Some((rate, us)) = judged.without {
            say!(
                "without the judge: {rate:.0} requests/s, {us:.0} us a request; with it {:.2} and {:.2} times as much",
                measured.per_second() / rate,
                measured.cpu_per_request().unwrap_or(f64::NAN) / us
            );
        }
    }
    say!(
        "one signature {:.1} us, one verification {:.1} us, of {} requests together {:.1} us each, of a replica \
         {:.1} us, one datagram {:.1} us, {} processors: at most {limit:.0} \
         requests/s; this is {:.0} % of it",
        costs.sign,
        costs.verify,
        costs.batch,
        costs.verify_together,
        costs.verify_known,
        costs.datagram,
        costs.processors,
        100.0 * measured.per_second() / limit
    );
}
