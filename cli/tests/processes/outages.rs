//! Outages in which a quorum comes together now and then, for too short a time to execute anything.

use crate::proxy::behind_proxies;
use crate::proxy::{Proxy, Weather};
use crate::support::Cluster;
use pbft::rules::MAX_BACKOFF;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What a request may take once a quorum is back: two time-outs, the second doubled, and what a busy machine
/// adds; the base is 500 ms.
const BOUND: Duration = Duration::from_secs(2);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// How often a replica has left a view, by its log.
fn views_left(cluster: &Cluster, id: usize) -> usize {
    cluster.log(id).matches("view left").count()
}

/// The replica that is gone for good, and the one that comes and goes: the primary of view 0.
const DEAD: usize = 1;
const FLAPS: usize = 0;

/// [`FLAPS`] is cut off but for up to 300 ms at a time, in which the others hear it and it hears nobody: so there
/// seems to be a quorum, and nothing can execute. Returns how often.
fn flap(proxy: &Proxy, rng: &mut ChaCha8Rng, time: Duration) -> u32 {
    let begin = Instant::now();
    let mut flaps = 0;
    loop {
        proxy.set(Weather { away: BTreeSet::from([FLAPS]), ..Weather::default() });
        std::thread::sleep(ms(rng.random_range(700..1500)));
        if begin.elapsed() > time {
            return flaps;
        }
        flaps += 1;
        proxy.set(Weather { deaf: Some(FLAPS), ..Weather::default() });
        std::thread::sleep(ms(rng.random_range(50..300)));
    }
}

#[test]
fn after_twenty_seconds_of_flapping_requests_execute_within_two_seconds() {
    let seed = 5;
    let (mut cluster, proxy) = behind_proxies(4, seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut client = cluster.client(0);
    client.put("before", b"1");
    proxy.set(Weather { away: BTreeSet::from([FLAPS]), ..Weather::default() });
    cluster.kill(DEAD);
    let (executed, left) = (cluster.status(2).unwrap().last_executed, views_left(&cluster, 2));
    let mut waiting = cluster.client(1);
    let waiter = std::thread::spawn(move || {
        waiting.put("meanwhile", b"1");
        Instant::now()
    });
    let flaps = flap(&proxy, &mut rng, ms(20_000));

    let status = cluster.status(2).unwrap();
    let doublings = views_left(&cluster, 2) - left;
    let base = ms(cluster.config.file.progress_timeout_ms);
    let doubled = base * (1 << doublings.min(usize::from(MAX_BACKOFF)));
    proxy.set(Weather::default());
    let begin = Instant::now();
    let mut took = Vec::new();
    for i in 0..5u8 {
        let before = Instant::now();
        client.put("after", &[i]);
        took.push(before.elapsed());
    }
    let waited = waiter.join().unwrap().saturating_duration_since(begin);
    let since = views_left(&cluster, 2) - left - doublings;
    println!(
        "a quorum {flaps} times, {} batches executed and {doublings} views left in the outage, {:?} being left for; \
         doubled for each, the time-out is {doubled:?}; after the return requests took {took:?}, and the one that was \
         waiting {waited:?}; {since} views left since",
        status.last_executed - executed,
        status.leaving,
    );
    assert!(flaps >= 10 && doublings > 0, "the outage flaps, and replicas leave a view");
    assert_eq!(status.last_executed, executed, "it is an outage");
    assert!(took.iter().all(|&took| took < BOUND), "{took:?}");
    assert!(since <= 3, "no storm");
    let status = cluster.status(2).unwrap();
    assert_eq!(status.heard, 3, "{status:?}");
    drop(client);
    cluster.stop();
}
