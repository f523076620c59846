//! Large states: what a checkpoint of one costs, and how long it takes to fetch.

use crate::support::Cluster;
use pbft::kv::Operation;
use pbft::types::{Bytes, ClientId};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The bytes of a value that fills the state.
const VALUE_BYTES: usize = 16 * 1000;

fn value(i: u64) -> Bytes {
    let mut value = vec![0; VALUE_BYTES];
    for (place, byte) in value.iter_mut().enumerate() {
        *byte = (i.wrapping_mul(31) as usize + place * 7) as u8;
    }
    Bytes::from(value)
}

fn put(key: String, value: Bytes) -> Bytes {
    Operation::Put { key: Bytes::from(key.into_bytes()), value }.to_bytes()
}

/// Puts as many values as fill the given number of MiB, by eight clients at a time.
fn fill(cluster: &Cluster, mib: u64) -> u64 {
    let ids: Vec<ClientId> = (0..8).map(ClientId).collect();
    let mut clients = cluster.config.open(&ids, Duration::from_secs(2), 60_000).unwrap();
    let count = (mib << 20) / VALUE_BYTES as u64;
    let mut idle: Vec<ClientId> = clients.ids().collect();
    let (mut begun, mut done) = (0, 0);
    let mut last = Instant::now();
    while done < count {
        while begun < count
            && let Some(client) = idle.pop()
        {
            clients.invoke(client, put(format!("large-{begun}"), value(begun)), false).unwrap();
            begun += 1;
        }
        for completion in clients.wait(Instant::now() + Duration::from_millis(100)).unwrap() {
            idle.push(completion.client);
            done += 1;
            last = Instant::now();
        }
        assert!(last.elapsed() < Duration::from_secs(60), "nothing was answered for a minute");
    }
    count
}

/// Three replicas have the state; the fourth fetches it while they serve, and while each of them is stopped
/// for a while.
fn fetched(mib: u64, patience: Duration) {
    let mut cluster = Cluster::of_hosts(4, 8, |table| {
        table.insert("journal".into(), false.into());
        table.insert("datagram_bytes".into(), 60_000.into());
        table["parameters"].as_table_mut().unwrap().insert("max_batch_bytes".into(), (256 * 1024).into());
    });
    cluster.kill(3);
    let begin = Instant::now();
    let count = fill(&cluster, mib);
    println!("{mib} MiB in {count} keys, put in {:.1} s", begin.elapsed().as_secs_f64());
    let steps_before: Vec<u64> =
        (0..3).map(|id| cluster.status(id).unwrap().counter("longest_step_us")).collect();

    cluster.spawn(3, &[]);
    let begin = Instant::now();
    // Not of the host that asks for the status.
    let mut client = cluster.client(0);
    let mut slowest = Duration::ZERO;
    let mut frozen: BTreeMap<usize, Option<Instant>> = BTreeMap::new();
    let mut most_blocks = 0;
    let mut writes = 0u64;
    loop {
        let status = cluster.status(3);
        let transferring = status.as_ref().and_then(|status| status.transferring);
        most_blocks = most_blocks.max(transferring.map_or(0, |(_, blocks)| blocks));
        if status.is_some_and(|status| status.counter("transfers") > 0) {
            break;
        }
        assert!(begin.elapsed() < patience, "the state is not fetched: {transferring:?} {}", cluster.log(3));
        // Each source is away for half a second in the middle of it.
        let next = frozen.len();
        if next < 3 && most_blocks > (next as u64 + 1) * mib * 12 && frozen.values().all(Option::is_none) {
            cluster.signal(next, Signal::STOP);
            frozen.insert(next, Some(Instant::now()));
        }
        for (&id, since) in &mut frozen {
            if since.is_some_and(|since| since.elapsed() > Duration::from_millis(500)) {
                cluster.signal(id, Signal::CONT);
                *since = None;
            }
        }
        if frozen.values().all(Option::is_none) {
            let before = Instant::now();
            client.put(&format!("small-{}", writes % 10_000), &writes.to_le_bytes());
            slowest = slowest.max(before.elapsed());
            writes += 1;
        }
    }
    println!(
        "fetched in {:.1} s, {most_blocks} blocks seen at most; {writes} writes meanwhile, the slowest took {:.2} s",
        begin.elapsed().as_secs_f64(),
        slowest.as_secs_f64()
    );
    for (id, since) in frozen {
        if since.is_some() {
            cluster.signal(id, Signal::CONT);
        }
    }
    cluster.wait_until_caught_up(3);
    let timeout = cluster.config.file.progress_timeout_ms;
    for (id, before) in steps_before.into_iter().enumerate() {
        let status = cluster.status(id).unwrap();
        let longest = status.counter("longest_step_us");
        println!(
            "replica {id}: the longest step took {} ms, {} ms before the transfer",
            longest / 1000,
            before / 1000
        );
        assert!(longest < 2000 * timeout, "a checkpoint pauses service for less than a time-out, twice");
    }
    let installed = cluster.status(3).unwrap().counter("longest_step_us");
    println!("replica 3: the longest step, which installs the state, took {} ms", installed / 1000);
    // It has the state: without replica 0 the others cannot do without it.
    cluster.kill(0);
    client.put("after", b"1");
    for i in [0, 1, count / 2, count - 1] {
        assert_eq!(client.get(&format!("large-{i}")), Some(value(i)));
    }
    // And keeps it over a restart, which reads and digests it again.
    cluster.spawn(0, &[]);
    cluster.kill(3);
    let begin = Instant::now();
    cluster.spawn(3, &[]);
    cluster.wait_until_caught_up(3);
    println!("replica 3 was back {:.1} s after a restart", begin.elapsed().as_secs_f64());
    cluster.stop();
}

#[test]
fn a_state_of_sixteen_mib_is_fetched_while_the_others_serve() {
    fetched(16, Duration::from_secs(60));
}

#[test]
#[ignore = "long: needs 12 GiB of memory"]
fn a_state_of_a_gib_is_fetched_while_the_others_serve() {
    fetched(1024, Duration::from_secs(600));
}
