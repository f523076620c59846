//! Which host speaks for whom, and where the replicas are.
//!
//! A host is known by its static key, and every replica and client is bound to one
//! ([`binding`](super::sessions::binding)). A replica has a host of its own; one host may speak for several
//! clients, and then has one session with each replica for all of them. What is meant for a client goes to
//! its host and to nobody else.

use super::queues::Share;
use super::sessions::{HostKey, Limits, Peer, PeerEntry, Random, Sessions, TableError};
use crate::types::{ClientId, Digest, ReplicaId};
use std::net::SocketAddr;

/// The hosts of a cluster.
#[derive(Clone, Debug)]
pub struct Hosts {
    domain: Digest,
    replicas: Vec<(SocketAddr, [u8; 32])>,
    /// Those of clients, each once.
    others: Vec<[u8; 32]>,
    /// For each client the place of its host among them.
    clients: Vec<usize>,
}

/// Why there can be no sessions.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HostsError {
    /// The key is not that of the host that speaks for this replica.
    #[error("the host key is not the one that replica {} is bound to", .0.0)]
    NotTheReplicas(ReplicaId),
    /// The key is not that of the host that speaks for this client.
    #[error("the host key is not the one that client {} is bound to", .0.0)]
    NotTheClients(ClientId),
    /// The hosts cannot be told apart.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl Hosts {
    /// The hosts of the cluster with this domain: the address and static key of each replica's, and the
    /// static key of each client's. Whoever calls has checked the bindings.
    pub fn new(domain: Digest, replicas: Vec<(SocketAddr, [u8; 32])>, clients: &[[u8; 32]]) -> Self {
        let mut others: Vec<[u8; 32]> = Vec::new();
        let mut places = std::collections::BTreeMap::new();
        let place = |&key: &[u8; 32]| {
            *places.entry(key).or_insert_with(|| {
                others.push(key);
                others.len() - 1
            })
        };
        let clients = clients.iter().map(place).collect();
        Hosts { domain, replicas, others, clients }
    }

    /// The addresses of the replicas.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(|&(address, _)| address).collect()
    }

    /// The hosts of the replicas, in order.
    pub fn replicas(&self) -> Vec<Peer> {
        (0..self.replicas.len()).map(peer).collect()
    }

    /// The host that speaks for a client.
    pub fn of_client(&self, client: ClientId) -> Option<Peer> {
        let place = self.clients.get(client.0 as usize)?;
        Some(peer(self.replicas.len() + place))
    }

    /// The replica that a host speaks for, if it is a replica's.
    pub fn replica_of(&self, host: Peer) -> Option<ReplicaId> {
        let id = u16::try_from(host.0).ok()?;
        (usize::from(id) < self.replicas.len()).then_some(ReplicaId(id))
    }

    /// How much of the turns is each host's.
    pub(super) fn shares(&self) -> Vec<(Peer, Share)> {
        let mut clients = vec![0; self.others.len()];
        self.clients.iter().for_each(|&place| clients[place] += 1);
        let first = self.replicas.len();
        let others = clients.into_iter().enumerate();
        (self.replicas().into_iter().map(|peer| (peer, Share::Replica)))
            .chain(others.map(|(place, clients)| (peer(first + place), Share::Clients(clients))))
            .collect()
    }

    /// The sessions of the host that speaks for a replica: with the other replicas', where they are
    /// configured to be, and with the clients', wherever they say they are.
    ///
    /// # Errors
    /// If `own` is another host's key, or two hosts cannot be told apart.
    pub fn sessions_of_replica(&self, id: ReplicaId, own: HostKey) -> Result<Sessions, HostsError> {
        if self.replicas.get(usize::from(id.0)).is_none_or(|&(_, key)| key != own.public()) {
            return Err(HostsError::NotTheReplicas(id));
        }
        let first = self.replicas.len();
        let others = self.others.iter().enumerate().map(|(place, &public_key)| PeerEntry {
            peer: peer(first + place),
            public_key,
            address: None,
            fixed: false,
        });
        let mut entries: Vec<PeerEntry> = self.entries().collect();
        entries.remove(usize::from(id.0));
        entries.extend(others);
        Ok(Sessions::new(own, self.domain.0, &entries, Limits::default(), Random::system())?)
    }

    /// The sessions of a host that speaks for these clients, with the replicas'.
    ///
    /// # Errors
    /// If one of them is bound to another host, or two hosts cannot be told apart.
    pub fn sessions_of_clients(
        &self,
        clients: impl IntoIterator<Item = ClientId>,
        own: HostKey,
    ) -> Result<Sessions, HostsError> {
        for client in clients {
            let host = self.clients.get(client.0 as usize).map(|&place| self.others[place]);
            if host != Some(own.public()) {
                return Err(HostsError::NotTheClients(client));
            }
        }
        let entries: Vec<PeerEntry> = self.entries().collect();
        Ok(Sessions::new(own, self.domain.0, &entries, Limits::default(), Random::system())?)
    }

    fn entries(&self) -> impl Iterator<Item = PeerEntry> + '_ {
        self.replicas.iter().enumerate().map(|(place, &(address, public_key))| PeerEntry {
            peer: peer(place),
            public_key,
            address: Some(address),
            fixed: true,
        })
    }
}

fn peer(place: usize) -> Peer {
    Peer(u32::try_from(place).expect("a cluster has fewer than 2^32 hosts"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> HostKey {
        HostKey::from_secret([byte; 32])
    }

    #[test]
    fn a_host_speaks_for_whom_it_is_bound_to_and_for_nobody_else() {
        let address = SocketAddr::from(([127, 0, 0, 1], 7600));
        let replicas = vec![(address, key(1).public()), (address, key(2).public())];
        let clients = [key(3), key(4), key(3)].map(|key| key.public());
        let hosts = Hosts::new(Digest::NULL, replicas, &clients);
        assert_eq!(hosts.of_client(ClientId(0)), hosts.of_client(ClientId(2)));
        assert_ne!(hosts.of_client(ClientId(0)), hosts.of_client(ClientId(1)));
        assert_eq!(hosts.of_client(ClientId(3)), None);
        assert!(hosts.sessions_of_replica(ReplicaId(1), key(2)).is_ok());
        let wrong = hosts.sessions_of_replica(ReplicaId(1), key(1)).err();
        assert_eq!(wrong, Some(HostsError::NotTheReplicas(ReplicaId(1))));
        assert!(hosts.sessions_of_clients([ClientId(0), ClientId(2)], key(3)).is_ok());
        let wrong = hosts.sessions_of_clients([ClientId(0), ClientId(1)], key(3)).err();
        assert_eq!(wrong, Some(HostsError::NotTheClients(ClientId(1))));
    }

    #[test]
    fn a_client_cannot_be_bound_to_a_replicas_host() {
        let address = SocketAddr::from(([127, 0, 0, 1], 7600));
        let replicas = vec![(address, key(1).public()), (address, key(2).public())];
        let hosts = Hosts::new(Digest::NULL, replicas, &[key(1).public()]);
        assert!(matches!(hosts.sessions_of_replica(ReplicaId(1), key(2)), Err(HostsError::Table(_))));
    }
}
