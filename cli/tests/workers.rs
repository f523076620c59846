//! Explorations among workers of several processes: the same as one process tells, killed or not.

// Helpers of tests may unwrap as tests do.
#![allow(clippy::unwrap_used)]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const HOLDS: i32 = 0;
const VIOLATED: i32 = 1;
const WRONG_USE: i32 = 2;
const UNKNOWN: i32 = 3;

/// The longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a run says, but for what depends on time, on the machine and on where states are.
fn told(output: &[u8]) -> Value {
    let mut told: Value = serde_json::from_slice(output).unwrap();
    let of_the_machine =
        ["seconds", "explore_seconds", "cpu_seconds", "states_per_second", "peak_bytes", "threads"];
    for field in of_the_machine {
        assert!(told.as_object_mut().unwrap().remove(field).is_some(), "{field} in {told}");
    }
    told
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn check(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pbft"));
    command.arg("check").args(words(arguments)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What one process says, and its exit status.
fn alone(arguments: &str) -> (i32, Value) {
    let output = check(&format!("{arguments} --json")).output().unwrap();
    (output.status.code().unwrap(), told(&output.stdout))
}

/// A file of hosts, on which nobody listens yet.
struct Hosts {
    directory: tempfile::TempDir,
    processes: usize,
}

impl Hosts {
    fn new(processes: usize) -> Self {
        let hosts = Hosts { directory: tempfile::tempdir().unwrap(), processes };
        hosts.renew();
        hosts
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("hosts")
    }

    /// Other addresses.
    fn renew(&self) {
        let listeners: Vec<_> =
            (0..self.processes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let lines = listeners.iter().map(|of| format!("{}\n", of.local_addr().unwrap()));
        std::fs::write(self.path(), lines.collect::<String>()).unwrap();
    }

    fn start(&self, process: usize, arguments: &str) -> Child {
        let mut command = check(arguments);
        command.arg("--hosts").arg(self.path()).args(["--process", &process.to_string()]);
        command.spawn().unwrap()
    }

    fn start_all(&self, arguments: &str) -> Vec<Child> {
        self.renew();
        (0..self.processes).map(|process| self.start(process, arguments)).collect()
    }
}

/// What a process has said when it has ended by itself.
fn ended(mut child: Child) -> Output {
    let began = Instant::now();
    // What it says fits into the pipes.
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn sentence(output: &Output) -> String {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// What process 0 of these says, when all have ended with the same status; the others print nothing.
fn together(processes: Vec<Child>) -> (i32, Value) {
    let mut outputs: Vec<Output> = processes.into_iter().map(ended).collect();
    let first = outputs.remove(0);
    for other in outputs {
        assert_eq!(status(&other), status(&first), "{}", String::from_utf8_lossy(&other.stderr));
        assert_eq!(String::from_utf8(other.stdout).unwrap(), "");
    }
    (status(&first), told(&first.stdout))
}

/// Every partition tells of this world what one thread does.
fn same_in_every_partition(world: &str, expected_status: i32) {
    let expected = alone(&format!("{world} --threads 1"));
    assert_eq!(expected.0, expected_status, "{world}: {}", expected.1);
    assert_eq!(alone(&format!("{world} --threads 2")), expected, "{world}: two threads");
    for workers in [1, 2, 3] {
        assert_eq!(alone(&format!("{world} --workers {workers}")), expected, "{world}: {workers} workers");
    }
    for (processes, workers) in [(2, 1), (2, 2)] {
        let hosts = Hosts::new(processes);
        let found = together(hosts.start_all(&format!("{world} --workers {workers} --json")));
        assert_eq!(found, expected, "{world}: {processes} processes of {workers}");
    }
}

#[test]
fn a_lazy_world_and_its_conditions_are_the_same_in_every_partition() {
    same_in_every_partition("--byzantine 3 --max-view 1 --max-seq 1 --explore lazy --observables", HOLDS);
}

#[test]
fn a_world_explored_one_by_one_is_the_same_in_every_partition() {
    same_in_every_partition("--byzantine 3 --max-seq 1 --observables", HOLDS);
}

#[test]
fn a_layered_world_and_its_conditions_are_the_same_in_every_partition() {
    same_in_every_partition("--byzantine 3 --max-view 1 --max-seq 1 --explore layered --walks 10", HOLDS);
}

#[test]
fn a_world_with_crashes_and_its_conditions_are_the_same_in_every_partition() {
    same_in_every_partition("--byzantine 3 --max-seq 1 --crashes 1 --explore lazy", HOLDS);
}

#[test]
fn a_world_with_clients_and_its_conditions_are_the_same_in_every_partition() {
    same_in_every_partition("--byzantine 3 --max-seq 1 --calls w --explore lazy", HOLDS);
}

#[test]
fn a_violation_and_the_steps_to_it_are_the_same_in_every_partition() {
    same_in_every_partition("--n 2 --f 0 --requests 2 --rules in-order", VIOLATED);
    let lazy = "--byzantine 0 --max-view 1 --max-seq 1 --requests 2 --explore lazy";
    same_in_every_partition(&format!("{lazy} --rules certificates-in-view-change"), VIOLATED);
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

/// Waits until both of two processes have met and use this directory; or have before.
fn have_met(directory: &Path) {
    let began = Instant::now();
    let met = |entry: std::fs::DirEntry| {
        (0..2).all(|worker| entry.path().join(format!("worker-{worker}-of-2")).is_dir())
    };
    while !std::fs::read_dir(directory).unwrap().map(Result::unwrap).any(met) {
        assert!(began.elapsed() < PATIENCE, "they do not meet");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills one of two processes so often, after up to so long each time: the other stops by itself and says so,
/// and both, started again, tell what is told where nobody was killed.
fn survives(world: &str, kills: u32, seed: u64, mut longest: Duration) {
    let expected = alone(world);
    let (hosts, mut rng) = (Hosts::new(2), ChaCha8Rng::seed_from_u64(seed));
    println!("seed {seed}");
    let mut directory = tempfile::tempdir().unwrap();
    let on_disk = |at: &Path| format!("{world} --json --wait 10 --resume --disk {}", at.display());
    let (mut killed, began) = (0, Instant::now());
    while killed < kills {
        assert!(began.elapsed() < PATIENCE * kills, "{killed} of {kills} killed while they ran");
        let mut processes = hosts.start_all(&on_disk(directory.path()));
        let (victim, after) = (rng.random_range(0..2), longest.mul_f64(rng.random_range(0.0..1.0)));
        have_met(directory.path());
        std::thread::sleep(after);
        let has_ended = processes.iter_mut().any(|process| process.try_wait().unwrap().is_some());
        let mut gone = processes.remove(victim);
        if !has_ended {
            gone.kill().unwrap();
            let at = Instant::now();
            let other = ended(processes.remove(0));
            let said = String::from_utf8(other.stderr.clone()).unwrap();
            let said = said.lines().last().unwrap_or_default();
            // Before they have met, it is waited for, and not gone.
            assert!([UNKNOWN, WRONG_USE].contains(&status(&other)), "{other:?}");
            if said.is_empty() {
                // It had all that it needed to end before the other was killed.
                assert!(!other.stdout.is_empty() || victim == 0, "it says nothing at all");
                directory = tempfile::tempdir().unwrap();
                longest /= 2;
            } else if status(&other) == UNKNOWN {
                assert!(at.elapsed() < Duration::from_secs(10), "{:?} after a kill", at.elapsed());
                assert!(said.starts_with(&format!("pbft: process {victim} is gone: ")), "{said}");
                println!("{victim} after {after:?}: {said}");
                killed += 1;
            }
        } else {
            processes.into_iter().for_each(|process| drop(ended(process)));
            directory = tempfile::tempdir().unwrap();
            longest /= 2;
        }
        gone.wait().unwrap();
        let other = tempfile::tempdir().unwrap();
        copy(directory.path(), other.path());
        assert_eq!(together(hosts.start_all(&on_disk(other.path()))), expected, "kill {killed}");
    }
    assert_eq!(together(hosts.start_all(&on_disk(directory.path()))), expected);
}

const SMALL: &str = "--byzantine 3 --requests 2 --max-view 1 --max-seq 1 --explore lazy --no-conditions";

#[test]
#[ignore = "takes from half a minute to several, by when the kills come"]
fn when_a_process_is_killed_the_others_stop_and_all_go_on_from_the_last_level() {
    survives(SMALL, 3, 1, Duration::from_secs(2));
}

#[test]
#[ignore = "long: views 0 to 2, killed ten times"]
fn a_longer_run_of_which_a_process_is_killed_ten_times_ends_with_the_same_counts() {
    let world = "--byzantine 3 --requests 2 --max-view 2 --max-seq 1 --explore lazy --no-conditions";
    survives(world, 10, 2, Duration::from_secs(8));
}

#[test]
fn a_process_that_was_started_for_another_world_is_refused_by_both() {
    let hosts = Hosts::new(2);
    let (one, other) = (hosts.start(0, "--max-seq 1"), hosts.start(1, "--max-seq 2"));
    let said = [one, other].map(|process| {
        let output = ended(process);
        assert_eq!((status(&output), &output.stdout[..]), (WRONG_USE, &b""[..]));
        sentence(&output)
    });
    assert!(said[0].starts_with("pbft: process 1 was started with another world than process 0: n4f1-"));
    assert!(said[1].starts_with("pbft: process 0 was started with another world than process 1: n4f1-"));
}

#[test]
fn an_interrupt_of_one_process_ends_all() {
    let world = "--byzantine 3 --requests 2 --max-view 2 --max-seq 1 --explore lazy --no-conditions";
    let hosts = Hosts::new(2);
    let mut processes = hosts.start_all(&format!("{world} --json --time 100"));
    std::thread::sleep(Duration::from_secs(2));
    let id = processes[1].id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let other = ended(processes.remove(1));
    let first = ended(processes.remove(0));
    // Where it had not begun yet, it is said in a sentence that it was.
    assert_eq!((status(&first), status(&other)), (UNKNOWN, UNKNOWN), "{first:?} {other:?}");
}

#[test]
fn mistakes_with_hosts_and_processes_are_told_in_a_sentence() {
    let hosts = Hosts::new(2);
    let file = hosts.path();
    let shown = file.display();
    let refused = |arguments: &str, words: &str| {
        let output = ended(check(arguments).spawn().unwrap());
        assert_eq!((status(&output), &output.stdout[..]), (WRONG_USE, &b""[..]), "{arguments}");
        let said = sentence(&output);
        assert!(said.starts_with("pbft: ") && said.contains(words), "{arguments}: {said}");
    };
    refused(&format!("--hosts {shown}"), "--process");
    refused("--process 1", "--hosts");
    refused(&format!("--hosts {shown} --process 2"), "it is a number from 0 to 1");
    refused("--hosts /nowhere --process 0", "cannot read /nowhere");
    refused("--workers 0", "--workers");
    std::fs::write(&file, "127.0.0.1:7000\nhere\n").unwrap();
    refused(&format!("--hosts {shown} --process 0"), "line 2: here is no address");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    std::fs::write(&file, format!("{}\n127.0.0.1:1\n", taken.local_addr().unwrap())).unwrap();
    refused(&format!("--hosts {shown} --process 0"), "cannot bind to 127.0.0.1");
}

#[test]
#[ignore = "measures: with --release, and nothing else to do"]
fn transitions_a_second_in_each_partition() {
    let world = "--byzantine 3 --max-view 2 --max-seq 1 --requests 2 --explore lazy --no-conditions --json";
    let (mut expected, hosts) = (None, Hosts::new(2));
    let mut compare = |partition: &str, output: Output| {
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        let transitions = all["transitions"].as_u64().unwrap();
        let seconds = all["explore_seconds"].as_f64().unwrap();
        println!("{partition}: {:.0} transitions a second, {seconds:.2} s", transitions as f64 / seconds);
        let told = told(&output.stdout);
        assert_eq!(*expected.get_or_insert(told.clone()), told, "{partition}");
    };
    for _ in 0..3 {
        for partition in ["--threads 1", "--threads 2", "--workers 1", "--workers 2"] {
            compare(partition, check(&format!("{world} {partition}")).output().unwrap());
        }
        let mut processes = hosts.start_all(world);
        let other = processes.remove(1);
        compare("two processes of one worker", ended(processes.remove(0)));
        assert_eq!(ended(other).stdout, b"");
    }
}
