//! NEW-VIEWs that differ in `V` alone: whatever `V` it is, a receiver does the same.
//!
//! Explorations know one NEW-VIEW for each view, signer, min-s and `O`. That is enough if a receiver takes
//! nothing else from `V`: not how many VIEW-CHANGEs there are, from whom, in which order, nor what else they
//! say. For each NEW-VIEW that can reach a replica others are made, of all VIEW-CHANGEs that can reach it, in
//! each size that its validator accepts: among them are, for each min-s and `O`, every set of senders, every
//! VIEW-CHANGE, every choice of those senders whose P is empty and of those who have a stable checkpoint; and
//! of one list the order turned round and turned on.
//!
//! It is noted whether a step looks at `V` otherwise than for what `V` determines, min-s with its proof and `O`
//! ([`ViewChangeSet`](pbft::replica::ViewChangeSet)). One that does not does the same for each `V` that determines the
//! same; one that does, or of a `V` that determines something else, is taken with the others too. Whether the step is one
//! of the abstract protocol is judged with the `V` in hand, so at each core a step that enters a view is taken and judged
//! with each of the others once. Once is enough: what the judge makes of `V` depends on `V`, on what the replica has sent
//! before and on the batches it has, all of which are part of the core, and leaves the same ledger, on which the rest of
//! the step is judged. That one step would also show what else could differ, the signature over the whole NEW-VIEW, of
//! which no look is noted.

use crate::crypto::Symbolic;
use crate::world::{MessageId, Modelled, Tables};
use pbft::crypto::Signed;
use pbft::message::{Message, NewView, ViewChange};
use pbft::replica::verify::verify;
use pbft::replica::{Event, Setup, compute_o};
use pbft::types::{Digest, Principal, ReplicaId, SeqNo, View};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type SignedViewChange = Arc<Signed<ViewChange<Symbolic>, Symbolic>>;

/// min-s with the state there, and `O`.
type Outcome = (Option<(SeqNo, Digest)>, Vec<(SeqNo, Digest)>);

/// VIEW-CHANGEs for one view, by their senders.
type Pool = BTreeMap<ReplicaId, Vec<SignedViewChange>>;

/// An event that differs from a NEW-VIEW in what a replica is not to heed.
pub(super) struct Other {
    pub(super) event: Event<Symbolic>,
    /// Whether its `V` determines exactly what that of the other one does.
    pub(super) determines_the_same: bool,
}

/// The events that differ from a NEW-VIEW in `V` alone; none for other messages.
pub(super) type Others = Arc<[Other]>;

/// For each of these messages, all of which the validator of `replica` accepts, what differs from it in `V`
/// alone.
pub(super) fn others(tables: &Tables, replica: ReplicaId, messages: &[MessageId]) -> Vec<Others> {
    let setup = tables.setup(replica);
    let view_changes = messages.iter().filter_map(|&id| match tables.message(id) {
        Message::ViewChange(m) => Some(m),
        _ => None,
    });
    let mut pools: BTreeMap<View, Pool> = BTreeMap::new();
    for m in view_changes {
        let pool = pools.entry(m.content.view).or_default();
        pool.entry(m.content.replica).or_default().push(m.clone());
    }
    let known: BTreeMap<View, ByOutcome> =
        pools.iter().map(|(&view, pool)| (view, ByOutcome::of(setup, pool))).collect();
    let others = |&id: &MessageId| -> Others {
        let Message::NewView(m) = tables.message(id) else { return Arc::new([]) };
        let Principal::Replica(signer) = m.signer else { return Arc::new([]) };
        let outcome = outcome(setup, &m.content.view_changes);
        let all = known.get(&m.content.view).and_then(|known| known.chosen.get(&outcome));
        let all = all.into_iter().flatten().filter(|v| **v != *m.content.view_changes);
        let plan = m.content.view_changes.plan(&setup.rules);
        let other = |v: &Vec<SignedViewChange>| {
            let content = NewView { view_changes: v.clone().into(), ..m.content.clone() };
            let message = Message::NewView(Arc::new(tables.setup(signer).sign(content)));
            let event = verify(setup, message).ok().map(Event::Message)?;
            Some(Other { event, determines_the_same: compute_o(v, &setup.rules) == plan })
        };
        all.filter_map(other).collect()
    };
    messages.iter().map(others).collect()
}

/// A list turned round, and turned on: neither ascending nor descending.
fn orders(list: &[SignedViewChange]) -> [Vec<SignedViewChange>; 2] {
    let round = list.iter().rev().cloned().collect();
    let mut on = list.to_vec();
    on.rotate_left(1);
    [round, on]
}

fn outcome(setup: &Setup<Modelled>, view_changes: &[SignedViewChange]) -> Outcome {
    let plan = compute_o(view_changes, &setup.rules);
    (plan.stable.map(|stable| (stable.n, stable.digest)), plan.entries)
}

/// What sets one `V` apart from another with the same outcome.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
enum Trait {
    /// The senders of its VIEW-CHANGEs.
    Senders(Vec<ReplicaId>),
    /// One of them, by its sender and its place in the pool.
    Says(ReplicaId, usize),
    /// For each of them whether it reports anything prepared, and a stable checkpoint.
    Shape(Vec<(ReplicaId, bool, bool)>),
}

/// For each outcome some `V` that have every trait between them.
#[derive(Default)]
struct ByOutcome {
    chosen: BTreeMap<Outcome, Vec<Vec<SignedViewChange>>>,
    covered: BTreeMap<Outcome, BTreeSet<Trait>>,
}

impl ByOutcome {
    fn of(setup: &Setup<Modelled>, pool: &Pool) -> Self {
        let mut all = ByOutcome::default();
        let pool: Vec<(ReplicaId, &[SignedViewChange])> =
            pool.iter().map(|(&id, all)| (id, &all[..])).collect();
        // Those first that have much in one, so that there are few.
        for new_traits in [4, 3, 2, 1] {
            for size in setup.cluster.quorum()..=setup.cluster.n() {
                all.choose(setup, &pool, size, new_traits, &mut Vec::new());
            }
        }
        for list in all.chosen.values_mut() {
            let orders = list.first().map(|first| orders(first));
            list.extend(orders.into_iter().flatten());
        }
        all
    }

    fn choose(
        &mut self,
        setup: &Setup<Modelled>,
        senders: &[(ReplicaId, &[SignedViewChange])],
        more: usize,
        new_traits: usize,
        chosen: &mut Vec<(usize, SignedViewChange)>,
    ) {
        if more == 0 {
            return self.note(setup, new_traits, chosen);
        }
        let Some((&(_, all), rest)) = senders.split_first() else { return };
        if senders.len() > more {
            self.choose(setup, rest, more, new_traits, chosen);
        }
        for (place, m) in all.iter().enumerate() {
            chosen.push((place, m.clone()));
            self.choose(setup, rest, more - 1, new_traits, chosen);
            chosen.pop();
        }
    }

    fn note(&mut self, setup: &Setup<Modelled>, new_traits: usize, chosen: &[(usize, SignedViewChange)]) {
        let view_changes: Vec<SignedViewChange> = chosen.iter().map(|(_, m)| m.clone()).collect();
        let outcome = outcome(setup, &view_changes);
        let covered = self.covered.entry(outcome.clone()).or_default();
        let says = chosen.iter().map(|(place, m)| Trait::Says(m.content.replica, *place));
        let senders = Trait::Senders(view_changes.iter().map(|m| m.content.replica).collect());
        let shape = view_changes
            .iter()
            .map(|m| (m.content.replica, !m.content.prepared.is_empty(), m.content.stable.is_some()));
        let shape = Trait::Shape(shape.collect());
        let new: Vec<Trait> = says.chain([senders, shape]).filter(|one| !covered.contains(one)).collect();
        if new.len() >= new_traits {
            covered.extend(new);
            self.chosen.entry(outcome).or_default().push(view_changes);
        }
    }
}
