//! Stores that cannot be used: the replica does not start, or stops, and says what to do.

use crate::support::{Cluster, TEST_DEADLINE, pbft};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

fn refusal(cluster: &Cluster, id: usize, extra: &[&str]) -> String {
    let output = pbft()
        .args(["replica", "--id", &id.to_string(), "--config"])
        .arg(cluster.path())
        .args(extra)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_store_that_is_missing_damaged_or_in_use_is_refused_and_a_replacement_rejoins() {
    let mut cluster = Cluster::new(4, |_| {});
    let mut client = cluster.client(0);
    client.put("k", b"1");
    assert!(refusal(&cluster, 3, &[]).contains("in use by another process"));
    cluster.kill(3);
    let data = cluster.directory.path().join("data/replica-3");
    let log = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    let log =
        log.into_iter().find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("log-")).unwrap();
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let said = refusal(&cluster, 3, &[]);
    assert!(said.contains("damaged") && said.contains("--replacement"), "{said}");
    fs::remove_dir_all(&data).unwrap();
    let said = refusal(&cluster, 3, &[]);
    assert!(said.contains("no store") && said.contains("--replacement"), "{said}");
    cluster.spawn(3, &["--replacement"]);
    client.put("k", b"2");
    cluster.wait_until_caught_up(3);
    assert_eq!(client.get("k").as_deref(), Some(&b"2"[..]));
    cluster.stop();
}

/// Root may write anywhere, so then everything is given to another user, who runs a copy of the program.
#[test]
fn a_replica_that_may_not_write_its_directory_says_so() {
    const NOBODY: u32 = 65534;
    let mut cluster = Cluster::new(4, |_| {});
    cluster.kill(3);
    let data = cluster.directory.path().join("data/replica-3");
    for entry in fs::read_dir(&data).unwrap() {
        fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o400)).unwrap();
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o500)).unwrap();
    let mut command = pbft();
    if rustix::process::geteuid().is_root() {
        let program = cluster.directory.path().join("pbft");
        fs::copy(env!("CARGO_BIN_EXE_pbft"), &program).unwrap();
        let mut open = vec![cluster.directory.path().to_path_buf()];
        while let Some(path) = open.pop() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
            if path.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.args(["replica", "--id", "3", "--config"]).arg(cluster.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let said = said.lines().last().unwrap_or_default();
    assert!(said.contains("data/replica-3") && said.contains("make the directory writable"), "{said}");
}

/// Replica 3, for which a limit on the size of files stands for a full disk: a write fails in the middle of
/// the run.
fn spawn_with_full_disk(config: &Path, kib: u32) -> Child {
    let program = env!("CARGO_BIN_EXE_pbft");
    let script =
        format!("trap '' XFSZ; ulimit -f {kib}; exec {program} replica --id 3 --config {}", config.display());
    Command::new("bash").args(["-c", &script]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_replica_whose_journal_cannot_be_written_stops_and_goes_on_from_what_it_wrote() {
    let mut cluster = Cluster::new(4, |_| {});
    cluster.kill(3);
    let full = spawn_with_full_disk(&cluster.path(), 64);
    let mut client = cluster.client(0);
    for i in 0..60 {
        client.put("k", &[i; 400]);
    }
    let output = full.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.lines().last().unwrap_or_default().contains("cannot write the journal"), "{said}");
    cluster.spawn(3, &[]);
    cluster.wait_until_caught_up(3);
    cluster.stop();
}

#[test]
fn a_replica_whose_disk_is_full_stops_with_a_clear_error_and_the_others_go_on() {
    let mut cluster = Cluster::new(4, |_| {});
    cluster.kill(3);
    // A journal would be full before the store is.
    let without_journal = cluster.directory.path().join("without-journal.toml");
    let table = fs::read_to_string(cluster.path()).unwrap().replace("journal = true", "journal = false");
    fs::write(&without_journal, table).unwrap();
    cluster.faulty.insert(3);
    let full = spawn_with_full_disk(&without_journal, 8);
    let mut client = cluster.client(0);
    let deadline = Instant::now() + TEST_DEADLINE;
    for i in 0..60 {
        client.put("k", &[i; 400]);
        assert!(Instant::now() < deadline);
    }
    let output = full.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    let said = said.lines().last().unwrap_or_default();
    assert!(
        said.contains("cannot write the store") && said.contains("nothing it promised is lost"),
        "{said}"
    );
    assert_eq!(client.get("k").as_deref(), Some(&[59; 400][..]));
    cluster.spawn(3, &[]);
    cluster.wait_until_caught_up(3);
}
