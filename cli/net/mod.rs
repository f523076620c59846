//! The commands that run real replicas and clients.

pub mod addresses;
pub mod audit;
pub mod backup;
pub mod bench;
pub mod client;
pub mod cluster;
pub mod config;
pub mod first_start;
pub mod judge;
pub mod keygen;
pub mod log_file;
pub mod metrics;
pub mod observer;
pub mod process;
pub mod replica;
pub mod request;
pub mod restore;
pub mod status;
