//! OSDI'99 §4.2: execution in the order of sequence numbers, and the replies.

use super::clients::bounded;
use super::{Bundle, ClientTable, Effects, ExecutedRequest, Fact, Record, Replica, Requests, Setup};
use crate::crypto::Crypto;
use crate::message::Batch;
use crate::rules::Rules;
use crate::service::Service;
use crate::types::{Digest, SeqNo};

impl<B: Bundle> Replica<B> {
    /// Executes every committed batch whose predecessors have executed.
    pub(super) fn execute(&mut self, setup: &Setup<B>, effects: &mut Effects<B::Crypto>) {
        while let Some((n, digest)) = self.next_to_execute(setup)
            && let Some(batch) = self.batch(digest)
        {
            self.persist(setup, Record::Executed(n, digest), effects);
            let requests = self.run(&batch, setup);
            effects.fact(Fact::Executed { n, digest, requests: requests.clone() });
            let result =
                |request: &ExecutedRequest| (request.client, request.timestamp, request.result.clone());
            self.reply(setup, requests.iter().map(result), effects);
            if !requests.is_empty() {
                // OSDI'99 §4.5.2: the time-out grows until requests execute again.
                self.backoff.set(0);
            }
            if n.0 % setup.parameters.checkpoint_interval == 0 {
                self.take_checkpoint(setup, n, effects);
            }
        }
        self.answer_reads(setup, effects);
    }

    fn next_to_execute(&self, setup: &Setup<B>) -> Option<(SeqNo, Digest)> {
        if !self.is_active(setup) {
            // A state fetched between two views may be followed by a batch committed in the old one.
            return None;
        }
        let last = self.last_executed();
        let (&n, &view) = self.committed.iter().find(|&(n, _)| {
            let fresh = *n > self.durable.snapshot.n && !self.durable.executed.contains_key(n);
            fresh && setup.rules.in_order(*n, last)
        })?;
        self.accepted(view, n).map(|proposal| (n, proposal.digest))
    }

    /// Applies a batch to the service and the client table; requests executed before are passed over.
    pub(super) fn run(&mut self, batch: &Batch<B::Crypto>, setup: &Setup<B>) -> Vec<ExecutedRequest> {
        let executed = apply(&mut self.service, &mut self.clients, batch, &setup.rules);
        self.drop_answered_requests();
        executed
    }

    /// A pooled request that has executed, or is older than one that has, is no longer waited for.
    pub(super) fn drop_answered_requests(&mut self) {
        let clients = &self.clients;
        let Requests { pool, queue } = &mut self.requests;
        pool.retain(|&client, request| request.content.timestamp > clients.last_timestamp(client));
        queue.retain(|client| pool.contains_key(client));
        self.proposed.retain(|&client, timestamp| *timestamp > clients.last_timestamp(client));
    }
}

/// Applies a batch to a state, which is the service's and the client table; requests executed before are passed over.
fn apply<S: Service, C: Crypto, R: Rules>(
    service: &mut S,
    clients: &mut ClientTable,
    batch: &Batch<C>,
    rules: &R,
) -> Vec<ExecutedRequest> {
    let mut executed = Vec::new();
    for signed in &batch.requests {
        let request = &signed.content;
        let (client, timestamp) = (request.client, request.timestamp);
        if !rules.at_most_once(timestamp, clients.last_timestamp(client)) {
            continue;
        }
        let result = bounded(service.execute(client, &request.operation));
        clients.record(client, timestamp, result.clone());
        executed.push(ExecutedRequest { client, timestamp, operation: request.operation.clone(), result });
    }
    executed
}
