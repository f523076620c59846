//! Local systems, walked in worlds that have been explored.

use super::bench::FORGETS;
use super::conditions::Conditions;
use super::local::LocalSystem;
use super::theorem::{ANY_V, FRAME, SERVICES, Whole, everything, is_walked, walk};
use crate::engine::{Limits, Outcome, explore};
use crate::world::{Crashes, Delivery, MessageId, World, WorldConfig, carried_by};
use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use std::collections::BTreeSet;

#[test]
fn two_numbers_with_a_view_change_are_walked_where_that_is_known_to_end() {
    let four = WorldConfig::new(Cluster::new(4, 1), 1);
    let world = WorldConfig { max_view: View(1), max_seq: SeqNo(2), ..four };
    assert!(is_walked(&world));
    assert!(is_walked(&WorldConfig { checkpoint_interval: Some(1), ..world.clone() }));
    let crashes = Some(Crashes { at_most: Some(1), between_steps: false });
    for larger in [
        WorldConfig { requests: 2, ..world.clone() },
        WorldConfig { max_view: View(2), ..world.clone() },
        WorldConfig { max_seq: SeqNo(3), ..world.clone() },
        WorldConfig { crashes, ..world.clone() },
        WorldConfig { cluster: Cluster::new(7, 2), ..world },
    ] {
        assert!(!is_walked(&larger), "{}", larger.name());
    }
}

/// Views 0 and 1, one request, replica 3 Byzantine, explored; and what can be delivered in it.
pub(super) fn explored(checkpoint_interval: Option<u64>) -> (World, Vec<MessageId>) {
    let config = WorldConfig { max_view: View(1), ..WorldConfig::new(Cluster::new(4, 1), 1) };
    let config = WorldConfig { byzantine: [ReplicaId(3)].into(), checkpoint_interval, ..config };
    let mut world = World::new(config, Delivery::Lazy).expect("these bounds make sense");
    assert_eq!(explore(&mut world, Limits::default(), &mut |_| true).outcome, Outcome::Exhausted);
    let available = everything(&mut world);
    (world, available)
}

/// What a replica must have sent at each core: of NEW-VIEWs what they carry too, and no more than that.
#[test]
fn what_a_new_view_carries_must_have_been_sent_with_it() {
    let (world, available) = explored(Some(1));
    let whole = walk(&world, ReplicaId(1), &available, &mut Conditions::default(), &mut |_| None);
    let Whole { system, must, tables } = whole.expect("nothing fails");
    let all = system.messages.iter().flat_map(|&id| carried_by(tables.message(id)));
    let proposals: BTreeSet<_> = all.cloned().collect();
    let (mut with, mut without) = (0, 0);
    for core in (0..).take(system.cores()) {
        let sent: BTreeSet<_> =
            must.sent(core).flat_map(|id| carried_by(tables.message(id)).to_vec()).collect();
        assert!(sent.iter().all(|proposal| must.has_carried(core, proposal)), "{core}");
        with += sent.len();
        without += proposals.iter().filter(|proposal| !must.has_carried(core, proposal)).count();
    }
    assert!(with > 10 && without > 10, "{with}, {without}");
    assert!(proposals.iter().all(|proposal| !must.has_carried(0, proposal)), "nothing is sent at the start");
}

/// A walk has reached its end: taken once more from what all cells can hold in the end, as if nothing had been
/// tried, it finds nothing new.
#[test]
fn a_walk_that_is_whole_finds_nothing_more() {
    let (world, available) = explored(None);
    for &replica in world.correct() {
        let mut conditions = Conditions::default();
        let whole = walk(&world, replica, &available, &mut conditions, &mut |_| None);
        let Whole { mut system, mut tables, .. } = whole.expect("nothing fails");
        let found = |system: &LocalSystem| {
            let cells = || 0..system.cells.count();
            let cores = (0..).take(system.cores());
            let held = cores.flat_map(|core| cells().map(move |cell| system.held(core, cell)));
            (system.cores(), system.steps.count(), held.collect::<Vec<_>>())
        };
        let first = found(&system);
        system.walk_again(&mut tables, &mut conditions);
        assert!(found(&system) == first, "{replica:?}: {} cores, {} steps", first.0, first.1);
    }
}

/// What is walked does not depend on which steps are taken once only, as they are known.
#[test]
fn a_local_system_is_the_same_if_each_step_is_taken_anew() {
    let (world, available) = explored(None);
    for &replica in world.correct() {
        let [anew, known] = [true, false].map(|anew| {
            FORGETS.set(anew);
            let mut conditions = Conditions::default();
            let whole = walk(&world, replica, &available, &mut conditions, &mut |_| None);
            (whole.expect("nothing fails").system, conditions)
        });
        assert!(anew.0.taken > known.0.taken && known.0.steps.count() > 100, "{}", known.0.taken);
        assert_eq!(anew.0.cores.keys().collect::<Vec<_>>(), known.0.cores.keys().collect::<Vec<_>>());
        assert!(anew.0.steps.iter().map(|(step, _)| step).eq(known.0.steps.iter().map(|(step, _)| step)));
        for core in (0..).take(known.0.cores()) {
            let held = |system: &LocalSystem| {
                (0..system.cells.count()).map(|cell| system.held(core, cell)).collect::<Vec<_>>()
            };
            assert_eq!(held(&anew.0), held(&known.0));
        }
        for condition in [FRAME, ANY_V, SERVICES] {
            let checked = |of: &Conditions| of.counts.get(condition).map(|&(checked, _)| checked);
            assert!(checked(&anew.1) >= checked(&known.1), "{condition}");
        }
    }
}

/// Each step is taken on two states that differ wherever they can.
#[test]
fn two_states_of_a_core_differ_in_every_cell_that_can_hold_two_things() {
    let (world, available) = explored(None);
    let whole = walk(&world, ReplicaId(1), &available, &mut Conditions::default(), &mut |_| None);
    let system = whole.expect("nothing fails").system;
    let (mut differ, mut services) = (0, 0);
    for core in (0..).take(system.cores()) {
        let scratch = system.scratch(core);
        for cell in (0..system.cells.count()).filter(|&cell| system.held(core, cell).count_ones() > 1) {
            assert_ne!(scratch.one.holds(cell), scratch.other.holds(cell), "{core}: {cell}");
            differ += 1;
        }
        services += usize::from(scratch.one.kept != scratch.other.kept);
    }
    assert!(differ > 100, "{differ}");
    assert_eq!(services, system.cores(), "what serves timers differs too");
}
