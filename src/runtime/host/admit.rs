//! What is dropped before it costs a verification: what cannot come from this host, and what comes too often.

use super::together::SUSPECT_FOR;
use super::{Shared, lock};
use crate::message::Message;
use crate::rejection::Rejection;
use crate::replica::Bundle;
use crate::runtime::sessions::{Bucket, Peer, Rate};
use crate::types::{ClientId, Principal, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// How many STATUS of one replica are answered in an interval, in the long run: a correct one that waits in vain
/// sends four.
const STATUS_IN_INTERVAL: u32 = 5;
/// How many at once: after a pause of this process, or of the network, they come together.
const STATUS_BURST: u32 = 10;
/// Of the VIEW-CHANGEs and NEW-VIEWs of one replica that this one has use for, one is verified in each STATUS
/// interval, or progress time-out if that is shorter, and so many at once: each has hundreds of signatures, and a
/// correct replica leaves no views faster.
const VIEWS_BURST: u32 = 4;
/// How often a client may send a request while an earlier one of it waits here. A correct one does so when it has
/// the replies of others, and when it has given the earlier one up.
const REPLACED: Rate = Rate { per_second: 20, burst: 10 };

/// What was taken from whom, and when.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// STATUS, of each host.
    status: BTreeMap<Peer, Bucket>,
    /// VIEW-CHANGEs and NEW-VIEWs, of each host.
    views: BTreeMap<Peer, Bucket>,
    /// The last read of each client.
    reads: BTreeMap<ClientId, Timestamp>,
    /// Of those that have sent a request while another one waited.
    replaced: BTreeMap<ClientId, Bucket>,
    /// Who has brought a forgery, and until when that is held against it.
    suspects: BTreeMap<Peer, Duration>,
}

impl Admission {
    /// The timestamp of the last read of a client that was taken; 0 if there is none.
    pub(super) fn last_read(&self, client: ClientId) -> Timestamp {
        self.reads.get(&client).copied().unwrap_or_default()
    }
}

/// So many in each interval.
fn in_each(interval: Duration, times: u32, burst: u32) -> Rate {
    let per_second = u128::from(times) * 1_000_000 / interval.as_micros().max(1);
    Rate { per_second: u32::try_from(per_second).unwrap_or(u32::MAX), burst }
}

impl<B: Bundle> Shared<B> {
    /// Whether a message can come from this host. Clients' hosts bring the requests of their clients, and replicas
    /// everything else, and requests to be ordered that they relay.
    pub(super) fn may_bring(&self, from: Peer, message: &Message<B::Crypto>) -> bool {
        let by_replica = self.hosts.replica_of(from).is_some();
        match message {
            Message::Request(request) => {
                let client = request.content.client;
                let is_own =
                    self.hosts.of_client(client) == Some(from) && request.signer == Principal::Client(client);
                is_own || (by_replica && !request.content.read_only)
            }
            _ => by_replica,
        }
    }

    /// Remembers who has brought a signature that is not its signer's.
    pub(super) fn suspect_if_forged(&self, host: Peer, reason: Rejection) {
        if reason == Rejection::BadSignature {
            let until = self.started.elapsed() + SUSPECT_FOR;
            lock(&self.admission).suspects.insert(host, until);
        }
    }

    /// Whether the requests that a host brings are verified apart from those of others.
    pub(super) fn is_suspect(&self, host: Peer) -> bool {
        let suspects = &mut lock(&self.admission).suspects;
        let is_suspect = suspects.get(&host).is_some_and(|&until| self.started.elapsed() < until);
        if !is_suspect {
            suspects.remove(&host);
        }
        is_suspect
    }

    /// Whether it is time for this message; if not it is counted and dropped.
    pub(super) fn admits(&self, from: Peer, message: &Message<B::Crypto>) -> bool {
        let now = self.started.elapsed();
        let counter = match message {
            Message::Status(_) => {
                let rate = in_each(self.timeouts.status, STATUS_IN_INTERVAL, STATUS_BURST);
                if lock(&self.queues).may_answer(from, now)
                    && lock(&self.admission).status.entry(from).or_default().take(rate, now)
                {
                    return true;
                }
                &self.counters.too_often
            }
            Message::Request(request) if request.content.read_only => {
                let (client, timestamp) = (request.content.client, request.content.timestamp);
                let reads = &mut lock(&self.admission).reads;
                let last = reads.entry(client).or_default();
                if timestamp > *last {
                    *last = timestamp;
                    return true;
                }
                &self.counters.old_reads
            }
            // What a replica relays has waited there, and the client's next request must not keep it off.
            Message::Request(_) if self.hosts.replica_of(from).is_some() => return true,
            Message::Request(request) => {
                let (client, timestamp) = (request.content.client, request.content.timestamp);
                let waiting = lock(&self.lateness).waiting(client);
                if waiting.is_none_or(|(waiting, _)| waiting >= timestamp)
                    || lock(&self.admission).replaced.entry(client).or_default().take(REPLACED, now)
                {
                    return true;
                }
                &self.counters.waits_at_client
            }
            _ => return true,
        };
        counter.add(1);
        false
    }

    /// Whether it is time to verify this message, which the replica has use for; if not it is counted and dropped.
    pub(super) fn may_verify(&self, from: Peer, message: &Message<B::Crypto>) -> bool {
        if !matches!(message, Message::ViewChange(_) | Message::NewView(_)) {
            return true;
        }
        let rate = in_each(self.timeouts.status.min(self.timeouts.progress), 1, VIEWS_BURST);
        let now = self.started.elapsed();
        let in_time = lock(&self.admission).views.entry(from).or_default().take(rate, now);
        if !in_time {
            self.counters.too_often.add(1);
        }
        in_time
    }
}
