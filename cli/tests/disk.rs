//! Explorations on disk, killed at any moment and gone on with.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a run says, but for what depends on time and on where states are.
fn told(output: &[u8]) -> Value {
    let mut told: Value = serde_json::from_slice(output).unwrap();
    let of_the_machine = ["seconds", "explore_seconds", "cpu_seconds", "states_per_second", "peak_bytes"];
    for field in of_the_machine {
        assert!(told.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }
    told
}

fn check(world: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pbft"));
    command.arg("check").args(world).args(["--json", "--threads", "2"]);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

fn on_disk(world: &[&str], directory: &Path) -> Command {
    let mut command = check(world);
    command.arg("--resume").arg("--disk").arg(directory);
    command
}

/// Kills a run so often, after up to so long each time, and then lets it end: it tells what one tells that was
/// never killed.
fn survives(world: &[&str], kills: u32, mut longest: Duration) {
    let expected = told(&check(world).output().unwrap().stdout);
    let mut directory = tempfile::tempdir().unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut killed = 0;
    let began = Instant::now();
    while killed < kills {
        assert!(began.elapsed() < Duration::from_secs(300), "{killed} of {kills} killed while they ran");
        let mut run = on_disk(world, directory.path()).spawn().unwrap();
        std::thread::sleep(longest.mul_f64(rng.random_range(0.05..1.0)));
        let has_ended = run.try_wait().unwrap().is_some();
        if !has_ended {
            run.kill().unwrap();
            killed += 1;
        }
        run.wait().unwrap();
        let other = tempfile::tempdir().unwrap();
        copy(directory.path(), other.path());
        assert_eq!(told(&on_disk(world, other.path()).output().unwrap().stdout), expected, "kill {killed}");
        if has_ended {
            // The next has everything to do again, and less time.
            directory = tempfile::tempdir().unwrap();
            longest /= 2;
        }
    }
    assert_eq!(told(&on_disk(world, directory.path()).output().unwrap().stdout), expected);
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

const SMALL: [&str; 8] = ["--requests", "2", "--max-view", "1", "--max-seq", "1", "--explore", "lazy"];

#[test]
fn a_run_that_is_killed_is_gone_on_with_and_ends_with_the_same_counts() {
    survives(&[&SMALL[..], &["--byzantine", "3", "--no-conditions"]].concat(), 3, Duration::from_secs(1));
}

#[test]
#[ignore = "long: views 0 to 2, killed ten times"]
fn a_longer_run_that_is_killed_ten_times_ends_with_the_same_counts() {
    let world = ["--requests", "2", "--max-view", "2", "--max-seq", "1", "--explore", "lazy"];
    survives(&[&world[..], &["--byzantine", "3", "--no-conditions"]].concat(), 10, Duration::from_secs(8));
}

#[test]
fn conditions_and_witnesses_are_those_of_a_run_that_was_not_killed() {
    for (views, how) in [("1", "lazy"), ("1", "layered"), ("0", "none")] {
        let bounds = ["--byzantine", "3", "--requests", "1", "--max-seq", "1"];
        let world = [&bounds[..], &["--max-view", views, "--explore", how]].concat();
        survives(&world, 2, Duration::from_secs(1));
    }
}

#[test]
fn what_is_there_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let run = || {
        check(&["--requests", "1"])
            .arg("--disk")
            .arg(directory.path())
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    };
    assert!(run().status.success());
    let again = run();
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && said.contains("resume it, or name another directory"), "{said}");
}

/// Layered exploration does without two of its reductions where histories are asked for, and so is another one.
#[test]
fn an_exploration_by_layers_is_not_gone_on_with_as_one_that_shows_all_histories() {
    let world = ["--byzantine", "3", "--requests", "2", "--max-view", "0", "--max-seq", "2"];
    let world = [&world[..], &["--explore", "layered", "--no-conditions"]].concat();
    let with_histories = [&world[..], &["--observables"]].concat();
    for (first, then) in [(&world, &with_histories), (&with_histories, &world)] {
        let directory = tempfile::tempdir().unwrap();
        let whole = told(&on_disk(first, directory.path()).output().unwrap().stdout);
        let other = on_disk(then, directory.path()).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(other.stderr).unwrap();
        assert_eq!(other.status.code(), Some(2), "{said}");
        assert!(said.contains("holds an exploration of") && !said.contains("panicked"), "{said}");
        assert_eq!(told(&on_disk(first, directory.path()).output().unwrap().stdout), whole);
    }
}

/// A program whose file cannot be read could be any.
#[cfg(target_os = "linux")]
#[test]
fn a_program_that_was_replaced_while_it_ran_is_still_told_from_another() {
    let directory = tempfile::tempdir().unwrap();
    let (program, states) = (directory.path().join("pbft"), directory.path().join("states"));
    let install = || std::fs::copy(env!("CARGO_BIN_EXE_pbft"), &program).unwrap();
    install();
    let command = || {
        let mut command = Command::new(&program);
        command.args(["check", "--world", "n4f1-byz3-v1k1r2b1", "--no-conditions", "--json"]);
        command.arg("--resume").arg("--disk").arg(&states);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut run = command().spawn().unwrap();
    // Its first world has begun, and the second has not.
    while !states.join("n4f1-byz3-v1k1r2b1-lazy/manifest.json").exists() {
        assert!(run.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    std::fs::remove_file(&program).unwrap();
    install();
    let first = run.wait_with_output().unwrap();
    assert_eq!(first.stdout.iter().filter(|&&byte| byte == b'\n').count(), 2);
    let again = command().output().unwrap();
    let said = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(3), "{said}");
}
