//! `second_opinion/pbft.py`, which shares no code with this, finds the same joint histories and the same
//! behaviours in the same worlds, each explored delivery by delivery.
//!
//! Without Python 3 nothing is compared, and the tests say so; they fail if the environment variable
//! `PBFT_REQUIRE_PYTHON` is set.

use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::report::{Explore, Lines, Options, Report, Verdict, run};
use pbft_models::world::WorldConfig;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const SECOND_OPINION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/second_opinion/pbft.py");

/// Whether there is Python 3.
fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    let required = std::env::var_os("PBFT_REQUIRE_PYTHON").is_some();
    assert!(found || !required, "PBFT_REQUIRE_PYTHON is set, and there is no python3");
    if !found {
        // Past the test harness, which keeps to itself what passing tests print.
        let _ = writeln!(std::io::stderr(), "SKIPPED: there is no python3, so nothing was compared");
    }
    found
}

/// Views up to the second number, as many requests as the third, one sequence number.
fn config(n: u16, byzantine: &[u16], max_view: u64, requests: u32) -> WorldConfig {
    WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_view: View(max_view),
        max_seq: SeqNo(1),
        ..WorldConfig::new(Cluster::new(n, 1), requests)
    }
}

/// With f = 0: a quorum is a bare majority, so of three replicas one can be left behind.
fn everybody_correct(n: u16, max_view: u64, requests: u32) -> WorldConfig {
    WorldConfig { cluster: Cluster::new(n, 0), ..config(n, &[], max_view, requests) }
}

fn with_checkpoint(config: WorldConfig) -> WorldConfig {
    WorldConfig { checkpoint_interval: Some(1), window: Some(1), ..config }
}

/// What the second opinion finds.
struct Opinion {
    states: u64,
    /// Its joint histories and its behaviours, as text.
    histories: String,
    behaviours: String,
}

fn second_opinion(config: &WorldConfig) -> Opinion {
    let name = format!("{}-{}", config.name(), std::process::id());
    let [histories, behaviours] = ["histories", "behaviours"]
        .map(|what| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("second-opinion-{name}-{what}")));
    let byzantine: Vec<String> = config.byzantine.iter().map(|replica| replica.0.to_string()).collect();
    let mut command = Command::new("python3");
    command.args(["-B", SECOND_OPINION]);
    for (option, value) in [
        ("--n", config.cluster.n().to_string()),
        ("--f", config.cluster.f().to_string()),
        ("--byzantine", if byzantine.is_empty() { "none".into() } else { byzantine.join(",") }),
        ("--max-view", config.max_view.0.to_string()),
        ("--max-seq", config.max_seq.0.to_string()),
        ("--requests", config.requests.to_string()),
        ("--window", config.parameters().window.to_string()),
    ] {
        command.args([option, &value]);
    }
    if let Some(interval) = config.checkpoint_interval {
        command.args(["--checkpoint-interval", &interval.to_string()]);
    }
    let output = command.arg("--histories").arg(&histories).arg("--behaviours").arg(&behaviours).output();
    let output = output.expect("python3 can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    // It judges by itself, too.
    assert!(said.contains(r#""problems": []"#), "{said}");
    let states = said.split_once("\"states\": ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    let [histories, behaviours] = [histories, behaviours].map(read);
    Opinion { states: states.expect("it says how many states there are"), histories, behaviours }
}

fn read(path: PathBuf) -> String {
    let text = std::fs::read_to_string(&path).expect("the second opinion has written it");
    std::fs::remove_file(path).expect("it was just read");
    text
}

fn explored(config: &WorldConfig) -> Report {
    let options = Options { observables: true, behaviours: true, ..Options::default() };
    run(config.clone(), Explore::None, &options, &mut |_| true).expect("these bounds make sense")
}

/// What is in one of the two only, if anything is: the first lines.
fn difference(ours: &Lines, theirs: &str) -> Option<String> {
    let ours = ours.text();
    if ours == theirs {
        return None;
    }
    let only = |these: &str, others: &str| {
        let mut lines = these.lines().filter(|line| !others.lines().any(|other| other == *line));
        lines.next().unwrap_or("nothing").to_string()
    };
    Some(format!("only here: {}\nonly there: {}", only(&ours, theirs), only(theirs, &ours)))
}

fn compare(config: &WorldConfig) -> Vec<String> {
    let report = explored(config);
    let observed = report.observed.as_ref().expect("it was asked for, and the world is exhausted");
    assert_eq!(report.verdict, Verdict::Holds, "{report:?}");
    let behaviours = observed.behaviours.as_ref().expect("they were asked for");
    let theirs = second_opinion(config);
    println!(
        "{}: {} states here and {} there, {} joint histories, {} behaviours",
        config.name(),
        report.states,
        theirs.states,
        observed.histories.count(),
        behaviours.count()
    );
    assert!(observed.histories.count() > 5 && behaviours.count() >= observed.histories.count());
    let histories = difference(&observed.histories, &theirs.histories);
    let behaviours = difference(behaviours, &theirs.behaviours);
    // Both keep the same of what they receive, too, as long as nothing is taken over from one view, or
    // checkpoint, to the next but VIEW-CHANGEs. Otherwise what they keep differs, and so does the number of
    // states.
    let keep_the_same =
        config.checkpoint_interval.is_none() && (config.max_view.0 == 0 || config.cluster.f() == 1);
    let states = (keep_the_same && report.states != theirs.states).then(|| "other states".to_string());
    [histories, behaviours, states].into_iter().flatten().collect()
}

fn agree(worlds: &[WorldConfig]) {
    if !has_python() {
        return;
    }
    for config in worlds {
        let differences = compare(config);
        assert!(differences.is_empty(), "{}:\n{}", config.name(), differences.join("\n"));
    }
}

#[test]
fn both_find_the_same_in_view_0() {
    let three = [&[][..], &[0], &[1], &[2]].map(|byzantine| config(3, byzantine, 0, 2));
    agree(&three);
    agree(&[config(4, &[], 0, 1), config(4, &[0], 0, 1)]);
}

#[test]
fn both_find_the_same_with_a_view_change() {
    agree(&[&[][..], &[0], &[1], &[2]].map(|byzantine| config(3, byzantine, 1, 1)));
    agree(&[everybody_correct(3, 1, 1), everybody_correct(2, 2, 1)]);
}

#[test]
fn both_find_the_same_with_a_checkpoint() {
    agree(&[&[][..], &[0], &[2]].map(|byzantine| with_checkpoint(config(3, byzantine, 0, 1))));
    agree(&[with_checkpoint(config(3, &[], 1, 1))]);
    // One of three is left behind, and fetches the state.
    agree(&[with_checkpoint(everybody_correct(3, 0, 1))]);
}

#[test]
fn both_find_the_same_with_two_sequence_numbers() {
    let two = |max_view| WorldConfig { max_seq: SeqNo(2), ..everybody_correct(2, max_view, 2) };
    agree(&[two(0), two(1), WorldConfig { checkpoint_interval: Some(2), ..two(1) }]);
}

#[test]
fn a_replica_without_a_rule_is_told_apart() {
    if !has_python() {
        return;
    }
    let world = config(3, &[1], 1, 1);
    let theirs = second_opinion(&world);
    for mutant in
        [Mutant::PrepareQuorum, Mutant::CommitQuorum, Mutant::ViewChangeQuorum, Mutant::NullAnywhere]
    {
        let report = explored(&WorldConfig { rules: Rulebook::without(mutant), ..world.clone() });
        // A violation is a difference, too: the second opinion has found none.
        let found = report.observed.as_ref().map(|observed| {
            let behaviours = observed.behaviours.as_ref().and_then(|all| difference(all, &theirs.behaviours));
            [difference(&observed.histories, &theirs.histories), behaviours]
                .into_iter()
                .flatten()
                .collect::<String>()
        });
        println!("{}: {:?} {found:?}", mutant.id(), report.verdict);
        assert!(
            report.verdict == Verdict::Violated || found.is_some_and(|found| !found.is_empty()),
            "{mutant:?}"
        );
    }
}
