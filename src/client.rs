//! The client: OSDI'99 §4.1, and read-only requests, §5.1.
//!
//! Like the replica it is a deterministic state machine, [`Client::step`]. It has one request outstanding at
//! a time.
//!
//! Timestamps are `max(last + 1, clock)` where `last` is durable, so a process that takes over a client's
//! key is never answered from the cache of its predecessor. Two processes at a time must not share a key.

use crate::crypto::{Crypto, Signed, Verified};
use crate::message::{Message, Request};
use crate::parameters::MAX_RESULT_BYTES;
use crate::rejection::Rejection;
use crate::replica::verify::Membership;
use crate::replica::{Destination, Subject};
use crate::rules::{MAX_BACKOFF, Rules};
use crate::types::{Bytes, ClientId, Cluster, Principal, ReplicaId, Timestamp, View};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// What a client is configured with.
#[derive(Debug)]
pub struct ClientSetup<C: Crypto, R: Rules> {
    /// Which client this is.
    pub id: ClientId,
    /// The size of the cluster.
    pub cluster: Cluster,
    /// This client's secret key and the replicas' public keys.
    pub keys: Arc<C::Keys>,
    /// What it decides by.
    pub rules: R,
}

/// What must survive a crash of the client.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ClientDurable {
    /// The timestamp used last.
    pub last: Timestamp,
}

/// What can happen to a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientEvent<C: Crypto> {
    /// The application asks for an operation.
    Invoke {
        /// The operation, opaque to the protocol.
        operation: Bytes,
        /// Whether to try it without ordering first.
        read_only: bool,
        /// The time now, in the unit of timestamps; 0 if there is no clock.
        clock: Timestamp,
    },
    /// A message arrived and its signature is valid.
    Message(Verified<Message<C>>),
    /// The time-out ran off.
    Timeout,
}

/// The client's only timer.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ClientTimer;

/// What a step of a client asks for, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ClientEffect<C: Crypto> {
    /// Must be durable before any later send leaves.
    Persist(ClientDurable),
    /// A message to send.
    Send(Destination, Message<C>),
    /// Starts the time-out, or restarts it: the base times 2^`backoff`.
    SetTimer {
        /// The exponent, at most [`MAX_BACKOFF`].
        backoff: u8,
    },
    /// Stops the time-out.
    CancelTimer,
    /// The operation has this result.
    Completed {
        /// The timestamp of the request that was answered.
        timestamp: Timestamp,
        /// The result that enough replicas agree on.
        result: Bytes,
    },
    /// The event was dropped.
    Reject(Rejection),
}

/// The request outstanding.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Pending<C: Crypto> {
    request: Signed<Request, C>,
    /// The latest reply of each replica: its view and its result.
    replies: BTreeMap<ReplicaId, (View, Bytes)>,
    backoff: u8,
}

/// The state of one client. At most one reply of each replica is kept.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Client<C: Crypto> {
    durable: ClientDurable,
    view: View,
    pending: Option<Pending<C>>,
}

impl<C: Crypto> Client<C> {
    /// A client that has sent nothing since `durable` was recorded.
    pub fn new(durable: ClientDurable) -> Self {
        Client { durable, view: View(0), pending: None }
    }

    /// Whether a request is outstanding.
    pub fn is_waiting(&self) -> bool {
        self.pending.is_some()
    }

    /// The view in which the client presumes the replicas to be.
    pub fn view(&self) -> View {
        self.view
    }

    /// The part of the state that must survive a crash.
    pub fn durable(&self) -> ClientDurable {
        self.durable
    }

    // --- what an exploration needs to know, as of a replica: nothing of it takes part in the protocol ---

    /// Whether a message about `subject` can change this state or be answered. If not, all are rejected.
    pub fn heeds<R: Rules>(&self, setup: &ClientSetup<C, R>, subject: Subject) -> bool {
        let Subject::Reply(client, timestamp) = subject else { return false };
        self.pending.as_ref().is_some_and(|pending| {
            let bound = client == setup.id && timestamp == pending.request.content.timestamp;
            setup.rules.reply_bound_to_request(bound)
        })
    }

    /// This state without dead parts: what only the duration of the time-out depends on.
    #[must_use]
    pub fn without_dead_state(&self) -> Self {
        let mut alive = self.clone();
        if let Some(pending) = &mut alive.pending {
            pending.backoff = 0;
        }
        alive
    }

    /// This state without receipts: replies that have not yet made anything happen, and can arrive again.
    #[must_use]
    pub fn without_receipts(&self) -> Self {
        let mut bare = self.clone();
        if let Some(pending) = &mut bare.pending {
            pending.replies.clear();
        }
        bare
    }

    // --- steps ---

    /// Checks a message: only replies of replicas, correctly signed, are of use to a client.
    ///
    /// # Errors
    /// The reason for which the message is to be dropped.
    pub fn verify<R: Rules>(
        setup: &ClientSetup<C, R>,
        message: Message<C>,
    ) -> Result<Verified<Message<C>>, Rejection> {
        let Message::Reply(reply) = &message else { return Err(Rejection::NotForThisNode) };
        if reply.content.result.len() > MAX_RESULT_BYTES {
            return Err(Rejection::Oversize);
        }
        let members =
            Membership { cluster: &setup.cluster, clients: 0, keys: &*setup.keys, rules: &setup.rules };
        members.check(reply)?;
        Ok(Verified::attest(message))
    }

    /// Handles one event.
    pub fn step<R: Rules>(
        &mut self,
        setup: &ClientSetup<C, R>,
        event: ClientEvent<C>,
        effects: &mut Vec<ClientEffect<C>>,
    ) {
        match event {
            ClientEvent::Invoke { .. } if self.pending.is_some() => {
                effects.push(ClientEffect::Reject(Rejection::Busy));
            }
            ClientEvent::Invoke { operation, read_only, clock } => {
                self.invoke(setup, operation, read_only, clock, effects);
            }
            ClientEvent::Message(message) => match self.on_reply(setup, &message, effects) {
                Ok(()) => {}
                Err(reason) => effects.push(ClientEffect::Reject(reason)),
            },
            ClientEvent::Timeout => self.on_timeout(setup, effects),
        }
    }

    fn invoke<R: Rules>(
        &mut self,
        setup: &ClientSetup<C, R>,
        operation: Bytes,
        read_only: bool,
        clock: Timestamp,
        effects: &mut Vec<ClientEffect<C>>,
    ) {
        // A timestamp used twice would be answered with the result of the first time.
        let Some(next) = self.durable.last.0.checked_add(1) else {
            effects.push(ClientEffect::Reject(Rejection::OldTimestamp));
            return;
        };
        let timestamp = Timestamp(next).max(clock);
        self.durable.last = timestamp;
        effects.push(ClientEffect::Persist(self.durable));
        let request = Request { operation, timestamp, client: setup.id, read_only };
        let request = Signed::new(request, &*setup.keys);
        // OSDI'99 §4.1: to the presumed primary; §5.1: a read-only request to all.
        let to = if read_only {
            Destination::Replicas
        } else {
            Destination::Replica(setup.cluster.primary(self.view))
        };
        effects.push(ClientEffect::Send(to, Message::Request(request.clone())));
        effects.push(ClientEffect::SetTimer { backoff: 0 });
        self.pending = Some(Pending { request, replies: BTreeMap::new(), backoff: 0 });
    }

    fn on_reply<R: Rules>(
        &mut self,
        setup: &ClientSetup<C, R>,
        message: &Message<C>,
        effects: &mut Vec<ClientEffect<C>>,
    ) -> Result<(), Rejection> {
        let Message::Reply(signed) = message else { return Err(Rejection::NotForThisNode) };
        let Some(pending) = &mut self.pending else { return Err(Rejection::NotPending) };
        let reply = &signed.content;
        let timestamp = pending.request.content.timestamp;
        let bound = reply.client == setup.id && reply.timestamp == timestamp;
        if !setup.rules.reply_bound_to_request(bound) {
            return Err(Rejection::NotPending);
        }
        let Principal::Replica(replica) = signed.signer else { return Err(Rejection::SignerIsNotSender) };
        pending.replies.insert(replica, (reply.view, reply.result.clone()));

        let read_only = pending.request.content.read_only;
        let quorum = if read_only {
            setup.rules.read_quorum(&setup.cluster)
        } else {
            setup.rules.reply_quorum(&setup.cluster)
        };
        let views: Vec<View> = (pending.replies.values())
            .filter(|(_, result)| *result == reply.result)
            .map(|&(view, _)| view)
            .collect();
        if views.len() >= quorum {
            // One of f + 1 is correct, so the lowest of their views is no higher than a real one.
            self.view = views.iter().copied().min().unwrap_or_default().max(self.view);
            self.pending = None;
            effects.push(ClientEffect::CancelTimer);
            effects.push(ClientEffect::Completed { timestamp, result: reply.result.clone() });
        } else if read_only && pending.replies.len() == setup.cluster.n() {
            self.order_read(setup, effects);
        }
        Ok(())
    }

    fn on_timeout<R: Rules>(&mut self, setup: &ClientSetup<C, R>, effects: &mut Vec<ClientEffect<C>>) {
        let Some(pending) = &mut self.pending else {
            effects.push(ClientEffect::Reject(Rejection::NotPending));
            return;
        };
        if pending.request.content.read_only {
            self.order_read(setup, effects);
            return;
        }
        pending.backoff = pending.backoff.saturating_add(1).min(MAX_BACKOFF);
        let to = if setup.rules.retransmit_to_all() {
            Destination::Replicas
        } else {
            Destination::Replica(setup.cluster.primary(self.view))
        };
        effects.push(ClientEffect::Send(to, Message::Request(pending.request.clone())));
        effects.push(ClientEffect::SetTimer { backoff: pending.backoff });
    }

    /// OSDI'99 §5.1: a read that finds no quorum is ordered like a write. It gets a timestamp of its own, so
    /// that no reply to the unordered one is counted for it.
    fn order_read<R: Rules>(&mut self, setup: &ClientSetup<C, R>, effects: &mut Vec<ClientEffect<C>>) {
        let Some(pending) = self.pending.take() else { return };
        self.invoke(setup, pending.request.content.operation, false, Timestamp(0), effects);
    }
}
