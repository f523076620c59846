//! What properties are stated over, and how a broken one is told.

use crate::{Catalogue, History};
use pbft::parameters::Parameters;
use pbft::service::Service;
use pbft::types::{Bytes, ClientId, Cluster, ReplicaId, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A result that a correct client accepted.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Accepted {
    /// The client.
    pub client: ClientId,
    /// The timestamp of the request answered.
    pub timestamp: Timestamp,
    /// The result.
    pub result: Bytes,
    /// Whether the request with this timestamp was answered without being ordered. A read that is ordered
    /// after all has a timestamp of its own and is like any other request. Source: OSDI'99 §5.1.
    pub read_only: bool,
}

/// A call that a correct client's application made.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Call {
    /// The client.
    pub client: ClientId,
    /// Which of its calls, from 1.
    pub number: usize,
    /// What is asked for.
    pub operation: Bytes,
    /// The timestamps of the requests to be ordered that were made for it.
    pub ordered: Vec<Timestamp>,
    /// If it has ended, its result, and whether that came without being ordered.
    pub result: Option<(Bytes, bool)>,
    /// The places, in the list of calls, of some that had ended when it began.
    pub after: Vec<usize>,
}

/// What correct replicas and clients have done until now. Byzantine ones are judged by nobody.
#[derive(Debug)]
pub struct Snapshot<'a, S: Service> {
    /// The size of the cluster.
    pub cluster: Cluster,
    /// The bounds that the replicas were configured with.
    pub parameters: Parameters,
    /// The service before the first request.
    pub genesis: &'a S,
    /// The history of each correct replica, and of no other.
    pub replicas: &'a BTreeMap<ReplicaId, History>,
    /// The requests that their clients really signed: client, timestamp, operation. Those of Byzantine
    /// clients are to be among them.
    pub authentic: &'a BTreeSet<(ClientId, Timestamp, Bytes)>,
    /// What digests name. Every batch that was proposed to a correct replica is to be in it.
    pub catalogue: &'a Catalogue,
    /// What correct clients accepted, in any order.
    pub accepted: &'a [Accepted],
    /// The calls of correct clients, in any order; none where nobody knows which ended before which began.
    pub calls: &'a [Call],
}

/// How a property is broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The [`Property::NAME`].
    pub property: &'static str,
    /// Which replicas did what, in which views and at which sequence numbers.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

impl std::error::Error for Violation {}

/// A theorem about what correct replicas and clients do, whatever the Byzantine ones do.
pub trait Property<S: Service> {
    /// Its name: lower-case words with hyphens.
    const NAME: &'static str;
    /// Where it is stated.
    const SOURCE: &'static str;
    /// The theorem in one sentence.
    const THEOREM: &'static str;

    /// Judges what was done. Pure, and total: it panics on no history, however broken.
    ///
    /// # Errors
    /// The first violation found, in the order of replicas and sequence numbers.
    fn check(snapshot: &Snapshot<'_, S>) -> Result<(), Violation>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_reads_as_the_property_and_what_broke_it() {
        let violation = Violation { property: "agreement", what: "replica 0 did, replica 1 did not".into() };
        assert_eq!(violation.to_string(), "agreement: replica 0 did, replica 1 did not");
    }
}
