//! Worlds in which clients call, read without order, wait for each other, and give up: linearizable, and by
//! what they are compared with.

use pbft::service::Service;
use pbft::types::{Bytes, ClientId, Cluster, ReplicaId, SeqNo};
use pbft_models::engine::{Limits, Outcome, explore};
use pbft_models::ledger::Ledger;
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{Application, Delivery, World, WorldConfig};
use pbft_properties::Call;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::collections::{BTreeMap, BTreeSet};

/// These calls at `n` replicas, of which `f` may be faulty and these are Byzantine; so many numbers.
fn config((n, f): (u16, u16), byzantine: &[u16], calls: &str, numbers: u64) -> WorldConfig {
    let config = WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_seq: SeqNo(numbers),
        ..WorldConfig::new(Cluster::new(n, f), 0)
    };
    config.with_application(Application::parse(calls).expect("it is well-formed"))
}

fn explored(config: WorldConfig, delivery: Delivery) -> (World, u64) {
    let mut world = World::new(config, delivery).expect("these bounds make sense");
    let found = explore(&mut world, Limits::default(), &mut |_| true);
    assert_eq!(found.outcome, Outcome::Exhausted, "{}", world.config().name());
    (world, found.states)
}

/// What the replicas and clients can have done together.
fn histories(world: &World) -> BTreeSet<String> {
    world.all_histories().map(|histories| format!("{histories:?}")).collect()
}

#[test]
fn lazy_delivery_shows_the_same_histories_as_delivery_one_by_one() {
    for (size, byzantine, calls, numbers) in [
        ((1, 0), &[][..], "wr.w", 3),
        ((1, 0), &[], "wr.w-g", 3),
        ((1, 0), &[], "rw.r-g", 3),
        ((1, 0), &[], "w.r-z", 2),
        ((3, 0), &[], "w.r", 1),
        ((3, 1), &[2], "wr", 1),
        ((3, 1), &[0], "w-g", 1),
    ] {
        let config = config(size, byzantine, calls, numbers);
        let name = config.name();
        let [(one, all), (lazy, fewer)] =
            [Delivery::One, Delivery::Lazy].map(|delivery| explored(config.clone(), delivery));
        let (one, lazy) = (histories(&one), histories(&lazy));
        assert!(fewer < all && one.len() > 10, "{name}: {fewer} of {all} states, {} histories", one.len());
        assert_eq!(one, lazy, "{name}");
    }
}

#[test]
fn what_a_simulation_rests_on_holds_at_replicas_and_clients() {
    for (byzantine, calls) in [(&[3][..], "w.r"), (&[0], "w.r-g"), (&[3], "w-z")] {
        let (mut world, _) = explored(config((4, 1), byzantine, calls, 1), Delivery::Lazy);
        let conditions = world.check_conditions(&mut |_| None);
        assert_eq!(conditions.failed(), 0, "{byzantine:?} {calls}: {:?}", conditions.first);
        assert!(conditions.counts["simulation"].0 > 1_000, "{byzantine:?} {calls}");
        let happened = world.witnesses();
        assert!(
            !calls.contains('r') || happened.reads && happened.follows,
            "{byzantine:?} {calls}: {happened:?}"
        );
    }
}

/// The service as one sequential object; a call says whether it reads.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sequential(Ledger);

impl SequentialSpec for Sequential {
    type Op = (ClientId, Bytes);
    type Ret = Bytes;

    fn invoke(&mut self, (client, operation): &Self::Op) -> Bytes {
        self.0.execute(*client, operation)
    }
}

/// What stateright's tester says of these calls in real time; none if no real time has just this order.
fn is_linearizable(calls: &[Call], others: &[(ClientId, Bytes)]) -> Option<bool> {
    let mut tester = LinearizabilityTester::new(Sequential::default());
    let mut thread = 0..;
    for other in others {
        tester.on_invoke(thread.next()?, other.clone()).expect("the thread is new");
    }
    let threads: Vec<i32> = thread.by_ref().take(calls.len()).collect();
    let mut began: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    loop {
        let next = (0..calls.len()).find(|at| {
            let earlier =
                |other: &Call| other.client == calls[*at].client && other.number < calls[*at].number;
            !began.contains_key(at)
                && calls[*at].after.iter().all(|before| ended.contains(before))
                && calls.iter().enumerate().all(|(other, call)| !earlier(call) || began.contains_key(&other))
        });
        if let Some(at) = next {
            tester.on_invoke(threads[at], (calls[at].client, calls[at].operation.clone())).ok()?;
            began.insert(at, ended.clone());
            continue;
        }
        // Only what somebody waits for ends before all have begun.
        let awaited = (0..calls.len()).filter(|at| !began.contains_key(at)).flat_map(|at| &calls[at].after);
        let awaited = awaited.copied().chain(0..calls.len());
        let mut can_end = awaited.filter(|at| began.contains_key(at) && !ended.contains(at));
        let Some(at) = can_end.find(|&at| calls[at].result.is_some()) else { break };
        tester.on_return(threads[at], calls[at].result.clone()?.0).ok()?;
        ended.insert(at);
    }
    let exact = began.iter().all(|(&at, before)| *before == calls[at].after.iter().copied().collect());
    exact.then(|| tester.is_consistent())
}

/// How many combinations of histories both judge the same way, and of those how many neither takes: for what
/// stateright's tester refuses the property may not accept.
fn compared(config: WorldConfig) -> (usize, usize) {
    let world = World::new(config, Delivery::Lazy).expect("these bounds make sense");
    let mut world = world.judged_by("linearizable").past_violations();
    explore(&mut world, Limits::default(), &mut |_| true);
    let (mut both, mut refused) = (0, 0);
    for (replicas, calls, holds) in world.all_verdicts() {
        let mine = |client: ClientId| client.0 < world.config().requests;
        let others: BTreeSet<(ClientId, Bytes)> = replicas
            .iter()
            .flat_map(|history| history.executions().flat_map(|execution| &execution.requests))
            .filter(|request| !mine(request.client))
            .map(|request| (request.client, request.operation.clone()))
            .collect();
        let Some(linearizable) = is_linearizable(&calls, &others.into_iter().collect::<Vec<_>>()) else {
            continue;
        };
        assert!(linearizable || !holds, "{calls:#?}");
        both += usize::from(linearizable == holds);
        refused += usize::from(!linearizable);
    }
    (both, refused)
}

#[test]
fn stateright_s_tester_accepts_whatever_the_property_accepts() {
    for (size, byzantine, calls) in
        [((4, 1), &[3][..], "w.r"), ((4, 1), &[0], "w.r-g"), ((1, 0), &[], "wr.w-g"), ((1, 0), &[], "w.r-z")]
    {
        let (both, refused) = compared(config(size, byzantine, calls, 2));
        assert!(both > 30 && refused == 0, "{calls}: {both} {refused}");
    }
}

#[test]
fn without_the_rules_of_reads_both_find_what_is_stale() {
    for mutant in [Mutant::SmallReadQuorum, Mutant::ReadsDoNotWait] {
        let rules = Rulebook::without(mutant);
        let (both, refused) = compared(WorldConfig { rules, ..config((4, 1), &[3], "w.r", 1) });
        assert!(refused > 0 && both > refused, "{}: {both} {refused}", mutant.id());
    }
}
