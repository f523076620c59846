//! The clients of a simulation: what they ask, and what they are told.

use super::Scheme;
use super::network::{Happening, MS, Time};
use super::run::{Node, Simulation};
use pbft::client::{Client, ClientEffect, ClientEvent, ClientSetup};
use pbft::crypto::Crypto;
use pbft::kv::Operation;
use pbft::message::Message;
use pbft::replica::nodes;
use pbft::rules::Rules;
use pbft::types::{Bytes, Timestamp};
use pbft_properties::Accepted;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::fmt::Debug;
use std::hash::Hash;

/// Base of the clients' time-out.
const CLIENT: Time = 150 * MS;

/// A client with a workload.
pub(super) struct Customer<C: Crypto, R: Rules> {
    pub(super) setup: ClientSetup<C, R>,
    pub(super) client: Client<C>,
    pub(super) workload: Vec<(Bytes, bool)>,
    pub(super) done: usize,
    pub(super) timer: u64,
    /// The request sent last: its timestamp, and whether it is read-only.
    pub(super) current: (Timestamp, bool),
}

impl<C: Scheme, R: Rules + Copy + Debug + Default + Ord + Hash> Simulation<C, R> {
    pub(super) fn invoke_next(&mut self, node: usize) {
        let Node::Client(customer) = &self.nodes[node] else { return };
        let Some((operation, read_only)) = customer.workload.get(customer.done).cloned() else { return };
        self.clients.invoked(customer.setup.id, operation.clone());
        let clock = Timestamp(self.agenda.now());
        self.step_client(node, ClientEvent::Invoke { operation, read_only, clock });
    }

    pub(super) fn step_client(&mut self, node: usize, event: ClientEvent<C>) {
        let Node::Client(customer) = &mut self.nodes[node] else { return };
        let mut effects = Vec::new();
        customer.client.step(&customer.setup, event, &mut effects);
        for effect in effects {
            self.carry_out_client(node, effect);
        }
    }

    pub(super) fn carry_out_client(&mut self, node: usize, effect: ClientEffect<C>) {
        let Node::Client(customer) = &mut self.nodes[node] else { return };
        match effect {
            ClientEffect::Persist(_) => {}
            ClientEffect::Send(to, message) => {
                if let Message::Request(request) = &message {
                    let request = &request.content;
                    customer.current = (request.timestamp, request.read_only);
                    if !request.read_only {
                        let known = (request.client, request.timestamp, request.operation.clone());
                        self.authentic.insert(known);
                    }
                }
                for to in nodes(&self.cluster, node, to) {
                    self.transmit(node, to, &message);
                }
            }
            ClientEffect::SetTimer { backoff } => {
                customer.timer += 1;
                let generation = customer.timer;
                let after = CLIENT << backoff.min(self.config.client_backoff);
                self.agenda.plan(after, Happening::Timer { node, status: false, generation });
            }
            ClientEffect::CancelTimer => customer.timer += 1,
            ClientEffect::Completed { timestamp, result } => {
                customer.done += 1;
                let (client, read_only) = (customer.setup.id, customer.current.1);
                self.clients.returned(client, result.clone());
                self.accepted.push(Accepted { client, timestamp, result, read_only });
                self.report.completed += 1;
                self.news = true;
                self.invoke_next(node);
            }
            ClientEffect::Reject(reason) => self.drop_message(reason),
        }
    }
}

/// Operations on two keys, half of the reads without ordering first.
pub(super) fn workload(operations: usize, rng: &mut ChaCha8Rng) -> Vec<(Bytes, bool)> {
    let text = |text: String| Bytes::from(text.into_bytes());
    (0..operations)
        .map(|_| {
            let key = text(format!("k{}", rng.random_range(0..2)));
            let mut value = || text(format!("{}", rng.random_range(0..100)));
            let (first, second) = (value(), value());
            let (operation, read_only) = match rng.random_range(0..8) {
                0..=1 => (Operation::Get { key }, true),
                2 => (Operation::Get { key }, false),
                3 => (Operation::Delete { key }, false),
                4 => (Operation::CompareAndSwap { key, expected: None, new: Some(first) }, false),
                5 => (Operation::CompareAndSwap { key, expected: Some(first), new: Some(second) }, false),
                _ => (Operation::Put { key, value: first }, false),
            };
            (operation.to_bytes(), read_only)
        })
        .collect()
}
