//! The first world: one view, correct replicas only, requests known to all, no time-outs, no reduction.

use super::Modelled;
use super::tables::{Local, LocalId, MessageId, SentId, Tables};
use crate::crypto::Keys;
use crate::engine::Space;
use crate::journal::Journal;
use crate::mutants::Rulebook;
use pbft::crypto::Signed;
use pbft::message::{Message, Request};
use pbft::replica::verify::verify;
use pbft::replica::{Event, Setup, Timer};
use pbft::types::{Bytes, ClientId, Cluster, Parameters, ReplicaId, Timestamp};
use pbft_properties::{History, Snapshot, check_all};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The largest cluster that fits in a state.
const MAX_REPLICAS: usize = 7;

/// The replicas' local states, and what has been sent.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FirstState {
    locals: [LocalId; MAX_REPLICAS],
    sent: SentId,
}

/// A message reaches a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delivery {
    /// The replica.
    pub to: ReplicaId,
    /// The message.
    pub message: MessageId,
}

/// The world: `n` correct replicas in view 0, `requests` clients with one request each.
pub struct FirstWorld {
    cluster: Cluster,
    parameters: Parameters,
    requests: Vec<Message<crate::crypto::Symbolic>>,
    authentic: BTreeSet<(ClientId, Timestamp, Bytes)>,
    genesis: Journal,
    tables: Tables,
    /// States in which some replica has committed something.
    commits: usize,
    /// States in which every replica has executed every request.
    complete: usize,
}

/// The configurations of the replicas of a world with `clients` clients.
pub(super) fn setups(cluster: Cluster, clients: u32, rules: Rulebook) -> Vec<Arc<Setup<Modelled>>> {
    let n = u16::try_from(cluster.n()).expect("a cluster's size fits in 16 bits");
    let (keys, _) = Keys::all(n, clients);
    let setup = |(id, keys)| {
        Arc::new(Setup {
            id,
            cluster,
            parameters: parameters(),
            keys: Arc::new(keys),
            clients,
            rules,
            genesis: Journal::default(),
        })
    };
    cluster.replicas().zip(keys).map(setup).collect()
}

/// Batches of one request; no checkpoint within reach.
fn parameters() -> Parameters {
    Parameters { checkpoint_interval: 64, window: 128, max_batch_requests: 1, ..Parameters::default() }
}

/// One request of each client, signed.
pub(super) fn requests(cluster: Cluster, clients: u32) -> Vec<Message<crate::crypto::Symbolic>> {
    let n = u16::try_from(cluster.n()).expect("a cluster's size fits in 16 bits");
    let (_, keys) = Keys::all(n, clients);
    (0..clients)
        .map(ClientId)
        .zip(keys)
        .map(|(client, keys)| {
            let operation = Bytes::from(format!("op{}", client.0).into_bytes());
            let request = Request { operation, timestamp: Timestamp(1), client, read_only: false };
            Message::Request(Signed::new(request, &keys))
        })
        .collect()
}

impl FirstWorld {
    /// The world with these bounds.
    ///
    /// # Panics
    /// If there are more than seven replicas.
    pub fn new(cluster: Cluster, clients: u32, rules: Rulebook) -> Self {
        assert!(cluster.n() <= MAX_REPLICAS, "a world has at most seven replicas");
        let requests = requests(cluster, clients);
        let authentic = requests.iter().filter_map(|message| match message {
            Message::Request(m) => Some((m.content.client, m.content.timestamp, m.content.operation.clone())),
            _ => None,
        });
        FirstWorld {
            cluster,
            parameters: parameters(),
            authentic: authentic.collect(),
            requests,
            genesis: Journal::default(),
            tables: Tables::new(setups(cluster, clients, rules)),
            commits: 0,
            complete: 0,
        }
    }

    /// The tables of local states and messages.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// In how many of the judged states something is committed, and in how many everything has executed
    /// everywhere.
    pub fn witnesses(&self) -> (usize, usize) {
        (self.commits, self.complete)
    }

    /// What the replicas would send if the status timer of each fired and every STATUS and FETCH arrived
    /// everywhere, as far as it is not in the set of messages sent. Nothing, if leaving those out is sound.
    pub fn resent_but_not_sent(&self, state: FirstState) -> Vec<String> {
        let nodes = 0..self.cluster.n();
        let mut asked = Vec::new();
        for node in nodes.clone() {
            let timeout = Event::Timeout(Timer::Status);
            let effects = self.tables.try_step(node, state.locals[node], timeout);
            asked.extend(effects.sends().map(|(_, message)| message.clone()));
        }
        let mut answers = asked.clone();
        for (node, message) in nodes.flat_map(|node| asked.iter().map(move |message| (node, message))) {
            if let Ok(verified) = verify(self.tables.setup(node), message.clone()) {
                let effects = self.tables.try_step(node, state.locals[node], Event::Message(verified));
                answers.extend(effects.sends().map(|(_, message)| message.clone()));
            }
        }
        let sent: Vec<_> =
            self.tables.messages_of(state.sent).iter().map(|&m| self.tables.message(m)).collect();
        let ignored = |m: &_| matches!(m, Message::Status(_) | Message::Fetch(_) | Message::Reply(_));
        answers.iter().filter(|m| !ignored(*m) && !sent.contains(m)).map(|m| format!("{m:?}")).collect()
    }

    fn local(&self, state: FirstState, node: usize) -> &Local {
        self.tables.local(state.locals[node])
    }

    /// A step in words, for a trace: what happens, and what the receiver does.
    pub fn describe(&self, before: FirstState, delivery: Delivery, after: FirstState) -> String {
        let node = usize::from(delivery.to.0);
        let message = self.tables.message(delivery.message);
        let count = |state| {
            let history: &History = &self.local(state, node).history;
            (history.prepared().len(), history.committed().len(), history.executions().count())
        };
        let (prepared, committed, executed) = count(before);
        let now = count(after);
        let mut line = format!("{} -> r{node}", message.name());
        for (what, was, is) in
            [("prepared", prepared, now.0), ("committed", committed, now.1), ("executed", executed, now.2)]
        {
            if is > was {
                line.push_str(&format!(", {what}"));
            }
        }
        line
    }
}

impl Space for FirstWorld {
    type State = FirstState;
    type Action = Delivery;

    fn initial(&mut self) -> Vec<FirstState> {
        let mut locals = Vec::new();
        let mut sent = self.tables.nothing_sent();
        let requests: Vec<MessageId> =
            self.requests.clone().into_iter().map(|m| self.tables.add_message(m)).collect();
        for &request in &requests {
            sent = self.tables.with(sent, request);
        }
        for node in 0..self.cluster.n() {
            let (mut local, mut sends) = self.tables.start(node);
            for &request in &requests {
                let (next, more) = self.tables.deliver(node, local, request);
                local = next;
                sends.extend(more);
            }
            locals.push(local);
            for message in sends {
                sent = self.tables.with(sent, message);
            }
        }
        let mut padded = [locals[0]; MAX_REPLICAS];
        padded[..locals.len()].copy_from_slice(&locals);
        vec![FirstState { locals: padded, sent }]
    }

    fn successors(&mut self, state: FirstState, out: &mut Vec<(Delivery, FirstState)>) {
        let messages = self.tables.messages_of(state.sent).to_vec();
        for to in self.cluster.replicas() {
            let node = usize::from(to.0);
            for &message in &messages {
                let (local, sends) = self.tables.deliver(node, state.locals[node], message);
                let mut next = state;
                next.locals[node] = local;
                for sent in sends {
                    next.sent = self.tables.with(next.sent, sent);
                }
                if next != state {
                    out.push((Delivery { to, message }, next));
                }
            }
        }
    }

    fn judge(&mut self, state: FirstState) -> Result<(), String> {
        let replicas: BTreeMap<ReplicaId, History> = (self.cluster.replicas())
            .map(|id| (id, self.local(state, usize::from(id.0)).history.clone()))
            .collect();
        if replicas.values().any(|history| !history.committed().is_empty()) {
            self.commits += 1;
        }
        if replicas.values().all(|history| history.executions().count() == self.requests.len()) {
            self.complete += 1;
        }
        let snapshot = Snapshot {
            cluster: self.cluster,
            parameters: self.parameters,
            genesis: &self.genesis,
            replicas: &replicas,
            authentic: &self.authentic,
            accepted: &[],
        };
        check_all(&snapshot).map_err(|violation| violation.to_string())
    }
}

/// The number of states of the world with one request, computed from the rules alone.
///
/// What the logs contain. The primary has assigned the request to n = 1 from the start. Let `A` be the backups
/// that have accepted its PRE-PREPARE, and so sent PREPARE, and `P` the replicas that have prepared, and so sent
/// COMMIT. A replica needs `Q - 1` PREPAREs to prepare, a backup's own included, so there is a `P` only where
/// `A` has at least that many, and a backup in `P` is in `A`. Then, with `Q` the quorum:
/// - a backup that has not accepted holds any of the PREPAREs of `A` and any of the COMMITs of `P`;
/// - a backup that has accepted and not prepared holds its own PREPARE, fewer than `Q - 2` of the others', and
///   any of the COMMITs of `P`;
/// - the primary, not prepared, holds fewer than `Q - 1` of the PREPAREs of `A` and any of the COMMITs of `P`;
/// - a prepared replica has turned its PREPAREs into a certificate that says nothing of who sent them. It holds
///   its own COMMIT and fewer than `Q - 1` of the others' in `P`; or it has committed and executed, and then no
///   vote is left: one state more if `P` has `Q` members.
///
/// What has been sent follows from `A` and `P`. So the number of states is the sum over all `A` and `P` of the
/// product of the replicas' possibilities.
pub fn count_first_world(cluster: Cluster) -> u64 {
    let (n, quorum) = (cluster.n(), cluster.quorum());
    let backups = n - 1;
    let choose = |from: usize, take: usize| -> u64 {
        (0..take).fold(1, |product, i| product * (from - i) as u64 / (i as u64 + 1))
    };
    // How many subsets of a set have fewer than so many elements.
    let fewer =
        |from: usize, than: usize| (0..than.min(from + 1)).map(|take| choose(from, take)).sum::<u64>();
    let mut states = 0;
    for accepted in 0..=backups {
        for prepared_backups in 0..=accepted {
            for primary_prepared in [0, 1] {
                let prepared = prepared_backups + primary_prepared;
                if prepared > 0 && accepted < quorum - 1 {
                    continue;
                }
                let ways = choose(backups, accepted) * choose(accepted, prepared_backups);
                let any_commits = 1u64 << prepared;
                let aloof = (1u64 << accepted) * any_commits;
                let waiting = fewer(accepted.saturating_sub(1), quorum.saturating_sub(2)) * any_commits;
                let done = u64::from(prepared >= quorum);
                let committing = fewer(prepared.saturating_sub(1), quorum - 1) + done;
                let primary = match primary_prepared {
                    0 => fewer(accepted, quorum - 1) * any_commits,
                    _ => committing,
                };
                let power = |base: u64, exponent: usize| (0..exponent).fold(1, |product, _| product * base);
                states += ways
                    * primary
                    * power(aloof, backups - accepted)
                    * power(waiting, accepted - prepared_backups)
                    * power(committing, prepared_backups);
            }
        }
    }
    states
}
