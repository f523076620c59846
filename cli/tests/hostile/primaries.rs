//! Primaries that follow the protocol slowly, or not for everybody.

use crate::attack::{Share, Sign, WINDOW, allowed, counted, follow, quiet, rate};
use crate::support::{Cluster, Load};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What is left at least of what is served without, once the primary has been given up.
const LEAST: f64 = 1.0 / 3.0;

/// Within this time the view is changed and requests are served as before.
const NOTICED: Duration = Duration::from_secs(2);
/// The client whose requests an unfair primary holds back.
pub const VICTIM: u32 = 1;

/// A cluster whose primary is correct until the sign is raised.
pub fn led_by(arguments: &[&str], journal: bool) -> (Cluster, Sign) {
    let mut cluster = Cluster::new(4, |table| {
        allowed(table);
        table.insert("journal".into(), journal.into());
    });
    let sign = follow(&mut cluster, 0, arguments);
    cluster.wait_for_answers();
    (cluster, sign)
}

/// Measures before the primary becomes slow, and two seconds after that. Whether the view was changed, and how
/// many requests were served meanwhile.
pub fn slows_down(cluster: &Cluster, load: &Load, sign: &Sign) -> (Share, bool) {
    load.wait(50);
    let control = rate(load, WINDOW);
    assert_eq!(cluster.status(1).unwrap().view, 0, "the primary is correct until now");
    sign.raise();
    let meanwhile = rate(load, NOTICED);
    let under = rate(load, WINDOW);
    let left = (1..4).all(|id| cluster.status(id).is_some_and(|status| status.view > 0));
    println!("{meanwhile:.0} requests/s in the first {NOTICED:?}");
    (Share { control, under }, left)
}

fn is_given_up(arguments: &[&str]) {
    let _quiet = quiet();
    for trial in 0..2 {
        let (cluster, sign) = led_by(arguments, true);
        let load = Load::start(&cluster, 3, 3);
        let (share, left) = slows_down(&cluster, &load, &sign);
        println!("{arguments:?}: {:.0} of {:.0} requests/s, view left: {left}", share.under, share.control);
        let late = counted(&cluster, &[1, 2, 3], "late_primaries");
        load.finish(&cluster);
        cluster.stop();
        if share.of() >= LEAST && left && late > 0 {
            return;
        }
        assert!(trial == 0, "{share:?}, view left: {left}, {late} found it late");
    }
}

#[test]
#[ignore = "long: as with 400 ms"]
fn a_primary_that_is_100_ms_late_is_given_up() {
    is_given_up(&["--misbehave", "delay", "--delay-ms", "100"]);
}

#[test]
#[ignore = "long: as with 400 ms"]
fn a_primary_that_is_200_ms_late_is_given_up() {
    is_given_up(&["--misbehave", "delay", "--delay-ms", "200"]);
}

#[test]
fn a_primary_that_is_400_ms_late_is_given_up() {
    is_given_up(&["--misbehave", "delay", "--delay-ms", "400"]);
}

/// What its victim is served, of what each of the others is, two seconds after it has begun.
pub fn share_of_the_victim(cluster: &Cluster, load: &Load, sign: &Sign) -> f64 {
    load.wait(50);
    assert_eq!(cluster.status(1).unwrap().view, 0, "the primary is correct until now");
    sign.raise();
    std::thread::sleep(NOTICED);
    let served = || load.served.iter().map(|served| served.load(Relaxed)).collect::<Vec<_>>();
    let before = served();
    std::thread::sleep(WINDOW * 2);
    let more: Vec<u64> = served().iter().zip(before).map(|(now, before)| now - before).collect();
    let others: u64 = more.iter().sum::<u64>() - more[VICTIM as usize];
    println!("served in {:?}: {more:?}, the victim is {VICTIM}", WINDOW * 2);
    more[VICTIM as usize] as f64 / (others as f64 / (more.len() - 1) as f64).max(1.0)
}

fn gives_its_victim_a_share(arguments: &[&str]) {
    let _quiet = quiet();
    let victim = VICTIM.to_string();
    let arguments = [&["--misbehave", "unfair", "--victim", &victim], arguments].concat();
    for trial in 0..2 {
        let (cluster, sign) = led_by(&arguments, true);
        let load = Load::start(&cluster, 3, 4);
        let share = share_of_the_victim(&cluster, &load, &sign);
        let held_back = counted(&cluster, &[0], "lies");
        load.finish(&cluster);
        cluster.stop();
        assert!(held_back > 0);
        if share >= LEAST {
            return;
        }
        assert!(trial == 0, "{arguments:?}: {share:.2} of what the others have");
    }
}

#[test]
fn a_primary_that_makes_one_client_wait_is_given_up() {
    gives_its_victim_a_share(&["--delay-ms", "350"]);
}

#[test]
fn a_primary_that_ignores_one_client_is_given_up() {
    gives_its_victim_a_share(&[]);
}

#[test]
#[ignore = "long: half a minute until the delay is long enough"]
fn a_primary_that_grows_slower_is_given_up() {
    let _quiet = quiet();
    let (cluster, sign) = led_by(&["--misbehave", "delay", "--growing"], true);
    let load = Load::start(&cluster, 3, 5);
    load.wait(50);
    let control = rate(&load, WINDOW * 2);
    sign.raise();
    let begin = Instant::now();
    let mut lowest = control;
    while cluster.status(1).unwrap().view == 0 {
        let now = rate(&load, WINDOW);
        lowest = lowest.min(now);
        println!("after {:.0?}: {now:.0} of {control:.0} requests/s", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(60), "it is never given up");
    }
    std::thread::sleep(WINDOW);
    let after = rate(&load, WINDOW * 2);
    println!("given up after {:.1?}, {lowest:.0} at worst, then {after:.0}", begin.elapsed());
    assert!(after >= control * LEAST);
    load.finish(&cluster);
    cluster.stop();
}
