//! The clients' side of a run: what was asked, what was answered, and whether that is linearizable.

use pbft::kv::KeyValue;
use pbft::service::Service;
use pbft::types::{Bytes, ClientId};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// The service as one sequential object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sequential(KeyValue);

impl SequentialSpec for Sequential {
    type Op = (ClientId, Bytes);
    type Ret = Bytes;

    fn invoke(&mut self, (client, operation): &Self::Op) -> Bytes {
        self.0.execute(*client, operation)
    }
}

/// Invocations and results in the order in which they happened.
pub(super) struct History {
    tester: LinearizabilityTester<ClientId, Sequential>,
    problem: Option<String>,
}

impl History {
    pub(super) fn new() -> Self {
        History { tester: LinearizabilityTester::new(Sequential::default()), problem: None }
    }

    pub(super) fn invoked(&mut self, client: ClientId, operation: Bytes) {
        if let Err(problem) = self.tester.on_invoke(client, (client, operation)) {
            self.problem = Some(problem);
        }
    }

    pub(super) fn returned(&mut self, client: ClientId, result: Bytes) {
        if let Err(problem) = self.tester.on_return(client, result) {
            self.problem = Some(problem);
        }
    }

    /// Whether some order of the operations explains every result.
    pub(super) fn is_linearizable(&self) -> Result<(), String> {
        match &self.problem {
            Some(problem) => Err(problem.clone()),
            None if self.tester.is_consistent() => Ok(()),
            None => Err("no order of the operations explains the results the clients accepted".into()),
        }
    }
}
