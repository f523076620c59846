//! What has been seen to happen in a world, and what must have been if its bounds are to mean anything.
//!
//! That nothing is violated says little where little happens: a world with views up to 2 in which no view
//! change completes is a world of one view. So every bound calls for its witnesses ([`Witness::needed`]), and
//! without one of them there is no verdict.

use super::config::{Clients, WorldConfig};
use crate::ledger::READ;
use pbft::types::{ClientId, Digest, ReplicaId, SeqNo, View};
use pbft_properties::{Accepted, Call, Entry, History};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The highest view, sequence number, client or size of a batch that a [`Numbers`] can hold.
pub const HIGHEST: u64 = 63;

/// A set of numbers up to [`HIGHEST`].
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Numbers(u64);

impl Numbers {
    /// Whether the number is one of them.
    pub fn contains(self, number: u64) -> bool {
        number <= HIGHEST && self.0 & 1 << number != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn insert(&mut self, number: u64) {
        // A world has none above: `WorldConfig::problem`. What a mutant invents needs no witness.
        if number <= HIGHEST {
            self.0 |= 1 << number;
        }
    }
}

impl FromIterator<u64> for Numbers {
    fn from_iter<T: IntoIterator<Item = u64>>(numbers: T) -> Self {
        let mut set = Numbers::default();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }
}

/// What has been seen to happen. A world where nothing happens proves nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Witnesses {
    /// The views in which some correct replica has committed something.
    pub committed_in: Numbers,
    /// The sequence numbers at which some correct replica has committed something.
    pub committed_at: Numbers,
    /// Some correct replica has committed something that another correct one has not prepared: with so few
    /// replicas that each is needed, this is never seen.
    pub commits_without_one: bool,
    /// The clients whose requests some correct replica has executed.
    pub executed_for: Numbers,
    /// The sizes of the batches that some correct replica has executed.
    pub executed_sizes: Numbers,
    /// Some client has accepted a result, or can have.
    pub accepted: bool,
    /// Every client has accepted a result, or can have.
    pub all_accepted: bool,
    /// A client has sent its request to all, and accepted a result after that or before.
    pub retransmitted: bool,
    /// A read has ended without being ordered.
    pub reads: bool,
    /// A read has ended that had to be ordered.
    pub ordered_reads: bool,
    /// A call has begun after another client's had ended.
    pub follows: bool,
    /// A call has begun after one that its client had given up.
    pub gives_up: bool,
    /// Every correct replica has executed up to the highest sequence number.
    pub complete: bool,
    /// The views that some correct replica has entered by a NEW-VIEW.
    pub entered: Numbers,
    /// A null request was carried into a view.
    pub nulls: bool,
    /// A checkpoint is stable at some correct replica.
    pub stable: bool,
    /// Some correct replica has fetched a state.
    pub transfers: bool,
}

/// Something that can happen in a world.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Witness {
    /// What it is.
    pub name: String,
    /// Whether it has been seen.
    pub seen: bool,
    /// What to say if the bounds call for it and it has not been seen; none if they do not.
    pub needed: Option<String>,
}

impl Witness {
    fn new(name: impl Into<String>, seen: bool) -> Self {
        Witness { name: name.into(), seen, needed: None }
    }

    fn needed(name: String, seen: bool, without: String) -> Self {
        Witness { name, seen, needed: Some(without) }
    }
}

impl Witnesses {
    /// What these replicas and clients have done.
    pub(super) fn of(
        config: &WorldConfig,
        replicas: &BTreeMap<ReplicaId, History>,
        accepted: &[Accepted],
        calls: &[Call],
    ) -> Self {
        let all = || replicas.values();
        let last = |history: &History| history.executions().map(|execution| execution.n).max();
        let null = |entry: &Entry| entry.carried.values().any(|&d| d == Digest::NULL);
        let prepared_by_all = |slot: &(View, SeqNo), digest: &Digest| {
            all().all(|history| history.prepared().get(slot).is_some_and(|d| d.contains(digest)))
        };
        let slots = || all().flat_map(|history| history.committed().keys());
        let executions = || all().flat_map(History::executions);
        let served: BTreeSet<ClientId> = accepted.iter().map(|accepted| accepted.client).collect();
        Witnesses {
            committed_in: slots().map(|&(view, _)| view.0).collect(),
            committed_at: slots().map(|&(_, n)| n.0).collect(),
            commits_without_one: (all().flat_map(|history| history.committed()))
                .any(|(slot, digests)| digests.iter().any(|digest| !prepared_by_all(slot, digest))),
            executed_for: (executions().flat_map(|execution| &execution.requests))
                .map(|request| u64::from(request.client.0))
                .collect(),
            executed_sizes: executions().map(|execution| execution.requests.len() as u64).collect(),
            accepted: !accepted.is_empty(),
            all_accepted: served.len() == config.requests as usize,
            retransmitted: false,
            reads: calls.iter().any(|call| matches!(call.result, Some((_, true)))),
            ordered_reads: calls
                .iter()
                .any(|call| call.operation[..] == *READ && matches!(call.result, Some((_, false)))),
            follows: calls
                .iter()
                .any(|call| call.after.iter().any(|&before| calls[before].client != call.client)),
            gives_up: calls.iter().any(|call| {
                let next = |other: &&Call| other.client == call.client && other.number == call.number + 1;
                call.result.is_none() && calls.iter().any(|other| next(&other))
            }),
            complete: all().all(|history| last(history) == Some(config.max_seq)),
            entered: all().flat_map(|history| history.entries()).map(|entry| entry.view.0).collect(),
            nulls: all().any(|history| history.entries().any(null)),
            stable: all().any(|history| history.h().0 > 0),
            transfers: all().any(|history| history.service_steps().len() > history.executions().count()),
        }
    }

    /// Also something committed in this view at this number.
    pub(crate) fn add_commit(&mut self, view: View, n: SeqNo) {
        self.committed_in.insert(view.0);
        self.committed_at.insert(n.0);
    }

    pub(crate) fn add(&mut self, other: Witnesses) {
        for (ours, theirs) in [
            (&mut self.committed_in, other.committed_in),
            (&mut self.committed_at, other.committed_at),
            (&mut self.executed_for, other.executed_for),
            (&mut self.executed_sizes, other.executed_sizes),
            (&mut self.entered, other.entered),
        ] {
            ours.0 |= theirs.0;
        }
        self.commits_without_one |= other.commits_without_one;
        self.accepted |= other.accepted;
        self.all_accepted |= other.all_accepted;
        self.retransmitted |= other.retransmitted;
        self.reads |= other.reads;
        self.ordered_reads |= other.ordered_reads;
        self.follows |= other.follows;
        self.gives_up |= other.gives_up;
        self.complete |= other.complete;
        self.nulls |= other.nulls;
        self.stable |= other.stable;
        self.transfers |= other.transfers;
    }

    /// Each by its name in a world with these bounds, those first that the bounds call for.
    pub fn named(&self, config: &WorldConfig) -> Vec<Witness> {
        let mut all = self.of_views_and_numbers(config);
        all.extend(self.of_checkpoints_and_batches(config));
        all.extend(self.of_clients(config));
        all.extend([
            Witness::new("something commits without some replica", self.commits_without_one),
            Witness::new("everything executes everywhere", self.complete),
            Witness::new("a null request is carried into a view", self.nulls),
            Witness::new("a state is fetched", self.transfers),
        ]);
        all.sort_by_key(|witness| witness.needed.is_none());
        all
    }

    fn of_views_and_numbers(&self, config: &WorldConfig) -> Vec<Witness> {
        let commits = (0..=config.max_view.0).map(|view| {
            let name = format!("something commits in view {view}");
            let without = format!("nothing ever commits in view {view}");
            Witness::needed(name, self.committed_in.contains(view), without)
        });
        let enters = (1..=config.max_view.0).map(|view| {
            let name = format!("a view change completes into view {view}");
            let without = format!("no view change ever completes into view {view}");
            Witness::needed(name, self.entered.contains(view), without)
        });
        let numbers = (1..=config.max_seq.0).map(|n| {
            let name = format!("something commits at n = {n}");
            Witness::needed(name, self.committed_at.contains(n), format!("nothing ever commits at n = {n}"))
        });
        commits.chain(enters).chain(numbers).collect()
    }

    fn of_checkpoints_and_batches(&self, config: &WorldConfig) -> Vec<Witness> {
        let (stable, name) = (self.stable, "a checkpoint becomes stable".to_string());
        let mut all = vec![match config.checkpoint_interval {
            Some(interval) if interval <= config.max_seq.0 => {
                Witness::needed(name, stable, "no checkpoint ever becomes stable".into())
            }
            _ => Witness::new(name, stable),
        }];
        let largest = config.max_batch.min(config.requests as usize);
        if largest > 1 {
            let seen = self.executed_sizes.contains(largest as u64);
            let name = format!("a batch of {largest} executes");
            all.push(Witness::needed(name, seen, format!("no batch of {largest} ever executes")));
        }
        all
    }

    fn of_clients(&self, config: &WorldConfig) -> Vec<Witness> {
        let served = (0..config.requests).map(|client| {
            let name = format!("the request of client {client} executes");
            let without = format!("no request of client {client} ever executes");
            Witness::needed(name, self.executed_for.contains(u64::from(client)), without)
        });
        let mut all: Vec<Witness> = served.collect();
        let name = "a client accepts a result".to_string();
        all.push(match config.clients {
            Clients::Implicit => Witness::new(name, self.accepted),
            Clients::Actors => Witness::needed(name, self.accepted, "no client ever accepts a result".into()),
        });
        all.push(Witness::new("every client accepts a result", self.all_accepted));
        if let Some(application) = &config.application {
            if application.reads() {
                let name = "a read ends without being ordered".to_string();
                all.push(Witness::needed(name, self.reads, "no read ever ends without being ordered".into()));
                all.push(Witness::new("a read that had to be ordered ends", self.ordered_reads));
            }
            if application.gives_up && application.calls.iter().any(|calls| calls.len() > 1) {
                let name = "a call begins after one that was given up".to_string();
                let without = "no call ever begins after one that was given up".into();
                all.push(Witness::needed(name, self.gives_up, without));
            }
            if application.clients() > 1 {
                let name = "a call begins after another client's has ended".to_string();
                let without = "no call ever begins after another client's has ended".into();
                all.push(Witness::needed(name, self.follows, without));
            }
        } else if config.clients == Clients::Actors {
            all.push(Witness::new("a client that retransmits accepts a result", self.retransmitted));
        }
        all
    }

    /// What the bounds call for and has not been seen: the first, as a reason for no verdict.
    pub fn missing(&self, config: &WorldConfig) -> Option<String> {
        let unseen = |witness: Witness| witness.needed.filter(|_| !witness.seen);
        self.named(config).into_iter().find_map(unseen).map(|without| format!("vacuous: {without}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pbft::types::Cluster;

    fn config() -> WorldConfig {
        WorldConfig {
            max_view: View(2),
            max_seq: SeqNo(2),
            checkpoint_interval: Some(2),
            max_batch: 2,
            ..WorldConfig::new(Cluster::new(4, 1), 2)
        }
    }

    /// Everything that the bounds of [`config`] call for.
    fn everything() -> Witnesses {
        Witnesses {
            committed_in: (0..=2).collect(),
            committed_at: (1..=2).collect(),
            entered: (1..=2).collect(),
            executed_sizes: [2].into_iter().collect(),
            executed_for: (0..=1).collect(),
            stable: true,
            ..Witnesses::default()
        }
    }

    #[test]
    fn each_bound_calls_for_its_witnesses_and_the_one_missing_is_named() {
        assert_eq!(everything().missing(&config()), None);
        let one = |number: u64| [number].into_iter().collect::<Numbers>();
        for (without, said) in [
            (Witnesses { committed_in: (0..=1).collect(), ..everything() }, "nothing ever commits in view 2"),
            (Witnesses { committed_in: (1..=2).collect(), ..everything() }, "nothing ever commits in view 0"),
            (Witnesses { entered: one(2), ..everything() }, "no view change ever completes into view 1"),
            (Witnesses { committed_at: one(1), ..everything() }, "nothing ever commits at n = 2"),
            (Witnesses { stable: false, ..everything() }, "no checkpoint ever becomes stable"),
            (Witnesses { executed_for: one(0), ..everything() }, "no request of client 1 ever executes"),
            (Witnesses { executed_sizes: one(1), ..everything() }, "no batch of 2 ever executes"),
        ] {
            assert_eq!(without.missing(&config()), Some(format!("vacuous: {said}")));
        }
        let without_clients = WorldConfig { clients: Clients::Actors, ..config() };
        let said = everything().missing(&without_clients);
        assert_eq!(said.as_deref(), Some("vacuous: no client ever accepts a result"));
    }

    #[test]
    fn what_is_beyond_the_bounds_is_not_called_for() {
        let (small, nothing) = (WorldConfig::new(Cluster::new(4, 1), 2), Witnesses::default());
        let needed = nothing.named(&small).into_iter().filter(|witness| witness.needed.is_some());
        let names: Vec<String> = needed.map(|witness| witness.name).collect();
        let both = ["the request of client 0 executes", "the request of client 1 executes"];
        assert_eq!(names[..2], ["something commits in view 0", "something commits at n = 1"]);
        assert_eq!(names[2..], both);
        let far = WorldConfig { checkpoint_interval: Some(2), ..small };
        assert!(!nothing.named(&far).iter().any(|w| w.name.contains("stable") && w.needed.is_some()));
    }

    #[test]
    fn witnesses_of_several_states_add_up() {
        let mut all = Witnesses::default();
        for (view, n) in [(0, 1), (2, 2)] {
            let mut one = Witnesses::default();
            one.add_commit(View(view), SeqNo(n));
            all.add(one);
        }
        assert_eq!((all.committed_in, all.committed_at), ([0, 2].into_iter().collect(), (1..=2).collect()));
        assert!(!all.committed_in.contains(1) && !all.committed_in.contains(HIGHEST + 1));
    }
}
