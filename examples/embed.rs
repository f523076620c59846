//! A service of your own, replicated, and nothing else: no network, no disk, no checker. Its state is a hash
//! map.
//!
//!     cargo run --example embed --no-default-features
//!
//! Four replicas and a client in one process, over a queue instead of a network. Keys come from a seed and
//! nothing is stored, which is for examples only: "What a host owes" on the page of the crate says what a
//! real host does.

// The replica uses no hash map: the order of one is random. What a service sorts before it shows it may be in
// one.
#![allow(clippy::disallowed_types)]

use pbft::Standard;
use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::message::Message;
use pbft::parameters::Parameters;
use pbft::replica::{Effect, Effects, Event, Replica, Setup, nodes, verify::verify};
use pbft::rules::Pbft;
use pbft::service::{RestoreError, Service};
use pbft::types::{Bytes, ClientId, Cluster, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::sync::Arc;

/// How often each word was said: neither comparable nor hashable, as a database would be.
#[derive(Clone, Debug, Default)]
struct Words(HashMap<Vec<u8>, u64>);

impl Service for Words {
    fn execute(&mut self, _: ClientId, operation: &[u8]) -> Bytes {
        let said = self.0.entry(operation.to_vec()).or_default();
        *said += 1;
        Bytes::from(said.to_string().into_bytes())
    }

    fn read(&self, _: ClientId, operation: &[u8]) -> Option<Bytes> {
        let said = self.0.get(operation).copied().unwrap_or(0);
        Some(Bytes::from(said.to_string().into_bytes()))
    }

    // Equal states have equal snapshots, so the words are sorted.
    fn snapshot(&self) -> Vec<Bytes> {
        let mut words: Vec<_> = self.0.iter().collect();
        words.sort_unstable();
        words.iter().map(|(word, said)| Bytes::from([&said.to_le_bytes()[..], word].concat())).collect()
    }

    fn restore(chunks: &[Bytes]) -> Result<Self, RestoreError> {
        let word = |chunk: &Bytes| {
            let (said, word) = chunk.split_first_chunk().ok_or(RestoreError)?;
            Ok((word.to_vec(), u64::from_le_bytes(*said)))
        };
        chunks.iter().map(word).collect::<Result<_, _>>().map(Words)
    }
}

/// A replica, and what it is configured with.
type Node = (Setup<Standard<Words>>, Replica<Standard<Words>>);

/// A message, and the node that it is for: a replica, or the client behind them.
type Network = VecDeque<(usize, Message<Ed25519>)>;

/// Says a few words.
///
/// # Errors
/// If the cluster cannot serve, or accepts no result.
pub fn main() -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::new(4, 1);
    let (replica_keys, client_keys) = KeyRing::insecure(0, 4, 1);
    let mut replicas = Vec::new();
    for (id, keys) in cluster.replicas().zip(replica_keys) {
        let setup = Setup::<Standard<Words>> {
            id,
            cluster,
            parameters: Parameters::default(),
            keys: Arc::new(keys),
            clients: 1,
            rules: Pbft,
            genesis: Words::default(),
        };
        setup.check_servable()?;
        // A real host carries these effects out, too: timers, STATUS.
        let replica = Replica::start(&setup, None, &mut Effects::new())?;
        replicas.push((setup, replica));
    }
    let keys = Arc::new(client_keys.into_iter().next().ok_or("there is one client")?);
    let setup = ClientSetup { id: ClientId(0), cluster, keys, rules: Pbft };
    let mut client = Client::<Ed25519>::new(ClientDurable::default());
    for word in ["so", "it", "goes", "so"] {
        let result = say(word, &mut replicas, &setup, &mut client)?;
        println!("{word}: {}", String::from_utf8_lossy(&result));
    }
    Ok(())
}

/// Asks for one operation, and runs everything until a result is accepted.
fn say(
    word: &str,
    replicas: &mut [Node],
    setup: &ClientSetup<Ed25519, Pbft>,
    client: &mut Client<Ed25519>,
) -> Result<Bytes, Box<dyn Error>> {
    let (cluster, own) = (setup.cluster, replicas.len());
    let mut network = Network::new();
    let mut result = None;
    let mut asked = Vec::new();
    let operation = Bytes::from(word.as_bytes());
    client.step(setup, ClientEvent::Invoke { operation, read_only: false, clock: Timestamp(0) }, &mut asked);
    loop {
        for effect in asked.drain(..) {
            match effect {
                ClientEffect::Send(to, message) => {
                    network.extend(nodes(&cluster, own, to).into_iter().map(|node| (node, message.clone())));
                }
                ClientEffect::Completed { result: accepted, .. } => result = Some(accepted),
                _ => {} // timers, what is to be durable, rejections
            }
        }
        let Some((node, message)) = network.pop_front() else { break };
        if node == own {
            client.step(setup, ClientEvent::Message(Client::verify(setup, message)?), &mut asked);
            continue;
        }
        let (setup, replica) = &mut replicas[node];
        let message = verify(setup, message)?; // a real host drops and counts what does not verify
        let mut effects = Effects::new();
        replica.step(setup, Event::Message(message), &mut effects);
        for effect in effects {
            match effect {
                Effect::Persist(_) => {} // a real host makes it durable before it sends what follows
                Effect::Send(to, message) => {
                    network.extend(nodes(&cluster, node, to).into_iter().map(|node| (node, message.clone())));
                }
                _ => {} // timers, facts, rejections
            }
        }
    }
    result.ok_or_else(|| "no result was accepted".into())
}
