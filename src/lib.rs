//! Practical Byzantine Fault Tolerance (Castro and Liskov, OSDI'99), written once.
//!
//! One implementation, used three ways: the same [`step`](replica::Replica::step) is model-checked
//! exhaustively on small clusters, simulated on hostile networks on larger ones, and run over UDP. There is
//! no separate model to drift from the code. This crate holds the protocol and knows neither the checker's
//! worlds nor the command line.
//!
//! Where to start: [`replica`] for the protocol, [`rules`] for what it decides by, [`service`] for what it
//! replicates, [`client`] for who asks.
//!
//! # Features
//!
//! Both are on by default. Without them the crate has no input or output, needs no operating system, and
//! builds for `wasm32-unknown-unknown`.
//!
//! - `stateright`: the replica and the client as stateright actors, module `actor`. The service must then be
//!   `Eq + Hash`.
//! - `udp`: a host for a replica, many clients over one socket, stores on disk and journals, module
//!   `runtime`. Unix.
//!
//! # What a host owes
//!
//! A host gives each replica its [`Setup`](replica::Setup) and carries out the [`Effects`](replica::Effects)
//! of every step, in their order. The feature `udp` does that; who embeds the replica elsewhere must:
//!
//! 1. Check the configuration ([`Setup::check_servable`](replica::Setup::check_servable)) before it starts.
//! 2. Start from what was durable ([`Replica::start`](replica::Replica::start)), never from nothing where
//!    there was something, and carry out the effects of the start too.
//! 3. Pass every message through [`verify`](replica::verify::verify); drop and count what it refuses.
//! 4. Make each [`Persist`](replica::Effect::Persist) durable before any later
//!    [`Send`](replica::Effect::Send) leaves, and take the facts that follow a record together with it.
//! 5. Run one timer of each kind, and never deliver the expiry of a progress timer that has been replaced or
//!    stopped since ([`Event::Timeout`](replica::Event::Timeout)).
//! 6. Let a progress timer fire only once a quorum has been heard for as long as it runs
//!    ([`presence::ProgressTimer`]); otherwise time-outs double in an outage, and clients wait long after it.
//! 7. Stop if it cannot do one of these. The replica goes on from its store and has broken no promise.
//!
//! # Embedding the replica
//!
//! [`Standard`] is the bundle of ed25519, the paper's rules and a service. Here four replicas and a client
//! run in one process, over a queue instead of a network; `examples/embed.rs` has a service of its own.
//!
//! ```
//! use pbft::Standard;
//! use pbft::client::{Client, ClientDurable, ClientEffect, ClientEvent, ClientSetup};
//! use pbft::crypto::ed25519::{Ed25519, KeyRing};
//! use pbft::kv::{KeyValue, Operation, Outcome};
//! use pbft::message::Message;
//! use pbft::replica::{Effect, Effects, Event, Replica, Setup, nodes, verify::verify};
//! use pbft::rules::Pbft;
//! use pbft::parameters::Parameters;
//! use pbft::types::{Bytes, ClientId, Cluster, Timestamp};
//! use std::{collections::VecDeque, sync::Arc};
//!
//! type Store = Standard<KeyValue>;
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
//! assert!(setups.iter().all(|setup| setup.check_servable().is_ok())); // bounds, keys, n >= 3f + 1
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

#[cfg(feature = "stateright")]
pub mod actor;
pub mod certificate;
pub mod client;
pub mod crypto;
pub mod kv;
pub mod lateness;
pub mod message;
pub mod parameters;
pub mod presence;
pub mod rejection;
pub mod replica;
pub mod rules;
#[cfg(feature = "udp")]
pub mod runtime;
pub mod service;
mod standard;
pub mod store;
pub mod types;
pub mod wire;

pub use standard::Standard;
