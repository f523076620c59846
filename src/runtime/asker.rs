//! Asking replicas how they do.
//!
//! Whoever has sessions with them may ask: an observer, a client's host, another replica's. The session says who
//! asks, so a query is not signed; what a replica answers is.

use super::clients::clock;
use super::control::{self, Answer, Control, Health, Query};
use super::counters::Counters;
use super::hosts::{Hosts, HostsError};
use super::sessions::{HostKey, Peer, Sessions};
use super::transport::{Buffers, Transport};
use crate::crypto::Crypto;
use crate::replica::verify::Membership;
use crate::rules::Rules;
use crate::types::{ClientId, Cluster, ReplicaId, Timestamp};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a replica may take to answer before it is asked again.
const RETRY: Duration = Duration::from_millis(100);
/// The longest wait for a datagram.
const RECEIVE_WAIT: Duration = Duration::from_millis(4);

/// By which keys and rules answers are judged.
pub struct Judge<C: Crypto, R: Rules> {
    /// The replicas.
    pub cluster: Cluster,
    /// Their public keys. Nothing is signed with them.
    pub keys: Arc<C::Keys>,
    /// The rules.
    pub rules: R,
}

/// Asks, over a socket of its own. One socket may use a host's key at a time: answers go to the one that was
/// heard last.
pub struct Asker<C: Crypto, R: Rules> {
    transport: Transport,
    replicas: Vec<Peer>,
    judge: Judge<C, R>,
    counters: Arc<Counters>,
    buffers: Buffers,
    ticked: Instant,
}

impl<C: Crypto, R: Rules> Asker<C, R> {
    /// As an observer: `key` is that of its host.
    ///
    /// # Errors
    /// If no socket can be had, or no observer has this key.
    pub fn of_observer(hosts: &Hosts, key: HostKey, judge: Judge<C, R>) -> io::Result<Self> {
        Self::open(hosts, hosts.sessions_of_observer(key), any(hosts), judge)
    }

    /// As a client, whose host runs nowhere else.
    ///
    /// # Errors
    /// If no socket can be had, or the key is not that of the client's host.
    pub fn of_client(hosts: &Hosts, id: ClientId, key: HostKey, judge: Judge<C, R>) -> io::Result<Self> {
        Self::open(hosts, hosts.sessions_of_clients([id], key), any(hosts), judge)
    }

    /// As a replica that does not run yet, of the others. Answers go to its configured address and to no other,
    /// so it must listen where it will run.
    ///
    /// # Errors
    /// If that address cannot be bound, or the key is not that of the replica's host.
    pub fn of_replica(
        hosts: &Hosts,
        id: ReplicaId,
        key: HostKey,
        listen: SocketAddr,
        judge: Judge<C, R>,
    ) -> io::Result<Self> {
        Self::open(hosts, hosts.sessions_of_replica(id, key), listen, judge)
    }

    fn open(
        hosts: &Hosts,
        sessions: Result<Sessions, HostsError>,
        listen: SocketAddr,
        judge: Judge<C, R>,
    ) -> io::Result<Self> {
        let sessions = sessions.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let counters = Arc::new(Counters::default());
        let replicas = hosts.replicas();
        let transport =
            Transport::bind(listen, 1400, sessions, replicas.clone(), RECEIVE_WAIT, counters.clone())?;
        let ticked = Instant::now();
        Ok(Asker { transport, replicas, judge, counters, buffers: Buffers::default(), ticked })
    }

    /// What each replica answers within `patience`, in order; returns as soon as all have. A replica does not
    /// answer its own question.
    ///
    /// # Errors
    /// If the socket fails.
    pub fn ask(&mut self, patience: Duration) -> io::Result<Vec<Option<Health>>> {
        let all: Vec<ReplicaId> = self.judge.cluster.replicas().collect();
        self.ask_some(&all, patience)
    }

    /// The same of some of them; the others have no answer.
    ///
    /// # Errors
    /// If the socket fails.
    pub fn ask_some(&mut self, whom: &[ReplicaId], patience: Duration) -> io::Result<Vec<Option<Health>>> {
        let mut answers = vec![None; self.judge.cluster.n()];
        let begun = clock();
        let deadline = Instant::now() + patience;
        let missing = |answers: &[Option<Health>]| -> Vec<ReplicaId> {
            whom.iter().copied().filter(|id| answers.get(usize::from(id.0)) == Some(&None)).collect()
        };
        while !missing(&answers).is_empty() && Instant::now() < deadline {
            for replica in missing(&answers) {
                let query = control::encode(&Control::<C>::Query(Query { clock: clock() }));
                let host = self.replicas[usize::from(replica.0)];
                self.transport.send(&[host], &query, &mut self.buffers);
            }
            let round = deadline.min(Instant::now() + RETRY);
            while Instant::now() < round && !missing(&answers).is_empty() {
                if let Some(answer) = self.poll(begun)? {
                    answers[usize::from(answer.replica.0)] = Some(answer.health);
                }
            }
        }
        Ok(answers)
    }

    /// Waits for one datagram; an answer, if it is one to a question asked since `begun`.
    fn poll(&mut self, begun: Timestamp) -> io::Result<Option<Answer>> {
        let now = Instant::now();
        if now.duration_since(self.ticked) > RECEIVE_WAIT {
            self.ticked = now;
            self.transport.tick(&mut self.buffers);
        }
        let Some((from, bytes)) = self.transport.receive(&mut self.buffers)? else { return Ok(None) };
        let Some(Control::Answer(answer)) = control::decode::<C>(&bytes) else { return Ok(None) };
        let Judge { cluster, keys, rules } = &self.judge;
        let members = Membership { cluster, clients: 0, keys: &**keys, rules };
        if let Err(reason) = members.check(&answer) {
            self.counters.reject(reason);
            return Ok(None);
        }
        let answer = answer.content;
        let is_its_own = self.replicas.get(usize::from(answer.replica.0)) == Some(&from);
        Ok(Some(answer).filter(|answer| is_its_own && (begun..=clock()).contains(&answer.clock)))
    }
}

/// Any free port, of the family of the replicas' addresses.
fn any(hosts: &Hosts) -> SocketAddr {
    match hosts.addresses().first() {
        Some(SocketAddr::V6(_)) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        _ => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
    }
}
