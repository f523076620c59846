//! Attackers with the key of one client.

use crate::attack::{Attacker, counted, leaves_enough, measure, patient, quiet};
use crate::support::{Cluster, Load};

/// What, how often a second to each replica, and what is counted there.
pub const ATTACKS: [(&str, u64, &str); 10] = [
    ("bad-signatures", 1000, "bad_signature"),
    ("rising", 1000, "waits_at_client"),
    ("reads", 300, "verified"),
    ("large", 250, "verified"),
    ("fragments", 1000, "fragments_asked"),
    ("backups-only", 1000, "waits_at_client"),
    ("split", 500, "waits_at_client"),
    ("handshakes", 50, "datagrams_received"),
    ("not-mine", 1000, "not_for_this_node"),
    ("queries", 500, "datagrams_sent"),
];

/// Who attacks; the load is clients 0 to 2.
pub const CLIENT: u32 = 5;

/// How many of the attacks the ordinary test tries.
const ORDINARY: usize = 4;

#[test]
fn no_client_takes_the_others_share() {
    leave_enough(&ATTACKS[..ORDINARY]);
}

#[test]
#[ignore = "long: the other attacks of a client"]
fn no_client_takes_the_others_share_by_other_attacks() {
    leave_enough(&ATTACKS[ORDINARY..]);
}

fn leave_enough(attacks: &[(&str, u64, &str)]) {
    let _quiet = quiet();
    let cluster = Cluster::new(4, patient);
    let load = Load::start(&cluster, 3, 1);
    load.wait(50);
    let all = [0, 1, 2, 3];
    let mut failed = Vec::new();
    for &(what, rate, counter) in attacks {
        let before = counted(&cluster, &all, counter);
        let enough =
            leaves_enough(what, || measure(&load, || Attacker::start(&cluster, CLIENT, what, rate), drop));
        let more = counted(&cluster, &all, counter) - before;
        println!("{what}: {counter} +{more}");
        if !enough || more == 0 {
            failed.push(what);
        }
        load.wait(20);
    }
    let views: Vec<u64> = all.iter().filter_map(|&id| cluster.status(id)).map(|status| status.view).collect();
    println!("views {views:?}");
    assert!(failed.is_empty(), "{failed:?}");
    assert!(views.iter().all(|&view| view <= 2), "a client makes replicas change views: {views:?}");
    load.finish(&cluster);
    cluster.stop();
}
