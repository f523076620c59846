//! The commands as a person uses them.

use crate::support::{TEST_DEADLINE, pbft};
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::Instant;

fn client(config: &str, words: &[&str]) -> Output {
    pbft().args(["client", "--config", config]).args(words).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn one_command_brings_up_a_cluster_that_answers_and_stops_on_ctrl_c() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = pbft()
        .args(["cluster", "--replicas", "4", "--dir"])
        .arg(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(cluster.stdout.take().unwrap()).lines();
    let deadline = Instant::now() + TEST_DEADLINE;
    assert!(lines.by_ref().any(|line| line.unwrap() == "ready" && Instant::now() < deadline));
    let path = directory.path().join("cluster.toml");
    let config = path.to_str().unwrap();
    assert_eq!(printed(&client(config, &["put", "greeting", "hello"])), "done");
    assert_eq!(printed(&client(config, &["get", "greeting"])), "hello");
    assert_eq!(printed(&client(config, &["cas", "greeting", "hello", "bye"])), "swapped");
    assert_eq!(client(config, &["cas", "greeting", "hello", "bye"]).status.code(), Some(1));
    assert_eq!(printed(&client(config, &["delete", "greeting"])), "done");
    assert_eq!(client(config, &["get", "greeting"]).status.code(), Some(1));
    let status = pbft().args(["status", "--json", "--config", config]).output().unwrap();
    assert_eq!(status.status.code(), Some(0));
    assert_eq!(printed(&status).lines().filter(|line| line.contains("\"answers\":true")).count(), 4);
    let pid = rustix::process::Pid::from_raw(cluster.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(lines.any(|line| line.unwrap() == "stopped"));
    assert!(cluster.wait().unwrap().success());
}

#[test]
fn mistakes_are_answered_with_one_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cluster.toml");
    let made = pbft().args(["keygen", "--dir"]).arg(directory.path()).output().unwrap();
    assert!(made.status.success());
    let good = std::fs::read_to_string(&path).unwrap();
    for (wrong, says) in [
        (good.replacen("f = 1", "f = 2", 1), "too few for f = 2"),
        (good.replacen("f = 1", "f = 1\ncolour = 3", 1), "colour"),
        (good.replacen("f = 1", "f = 1\njournal = 3", 1), "expected a boolean"),
        (good.replacen("f = 1", "f = 1\njournal_segment_mb = 0", 1), "between 1 and 4096"),
        (good.replacen("f = 1", "f = 1\njournal_keep_mb = 127", 1), "at least twice journal_segment_mb"),
        (good.replacen("window = 256", "window = 100", 1), "two checkpoint intervals"),
        (good.replacen(":7601", ":7600", 1), "the same address"),
        (good.replacen("public_key = \"", "public_key = \"zz", 1), "public_key of replica 0"),
        (good.replacen("progress_timeout_ms = 500", "progress_timeout_ms = 1", 1), "progress_timeout_ms"),
        (
            good.replacen(":7602", ":99999", 1),
            ": address of replica 2: \"99999\" in \"127.0.0.1:99999\" is no port",
        ),
        (good.replacen("127.0.0.1:7601", "node 1:7601", 1), ": address of replica 1: \"node 1\" in"),
        (good.replacen("address = \"127.0.0.1:7601\"", "address = 7601", 1), ": address of replica 1: "),
        (good.replacen("address", "listen = \"node0:7600\"\naddress", 1), ": listen of replica 0: "),
        (good.replacen("127.0.0.1:7601", "[::1]:7601", 1), "replicas 0 and 1 must both have IPv4"),
        ("f = ".into(), "line 1"),
    ] {
        std::fs::write(&path, &wrong).unwrap();
        let output = pbft().args(["replica", "--id", "0", "--config"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
    }
}
