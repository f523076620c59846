//! Clusters of real processes, clients under load, and their history.

use crate::addresses;
use crate::config::Config;
use pbft::crypto::ed25519::Ed25519;
use pbft::kv::{KeyValue, Operation, Outcome};
use pbft::rules::Pbft;
use pbft::runtime::Clients;
use pbft::runtime::control::Health;
use pbft::service::Service;
use pbft::types::{Bytes, ClientId, ReplicaId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing in these tests takes so long unless it never ends.
pub const TEST_DEADLINE: Duration = Duration::from_secs(60);

pub fn pbft() -> Command {
    Command::new(env!("CARGO_BIN_EXE_pbft"))
}

pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    addresses::free_addresses(u16::try_from(count).unwrap()).unwrap()
}

/// A cluster in a directory of its own, a process for each replica.
pub struct Cluster {
    pub directory: tempfile::TempDir,
    pub config: Config,
    pub processes: Vec<Option<Child>>,
    /// Replicas that the audit at the end leaves out: those that misbehave, or ran without their journal.
    pub faulty: BTreeSet<usize>,
}

impl Cluster {
    /// Makes keys and a configuration, which `edit` may change, and starts nothing.
    pub fn new(replicas: usize, edit: impl FnOnce(&mut toml::Table)) -> Self {
        Self::of_hosts(replicas, 1, edit)
    }

    /// The same, with so many clients that share a host, and so a socket.
    pub fn of_hosts(replicas: usize, clients_per_host: u32, edit: impl FnOnce(&mut toml::Table)) -> Self {
        Self::made(Self::keys(replicas, clients_per_host), &["--init"], edit)
    }

    /// The same, with replicas that judge their own steps.
    pub fn judged(replicas: usize, edit: impl FnOnce(&mut toml::Table)) -> Self {
        Self::made(Self::keys(replicas, 1), &["--init", "--judge"], edit)
    }

    /// A directory with what `keygen` makes, but for the stores.
    fn keys(replicas: usize, clients_per_host: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let made = pbft()
            .args([
                "keygen",
                "--observers",
                "2",
                "--clients",
                "12",
                "--clients-per-host",
                &clients_per_host.to_string(),
            ])
            .args(["--replicas", &replicas.to_string(), "--dir"])
            .arg(directory.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        // The stores of `keygen` are those of other parameters if these are edited.
        fs::remove_dir_all(directory.path().join("data")).unwrap();
        directory
    }

    /// Starts what a directory has in it, each replica with these arguments, at addresses that are free.
    pub fn made(
        directory: tempfile::TempDir,
        arguments: &[&str],
        edit: impl FnOnce(&mut toml::Table),
    ) -> Self {
        let path = directory.path().join("cluster.toml");
        let mut table: toml::Table = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let entries = table["replica"].as_array_mut().unwrap();
        let replicas = entries.len();
        for (entry, address) in entries.iter_mut().zip(free_addresses(replicas)) {
            entry.as_table_mut().unwrap().insert("address".into(), address.to_string().into());
        }
        table.insert("journal".into(), true.into());
        edit(&mut table);
        fs::write(&path, table.to_string()).unwrap();
        let config = Config::read(&path).unwrap();
        let mut cluster = Cluster { directory, config, processes: Vec::new(), faulty: BTreeSet::new() };
        cluster.processes.resize_with(replicas, || None);
        for id in 0..replicas {
            cluster.spawn(id, arguments);
        }
        cluster.wait_for_answers();
        cluster
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("cluster.toml")
    }

    pub fn log(&self, id: usize) -> String {
        fs::read_to_string(self.directory.path().join(format!("replica-{id}.log"))).unwrap_or_default()
    }

    pub fn spawn(&mut self, id: usize, extra: &[&str]) {
        let log = self.directory.path().join(format!("replica-{id}.log"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        let child = pbft()
            .args(["replica", "--stop-with-parent", "--id", &id.to_string(), "--config"])
            .arg(self.path())
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.processes[id] = Some(child);
    }

    /// kill -9.
    pub fn kill(&mut self, id: usize) {
        let mut child = self.processes[id].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn signal(&self, id: usize, signal: Signal) {
        let pid = self.processes[id].as_ref().unwrap().id();
        kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
    }

    pub fn client(&self, id: u32) -> Client {
        let clients = self.config.open(&[ClientId(id)], self.config.client_timeout(), 1400).unwrap();
        Client { id: ClientId(id), clients }
    }

    /// The status of every replica that runs; a stopped one has none.
    pub fn status(&self, id: usize) -> Option<Health> {
        // Observer 0 is for commands.
        let mut asker = self.config.ask_as_observer(1).unwrap();
        asker.ask_some(&[ReplicaId(id as u16)], Duration::from_secs(3)).unwrap()[id].take()
    }

    pub fn wait_for_answers(&mut self) {
        for id in 0..self.processes.len() {
            if let Some(child) = &mut self.processes[id] {
                assert!(child.try_wait().unwrap().is_none(), "replica {id} has stopped: {}", self.log(id));
                let answers = (0..3).any(|_| self.status(id).is_some());
                assert!(answers, "replica {id} does not answer: {}", self.log(id));
            }
        }
    }

    /// Waits until the status of a replica is as wanted.
    pub fn wait_for(&self, id: usize, what: &str, wanted: impl Fn(&Health) -> bool) -> Health {
        let deadline = Instant::now() + TEST_DEADLINE;
        loop {
            let status = self.status(id);
            if let Some(status) = status.clone().filter(&wanted) {
                return status;
            }
            assert!(Instant::now() < deadline, "replica {id} never {what}: {status:?} {}", self.log(id));
        }
    }

    /// Waits until a replica has executed what the other correct ones have.
    ///
    /// One that has left its view alone takes no part in it until the others leave it too: it executes
    /// nothing but the states it fetches, at the next stable checkpoint. So there must be one.
    pub fn wait_until_caught_up(&self, id: usize) {
        let most = (0..self.processes.len())
            .filter(|other| *other != id && !self.faulty.contains(other) && self.processes[*other].is_some())
            .filter_map(|other| self.status(other))
            .map(|status| status.last_executed)
            .max()
            .unwrap();
        let mut client = self.client(9);
        let deadline = Instant::now() + TEST_DEADLINE;
        loop {
            let status = self.status(id);
            if status.as_ref().is_some_and(|status| status.last_executed >= most) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "replica {id} never executes up to {most}: {status:?} {}",
                self.log(id)
            );
            if status.is_some_and(|status| status.leaving.is_some()) {
                client.put("towards the next checkpoint", b"1");
            }
        }
    }

    /// Asks every replica to stop, which it must do without an error.
    pub fn stop_replicas(&mut self) {
        for id in 0..self.processes.len() {
            if let Some(mut child) = self.processes[id].take() {
                drop(child.stdin.take());
                let status = child.wait().unwrap();
                assert!(status.success(), "replica {id}: {}", self.log(id));
            }
        }
    }

    /// The same, and then the audit.
    pub fn stop(mut self) {
        self.stop_replicas();
    }

    /// Replays the journals of all correct replicas and judges them.
    fn audit(&self) {
        let correct: Vec<usize> = (0..self.processes.len()).filter(|id| !self.faulty.contains(id)).collect();
        let begin = Instant::now();
        let output = pbft()
            .args(["audit", "--json", "--config"])
            .arg(self.path())
            .args(correct.iter().map(|&id| self.config.journal(ReplicaId(id as u16))))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert_eq!(output.status.code(), Some(0), "{said} {}", String::from_utf8_lossy(&output.stderr));
        let verdict: Value = serde_json::from_str(&said).unwrap();
        let replicas = verdict["replicas"].as_array().unwrap();
        for (id, replica) in correct.iter().zip(replicas) {
            assert_eq!(replica["replica"].as_u64(), Some(*id as u64), "{said}");
            assert!(replica["judged"] == true && replica["steps"].as_u64().unwrap() > 0, "{said}");
        }
        assert_eq!((replicas.len(), verdict["properties"].as_array().unwrap().len()), (correct.len(), 11));
        let sum = |key: &str| replicas.iter().filter_map(|replica| replica[key].as_u64()).sum::<u64>();
        println!(
            "audit of replicas {correct:?}: {} lives, {} steps replayed, {} not carried out, {} results \
             accepted, all properties hold; {:?}",
            sum("lives"),
            sum("steps"),
            sum("undone_steps"),
            verdict["accepted_results"],
            begin.elapsed()
        );
    }
}

impl Cluster {
    /// How the replicas do, and the end of what they logged, after a failure.
    fn tell(&self) {
        for (id, process) in self.processes.iter().enumerate() {
            let health = process.as_ref().and_then(|_| self.status(id));
            let log = self.log(id);
            let lines: Vec<&str> = log.lines().rev().take(20).collect();
            println!("replica {id}: {health:?}");
            lines.iter().rev().for_each(|line| println!("  {line}"));
        }
    }
}

/// However a test ends, unless it has failed already or keeps no journals, what the replicas did is judged.
impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        for child in self.processes.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if !std::thread::panicking() && self.config.file.journal {
            self.audit();
        }
    }
}

/// One client.
pub struct Client {
    pub id: ClientId,
    pub clients: Clients<Ed25519, Pbft>,
}

impl Client {
    /// Asks until there is an answer.
    pub fn invoke(&mut self, operation: &Operation) -> Bytes {
        let read_only = matches!(operation, Operation::Get { .. });
        self.clients.invoke(self.id, operation.to_bytes(), read_only).unwrap();
        let deadline = Instant::now() + TEST_DEADLINE;
        loop {
            if let Some(completion) = self.clients.wait(deadline).unwrap().pop() {
                return completion.result;
            }
            assert!(Instant::now() < deadline, "no answer to {operation:?} of client {:?}", self.id);
        }
    }

    pub fn put(&mut self, key: &str, value: &[u8]) {
        let (key, value) = (Bytes::from(key.as_bytes()), Bytes::from(value));
        self.invoke(&Operation::Put { key, value });
    }

    pub fn get(&mut self, key: &str) -> Option<Bytes> {
        match Outcome::from_bytes(&self.invoke(&Operation::Get { key: Bytes::from(key.as_bytes()) })) {
            Outcome::Value(value) => value,
            other => panic!("{other:?}"),
        }
    }
}

/// One key of the service as a sequential object.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sequential(KeyValue);

impl SequentialSpec for Sequential {
    type Op = Bytes;
    type Ret = Bytes;

    fn invoke(&mut self, operation: &Bytes) -> Bytes {
        self.0.execute(ClientId(0), operation)
    }
}

type Tester = LinearizabilityTester<u32, Sequential>;

/// What clients asked and were answered, by key: operations on one key say nothing of another, and a
/// history is linearizable if that of each key is.
#[derive(Default)]
pub struct History {
    keys: Mutex<BTreeMap<String, Tester>>,
}

impl History {
    fn with<T>(&self, key: &str, act: impl FnOnce(&mut Tester) -> T) -> T {
        let mut keys = self.keys.lock().unwrap();
        act(keys.entry(key.to_owned()).or_insert_with(|| Tester::new(Sequential::default())))
    }

    pub fn invoke(&self, client: &mut Client, key: &str, operation: &Operation) -> Bytes {
        self.with(key, |tester| tester.on_invoke(client.id.0, operation.to_bytes()).map(|_| ())).unwrap();
        let result = client.invoke(operation);
        self.with(key, |tester| tester.on_return(client.id.0, result.clone()).map(|_| ())).unwrap();
        result
    }

    /// Reads every key once more and looks for an order that explains everything.
    pub fn check(&self, client: &mut Client) {
        let keys: Vec<String> = self.keys.lock().unwrap().keys().cloned().collect();
        for key in &keys {
            self.invoke(client, key, &Operation::Get { key: Bytes::from(key.as_bytes()) });
        }
        for (key, tester) in self.keys.lock().unwrap().iter() {
            assert!(tester.is_consistent(), "no order of the operations on {key} explains their results");
        }
    }
}

/// Clients that put, get and swap until they are told to stop.
pub struct Load {
    pub history: Arc<History>,
    pub completed: Arc<AtomicU64>,
    /// Of each client by itself.
    pub served: Vec<Arc<AtomicU64>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// The number of operations of the load that one key takes, so that the search for their order stays small.
const OPERATIONS_PER_KEY: u64 = 24;

impl Load {
    pub fn start(cluster: &Cluster, clients: u32, seed: u64) -> Self {
        println!("load of {clients} clients, seed {seed}");
        let mut load = Load {
            history: Arc::default(),
            completed: Arc::default(),
            served: (0..clients).map(|_| Arc::default()).collect(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let counter = Arc::new(AtomicU64::new(0));
        for id in 0..clients {
            let mut client = cluster.client(id);
            let (history, completed, stop) =
                (load.history.clone(), load.completed.clone(), load.stop.clone());
            let (counter, served) = (counter.clone(), load.served[id as usize].clone());
            let mut rng = ChaCha8Rng::seed_from_u64(seed ^ u64::from(id) << 32);
            load.threads.push(std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    let key = format!("key-{}", counter.fetch_add(1, Relaxed) / OPERATIONS_PER_KEY);
                    let operation = choose(&key, &mut rng);
                    history.invoke(&mut client, &key, &operation);
                    completed.fetch_add(1, Relaxed);
                    served.fetch_add(1, Relaxed);
                }
            }));
        }
        load
    }

    /// Waits until this number of further operations has completed.
    pub fn wait(&self, more: u64) {
        let (target, deadline) = (self.completed.load(Relaxed) + more, Instant::now() + TEST_DEADLINE);
        while self.completed.load(Relaxed) < target {
            assert!(Instant::now() < deadline, "the cluster does not serve");
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a client has failed");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Stops the clients and judges the history.
    pub fn finish(self, cluster: &Cluster) {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let completed = self.completed.load(Relaxed);
        self.history.check(&mut cluster.client(10));
        println!("{completed} operations, linearizable");
    }
}

fn choose(key: &str, rng: &mut ChaCha8Rng) -> Operation {
    let key = Bytes::from(key.as_bytes());
    let value = |rng: &mut ChaCha8Rng| Bytes::from(rng.random_range(0..3u32).to_string().into_bytes());
    match rng.random_range(0..10) {
        0..4 => Operation::Put { key, value: value(rng) },
        4..7 => Operation::Get { key },
        7 => Operation::Delete { key },
        _ => {
            let expected = rng.random_range(0..2).eq(&0).then(|| value(rng));
            Operation::CompareAndSwap { key, expected, new: Some(value(rng)) }
        }
    }
}

/// The memory of a process in bytes.
pub fn resident(child: &Child) -> u64 {
    let status = fs::read_to_string(Path::new("/proc").join(child.id().to_string()).join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
