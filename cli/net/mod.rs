//! The commands that run real replicas and clients.

pub mod addresses;
pub mod audit;
pub mod backup;
pub mod bench;
pub mod client;
pub mod cluster;
pub mod config;
pub mod keygen;
pub mod metrics;
pub mod process;
pub mod replica;
pub mod restore;
pub mod status;
