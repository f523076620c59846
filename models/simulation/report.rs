//! How a simulation ended.

use pbft::rejection::Rejection;
use std::collections::BTreeMap;

/// What happened in a simulation that went well.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Messages delivered and timers fired.
    pub events: u64,
    /// Operations completed.
    pub completed: usize,
    /// The highest view that a correct replica entered.
    pub highest_view: u64,
    /// How often a correct replica left a view.
    pub views_left: u64,
    /// How often a correct replica crashed.
    pub crashes: u64,
    /// How often a correct replica fetched a state.
    pub transfers: u64,
    /// How many checkpoints became stable at a correct replica.
    pub stable_checkpoints: u64,
    /// Messages dropped, by reason.
    pub dropped: BTreeMap<Rejection, u64>,
    /// Steps and starts of correct replicas that were held to the [contract](pbft_properties::contract).
    pub judged: u64,
    /// The actions of the abstract protocol that they took.
    pub actions: BTreeMap<&'static str, u64>,
    /// The virtual time at the end, in microseconds.
    pub time_us: u64,
}

/// What went wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// A property does not hold.
    Violation(String),
    /// A step is none of the abstract protocol.
    Breach(String),
    /// The clients' history is not linearizable.
    NotLinearizable(String),
    /// The network had healed and a client got no answer.
    NoProgress(String),
    /// A replica could not restart from what it had stored.
    CannotRestart(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Violation(what) => write!(f, "violated: {what}"),
            Failure::Breach(what) => write!(f, "not a step of the proved protocol: {what}"),
            Failure::NotLinearizable(what) => write!(f, "not linearizable: {what}"),
            Failure::NoProgress(what) => write!(f, "no progress: {what}"),
            Failure::CannotRestart(what) => write!(f, "cannot restart: {what}"),
        }
    }
}
