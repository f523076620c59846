//! The replicated state as the paper has it, applied here and not by the replica's own code: what it executes, and whom it
//! answers what, is checked by what follows from these few lines.

use pbft::message::Batch;
use pbft::replica::blocks::Tree;
use pbft::replica::{LastReply, Snapshot, bounded};
use pbft::service::Service;
use pbft::types::{Bytes, ClientId, SeqNo, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The service's state, and the last reply to each client.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct State<S> {
    pub(super) service: S,
    pub(super) clients: BTreeMap<ClientId, LastReply>,
}

impl<S: Service> State<S> {
    /// Executes the requests of a batch in their order, each whose timestamp is above that of its client's last
    /// (OSDI'99 §4.2). Returns whom it answers what.
    pub(super) fn apply<C: pbft::crypto::Crypto>(&mut self, batch: &Batch<C>) -> Vec<(ClientId, LastReply)> {
        let mut answers = Vec::new();
        for request in batch.requests.iter().map(|signed| &signed.content) {
            let (client, timestamp) = (request.client, request.timestamp);
            if timestamp <= self.clients.get(&client).map_or(Timestamp(0), |last| last.timestamp) {
                continue;
            }
            let result = bounded(self.service.execute(client, &request.operation));
            let reply = LastReply { timestamp, result };
            self.clients.insert(client, reply.clone());
            answers.push((client, reply));
        }
        answers
    }

    /// The state in the form in which it is digested: the service's chunks, and last the client table.
    pub(super) fn snapshot<C: pbft::crypto::Crypto>(&self, n: SeqNo, previous: &Tree) -> Arc<Snapshot> {
        let mut chunks = self.service.snapshot();
        let clients = postcard::to_stdvec(&self.clients).expect("encoding into memory cannot fail");
        chunks.push(Bytes::from(clients));
        Arc::new(Snapshot { n, tree: Tree::build::<C>(&chunks, Some(previous)) })
    }

    /// The state in a snapshot; none if it is not one of this service.
    pub(super) fn of(snapshot: &Snapshot) -> Option<Self> {
        let chunks = snapshot.tree.chunks();
        let (clients, service) = chunks.split_last()?;
        Some(State { service: S::restore(service).ok()?, clients: postcard::from_bytes(clients).ok()? })
    }
}
