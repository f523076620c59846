//! Attackers: without any key, with a client's, with a replica's. The others are served on, everything
//! acknowledged is still there, and the journals hold.
//!
//! A share is what the others are served under attack, of what they are served without, in the same run: one
//! processor or two carry the replicas, the clients, and the attacker too. The ordinary tests are short and
//! ask for a tenth. The long one prints a table: `cargo test --release -p pbft-cli --test hostile -- --ignored
//! --nocapture table`; `PBFT_ROUNDS` is 5 if not set, and `PBFT_ONLY` names the attacks to try.

// All of it is tests: what fails is a failed test.
#![allow(clippy::unwrap_used)]

#[path = "../../net/addresses.rs"]
mod addresses;
mod attack;
mod clients;
#[allow(dead_code)]
#[path = "../../net/config/mod.rs"]
mod config;
mod primaries;
#[allow(dead_code)]
#[path = "../processes/proxy.rs"]
mod proxy;
mod replicas;
mod strangers;
#[allow(dead_code)]
#[path = "../processes/support.rs"]
mod support;
mod table;
