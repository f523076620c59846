//! `pbft status`: how each replica does, why it is stuck if it is, and who differs or misbehaves.

use super::config::Config;
use super::judge;
use super::observer::{self, Who};
use crate::say;
use pbft::runtime::control::Health;
use pbft::types::{Cluster, ReplicaId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A replica that has not been heard of for so long counts as out of touch.
const SILENT_MS: u64 = 1000;

/// The options of `pbft status`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The configuration, as `pbft keygen` or `pbft cluster` writes it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which observer's key to ask with; the first that is here and not in use, if not given.
    #[arg(long)]
    observer: Option<u32>,
    /// Ask with the key of this client instead, which no other process may use meanwhile.
    #[arg(long, conflicts_with = "observer")]
    client: Option<u32>,
    /// Print one JSON object a replica, and nothing else.
    #[arg(long)]
    json: bool,
}

/// Asks every replica and tells what they say.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let config = Config::read(&arguments.config)?;
    let who = match (arguments.observer, arguments.client) {
        (Some(observer), _) => Who::Observer(observer),
        (None, Some(client)) => Who::Client(client),
        (None, None) => Who::Anybody,
    };
    let answers = observer::open(&config, who)?.ask(Duration::from_secs(1))?;
    for (replica, answer) in config.cluster.replicas().zip(&answers) {
        if arguments.json {
            say!("{}", json(replica, answer.as_ref()));
        } else {
            tell(&config, replica, answer.as_ref());
        }
    }
    if !arguments.json {
        let own = hex::encode(config.membership().0);
        let remarks = [members(&own, &answers), strangers(&answers), dropped(&answers)];
        remarks.concat().iter().for_each(|remark| say!("{remark}"));
    }
    let enough = answers.iter().flatten().count() >= config.cluster.quorum();
    Ok(ExitCode::from(if enough { 0 } else { 3 }))
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
    if let Some(judged) = judge::words(status) {
        say!("  {judged}");
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

/// "replica 2", or "replicas 0, 1, 3".
fn named(replicas: &[usize]) -> String {
    let numbers: Vec<String> = replicas.iter().map(usize::to_string).collect();
    format!("replica{} {}", if replicas.len() == 1 { "" } else { "s" }, numbers.join(", "))
}

/// Who has been given other members than most, and whether this file is one of those.
fn members(own: &str, answers: &[Option<Health>]) -> Vec<String> {
    const WHAT: &str = "another list of members (clients, keys or parameters) than";
    let have = |count: usize| if count == 1 { "has" } else { "have" };
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (replica, answer) in answers.iter().enumerate() {
        if let Some(members) = answer.as_ref().and_then(|health| health.members.as_deref()) {
            groups.entry(members).or_default().push(replica);
        }
    }
    // The largest, of several the one with the lowest replica.
    let most = groups.iter().max_by_key(|(_, group)| (group.len(), std::cmp::Reverse(group[0])));
    let Some((&usual, most)) = most else { return Vec::new() };
    let mut said: Vec<String> = (groups.iter().filter(|&(&digest, _)| digest != usual))
        .map(|(_, group)| format!("{} {} {WHAT} {}", named(group), have(group.len()), named(most)))
        .collect();
    if own != usual {
        said.push(format!("this configuration has {WHAT} {}", named(most)));
    }
    // One that does not answer may still have told the others.
    for silent in (0..answers.len()).filter(|&replica| answers[replica].is_none()) {
        let tells = |health: &Health| health.other_members.iter().any(|&id| usize::from(id) == silent);
        let told: Vec<usize> =
            (0..answers.len()).filter(|&id| answers[id].as_ref().is_some_and(tells)).collect();
        if !told.is_empty() {
            said.push(format!("replica {silent} has {WHAT} {}, as it has told them", named(&told)));
        }
    }
    said
}

/// Who asks for sessions from a replica's address without having its key.
fn strangers(answers: &[Option<Health>]) -> Vec<String> {
    let mut said = Vec::new();
    for replica in 0..answers.len() {
        let asked = |(_, answer): &(usize, &Option<Health>)| {
            answer
                .as_ref()
                .and_then(|health| health.peers.get(replica))
                .is_some_and(|peer| peer.strangers > 0)
        };
        let by: Vec<usize> = answers.iter().enumerate().filter(asked).map(|(id, _)| id).collect();
        let ago = answers.iter().flatten().filter_map(|health| health.peers.get(replica)?.stranger_ms).min();
        if let (false, Some(ago)) = (by.is_empty(), ago) {
            said.push(format!(
                "somebody at the address of replica {replica} asks for sessions with a key that is not replica \
                 {replica}'s, last {ago} ms ago: compare its host_key in the configurations of {}",
                named(&by)
            ));
        }
    }
    said
}

/// Whose messages are dropped: those that do not verify, and those beyond a quota.
fn dropped(answers: &[Option<Health>]) -> Vec<String> {
    let told = |count: &dyn Fn(&Health) -> u64| -> Vec<String> {
        (answers.iter().enumerate())
            .filter_map(|(id, answer)| Some((id, count(answer.as_ref()?))).filter(|&(_, count)| count > 0))
            .map(|(id, count)| {
                format!("{count} message{} to replica {id}", if count == 1 { "" } else { "s" })
            })
            .collect()
    };
    let mut said = Vec::new();
    for replica in 0..answers.len() {
        let failed = told(&|health| health.peers.get(replica).map_or(0, |peer| peer.failed_verification));
        if !failed.is_empty() {
            said.push(format!("replica {replica} sends what does not verify: {}", failed.join(", ")));
        }
        let over = told(&|health| health.peers.get(replica).map_or(0, |peer| peer.over_quota));
        if !over.is_empty() {
            said.push(format!("replica {replica} sends more than its share, dropped: {}", over.join(", ")));
        }
    }
    let worst = |of: &dyn Fn(&Health) -> Option<(u32, u64)>| {
        let worst = answers.iter().flatten().filter_map(of).max_by_key(|&(_, count)| count);
        worst.map_or(String::new(), |(client, _)| format!("; most come from the host of client {client}"))
    };
    let failed = told(&|health| health.clients.failed_verification);
    if !failed.is_empty() {
        let most = worst(&|health| health.clients.most_failed);
        said.push(format!("clients send what does not verify: {}{most}", failed.join(", ")));
    }
    let over = told(&|health| health.clients.over_quota);
    if !over.is_empty() {
        let most = worst(&|health| health.clients.most_over_quota);
        said.push(format!("clients send more than their share, dropped: {}{most}", over.join(", ")));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbft::runtime::control::{ClientsHealth, PeerHealth};

    fn answers(members: [&str; 4]) -> Vec<Option<Health>> {
        let peers = vec![PeerHealth::default(); 4];
        let health = |members: &str| Health {
            members: Some(members.into()),
            peers: peers.clone(),
            ..Health::default()
        };
        members.map(|members| Some(health(members))).to_vec()
    }

    #[test]
    fn status_says_who_has_other_members() {
        assert_eq!(members("a", &answers(["a"; 4])), [""; 0]);
        assert_eq!(
            members("a", &answers(["a", "a", "b", "a"])),
            ["replica 2 has another list of members (clients, keys or parameters) than replicas 0, 1, 3"]
        );
        let here = members("c", &answers(["a", "b", "b", "a"]));
        assert_eq!(
            here,
            [
                "replicas 1, 2 have another list of members (clients, keys or parameters) than replicas 0, 3",
                "this configuration has another list of members (clients, keys or parameters) than replicas 0, 3"
            ]
        );
        let mut silent = answers(["a"; 4]);
        silent[2] = None;
        silent[1].as_mut().unwrap().other_members = vec![2];
        assert_eq!(
            members("a", &silent),
            [
                "replica 2 has another list of members (clients, keys or parameters) than replica 1, as it has told them"
            ]
        );
    }

    #[test]
    fn status_says_who_sends_what_does_not_verify_and_who_poses_as_a_replica() {
        let mut answers = answers(["a"; 4]);
        assert_eq!((dropped(&answers), strangers(&answers)), (Vec::new(), Vec::new()));
        for (id, count) in [(0, 512), (3, 1)] {
            answers[id].as_mut().unwrap().peers[2].failed_verification = count;
        }
        answers[1].as_mut().unwrap().peers[3].over_quota = 9;
        let clients =
            ClientsHealth { failed_verification: 8, most_failed: Some((5, 7)), ..Default::default() };
        answers[1].as_mut().unwrap().clients = clients;
        assert_eq!(
            dropped(&answers),
            [
                "replica 2 sends what does not verify: 512 messages to replica 0, 1 message to replica 3",
                "replica 3 sends more than its share, dropped: 9 messages to replica 1",
                "clients send what does not verify: 8 messages to replica 1; most come from the host of client 5"
            ]
        );
        let peer = &mut answers[1].as_mut().unwrap().peers[2];
        (peer.strangers, peer.stranger_ms) = (3, Some(40));
        assert_eq!(
            strangers(&answers),
            [
                "somebody at the address of replica 2 asks for sessions with a key that is not replica 2's, last 40 ms \
              ago: compare its host_key in the configurations of replica 1"
            ]
        );
    }
}
