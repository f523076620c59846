//! What learning will need of the adversary, worked out before by all threads.
//!
//! Learning gives names, so one thread does it, in order. What the adversary can prove, and what it makes of that,
//! has no names in it and depends on nothing but what was sent: so it can be worked out before, by whichever thread,
//! and learning finds it here. Whether it does changes nothing but the time it takes.

use super::network::{KnowledgeId, NOTHING, Network, Parts, SubjectNumber, needs_knowledge};
use super::tables::{MessageId, Tables};
use crate::adversary::Known;
use crate::crypto::Symbolic;
use foldhash::fast::FixedState;
use indexmap::IndexMap;
use pbft::message::Message;
use std::collections::BTreeSet;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What is worked out once, by the first thread that asks; others wait for it.
type Once<T> = Arc<OnceLock<T>>;
type Held<K, V> = Mutex<IndexMap<K, V, FixedState>>;

/// What an adversary can prove.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Proves {
    /// What has this name.
    Named(KnowledgeId),
    /// What follows from these parts, and has no name yet.
    From(Parts),
}

/// What was worked out and has not been asked for yet.
#[derive(Default)]
pub(super) struct Ahead {
    known: Held<Parts, Once<Arc<Known>>>,
    /// For each such knowledge the first parts that it was found to follow from.
    first: Held<Arc<Known>, Parts>,
    about: Held<(SubjectNumber, Proves, Parts), Once<Made>>,
}

/// What the adversary makes about a subject.
type Made = Vec<Message<Symbolic>>;

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn once<K: Hash + Eq, V>(of: &Held<K, Once<V>>, key: K) -> Once<V> {
    locked(of).entry(key).or_default().clone()
}

fn taken<K: Hash + Eq, V>(of: &Held<K, Once<V>>, key: &K) -> Option<V> {
    let found = locked(of).swap_remove(key)?;
    Arc::into_inner(found)?.into_inner()
}

impl Ahead {
    /// What follows from these parts, if it was worked out.
    pub(super) fn known(&self, parts: &Parts) -> Option<Arc<Known>> {
        taken(&self.known, parts)
    }

    /// What the adversary makes that can prove this, if it was worked out.
    pub(super) fn about(
        &self,
        number: SubjectNumber,
        (known, id): (Option<&Known>, KnowledgeId),
        parts: &Parts,
    ) -> Option<Made> {
        if locked(&self.about).is_empty() {
            return None;
        }
        let named = taken(&self.about, &(number, Proves::Named(id), *parts));
        named.or_else(|| {
            let first = locked(&self.first).get(known?).copied()?;
            taken(&self.about, &(number, Proves::From(first), *parts))
        })
    }

    /// Forgets what nobody has asked for.
    pub(super) fn clear(&self) {
        locked(&self.known).clear();
        locked(&self.first).clear();
        locked(&self.about).clear();
    }
}

impl Network {
    /// Works out what [`Network::work_out`] will need, and keeps it until then.
    pub(super) fn work_out_ahead(
        &self,
        tables: &Tables,
        number: SubjectNumber,
        parts: &dyn Fn(SubjectNumber) -> Parts,
    ) {
        let rests_on = parts(number);
        if !needs_knowledge(self.subject(number)) {
            if self.available_given(number, NOTHING, parts).is_none() {
                let made = once(&self.ahead.about, (number, Proves::Named(NOTHING), rests_on));
                made.get_or_init(|| self.made(tables, number, &self.union(number, &rests_on), None));
            }
            return;
        }
        let evidence = parts(self.evidence());
        let (proves, known) = match self.knowing(NOTHING, evidence) {
            Some(id) => (Proves::Named(id), None),
            None => {
                let known = once(&self.ahead.known, evidence);
                let known = known.get_or_init(|| Arc::new(self.proved(tables, &evidence))).clone();
                match self.name_of(&known) {
                    Some(id) => (Proves::Named(id), None),
                    None => {
                        let first = *locked(&self.ahead.first).entry(known.clone()).or_insert(evidence);
                        (Proves::From(first), Some(known))
                    }
                }
            }
        };
        if let Proves::Named(id) = proves
            && self.available_given(number, id, parts).is_some()
        {
            return;
        }
        let made = once(&self.ahead.about, (number, proves, rests_on));
        made.get_or_init(|| {
            let known = known.as_deref().or_else(|| self.named_knowledge(proves.name()?));
            self.made(tables, number, &self.union(number, &rests_on), known)
        });
    }

    /// What the adversary makes about a subject of what was sent.
    pub(super) fn made(
        &self,
        tables: &Tables,
        number: SubjectNumber,
        sent: &BTreeSet<MessageId>,
        known: Option<&Known>,
    ) -> Made {
        let sent: Vec<_> = sent.iter().map(|&id| tables.message(id)).collect();
        self.adversary().about(self.subject(number), &sent, known)
    }

    /// What these parts prove.
    pub(super) fn proved(&self, tables: &Tables, parts: &Parts) -> Known {
        let sent = self.union(self.evidence(), parts);
        let sent: Vec<_> = sent.iter().map(|&id| tables.message(id)).collect();
        self.adversary().known(&sent)
    }
}

impl Proves {
    fn name(self) -> Option<KnowledgeId> {
        match self {
            Proves::Named(id) => Some(id),
            Proves::From(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Delivery, LocalId, Recent, World, WorldConfig};
    use super::*;
    use crate::engine::Space;
    use pbft::types::{Cluster, ReplicaId, View};
    use std::collections::VecDeque;

    fn world() -> World {
        let byzantine = BTreeSet::from([ReplicaId(1)]);
        let config = WorldConfig { byzantine, max_view: View(1), ..WorldConfig::new(Cluster::new(4, 1), 1) };
        World::new(config, Delivery::Lazy).unwrap()
    }

    /// The states met first, one after the other, learnt from where it is necessary.
    fn each_of_the_first(world: &mut World, most: usize, mut learn: impl FnMut(&mut World, &[u32])) {
        let mut waiting: VecDeque<Vec<u32>> = world.initial().into();
        let mut met: BTreeSet<Vec<u32>> = waiting.iter().cloned().collect();
        while let Some(state) = waiting.pop_front() {
            learn(world, &state);
            let mut next = Vec::new();
            world.expand(0, &state, &mut Recent::small(), &mut |to| next.push(to.to_vec())).unwrap();
            waiting.extend(next.into_iter().filter(|to| met.len() < most && met.insert(to.clone())));
        }
    }

    #[test]
    fn all_that_is_worked_out_ahead_is_asked_for_and_the_same_is_learnt() {
        let (mut one, mut other) = (world(), world());
        let (mut known, mut about, mut steps) = (0, 0, 0);
        let mut states = Vec::new();
        each_of_the_first(&mut one, 3_000, |world, state| {
            world.prepare(0, state);
            world.prepare(0, state);
            known += locked(&world.network.ahead.known).len();
            about += locked(&world.network.ahead.about).len();
            steps += world.rehearsals.steps();
            world.learn(0, state);
            assert!(locked(&world.network.ahead.known).is_empty());
            assert!(locked(&world.network.ahead.about).is_empty());
            assert_eq!(world.rehearsals.steps(), 0);
            world.forget_prepared();
            states.push(state.to_vec());
        });
        assert!(known > 20 && about > 100 && steps > 1_000, "{known}, {about}, {steps}");
        let mut same = states.iter();
        each_of_the_first(&mut other, 3_000, |world, state| {
            assert_eq!(Some(state), same.next().map(|state| &state[..]));
            world.learn(0, state);
        });
        assert_eq!(one.tables.sizes(), other.tables.sizes());
        let all = |world: &World| {
            (0..world.tables.sizes().0)
                .map(|id| format!("{:?}", world.tables.local(LocalId::new(id))))
                .collect::<Vec<_>>()
        };
        assert!(all(&one) == all(&other));
        let all = |world: &World| {
            world
                .tables
                .all_messages()
                .map(|id| format!("{:?}", world.tables.message(id)))
                .collect::<Vec<_>>()
        };
        assert!(all(&one) == all(&other));
    }
}
