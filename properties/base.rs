//! From where a history is known that is not known from the beginning.

use crate::Snapshot;
use crate::agreed::executions;
use crate::catalogue::Ordered;
use crate::state::State;
use pbft::replica::{Bundle, Replica, Setup};
use pbft::service::Service;
use pbft::types::{Bytes, ClientId, Digest, SeqNo, Timestamp, View};
use serde::Serialize;
use std::collections::BTreeMap;

/// The last request executed for each client, and its result.
pub(crate) type Table = BTreeMap<ClientId, (Timestamp, Bytes)>;

/// What a correct replica was when its history begins: after so many batches, in this view.
///
/// What it did before is not judged. What it does next is judged by this state, and this state by those of
/// others: its digest counts as that of a checkpoint.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Base {
    /// The last batch executed.
    pub n: SeqNo,
    /// The digest of the state after it.
    pub digest: Digest,
    /// The view last entered.
    pub view: View,
    /// The view of the VIEW-CHANGE sent since, if any.
    pub leaving: Option<View>,
    /// The last checkpoint known to be stable, if any.
    pub stable: Option<(SeqNo, Digest)>,
    /// The service's chunks and, last, the client table.
    #[serde(skip)]
    pub(crate) chunks: Vec<Bytes>,
}

impl Base {
    /// What the replica is now.
    pub fn of<B: Bundle>(setup: &Setup<B>, replica: &Replica<B>) -> Self {
        let state = replica.state(setup);
        Base {
            n: state.n,
            digest: state.tree.root(),
            view: replica.view(),
            leaving: replica.leaving(),
            stable: replica.durable().stable.as_ref().map(|certificate| (certificate.n, certificate.digest)),
            chunks: state.tree.chunks(),
        }
    }

    /// Who was answered what last. Nobody, if there is no table that can be read.
    pub(crate) fn table(&self) -> Table {
        let table = self.chunks.last().and_then(|bytes| postcard::from_bytes(bytes).ok());
        table.unwrap_or_default()
    }

    fn state<S: Service>(&self) -> Option<State<S>> {
        let (_, service) = self.chunks.split_last()?;
        Some(State { service: S::restore(service).ok()?, clients: self.table() })
    }
}

/// The states from which what follows is known: the initial one, and where histories begin.
pub(crate) struct Beginnings<'a, S: Service> {
    genesis: &'a S,
    bases: BTreeMap<SeqNo, &'a Base>,
}

impl<'a, S: Service> Beginnings<'a, S> {
    pub(crate) fn of(snapshot: &Snapshot<'a, S>) -> Self {
        let bases = snapshot.replicas.values().filter_map(|history| history.base.as_deref());
        Beginnings { genesis: snapshot.genesis, bases: bases.map(|base| (base.n, base)).collect() }
    }

    /// The state after `n`, if that is one of them.
    pub(crate) fn at(&self, n: SeqNo) -> Option<State<S>> {
        match self.bases.get(&n) {
            Some(base) => base.state(),
            None if n == SeqNo(0) => Some(State { service: self.genesis.clone(), clients: Table::new() }),
            None => None,
        }
    }

    fn next_after(&self, n: SeqNo) -> Option<(SeqNo, State<S>)> {
        self.bases.range(n.next()..).find_map(|(&n, base)| Some((n, base.state()?)))
    }
}

/// The states after the agreed batches, one after the other, as far as they are known: from each beginning up
/// to the first sequence number that no correct replica executed.
pub(crate) struct States<'a, S: Service> {
    beginnings: Beginnings<'a, S>,
    /// What runs at each sequence number. What names no batch breaks `ExecutesAgreedBatch` instead.
    batches: BTreeMap<SeqNo, &'a [Ordered]>,
    now: Option<(SeqNo, State<S>)>,
}

impl<'a, S: Service> States<'a, S> {
    pub(crate) fn of(snapshot: &Snapshot<'a, S>) -> Self {
        let batch = |(n, replicas): (SeqNo, Vec<(_, &crate::Execution)>)| {
            let (_, execution) = replicas.first()?;
            Some((n, snapshot.catalogue.batch(execution.digest).ok()?))
        };
        let batches = executions(snapshot).into_iter().filter_map(batch).collect();
        States { beginnings: Beginnings::of(snapshot), batches, now: None }
    }

    /// The next state that is known, and the last batch in it.
    pub(crate) fn next(&mut self) -> Option<(SeqNo, &State<S>)> {
        self.now = match self.now.take() {
            None => self.beginnings.at(SeqNo(0)).map(|state| (SeqNo(0), state)),
            Some((n, mut state)) => match self.batches.get(&n.next()) {
                Some(batch) => {
                    state.run(batch);
                    Some((n.next(), state))
                }
                None => self.beginnings.next_after(n),
            },
        };
        self.now.as_ref().map(|(n, state)| (*n, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, bytes, digest, entered, executed, pre_prepared, request, run, stable};
    use crate::{
        AtMostOnce, CheckpointIsState, CheckpointsAgree, ExecutesAgreedBatch, RepliesNeverConflict, Validity,
        ViewMonotonic, Watermarks,
    };
    use pbft::crypto::ed25519::Ed25519;
    use pbft::kv::{KeyValue, Operation};
    use pbft::replica::blocks::Tree;
    use pbft::replica::{ExecutedRequest, Fact};

    fn put(value: &str) -> Bytes {
        Operation::Put { key: bytes("k"), value: bytes(value) }.to_bytes()
    }

    /// A beginning after `n` batches, the last at a stable checkpoint, with this service and these replies.
    fn base(n: u64, service: &KeyValue, replies: &[&ExecutedRequest]) -> Base {
        let clients = replies.iter().map(|r| (r.client, (r.timestamp, r.result.clone()))).collect();
        let chunks = State { service: service.clone(), clients }.chunks();
        let digest = Tree::build::<Ed25519>(&chunks, None).root();
        let stable = Some((SeqNo(n), digest));
        Base { n: SeqNo(n), digest, view: View(3), leaving: None, stable, chunks }
    }

    /// Batches 5 and 6, each a write of client 0, as the service runs them after the state at 4, in which its
    /// request 1 was the last.
    fn two_batches() -> (World, Base, [ExecutedRequest; 3], [Digest; 2]) {
        let mut service = KeyValue::default();
        let before = run(&mut service, 0, 1, put("a"));
        let at_4 = base(4, &service, &[&before]);
        let five = run(&mut service, 0, 2, put("b"));
        let at_5 = base(5, &service, &[&five]).digest;
        let six = run(&mut service, 0, 3, put("c"));
        let at_6 = base(6, &service, &[&six]).digest;
        let world = World::new()
            .proposed(5, &[before.clone(), five.clone()])
            .proposed(6, std::slice::from_ref(&six))
            .issued(&five)
            .issued(&six);
        (world, at_4, [before, five, six], [at_5, at_6])
    }

    fn taken(n: u64, digest: Digest) -> Fact {
        Fact::CheckpointTaken { n: SeqNo(n), digest }
    }

    #[test]
    fn what_follows_from_a_beginning_satisfies_every_property() {
        let (world, at_4, [_, five, six], [at_5, at_6]) = two_batches();
        let facts = [executed(5, 5, &[five]), taken(5, at_5), executed(6, 6, &[six]), taken(6, at_6)];
        let world = world.since(0, at_4.clone()).with_all(0, &facts).since(1, at_4).with_all(1, &facts[..2]);
        assert_eq!(crate::check_all(&world.snapshot()), Ok(()));
    }

    #[test]
    fn the_states_after_a_beginning_and_the_beginning_itself_are_judged() {
        let (world, at_4, [_, five, _], [at_5, at_6]) = two_batches();
        let facts = [executed(5, 5, &[five]), taken(5, at_6)];
        world.since(0, at_4.clone()).with_all(0, &facts).violates::<CheckpointIsState>(&format!(
            "the state after n = 5 is {at_5:?} by what was agreed, and {at_6:?} taken at replica 0"
        ));
        // Another replica's history leads to the state with which this one's begins, or to another.
        let (world, _, [_, five, _], _) = two_batches();
        let other = base(5, &KeyValue::default(), &[]);
        let what = format!(
            "the state after n = 5 is {at_5:?} by what was agreed, and {:?} stable at replica 1",
            other.digest
        );
        let facts = [executed(5, 5, &[five])];
        let world = world.since(0, at_4).with_all(0, &facts).since(1, other);
        world.violates::<CheckpointIsState>(&what);
        let (at_4, other) = (base(4, &KeyValue::default(), &[]), digest(9));
        World::new().with(0, stable(4, 9)).since(2, at_4.clone()).violates::<CheckpointsAgree>(&format!(
            "the state after n = 4 is {other:?}, stable at replica 0, and {:?}, stable at replica 2",
            at_4.digest
        ));
    }

    #[test]
    fn a_request_that_executed_before_the_beginning_does_not_execute_again() {
        let (world, at_4, [before, ..], _) = two_batches();
        world
            .since(0, at_4.clone())
            .with(0, executed(5, 5, std::slice::from_ref(&before)))
            .violates::<AtMostOnce>(
                "replica 0 executed request 1 of client 0 at n = 5, after its request 1 at n = 4",
            );
        let (world, _, [_, five, _], _) = two_batches();
        let twice = executed(5, 5, &[before, five]);
        let world = world.since(0, at_4).with(0, twice);
        assert!(<ExecutesAgreedBatch as crate::Property<KeyValue>>::check(&world.snapshot()).is_err());
    }

    #[test]
    fn a_request_left_out_after_a_beginning_and_a_gap_and_a_wrong_result_are_violations() {
        let (world, at_4, [_, five, six], _) = two_batches();
        let world = world.since(0, at_4.clone()).with(0, executed(5, 5, &[]));
        assert!(<ExecutesAgreedBatch as crate::Property<KeyValue>>::check(&world.snapshot()).is_err());
        let (world, ..) = two_batches();
        world
            .since(0, at_4.clone())
            .with(0, executed(6, 6, &[six]))
            .violates::<Validity>("replica 0 executed n = 6, with the state after n = 4");
        // A write answers with the value before.
        let wrong = run(&mut KeyValue::default(), 0, 2, put("b"));
        assert_ne!(wrong.result, five.result);
        let world = World::new().issued(&wrong).since(0, at_4).with(0, executed(5, 5, &[wrong]));
        assert!(<Validity as crate::Property<KeyValue>>::check(&world.snapshot()).is_err());
    }

    #[test]
    fn a_result_may_be_older_than_a_beginning_but_never_contradicts_its_table() {
        let table = request(0, 5, "a", "x");
        let world = || World::new().since(0, base(4, &KeyValue::default(), &[&table]));
        world().accepted(0, 4, "y", false).satisfies::<RepliesNeverConflict>();
        world().accepted(0, 5, "x", false).satisfies::<RepliesNeverConflict>();
        world().accepted(0, 5, "y", false).violates::<RepliesNeverConflict>(
            "client 0 accepted \"y\" for its request 5, which replica 0 executed with \"x\"",
        );
        world().accepted(0, 6, "x", false).violates::<RepliesNeverConflict>(
            "client 0 accepted \"x\" for its request 6, which no correct replica executed",
        );
    }

    #[test]
    fn views_and_the_window_go_on_from_those_of_the_beginning() {
        let at_4 = || base(4, &KeyValue::default(), &[]);
        World::new().since(0, at_4()).with(0, entered(4, &[])).satisfies::<ViewMonotonic>();
        World::new()
            .since(0, at_4())
            .with(0, entered(3, &[]))
            .violates::<ViewMonotonic>("replica 0 entered view 3 in view 3");
        let leaving = Base { leaving: Some(View(6)), ..at_4() };
        World::new()
            .since(0, leaving)
            .with(0, entered(5, &[]))
            .violates::<ViewMonotonic>("replica 0 entered view 5 after leaving for view 6");
        World::new().since(0, at_4()).with(0, pre_prepared(3, 5, 1)).satisfies::<Watermarks>();
        World::new()
            .since(0, at_4())
            .with(0, pre_prepared(3, 4, 1))
            .violates::<Watermarks>("replica 0 voted in view 3 at n = 4, with h = 4");
    }
}
