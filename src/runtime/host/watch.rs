//! What a replica's host knows of other hosts beside the protocol: who may ask, who has been given another list of
//! members, whose messages do not verify, and how long batches take. Nothing is decided by it.

use super::{Shared, lock};
use crate::crypto::Signed;
use crate::rejection::Rejection;
use crate::replica::{Bundle, Fact};
use crate::runtime::control::{self, Answer, CONTROL, ClientsHealth, Control, Health, PeerHealth, Query};
use crate::runtime::counters::{Peers, nanoseconds};
use crate::runtime::histogram::Histograms;
use crate::runtime::hosts::{Hosts, Role};
use crate::runtime::output::Outgoing;
use crate::runtime::sessions::{Bucket, Peer, Rate};
use crate::runtime::transport::Buffers;
use crate::types::{Digest, ReplicaId, SeqNo};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a replica says to the others what members it has, and logs what it has learnt of them.
const COMPARE_INTERVAL: Duration = Duration::from_secs(2);
/// The queries of one host that are answered.
const QUERIES: Rate = Rate { per_second: 20, burst: 20 };

/// See the module.
pub(super) struct Watch {
    hosts: Hosts,
    /// The digest of what all replicas must agree on.
    membership: Option<Digest>,
    /// What each host sent that was dropped.
    pub(super) peers: Peers,
    /// When each host may ask again; only of those that have asked.
    queries: Mutex<BTreeMap<Peer, Bucket>>,
    members: Mutex<Members>,
    /// When the PRE-PREPARE of each batch was sent or accepted that has not executed; above h and up to H.
    proposed: Mutex<BTreeMap<SeqNo, Instant>>,
}

/// What replicas said last of their members.
struct Members {
    compared: Option<Instant>,
    of: Vec<Option<Digest>>,
    /// Of which of them the log says that they differ.
    logged: Vec<Option<Digest>>,
    /// How many strangers at its address the log knows of.
    strangers: Vec<u64>,
}

impl Watch {
    pub(super) fn new(hosts: Hosts, membership: Option<Digest>) -> Self {
        let n = hosts.replicas().len();
        let members =
            Members { compared: None, of: vec![None; n], logged: vec![None; n], strangers: vec![0; n] };
        Watch {
            membership,
            peers: Peers::new(hosts.count()),
            hosts,
            queries: Mutex::default(),
            members: Mutex::new(members),
            proposed: Mutex::default(),
        }
    }

    /// Whether a host may ask now.
    fn may_ask(&self, host: Peer, now: Duration) -> bool {
        lock(&self.queries).entry(host).or_default().take(QUERIES, now)
    }

    /// Measures from the PRE-PREPARE of a batch to its execution, and counts its requests.
    pub(super) fn time(&self, fact: &Fact, now: Instant, histograms: &Histograms) {
        match fact {
            Fact::PrePrepared { n, .. } => {
                lock(&self.proposed).entry(*n).or_insert(now);
            }
            Fact::Executed { n, requests, .. } => {
                let since = lock(&self.proposed).remove(n);
                if !requests.is_empty() {
                    histograms.batch.observe(requests.len() as u64);
                    if let Some(since) = since {
                        histograms.execution.observe(nanoseconds(now.duration_since(since)));
                    }
                }
            }
            Fact::CheckpointStable { n, .. } | Fact::StateTransferred { n, .. } => {
                lock(&self.proposed).retain(|proposed, _| proposed > n);
            }
            _ => {}
        }
    }

    /// The replicas that said last that they have other members.
    fn differing(&self) -> Vec<u16> {
        let differs =
            |of: &Option<Digest>| of.is_some() && self.membership.is_some() && *of != self.membership;
        let members = lock(&self.members);
        (0u16..).zip(&members.of).filter(|(_, of)| differs(of)).map(|(id, _)| id).collect()
    }

    /// What the hosts of clients sent that was dropped.
    fn clients(&self) -> ClientsHealth {
        let first = self.hosts.replicas().len();
        let hosts = (first..self.hosts.count()).filter_map(|host| u32::try_from(host).ok()).map(Peer);
        let (mut all, mut failed, mut over) = (ClientsHealth::default(), (0, None), (0, None));
        for host in hosts {
            let counters = self.peers.of(host);
            let (more_failed, more_over) = (counters.failed_verification.get(), counters.over_quota.get());
            all.failed_verification += more_failed;
            all.over_quota += more_over;
            failed = failed.max((more_failed, (more_failed > 0).then_some(host)));
            over = over.max((more_over, (more_over > 0).then_some(host)));
        }
        let named = |(count, host): (u64, Option<Peer>)| Some((self.hosts.client_of(host?)?.0, count));
        all.most_failed = named(failed);
        all.most_over_quota = named(over);
        all
    }
}

impl<B: Bundle> Shared<B> {
    /// Whether what a host sent is no message of the protocol, or must not be taken for one: an observer may only
    /// ask.
    pub(super) fn is_control(&self, from: Peer, bytes: &[u8]) -> bool {
        bytes.first() == Some(&CONTROL) || self.watch.hosts.role(from) == Role::Observer
    }

    pub(super) fn on_control(&self, from: Peer, bytes: &[u8], buffers: &mut Buffers) {
        match (control::decode::<B::Crypto>(bytes), self.watch.hosts.role(from)) {
            (Some(Control::Query(query)), _) => self.answer(from, query, buffers),
            (_, Role::Observer) => self.counters.observer_refused.add(1),
            (Some(Control::Hello(members)), Role::Replica(id)) => {
                if let Some(of) = lock(&self.watch.members).of.get_mut(usize::from(id.0)) {
                    *of = members;
                }
            }
            // That it came is all: now there is a session.
            (Some(Control::Hello(_)), Role::Client) => {}
            (Some(Control::Ping(number)), Role::Replica(_)) => {
                let pong = control::encode(&Control::<B::Crypto>::Pong(number));
                lock(&self.outbox).push(Outgoing::Control(vec![from], pong));
            }
            (Some(Control::Pong(number)), Role::Replica(id)) => {
                lock(&self.delays).answered(id, number, self.started.elapsed());
            }
            (Some(Control::Late(view)), Role::Replica(id)) => {
                lock(&self.late).insert(id, (view, self.started.elapsed()));
            }
            // An answer comes late, to what was asked with this host's key before it ran.
            (Some(_), _) => self.counters.reject(Rejection::NotForThisNode),
            (None, _) => self.refuse(from, Rejection::Malformed),
        }
    }

    /// Says how this replica does, if the host that asks has not asked too often.
    fn answer(&self, from: Peer, query: Query, buffers: &mut Buffers) {
        if !self.watch.may_ask(from, self.started.elapsed()) {
            return self.counters.queries_refused.add(1);
        }
        let answer = Answer { replica: self.setup.id, clock: query.clock, health: self.health() };
        let answer = Control::<B::Crypto>::Answer(Box::new(Signed::new(answer, &*self.setup.keys)));
        self.transport.send(&[from], &control::encode(&answer), buffers);
    }

    /// Counts a message that is none, or that does not verify, and whose host sent it.
    pub(super) fn refuse(&self, from: Peer, reason: Rejection) {
        self.counters.reject(reason);
        self.watch.peers.of(from).failed_verification.add(1);
    }

    /// Every few seconds: says to each replica what members this one has, and logs who has others, and who asks for
    /// sessions in the place of a replica without having its key. However fast a peer changes what it says, there
    /// is one line for each replica and turn.
    pub(super) fn compare_members(&self, now: Instant, buffers: &mut Buffers) {
        let mut members = lock(&self.watch.members);
        if members.compared.is_some_and(|at| now < at + COMPARE_INTERVAL) {
            return;
        }
        members.compared = Some(now);
        for (at, id) in self.setup.cluster.replicas().enumerate().filter(|&(_, id)| id != self.setup.id) {
            let differs = members.of[at].filter(|of| self.watch.membership.is_some_and(|own| own != *of));
            if members.logged[at] != differs {
                members.logged[at] = differs;
                match differs {
                    Some(_) => tracing::warn!(
                        replica = id.0,
                        "it has another list of members (clients, keys or parameters) than this replica: compare \
                         the configurations"
                    ),
                    None => tracing::info!(replica = id.0, "it has the same members as this replica"),
                }
            }
            let strangers = self.peer_health(id).strangers;
            if strangers > 0 && members.strangers[at] == 0 {
                tracing::warn!(
                    "somebody at the address of replica {0} asks for a session with a key that is not replica {0}'s: \
                     compare its host_key",
                    id.0
                );
            }
            members.strangers[at] = strangers;
        }
        drop(members);
        let Some(own) = self.watch.membership else { return };
        let mut others = self.watch.hosts.replicas();
        others.remove(usize::from(self.setup.id.0));
        let hello = control::encode(&Control::<B::Crypto>::Hello(Some(own)));
        self.transport.send(&others, &hello, buffers);
    }

    fn peer_health(&self, id: ReplicaId) -> PeerHealth {
        let host = Peer(id.0.into());
        let (view, now) = self.transport.view(host);
        let counters = self.watch.peers.of(host);
        let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        PeerHealth {
            session: view.has_session,
            handshake_us: view.handshake.map(|took| whole(took.as_micros())),
            failed_verification: counters.failed_verification.get(),
            over_quota: counters.over_quota.get(),
            strangers: view.strangers,
            stranger_ms: view.stranger_at.map(|at| whole(now.saturating_sub(at).as_millis())),
        }
    }

    /// The part of [`Health`] that is about others.
    pub(super) fn health_of_others(&self) -> Health {
        let hex = |digest: Digest| digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
        Health {
            peers: self.setup.cluster.replicas().map(|id| self.peer_health(id)).collect(),
            clients: self.watch.clients(),
            members: self.watch.membership.map(hex),
            other_members: self.watch.differing(),
            ..Health::default()
        }
    }
}
