//! Worlds in which the clients are production's too: requests, retransmissions and replies are events.

use pbft::message::Message;
use pbft::types::{Cluster, ReplicaId, SeqNo, View};
use pbft_models::crypto::Symbolic;
use pbft_models::engine::{Exploration, Judgement, Limits, Outcome, Space, Successors, Unlearnt, explore};
use pbft_models::mutants::{Mutant, Rulebook};
use pbft_models::world::{Clients, Delivery, Recent, State, World, WorldConfig};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// Four replicas, and as many sequence numbers as there are clients.
fn config(byzantine: &[u16], clients: u32, rules: Rulebook) -> WorldConfig {
    WorldConfig {
        byzantine: byzantine.iter().copied().map(ReplicaId).collect(),
        max_seq: SeqNo(u64::from(clients)),
        clients: Clients::Actors,
        rules,
        ..WorldConfig::new(Cluster::new(4, 1), clients)
    }
}

fn explored(config: WorldConfig, delivery: Delivery) -> (World, Exploration) {
    let mut world = World::new(config, delivery).expect("these bounds make sense");
    let found = explore(&mut world, Limits::default(), &mut |_| true);
    (world, found)
}

/// Two clients and two sequence numbers: every property holds, everything that should happen can happen, and
/// what lazy delivery relies on holds at replicas and clients.
fn holds(byzantine: &[u16], states: u64) {
    let (mut world, found) = explored(config(byzantine, 2, Rulebook::default()), Delivery::Lazy);
    assert_eq!(found.outcome, Outcome::Exhausted, "{byzantine:?}");
    let conditions = world.check_conditions(&mut |_| None);
    assert_eq!(conditions.failed(), 0, "{byzantine:?}: {:?}", conditions.first);
    assert!(conditions.checked() > 10_000, "{byzantine:?}");
    let happened = world.witnesses();
    assert!(happened.accepted && happened.all_accepted && happened.complete, "{byzantine:?}: {happened:?}");
    // With a Byzantine replica about, a request reaches everybody the first time.
    assert_eq!(happened.retransmitted, byzantine.is_empty(), "{byzantine:?}");
    // A changed count is a result: explain it where it changes.
    assert_eq!(found.states, states, "{byzantine:?}");
}

#[test]
fn two_clients_are_served_while_nobody_is_byzantine() {
    holds(&[], 138_124);
}

#[test]
fn two_clients_accept_true_results_only_whatever_a_byzantine_primary_does() {
    holds(&[0], 33_661);
}

#[test]
fn two_clients_accept_true_results_only_whatever_a_byzantine_backup_does() {
    holds(&[3], 6_097);
    // Backups are interchangeable in one view.
    for backup in [1, 2] {
        let (_, found) = explored(config(&[backup], 2, Rulebook::default()), Delivery::Lazy);
        assert_eq!((found.outcome, found.states), (Outcome::Exhausted, 6_097), "r{backup}");
    }
}

/// What the replicas and clients can have done together.
fn histories(world: &World) -> BTreeSet<String> {
    world.all_histories().map(|histories| format!("{histories:?}")).collect()
}

#[test]
fn lazy_delivery_shows_the_same_histories_as_delivery_one_by_one() {
    for byzantine in [&[][..], &[0]] {
        let [one, lazy] = [Delivery::One, Delivery::Lazy].map(|delivery| {
            let (world, found) = explored(config(byzantine, 1, Rulebook::default()), delivery);
            assert_eq!(found.outcome, Outcome::Exhausted);
            histories(&world)
        });
        assert!(one.len() > 30, "{byzantine:?}: {}", one.len());
        assert_eq!(one, lazy, "{byzantine:?}");
    }
}

#[test]
fn what_the_conditions_are_checked_on_includes_the_clients() {
    // Without replicas to speak of: one, which executes at once. Left are the client's time-out and its one
    // reply.
    let alone = WorldConfig { cluster: Cluster::new(1, 0), ..config(&[], 1, Rulebook::default()) };
    let (mut world, found) = explored(alone, Delivery::Lazy);
    assert_eq!(found.outcome, Outcome::Exhausted);
    let redelivered = |world: &mut World| world.check_conditions(&mut |_| None).counts["redelivery"].0;
    let with_client = redelivered(&mut world);
    let known = WorldConfig { clients: Clients::Implicit, ..world.config().clone() };
    let (mut world, _) = explored(known, Delivery::Lazy);
    assert!(with_client > redelivered(&mut world));
}

#[test]
fn each_rule_of_clients_and_requests_has_a_schedule_that_shows_why() {
    for (mutant, byzantine, property) in [
        (Mutant::OneReply, &[3][..], "replies-never-conflict"),
        (Mutant::AnyReply, &[], "replies-never-conflict"),
        (Mutant::AnyReply, &[3], "replies-never-conflict"),
        (Mutant::ExecuteAgain, &[0], "at-most-once"),
        // A read-only copy of a request, made up under its timestamp, is answered at once.
        (Mutant::ForgedRequest, &[3], "replies-never-conflict"),
    ] {
        let (mut world, found) = explored(config(byzantine, 2, Rulebook::without(mutant)), Delivery::Lazy);
        let Outcome::Violated { what, path } = found.outcome else { panic!("{mutant:?} survives") };
        println!("{}: {what}", mutant.id());
        path.windows(2).for_each(|step| println!("  {}", world.describe(&step[0], &step[1])));
        assert!(what.starts_with(property), "{mutant:?}: {what}");
    }
}

/// A world that counts the states of interest that the exploration comes by.
struct Watched {
    world: World,
    retransmission_alone: AtomicU64,
    relay_alone: AtomicU64,
}

impl Watched {
    /// A request that only the primary of view 1 has proposed, and which was executed. How did it get there?
    /// The client sends to the primary of view 0 first, and the only other ways are its sending to all, and a
    /// relay.
    fn look(&self, state: &State) {
        let histories = self.world.histories(state);
        if histories.iter().all(|history| history.executions().count() == 0) {
            return;
        }
        let tables = self.world.tables();
        let sent = |found: fn(&Message<Symbolic>) -> bool| {
            let agents =
                (0..histories.len()).map(|position| self.world.agents(position).agent(state[position]));
            let mut sent = agents.flat_map(|agent| agent.sent.iter());
            sent.any(|&id| found(tables.message(id)))
        };
        if sent(|message| matches!(message, Message::PrePrepare(m, _) if m.content.view == View(0))) {
            return;
        }
        let relayed = sent(|message| matches!(message, Message::Request(_)));
        match (self.world.clients(state)[0].retransmitted, relayed) {
            (true, false) => self.retransmission_alone.fetch_add(1, Ordering::Relaxed),
            (false, true) => self.relay_alone.fetch_add(1, Ordering::Relaxed),
            (false, false) => panic!("a request has reached whom nobody sent it"),
            (true, true) => 0,
        };
    }
}

impl Space for Watched {
    type Scratch = Recent;

    fn width(&self) -> usize {
        self.world.width()
    }

    fn initial(&mut self) -> Vec<Vec<u32>> {
        self.world.initial()
    }

    fn expand(
        &self,
        depth: usize,
        state: &[u32],
        recent: &mut Recent,
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt> {
        let judgement = self.world.expand(depth, state, recent, successors)?;
        self.look(state);
        Ok(judgement)
    }

    fn learn(&mut self, depth: usize, state: &[u32]) {
        self.world.learn(depth, state);
    }

    fn complaint(&self, state: &[u32]) -> String {
        self.world.complaint(state)
    }
}

/// In how many states of a world with a view change a request has executed that was never proposed in view 0:
/// where only a retransmission can have brought it to the new primary, and where only a relay can have.
fn ways_to_the_next_primary(rules: Rulebook) -> (u64, u64) {
    let config = WorldConfig { cluster: Cluster::new(3, 0), max_view: View(1), ..config(&[], 1, rules) };
    let world = World::new(config, Delivery::Lazy).expect("these bounds make sense");
    let mut watched =
        Watched { world, retransmission_alone: AtomicU64::new(0), relay_alone: AtomicU64::new(0) };
    let found = explore(&mut watched, Limits::default(), &mut |_| true);
    assert_eq!(found.outcome, Outcome::Exhausted);
    let conditions = watched.world.check_conditions(&mut |_| None);
    assert_eq!(conditions.failed(), 0, "{:?}", conditions.first);
    (watched.retransmission_alone.into_inner(), watched.relay_alone.into_inner())
}

#[test]
fn a_request_gets_past_a_silent_primary_by_retransmission_and_by_relay() {
    let (by_retransmission, by_relay) = ways_to_the_next_primary(Rulebook::default());
    assert!(by_retransmission > 0 && by_relay > 0, "{by_retransmission} {by_relay}");
    let (by_retransmission, by_relay) = ways_to_the_next_primary(Rulebook::without(Mutant::PrimaryOnly));
    assert!(by_retransmission == 0 && by_relay > 0, "{by_retransmission} {by_relay}");
}
