//! A checkpoint is the state after the agreed batches.

use crate::base::States;
use crate::checkpoints_agree::checkpoints;
use crate::{Property, Snapshot, Violation};
use pbft::service::Service;
use pbft::types::SeqNo;
use std::collections::BTreeMap;

/// The digest of a checkpoint that a correct replica takes, knows to be stable, or fetches the state of, and
/// that of the state with which its history begins, is that of the service and the client table after the
/// agreed batches up to it.
///
/// The state is computed here: the service runs, from its initial state or from one with which a history
/// begins, the batches of the
/// [`Catalogue`](crate::Catalogue) that the executed digests name, and the client table is written down anew
/// in the form in which it is transferred, whatever rules the replicas follow. Only how chunks become a tree
/// of blocks is the replica's own code. From each beginning states are known up to the first sequence
/// number that no correct replica executed, and no further.
///
/// Source: OSDI'99 §4.3: a checkpoint has the digest of the state after the last request whose execution it
/// reflects; §4.1: the last reply to each client is part of the state.
pub struct CheckpointIsState;

const NAME: &str = "checkpoint-is-state";

impl<S: Service> Property<S> for CheckpointIsState {
    const NAME: &'static str = NAME;
    const SOURCE: &'static str = "OSDI'99 §4.3";
    const THEOREM: &'static str = "The digest of a checkpoint that a correct replica takes, knows to be stable or \
                                   fetches is that of the service and the last reply to each client after the \
                                   agreed batches up to it.";

    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation> {
        let mut known: BTreeMap<SeqNo, Vec<_>> = BTreeMap::new();
        for (&replica, history) in snapshot.replicas {
            for (n, digest, how) in checkpoints(history) {
                known.entry(n).or_default().push((replica, digest, how));
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        let (mut states, mut previous) = (States::of(snapshot), None);
        while let Some((n, state)) = states.next()
            && known.range(n..).next().is_some()
        {
            let Some(reported) = known.get(&n) else { continue };
            let tree = snapshot.catalogue.tree(&state.chunks(), previous.as_ref());
            let expected = tree.root();
            if let Some((replica, digest, how)) = reported.iter().find(|(_, d, _)| *d != expected) {
                let what = format!(
                    "the state after n = {} is {expected:?} by what was agreed, and {digest:?} {how} at replica {}",
                    n.0, replica.0
                );
                return Err(Violation { property: NAME, what });
            }
            previous = Some(tree);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{World, bytes, executed, overlong, run, stable, transferred};
    use crate::state::State;
    use pbft::crypto::ed25519::Ed25519;
    use pbft::kv::{KeyValue, Operation};
    use pbft::parameters::MAX_RESULT_BYTES;
    use pbft::replica::blocks::Tree;
    use pbft::replica::{ExecutedRequest, Fact};
    use pbft::types::{Bytes, ClientId, Digest, Timestamp};
    use std::slice::from_ref;

    fn put(value: &str) -> Bytes {
        Operation::Put { key: bytes("k"), value: bytes(value) }.to_bytes()
    }

    /// The digest of a service together with this client table.
    fn root(service: &KeyValue, clients: &[(u32, u64, &Bytes)]) -> Digest {
        let clients = clients.iter().map(|&(c, t, result)| (ClientId(c), (Timestamp(t), result.clone())));
        let state = State { service: service.clone(), clients: clients.collect() };
        Tree::build::<Ed25519>(&state.chunks(), None).root()
    }

    fn taken(n: u64, digest: Digest) -> Fact {
        Fact::CheckpointTaken { n: SeqNo(n), digest }
    }

    /// Two batches: a request of client 0, then the same and one of client 1. And the states after each of
    /// them.
    fn two_batches() -> (World, [Fact; 2], [Digest; 2]) {
        let mut service = KeyValue::default();
        let a = run(&mut service, 0, 1, put("a"));
        let first = root(&service, &[(0, 1, &a.result)]);
        let b = run(&mut service, 1, 1, put("b"));
        let second = root(&service, &[(0, 1, &a.result), (1, 1, &b.result)]);
        let world = World::new().proposed(1, from_ref(&a)).proposed(2, &[a.clone(), b.clone()]);
        (world, [executed(1, 1, &[a]), executed(2, 2, &[b])], [first, second])
    }

    #[test]
    fn the_states_after_the_agreed_batches_are_what_checkpoints_name() {
        let (world, facts, [first, second]) = two_batches();
        assert_ne!(first, second);
        let stable = Fact::CheckpointStable { n: SeqNo(2), digest: second };
        let fetched = Fact::StateTransferred { n: SeqNo(2), digest: second };
        world
            .with_all(0, &[facts[0].clone(), taken(1, first), facts[1].clone(), taken(2, second)])
            .with_all(1, &[stable, fetched])
            .satisfies::<CheckpointIsState>();
    }

    #[test]
    fn another_state_is_a_violation_whether_taken_stable_or_fetched() {
        let (_, _, [first, second]) = two_batches();
        let wrong = |how: &str, replica: u16| {
            format!(
                "the state after n = 2 is {second:?} by what was agreed, and {first:?} {how} at replica {replica}"
            )
        };
        let (stable, fetched) = (
            Fact::CheckpointStable { n: SeqNo(2), digest: first },
            Fact::StateTransferred { n: SeqNo(2), digest: first },
        );
        for (fact, how) in [(taken(2, first), "taken"), (stable, "stable"), (fetched, "fetched")] {
            let (world, facts, _) = two_batches();
            let world = world.with_all(0, &facts).with(2, fact);
            world.violates::<CheckpointIsState>(&wrong(how, 2));
        }
    }

    #[test]
    fn a_checkpoint_without_the_client_table_or_with_another_one_is_a_violation() {
        let (_, facts, [first, _]) = two_batches();
        let mut service = KeyValue::default();
        let a = run(&mut service, 0, 1, put("a"));
        let bare = Tree::build::<Ed25519>(&service.snapshot(), None).root();
        let mut later = service.clone();
        let other = run(&mut later, 0, 1, put("b")).result;
        assert_ne!(other, a.result);
        for wrong in [
            bare,
            root(&service, &[]),
            root(&service, &[(0, 2, &a.result)]),
            root(&service, &[(1, 1, &a.result)]),
            root(&service, &[(0, 1, &other)]),
            root(&later, &[(0, 1, &a.result)]),
        ] {
            let (world, ..) = two_batches();
            world.with_all(0, &[facts[0].clone(), taken(1, wrong)]).violates::<CheckpointIsState>(&format!(
                "the state after n = 1 is {first:?} by what was agreed, and {wrong:?} taken at replica 0"
            ));
        }
    }

    #[test]
    fn the_state_is_that_of_the_batches_and_not_of_what_a_replica_says_it_ran() {
        let (world, facts, [first, second]) = two_batches();
        // Half of batch 2 leaves the state as it was.
        let half = executed(2, 2, &[]);
        world.with_all(0, &[facts[0].clone(), half, taken(2, first)]).violates::<CheckpointIsState>(
            &format!(
                "the state after n = 2 is {second:?} by what was agreed, and {first:?} taken at replica 0"
            ),
        );
    }

    #[test]
    fn a_result_is_in_the_client_table_as_cut_off_at_its_bound() {
        let genesis = overlong("k");
        let mut service = genesis.clone();
        let full = run(&mut service, 0, 1, put("short"));
        assert!(full.result.len() > MAX_RESULT_BYTES);
        let cut = Bytes::from(&full.result[..MAX_RESULT_BYTES]);
        let (right, wrong) = (root(&service, &[(0, 1, &cut)]), root(&service, &[(0, 1, &full.result)]));
        let ran: [ExecutedRequest; 1] = [full];
        let world = || World::from(genesis.clone()).proposed(1, &ran).with(0, executed(1, 1, &ran));
        world().with(0, taken(1, right)).satisfies::<CheckpointIsState>();
        let wrong = world().with(0, taken(1, wrong));
        assert!(<CheckpointIsState as Property<KeyValue>>::check(&wrong.snapshot()).is_err());
    }

    #[test]
    fn states_beyond_what_correct_replicas_executed_are_not_judged() {
        let (world, facts, _) = two_batches();
        world
            .with_all(0, &[facts[0].clone(), stable(3, 9)])
            .with_all(1, &[transferred(3, 9), executed(4, 2, &[]), taken(4, Digest([8; 32]))])
            .satisfies::<CheckpointIsState>();
    }

    #[test]
    fn the_initial_state_is_judged_too() {
        let genesis = root(&KeyValue::default(), &[]);
        World::new().with(0, taken(0, genesis)).satisfies::<CheckpointIsState>();
        World::new().with(3, stable(0, 9)).violates::<CheckpointIsState>(&format!(
            "the state after n = 0 is {genesis:?} by what was agreed, and 09090909 stable at replica 3"
        ));
    }
}
