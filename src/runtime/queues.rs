//! Messages that wait to be handled, in a queue for each host, and whose turn it is.
//!
//! Nobody can make others wait by sending much: a host's messages wait for those of the same host. Turns are
//! given by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each host has a virtual time, which
//! advances by what its messages cost ([`Queues::charge`]) divided by its weight; the host with the lowest is
//! next. Who has used little is served at once, who has used much waits while others have something, and
//! whoever is alone may use everything. Replicas weigh as much as 16 clients and their votes cost little, so votes
//! come before requests; one replica that keeps everybody busy takes no more than its part either.
//!
//! A queue that is full drops what comes. What is not handled in time is lost, as on any network, and only
//! for the host that sent too much.

use super::counters::nanoseconds;
use super::sessions::Peer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The weight of a replica, where that of a client is 1.
pub const REPLICA_WEIGHT: u64 = 16;
/// The most messages of one replica that wait.
const REPLICA_MESSAGES: usize = 4096;
/// The most bytes of them: four of the longest messages.
const REPLICA_BYTES: usize = 4 * crate::parameters::MAX_MESSAGE_BYTES;
/// The most messages that wait of a host that is no replica, for each client that it speaks for.
const CLIENT_MESSAGES: usize = 16;
/// The most bytes of them, for all of its clients together.
const CLIENT_BYTES: usize = 4 * crate::parameters::MAX_BATCH_BYTES;
/// The most bytes of all hosts that are no replicas. Each of those that wait may have an equal part of it.
const CLIENTS_BYTES: usize = 64 << 20;
/// What a message is taken to cost until the caller says what it did cost.
const LEAST_COST: Duration = Duration::from_micros(5);

/// Who may send, and how much of the turns is theirs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Share {
    /// A replica.
    Replica,
    /// The host of so many clients, at least one.
    Clients(u32),
}

impl Share {
    fn weight(self) -> u64 {
        match self {
            Share::Replica => REPLICA_WEIGHT,
            Share::Clients(clients) => u64::from(clients.clamp(1, REPLICA_WEIGHT as u32)),
        }
    }

    fn messages(self) -> usize {
        match self {
            Share::Replica => REPLICA_MESSAGES,
            Share::Clients(clients) => (CLIENT_MESSAGES * clients.max(1) as usize).min(REPLICA_MESSAGES),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Share::Replica => REPLICA_BYTES,
            Share::Clients(_) => CLIENT_BYTES,
        }
    }
}

struct Queue {
    share: Share,
    /// Its virtual time: cost over weight, in nanoseconds.
    time: u64,
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
}

/// The queues of one socket.
pub struct Queues {
    queues: BTreeMap<Peer, Queue>,
    /// Those that are not empty, by their virtual time.
    ready: BTreeSet<(u64, Peer)>,
    /// The virtual time of whoever was served last.
    now: u64,
    client_bytes: usize,
    ready_clients: usize,
}

impl Queues {
    /// Empty queues for these hosts; messages of others are not taken.
    pub fn new(shares: impl IntoIterator<Item = (Peer, Share)>) -> Self {
        let queue = |share| Queue { share, time: 0, messages: VecDeque::new(), bytes: 0 };
        Queues {
            queues: shares.into_iter().map(|(peer, share)| (peer, queue(share))).collect(),
            ready: BTreeSet::new(),
            now: 0,
            client_bytes: 0,
            ready_clients: 0,
        }
    }

    /// Takes a message; whether there was room for it.
    pub fn push(&mut self, peer: Peer, message: Vec<u8>) -> bool {
        let Some(queue) = self.queues.get_mut(&peer) else { return false };
        let length = message.len();
        let is_client = matches!(queue.share, Share::Clients(_));
        let mut room = queue.share.bytes();
        if is_client {
            let others = self.ready_clients.max(1);
            room = room.min(CLIENTS_BYTES / others).max(length).min(CLIENTS_BYTES - self.client_bytes);
        }
        if queue.messages.len() >= queue.share.messages() || queue.bytes + length > room {
            return false;
        }
        if queue.messages.is_empty() {
            // Rest gives no claim to more than the present turn.
            queue.time = queue.time.max(self.now);
            self.ready.insert((queue.time, peer));
            self.ready_clients += usize::from(is_client);
        }
        queue.bytes += length;
        self.client_bytes += if is_client { length } else { 0 };
        queue.messages.push_back(message);
        true
    }

    /// The message whose turn it is.
    pub fn pop(&mut self) -> Option<(Peer, Vec<u8>)> {
        let (time, peer) = self.ready.pop_first()?;
        self.now = self.now.max(time);
        let queue = self.queues.get_mut(&peer)?;
        let message = queue.messages.pop_front()?;
        queue.bytes -= message.len();
        queue.time += nanoseconds(LEAST_COST) / queue.share.weight();
        let is_client = matches!(queue.share, Share::Clients(_));
        self.client_bytes -= if is_client { message.len() } else { 0 };
        if queue.messages.is_empty() {
            self.ready_clients -= usize::from(is_client);
        } else {
            self.ready.insert((queue.time, peer));
        }
        Some((peer, message))
    }

    /// What was done for a host has cost so much.
    pub fn charge(&mut self, peer: Peer, cost: Duration) {
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        let before = queue.time;
        queue.time = before.saturating_add(nanoseconds(cost) / queue.share.weight());
        if self.ready.remove(&(before, peer)) {
            self.ready.insert((queue.time, peer));
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// Replicas 0 and 1, clients 2 and 3, and a host of ten clients, 4.
    fn queues() -> Queues {
        let shares =
            [Share::Replica, Share::Replica, Share::Clients(1), Share::Clients(1), Share::Clients(10)];
        Queues::new((0..).map(Peer).zip(shares))
    }

    /// How often each is served while all of these have messages of this cost.
    fn served(peers: &[u32], cost: [u32; 5], turns: u32) -> [u32; 5] {
        let mut queues = queues();
        let mut served = [0; 5];
        for _ in 0..turns {
            for &peer in peers {
                while queues.queues[&Peer(peer)].messages.len() < 2 {
                    assert!(queues.push(Peer(peer), vec![0; 10]));
                }
            }
            let (peer, _) = queues.pop().unwrap();
            let cost = cost[peer.0 as usize];
            queues.charge(peer, MICROSECOND * cost - LEAST_COST);
            served[peer.0 as usize] += cost;
        }
        served
    }

    #[test]
    fn turns_are_shared_by_weight_whatever_messages_cost() {
        let [a, _, b, c, d] = served(&[0, 2, 3, 4], [50, 0, 100, 10, 20], 100_000);
        let all = f64::from(a + b + c + d);
        for (part, weight) in [(a, 16.0), (b, 1.0), (c, 1.0), (d, 10.0)] {
            let part = f64::from(part) / all;
            assert!((part - weight / 28.0).abs() < 0.01, "{part} for weight {weight}");
        }
    }

    #[test]
    fn whoever_sends_little_is_served_at_once() {
        let mut queues = queues();
        for _ in 0..10 {
            queues.push(Peer(2), vec![0]);
        }
        for _ in 0..3 {
            let (peer, _) = queues.pop().unwrap();
            queues.charge(peer, 100 * MICROSECOND);
        }
        queues.push(Peer(3), vec![1]);
        queues.push(Peer(0), vec![2]);
        let next: Vec<u8> = (0..3).map(|_| queues.pop().unwrap().1[0]).collect();
        assert_eq!(next[2], 0, "what came later of others comes first");
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_no_others_message() {
        let mut queues = queues();
        let taken = (0..100).filter(|_| queues.push(Peer(2), vec![0; 10])).count();
        assert_eq!(taken, CLIENT_MESSAGES);
        assert!(queues.push(Peer(3), vec![0; 10]) && queues.push(Peer(0), vec![0; 10]));
        assert!(!queues.push(Peer(9), vec![0; 10]), "nobody knows this host");
        let taken = (0..100).filter(|_| queues.push(Peer(4), vec![0; CLIENT_BYTES / 8])).count();
        assert_eq!(taken, 8);
    }

    proptest! {
        /// Whatever comes and goes: nothing is lost, doubled or reordered for one host, and accounts agree.
        #[test]
        fn queues_keep_what_they_take(steps in vec((0..6u32, 0..3000usize, any::<bool>(), 0..200u64), 0..300)) {
            let mut queues = queues();
            let mut waiting: BTreeMap<Peer, VecDeque<(u64, usize)>> = BTreeMap::new();
            for (number, (peer, length, pop, cost)) in (0u64..).zip(steps) {
                let message = [&number.to_le_bytes()[..], &vec![0; length]].concat();
                if queues.push(Peer(peer), message.clone()) {
                    waiting.entry(Peer(peer)).or_default().push_back((number, message.len()));
                }
                if pop && let Some((peer, message)) = queues.pop() {
                    let first = waiting.get_mut(&peer).unwrap().pop_front().unwrap();
                    prop_assert_eq!(&first.0.to_le_bytes()[..], &message[..8]);
                    queues.charge(peer, MICROSECOND * u32::try_from(cost).unwrap());
                }
                let is_client = |peer: &Peer| peer.0 > 1;
                let bytes: usize = waiting.iter().filter(|(peer, _)| is_client(peer))
                    .flat_map(|(_, messages)| messages).map(|&(_, length)| length).sum();
                let ready: Vec<_> = waiting.iter().filter(|(_, m)| !m.is_empty()).map(|(&p, _)| p).collect();
                let mut listed: Vec<_> = queues.ready.iter().map(|&(_, peer)| peer).collect();
                listed.sort();
                prop_assert_eq!(queues.client_bytes, bytes);
                prop_assert_eq!(queues.ready_clients, ready.iter().filter(|peer| is_client(peer)).count());
                prop_assert_eq!(listed, ready);
            }
        }
    }
}
