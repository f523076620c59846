//! What a step asks of its surroundings, in order.

use super::durable::Record;
use crate::crypto::Crypto;
use crate::message::Message;
use crate::rejection::Rejection;
use crate::types::{Bytes, ClientId, Cluster, Digest, ReplicaId, SeqNo, Timestamp, View};
use serde::Serialize;
use std::time::Duration;

/// The timers of a replica. Their durations are the runtime's.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Timer {
    /// The view makes no progress. Runs for the base time-out times 2^`backoff`. Source: OSDI'99 §4.4.
    ///
    /// Time in which a host hears fewer than a quorum does not count, nor do doublings from before such a
    /// time: [`ProgressTimer`](crate::presence::ProgressTimer).
    Progress {
        /// The exponent, at most [`MAX_BACKOFF`](crate::rules::MAX_BACKOFF).
        backoff: u8,
    },
    /// Time to tell the others what this replica has, and to ask again for what it lacks.
    Status,
}

impl Timer {
    /// That it has expired.
    pub fn expired(self) -> Expired {
        match self {
            Timer::Progress { .. } => Expired::Progress,
            Timer::Status => Expired::Status,
        }
    }
}

/// The timer of a replica that has expired. How long it ran is not said: what a replica then does cannot depend
/// on it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Expired {
    /// [`Timer::Progress`].
    Progress,
    /// [`Timer::Status`].
    Status,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Destination {
    /// Every other replica.
    Replicas,
    /// One replica.
    Replica(ReplicaId),
    /// A client.
    Client(ClientId),
}

/// The shortest window in which a replica must be heard to count as present, in STATUS intervals.
const PRESENCE_STATUSES: u32 = 5;

/// Time-outs of a replica on a real network. Models ignore them: any timer may fire at any time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// The progress time-out at exponent 0.
    pub progress: Duration,
    /// The interval between two STATUS messages.
    pub status: Duration,
}

impl Default for Timeouts {
    /// Half a second without progress starts a view change; STATUS every 100 ms.
    fn default() -> Self {
        Timeouts { progress: Duration::from_millis(500), status: Duration::from_millis(100) }
    }
}

impl Timeouts {
    /// How long the timer runs.
    pub fn duration(&self, timer: Timer) -> Duration {
        match timer {
            Timer::Progress { backoff } => self.progress * 2u32.pow(u32::from(backoff)),
            Timer::Status => self.status,
        }
    }

    /// How long a replica counts as heard after a message of it: the base time-out, or five STATUS intervals
    /// if that is longer.
    ///
    /// No longer than the base where possible, so that who is cut off when it begins to wait does not leave
    /// its view alone. And several intervals, as messages are lost: of five STATUS, all are lost with
    /// probability 0.24 % where 30 % are. The runtime sends four times as many while anything waits, as it
    /// does while a progress timer runs: then it is 0.3^20.
    pub fn presence_window(&self) -> Duration {
        self.progress.max(self.status * PRESENCE_STATUSES)
    }
}

/// The node that a destination stands for; every other replica for [`Destination::Replicas`].
pub fn nodes(cluster: &Cluster, own: usize, to: Destination) -> Vec<usize> {
    match to {
        Destination::Replicas => (0..cluster.n()).filter(|&node| node != own).collect(),
        Destination::Replica(replica) => vec![usize::from(replica.0)],
        Destination::Client(client) => {
            vec![cluster.n() + usize::try_from(client.0).expect("a client index fits in a usize")]
        }
    }
}

/// What a replica has done, in terms that properties are stated in. Never read by the replica itself; a host
/// reads [`Fact::ViewLeft`] for its timer.
///
/// A fact that a record makes true follows that record at once, so a crash between two effects can be judged:
/// whoever carries effects out takes the facts that follow a record together with it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Fact {
    /// The primary assigned, or a backup accepted, this digest for `(view, n)`, and says so.
    PrePrepared {
        /// The view.
        view: View,
        /// The sequence number.
        n: SeqNo,
        /// The batch.
        digest: Digest,
    },
    /// `prepared(m, v, n, i)` became true, and COMMIT is sent.
    Prepared {
        /// The view.
        view: View,
        /// The sequence number.
        n: SeqNo,
        /// The batch.
        digest: Digest,
    },
    /// `committed-local(m, v, n, i)` became true.
    Committed {
        /// The view.
        view: View,
        /// The sequence number.
        n: SeqNo,
        /// The batch.
        digest: Digest,
    },
    /// The batch at `n` was executed: each request that the client table let through, with its result.
    Executed {
        /// The sequence number.
        n: SeqNo,
        /// The batch; [`Digest::NULL`] for the null request.
        digest: Digest,
        /// The requests that ran, in order.
        requests: Vec<ExecutedRequest>,
    },
    /// VIEW-CHANGE for `to` is sent: nothing more happens in `view`.
    ViewLeft {
        /// The view entered last.
        view: View,
        /// The view to change to.
        to: View,
    },
    /// A new view is entered, with what its `O` carries over above this replica's h.
    ViewEntered {
        /// The view.
        view: View,
        /// Sequence numbers and digests of `O`, ascending.
        carried: Vec<(SeqNo, Digest)>,
    },
    /// CHECKPOINT is sent for the state after `n`.
    CheckpointTaken {
        /// The sequence number.
        n: SeqNo,
        /// The digest of the state.
        digest: Digest,
    },
    /// The checkpoint is known to be stable, and h is now `n`.
    CheckpointStable {
        /// The sequence number.
        n: SeqNo,
        /// The digest of the state.
        digest: Digest,
    },
    /// The state after `n` was fetched from others instead of being executed.
    StateTransferred {
        /// The sequence number.
        n: SeqNo,
        /// The digest of the state.
        digest: Digest,
    },
}

/// One request executed, with everything a property needs to judge it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ExecutedRequest {
    /// The client.
    pub client: ClientId,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// The operation.
    pub operation: Bytes,
    /// The result.
    pub result: Bytes,
}

/// One thing to do.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Effect<C: Crypto> {
    /// Must be durable before any later [`Effect::Send`] of the same list leaves. Records are durable in
    /// order: a later one never survives a crash that an earlier one does not.
    Persist(Record<C>),
    /// May be lost, duplicated, delayed or reordered.
    Send(Destination, Message<C>),
    /// Starts the timer, or restarts it if it runs. One `Progress` timer runs at a time; the expiry of the
    /// one it replaces must be thrown away.
    SetTimer(Timer),
    /// Stops the `Progress` timer. An expiry that is already queued must be thrown away.
    CancelProgressTimer,
    /// For properties, logs and metrics.
    Fact(Fact),
    /// The event was dropped for this reason.
    Reject(Rejection),
}

/// The effects of one step, in order. Empty for a step that did nothing.
#[must_use = "effects must be carried out, in their order"]
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Effects<C: Crypto> {
    list: Vec<Effect<C>>,
}

impl<C: Crypto> Effects<C> {
    /// No effects.
    pub fn new() -> Self {
        Effects { list: Vec::new() }
    }

    /// The effects in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Effect<C>> {
        self.list.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The facts reported, in order.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.list.iter().filter_map(|effect| match effect {
            Effect::Fact(fact) => Some(fact),
            _ => None,
        })
    }

    /// The messages to send, in order.
    pub fn sends(&self) -> impl Iterator<Item = (Destination, &Message<C>)> {
        self.list.iter().filter_map(|effect| match effect {
            Effect::Send(to, message) => Some((*to, message)),
            _ => None,
        })
    }

    /// The reason for which the event was dropped, if it was.
    pub fn rejection(&self) -> Option<Rejection> {
        self.list.iter().find_map(|effect| match effect {
            Effect::Reject(reason) => Some(*reason),
            _ => None,
        })
    }

    pub(crate) fn push(&mut self, effect: Effect<C>) {
        self.list.push(effect);
    }

    pub(crate) fn send(&mut self, to: Destination, message: Message<C>) {
        self.list.push(Effect::Send(to, message));
    }

    pub(crate) fn fact(&mut self, fact: Fact) {
        self.list.push(Effect::Fact(fact));
    }

    pub(crate) fn reject(&mut self, reason: Rejection) {
        self.list.push(Effect::Reject(reason));
    }

    /// The order of a replica that lets messages leave before what they promise is durable.
    pub(crate) fn send_before_persist(&mut self) {
        self.list.sort_by_key(|effect| matches!(effect, Effect::Persist(_)));
    }
}

impl<C: Crypto> IntoIterator for Effects<C> {
    type Item = Effect<C>;
    type IntoIter = std::vec::IntoIter<Effect<C>>;
    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}
