//! A world: production's replicas on a network that only remembers.
//!
//! Every message that a replica sends is added to one set, and any message of the set may reach any replica at
//! any time, any number of times or never: loss, duplication, delay and reordering at once. So a global state is
//! the states of the replicas and the set of messages sent. Each is kept once in a table and named by an index,
//! and a step of the real code, `verify` and `Replica::step`, is taken once for each pair of a local state and a
//! message, however many global states it occurs in.
//!
//! What is left out, and why nothing is lost by it:
//! - STATUS and FETCH ask for retransmission. What they make a replica send again is in the set already (a
//!   test checks it in every local state).
//! - REPLYs go to clients, who are not part of this world.

mod first;
mod plain;
mod tables;

pub use first::{Delivery, FirstState, FirstWorld, count_first_world};
pub use plain::{Plain, PlainState};
pub use tables::{Local, LocalId, MessageId, SentId, Tables};

use crate::crypto::Symbolic;
use crate::mutants::Rulebook;
use pbft::replica::Bundle;

/// The bundle that worlds are made of: production's replica, symbolic signatures, an order-sensitive service.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Modelled;

impl Bundle for Modelled {
    type Crypto = Symbolic;
    type Service = crate::journal::Journal;
    type Rules = Rulebook;
}
