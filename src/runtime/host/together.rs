//! Requests that have arrived together are verified together, which costs half of one by one or less.
//!
//! Nothing waits for others to come: what a worker has taken is verified when nothing else is to be handled, when there is
//! enough of it, or after [`MAX_WAIT`].
//!
//! **Who brings forgeries** makes those of others be verified one by one, where they were verified in vain together, and
//! that is all it can do: which of them are valid does not depend on it
//! ([`verify_requests`](crate::replica::verify::verify_requests)). It pays for the whole of it, and for a while what it
//! brings is verified by itself ([`SUSPECT_FOR`]), so that each host can do this to others once in that time to each
//! worker: some two milliseconds in ten seconds. It must have a session, so it is the host of a registered client or a replica.

use super::{Shared, lock};
use crate::crypto::{Crypto, Signed};
use crate::message::{Message, Request};
use crate::rejection::Rejection;
use crate::replica::verify::verify_requests;
use crate::replica::{Bundle, Event};
use crate::runtime::sessions::Peer;
use std::time::{Duration, Instant};

/// The most requests that are verified together. More gain little.
pub(super) const MAX_TOGETHER: usize = 64;
/// With so many bytes of operations nothing more is waited for: to hash them takes as long as to verify a few signatures.
const MAX_BYTES: usize = 256 * 1024;
/// Once one has waited so long, it is verified before another message is taken.
pub(super) const MAX_WAIT: Duration = Duration::from_micros(500);
/// How long what a host brings is verified by itself once it has brought a forgery.
pub(super) const SUSPECT_FOR: Duration = Duration::from_secs(10);

/// Requests that a worker has found to be of use, not verified yet.
pub(super) struct Together<C: Crypto> {
    since: Instant,
    max_wait: Duration,
    /// Of all operations.
    bytes: usize,
    requests: Vec<Signed<Request, C>>,
    /// Who brought each, and what that has cost so far.
    from: Vec<(Peer, Duration)>,
}

impl<C: Crypto> Together<C> {
    pub(super) fn new() -> Self {
        let (requests, from) = (Vec::new(), Vec::new());
        Together { since: Instant::now(), max_wait: MAX_WAIT, bytes: 0, requests, from }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether they are to be verified now, whatever else there is to do.
    pub(super) fn is_due(&self) -> bool {
        self.requests.len() >= MAX_TOGETHER
            || self.bytes >= MAX_BYTES
            || (!self.is_empty() && self.since.elapsed() > self.max_wait)
    }

    /// The one of the same client, if there is one: which of two is of use is not known before the first is handled.
    pub(super) fn of_same_client(&self, request: &Signed<Request, C>) -> Option<&Signed<Request, C>> {
        self.requests.iter().find(|other| other.content.client == request.content.client)
    }

    pub(super) fn push(&mut self, from: Peer, request: Signed<Request, C>, cost: Duration) {
        if self.is_empty() {
            self.since = Instant::now();
        }
        self.bytes += request.content.operation.len();
        self.requests.push(request);
        self.from.push((from, cost));
    }
}

impl<B: Bundle> Shared<B> {
    /// Verifies and handles them, and charges their senders; returns how many steps there were.
    pub(super) fn handle_together(&self, together: &mut Together<B::Crypto>) -> usize {
        let (requests, from) = (std::mem::take(&mut together.requests), std::mem::take(&mut together.from));
        together.bytes = 0;
        let (requests, from) = self.still_of_use(requests, from);
        let count = u32::try_from(requests.len()).unwrap_or(u32::MAX).max(1);
        let before = Instant::now();
        let verified =
            self.counters.timed(&self.counters.verify_ns, || verify_requests(&self.setup, requests));
        let took = before.elapsed();
        if count > 1 {
            self.counters.verified_together.add(count.into());
        }
        let mut steps = 0;
        for (message, (from, mut cost)) in verified.into_iter().zip(from) {
            let before = Instant::now();
            let mut wait = 0;
            match message {
                Ok(message) => {
                    self.counters.verified.add(1);
                    self.step_locked(&mut lock(&self.core), Event::Message(message));
                    steps += 1;
                    cost += took / count + before.elapsed();
                }
                Err(reason) => {
                    self.refuse(from, reason);
                    self.suspect_if_forged(from, reason);
                    wait = super::receive::INVALID;
                    // A forgery has made all of them cost so much; what else is refused costs nothing here.
                    cost += if reason == Rejection::BadSignature { took } else { Duration::ZERO };
                }
            }
            self.charge(from, cost, wait);
        }
        steps
    }
}

impl<B: Bundle> Shared<B> {
    /// Those that are of use still: a batch may have brought one meanwhile. Who brought the others is charged for what they
    /// have cost.
    fn still_of_use(
        &self,
        requests: Vec<Signed<Request, B::Crypto>>,
        from: Vec<(Peer, Duration)>,
    ) -> Waiting<B> {
        let (mut kept, mut by) = (Vec::with_capacity(requests.len()), Vec::with_capacity(requests.len()));
        for (request, (host, cost)) in requests.into_iter().zip(from) {
            let message = Message::Request(request);
            let is_heeded = self.heeds(&message).is_some();
            match message {
                Message::Request(request) if is_heeded => {
                    kept.push(request);
                    by.push((host, cost));
                }
                _ => {
                    self.counters.unheeded.add(1);
                    self.charge(host, cost, 0);
                }
            }
        }
        (kept, by)
    }
}

/// Requests, and who brought each and what that has cost so far.
type Waiting<B> = (Vec<Signed<Request, <B as Bundle>::Crypto>>, Vec<(Peer, Duration)>);

#[cfg(test)]
mod tests {
    use super::super::Host;
    use super::*;
    use crate::crypto::ed25519::{Ed25519, KeyRing};
    use crate::kv::KeyValue;
    use crate::parameters::Parameters;
    use crate::replica::{Setup, Timeouts};
    use crate::rules::Pbft;
    use crate::runtime::hosts::Hosts;
    use crate::runtime::options::{Options, Patience};
    use crate::runtime::sessions::HostKey;
    use crate::runtime::transport::Buffers;
    use crate::standard::Standard;
    use crate::types::{Bytes, ClientId, Cluster, Digest, ReplicaId, Timestamp};
    use crate::wire;
    use std::net::SocketAddr;
    use std::sync::Arc;

    const CLIENTS: u32 = 6;

    /// A primary by itself, whose clients each have a host; and their keys.
    fn primary() -> (Host<Standard<KeyValue>>, Hosts, Vec<KeyRing>) {
        let (mut replicas, clients) = KeyRing::insecure(0, 4, CLIENTS);
        let key = |number: u8| HostKey::from_secret([number + 1; 32]);
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = (0..4).map(|id| (local, key(id).public())).collect();
        let of_clients: Vec<[u8; 32]> = (0..CLIENTS as u8).map(|id| key(10 + id).public()).collect();
        let hosts = Hosts::new(Digest::NULL, addresses, &of_clients);
        let setup = Setup {
            id: ReplicaId(0),
            cluster: Cluster::new(4, 1),
            parameters: Parameters::default(),
            keys: Arc::new(replicas.swap_remove(0)),
            clients: CLIENTS,
            rules: Pbft,
            genesis: KeyValue::default(),
        };
        let long = Duration::from_secs(3600);
        let timeouts = Timeouts { progress: long, status: long };
        let options = Options {
            listen: local,
            hosts: hosts.clone(),
            host_key: key(0),
            domain: Digest::NULL,
            membership: None,
            timeouts,
            patience: Patience::of(&timeouts),
            store: None,
            workers: 1,
            datagram_bytes: 1400,
            witness: None,
        };
        (Host::start(setup, options).unwrap(), hosts, clients)
    }

    /// They wait for as long as the test takes.
    fn patient() -> Together<Ed25519> {
        Together { max_wait: Duration::from_secs(3600), ..Together::new() }
    }

    fn request(keys: &KeyRing, client: u32, timestamp: u64) -> Signed<Request, Ed25519> {
        let (client, timestamp) = (ClientId(client), Timestamp(timestamp));
        let content = Request { operation: Bytes::from(&b"o"[..]), timestamp, client, read_only: false };
        Signed::new(content, keys)
    }

    #[test]
    fn a_host_that_brings_a_forgery_is_set_apart_and_the_others_requests_are_taken() {
        let (host, hosts, keys) = primary();
        let shared = &host.shared;
        let from = |client: u32| hosts.of_client(ClientId(client)).unwrap();
        let (mut answers, mut together) = (Buffers::default(), patient());
        // Whether it waits for others afterwards.
        let mut bring = |request: &Signed<Request, Ed25519>, together: &mut Together<Ed25519>| {
            let bytes = wire::encode(&Message::Request(request.clone()));
            let before = together.requests.len();
            shared.handle(from(request.content.client.0), &bytes, &mut answers, together);
            together.requests.len() > before
        };
        let counters = &shared.counters;
        let refused = || {
            let all = counters.rejections();
            all.iter().find(|(name, _)| *name == Rejection::BadSignature.as_str()).unwrap().1
        };
        // Client 1 signs what client 0 is said to.
        let mut forged = request(&keys[1], 0, 1);
        forged.content.client = ClientId(0);
        forged.signer = crate::types::Principal::Client(ClientId(0));
        for client in 1..4 {
            assert!(bring(&request(&keys[client as usize], client, 1), &mut together));
        }
        assert!(bring(&forged, &mut together));
        assert!(!bring(&forged, &mut together), "the same one does not wait twice");
        assert_eq!(shared.handle_together(&mut together), 3);
        assert_eq!((counters.verified.get(), refused()), (3, 1));
        assert!((0..CLIENTS).all(|client| shared.is_suspect(from(client)) == (client == 0)));

        // What it brings then is verified by itself, good or bad, and the others' together as before.
        assert!(bring(&request(&keys[4], 4, 1), &mut together));
        assert!(!bring(&request(&keys[0], 0, 2), &mut together));
        assert_eq!((counters.verified.get(), refused()), (4, 1));
        assert!(!bring(&forged, &mut together));
        assert!(bring(&request(&keys[5], 5, 1), &mut together));
        assert_eq!(together.requests.len(), 2);
        assert_eq!(shared.handle_together(&mut together), 2);
        assert_eq!(counters.verified.get(), 6);
        host.stop().unwrap();
    }

    #[test]
    fn long_requests_do_not_wait_until_there_are_many() {
        let (_, keys) = KeyRing::insecure(0, 4, 3);
        let mut together = patient();
        for (client, keys) in (0..).zip(&keys) {
            assert!(!together.is_due(), "{client} requests of 100 KiB");
            let mut request = request(keys, client, 1);
            request.content.operation = Bytes::from(&[0; 100 * 1024][..]);
            together.push(Peer(0), request, Duration::ZERO);
        }
        assert!(together.is_due());
    }

    /// Two requests of one client are not judged by what was known before the first of them was handled.
    #[test]
    fn another_request_of_a_client_that_waits_is_looked_at_after_the_first() {
        let (host, hosts, keys) = primary();
        let mut together = patient();
        let from = hosts.of_client(ClientId(1)).unwrap();
        let mut bring = |timestamp| {
            let bytes = wire::encode(&Message::Request(request(&keys[1], 1, timestamp)));
            host.shared.handle(from, &bytes, &mut Buffers::default(), &mut together)
        };
        assert_eq!((bring(1), bring(2)), (0, 1));
        assert_eq!(together.requests.len(), 1);
        host.stop().unwrap();
    }
}
