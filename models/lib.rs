//! Worlds in which the replica of [`pbft`] is explored exhaustively or simulated. Nothing here is protocol:
//! every decision is taken by the code that runs in production.

pub mod adversary;
pub mod browse;
pub mod byzantine;
pub mod contained;
pub mod crypto;
pub mod expected;
pub mod falsifiable;
pub mod layered;
pub mod lazy;
pub mod ledger;
pub mod matrix;
pub mod mutants;
pub mod problem;
pub mod progress;
pub mod report;
pub mod simulation;
pub mod story;
pub mod suite;
pub mod trace;
pub mod walks;
pub mod words;
pub mod world;

pub use pbft_levels as engine;
