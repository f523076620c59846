//! Hostile networks: loss, duplication, reordering, corruption, partitions, and datagrams that are nothing at
//! all.

use crate::proxy::{Weather, behind_proxies};
use crate::support::{Cluster, Load, resident};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::net::UdpSocket;

fn hostile(replicas: usize, seed: u64, operations: u64) {
    let (cluster, proxy) = behind_proxies(replicas, seed);
    let load = Load::start(&cluster, 3, seed);
    load.wait(10);
    proxy.set(Weather { loss: 20, duplication: 10, reordering: 30, corruption: 5, ..Weather::default() });
    load.wait(operations);
    proxy.set(Weather::default());
    load.wait(operations);
    load.finish(&cluster);
    (0..replicas).for_each(|id| cluster.wait_until_caught_up(id));
    let corrupted: u64 = (0..replicas)
        .filter_map(|id| cluster.status(id))
        .map(|status| {
            let rejected: u64 = status.rejections.iter().map(|(_, count)| count).sum();
            rejected + status.counter("no_frame")
        })
        .sum();
    assert!(corrupted > 0, "nothing was corrupted");
    cluster.stop();
}

fn partition(replicas: usize, f: usize, seed: u64, operations: u64) {
    let (cluster, proxy) = behind_proxies(replicas, seed);
    let load = Load::start(&cluster, 3, seed);
    load.wait(10);
    // The primary of view 0 and f - 1 others are cut off: the rest changes the view and goes on.
    let away: BTreeSet<usize> = (0..f).collect();
    proxy.set(Weather { away: away.clone(), ..Weather::default() });
    load.wait(operations);
    proxy.set(Weather::default());
    load.wait(operations);
    away.iter().for_each(|&id| cluster.wait_until_caught_up(id));
    // Now so many that no side has a quorum, until it heals.
    proxy.set(Weather { away: (0..=f).collect(), ..Weather::default() });
    std::thread::sleep(std::time::Duration::from_millis(700));
    proxy.set(Weather::default());
    load.wait(operations);
    load.finish(&cluster);
    cluster.stop();
}

/// Random datagrams at one replica while clients are served.
fn garbage(datagrams: u64, seed: u64) {
    println!("garbage of seed {seed}");
    let mut cluster = Cluster::new(4, |_| {});
    let load = Load::start(&cluster, 3, seed);
    load.wait(50);
    let before = resident(cluster.processes[0].as_ref().unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = cluster.config.addresses().unwrap()[0];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut bytes = vec![0u8; 1400];
    for i in 0..datagrams {
        // Some have the length of a first message: it is judged, if there are not too many.
        let length = if i % 64 == 1 { 117 } else { rng.random_range(0..if i % 16 == 0 { 1400 } else { 64 }) };
        rng.fill(&mut bytes[..length]);
        // Half of them begin like those of sessions, or like the frames in them.
        let beginnings: [&[u8]; 5] = [&[0x11], &[0x12], &[0x13], &[0x14, 0, 0, 0, 0], &[0xb5, 1, 1]];
        if i % 2 == 0 {
            let beginning = beginnings[rng.random_range(0..beginnings.len())];
            let common = beginning.len().min(length);
            bytes[..common].copy_from_slice(&beginning[..common]);
        }
        let _ = socket.send_to(&bytes[..length], target);
    }
    load.wait(50);
    let status = cluster.status(0).unwrap();
    let dropped: u64 =
        status.rejections.iter().map(|(_, count)| count).sum::<u64>() + status.counter("no_frame");
    let after = resident(cluster.processes[0].as_ref().unwrap());
    println!(
        "{datagrams} random datagrams sent, {} received in all, {dropped} dropped as nothing; resident memory {} KiB \
         before, {} KiB after",
        status.counter("datagrams_received"),
        before / 1024,
        after / 1024
    );
    assert!(dropped > 0 && cluster.processes[0].as_mut().unwrap().try_wait().unwrap().is_none());
    assert!(after < before + 192 * 1024 * 1024, "memory is bounded");
    load.finish(&cluster);
    cluster.stop();
}

#[test]
fn loss_duplication_reordering_and_corruption_lose_nothing() {
    hostile(4, 1, 40);
}

#[test]
fn a_partition_that_heals_loses_nothing() {
    partition(4, 1, 2, 30);
}

#[test]
fn random_datagrams_do_not_stop_a_replica() {
    garbage(200_000, 3);
}

#[test]
#[ignore = "long: ten million datagrams"]
fn ten_million_random_datagrams_do_not_stop_a_replica() {
    garbage(10_000_000, 4);
}

#[test]
#[ignore = "long: seven replicas, ten seeds"]
fn hostile_networks_with_four_and_seven_replicas_lose_nothing() {
    for seed in 10..20 {
        hostile(4, seed, 200);
        partition(4, 1, seed, 100);
    }
    hostile(7, 20, 200);
    partition(7, 2, 21, 100);
}
