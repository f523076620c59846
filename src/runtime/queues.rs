//! Messages that wait to be handled, in a queue for each host, and whose turn it is.
//!
//! Nobody can make others wait by sending much: a host's messages wait for those of the same host. Turns are
//! given by start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each host has a virtual time, which
//! advances by what its messages cost ([`Queues::charge`]) divided by its weight; the host with the lowest is
//! next. Who has used little is served at once, who has used much waits while others have something, and
//! whoever is alone may use everything. Replicas weigh as much as 16 clients and their votes cost little, so votes
//! come before requests; one replica that keeps everybody busy takes no more than its part either.
//!
//! Three things are not left to turns alone, because somebody who is always ready takes all that nobody else asks
//! for at the moment, and whoever then comes waits for it, or for a processor that several replicas share:
//! - of the time that passes a client may use no more than its equal part among the clients of the last tenth of a
//!   second, but for a [burst](BURST);
//! - what is done for one replica's STATUS may take [one part in twenty](Queues::may_answer);
//! - who has sent what nobody correct sends [waits](Queues::wait) several times as long as it took to find out.
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
/// How much of its part a client may use at once.
const BURST: Duration = Duration::from_millis(20);
/// The part of the time that answers to one replica's STATUS may take is one in so many.
const ANSWERS: u32 = 20;
/// How much of that part may be used at once; and the most that is owed.
const ANSWERS_BURST: Duration = Duration::from_millis(200);
/// How long a client counts among those who share the time: so long, and at most twice as long.
const LATELY: Duration = Duration::from_millis(100);
/// The longest that a host waits at a time for what it has sent.
const LONGEST_WAIT: Duration = Duration::from_millis(200);

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
    /// When its messages are handled again.
    free_at: Duration,
    /// When what it has used of its part of the time has passed; of a replica, of the part for answers.
    used_until: Duration,
    /// When a message of it came last.
    last: Option<Duration>,
}

impl Queue {
    fn is_client(&self) -> bool {
        matches!(self.share, Share::Clients(_))
    }

    fn waits_until(&self) -> Duration {
        let used = if self.is_client() { self.used_until } else { Duration::ZERO };
        self.free_at.max(used.saturating_sub(BURST))
    }
}

/// What is next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    /// This message of this host.
    Message(Peer, Vec<u8>),
    /// Nothing until then, though something waits.
    At(Duration),
    /// Nothing waits.
    Nothing,
}

/// The clients' weights that share the time.
#[derive(Clone, Copy, Debug, Default)]
struct Active {
    since: Duration,
    current: u64,
    before: u64,
}

impl Active {
    fn turn(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        if passed >= LATELY {
            self.before = if passed < 2 * LATELY { self.current } else { 0 };
            (self.current, self.since) = (0, now);
        }
    }

    /// A message of somebody with this weight has come, whose last one came then.
    fn comes(&mut self, weight: u64, last: Option<Duration>, now: Duration) {
        self.turn(now);
        if last.is_none_or(|last| last < self.since) {
            self.current += weight;
        }
    }

    fn weight(&mut self, now: Duration) -> u64 {
        self.turn(now);
        self.current.max(self.before)
    }
}

/// The queues of one socket.
pub struct Queues {
    queues: BTreeMap<Peer, Queue>,
    /// Those that are not empty, by their virtual time.
    ready: BTreeSet<(u64, Peer)>,
    /// Those that are not empty and whose turn came too early, by when they are ready again.
    early: BTreeSet<(Duration, Peer)>,
    active: Active,
    /// How many messages are handled at a time.
    workers: u32,
    /// The virtual time of whoever was served last.
    now: u64,
    client_bytes: usize,
    ready_clients: usize,
}

impl Queues {
    /// Empty queues for these hosts, from which so many threads take messages; those of others are not taken.
    pub fn new(shares: impl IntoIterator<Item = (Peer, Share)>, workers: usize) -> Self {
        let queue = |share| Queue {
            share,
            time: 0,
            messages: VecDeque::new(),
            bytes: 0,
            free_at: Duration::ZERO,
            used_until: Duration::ZERO,
            last: None,
        };
        Queues {
            queues: shares.into_iter().map(|(peer, share)| (peer, queue(share))).collect(),
            ready: BTreeSet::new(),
            early: BTreeSet::new(),
            active: Active::default(),
            workers: u32::try_from(workers).unwrap_or(u32::MAX).max(1),
            now: 0,
            client_bytes: 0,
            ready_clients: 0,
        }
    }

    /// Takes a message; whether there was room for it.
    pub fn push(&mut self, peer: Peer, message: Vec<u8>, now: Duration) -> bool {
        let Some(queue) = self.queues.get_mut(&peer) else { return false };
        let length = message.len();
        let is_client = queue.is_client();
        if is_client {
            self.active.comes(queue.share.weight(), queue.last, now);
            queue.last = Some(now);
        }
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
    pub fn pop(&mut self, now: Duration) -> Next {
        while let Some(&(at, peer)) = self.early.first()
            && at <= now
        {
            self.early.pop_first();
            self.ready.insert((self.queues[&peer].time, peer));
        }
        while let Some((time, peer)) = self.ready.pop_first() {
            let Some(queue) = self.queues.get_mut(&peer) else { continue };
            let until = queue.waits_until();
            if until > now {
                self.early.insert((until, peer));
                continue;
            }
            self.now = self.now.max(time);
            let Some(message) = queue.messages.pop_front() else { continue };
            queue.bytes -= message.len();
            queue.time += nanoseconds(LEAST_COST) / queue.share.weight();
            let is_client = queue.is_client();
            self.client_bytes -= if is_client { message.len() } else { 0 };
            if queue.messages.is_empty() {
                self.ready_clients -= usize::from(is_client);
            } else {
                self.ready.insert((queue.time, peer));
            }
            return Next::Message(peer, message);
        }
        self.early.first().map_or(Next::Nothing, |&(at, _)| Next::At(at))
    }

    /// What was done for a host has cost so much.
    pub fn charge(&mut self, peer: Peer, cost: Duration, now: Duration) {
        let Some(queue) = self.queues.get_mut(&peer) else { return };
        let (before, weight) = (queue.time, queue.share.weight());
        queue.time = before.saturating_add(nanoseconds(cost) / weight);
        if queue.is_client() {
            let parts = self.active.weight(now).max(weight);
            let part = nanoseconds(cost).saturating_mul(parts) / weight / u64::from(self.workers);
            queue.used_until = queue.used_until.max(now) + Duration::from_nanos(part);
        }
        if self.ready.remove(&(before, peer)) {
            self.ready.insert((queue.time, peer));
        }
    }

    /// Answering a replica has cost so much.
    pub fn answered(&mut self, peer: Peer, cost: Duration, now: Duration) {
        if let Some(queue) = self.queues.get_mut(&peer).filter(|queue| !queue.is_client()) {
            let most = now + 2 * ANSWERS_BURST;
            queue.used_until = (queue.used_until.max(now) + cost * ANSWERS).min(most);
        }
    }

    /// Whether a replica's STATUS may be answered.
    pub fn may_answer(&self, peer: Peer, now: Duration) -> bool {
        self.queues.get(&peer).is_none_or(|queue| queue.used_until <= now + ANSWERS_BURST)
    }

    /// What a host has sent is handled so much later.
    pub fn wait(&mut self, peer: Peer, time: Duration, now: Duration) {
        if let Some(queue) = self.queues.get_mut(&peer) {
            queue.free_at = queue.free_at.max(now + time.min(LONGEST_WAIT));
        }
    }

    /// Whether nothing is to be handled now.
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const MICROSECOND: Duration = Duration::from_micros(1);
    const SECOND: Duration = Duration::from_secs(1);

    /// Replicas 0 and 1, clients 2 and 3, and a host of ten clients, 4.
    fn queues() -> Queues {
        let shares =
            [Share::Replica, Share::Replica, Share::Clients(1), Share::Clients(1), Share::Clients(10)];
        Queues::new((0..).map(Peer).zip(shares), 1)
    }

    fn next(queues: &mut Queues, now: Duration) -> (Peer, Vec<u8>) {
        match queues.pop(now) {
            Next::Message(peer, message) => (peer, message),
            other => panic!("{other:?}"),
        }
    }

    /// The time used by each of these within a second, of one worker, while all of them always have messages
    /// of a cost of 100 microseconds.
    fn used(peers: &[u32]) -> [Duration; 5] {
        let (mut queues, mut now, mut used) = (queues(), Duration::ZERO, [Duration::ZERO; 5]);
        while now < SECOND {
            for &peer in peers {
                queues.push(Peer(peer), vec![0; 10], now);
            }
            match queues.pop(now) {
                Next::Message(peer, _) => {
                    let cost = MICROSECOND * 100;
                    now += cost;
                    used[peer.0 as usize] += cost;
                    queues.charge(peer, cost, now);
                }
                Next::At(at) => now = at.max(now + MICROSECOND),
                Next::Nothing => now += MICROSECOND,
            }
        }
        used
    }

    #[test]
    fn a_client_may_use_its_part_of_the_time_and_one_alone_all_of_it() {
        let [.., alone, _, _] = used(&[2]);
        assert!(alone > SECOND * 9 / 10, "{alone:?}");
        // A client that is seldom there counts too: what it does not use is left to nobody.
        let mut queues = queues();
        let (mut now, mut used) = (Duration::ZERO, Duration::ZERO);
        while now < SECOND {
            if now.as_millis().is_multiple_of(50) {
                queues.push(Peer(3), vec![0], now);
            }
            queues.push(Peer(2), vec![0; 10], now);
            while let Next::Message(peer, _) = queues.pop(now) {
                let cost = MICROSECOND * 100;
                queues.charge(peer, cost, now);
                used += if peer == Peer(2) { cost } else { Duration::ZERO };
                queues.push(Peer(2), vec![0; 10], now);
            }
            now += MICROSECOND * 500;
        }
        assert!((SECOND * 4 / 10..SECOND * 6 / 10).contains(&used), "{used:?}");
    }

    #[test]
    fn who_is_to_wait_waits_and_nobody_else_does() {
        let mut queues = queues();
        (0..2).for_each(|peer| assert!(queues.push(Peer(peer), vec![0], Duration::ZERO)));
        queues.wait(Peer(0), MICROSECOND * 4000, Duration::ZERO);
        assert_eq!(next(&mut queues, Duration::ZERO).0, Peer(1));
        let until = MICROSECOND * 4000;
        assert_eq!(queues.pop(until - MICROSECOND), Next::At(until));
        assert_eq!(next(&mut queues, until).0, Peer(0));
        assert_eq!(queues.pop(until), Next::Nothing);
    }

    #[test]
    fn answers_to_one_replica_take_a_part_of_the_time() {
        let (mut queues, mut now, mut used) = (queues(), Duration::ZERO, Duration::ZERO);
        while now < SECOND * 10 {
            if queues.may_answer(Peer(0), now) {
                queues.answered(Peer(0), MICROSECOND * 2000, now);
                used += MICROSECOND * 2000;
            }
            assert!(queues.may_answer(Peer(1), now));
            now += MICROSECOND * 1000;
        }
        assert!(used <= SECOND * 10 / ANSWERS + ANSWERS_BURST / ANSWERS + MICROSECOND * 4000, "{used:?}");
        assert!(used >= SECOND * 9 / ANSWERS, "{used:?}");
    }

    /// How often each is served while all of these have messages of this cost.
    fn served(peers: &[u32], cost: [u32; 5], turns: u32) -> [u32; 5] {
        let mut queues = queues();
        let (mut served, mut now) = ([0; 5], Duration::ZERO);
        for _ in 0..turns {
            for &peer in peers {
                while queues.queues[&Peer(peer)].messages.len() < 2 {
                    assert!(queues.push(Peer(peer), vec![0; 10], now));
                }
            }
            let (peer, _) = next(&mut queues, now);
            let cost = cost[peer.0 as usize];
            queues.charge(peer, MICROSECOND * cost - LEAST_COST, now);
            // Time is not short: here nobody waits for a part of it.
            now += SECOND;
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
            queues.push(Peer(2), vec![0], Duration::ZERO);
        }
        for _ in 0..3 {
            let (peer, _) = next(&mut queues, Duration::ZERO);
            queues.charge(peer, 100 * MICROSECOND, Duration::ZERO);
        }
        queues.push(Peer(3), vec![1], Duration::ZERO);
        queues.push(Peer(0), vec![2], Duration::ZERO);
        let order: Vec<u8> = (0..3).map(|_| next(&mut queues, Duration::ZERO).1[0]).collect();
        assert_eq!(order[2], 0, "what came later of others comes first");
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_no_others_message() {
        let mut queues = queues();
        let taken = (0..100).filter(|_| queues.push(Peer(2), vec![0; 10], Duration::ZERO)).count();
        assert_eq!(taken, CLIENT_MESSAGES);
        assert!(
            queues.push(Peer(3), vec![0; 10], Duration::ZERO)
                && queues.push(Peer(0), vec![0; 10], Duration::ZERO)
        );
        assert!(!queues.push(Peer(9), vec![0; 10], Duration::ZERO), "nobody knows this host");
        let taken =
            (0..100).filter(|_| queues.push(Peer(4), vec![0; CLIENT_BYTES / 8], Duration::ZERO)).count();
        assert_eq!(taken, 8);
    }

    proptest! {
        /// Whatever comes and goes: nothing is lost, doubled or reordered for one host, and accounts agree.
        #[test]
        fn queues_keep_what_they_take(steps in vec((0..6u32, 0..3000usize, any::<bool>(), 0..200u64), 0..300)) {
            let mut queues = queues();
            let mut waiting: BTreeMap<Peer, VecDeque<(u64, usize)>> = BTreeMap::new();
            for (number, (peer, length, pop, cost)) in (0u64..).zip(steps) {
                let now = MICROSECOND * u32::try_from(number * 50).unwrap();
                let message = [&number.to_le_bytes()[..], &vec![0; length]].concat();
                if queues.push(Peer(peer), message.clone(), now) {
                    waiting.entry(Peer(peer)).or_default().push_back((number, message.len()));
                }
                if pop && let Next::Message(peer, message) = queues.pop(now) {
                    let first = waiting.get_mut(&peer).unwrap().pop_front().unwrap();
                    prop_assert_eq!(&first.0.to_le_bytes()[..], &message[..8]);
                    queues.charge(peer, MICROSECOND * u32::try_from(cost).unwrap(), now);
                }
                let is_client = |peer: &Peer| peer.0 > 1;
                let bytes: usize = waiting.iter().filter(|(peer, _)| is_client(peer))
                    .flat_map(|(_, messages)| messages).map(|&(_, length)| length).sum();
                let ready: Vec<_> = waiting.iter().filter(|(_, m)| !m.is_empty()).map(|(&p, _)| p).collect();
                let early = queues.early.iter().map(|&(_, peer)| peer);
                let mut listed: Vec<_> = queues.ready.iter().map(|&(_, peer)| peer).chain(early).collect();
                listed.sort();
                prop_assert_eq!(queues.client_bytes, bytes);
                prop_assert_eq!(queues.ready_clients, ready.iter().filter(|peer| is_client(peer)).count());
                prop_assert_eq!(listed, ready);
            }
        }
    }
}
