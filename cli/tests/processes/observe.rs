//! Who may ask how replicas do, what they say of each other, and metrics.

use crate::config::Config;
use crate::support::{Cluster, TEST_DEADLINE, free_addresses, pbft};
use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::kv::Operation;
use pbft::message::{Message, Request};
use pbft::runtime::Asker;
use pbft::runtime::control::{self, Control, Health, Query};
use pbft::runtime::sessions::binding::Binding;
use pbft::runtime::sessions::{HostKey, Peer, Sessions};
use pbft::runtime::transport::{Buffers, Transport};
use pbft::types::{Bytes, ClientId, Principal, ReplicaId, Timestamp};
use pbft::wire;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn seed(cluster: &Cluster, name: &str) -> [u8; 32] {
    let text = fs::read_to_string(cluster.directory.path().join("keys").join(name)).unwrap();
    hex::decode(text.trim()).unwrap().try_into().unwrap()
}

/// A socket of a host of the cluster, which says whatever it likes.
struct Speaker {
    transport: Transport,
    buffers: Buffers,
}

impl Speaker {
    fn new(listen: SocketAddr, sessions: Sessions) -> Self {
        let patience = Duration::from_millis(5);
        let transport =
            Transport::bind(listen, 1400, sessions, Vec::new(), patience, Arc::default()).unwrap();
        Speaker { transport, buffers: Buffers::default() }
    }

    fn observer(cluster: &Cluster, id: u32) -> Self {
        let keys = cluster.config.keys(Principal::Client(ClientId(0))).unwrap();
        let hosts = cluster.config.hosts(&keys, []).unwrap();
        let key = HostKey::of_identity(&seed(cluster, &format!("observer-{id}.key")));
        Speaker::new(SocketAddr::from(LOCAL), hosts.sessions_of_observer(key).unwrap())
    }

    fn send(&mut self, replica: u32, bytes: &[u8]) {
        self.transport.send(&[Peer(replica)], bytes, &mut self.buffers);
    }

    /// What arrives within a time.
    fn hear(&mut self, time: Duration) -> usize {
        let until = Instant::now() + time;
        let mut heard = 0;
        while Instant::now() < until {
            heard += usize::from(self.transport.receive(&mut self.buffers).unwrap().is_some());
            self.transport.tick(&mut self.buffers);
        }
        heard
    }

    /// Asks until there is an answer: then there is a session.
    fn meet(&mut self, replica: u32) {
        let deadline = Instant::now() + TEST_DEADLINE;
        self.send(replica, &query());
        while self.hear(Duration::from_millis(200)) == 0 {
            assert!(Instant::now() < deadline, "no answer");
            self.send(replica, &query());
        }
    }
}

fn query() -> Vec<u8> {
    control::encode(&Control::<Ed25519>::Query(Query { clock: Timestamp(1) }))
}

fn request(cluster: &Cluster, client: u32, value: &[u8]) -> Vec<u8> {
    let client = ClientId(client);
    let operation = Operation::Put { key: Bytes::from(&b"key"[..]), value: Bytes::from(value) }.to_bytes();
    let request = Request { operation, timestamp: Timestamp(1), client, read_only: false };
    let keys = cluster.config.keys(Principal::Client(client)).unwrap();
    wire::encode(&Message::Request(Signed::<_, Ed25519>::new(request, &keys)))
}

fn quiet(replicas: usize) -> Cluster {
    Cluster::new(replicas, |_| {})
}

fn status(cluster: &Cluster) -> Child {
    let mut command = pbft();
    command.args(["status", "--config"]).arg(cluster.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What an observer's host sends besides queries goes nowhere, however well it is signed.
#[test]
fn an_observer_may_ask_and_do_nothing_else() {
    let cluster = quiet(4);
    let mut observer = Speaker::observer(&cluster, 0);
    observer.meet(0);
    let before = cluster.status(0).unwrap().counter("observer_refused");
    let request = request(&cluster, 0, b"value");
    observer.send(0, &request);
    observer.send(0, &control::encode(&Control::<Ed25519>::Hello(None)));
    observer.send(0, b"");
    // In fragments: nothing is kept of them.
    observer.send(0, &vec![0xc1; 2500]);
    assert_eq!(observer.hear(Duration::from_millis(400)), 0);
    let status = cluster.status(0).unwrap();
    assert_eq!(status.counter("observer_refused"), before + 3 + 2, "{status:?}");
    assert_eq!(
        (status.last_executed, status.waiting_requests, status.counter("incomplete_bytes")),
        (0, 0, 0)
    );
    let of_messages = status.rejections.iter().filter(|(why, _)| !why.starts_with("session_"));
    let refused: u64 = of_messages.map(|(_, count)| count).sum();
    assert_eq!((refused, status.clients.failed_verification), (0, 0), "{status:?}");
    // The same request is executed for the host of its client: what was refused was its way.
    let keys = cluster.config.keys(Principal::Client(ClientId(0))).unwrap();
    let hosts = cluster.config.hosts(&keys, [ClientId(0)]).unwrap();
    let key = cluster.config.host_key(Principal::Client(ClientId(0))).unwrap();
    let sessions = hosts.sessions_of_clients([ClientId(0)], key).unwrap();
    let mut client = Speaker::new(SocketAddr::from(LOCAL), sessions);
    client.send(0, &request);
    client.hear(Duration::from_millis(100));
    cluster.wait_for(0, "executed it", |status| status.last_executed == 1);
    cluster.stop();
}

/// Five hundred queries at once cost twenty answers, and the next observer does not notice.
#[test]
fn queries_are_answered_so_often_and_other_hosts_do_not_pay_for_it() {
    let cluster = quiet(4);
    let mut observer = Speaker::observer(&cluster, 0);
    observer.meet(0);
    // Until there is room for twenty again.
    std::thread::sleep(Duration::from_millis(1100));
    let begun = Instant::now();
    for _ in 0..500 {
        observer.send(0, &query());
    }
    let heard = observer.hear(Duration::from_millis(500));
    let most = 21 + (begun.elapsed().as_millis() / 50) as usize;
    assert!((15..=most).contains(&heard), "{heard} of 500, at most {most}");
    for _ in 0..200 {
        observer.send(0, &query());
    }
    let status = cluster.status(0).unwrap();
    let dropped = status.counter("queries_refused") + status.counter("over_quota");
    assert!(dropped > 400, "{status:?}");
    cluster.stop();
}

/// With the key of every client in use, and several who ask at a time.
#[test]
fn status_needs_no_clients_key_and_several_may_ask_at_a_time() {
    let cluster = quiet(4);
    let keys = cluster.directory.path().join("keys");
    let held: Vec<File> = (0..12)
        .map(|id| {
            let file = File::create(keys.join(format!("client-{id}.state"))).unwrap();
            flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
            file
        })
        .collect();
    let asking: Vec<Child> = (0..6).map(|_| status(&cluster)).collect();
    for child in asking {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(said(&output).matches("a quorum").count(), 4, "{}", said(&output));
    }
    // Without any observer's key clients' keys are tried, and they are in use.
    for id in 0..2 {
        fs::remove_file(keys.join(format!("observer-{id}.key"))).unwrap();
    }
    let output = status(&cluster).wait_with_output().unwrap();
    assert!(output.status.code() == Some(2) && said(&output).contains("in use"), "{}", said(&output));
    drop(held);
    let output = status(&cluster).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let other = fs::read_to_string(cluster.path()).unwrap().replacen("admitted_by = 0", "admitted_by = 1", 1);
    fs::write(cluster.path(), other).unwrap();
    let output = status(&cluster).wait_with_output().unwrap();
    assert!(said(&output).contains("replica 1 has not admitted observer 0"), "{}", said(&output));
    cluster.stop();
}

/// A replica can ask the others with its own key before it runs, and runs with that key afterwards.
#[test]
fn a_replica_may_ask_before_it_starts() {
    let mut cluster = quiet(4);
    cluster.client(0).put("key", b"value");
    for id in 0..3 {
        cluster.wait_for(id, "executed it", |status| status.last_executed == 1);
    }
    cluster.kill(3);
    let who = Principal::Replica(ReplicaId(3));
    let keys = cluster.config.keys(who).unwrap();
    let hosts = cluster.config.hosts(&keys, []).unwrap();
    let (key, listen) = (cluster.config.host_key(who).unwrap(), cluster.config.listen(ReplicaId(3)).unwrap());
    let judge = cluster.config.judge(keys);
    let mut asker = Asker::of_replica(&hosts, ReplicaId(3), key, listen, judge).unwrap();
    let others: Vec<ReplicaId> = (0..3).map(ReplicaId).collect();
    let answers = asker.ask_some(&others, TEST_DEADLINE).unwrap();
    drop(asker);
    let executed: Vec<Option<u64>> =
        answers.iter().map(|answer| answer.as_ref().map(|health| health.last_executed)).collect();
    assert_eq!(executed, [Some(1), Some(1), Some(1), None]);
    cluster.spawn(3, &[]);
    cluster.wait_for(3, "hears all", |status| status.heard == 4);
    let status = cluster.status(3).unwrap();
    assert!(status.peers.iter().all(|peer| peer.failed_verification == 0), "{status:?}");
    cluster.stop();
}

/// The sessions of replica 2's host, to send what replica 2 would not.
fn in_place_of_replica_2(cluster: &mut Cluster) -> Speaker {
    cluster.kill(2);
    let who = Principal::Replica(ReplicaId(2));
    let keys = cluster.config.keys(who).unwrap();
    let hosts = cluster.config.hosts(&keys, []).unwrap();
    let sessions = hosts.sessions_of_replica(ReplicaId(2), cluster.config.host_key(who).unwrap()).unwrap();
    Speaker::new(cluster.config.listen(ReplicaId(2)).unwrap(), sessions)
}

#[test]
fn a_replica_whose_messages_do_not_verify_is_told_apart_from_the_others() {
    let mut cluster = quiet(4);
    // The request of a client, signed by another: the host that sends it is who is told.
    let mut wrong = wire::decode::<Ed25519>(&request(&cluster, 1, b"value")).unwrap();
    let Message::Request(signed) = &mut wrong else { panic!("{wrong:?}") };
    signed.content.timestamp = Timestamp(2);
    let wrong = wire::encode(&wrong);
    let mut speaker = in_place_of_replica_2(&mut cluster);
    speaker.hear(Duration::from_millis(50));
    let sent = 40;
    for i in 0..sent {
        let bytes: &[u8] = if i % 2 == 0 { &wrong } else { &[1, 2, 3] };
        speaker.send(0, bytes);
        speaker.hear(Duration::from_millis(10));
    }
    let enough = |status: &Health| status.peers[2].failed_verification >= sent / 2;
    let status = cluster.wait_for(0, "counted them", enough);
    for other in [0, 1, 3] {
        assert_eq!(status.peers[other].failed_verification, 0, "{status:?}");
    }
    assert_eq!((status.clients.failed_verification, status.clients.most_failed), (0, None));
    assert_eq!(cluster.status(1).unwrap().peers[2].failed_verification, 0);
    let output = self::status(&cluster).wait_with_output().unwrap();
    let line = said(&output);
    let line = line.lines().find(|line| line.contains("what does not verify")).unwrap_or(&line);
    assert!(
        line.starts_with("replica 2 sends what does not verify: ") && line.contains("to replica 0"),
        "{line}"
    );
    drop(speaker);
    // A client's host: it is named by its client.
    let id = ClientId(5);
    let keys = cluster.config.keys(Principal::Client(id)).unwrap();
    let hosts = cluster.config.hosts(&keys, [id]).unwrap();
    let key = cluster.config.host_key(Principal::Client(id)).unwrap();
    let sessions = hosts.sessions_of_clients([id], key).unwrap();
    let mut client = Speaker::new(SocketAddr::from(LOCAL), sessions);
    client.meet(1);
    client.send(1, &wrong);
    client.hear(Duration::from_millis(100));
    let status = cluster.wait_for(1, "counted it", |status| status.clients.failed_verification == 1);
    assert_eq!(status.clients.most_failed, Some((5, 1)));
    cluster.spawn(2, &[]);
    cluster.wait_for(2, "runs again", |status| status.heard == 4);
    cluster.stop();
}

/// One replica has been given a client less, and then another key: the others say so, and so does `pbft status`,
/// and nothing else happens.
#[test]
fn a_replica_with_another_list_of_members_or_another_key_is_named() {
    let mut cluster = Cluster::new(4, |table| {
        table.insert("journal".into(), false.into());
    });
    assert!(cluster.status(0).unwrap().other_members.is_empty());
    let text = fs::read_to_string(cluster.path()).unwrap();
    let mut table: toml::Table = toml::from_str(&text).unwrap();
    table["client"].as_array_mut().unwrap().pop();
    cluster.kill(2);
    fs::write(cluster.path(), table.to_string()).unwrap();
    cluster.spawn(2, &[]);
    for other in [0, 1, 3] {
        cluster.wait_for(other, "noticed", |status| status.other_members == [2]);
    }
    cluster.wait_for(2, "noticed", |status| status.other_members == [0, 1, 3]);
    let warned = "replica=2";
    let logged = |cluster: &Cluster| {
        cluster.log(0).lines().filter(|l| l.contains("another list of members") && l.contains(warned)).count()
    };
    assert_eq!(logged(&cluster), 1, "{}", cluster.log(0));
    fs::write(cluster.path(), &text).unwrap();
    let output = status(&cluster).wait_with_output().unwrap();
    let differs = "replica 2 has another list of members (clients, keys or parameters) than replicas 0, 1, 3";
    assert!(said(&output).contains(differs), "{}", said(&output));
    assert!(!said(&output).contains("this configuration"), "{}", said(&output));
    // It serves as before, and no more is logged while nothing changes.
    cluster.client(0).put("key", b"value");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(logged(&cluster), 1, "{}", cluster.log(0));

    cluster.kill(2);
    let secret = [7; 32];
    let public = KeyRing::public_key(&secret);
    let owner = Principal::Replica(ReplicaId(2));
    let keys = KeyRing::new(cluster.config.domain, owner, &secret, &[(owner, public)].into()).unwrap();
    let host = HostKey::of_identity(&secret).public();
    let signed = Signed::<_, Ed25519>::new(Binding { owner, host }, &keys);
    let mut table: toml::Table = toml::from_str(&text).unwrap();
    let entry = table["replica"].as_array_mut().unwrap()[2].as_table_mut().unwrap();
    entry.insert("public_key".into(), hex::encode(public).into());
    entry.insert("host_key".into(), hex::encode(host).into());
    entry.insert("host_signature".into(), hex::encode(signed.signature.0).into());
    let path = cluster.directory.path().join("keys/replica-2.key");
    let old = fs::read_to_string(&path).unwrap();
    fs::write(&path, hex::encode(secret)).unwrap();
    fs::write(cluster.path(), table.to_string()).unwrap();
    cluster.spawn(2, &[]);
    cluster.wait_for(0, "noticed", |status| status.peers[2].strangers > 0);
    fs::write(cluster.path(), &text).unwrap();
    let output = status(&cluster).wait_with_output().unwrap();
    let named = "somebody at the address of replica 2 asks for sessions with a key that is not replica 2's";
    assert!(said(&output).contains(named), "{}", said(&output));
    assert_eq!(said(&output).matches("somebody").count(), 1, "{}", said(&output));
    let deadline = Instant::now() + TEST_DEADLINE;
    while !cluster.log(0).contains("somebody at the address of replica 2") {
        assert!(Instant::now() < deadline, "{}", cluster.log(0));
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.kill(2);
    fs::write(&path, old).unwrap();
    cluster.spawn(2, &[]);
    cluster.wait_for(0, "agrees again", |status| status.heard == 4 && status.other_members.is_empty());
    cluster.stop();
}

#[test]
fn the_digest_of_members_is_of_members_and_parameters_and_of_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let made = pbft().args(["keygen", "--observers", "3", "--dir"]).arg(directory.path()).output().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let config = Config::read(&directory.path().join("cluster.toml")).unwrap();
    assert_eq!(config.file.observers.len(), 3);
    let with = |change: &dyn Fn(&mut crate::config::file::File)| {
        let mut file = config.file.clone();
        change(&mut file);
        Config::check(file, directory.path().to_path_buf()).unwrap().membership()
    };
    let own = config.membership();
    assert_eq!(with(&|_| {}), own);
    assert_eq!(with(&|file| file.replicas[1].address = "127.0.0.1:1".parse().unwrap()), own);
    assert_eq!(with(&|file| file.client_timeout_ms = 11), own);
    assert_eq!(with(&|file| file.replicas[1].public_key.make_ascii_uppercase()), own);
    let others = [
        with(&|file| file.domain = hex::encode([1; 32])),
        with(&|file| file.f = 0),
        with(&|file| file.parameters.max_batch_bytes += 1),
        with(&|file| file.clients.truncate(7)),
        with(&|file| file.clients.swap(0, 1)),
        with(&|file| file.clients[0].host_key = hex::encode([1; 32])),
        with(&|file| file.replicas[0].host_key = hex::encode([1; 32])),
        with(&|file| file.replicas[0].public_key = hex::encode(KeyRing::public_key(&[1; 32]))),
        with(&|file| file.observers.truncate(2)),
    ];
    for (i, other) in others.iter().enumerate() {
        assert!(*other != own && !others[..i].contains(other), "change {i}");
    }
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TEST_DEADLINE)).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

/// The value of the sample whose name and labels begin so, in any order of labels.
fn sample(page: &str, name: &str, label: &str) -> Option<f64> {
    let line = page.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')) && line.contains(label)
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn metrics_say_what_they_are_and_a_replica_alone_is_not_ready() {
    let addresses = free_addresses(4);
    let mut cluster = Cluster::judged(4, |table| {
        for (entry, address) in table["replica"].as_array_mut().unwrap().iter_mut().zip(&addresses) {
            entry.as_table_mut().unwrap().insert("metrics".into(), address.to_string().into());
        }
    });
    let mut client = cluster.client(0);
    for i in 0..20 {
        client.put(&format!("key-{i}"), b"value");
    }
    cluster.wait_for(1, "executed", |status| status.counter("requests") >= 20);
    let silent: Vec<TcpStream> = (0..6).map(|_| TcpStream::connect(addresses[1]).unwrap()).collect();
    let begun = Instant::now();
    let page = get(addresses[1], "/metrics");
    assert!(begun.elapsed() < Duration::from_millis(700), "{:?}", begun.elapsed());
    drop(silent);
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("version=0.0.4"), "{page}");
    let body = page.split("\r\n\r\n").nth(1).unwrap();
    let (mut helped, mut kinds) = (Vec::new(), std::collections::BTreeMap::new());
    for line in body.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => {
                assert!(help.len() > 3 && !helped.contains(&name), "{line}");
                helped.push(name);
            }
            ["#", "TYPE", name, kind] => {
                assert_eq!(helped.last(), Some(&name), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(!name.contains("_ns") && !name.contains("_us") && !name.contains("_ms"), "{line}");
                kinds.insert(name, kind);
            }
            _ => {
                let name = line.split('{').next().unwrap();
                let of = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                let family = of.filter(|of| kinds.contains_key(of)).unwrap_or(name);
                assert_eq!(helped.last(), Some(&family), "{line}");
                assert!(line.contains("replica=\"1\""), "{line}");
            }
        }
    }
    let of = |name: &str, label: &str| {
        sample(body, name, label).unwrap_or_else(|| panic!("{name} {label}: {body}"))
    };
    assert_eq!(of("pbft_batch_requests_sum", ""), of("pbft_requests_total", ""));
    assert!(of("pbft_requests_total", "") >= 20.0);
    let batches = of("pbft_execution_seconds_count", "");
    assert!((1.0..=of("pbft_batches_total", "")).contains(&batches), "{batches}");
    let (sum, most) = (of("pbft_execution_seconds_sum", ""), batches * TEST_DEADLINE.as_secs_f64());
    assert!(sum > 0.0 && sum < most, "{sum}");
    assert_eq!(of("pbft_execution_seconds_bucket", "le=\"+Inf\""), batches);
    // One may have ended between the two.
    let commits = of("pbft_store_commit_seconds_count", "") - of("pbft_commits_total", "");
    assert!((-1.0..=1.0).contains(&commits) && of("pbft_commits_total", "") >= batches, "{commits}");
    assert!(of("pbft_step_seconds_count", "") >= batches);
    assert!(of("pbft_judged_steps_total", "") >= of("pbft_step_seconds_count", ""));
    assert_eq!((of("pbft_judges", ""), of("pbft_judged_breaches_total", "")), (1.0, 0.0));
    assert!(of("pbft_process_resident_memory_bytes", "") > 1e6);
    for peer in ["peer=\"0\"", "peer=\"2\"", "peer=\"3\""] {
        assert_eq!(of("pbft_peer_session", peer), 1.0);
        assert!(of("pbft_peer_heard_seconds", peer) < TEST_DEADLINE.as_secs_f64());
        assert_eq!(of("pbft_peer_failed_verification_total", peer), 0.0);
    }
    assert_eq!(of("pbft_high_water_mark", "") - of("pbft_low_water_mark", ""), 256.0);

    assert!(get(addresses[1], "/healthz").starts_with("HTTP/1.1 200 "));
    assert!(get(addresses[1], "/readyz").starts_with("HTTP/1.1 200 "));
    assert!(get(addresses[1], "/other").starts_with("HTTP/1.1 404 "));
    cluster.kill(2);
    cluster.kill(3);
    let deadline = Instant::now() + TEST_DEADLINE;
    // At first it may be the view that it leaves what it is not ready for.
    let is_said = |answer: &str| answer.starts_with("HTTP/1.1 503 ") && answer.contains("hears 2 replicas");
    while !is_said(&get(addresses[1], "/readyz")) {
        assert!(Instant::now() < deadline, "a replica that hears one other counts as ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(get(addresses[1], "/healthz").starts_with("HTTP/1.1 200 "));
    cluster.stop();
}

#[test]
fn metrics_for_everybody_must_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let made = pbft().args(["keygen", "--dir"]).arg(directory.path()).output().unwrap();
    assert!(made.status.success(), "{}", said(&made));
    let config = Config::read(&directory.path().join("cluster.toml")).unwrap();
    let with = |metrics_public| {
        let mut file = config.file.clone();
        file.replicas[0].metrics = Some(SocketAddr::from(([0, 0, 0, 0], 9100)));
        file.replicas[0].metrics_public = metrics_public;
        Config::check(file, directory.path().to_path_buf()).map(|_| ())
    };
    assert!(with(false).unwrap_err().contains("metrics_public = true"));
    assert_eq!(with(true), Ok(()));
}
