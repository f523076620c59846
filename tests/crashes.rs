//! Worlds in which correct replicas crash and restart: what they show is what delivery one by one shows, and
//! the rules about stable storage are needed.

use pbft::types::{Cluster, Principal, ReplicaId, SeqNo, View};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::report::{Explore, Options, Report, RestsOn, Verdict, run};
use pbft_models::trace::{Executor, Happening, Step};
use pbft_models::world::{Crashes, WorldConfig};

const ANYWHERE: Crashes = Crashes { at_most: None, between_steps: false };
const BETWEEN_STEPS: Crashes = Crashes { between_steps: true, ..ANYWHERE };

fn config(n: u16, byzantine: &[u16], max_view: u64, requests: u32, crashes: Option<Crashes>) -> WorldConfig {
    WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_view: View(max_view),
        crashes,
        max_seq: SeqNo(1),
        ..WorldConfig::new(Cluster::new(n, 1), requests)
    }
}

fn explored(config: WorldConfig, how: Explore) -> Report {
    let options = Options { observables: true, ..Options::default() };
    run(config, how, &options, &mut |_| true).expect("these bounds make sense")
}

#[test]
fn lazy_delivery_shows_the_same_histories_as_delivery_one_by_one_where_replicas_crash() {
    for byzantine in [0, 1, 2] {
        let [one_by_one, lazy] = [Explore::None, Explore::Lazy].map(|how| {
            let report = explored(config(3, &[byzantine], 0, 1, Some(ANYWHERE)), how);
            assert_eq!(report.verdict, Verdict::Holds, "{report:?}");
            (report.observables, report.observables_digest.expect("it was asked for"), report.states)
        });
        assert_eq!((one_by_one.0, &one_by_one.1), (lazy.0, &lazy.1), "replica {byzantine} is Byzantine");
        assert!(one_by_one.2 > 10 * lazy.2);
        let without = explored(config(3, &[byzantine], 0, 1, None), Explore::Lazy);
        assert!(without.observables < lazy.0, "a crash leaves something undone that else is done at once");
    }
}

#[test]
fn with_fewer_crashes_less_can_happen_and_one_more_changes_nothing_at_last() {
    let states = |crashes| {
        let report = explored(config(4, &[3], 0, 2, crashes), Explore::Lazy);
        assert_eq!((report.verdict, report.rests_on), (Verdict::Holds, RestsOn::Simulation), "{report:?}");
        report.observables.expect("it was asked for")
    };
    let bounded = |most| states(Some(Crashes { at_most: Some(most), between_steps: false }));
    let (none, one, many) = (states(None), bounded(1), states(Some(ANYWHERE)));
    assert!(none < one && one <= many, "{none}, {one}, {many}");
    assert_eq!(bounded(8), many);
    assert!(states(Some(BETWEEN_STEPS)) <= many);
}

fn violated(mutant: Mutant, crashes: Crashes) -> Option<&'static str> {
    let rules = Rulebook::without(mutant);
    let report = explored(WorldConfig { rules, ..config(4, &[0], 0, 2, Some(crashes)) }, Explore::Lazy);
    match report.verdict {
        Verdict::Violated => report.property,
        verdict => {
            assert_eq!((verdict, report.rests_on), (Verdict::Holds, RestsOn::Simulation), "{report:?}");
            None
        }
    }
}

#[test]
fn what_is_sent_before_it_is_durable_is_contradicted_after_a_crash_between_effects_and_no_other() {
    assert_eq!(violated(Mutant::SendFirst, ANYWHERE), Some("prepared-uniqueness"));
    assert_eq!(violated(Mutant::SendFirst, BETWEEN_STEPS), None);
}

#[test]
fn what_is_never_durable_is_contradicted_after_any_crash() {
    for crashes in [ANYWHERE, BETWEEN_STEPS] {
        assert_eq!(violated(Mutant::PersistNothing, crashes), Some("prepared-uniqueness"));
    }
}

#[test]
fn worlds_with_crashes_have_no_rounds() {
    let options = Options::default();
    let refused = run(config(4, &[3], 1, 2, Some(ANYWHERE)), Explore::Layered, &options, &mut |_| true);
    assert!(refused.is_err_and(|why| why.to_string().contains("crashes have no rounds")));
}

#[test]
fn steps_are_carried_out_only_with_as_many_crashes_as_the_world_has() {
    let crash = |replica| Step { node: Principal::Replica(ReplicaId(replica)), what: Happening::Crash };
    let time_out = Step { node: Principal::Replica(ReplicaId(0)), what: Happening::TimeOut };
    let crashes_of = |crashes: Option<Crashes>| {
        let mut executor = Executor::new(&config(4, &[3], 1, 1, crashes)).expect("these bounds make sense");
        let mut at = executor.start();
        let mut taken = 0;
        // A crash in between leaves a mark: the replica has left its view.
        at = executor.take(&at, &time_out).expect("any replica may leave view 0").after;
        for _ in 0..3 {
            let Ok(came) = executor.take(&at, &crash(0)) else { break };
            (at, taken) = (came.after, taken + 1);
        }
        (taken, executor.take(&at, &crash(1)).is_ok())
    };
    let bounded = |at_most| crashes_of(Some(Crashes { at_most, between_steps: false }));
    assert_eq!(crashes_of(None), (0, false));
    assert_eq!((bounded(Some(1)), bounded(Some(2)), bounded(None)), ((1, true), (2, true), (3, true)));
}
