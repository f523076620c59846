//! Replicas that misbehave on purpose, over UDP: the others serve on, stay together, and keep running.

use crate::support::{Cluster, Load, TEST_DEADLINE, pbft};
use pbft::runtime::control::Health;
use std::fs::File;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const ALL: [&str; 5] = ["silent", "equivocate", "garbage", "replay", "forge-view-change"];

/// What correct replicas drop only if somebody lies: nothing else on the loopback interface makes them.
const LIES: [&str; 8] = [
    "signer_is_not_sender",
    "bad_signature",
    "not_primary",
    "bad_digest",
    "bad_prepared_certificate",
    "bad_stable_certificate",
    "bad_view_change_set",
    "bad_new_view_o",
];

fn misbehaving() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pbft-misbehaving"))
}

/// Checkpoints often, and allows what these tests are about.
fn allowed(table: &mut toml::Table) {
    table.insert("allow_misbehaviour".into(), true.into());
    let parameters = table["parameters"].as_table_mut().unwrap();
    parameters.insert("checkpoint_interval".into(), 16.into());
    parameters.insert("window".into(), 32.into());
}

/// Puts one that misbehaves in the place of a correct replica that has not done anything yet.
fn corrupt(cluster: &mut Cluster, id: usize, how: &str, seed: u64) {
    cluster.kill(id);
    let log = cluster.directory.path().join(format!("replica-{id}.log"));
    let log = File::options().create(true).append(true).open(log).unwrap();
    let child = misbehaving()
        .args(["replica", "--stop-with-parent", "--misbehave", how, "--seed", &seed.to_string(), "--config"])
        .arg(cluster.path())
        .args(["--id", &id.to_string()])
        .stdin(Stdio::piped())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    cluster.processes[id] = Some(child);
    cluster.faulty.insert(id);
    cluster.wait_for_answers();
}

fn rejected(status: &Health, reasons: &[&str]) -> u64 {
    status.rejections.iter().filter(|(why, _)| reasons.contains(&why.as_str())).map(|(_, count)| count).sum()
}

fn survives(replicas: usize, liars: &[(usize, &str)], seed: u64, least: Duration) {
    survives_with(Cluster::new(replicas, allowed), liars, seed, least);
}

/// Serves for at least so long while these replicas misbehave, and shows that they did, and that the others
/// are well.
fn survives_with(mut cluster: Cluster, liars: &[(usize, &str)], seed: u64, least: Duration) {
    let replicas = cluster.processes.len();
    println!("{replicas} replicas, {liars:?}, seed {seed}");
    for &(id, how) in liars {
        corrupt(&mut cluster, id, how, seed);
    }
    let correct: Vec<usize> = (0..replicas).filter(|id| liars.iter().all(|(liar, _)| liar != id)).collect();
    let started = Instant::now();
    let load = Load::start(&cluster, 3, seed);
    load.wait(40);
    let mut slowest = started.elapsed();
    let shown = || liars.iter().all(|&(id, how)| has_shown(&cluster, &correct, id, how));
    let deadline = Instant::now() + TEST_DEADLINE;
    while started.elapsed() < least || !shown() {
        assert!(Instant::now() < deadline, "it is not seen to misbehave");
        let before = Instant::now();
        load.wait(20);
        slowest = slowest.max(before.elapsed());
    }
    let took = started.elapsed();
    load.finish(&cluster);
    for &id in &correct {
        cluster.wait_until_caught_up(id);
        let status = cluster.status(id).unwrap();
        println!(
            "after {took:?}, 20 operations in {slowest:?} at worst: replica {id} in view {}, {} executed, {} transfers, dropped {:?}",
            status.view,
            status.last_executed,
            status.counter("transfers"),
            status.rejections
        );
    }
    cluster.wait_for_answers();
    for &(id, how) in liars {
        let log = cluster.log(id);
        assert!(log.contains("MISBEHAVES ON PURPOSE") && log.contains(how), "{log}");
        assert!(cluster.log(correct[0]).contains("allow_misbehaviour is set"));
    }
    cluster.stop();
}

/// Whether the correct replicas have met what this behaviour is about.
fn has_shown(cluster: &Cluster, correct: &[usize], liar: usize, how: &str) -> bool {
    let all: Vec<Health> = correct.iter().filter_map(|&id| cluster.status(id)).collect();
    let lied = cluster.status(liar).is_some_and(|status| status.counter("lies") > 0);
    let dropped = |reasons: &[&str]| all.iter().map(|status| rejected(status, reasons)).sum::<u64>() > 0;
    let met = match how {
        // A primary that says nothing is replaced; a backup is not missed.
        "silent" => liar != 0 || all.iter().any(|status| status.view > 0),
        "forge-view-change" => {
            dropped(&["bad_prepared_certificate"])
                && dropped(&["bad_stable_certificate"])
                && dropped(&["bad_view_change_set"])
        }
        _ => dropped(&LIES),
    };
    lied && met
}

#[test]
fn a_silent_primary_is_replaced() {
    survives(4, &[(0, "silent")], 1, Duration::ZERO);
}

#[test]
fn an_equivocating_primary_splits_nobody() {
    survives(4, &[(0, "equivocate")], 2, Duration::ZERO);
}

#[test]
fn a_primary_that_sends_well_signed_garbage_stops_nobody() {
    survives(4, &[(0, "garbage")], 3, Duration::ZERO);
}

#[test]
fn a_primary_that_replays_old_messages_stops_nobody() {
    survives(4, &[(0, "replay")], 4, Duration::ZERO);
}

#[test]
fn a_primary_that_forges_view_changes_convinces_nobody() {
    survives(4, &[(0, "forge-view-change")], 5, Duration::ZERO);
}

#[test]
#[ignore = "long: each behaviour as primary and as backup, and pairs of them among seven replicas, ten seconds each"]
fn every_behaviour_in_every_place_is_survived() {
    let least = Duration::from_secs(10);
    for seed in 10..12 {
        for (i, how) in ALL.into_iter().enumerate() {
            survives(4, &[(0, how)], seed, least);
            survives(4, &[(3, how)], seed, least);
            let other = ALL[(i + 1 + seed as usize % 4) % ALL.len()];
            survives(7, &[(0, how), (1, other)], seed, least);
        }
    }
}

#[test]
#[ignore = "long: time-outs so short that views change all the time, with each behaviour, ten seconds each"]
fn every_behaviour_is_survived_while_views_change_all_the_time() {
    for (seed, how) in (20..).zip(ALL) {
        let cluster = Cluster::new(4, |table| {
            allowed(table);
            table.insert("progress_timeout_ms".into(), 15.into());
        });
        survives_with(cluster, &[(0, how)], seed, Duration::from_secs(10));
    }
}

fn refused(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty() && said.lines().count() == 1, "{said}");
    said
}

#[test]
fn nothing_misbehaves_unless_the_configuration_allows_it_and_pbft_never_does() {
    let directory = tempfile::tempdir().unwrap();
    let made = pbft().args(["keygen", "--dir"]).arg(directory.path()).output().unwrap();
    assert!(made.status.success());
    let path = directory.path().join("cluster.toml");
    assert!(!std::fs::read_to_string(&path).unwrap().contains("allow_misbehaviour"));
    let arguments = ["replica", "--id", "0", "--misbehave", "silent", "--config"];
    let said = refused(&misbehaving().args(arguments).arg(&path).output().unwrap());
    assert!(said.contains("write `allow_misbehaviour = true` at the top"), "{said}");
    let said = refused(&pbft().args(arguments).arg(&path).output().unwrap());
    let command = format!(
        "cargo run --release --bin pbft-misbehaving -- replica --config {} --id 0 --misbehave silent",
        path.display()
    );
    assert!(said.contains("does not misbehave") && said.contains(&command), "{said}");
    let wrong = ["replica", "--id", "0", "--misbehave", "sulk", "--config"];
    let said = refused(&misbehaving().args(wrong).arg(&path).output().unwrap());
    assert!(ALL.iter().all(|how| said.contains(how)), "{said}");
}

/// A cluster with an equivocating primary, which some correct replica has refused in a step, and not before it: only
/// steps are journalled. Most of its lies are dropped unverified, and the others may have replaced it first.
fn refused_in_a_step(seed: u64) -> Option<Cluster> {
    let mut cluster = Cluster::new(4, allowed);
    corrupt(&mut cluster, 0, "equivocate", seed);
    // That of the correct replica in whose place it is.
    std::fs::remove_dir_all(cluster.config.journal(pbft::types::ReplicaId(0))).unwrap();
    let mut client = cluster.client(0);
    for number in 0..20 {
        client.put(&format!("k{number}"), b"v");
    }
    let reasons = ["null_request", "conflicting_pre_prepare"];
    let is_refused = |id| cluster.status(id).is_some_and(|status| rejected(&status, &reasons) > 0);
    (1..4).any(is_refused).then_some(cluster)
}

#[test]
fn the_journals_of_a_cluster_with_a_liar_are_one_story_with_what_was_refused_and_why() {
    let mut cluster = (5..15).find_map(refused_in_a_step).expect("a liar is refused something");
    cluster.stop_replicas();
    let page = cluster.directory.path().join("story.html");
    let told = |numbers: &str| {
        let output = pbft()
            .args(["replay", "--numbers", numbers, "--journals"])
            .arg(cluster.directory.path())
            .arg("--html")
            .arg(&page)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read_to_string(&page).unwrap()
    };
    let text = told("0..");
    assert!(text.contains("without a journal: r0") && text.contains(">no journal<"), "r0 is marked");
    assert!(text.contains("r0 keeps no journal"), "what it sent is marked");
    assert!(text.contains(" drops it: "), "something was refused");
    assert!(text.contains("COMMITs, complete"), "quorums are counted");
    assert_eq!(text.matches("<td>holds</td>").count(), 11, "every property is judged");
    assert!(!text.contains("VIOLATED") && !text.contains("DIVERGES"));
    // What is asked for is what is shown.
    let few = told("3..4");
    assert!(few.len() < text.len() && few.contains("Sequence numbers 3 to 4"));
}
