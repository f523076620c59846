//! Backups of a cluster under load, and the clusters that are made of them.

use crate::config::{Config, Served};
use crate::support::{Client, Cluster, TEST_DEADLINE, pbft};
use pbft::crypto::ed25519::Ed25519;
use pbft::kv::Operation;
use pbft::message::{Batch, Reply, Request};
use pbft::replica::{Fact, Replica, Setup};
use pbft::runtime::journal::{Observer, Reader, Replay};
use pbft::types::{Bytes, ClientId, Digest, ReplicaId, SeqNo, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Instant;

/// The number of clients that write.
const WRITERS: u32 = 4;

/// How far one writer is: what it has asked for, and what was answered.
#[derive(Default)]
struct Progress {
    asked: AtomicU64,
    answered: AtomicU64,
}

/// Clients that write until they are told to stop: each counts up under a key of its own, and sets and
/// removes others.
struct Writers {
    progress: Vec<Arc<Progress>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

fn counter_key(writer: u32) -> String {
    format!("counter-{writer}")
}

impl Writers {
    fn start(cluster: &Cluster) -> Self {
        let (mut progress, stop) = (Vec::new(), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for id in 0..WRITERS {
            let (own, stop): (Arc<Progress>, _) = (Arc::default(), stop.clone());
            progress.push(own.clone());
            let mut client = cluster.client(id);
            threads.push(std::thread::spawn(move || {
                for count in 1.. {
                    if stop.load(Relaxed) {
                        return;
                    }
                    own.asked.store(count, Relaxed);
                    client.put(&counter_key(id), count.to_string().as_bytes());
                    own.answered.store(count, Relaxed);
                    client.put(&format!("{id}-{}", count % 40), format!("{count} of {id}").as_bytes());
                    let key = Bytes::from(format!("{id}-{}", (count * 7) % 40).into_bytes());
                    client.invoke(&Operation::Delete { key });
                }
            }));
        }
        Writers { progress, stop, threads }
    }

    fn answered(&self) -> Vec<u64> {
        self.progress.iter().map(|one| one.answered.load(Relaxed)).collect()
    }

    fn asked(&self) -> Vec<u64> {
        self.progress.iter().map(|one| one.asked.load(Relaxed)).collect()
    }

    fn wait_for(&self, count: u64) {
        let deadline = Instant::now() + TEST_DEADLINE;
        while self.answered().iter().any(|&one| one < count) {
            assert!(Instant::now() < deadline, "the cluster does not serve");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn stop(self) {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

/// What journals say was executed, and nothing that a replica computed from it.
#[derive(Default)]
struct Executed {
    digests: BTreeMap<SeqNo, Digest>,
    batches: BTreeMap<Digest, Vec<Request>>,
}

impl Observer<Served> for Executed {
    fn begins(&mut self, _: &Setup<Served>, _: &Replica<Served>) {}
    fn fact(&mut self, fact: &Fact) {
        if let Fact::Executed { n, digest, .. } = fact {
            assert_eq!(self.digests.insert(*n, *digest).unwrap_or(*digest), *digest, "replicas agree");
        }
    }
    fn reply(&mut self, _: &Reply) {}
    fn request(&mut self, _: &Request) {}
    fn batch(&mut self, batch: &Batch<Ed25519>) {
        let requests = batch.requests.iter().map(|signed| signed.content.clone());
        self.batches.entry(batch.digest()).or_insert_with(|| requests.collect());
    }
}

/// The keys and values after `n`, from the batches in the journals of some replicas; and all keys that are
/// named in them. It shares no code with the service: a map, and each request once.
fn recomputed(config: &Config, from: &[u16], n: u64) -> (BTreeMap<Bytes, Bytes>, BTreeSet<Bytes>) {
    let mut executed = Executed::default();
    executed.batches.insert(Digest::NULL, Vec::new());
    for id in from.iter().copied().map(ReplicaId) {
        let mut reader = Reader::open(&config.journal(id)).unwrap();
        let mut replay = Replay::new(config.setup(id).unwrap());
        while let Some(recorded) = reader.next_recorded().unwrap() {
            replay.feed(recorded, &mut executed).unwrap();
        }
    }
    let (mut state, mut named) = (BTreeMap::new(), BTreeSet::new());
    let mut last: BTreeMap<ClientId, Timestamp> = BTreeMap::new();
    for number in 1..=n {
        let digest = executed.digests.get(&SeqNo(number));
        let digest = digest.unwrap_or_else(|| panic!("no journal says what executed at {number}"));
        for request in &executed.batches[digest] {
            if last.get(&request.client).is_some_and(|&last| request.timestamp <= last) {
                continue;
            }
            last.insert(request.client, request.timestamp);
            match Operation::from_bytes(&request.operation).expect("clients ask for operations") {
                Operation::Put { key, value } => {
                    named.insert(key.clone());
                    state.insert(key, value);
                }
                Operation::Delete { key } => {
                    state.remove(&key);
                    named.insert(key);
                }
                // What `--up-to-now` asks for.
                Operation::CompareAndSwap { expected: None, new: None, .. } | Operation::Get { .. } => {}
                other => panic!("nobody asked for {other:?}"),
            }
        }
    }
    (state, named)
}

fn run(words: &[&str], paths: &[(&str, &Path)]) -> Output {
    let mut command = pbft();
    command.args(words);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    command.output().unwrap()
}

/// What a command prints that must succeed.
fn printed(words: &[&str], paths: &[(&str, &Path)]) -> String {
    let output = run(words, paths);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The one sentence that a command says which must fail with this status.
fn refused(status: i32, words: &[&str], paths: &[(&str, &Path)]) -> String {
    let output = run(words, paths);
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// The number that follows these words.
fn number_after(text: &str, words: &str) -> u64 {
    let (_, rest) = text.split_once(words).unwrap_or_else(|| panic!("no {words:?} in {text:?}"));
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Checkpoints come often; and eleven processes on a busy machine shall change no views, which is not what is
/// tried.
fn settings(table: &mut toml::Table) {
    table.insert("progress_timeout_ms".into(), 2000.into());
    let parameters = table["parameters"].as_table_mut().unwrap();
    parameters.insert("checkpoint_interval".into(), 16.into());
    parameters.insert("window".into(), 64.into());
}

#[test]
fn a_cluster_of_seven_begins_with_what_four_had_at_a_checkpoint_taken_under_load() {
    let mut old = Cluster::new(4, settings);
    let writers = Writers::start(&old);
    let kept = tempfile::tempdir().unwrap();
    let [plain, whole] = ["plain.backup", "whole.backup"].map(|name| kept.path().join(name));
    writers.wait_for(12);
    let config = old.path();
    let told = printed(&["backup", "--id", "1"], &[("--config", &config), ("--to", &plain)]);
    let (n, executed) = (number_after(&told, "checkpoint"), number_after(&told, "made durable,"));
    assert!(n % 16 == 0 && n > 0, "{told}");
    assert!(executed >= n, "{told}");
    assert!(old.status(2).unwrap().watermarks.0 + 64 >= n, "the others say where they are");

    let answered = writers.answered();
    let up_to_now = ["backup", "--id", "2", "--up-to-now", "--client", "8"];
    let told = printed(&up_to_now, &[("--config", &config), ("--to", &whole)]);
    let asked = writers.asked();
    let n = number_after(&told, "checkpoint");
    writers.wait_for(answered.iter().max().unwrap() + 5);
    writers.stop();
    old.stop_replicas();

    // The other replicas' journals say what must be in it.
    let (expected, named) = recomputed(&old.config, &[0, 1, 3], n);
    assert_eq!(number_after(&told, "whole.backup:"), expected.len() as u64, "{told}");
    for (id, (answered, asked)) in (0..).zip(answered.iter().zip(&asked)) {
        let count: u64 = text(&expected[&Bytes::from(counter_key(id).as_bytes())]).parse().unwrap();
        assert!((*answered..=*asked).contains(&count), "{answered} <= {count} <= {asked} of writer {id}");
    }
    println!("backup at {n}: {} keys of {}", expected.len(), named.len());
    let new = begin_again(&old, &whole);
    check_begun(new, &expected, &named);
    old.stop();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks the backup without a key, and makes a cluster of seven replicas and other clients of it.
fn begin_again(old: &Cluster, backup: &Path) -> Cluster {
    let elsewhere = tempfile::tempdir().unwrap();
    let public = elsewhere.path().join("old.toml");
    fs::copy(old.path(), &public).unwrap();
    let told = printed(&["backup"], &[("--config", &public), ("--check", backup)]);
    let state = told.split_once("state ").unwrap().1.trim().to_owned();

    let bytes = fs::read(backup).unwrap();
    let changed = elsewhere.path().join("changed.backup");
    let mut other = bytes.clone();
    other[bytes.len() / 2] ^= 1;
    fs::write(&changed, other).unwrap();
    let said = refused(1, &["backup"], &[("--config", &public), ("--check", &changed)]);
    assert!(said.contains("changed.backup is refused"), "{said}");
    let none = elsewhere.path().join("none");
    let restore: Vec<&str> = "restore --replicas 7 --clients 14 --port 7700".split(' ').collect();
    let said = refused(2, &restore, &[("--from", &changed), ("--source", &public), ("--dir", &none)]);
    assert!(said.contains("cannot restore") && !none.exists(), "{said}");
    let stranger = elsewhere.path().join("stranger");
    printed(&["keygen"], &[("--dir", &stranger)]);
    let stranger = stranger.join("cluster.toml");
    let said = refused(2, &restore, &[("--from", backup), ("--source", &stranger), ("--dir", &none)]);
    assert!(said.contains("of another cluster") && !none.exists(), "{said}");

    let directory = tempfile::tempdir().unwrap();
    let told = printed(&restore, &[("--from", backup), ("--source", &public), ("--dir", directory.path())]);
    assert!(told.contains("7 replicas, 14 clients") && told.contains(&format!("state {state}")), "{told}");
    let again = [("--from", backup), ("--source", &*public), ("--dir", directory.path())];
    assert!(refused(2, &restore, &again).contains("exists already"));
    Cluster::made(directory, &[], |_| {})
}

/// Compares what a restored cluster answers key by key, and lets it go on: writes, a lost store, a backup of
/// its own, a state that is not its.
fn check_begun(mut cluster: Cluster, expected: &BTreeMap<Bytes, Bytes>, named: &BTreeSet<Bytes>) {
    assert_eq!((cluster.config.cluster.n(), cluster.config.cluster.f()), (7, 2));
    assert_eq!(cluster.config.parameters.checkpoint_interval, 16, "settings are taken over");
    let mut client = cluster.client(13);
    let compare = |client: &mut Client| {
        for key in named {
            assert_eq!(client.get(&text(key)).as_ref(), expected.get(key), "{key:?}");
        }
    };
    compare(&mut client);
    for i in 0..40 {
        client.put("since", format!("{i}").as_bytes());
    }
    cluster.kill(6);
    fs::remove_dir_all(cluster.config.data(ReplicaId(6))).unwrap();
    cluster.spawn(6, &["--replacement"]);
    cluster.wait_until_caught_up(6);
    // The state at a checkpoint of theirs holds what they began with too.
    cluster.kill(0);
    cluster.spawn(0, &[]);
    compare(&mut client);
    assert_eq!(client.get("since").as_deref(), Some(&b"39"[..]));
    let next = cluster.directory.path().join("next.backup");
    let told = printed(
        &["backup", "--id", "6", "--up-to-now", "--client", "12"],
        &[("--config", &cluster.path()), ("--to", &next)],
    );
    assert_eq!(number_after(&told, "next.backup:"), expected.len() as u64 + 1, "{told}");
    let elsewhere = tempfile::tempdir().unwrap();
    let public = elsewhere.path().join("cluster.toml");
    fs::copy(cluster.path(), &public).unwrap();
    printed(&["backup"], &[("--config", &public), ("--check", &next)]);
    cluster.stop_replicas();
    refuses_other_states(&cluster);
    cluster.stop();
}

/// A replica does not start with another state than the cluster began with.
fn refuses_other_states(cluster: &Cluster) {
    let (config, state) = (cluster.path(), cluster.directory.path().join("genesis.state"));
    let start = || refused(2, &["replica", "--id", "0", "--log", "error"], &[("--config", &config)]);
    let good = fs::read(&state).unwrap();
    let mut other = good.clone();
    other[good.len() / 2] ^= 1;
    fs::write(&state, other).unwrap();
    let said = start();
    assert!(said.contains("genesis.state") && said.contains("damaged"), "{said}");
    fs::remove_file(&state).unwrap();
    assert!(start().contains("cannot begin with the state in"));
    fs::write(&state, good).unwrap();
    // Without [genesis], or with another digest, it is another cluster.
    let table: toml::Table = toml::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    let mut without = table.clone();
    without.remove("genesis");
    fs::write(&config, without.to_string()).unwrap();
    assert!(start().contains("has not signed its host_key"));
    let mut changed = table.clone();
    changed["genesis"].as_table_mut().unwrap().insert("digest".into(), "00".repeat(32).into());
    fs::write(&config, changed.to_string()).unwrap();
    let said = start();
    assert!(said.contains("it holds the state") && said.contains("[genesis] names 0000"), "{said}");
    fs::write(&config, table.to_string()).unwrap();
}

#[test]
fn a_backup_that_cannot_be_had_is_said_in_one_sentence() {
    let cluster = Cluster::new(4, |_| {});
    cluster.client(0).put("k", b"1");
    let (config, to) = (cluster.path(), cluster.directory.path().join("a.backup"));
    let paths: &[(&str, &Path)] = &[("--config", &config), ("--to", &to)];
    let said = refused(3, &["backup", "--id", "0"], paths);
    assert!(said.contains("no stable checkpoint yet") && said.contains("--up-to-now"), "{said}");
    assert!(refused(2, &["backup", "--id", "4"], paths).contains("there is no replica 4"));
    assert!(!to.exists());
    let told = printed(&["backup", "--id", "0", "--up-to-now"], paths);
    assert_eq!(number_after(&told, "a.backup:"), 1, "{told}");
    assert!(refused(2, &["backup", "--id", "0"], paths).contains("exists already"));
    cluster.stop();
}
