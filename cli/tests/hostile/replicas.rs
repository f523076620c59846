//! One replica that follows the protocol and floods the others.

use crate::attack::{counted, follow, leaves_enough, measure, patient, quiet};
use crate::support::{Cluster, Load};

/// What, how often a second to each other replica, and what is counted there.
pub const FLOODS: [(&str, u64, &str); 8] = [
    ("status", 1000, "too_often"),
    ("bad-signatures", 1000, "bad_signature"),
    ("view-changes", 200, "verified"),
    ("fragments", 1000, "fragments_asked"),
    ("fetch", 1000, "sent_just_now"),
    ("one-view-change", 200, "verified"),
    ("pings", 1000, "datagrams_sent"),
    ("late", 100, "datagrams_received"),
];

/// Who floods: a backup of view 0.
pub const REPLICA: usize = 3;

/// How many of the floods the ordinary test tries.
const ORDINARY: usize = 4;

#[test]
fn no_replica_takes_the_others_share() {
    leave_enough(&FLOODS[..ORDINARY]);
}

#[test]
#[ignore = "long: the other floods of a replica"]
fn no_replica_takes_the_others_share_by_other_floods() {
    leave_enough(&FLOODS[ORDINARY..]);
}

fn leave_enough(floods: &[(&str, u64, &str)]) {
    let _quiet = quiet();
    let mut cluster = Cluster::new(4, patient);
    let load = Load::start(&cluster, 3, 2);
    let correct = [0, 1, 2];
    let mut failed = Vec::new();
    for &(what, rate, counter) in floods {
        let rate = rate.to_string();
        let sign = follow(&mut cluster, REPLICA, &["--misbehave", "flood", "--how", what, "--rate", &rate]);
        load.wait(20);
        let before = counted(&cluster, &correct, counter);
        let enough = leaves_enough(what, || measure(&load, || sign.raise(), |()| sign.lower()));
        let more = counted(&cluster, &correct, counter) - before;
        println!("{what}: {counter} +{more}, {} sent", counted(&cluster, &[REPLICA], "lies"));
        if !enough || more == 0 {
            failed.push(what);
        }
    }
    let views: Vec<u64> =
        correct.iter().filter_map(|&id| cluster.status(id)).map(|status| status.view).collect();
    println!("views {views:?}");
    assert!(failed.is_empty(), "{failed:?}");
    load.finish(&cluster);
    cluster.stop();
}
