//! A world: production's replicas on a network that only remembers, and an adversary without a state.
//!
//! Every message that a correct replica sends is added to one set, and any message of the set may reach any
//! replica at any time, any number of times or never: loss, duplication, delay and reordering at once.
//! Whatever Byzantine replicas could have sent is derived from that set ([`crate::adversary`]). So a global
//! state is the states of the correct replicas and the set of messages sent; since each has signed its own,
//! that is one word for each replica, which names its local state together with what it has sent. A step of
//! the real code, `verify` and `Replica::step`, is taken once for each pair of a local state and an event,
//! however many global states it occurs in.
//!
//! Every client has one request. It is a message like any other, on the network from the start: a replica may
//! hear of it at any time or never, before or after those of others. Or the clients are part of the world,
//! and send it, and replies are messages too ([`clients`]). The progress timer of a replica may fire at any
//! time, whatever it has been set to, until the highest view is reached.
//!
//! What is left out, and why nothing is lost by it:
//! - STATUS and FETCH ask for retransmission. What they make a correct replica send again is on the network
//!   already, or is a proof that anybody can put together of what is: a condition that every run checks
//!   (`resent`).
//! - REPLYs, unless the clients are part of the world: what they say is in the histories.

mod agents;
mod ahead;
mod application;
mod behaviours;
mod binding;
mod carried;
pub mod clients;
mod config;
mod count;
mod crashes;
mod explored;
mod held;
mod histories;
mod joints;
mod judge;
mod judged;
mod locals;
mod network;
mod passed;
mod plain;
mod recent;
mod rehearsed;
mod resent;
mod settle;
mod share;
mod space;
mod steps;
mod tables;
mod taking;
mod views;
mod witnesses;
mod words;

pub use words::in_words;

pub use agents::{Agent, AgentId, AgentInfo, Agents};
pub use application::{Application, Call};
pub use behaviours::Behaviour;
pub(crate) use binding::BINDING;
pub(crate) use carried::CARRIED;
pub use config::{Clients, MAX_REPLICAS, WorldConfig};
pub use count::count_first_world;
pub use crashes::Crashes;
pub(crate) use crashes::{RESTARTING, carried_out_of};
pub use explored::{Delivery, Move, State, World};
pub(crate) use held::Paths;
pub use joints::{Asked, JointAgents, JointLocals, Joints};
pub use judge::{ClientHistory, Joint, Judge};
pub use network::{KnowledgeId, NOTHING, Network, Parts, reply_subjects, request_subjects, subjects};
pub use plain::{Plain, PlainState};
pub use recent::Recent;
pub(crate) use resent::{Inquiry, Proposal, RESENDING, Sent, carried_by, is_old, questions};
pub use share::Share;
pub use tables::{Bare, Input, Local, LocalId, Mark, MessageId, Step, Tables};
pub(crate) use taking::one_by_one;
pub use witnesses::{HIGHEST, Numbers, Witness, Witnesses};

use crate::crypto::Symbolic;
use crate::mutants::Rulebook;
use pbft::replica::Bundle;

/// The bundle that worlds are made of: production's replica, symbolic signatures, an order-sensitive service.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Modelled;

impl Bundle for Modelled {
    type Crypto = Symbolic;
    type Service = crate::ledger::Ledger;
    type Rules = Rulebook;
}
