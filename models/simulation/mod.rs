//! A deterministic simulation: the production replica and client on a hostile network, from one seed.
//!
//! Messages are lost, duplicated, delayed, reordered and, as bytes, corrupted; the network splits and heals;
//! any replica crashes, in the middle of a step too, and restarts from what it had made durable; up to f
//! replicas send arbitrary well-signed messages. After a while the network heals, and then every client must
//! get its answers. Properties are checked at every step at which anything happened, and at the end the
//! clients' history must be linearizable.
//!
//! This explores far larger behaviours than an exhaustive world can, and proves nothing: it is a search for
//! bugs, with a bound on time and seeds.

mod customers;
mod history;
mod network;
mod outage;
mod replicas;
mod report;
mod run;

pub use crate::byzantine::Strategy;
pub use outage::{Outage, Returned, outage};
pub use report::{Failure, Report};
pub use run::run;

use crate::crypto::{Keys, Symbolic};
use pbft::crypto::Crypto;
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::kv::KeyValue;
use pbft::replica::{Bundle, Timeouts};
use pbft::rules::Rules;
use std::fmt::Debug;
use std::hash::Hash;
use std::marker::PhantomData;
use std::time::Duration;

/// A scheme that hands out everybody's keys.
pub trait Scheme: Crypto {
    /// The name used on the command line.
    const NAME: &'static str;

    /// The keys of each replica and of each client.
    fn keys(replicas: u16, clients: u32) -> (Vec<Self::Keys>, Vec<Self::Keys>);
}

impl Scheme for Ed25519 {
    const NAME: &'static str = "ed25519";

    fn keys(replicas: u16, clients: u32) -> (Vec<KeyRing>, Vec<KeyRing>) {
        KeyRing::insecure(0, replicas, clients)
    }
}

impl Scheme for Symbolic {
    const NAME: &'static str = "symbolic";

    fn keys(replicas: u16, clients: u32) -> (Vec<Keys>, Vec<Keys>) {
        Keys::all(replicas, clients)
    }
}

/// Production's replica over a scheme and a set of rules.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Simulated<C, R>(PhantomData<(C, R)>);

impl<C: Crypto, R: Rules + Copy + Debug + Default + Ord + Hash> Bundle for Simulated<C, R> {
    type Crypto = C;
    type Service = KeyValue;
    type Rules = R;
}

/// What ends a simulation, apart from clients that wait in vain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeldTo {
    /// The properties of all replicas together; under PBFT's own rules, which mutants may leave, the contract too.
    Both,
    /// The contract alone, whatever the rules: nothing is looked at but one step of one replica at a time.
    Contract,
    /// The properties alone.
    Properties,
}

/// What one simulation is made of. Everything else follows from the seed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Chooses the schedule, the faults and the workload.
    pub seed: u64,
    /// The number of replicas.
    pub n: u16,
    /// The number of Byzantine replicas tolerated.
    pub f: u16,
    /// The number of clients, each with a workload of its own.
    pub clients: u32,
    /// The operations of each client.
    pub operations: usize,
    /// How many replicas are Byzantine; at most f unless something is to break.
    pub byzantine: u16,
    /// What they do; chosen by the seed for each of them if not given.
    pub strategy: Option<Strategy>,
    /// The probability that a message is lost, in percent, until the network heals.
    pub loss: u32,
    /// Whether replicas crash and restart until the network heals.
    pub crashes: bool,
    /// Whether the network splits until it heals.
    pub partitions: bool,
    /// Whether messages travel as bytes, some of them corrupted.
    pub wire: bool,
    /// The replicas' time-outs.
    pub timeouts: Timeouts,
    /// Whether progress time-outs count only while a quorum is heard, as in the runtime. Without this they
    /// double in an outage: to compare.
    pub presence: bool,
    /// The shortest and the longest time that a message travels, healed or not; chosen by the seed, a
    /// fraction of the time-outs, if not given.
    pub delay: Option<(Duration, Duration)>,
    /// The highest exponent of the clients' time-outs, whose base is 150 ms.
    pub client_backoff: u8,
    /// What the correct replicas are held to.
    pub held_to: HeldTo,
    /// Whether to tell on standard error what the correct replicas do.
    pub trace: bool,
}

impl Config {
    /// The faults of the acceptance test: 20 % loss, crashes, partitions, f Byzantine replicas.
    pub fn hostile(seed: u64, n: u16, f: u16) -> Self {
        Config {
            seed,
            n,
            f,
            clients: 3,
            operations: 4,
            byzantine: u16::try_from(seed % (u64::from(f) + 1)).unwrap_or(f),
            strategy: None,
            loss: 20,
            crashes: true,
            partitions: true,
            wire: seed.is_multiple_of(4),
            timeouts: Timeouts { progress: Duration::from_millis(120), status: Duration::from_millis(40) },
            presence: true,
            delay: None,
            client_backoff: 4,
            held_to: HeldTo::Both,
            trace: false,
        }
    }

    /// Four replicas held to the contract alone, in two of three simulations with a Byzantine one, whose strategies
    /// take turns.
    pub fn by_contract(seed: u64) -> Self {
        let turn = Strategy::ALL.iter().cycle().nth(usize::try_from(seed % 100).unwrap_or_default());
        Config {
            held_to: HeldTo::Contract,
            byzantine: u16::from(!seed.is_multiple_of(3)),
            strategy: turn.copied(),
            ..Config::hostile(seed, 4, 1)
        }
    }

    /// The command that repeats this simulation.
    pub fn command(&self, scheme: &str, rules: &str) -> String {
        let mut command = format!(
            "cargo run --release -- simulate --seed {} --n {} --f {} --byzantine-count {} --crypto {scheme}",
            self.seed, self.n, self.f, self.byzantine
        );
        if rules != "pbft" {
            command.push_str(" --rules ");
            command.push_str(rules);
        }
        command
    }
}
