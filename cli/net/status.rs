//! `pbft status`: how each replica does, and why it is stuck if it is.

use super::client::{Identity, claim};
use super::config::Config;
use crate::say;
use pbft::crypto::ed25519::Ed25519;
use pbft::rules::Pbft;
use pbft::runtime::Clients;
use pbft::runtime::control::Health;
use pbft::types::{Cluster, ReplicaId};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A replica that has not been heard of for so long counts as out of touch.
const SILENT_MS: u64 = 1000;

/// The options of `pbft status`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    identity: Identity,
    /// Print one JSON object a replica, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Asks every replica and tells what they say.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let config = Config::read(&arguments.identity.config)?;
    let (id, _kept) = claim(&config, arguments.identity.client)?;
    let mut clients = config.open(&[id], config.client_timeout(), 1400)?;
    let answers = ask(&mut clients, &config, Duration::from_secs(1))?;
    for (replica, answer) in config.cluster.replicas().zip(&answers) {
        if arguments.json {
            say!("{}", json(replica, answer.as_ref()));
        } else {
            tell(&config, replica, answer.as_ref());
        }
    }
    let enough = answers.iter().flatten().count() >= config.cluster.quorum();
    Ok(ExitCode::from(if enough { 0 } else { 3 }))
}

/// The status of each replica that answers within `patience`.
pub fn ask(
    clients: &mut Clients<Ed25519, Pbft>,
    config: &Config,
    patience: Duration,
) -> Result<Vec<Option<Health>>, String> {
    let asker = clients.ids().next().ok_or("status is asked with a client's key")?;
    let mut answers = vec![None; config.cluster.n()];
    let deadline = Instant::now() + patience;
    while answers.iter().any(Option::is_none) && Instant::now() < deadline {
        for replica in config.cluster.replicas().filter(|id| answers[usize::from(id.0)].is_none()) {
            clients.ask_status(asker, replica);
        }
        let round = deadline.min(Instant::now() + Duration::from_millis(100));
        while Instant::now() < round && answers.iter().any(Option::is_none) {
            clients.wait(round).map_err(|error| format!("cannot receive: {error}"))?;
            for answer in clients.answers() {
                answers[usize::from(answer.replica.0)] = Some(answer.health);
            }
        }
    }
    Ok(answers)
}

fn json(replica: ReplicaId, answer: Option<&Health>) -> serde_json::Value {
    match answer {
        None => serde_json::json!({ "replica": replica.0, "answers": false }),
        Some(status) => {
            let mut value = serde_json::to_value(status).unwrap_or_default();
            value["replica"] = replica.0.into();
            value["answers"] = true.into();
            value
        }
    }
}

fn tell(config: &Config, replica: ReplicaId, answer: Option<&Health>) {
    let address = &config.file.replicas[usize::from(replica.0)].address;
    let Some(status) = answer else {
        say!("replica {} at {address}: no answer", replica.0);
        return;
    };
    let changing = status.leaving.map(|view| format!(", changing to view {view}")).unwrap_or_default();
    let role = if status.primary == replica.0 { ", primary" } else { "" };
    say!(
        "replica {} at {address}: view {}{role}{changing}, executed {}, window ({}, {}], {} waiting, process {}",
        replica.0,
        status.view,
        status.last_executed,
        status.watermarks.0,
        status.watermarks.1,
        status.waiting_requests,
        status.pid
    );
    let heard: Vec<String> = (status.heard_ms.iter().enumerate())
        .filter(|&(other, _)| other != usize::from(replica.0))
        .map(|(other, ms)| match ms {
            Some(ms) => format!("{other} {ms} ms ago"),
            None => format!("{other} never"),
        })
        .collect();
    let quorum = if status.heard < config.cluster.quorum() as u64 { "not a quorum" } else { "a quorum" };
    // One that misbehaves does not say.
    if !heard.is_empty() {
        say!("  heard of: {}; now of {}, itself included: {quorum}", heard.join(", "), status.heard);
    }
    if !status.rejections.is_empty() {
        let dropped: Vec<String> = status.rejections.iter().map(|(why, n)| format!("{why} {n}")).collect();
        say!("  dropped: {}", dropped.join(", "));
    }
    if let Some(why) = stuck(&config.cluster, replica, status) {
        say!("  stuck: {why}");
    }
}

/// Why a replica makes no progress, if it has reason to and does not.
fn stuck(cluster: &Cluster, replica: ReplicaId, status: &Health) -> Option<String> {
    let others = status.heard_ms.iter().enumerate().filter(|&(other, _)| other != usize::from(replica.0));
    let silent: Vec<String> = (others.clone())
        .filter(|(_, heard)| heard.is_none_or(|ms| ms > SILENT_MS))
        .map(|(other, _)| other.to_string())
        .collect();
    let present = cluster.n() - silent.len();
    if present < cluster.quorum() {
        return Some(format!(
            "it is in touch with {present} replicas, itself included, and needs {}: start {}",
            cluster.quorum(),
            silent.join(", ")
        ));
    }
    if let Some((n, blocks)) = status.transferring {
        return Some(format!("it fetches the state at {n} from the others; {blocks} blocks are here"));
    }
    if let Some(view) = status.leaving {
        let primary = cluster.primary(pbft::types::View(view)).0;
        return Some(format!(
            "it has left its view and waits for the NEW-VIEW of view {view} from replica {primary}; if the others stay in \
             theirs, it follows them by the state of each checkpoint"
        ));
    }
    (status.waiting_requests > 0 && status.idle_ms > SILENT_MS)
        .then(|| format!("requests wait, and nothing has executed for {} ms", status.idle_ms))
}
