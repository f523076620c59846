//! The agreed batches one after the other, and what of each is to run.

use crate::catalogue::Ordered;
use crate::{Execution, Snapshot};
use pbft::parameters::MAX_RESULT_BYTES;
use pbft::service::Service;
use pbft::types::{Bytes, ClientId, ReplicaId, SeqNo, Timestamp};
use std::collections::BTreeMap;

/// The timestamp of the last request executed for each client.
pub(crate) type Timestamps = BTreeMap<ClientId, Timestamp>;

/// Who executed what at each sequence number.
pub(crate) fn executions<'a, S: Service>(
    snapshot: &Snapshot<'a, S>,
) -> BTreeMap<SeqNo, Vec<(ReplicaId, &'a Execution)>> {
    let mut executions: BTreeMap<SeqNo, Vec<(ReplicaId, &Execution)>> = BTreeMap::new();
    for (&replica, history) in snapshot.replicas {
        for execution in history.executions() {
            executions.entry(execution.n).or_default().push((replica, execution));
        }
    }
    executions
}

/// The requests of a batch that are to run after those in `last`, which goes on with them: each client's in
/// the order of its timestamps. Source: OSDI'99 §4.1.
pub(crate) fn let_through<'a>(batch: &'a [Ordered], last: &mut Timestamps) -> Vec<&'a Ordered> {
    let mut through = Vec::new();
    for request in batch {
        let (client, timestamp, _) = request;
        let last = last.entry(*client).or_default();
        if timestamp > last {
            *last = *timestamp;
            through.push(request);
        }
    }
    through
}

/// A result, cut off at its bound as every replica does.
pub(crate) fn bounded(full: &Bytes) -> &[u8] {
    full.get(..MAX_RESULT_BYTES).unwrap_or(full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::bytes;

    #[test]
    fn a_client_is_let_through_in_the_order_of_its_timestamps_and_each_for_itself() {
        let batch = [(0, 1), (1, 5), (0, 1), (0, 3), (1, 4), (0, 2), (2, 0)];
        let batch = batch.map(|(c, t)| (ClientId(c), Timestamp(t), bytes("o")));
        let numbers = |through: Vec<&Ordered>| -> Vec<(u32, u64)> {
            through.into_iter().map(|(client, timestamp, _)| (client.0, timestamp.0)).collect()
        };
        let mut last = Timestamps::new();
        assert_eq!(numbers(let_through(&batch, &mut last)), [(0, 1), (1, 5), (0, 3)]);
        assert_eq!(numbers(let_through(&batch, &mut last)), []);
        last.insert(ClientId(0), Timestamp(2));
        assert_eq!(numbers(let_through(&batch, &mut last)), [(0, 3)]);
    }
}
