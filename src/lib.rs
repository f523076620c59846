//! Practical Byzantine Fault Tolerance (Castro and Liskov, OSDI'99), written once.
//!
//! The replica is a deterministic state machine ([`replica::Replica::step`]) behind a `stateright` actor
//! ([`actor::ReplicaActor`]). The same compiled functions are explored exhaustively for small clusters,
//! shown step by step when a property fails, and run over a network. This crate holds the protocol and
//! knows neither the checker's worlds nor the command line.
//!
//! Where to start: [`replica`] for the protocol, [`rules`] for what it decides by, [`service`] for what it
//! replicates, [`client`] for who asks.

pub mod actor;
pub mod certificate;
pub mod client;
pub mod crypto;
pub mod kv;
pub mod message;
pub mod rejection;
pub mod replica;
pub mod rules;
pub mod service;
pub mod store;
pub mod types;
pub mod wire;
