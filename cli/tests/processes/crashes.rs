//! Replicas killed, frozen and left behind, under load.

use crate::support::{Cluster, Load};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// Checkpoints often, so that restarts meet them.
fn small_checkpoints(table: &mut toml::Table) {
    let parameters = table["parameters"].as_table_mut().unwrap();
    parameters.insert("checkpoint_interval".into(), 16.into());
    parameters.insert("window".into(), 32.into());
}

fn crashes(replicas: usize, f: usize, rounds: u64) {
    let mut cluster = Cluster::new(replicas, small_checkpoints);
    let load = Load::start(&cluster, 4, 17);
    load.wait(20);
    for round in 0..rounds {
        for id in 0..replicas {
            cluster.kill(id);
            load.wait(20);
            cluster.spawn(id, &[]);
            load.wait(20);
            cluster.wait_until_caught_up(id);
        }
        let victims: Vec<usize> = (0..f).map(|i| (round as usize + i) % replicas).collect();
        victims.iter().for_each(|&id| cluster.kill(id));
        load.wait(20);
        victims.iter().for_each(|&id| cluster.spawn(id, &[]));
        load.wait(20);
        (0..replicas).for_each(|id| cluster.kill(id));
        (0..replicas).for_each(|id| cluster.spawn(id, &[]));
        load.wait(20);
    }
    load.finish(&cluster);
    (0..replicas).for_each(|id| cluster.wait_until_caught_up(id));
    cluster.stop();
}

#[test]
fn each_of_four_replicas_killed_in_turn_and_then_all_lose_nothing() {
    crashes(4, 1, 1);
}

#[test]
#[ignore = "long: five rounds with four replicas and two with seven"]
fn many_rounds_of_kills_with_four_and_seven_replicas_lose_nothing() {
    crashes(4, 1, 5);
    crashes(7, 2, 2);
}

#[test]
fn the_service_goes_on_when_the_primary_is_killed_or_frozen() {
    let mut cluster = Cluster::new(4, small_checkpoints);
    let load = Load::start(&cluster, 4, 18);
    load.wait(20);
    let timeout = Duration::from_millis(cluster.config.file.progress_timeout_ms);
    let before = Instant::now();
    cluster.kill(0);
    cluster.wait_for(1, "enters view 1", |status| status.view >= 1);
    let took = before.elapsed();
    println!("view changed {took:?} after the kill; the time-out is {timeout:?}");
    load.wait(20);
    cluster.spawn(0, &[]);
    cluster.wait_until_caught_up(0);
    let view = cluster.status(2).unwrap().view;
    let primary = usize::try_from(view % 4).unwrap();
    cluster.signal(primary, Signal::STOP);
    cluster.wait_for((primary + 1) % 4, "leaves the view of the frozen primary", |status| status.view > view);
    load.wait(20);
    cluster.signal(primary, Signal::CONT);
    cluster.wait_until_caught_up(primary);
    load.finish(&cluster);
    cluster.stop();
}

#[test]
fn a_replica_that_was_down_past_two_checkpoints_fetches_the_state() {
    let mut cluster = Cluster::new(4, small_checkpoints);
    let mut client = cluster.client(0);
    client.put("before", b"1");
    cluster.kill(3);
    for i in 0..70 {
        client.put(&format!("key-{}", i % 7), &[i; 100]);
    }
    cluster.spawn(3, &[]);
    cluster.wait_until_caught_up(3);
    let status = cluster.status(3).unwrap();
    assert!(status.counter("transfers") >= 1, "{status:?}");
    // It has the state: without replica 0 the others cannot do without it.
    cluster.kill(0);
    client.put("after", b"1");
    assert_eq!(client.get("key-6").as_deref(), Some(&[69; 100][..]));
    assert_eq!(client.get("before").as_deref(), Some(&b"1"[..]));
    // And it keeps it over a restart.
    cluster.kill(3);
    cluster.spawn(3, &[]);
    assert_eq!(client.get("key-6").as_deref(), Some(&[69; 100][..]));
}
