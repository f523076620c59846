//! OSDI'99 §4.1: requests, the table of last replies, and read-only requests (§5.1).

use super::{Bundle, Destination, Effects, Replica, Setup};
use crate::crypto::Signed;
use crate::message::{Message, Reply, Request};
use crate::parameters::MAX_RESULT_BYTES;
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::service::Service;
use crate::types::{Bytes, ClientId, SeqNo, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The last reply sent to one client.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct LastReply {
    /// The timestamp of the request executed last.
    pub timestamp: Timestamp,
    /// Its result.
    pub result: Bytes,
}

/// The last reply to each client: what makes execution exactly-once. It is part of the checkpointed state.
/// At most one entry for each registered client.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ClientTable {
    last: BTreeMap<ClientId, LastReply>,
}

impl ClientTable {
    /// The last reply to `client`, if any of its requests has executed.
    pub fn last(&self, client: ClientId) -> Option<&LastReply> {
        self.last.get(&client)
    }

    /// The timestamp of the last request executed for `client`; 0 if there is none.
    pub fn last_timestamp(&self, client: ClientId) -> Timestamp {
        self.last(client).map_or(Timestamp(0), |last| last.timestamp)
    }

    pub(super) fn record(&mut self, client: ClientId, timestamp: Timestamp, result: Bytes) {
        self.last.insert(client, LastReply { timestamp, result });
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        Bytes::from(postcard::to_stdvec(self).expect("encoding into memory cannot fail"))
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}

/// A result, cut off at its bound in the same way everywhere.
#[doc(hidden)]
pub fn bounded(result: Bytes) -> Bytes {
    match result.get(..MAX_RESULT_BYTES) {
        Some(kept) if kept.len() < result.len() => Bytes::from(kept),
        _ => result,
    }
}

impl<B: Bundle> Replica<B> {
    /// Handles a REQUEST. OSDI'99 §4.1: if it is
    /// - not its client's: [`verify`](super::verify::verify) drops it (`request_authentic`);
    /// - executed already, by its timestamp: the last reply is sent again: `answer_again`;
    /// - new, at a backup: it is relayed to the primary: here; and the progress timer runs for it (§4.4:
    ///   `timer_reason`);
    /// - new, at the primary: it is queued and proposed: `enqueue`, `propose` (§4.2).
    pub(super) fn on_request(
        &mut self,
        setup: &Setup<B>,
        signed: Signed<Request, B::Crypto>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let (client, timestamp) = (signed.content.client, signed.content.timestamp);
        if signed.content.read_only {
            return self.on_read(setup, signed, effects);
        }
        let last = self.clients.last_timestamp(client);
        if timestamp <= last {
            return self.answer_again(setup, client, timestamp, effects);
        }
        let pooled = self.requests.pool.get(&client).map(|request| request.content.timestamp);
        if pooled.is_some_and(|pooled| pooled > timestamp) {
            return Err(Rejection::OldTimestamp);
        }
        if !self.is_primary(setup) {
            // OSDI'99 §4.1: a replica that is not the primary relays the request to the primary.
            let primary = setup.cluster.primary(self.view());
            effects.send(Destination::Replica(primary), Message::Request(signed.clone()));
        }
        if pooled == Some(timestamp) {
            return Err(Rejection::Duplicate);
        }
        self.requests.pool.insert(client, signed);
        self.enqueue(setup, client);
        self.propose(setup, effects);
        Ok(())
    }

    /// At the primary, puts a client in the queue unless its request is proposed or queued already.
    pub(super) fn enqueue(&mut self, setup: &Setup<B>, client: ClientId) {
        if !self.is_primary(setup) || self.requests.queue.contains(&client) {
            return;
        }
        let unproposed = self.requests.pool.get(&client).is_some_and(|request| {
            self.proposed.get(&client).is_none_or(|&proposed| request.content.timestamp > proposed)
        });
        if unproposed {
            self.requests.queue.push_back(client);
        }
    }

    /// OSDI'99 §4.1: a request already executed is answered with the last reply, not executed again.
    fn answer_again(
        &self,
        setup: &Setup<B>,
        client: ClientId,
        timestamp: Timestamp,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        match self.clients.last(client) {
            Some(last) if last.timestamp == timestamp && setup.rules.reply_cached() => {
                self.reply(setup, [(client, timestamp, last.result.clone())], effects);
                Ok(())
            }
            _ => Err(Rejection::OldTimestamp),
        }
    }

    /// Sends these results, which are signed together.
    pub(super) fn reply(
        &self,
        setup: &Setup<B>,
        results: impl IntoIterator<Item = (ClientId, Timestamp, Bytes)>,
        effects: &mut Effects<B::Crypto>,
    ) {
        let (view, replica) = (self.view(), setup.id);
        let reply = |(client, timestamp, result)| Reply { view, timestamp, client, replica, result };
        for signed in setup.sign_together(results.into_iter().map(reply).collect()) {
            effects.send(Destination::Client(signed.content.client), Message::Reply(signed));
        }
    }

    // --- read-only requests ---

    /// The last sequence number that a read must see executed: everything prepared or known stable here.
    fn read_point(&self) -> SeqNo {
        let prepared = self.durable.prepared.last_key_value().map_or(SeqNo(0), |(&n, _)| n);
        prepared.max(self.durable.h())
    }

    /// Whether this read is not waiting here, nor a later one of the same client.
    pub(super) fn heeds_read(&self, client: ClientId, timestamp: Timestamp) -> bool {
        self.reads.get(&client).is_none_or(|(waiting, _)| waiting.content.timestamp < timestamp)
    }

    /// Handles a read-only REQUEST. OSDI'99 §5.1: it is answered from the state once everything that had
    /// prepared when it came has executed (`reads_wait_for_prepared`); the service says whether it is
    /// read-only.
    fn on_read(
        &mut self,
        setup: &Setup<B>,
        signed: Signed<Request, B::Crypto>,
        effects: &mut Effects<B::Crypto>,
    ) -> Result<(), Rejection> {
        let client = signed.content.client;
        if !self.heeds_read(client, signed.content.timestamp) {
            return Err(Rejection::Duplicate);
        }
        if self.service.read(client, &signed.content.operation).is_none() {
            return Err(Rejection::NotReadOnly);
        }
        let point = self.read_point();
        self.reads.insert(client, (signed, point));
        self.answer_reads(setup, effects);
        Ok(())
    }

    /// Answers the reads whose point has been reached.
    pub(super) fn answer_reads(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        let executed = self.last_executed();
        let (ready, waiting) = std::mem::take(&mut self.reads)
            .into_iter()
            .partition(|(_, (_, point))| setup.rules.reads_wait_for_prepared(executed, *point));
        self.reads = waiting;
        let ready: BTreeMap<ClientId, super::WaitingRead<B::Crypto>> = ready;
        let answers = ready.iter().filter_map(|(&client, (request, _))| {
            let result = self.service.read(client, &request.content.operation)?;
            Some((client, request.content.timestamp, bounded(result)))
        });
        self.reply(setup, answers, effects);
    }
}
