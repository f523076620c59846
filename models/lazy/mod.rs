//! Lazy delivery: a message that is only logged is delivered when it completes something.
//!
//! Between two steps at which something happens, a replica's state is kept in its normal form, without
//! receipts: the network can deliver them again. A *macro step* delivers messages one after the other, all
//! about one subject (the PREPAREs of one view and number, its COMMITs, the CHECKPOINTs of one number, the
//! VIEW-CHANGEs for one view, blocks of state, the REPLYs to one request at its client), each of them silent
//! until the last one fires: something is sent, a fact is reported, or the normal form changes. A message of
//! another subject, and a time-out, are macro steps of their own.
//!
//! Why nothing is lost: the exploration simulates every execution, replica by replica. [`theorem`] says what
//! that means and why it is enough; where the local systems are small enough to be walked whole, each run
//! shows it. Elsewhere it is tested by the conditions of [`conditions`], on what the run meets: they catch
//! many mistakes, and do not imply it. The idea that they test: a silent delivery can be put off past any
//! other event, or it makes that event do nothing, so every execution can be rearranged so that each silent
//! delivery stands right before the one that it helps to fire.
//!
//! VIEW-CHANGEs are delivered to the replica that assembles the NEW-VIEW for their view, and to no other.
//! What else they can do is make a replica join, and a join is what time-outs bring about too: after as many
//! time-outs as lead to the view joined, and the same deliveries, the replica is in the same state and has
//! sent what the join sends, and perhaps VIEW-CHANGEs for views in between. On a network that only remembers,
//! more sent messages only allow more. And time-outs may happen at any time.
//!
//! NEW-VIEWs that differ in `V` alone, not in the min-s and `O` that follow from it, are one message: a
//! receiver does the same on each.
//!
//! Kept in the normal form although it multiplies states: the log of the old view between two views, because
//! entering the next one keeps the batches it names (the deadness condition fails without it).

mod alike;
mod asked;
mod bench;
mod cells;
mod clients;
mod conditions;
mod crash;
mod local;
mod must;
mod simulated;
mod steps;
mod take;
mod tasks;
#[cfg(test)]
mod tests;
pub mod theorem;

pub use conditions::{Broken, Conditions, Watch, check};
pub(crate) use conditions::{WALKS, check_but_resending};
pub(crate) use theorem::CONTRACT;
pub use theorem::{SIMULATION, Walked};

use crate::world::{Input, LocalId, MessageId, Move, Tables};
use foldhash::fast::FixedState;
use indexmap::{IndexMap, IndexSet};
use pbft::replica::Subject;
use pbft::types::Principal;
use std::sync::Arc;

/// Whether several messages about a subject are needed to complete something.
pub(crate) fn accumulates(subject: Option<Subject>) -> bool {
    match subject {
        Some(Subject::Prepare(..) | Subject::Commit(..) | Subject::Checkpoint(_)) => true,
        Some(Subject::ViewChange(_) | Subject::Block | Subject::Reply(..)) => true,
        Some(Subject::PrePrepare(..) | Subject::NewView(_) | Subject::Stable(_) | Subject::Batch) => false,
        Some(Subject::Request(..) | Subject::Read(..)) => true,
        None => false,
    }
}

/// What delivering messages about one subject can lead to.
pub(crate) struct Closure {
    /// Local states, without their dead parts, in which nothing has fired, and how each is reached; the
    /// normal form itself first.
    pub(crate) silent: IndexMap<LocalId, Vec<MessageId>, FixedState>,
    /// The state in which each macro step ends, before anything is forgotten: all that differ in live parts,
    /// so that what is required of an end is checked on each.
    pub(crate) fired: Vec<(LocalId, Move)>,
}

/// Delivers messages about one subject in every order in which they make a difference.
pub(crate) fn closure(
    tables: &mut Tables,
    node: Principal,
    local: LocalId,
    subject: Option<Subject>,
    inputs: &[Input],
) -> Closure {
    let mut silent: IndexMap<LocalId, Vec<MessageId>, FixedState> = IndexMap::default();
    let mut fired = Vec::new();
    let mut found: IndexSet<(LocalId, Arc<[MessageId]>), FixedState> = IndexSet::default();
    let mut crashed = found.clone();
    silent.insert(local, Vec::new());
    let mut next = 0;
    while let Some((&from, path)) = silent.get_index(next) {
        let path = path.clone();
        next += 1;
        for &input in inputs {
            let mut longer = path.clone();
            longer.extend(input.message());
            // Records that cancel out change nothing in the end, and something halfway.
            if let Principal::Replica(replica) = node {
                for crash in tables.crashes_during(replica, from, input) {
                    let (step, path) = (tables.step(node, from, crash), longer.clone());
                    let bare = tables.bare(node, step.to);
                    if crashed.insert((bare.alive, step.sends.clone())) {
                        let end = Move { path, crash: crash.crash(), to: bare.normal, sends: step.sends };
                        fired.push((step.to, end));
                    }
                }
            }
            let step = tables.step(node, from, input);
            if step.to == from && step.sends.is_empty() {
                continue;
            }
            let bare = tables.bare(node, step.to);
            if accumulates(subject) && step.sends.is_empty() && bare.normal == local {
                silent.entry(bare.alive).or_insert(longer);
            } else if found.insert((bare.alive, step.sends.clone())) {
                let end = Move { path: longer, crash: input.crash(), to: bare.normal, sends: step.sends };
                fired.push((step.to, end));
            }
        }
    }
    Closure { silent, fired }
}

/// The macro steps of a replica or client in the normal form `local` by these messages, all about one
/// subject, or by a time-out.
pub(crate) fn moves(
    tables: &mut Tables,
    node: Principal,
    local: LocalId,
    subject: Option<Subject>,
    inputs: &[Input],
) -> Vec<Move> {
    closure(tables, node, local, subject, inputs).fired.into_iter().map(|(_, step)| step).collect()
}
