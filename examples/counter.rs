//! A service of your own, replicated: a counter. Four replicas and a client in one process, over UDP.
//!
//!     cargo run --example counter
//!
//! Keys come from a seed and nothing is stored, which is for examples only: give each replica a process, a
//! key of its own ([`KeyRing::new`]) and a store ([`Store::create`](pbft::runtime::store::Store::create)).

use pbft::Standard;
use pbft::client::ClientSetup;
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::parameters::Parameters;
use pbft::replica::Setup;
use pbft::replica::Timeouts;
use pbft::rules::Pbft;
use pbft::runtime::sessions::HostKey;
use pbft::runtime::{Clients, Host, Hosts, Options, Patience};
use pbft::service::{RestoreError, Service};
use pbft::types::{Bytes, ClientId, Cluster, Digest};
use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is replicated: any deterministic state machine.
#[derive(Clone, Debug, Default)]
struct Counter(u64);

impl Service for Counter {
    /// `add` counts up; anything else is answered with the number.
    fn execute(&mut self, _: ClientId, operation: &[u8]) -> Bytes {
        if operation == b"add" {
            self.0 += 1;
        }
        Bytes::from(self.0.to_string().into_bytes())
    }

    fn read(&self, _: ClientId, operation: &[u8]) -> Option<Bytes> {
        (operation == b"read").then(|| Bytes::from(self.0.to_string().into_bytes()))
    }

    fn snapshot(&self) -> Vec<Bytes> {
        vec![Bytes::from(&self.0.to_le_bytes()[..])]
    }

    fn restore(chunks: &[Bytes]) -> Result<Self, RestoreError> {
        let [chunk] = chunks else { return Err(RestoreError) };
        let bytes: [u8; 8] = chunk[..].try_into().map_err(|_| RestoreError)?;
        Ok(Counter(u64::from_le_bytes(bytes)))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::new(4, 1);
    let sockets = (0..4).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let addresses = sockets.iter().map(UdpSocket::local_addr).collect::<Result<Vec<SocketAddr>, _>>()?;
    drop(sockets); // the ports are free again
    let (replica_keys, client_keys) = KeyRing::insecure(0, 4, 1);
    // Keys for an example: anybody can make them.
    let host_key = |number: u8| HostKey::from_secret([number; 32]);
    let bound = (0..4).map(|id| (addresses[usize::from(id)], host_key(id).public())).collect();
    let cluster_hosts = Hosts::new(Digest::NULL, bound, &[host_key(4).public()]);
    let mut hosts = Vec::new();
    for (id, keys) in cluster.replicas().zip(replica_keys) {
        let setup = Setup::<Standard<Counter>> {
            id,
            cluster,
            parameters: Parameters::default(),
            keys: Arc::new(keys),
            clients: 1,
            rules: Pbft,
            genesis: Counter::default(),
        };
        let options = Options {
            listen: addresses[usize::from(id.0)],
            hosts: cluster_hosts.clone(),
            host_key: host_key(u8::try_from(id.0)?),
            domain: Digest::NULL,
            timeouts: Timeouts::default(),
            patience: Patience::of(&Timeouts::default()),
            store: None,
            workers: 1,
            datagram_bytes: 1400,
            witness: None,
        };
        hosts.push(Host::start(setup, options)?);
    }

    let keys = Arc::new(client_keys.into_iter().next().ok_or("one key was asked for")?);
    let setup = ClientSetup::<Ed25519, _> { id: ClientId(0), cluster, keys, rules: Pbft };
    let mut clients =
        Clients::open(&cluster_hosts, host_key(4), vec![setup], Duration::from_millis(250), 1400)?;
    for (operation, read_only) in [(&b"add"[..], false), (b"add", false), (b"read", true)] {
        clients.invoke(ClientId(0), Bytes::from(operation), read_only)?;
        let completed = clients.wait(Instant::now() + Duration::from_secs(10))?;
        let completion = completed.first().ok_or("no answer within ten seconds")?;
        println!("{} -> {}", String::from_utf8_lossy(operation), String::from_utf8_lossy(&completion.result));
    }
    for host in &hosts {
        host.stop()?;
    }
    Ok(())
}
