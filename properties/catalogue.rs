//! What digests name, found out without asking a replica.
//!
//! Facts name batches and states by their digests. To judge what a replica does for a digest, the judge must
//! know what the digest names, and must not take it from that replica: one that runs half of every batch
//! could also say that half a batch is what was agreed. So nobody is believed here. Whoever sees a batch may
//! add it (a world lists all that there can be, a simulation and an audit those that were sent), and under
//! which digest it stands is computed from its requests, here. A batch that nobody agreed on does no harm. A
//! batch that is missing is not passed over: to execute it is a violation
//! ([`ExecutesAgreedBatch`](crate::ExecutesAgreedBatch)).
//!
//! What is shared with the replica is how a list of requests, and a list of chunks, is digested; which lists,
//! and whether they are complete, is not. If that digest gave two batches one name, the catalogue would show
//! it.

use pbft::crypto::Crypto;
use pbft::message::Batch;
use pbft::replica::blocks::Tree;
use pbft::types::{Bytes, ClientId, Digest, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// A request as a batch orders it: client, timestamp, operation.
pub(crate) type Ordered = (ClientId, Timestamp, Bytes);

/// What digests name: batches, and states as the trees over their chunks.
#[derive(Clone, Debug)]
pub struct Catalogue {
    batches: BTreeMap<Digest, BTreeSet<Vec<Ordered>>>,
    tree: fn(&[Bytes], Option<&Tree>) -> Tree,
}

impl Catalogue {
    /// The catalogue of the null request alone, for digests of the scheme `C`.
    pub fn new<C: Crypto>() -> Self {
        let null = (Digest::NULL, BTreeSet::from([Vec::new()]));
        Catalogue { batches: BTreeMap::from([null]), tree: Tree::build::<C> }
    }

    /// Adds a batch, under the digest of its requests. Whether anybody proposed it, and whether its clients
    /// signed it, makes no difference.
    pub fn add<C: Crypto>(&mut self, batch: &Batch<C>) {
        let requests = batch.requests.iter().map(|signed| &signed.content);
        let requests = requests.map(|m| (m.client, m.timestamp, m.operation.clone())).collect();
        self.insert(batch.digest(), requests);
    }

    pub(crate) fn insert(&mut self, digest: Digest, requests: Vec<Ordered>) {
        self.batches.entry(digest).or_default().insert(requests);
    }

    /// The requests that a digest names, in order.
    ///
    /// # Errors
    /// What it names instead, if that is not exactly one batch.
    pub(crate) fn batch(&self, digest: Digest) -> Result<&[Ordered], &'static str> {
        let mut named = self.batches.get(&digest).into_iter().flatten();
        match (named.next(), named.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err("no batch that anybody proposed"),
            (Some(_), Some(_)) => Err("more than one batch"),
        }
    }

    /// The tree over the chunks of a state, whose root is its digest. What `previous` has is not digested
    /// again.
    pub(crate) fn tree(&self, chunks: &[Bytes], previous: Option<&Tree>) -> Tree {
        (self.tree)(chunks, previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{bytes, digest};
    use pbft::crypto::ed25519::{Ed25519, KeyRing};
    use pbft::crypto::{Content, Signed};
    use pbft::message::Request;

    fn batch(operations: &[&str]) -> Batch<Ed25519> {
        let (_, clients) = KeyRing::insecure(0, 1, 1);
        let request = |(t, operation): (u64, &&str)| Request {
            operation: bytes(operation),
            timestamp: Timestamp(t),
            client: ClientId(0),
            read_only: false,
        };
        let requests = (1..).zip(operations).map(request);
        Batch { requests: requests.map(|request| Signed::new(request, &clients[0])).collect() }
    }

    #[test]
    fn a_batch_stands_under_the_digest_of_its_own_requests_in_their_order() {
        let mut catalogue = Catalogue::new::<Ed25519>();
        let (two, half) = (batch(&["a", "b"]), batch(&["a"]));
        catalogue.add(&two);
        catalogue.add(&two);
        let named = [(1, "a"), (2, "b")].map(|(t, o)| (ClientId(0), Timestamp(t), bytes(o)));
        assert_eq!(catalogue.batch(two.digest()), Ok(&named[..]));
        assert_eq!(catalogue.batch(half.digest()), Err("no batch that anybody proposed"));
        assert_eq!(catalogue.batch(Digest::NULL), Ok(&[][..]));
        // As the paper's digest of a list of requests, computed without `Batch`.
        let digests = two.requests.iter().flat_map(|m| Ed25519::digest(&m.content.to_be_signed()).0);
        assert_eq!(two.digest(), Ed25519::digest(&digests.collect::<Vec<u8>>()));
    }

    #[test]
    fn a_digest_that_two_batches_share_names_none_of_them() {
        let mut catalogue = Catalogue::new::<Ed25519>();
        for operation in ["a", "b"] {
            catalogue.insert(digest(1), vec![(ClientId(0), Timestamp(1), bytes(operation))]);
        }
        assert_eq!(catalogue.batch(digest(1)), Err("more than one batch"));
    }
}
