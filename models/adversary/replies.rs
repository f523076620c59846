//! Replies of the adversary's own.

use super::{Adversary, Msg};
use crate::crypto::Symbolic;
use crate::ledger::READ;
use crate::mutants::Rulebook;
use pbft::client::{Client, ClientSetup};
use pbft::message::{Message, Reply};
use pbft::replica::Setup;
use pbft::service::Service;
use pbft::types::{Bytes, ClientId, Timestamp};
use std::sync::Arc;

impl Adversary {
    /// REPLYs to one request: in every name, signed by everybody, in every view, with every result that the
    /// service can give within the bounds, whether or not anybody has executed anything, and with one that it
    /// never gives. Who may refuse them is the client.
    pub(super) fn replies(&self, client: ClientId, timestamp: Timestamp) -> Vec<Msg> {
        let Setup { cluster, ref rules, .. } = *self.judge;
        let keys = Arc::new(self.outsiders_client);
        let setup = ClientSetup::<Symbolic, Rulebook> { id: client, cluster, keys, rules: *rules };
        let mut offered = Vec::new();
        for &replica in &self.names {
            for view in self.views() {
                for result in self.results() {
                    let reply = Reply { view, timestamp, client, replica, result };
                    let everybodys = self.signed_by_everybody(&reply).into_iter().map(Message::Reply);
                    offered.extend(everybodys.filter(|m| Client::verify(&setup, m.clone()).is_ok()));
                }
            }
        }
        offered
    }

    /// The results of this service do not depend on the operations, only on how many there were.
    fn results(&self) -> Vec<Bytes> {
        let numbers = usize::try_from(self.bounds.max_seq.0).unwrap_or(usize::MAX);
        let (mut service, mut service_before) = (self.judge.genesis.clone(), self.judge.genesis.clone());
        let mut results: Vec<_> =
            (0..numbers * self.bounds.max_batch).map(|_| service.execute(ClientId(0), &[])).collect();
        results.extend(self.reads.then(|| service_before.execute(ClientId(0), READ)));
        results.push(Bytes::from(&b"forged"[..]));
        results
    }
}
