//! Real replicas in processes of their own, over UDP on the loopback interface.
//!
//! The long runs are ignored: `cargo test --release -p pbft-cli --test processes -- --ignored --test-threads
//! 1`.

// All of it is tests: what fails is a failed test.
#![allow(clippy::unwrap_used)]

#[path = "../../net/addresses.rs"]
mod addresses;
mod clocks;
#[allow(dead_code)]
#[path = "../../net/config/mod.rs"]
mod config;
mod crashes;
mod journals;
mod judged;
mod misbehave;
mod network;
mod observe;
mod operations;
mod outages;
#[allow(dead_code)]
mod proxy;
mod restored;
mod service;
mod states;
mod stores;
mod support;
