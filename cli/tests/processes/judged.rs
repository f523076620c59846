//! Running replicas hold their own steps to the protocol that is proved.

use crate::support::{Cluster, Load, pbft};

/// Crashes, a view change, a state that is fetched and reads, while each replica judges.
#[test]
fn replicas_that_judge_their_own_steps_find_no_breach() {
    const JUDGE: &[&str] = &["--judge"];
    let mut cluster = Cluster::judged(4, |table| {
        let parameters = table["parameters"].as_table_mut().unwrap();
        parameters.insert("checkpoint_interval".into(), 16.into());
        parameters.insert("window".into(), 32.into());
    });
    let load = Load::start(&cluster, 4, 23);
    load.wait(20);
    cluster.kill(0);
    cluster.wait_for(1, "enters view 1", |status| status.view >= 1);
    load.wait(20);
    cluster.spawn(0, JUDGE);
    cluster.wait_until_caught_up(0);
    cluster.kill(3);
    let executed = cluster.status(1).unwrap().last_executed;
    cluster.wait_for(1, "is far ahead", |status| status.watermarks.0 > executed + 64);
    cluster.spawn(3, JUDGE);
    cluster.wait_until_caught_up(3);
    load.wait(20);
    load.finish(&cluster);
    for id in 0..4 {
        let status = cluster.status(id).unwrap();
        let counts = ["judges", "judged_breaches", "judged_steps", "judged_actions", "steps"];
        let [judges, breaches, judged, actions, steps] = counts.map(|name| status.counter(name));
        println!("replica {id}: {judged} of {steps} steps judged, {actions} actions");
        assert_eq!((judges, breaches), (1, 0), "{}", cluster.log(id));
        // The start is judged too.
        assert_eq!(judged, steps + 1);
        assert!(actions > 0 && status.counter("judge_ns") > 0, "{actions} actions");
    }
    assert!(cluster.status(3).unwrap().counter("transfers") > 0, "it has fetched a state");
    let told = pbft().args(["status", "--config"]).arg(cluster.path()).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert_eq!(told.matches(", all of the proved protocol").count(), 4, "{told}");
    cluster.stop();
}
