//! Replies of the adversary's own.

use super::{Adversary, Msg};
use pbft::message::{Message, Reply};
use pbft::service::Service;
use pbft::types::{Bytes, ClientId, Timestamp};

impl Adversary {
    /// REPLYs to one request: in every view, with every result that the service can give within the bounds,
    /// whether or not anybody has executed anything, and with one that it never gives.
    pub(super) fn replies(&self, client: ClientId, timestamp: Timestamp) -> Vec<Msg> {
        let mut offered = Vec::new();
        for setup in &self.signers {
            for view in self.views() {
                for result in self.results() {
                    let reply = Reply { view, timestamp, client, replica: setup.id, result };
                    offered.push(Message::Reply(setup.sign(reply)));
                }
            }
        }
        offered
    }

    /// The results of this service do not depend on the operations, only on how many there were.
    fn results(&self) -> Vec<Bytes> {
        let executions = self.numbers().count() * self.bounds.max_batch;
        let mut service = self.judge.genesis.clone();
        let mut results: Vec<_> = (0..executions).map(|_| service.execute(ClientId(0), &[])).collect();
        results.push(Bytes::from(&b"forged"[..]));
        results
    }
}
