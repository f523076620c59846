//! What a checkpoint holds, computed here.

use crate::agreed::{Timestamps, bounded, let_through};
use crate::base::Table;
use crate::catalogue::Ordered;
use pbft::service::Service;
use pbft::types::Bytes;

/// The service, and the last reply to each client.
pub(crate) struct State<S> {
    pub(crate) service: S,
    pub(crate) clients: Table,
}

impl<S: Service> State<S> {
    /// Executes what of a batch has not executed before.
    pub(crate) fn run(&mut self, batch: &[Ordered]) {
        let mut last = self.timestamps();
        for (client, timestamp, operation) in let_through(batch, &mut last) {
            let result = self.service.execute(*client, operation);
            self.clients.insert(*client, (*timestamp, Bytes::from(bounded(&result))));
        }
    }

    /// The timestamp of the last request executed for each client.
    pub(crate) fn timestamps(&self) -> Timestamps {
        self.clients.iter().map(|(&client, &(t, _))| (client, t)).collect()
    }

    /// The service's chunks and, last, the client table.
    pub(crate) fn chunks(&self) -> Vec<Bytes> {
        let mut chunks = self.service.snapshot();
        let table = postcard::to_stdvec(&self.clients).expect("encoding into memory cannot fail");
        chunks.push(Bytes::from(table));
        chunks
    }
}
