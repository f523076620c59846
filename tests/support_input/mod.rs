//! A cluster in memory for tests of one replica's input: real signatures, delivery in order, no losses but
//! those a test asks for.

#[path = "../support/setups.rs"]
mod setups;

use pbft::crypto::Signed;
use pbft::crypto::ed25519::{Ed25519, KeyRing};
use pbft::kv::Operation;
use pbft::message::{Message, Request};
use pbft::parameters::Parameters;
use pbft::replica::verify::verify;
use pbft::replica::{Destination, Effect, Effects, Event, Replica, Setup, Timer};
use pbft::types::{Bytes, ClientId, Cluster, Timestamp};
use setups::Replicated;
use std::collections::VecDeque;
use std::sync::Arc;

/// What runs in production, over the key-value store.
pub type Real = Replicated<Ed25519>;

pub type Sent = Message<Ed25519>;

/// Registered clients.
pub const CLIENTS: u32 = 3;
/// What all keys follow from.
pub const SEED: u64 = 7;

/// A checkpoint every 2 batches, a window of 4, at most 2 requests or 64 bytes a batch.
pub fn small_parameters() -> Parameters {
    Parameters {
        checkpoint_interval: 2,
        window: 4,
        max_batch_requests: 2,
        max_batch_bytes: 64,
        max_in_flight: 2,
    }
}

/// The configuration of each of four replicas, and the keys of the clients.
pub fn setups() -> (Vec<Setup<Real>>, Vec<Arc<KeyRing>>) {
    let (replicas, clients) = KeyRing::insecure(SEED, 4, CLIENTS);
    let setups = setups::setups(Cluster::new(4, 1), small_parameters(), replicas, CLIENTS);
    (setups, clients.into_iter().map(Arc::new).collect())
}

/// Four replicas and the messages on their way.
pub struct Net {
    pub setups: Vec<Setup<Real>>,
    pub clients: Vec<Arc<KeyRing>>,
    pub replicas: Vec<Replica<Real>>,
    /// Whether messages reach this replica, and leave it.
    pub connected: Vec<bool>,
    queue: VecDeque<(usize, Sent)>,
}

impl Net {
    /// Four replicas in their initial state.
    pub fn new() -> Self {
        let (setups, clients) = setups();
        let start = |setup| Replica::start(setup, None, &mut Effects::new()).expect("an empty store");
        let replicas: Vec<_> = setups.iter().map(start).collect();
        let connected = vec![true; replicas.len()];
        Net { setups, clients, replicas, connected, queue: VecDeque::new() }
    }

    /// A client's signed request to set a key.
    pub fn put(&self, client: u32, timestamp: u64, key: &str, value: &str) -> Signed<Request, Ed25519> {
        let (key, value) = (Bytes::from(key.as_bytes()), Bytes::from(value.as_bytes()));
        self.request(client, timestamp, Operation::Put { key, value }.to_bytes(), false)
    }

    /// A client's signed request.
    pub fn request(
        &self,
        client: u32,
        timestamp: u64,
        operation: Bytes,
        read_only: bool,
    ) -> Signed<Request, Ed25519> {
        let request =
            Request { operation, timestamp: Timestamp(timestamp), client: ClientId(client), read_only };
        let ring = usize::try_from(client).expect("a client index fits");
        Signed::new(request, &*self.clients[ring])
    }

    /// Puts a message on its way.
    pub fn send(&mut self, to: usize, message: Sent) {
        self.queue.push_back((to, message));
    }

    /// A timer of one replica fires.
    pub fn fire(&mut self, at: usize, timer: Timer) {
        self.step(at, Event::Timeout(timer));
    }

    /// Delivers until nothing is on its way; what correct replicas send each other is always valid.
    pub fn settle(&mut self) {
        while let Some((to, message)) = self.queue.pop_front() {
            if self.connected[to] {
                let message =
                    verify(&self.setups[to], message).expect("a correct replica's message is valid");
                self.step(to, Event::Message(message));
            }
        }
    }

    /// Orders and executes one request for each timestamp, one after the other.
    pub fn execute(&mut self, client: u32, timestamps: std::ops::RangeInclusive<u64>) {
        for timestamp in timestamps {
            let request = self.put(client, timestamp, &format!("k{timestamp}"), "v");
            for at in 0..self.replicas.len() {
                self.send(at, Message::Request(request.clone()));
            }
            self.settle();
        }
    }

    fn step(&mut self, at: usize, event: Event<Ed25519>) {
        let mut effects = Effects::new();
        self.replicas[at].step(&self.setups[at], event, &mut effects);
        assert_eq!(self.replicas[at].check_invariants(&self.setups[at]), Ok(()), "replica {at}");
        for effect in effects {
            let Effect::Send(to, message) = effect else { continue };
            if !self.connected[at] {
                continue;
            }
            match to {
                Destination::Replicas => {
                    for other in (0..self.replicas.len()).filter(|&other| other != at) {
                        self.queue.push_back((other, message.clone()));
                    }
                }
                Destination::Replica(replica) => self.queue.push_back((usize::from(replica.0), message)),
                Destination::Client(_) => {}
            }
        }
    }
}
