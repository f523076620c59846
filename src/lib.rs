//! Practical Byzantine Fault Tolerance (Castro and Liskov, OSDI'99), written once.
//!
//! The replica is a deterministic state machine ([`replica::Replica::step`]) behind a `stateright` actor
//! ([`actor::ReplicaActor`]). The same functions, generic over signatures and service, are explored exhaustively
//! for small clusters, simulated on hostile networks, and meant to be run over a real one. This crate holds the protocol and
//! knows neither the checker's worlds nor the command line.
//!
//! Where to start: [`replica`] for the protocol, [`rules`] for what it decides by, [`service`] for what it
//! replicates, [`client`] for who asks.
//!
//! # Embedding the replica
//!
//! Choose the three parts of a [`Bundle`](replica::Bundle), give each replica its
//! [`Setup`](replica::Setup), and carry out the [`Effects`](replica::Effects) of each step in their order:
//! whatever is to be persisted must be durable before what follows it is sent. Here four replicas and a
//! client run in one process, over a queue instead of a network:
//!
//! ```
//! use pbft::actor::nodes;
//! use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
//! use pbft::crypto::ed25519::{Ed25519, KeyRing};
//! use pbft::kv::{KeyValue, Operation, Outcome};
//! use pbft::message::Message;
//! use pbft::replica::{Bundle, Effect, Effects, Event, Replica, Setup, verify::verify};
//! use pbft::rules::Pbft;
//! use pbft::types::{Bytes, ClientId, Cluster, Parameters, Timestamp};
//! use std::{collections::VecDeque, sync::Arc};
//!
//! #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
//! struct Store;
//! impl Bundle for Store {
//!     type Crypto = Ed25519;
//!     type Service = KeyValue;
//!     type Rules = Pbft;
//! }
//!
//! let cluster = Cluster::new(4, 1);
//! let (replica_keys, client_keys) = KeyRing::insecure(0, 4, 1); // for examples only
//! let setups: Vec<Setup<Store>> = (cluster.replicas().zip(replica_keys))
//!     .map(|(id, keys)| Setup {
//!         id,
//!         cluster,
//!         parameters: Parameters::default(),
//!         keys: Arc::new(keys),
//!         clients: 1,
//!         rules: Pbft,
//!         genesis: KeyValue::default(),
//!     })
//!     .collect();
//! assert!(setups.iter().all(|setup| setup.problem().is_none())); // bounds, keys, n >= 3f + 1
//! let start = |setup| {
//!     let mut effects = Effects::new(); // a real host carries these out too: timers, STATUS
//!     Replica::<Store>::start(setup, None, &mut effects).unwrap()
//! };
//! let mut replicas: Vec<Replica<Store>> = setups.iter().map(start).collect();
//!
//! let keys = Arc::new(client_keys.into_iter().next().unwrap());
//! let setup = ClientSetup { id: ClientId(0), cluster, keys, rules: Pbft };
//! let mut client = Client::new(ClientDurable::default());
//! let put = Operation::Put { key: Bytes::from(&b"k"[..]), value: Bytes::from(&b"v"[..]) };
//! let mut network: VecDeque<(usize, Message<Ed25519>)> = VecDeque::new();
//! let mut asked = Vec::new();
//! let invoke = ClientEvent::Invoke { operation: put.to_bytes(), read_only: false, clock: Timestamp(0) };
//! client.step(&setup, invoke, &mut asked);
//! for effect in asked {
//!     if let ClientEffect::Send(to, message) = effect {
//!         network.extend(nodes(&cluster, 4, to).into_iter().map(|node| (node, message.clone())));
//!     }
//! }
//!
//! let mut result = None;
//! while let Some((node, message)) = network.pop_front() {
//!     if node == 4 {
//!         let mut told = Vec::new();
//!         let reply = Client::verify(&setup, message).unwrap();
//!         client.step(&setup, ClientEvent::Message(reply), &mut told);
//!         for effect in told {
//!             if let ClientEffect::Completed { result: accepted, .. } = effect {
//!                 result = Some(Outcome::from_bytes(&accepted));
//!             }
//!         }
//!         continue;
//!     }
//!     let message = verify(&setups[node], message).unwrap(); // drop and count what does not verify
//!     let mut effects = Effects::new();
//!     replicas[node].step(&setups[node], Event::Message(message), &mut effects);
//!     for effect in effects {
//!         match effect {
//!             Effect::Persist(_) => {} // append to stable storage and sync, before any later send
//!             Effect::Send(to, message) => network
//!                 .extend(nodes(&cluster, node, to).into_iter().map(|node| (node, message.clone()))),
//!             _ => {} // timers, facts, rejections
//!         }
//!     }
//! }
//! assert_eq!(result, Some(Outcome::Value(None))); // there was no value before
//! assert!(replicas.iter().all(|replica| replica.service().get(b"k").is_some()));
//! ```

pub mod actor;
pub mod certificate;
pub mod client;
pub mod crypto;
pub mod kv;
pub mod message;
pub mod rejection;
pub mod replica;
pub mod rules;
pub mod runtime;
pub mod service;
pub mod store;
pub mod types;
pub mod wire;
