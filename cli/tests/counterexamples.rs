//! `pbft mutants`, `pbft replay` and `pbft explore`: what is printed where, and with which exit status.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

const AS_EXPECTED: i32 = 0;
const NOT: i32 = 1;
const WRONG_USE: i32 = 2;

fn pbft(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pbft")).args(arguments).output();
    let Output { status, stdout, stderr } = output.unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn counterexample(id: &str) -> String {
    format!("{}/../counterexamples/{id}.json", env!("CARGO_MANIFEST_DIR"))
}

fn temporary(name: &str) -> String {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name).to_str().unwrap().to_owned()
}

/// Asserts that the arguments are refused in one sentence that has these words in it.
fn assert_refused(arguments: &[&str], status: i32, words: &str) {
    let (found, stdout, stderr) = pbft(arguments);
    assert_eq!((found, stdout.as_str()), (status, ""), "{arguments:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("pbft: ") && stderr.contains(words), "{arguments:?}: {stderr}");
}

#[test]
fn replay_tells_every_step_and_what_the_safeguard_does_without_colours_where_there_is_no_terminal() {
    let (status, stdout, stderr) = pbft(&["replay", &counterexample("first-pre-prepare-wins")]);
    assert_eq!((status, stderr.as_str()), (AS_EXPECTED, ""));
    assert!(stdout.starts_with("Without first-pre-prepare-wins: "), "{stdout}");
    assert!(stdout.contains("lie: r0 proposes "), "{stdout}");
    assert!(stdout.contains("VIOLATED: prepared-uniqueness: "), "{stdout}");
    assert!(stdout.trim_end().ends_with("Nothing is violated."), "{stdout}");
    assert!(!stdout.contains('\u{1b}'), "{stdout}");
}

#[test]
fn replay_tells_what_happens_once_everything_is_lost_and_when_requests_execute_with_the_rule() {
    let path = counterexample("stuck/reply-cached");
    let (status, stdout, stderr) = pbft(&["replay", &path]);
    assert_eq!((status, stderr.as_str()), (AS_EXPECTED, ""));
    let (steps, then) = stdout.split_once("\nNow everything that was sent is lost").unwrap();
    assert!(steps.contains("  8  ") && !steps.contains("VIOLATED"), "{steps}");
    assert!(
        then.contains(" r0, Byzantine, says nothing. What happens then,")
            && then.contains(" ms  c0 sends REQUEST c0 t1"),
        "{then}"
    );
    assert!(then.contains("\nA request never executes: ") && then.contains("c0 has no result.\n"), "{then}");
    assert!(
        then.contains("With the rule:") && then.contains("every client has its result within "),
        "{then}"
    );
    let stale = temporary("stale-standstill.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&stale, text.replacen("102300 ms", "102301 ms", 1)).unwrap();
    for command in ["replay", "explore"] {
        assert_refused(&[command, &stale], NOT, "with this program: a request never executes, but line ");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_wrong_use_and_one_that_does_not_reproduce_is_not() {
    assert_refused(
        &["replay", "no-such-file"],
        WRONG_USE,
        "cannot read no-such-file: no such file or directory",
    );
    assert_refused(&["explore", "no-such-file"], WRONG_USE, "cannot read no-such-file");
    let text = std::fs::read_to_string(counterexample("commit-quorum")).unwrap();
    let path = temporary("stale.json");
    std::fs::write(&path, text.replacen("\"commit-quorum\"", "\"prepare-quorum\"", 1)).unwrap();
    for command in ["replay", "explore"] {
        assert_refused(&[command, &path], NOT, "does not reproduce with this program: step ");
    }
    std::fs::write(&path, "{}").unwrap();
    assert_refused(&["replay", &path], WRONG_USE, "it is no counterexample");
}

#[test]
fn what_check_saves_replays() {
    let path = temporary("saved.json");
    let world = ["check", "--byzantine", "0", "--requests", "2", "--max-seq", "1", "--explore", "lazy"];
    let (status, ..) = pbft(&[&world[..], &["--rules", "prepare-quorum", "--save", &path]].concat());
    assert_eq!(status, NOT);
    let (status, stdout, _) = pbft(&["replay", &path]);
    assert_eq!(status, AS_EXPECTED, "{stdout}");
    let [saved, stored] = [&path, &counterexample("prepare-quorum")].map(|path| {
        let mut file: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        file["revision"] = serde_json::Value::Null;
        file
    });
    assert_eq!(saved, stored);
}

#[test]
fn mutants_prints_a_row_for_each_asked_for_and_says_why_one_has_no_world() {
    let (status, stdout, _) = pbft(&["mutants", "--only", "commit-quorum,gc-after-execution,timeout-grows"]);
    assert_eq!(status, AS_EXPECTED, "{stdout}");
    let row = |id: &str| stdout.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(row("commit-quorum").contains(" killed ") && row("commit-quorum").contains("n4f1-byz1-v1k1r1b1"));
    assert!(
        row("gc-after-execution").contains(" killed ") && row("gc-after-execution").contains(" progress ")
    );
    assert!(
        row("timeout-grows").ends_with("simulation only") && stdout.contains("time is no part of a world")
    );
    let (status, stdout, _) = pbft(&["mutants", "--json", "--only", "commit-quorum"]);
    let object: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(
        (status, &object["status"], &object["as_expected"]),
        (AS_EXPECTED, &"killed".into(), &true.into())
    );
    assert_refused(
        &["mutants", "--only", "nonsense", "--json"],
        WRONG_USE,
        "no safeguard is called nonsense",
    );
}

#[test]
fn explore_says_in_a_sentence_why_it_cannot_serve() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_refused(&["explore", "--address", &address], WRONG_USE, "choose another with --address");
    assert_refused(&["explore", "--address", "nowhere"], WRONG_USE, "such as 127.0.0.1:3000");
    assert_refused(&["explore", "--world", "nowhere"], WRONG_USE, "`pbft check --list` lists them");
    assert_refused(&["explore", "--explore", "lazy"], WRONG_USE, "leave out --explore");
    assert_refused(
        &["explore", "--world", "n4f1-byz0-v1k1r2b1", "--n", "4"],
        WRONG_USE,
        "only --rules goes with it",
    );
    assert_refused(
        &["explore", &counterexample("commit-quorum"), "--n", "4"],
        WRONG_USE,
        "only --rules goes with it",
    );
}
