//! What a host is given, and why it may not start.

use super::hosts::{Hosts, HostsError};
use super::sessions::HostKey;
use super::store::OpenError;
use crate::parameters::ConfigError;
use crate::replica::Timeouts;
use crate::replica::{Bundle, Durable, Effects, Event, Replica, Setup, StartRefusal};
use crate::types::Digest;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where and how a replica runs.
pub struct Options<B: Bundle> {
    /// The address to bind.
    pub listen: SocketAddr,
    /// Where each replica is, this one too, and which host speaks for whom.
    pub hosts: Hosts,
    /// The static key of this replica's host.
    pub host_key: HostKey,
    /// The domain of the cluster's signatures: part of the store's identity.
    pub domain: Digest,
    /// The digest of what all replicas must agree on, members and parameters, to find out who has been given another:
    /// replicas compare it, and nothing is decided by it. Without one nothing is compared.
    pub membership: Option<Digest>,
    /// How long the timers run.
    pub timeouts: Timeouts,
    /// How much time a primary may take.
    pub patience: Patience,
    /// The directory of the store; without one nothing survives the process, which is for benchmarks only.
    pub store: Option<PathBuf>,
    /// Threads that receive, verify and step; at least 1.
    pub workers: usize,
    /// The longest datagram sent, in bytes.
    pub datagram_bytes: usize,
    /// Who watches, if anybody.
    pub witness: Option<Box<dyn Witness<B>>>,
}

/// How much time a primary may take ([`Lateness`](crate::lateness::Lateness)).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// Bounds of what is expected of a request, whatever has been measured.
    pub expected: (Duration, Duration),
    /// How much longer requests may take, in all, until the view is left.
    pub budget: Duration,
    /// The view is left after so many stable checkpoints in any case; never if it is 0.
    pub checkpoints: u64,
}

impl Patience {
    /// Between 25 ms and four progress time-outs are expected, half a time-out is the budget, and the primary
    /// stays.
    pub fn of(timeouts: &Timeouts) -> Self {
        Patience {
            expected: (Duration::from_millis(25).min(timeouts.progress), 4 * timeouts.progress),
            budget: timeouts.progress / 2,
            checkpoints: 0,
        }
    }
}

/// Sees everything that a replica is given and asks for, in order; for a journal, never for decisions.
pub trait Witness<B: Bundle>: Send {
    /// The replica starts from `stored`, which asks for `effects`.
    ///
    /// # Errors
    /// If this cannot be noted. The replica then stops at once, and carries out nothing of it.
    fn started(
        &mut self,
        stored: Option<&Durable<B::Crypto>>,
        effects: &Effects<B::Crypto>,
    ) -> io::Result<()>;

    /// The next step is for this event.
    ///
    /// # Errors
    /// If this cannot be noted. The replica then stops at once, and carries out nothing of it.
    fn event(&mut self, event: &Event<B::Crypto>) -> io::Result<()>;

    /// It asked for these effects, and is `replica` now.
    ///
    /// # Errors
    /// If this cannot be noted. The replica then stops at once, and carries out nothing of it.
    fn effects(
        &mut self,
        setup: &Setup<B>,
        replica: &Replica<B>,
        effects: &Effects<B::Crypto>,
    ) -> io::Result<()>;

    /// What the first `steps` steps, and the start before them, asked to be recorded is durable, and what
    /// they asked to be sent leaves now.
    ///
    /// # Errors
    /// If this cannot be noted. The replica then stops at once, and sends nothing of it; what is durable
    /// stays so.
    fn carried_out(&mut self, steps: u64) -> io::Result<()>;

    /// What it counts, by name: told with the counters of the host, in [`Health`](super::control::Health).
    fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}

/// Why a replica that ran has stopped by itself: a thread panicked, or the machine failed and it stopped,
/// losing nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct StopError(pub String);

/// Why a replica cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration must not serve.
    #[error("{0}")]
    Configuration(ConfigError),
    /// No sessions can be had with this key and these hosts.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// The store is refused.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// What the store holds is not what this replica can have recorded.
    #[error("the store is damaged: {0}")]
    Restore(#[from] StartRefusal),
    /// The address cannot be bound.
    #[error("cannot bind {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// The machine refused.
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}
