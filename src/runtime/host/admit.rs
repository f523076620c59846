//! What is dropped before it costs a verification: what cannot come from this host, and what comes too often.

use super::{Shared, lock};
use crate::message::Message;
use crate::replica::Bundle;
use crate::runtime::sessions::Peer;
use crate::types::{ClientId, Principal, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// Of the STATUS of one replica at most one is answered in this part of the interval: a correct one that waits
/// in vain sends four in an interval.
const STATUS_PART: u32 = 5;
/// Of the VIEW-CHANGEs and NEW-VIEWs of one replica that this one has use for, at most so many are verified in
/// as many STATUS intervals, or progress time-outs if those are shorter: each has hundreds of signatures, and a
/// correct replica leaves no views faster.
const VIEWS: u32 = 4;
/// A client that has a request waiting here may replace it after this time, as it may have given it up.
const REPLACED_AFTER: Duration = Duration::from_secs(1);

/// What was taken from whom, and when.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// When a STATUS of each host was taken last.
    status: BTreeMap<Peer, Duration>,
    /// When the VIEW-CHANGEs and NEW-VIEWs of each host began that are counted, and how many there were.
    views: BTreeMap<Peer, (Duration, u32)>,
    /// The last read of each client.
    reads: BTreeMap<ClientId, Timestamp>,
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

    /// Whether it is time for this message; if not it is counted and dropped.
    pub(super) fn admits(&self, from: Peer, message: &Message<B::Crypto>) -> bool {
        let now = self.started.elapsed();
        let counter = match message {
            Message::Status(_) => {
                let status = &mut lock(&self.admission).status;
                let interval = self.timeouts.status / STATUS_PART;
                match status.get_mut(&from) {
                    Some(last) if now < *last + interval => &self.counters.too_often,
                    Some(last) => {
                        *last = now;
                        return true;
                    }
                    None => {
                        status.insert(from, now);
                        return true;
                    }
                }
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
                match lock(&self.lateness).waiting(client) {
                    Some((waiting, since)) if waiting < timestamp && now < since + REPLACED_AFTER => {
                        &self.counters.waits_at_client
                    }
                    _ => return true,
                }
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
        let now = self.started.elapsed();
        let views = &mut lock(&self.admission).views;
        let (since, count) = views.entry(from).or_insert((now, 0));
        if now >= *since + self.timeouts.status.min(self.timeouts.progress) * VIEWS {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        let in_time = *count <= VIEWS;
        if !in_time {
            self.counters.too_often.add(1);
        }
        in_time
    }
}
