//! What an operator does with running replicas: names, signals, logs, values of any kind, starts that fail.

use crate::support::{Cluster, TEST_DEADLINE, pbft};
use pbft::kv::MAX_VALUE_BYTES;
use pbft::types::ReplicaId;
use rustix::process::Signal;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

/// `pbft client` with these words, given this input.
fn client(cluster: &Cluster, words: &[&str], input: &[u8]) -> Output {
    let mut command = pbft();
    command.args(["client", "--config"]).arg(cluster.path()).args(words);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may refuse, and be gone, before it has read everything.
    match child.stdin.take().unwrap().write_all(input) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written.unwrap(),
    }
    child.wait_with_output().unwrap()
}

/// The exit status and the one line on standard error.
fn complaint(output: &Output) -> (Option<i32>, String) {
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    (output.status.code(), said)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + TEST_DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn replicas_are_found_by_name_and_listen_at_every_address_then() {
    let mut cluster = Cluster::new(4, |table| {
        for entry in table["replica"].as_array_mut().unwrap() {
            let address = entry["address"].as_str().unwrap().replace("127.0.0.1", "localhost");
            entry.as_table_mut().unwrap().insert("address".into(), address.into());
        }
    });
    let entry = &cluster.config.file.replicas[0].address;
    assert_eq!(entry.to_string(), format!("localhost:{}", entry.port()));
    let listen = cluster.config.listen(ReplicaId(0)).unwrap();
    assert!(listen.ip().is_unspecified() && listen.port() == entry.port(), "{listen}");
    cluster.client(0).put("k", b"1");
    // A replica that starts resolves the others' names too.
    cluster.kill(1);
    cluster.spawn(1, &[]);
    cluster.client(0).put("k", b"2");
    cluster.wait_until_caught_up(1);
    assert_eq!(client(&cluster, &["get", "k"], b"").stdout, b"2\n");
    cluster.stop();
}

#[test]
fn values_come_from_files_and_from_standard_input_and_go_out_byte_by_byte() {
    let cluster = Cluster::new(4, |_| {});
    let (input, output) =
        (cluster.directory.path().join("value in"), cluster.directory.path().join("value out"));
    let (input, output) = (input.to_str().unwrap(), output.to_str().unwrap());
    let value: Vec<u8> = (0..=255).chain([b'\n', 0, 255]).collect();
    fs::write(input, &value).unwrap();
    assert_eq!(client(&cluster, &["put", "file", "--file", input], b"").stdout, b"done\n");
    assert_eq!(client(&cluster, &["put", "stdin", "-"], &value).stdout, b"done\n");
    for key in ["file", "stdin"] {
        assert_eq!(client(&cluster, &["get", key, "--raw"], b"").stdout, value);
        assert_eq!(client(&cluster, &["get", key, "--output", output], b"").stdout, b"");
        assert_eq!(fs::read(output).unwrap(), value);
        fs::remove_file(output).unwrap();
    }
    let lines = "put 'a key' \"two words\"\nget 'a key'\nput k -\nput k --file 'no such file'\nput k 'x\nput k #1\n\
                 cas k '#1' 'a b'\nget k\n";
    let prompt = client(&cluster, &[], lines.as_bytes());
    assert_eq!(String::from_utf8_lossy(&prompt.stdout), "done\ntwo words\ndone\nswapped\na b\n");
    let said = String::from_utf8_lossy(&prompt.stderr).into_owned();
    let said: Vec<&str> = said.lines().collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("standard input is the prompt") && said[1].contains("no such file"), "{said:?}");
    assert!(said[2].contains("not closed"), "{said:?}");
    let cas = |words: &[&str]| client(&cluster, &[&["cas"], words].concat(), b"new").status.code();
    assert_eq!(cas(&["k", "a b", "-"]), Some(0));
    assert_eq!(client(&cluster, &["get", "k"], b"").stdout, b"new\n");
    assert_eq!(cas(&["k", "--absent", "--delete"]), Some(1));
    assert_eq!(cas(&["k", "new", "--delete"]), Some(0));
    assert_eq!(cas(&["k", "--absent", "--delete"]), Some(0));
    assert_eq!(client(&cluster, &["get", "k"], b"").status.code(), Some(1));
    for wrong in [&["k"][..], &["k", "a"], &["k", "--absent"], &["k", "--absent", "a", "b"]] {
        assert_eq!(cas(wrong), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_value_that_could_not_be_read_again_is_refused_and_the_longest_one_is_read() {
    let cluster = Cluster::new(4, |table| {
        let parameters = table["parameters"].as_table_mut().unwrap();
        parameters.insert("max_batch_bytes".into(), (256 * 1024).into());
    });
    let longest = vec![b'v'; MAX_VALUE_BYTES];
    assert_eq!(client(&cluster, &["put", "k", "-"], &longest).stdout, b"done\n");
    let (code, said) = complaint(&client(&cluster, &["put", "k", "-"], &[b'w'; MAX_VALUE_BYTES + 1]));
    assert!(code == Some(2) && said.contains("longer than 65531 bytes"), "{said}");
    let (code, said) = complaint(&client(&cluster, &["cas", "k", "--absent", "-"], &[b'w'; 100_000]));
    assert!(code == Some(2) && said.contains("nothing was changed"), "{said}");
    let (code, said) = complaint(&client(&cluster, &["put", "k", "-"], &[b'w'; 300_000]));
    assert!(code == Some(2) && said.contains("262144"), "{said}");
    assert_eq!(client(&cluster, &["get", "k", "--raw"], b"").stdout, longest);
    assert_eq!(client(&cluster, &["put", "k", "short"], b"").stdout, b"done\n");
    assert_eq!(client(&cluster, &["delete", "k"], b"").stdout, b"done\n");
}

#[test]
fn a_hangup_has_the_log_opened_again_and_a_termination_stops_the_replica() {
    let mut cluster = Cluster::new(4, |_| {});
    cluster.kill(3);
    let (log, moved) = (cluster.directory.path().join("own.log"), cluster.directory.path().join("own.log.1"));
    cluster.spawn(3, &["--log-file", log.to_str().unwrap()]);
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    wait_until("the replica runs", || read(&log).contains("replica runs"));
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    let before = cluster.wait_for(3, "answers", |_| true).pid;
    fs::rename(&log, &moved).unwrap();
    cluster.signal(3, Signal::HUP);
    wait_until("the log is open again", || read(&log).contains("the log is open again"));
    assert!(read(&moved).contains("replica runs") && !read(&log).contains("replica runs"));
    cluster.client(0).put("k", b"1");
    cluster.wait_until_caught_up(3);
    assert_eq!(cluster.wait_for(3, "answers", |_| true).pid, before);
    // Without a file of its own it goes on too.
    cluster.signal(2, Signal::HUP);
    wait_until("the hangup is noted", || cluster.log(2).contains("nothing to open again"));
    for id in [2, 3] {
        cluster.signal(id, Signal::TERM);
        assert!(cluster.processes[id].take().unwrap().wait().unwrap().success());
    }
}

#[test]
fn a_first_start_that_cannot_listen_leaves_no_store_behind() {
    let mut cluster = Cluster::new(4, |_| {});
    cluster.kill(3);
    let data = cluster.directory.path().join("data/replica-3");
    fs::rename(&data, cluster.directory.path().join("lost")).unwrap();
    let taken = UdpSocket::bind(cluster.config.listen(ReplicaId(3)).unwrap()).unwrap();
    let log = cluster.directory.path().join("own.log");
    for way in ["--init", "--replacement"] {
        let mut command = pbft();
        command.args(["replica", "--id", "3", way, "--config"]).arg(cluster.path());
        let output = command.arg("--log-file").arg(&log).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.lines().last().unwrap().contains("cannot listen at"), "{said}");
        assert!(!data.exists(), "{way} has left a store behind");
        let logged = fs::read_to_string(&log).unwrap();
        assert!(logged.contains("ERROR") && logged.contains("cannot listen at"), "{logged}");
        fs::remove_file(&log).unwrap();
    }
    drop(taken);
    cluster.spawn(3, &["--replacement"]);
    cluster.client(0).put("k", b"1");
    cluster.wait_until_caught_up(3);
    cluster.stop();
}

#[test]
fn a_replica_that_lost_its_store_does_not_start_as_if_it_had_never_run() {
    let mut cluster = Cluster::new(4, |_| {});
    cluster.client(0).put("k", b"1");
    cluster.kill(3);
    let data = cluster.directory.path().join("data/replica-3");
    fs::remove_dir_all(&data).unwrap();
    let output = init(&cluster, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let said = said.lines().last().unwrap();
    assert!(said.contains("has run already") && said.contains("--replacement"), "{said}");
    assert!(!data.exists());
    // Whoever knows better may.
    assert!(init(&cluster, &["--force"]).status.success());
    fs::remove_dir_all(&data).unwrap();
    cluster.faulty.insert(3);
    cluster.spawn(3, &["--replacement"]);
    cluster.client(0).put("k", b"2");
    cluster.wait_until_caught_up(3);
    // Where nobody answers it may be the first start of all.
    for id in 0..4 {
        cluster.kill(id);
    }
    fs::remove_dir_all(&data).unwrap();
    let output = init(&cluster, &[]);
    assert!(output.status.success() && data.exists());
    assert!(String::from_utf8_lossy(&output.stderr).contains("too few of the others run"));
}

/// Replica 3 as one that has never run, which stops as soon as it runs.
fn init(cluster: &Cluster, extra: &[&str]) -> Output {
    let mut command = pbft();
    command.args(["replica", "--id", "3", "--init", "--stop-with-parent", "--config"]).arg(cluster.path());
    command.args(extra).stdin(Stdio::null()).output().unwrap()
}

/// The modes of everything in a directory that others may do something with.
fn open_to_others(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                found.push(format!("{} {mode:o}", path.display()));
            }
            if path.is_dir() {
                directories.push(path);
            }
        }
    }
    found
}

#[test]
fn a_cluster_keeps_stores_and_logs_to_its_owner_and_goes_on_in_another_file_when_a_log_is_long() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("cluster.toml");
    let run = || {
        let mut cluster = pbft();
        cluster.args(["cluster", "--dir"]).arg(directory.path()).stdout(Stdio::null());
        cluster.stdin(Stdio::null()).spawn().unwrap()
    };
    let answers = || {
        let status = pbft().args(["status", "--json", "--config"]).arg(&config).output().unwrap();
        String::from_utf8_lossy(&status.stdout).matches("\"answers\":true").count() == 4
    };
    let stop = |mut cluster: std::process::Child| {
        let pid = rustix::process::Pid::from_raw(cluster.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        assert!(cluster.wait().unwrap().success());
    };
    let cluster = run();
    wait_until("the cluster answers", answers);
    stop(cluster);
    // The configuration has nothing secret in it.
    let mode = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(&config, mode(0o600)).unwrap();
    fs::read_dir(directory.path().join("keys")).unwrap().for_each(|key| {
        let key = key.unwrap().path();
        if key.extension().is_some_and(|extension| extension == "state") {
            fs::set_permissions(key, mode(0o600)).unwrap();
        }
    });
    assert_eq!(open_to_others(directory.path()), Vec::<String>::new());
    let long = directory.path().join("replica-2.log");
    fs::File::options().write(true).open(&long).unwrap().set_len(17 << 20).unwrap();
    fs::set_permissions(&long, mode(0o644)).unwrap();
    fs::set_permissions(directory.path().join("data/replica-1"), mode(0o755)).unwrap();
    fs::set_permissions(directory.path().join("data/replica-1/promised"), mode(0o644)).unwrap();
    let cluster = run();
    wait_until("the cluster answers", answers);
    stop(cluster);
    assert_eq!(open_to_others(directory.path()), Vec::<String>::new());
    assert_eq!(fs::metadata(directory.path().join("replica-2.log.1")).unwrap().len(), 17 << 20);
    assert!(fs::read_to_string(&long).unwrap().contains("replica runs"));
    assert!(!directory.path().join("replica-1.log.1").exists());
}
