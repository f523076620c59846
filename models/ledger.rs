//! The service of the worlds: a list of everything executed but reads. Two different orders are two different
//! states.

use pbft::service::{RestoreError, Service};
use pbft::types::{Bytes, ClientId};

/// The operation that changes nothing, and returns how many others there have been.
pub const READ: &[u8] = b"read";

/// The operations executed so far, in order, reads left out. The result of an operation is its position, and
/// of a read that of the last one.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ledger {
    entries: Vec<Bytes>,
}

impl Service for Ledger {
    fn execute(&mut self, _client: ClientId, operation: &[u8]) -> Bytes {
        if operation != READ {
            self.entries.push(Bytes::from(operation));
        }
        Bytes::from(self.entries.len().to_string().into_bytes())
    }

    fn read(&self, _client: ClientId, _operation: &[u8]) -> Option<Bytes> {
        Some(Bytes::from(self.entries.len().to_string().into_bytes()))
    }

    fn snapshot(&self) -> Vec<Bytes> {
        self.entries.clone()
    }

    fn restore(chunks: &[Bytes]) -> Result<Self, RestoreError> {
        Ok(Ledger { entries: chunks.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Symbolic;

    #[test]
    fn the_order_of_execution_shows_in_results_and_digest() {
        let (mut ab, mut ba) = (Ledger::default(), Ledger::default());
        assert_ne!(ab.execute(ClientId(0), b"a"), ab.execute(ClientId(0), b"b"));
        ba.execute(ClientId(0), b"b");
        ba.execute(ClientId(0), b"a");
        assert_ne!(ab.digest::<Symbolic>(), ba.digest::<Symbolic>());
        assert_eq!(Ledger::restore(&ab.snapshot()), Ok(ab));
    }
}
