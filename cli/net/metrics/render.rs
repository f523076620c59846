//! What the metrics are.

use super::super::config::Served;
use super::super::judge;
use pbft::runtime::Host;
use pbft::runtime::control::{Health, PeerHealth};
use pbft::runtime::counters::Counters;
use pbft::runtime::histogram::Snapshot;
use pbft::types::ReplicaId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt::Error;

/// What a replica measures, in microseconds: gauges, told in seconds.
const MEASURED: [(&str, &str); 5] = [
    (
        "quorum_trip_us",
        "The longest round trip lately to the nearest replicas that make a quorum with this one",
    ),
    ("sync_us", "The longest write of the store lately"),
    ("batch_us", "The longest work for a batch lately: verifying it, and the step"),
    ("expected_us", "How long a request is expected to take before the primary counts as late"),
    ("late_us", "How late the primary has been, of its budget"),
];

/// The format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a scrape shows.
#[derive(Debug)]
pub struct Seen {
    pub health: Health,
    pub histograms: Vec<Histogram>,
    /// The resident memory of the process in bytes, where the machine tells.
    pub resident: Option<u64>,
}

/// A histogram with its name, what it is of, and what one is in its unit.
#[derive(Debug)]
pub struct Histogram {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    scale: f64,
    values: Snapshot,
}

/// Those of a replica, as they are now.
pub fn snapshots(host: &Host<Served>) -> Vec<Histogram> {
    let all = host.histograms();
    let of = |name, help, unit: Option<Unit>, values| {
        let scale = if unit.is_some() { 1e9 } else { 1.0 };
        Histogram { name, help, unit, scale, values }
    };
    vec![
        of(
            "execution",
            "From sending or accepting the PRE-PREPARE of a batch to executing it",
            Some(Unit::Seconds),
            all.execution.snapshot(),
        ),
        of(
            "store_commit",
            "Making a group of records durable, one write and one fdatasync",
            Some(Unit::Seconds),
            all.store_commit.snapshot(),
        ),
        of("step", "One step of the replica", Some(Unit::Seconds), all.step.snapshot()),
        of("batch_requests", "Requests executed from one batch", None, all.batch.snapshot()),
    ]
}

/// The resident memory of this process in bytes, where the machine tells.
pub fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The text of a scrape.
pub fn render(id: ReplicaId, seen: Seen) -> String {
    let labels = [("replica".into(), id.0.to_string().into())];
    let mut registry = Registry::with_prefix_and_labels("pbft", labels.into_iter());
    registry.register_collector(Box::new(seen));
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry).expect("writing into memory cannot fail");
    text
}

impl Collector for Seen {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut writer = Writer(encoder);
        state(&mut writer, &self.health)?;
        counters(&mut writer, &self.health)?;
        peers(&mut writer, &self.health)?;
        for histogram in &self.histograms {
            writer.histogram(histogram)?;
        }
        if let Some(resident) = self.resident {
            let help = "Resident memory of the process";
            writer.gauge("process_resident_memory", help, Some(Unit::Bytes), resident as f64)?;
        }
        let cpu = self.health.cpu_us as f64 / 1e6;
        writer.counter("process_cpu", "Processor time of the process", Some(Unit::Seconds), cpu)
    }
}

fn state(writer: &mut Writer<'_>, health: &Health) -> Result<(), Error> {
    let (low, high) = health.watermarks;
    let (fetched, blocks) = health.transferring.unwrap_or_default();
    for (name, help, value) in [
        ("view", "The view entered last", health.view),
        (
            "changing_view",
            "1 while it has left its view and waits for another",
            u64::from(health.leaving.is_some()),
        ),
        ("low_water_mark", "h, the number of the last stable checkpoint", low),
        ("high_water_mark", "H, the last sequence number accepted", high),
        ("last_executed", "The last batch executed", health.last_executed),
        ("waiting_requests", "Known requests that have not executed", health.waiting_requests),
        ("fetching_state", "The checkpoint whose state is being fetched, 0 if none", fetched),
        ("fetched_blocks", "The blocks of that state that are here", blocks),
        (
            "heard_replicas",
            "Replicas heard of late, itself included; time-outs count while they are a quorum",
            health.heard,
        ),
        (
            "replicas_with_other_members",
            "Replicas with another list of members",
            health.other_members.len() as u64,
        ),
    ] {
        writer.gauge(name, help, None, value as f64)?;
    }
    let idle = health.idle_ms as f64 / 1e3;
    writer.gauge("idle", "Since the last batch was executed", Some(Unit::Seconds), idle)
}

/// The counters of the host, whichever there are. Those in nanoseconds are times of a processor, but for
/// `store_wait_ns`, and are told in seconds.
fn counters(writer: &mut Writer<'_>, health: &Health) -> Result<(), Error> {
    for (name, value) in &health.counters {
        let help = Counters::HELP
            .iter()
            .chain(&judge::HELP)
            .find(|(other, _)| other == name)
            .map_or("", |(_, help)| help);
        let help = help.trim().trim_end_matches('.').replace(", in nanoseconds", "");
        match name.as_str() {
            "incomplete_bytes" => {
                let help = "Reserved for messages of which fragments are missing";
                writer.gauge("incomplete", help, Some(Unit::Bytes), *value as f64)?;
            }
            "session_bytes" => {
                let help = "Taken up by sessions, without the keys of established ones";
                writer.gauge("session", help, Some(Unit::Bytes), *value as f64)?;
            }
            "receive_buffer_bytes" | "send_buffer_bytes" => {
                let help = "The socket's buffer, as the kernel has granted it";
                writer.gauge(name.trim_end_matches("_bytes"), help, Some(Unit::Bytes), *value as f64)?;
            }
            judge::JUDGES => writer.gauge(name, &help, None, *value as f64)?,
            "longest_step_us" => {
                let help = "The longest step so far";
                writer.gauge("longest_step", help, Some(Unit::Seconds), *value as f64 / 1e6)?;
            }
            measured if MEASURED.iter().any(|(other, _)| *other == measured) => {
                let help = MEASURED.iter().find(|(other, _)| *other == measured).map_or("", |(_, help)| help);
                let name = measured.trim_end_matches("_us");
                writer.gauge(name, help, Some(Unit::Seconds), *value as f64 / 1e6)?;
            }
            _ => match name.strip_suffix("_ns") {
                Some(phase) => {
                    let name = if phase.ends_with("wait") { phase.into() } else { format!("{phase}_cpu") };
                    writer.counter(&name, &help, Some(Unit::Seconds), *value as f64 / 1e9)?;
                }
                None => {
                    writer.counter(name, if help.is_empty() { name } else { &help }, None, *value as f64)?
                }
            },
        }
    }
    let all = health.rejections.iter().map(|(reason, count)| (reason.clone(), *count as f64));
    writer.family(
        "rejected",
        "Messages and datagrams dropped, by reason",
        None,
        MetricType::Counter,
        "reason",
        all,
    )
}

fn peers(writer: &mut Writer<'_>, health: &Health) -> Result<(), Error> {
    let of = |value: &dyn Fn(usize, &PeerHealth) -> Option<f64>| -> Vec<(String, f64)> {
        let all = health.peers.iter().enumerate();
        all.filter_map(|(id, peer)| Some((id.to_string(), value(id, peer)?))).collect()
    };
    let heard = of(&|id, _| Some((*health.heard_ms.get(id)?)? as f64 / 1e3));
    let help = "Since a message showed that the replica is there";
    writer.family("peer_heard", help, Some(Unit::Seconds), MetricType::Gauge, "peer", heard)?;
    let sessions = of(&|_, peer| Some(f64::from(u8::from(peer.session))));
    writer.family(
        "peer_session",
        "1 if there is a session with it",
        None,
        MetricType::Gauge,
        "peer",
        sessions,
    )?;
    let took = of(&|_, peer| Some(peer.handshake_us? as f64 / 1e6));
    let help = "What the last handshake begun here took: a round trip, the work of both ends, and retries";
    writer.family("peer_handshake", help, Some(Unit::Seconds), MetricType::Gauge, "peer", took)?;
    let differs = |id: usize| health.other_members.iter().any(|&other| usize::from(other) == id);
    let differ = of(&|id, _| Some(f64::from(u8::from(differs(id)))));
    let help = "1 if it said last that it has another list of members";
    writer.family("peer_other_members", help, None, MetricType::Gauge, "peer", differ)?;
    let failed = of(&|_, peer| Some(peer.failed_verification as f64));
    let help = "Messages from its host that do not verify";
    writer.family("peer_failed_verification", help, None, MetricType::Counter, "peer", failed)?;
    let over = of(&|_, peer| Some(peer.over_quota as f64));
    let help = "Messages from its host beyond its share";
    writer.family("peer_over_quota", help, None, MetricType::Counter, "peer", over)?;
    let strangers = of(&|_, peer| Some(peer.strangers as f64));
    let help = "Handshakes from its address with a key that is nobody's";
    writer.family("peer_unknown_key", help, None, MetricType::Counter, "peer", strangers)?;
    let clients = &health.clients;
    let help = "Messages from the hosts of clients that do not verify";
    writer.counter("clients_failed_verification", help, None, clients.failed_verification as f64)?;
    let help = "Messages from the hosts of clients beyond their share";
    writer.counter("clients_over_quota", help, None, clients.over_quota as f64)
}

/// Writes one metric after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> Result<(), Error> {
        ConstGauge::new(value).encode(self.0.encode_descriptor(
            name,
            help,
            unit.as_ref(),
            MetricType::Gauge,
        )?)
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, value: f64) -> Result<(), Error> {
        ConstCounter::new(value).encode(self.0.encode_descriptor(
            name,
            help,
            unit.as_ref(),
            MetricType::Counter,
        )?)
    }

    /// One for each value of a label; nothing if there is none.
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        label: &str,
        values: impl IntoIterator<Item = (String, f64)>,
    ) -> Result<(), Error> {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let is_counter = matches!(kind, MetricType::Counter);
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (of, value) in values {
            let labels = [(label, of.as_str())];
            let one = family.encode_family(&labels)?;
            if is_counter {
                ConstCounter::new(value).encode(one)?
            } else {
                ConstGauge::new(value).encode(one)?
            }
        }
        Ok(())
    }

    fn histogram(&mut self, histogram: &Histogram) -> Result<(), Error> {
        let Histogram { name, help, unit, scale, values } = histogram;
        let bound = |bound: Option<u64>| bound.map_or(f64::INFINITY, |bound| bound as f64 / scale);
        let buckets: Vec<(f64, u64)> = values.buckets.iter().map(|&(at, count)| (bound(at), count)).collect();
        let mut encoder: MetricEncoder<'_> =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Histogram)?;
        let (sum, count) = (values.sum as f64 / scale, values.count());
        encoder.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
    }
}
