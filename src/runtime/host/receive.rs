//! From datagrams to steps: into queues by host, and from them in turn.

use super::{MAX_HELD, MAX_HOLD, Shared, lock};
use crate::crypto::{Signed, Verified};
use crate::message::{Message, Request};
use crate::presence::shows_presence;
use crate::rejection::Rejection;
use crate::replica::verify::verify_knowing;
use crate::replica::{Bundle, Event, Subject};
use crate::runtime::control::{self, Answer, Control};
use crate::runtime::output::Outgoing;
use crate::runtime::sessions::Peer;
use crate::runtime::transport::Buffers;
use crate::types::ClientId;
use crate::wire;
use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The most datagrams that are taken into the queues before a message is handled.
const MAX_TAKEN: usize = 64;
/// How long messages are handled before the socket is looked at again.
const LOOK_AGAIN: Duration = Duration::from_micros(200);
/// A message that does not verify counts so many times as much as it costs.
const FAILED_FACTOR: u32 = 4;

impl<B: Bundle> Shared<B> {
    /// Receives until told to stop. While more messages wait, effects that must be made durable are left in
    /// the outbox: one sync serves many steps.
    pub(super) fn work(&self) {
        let (mut buffers, mut answers) = (Buffers::default(), Buffers::default());
        let (mut since, mut looked) = (Instant::now(), Instant::now());
        let mut steps = 0;
        while !self.stop.load(Relaxed) {
            if steps == 0 {
                since = Instant::now();
            }
            if looked.elapsed() >= LOOK_AGAIN || lock(&self.queues).is_empty() {
                self.take_waiting(&mut buffers);
                looked = Instant::now();
            }
            let next = lock(&self.queues).pop();
            let Some((from, bytes)) = next else {
                steps = 0;
                self.flush();
                self.take_next(&mut buffers);
                continue;
            };
            steps += usize::from(self.handle(from, &bytes, &mut answers));
            let enough = steps >= MAX_HELD || since.elapsed() > MAX_HOLD;
            if enough || !self.must_sync.load(Relaxed) {
                steps = 0;
                self.flush();
            }
        }
    }

    /// Takes what waits in the socket, up to a bound, into the queues.
    fn take_waiting(&self, buffers: &mut Buffers) {
        for _ in 0..MAX_TAKEN {
            match self.transport.try_receive(buffers) {
                Ok(Some(arrival)) => self.queue(arrival.map(|(from, bytes)| (from, bytes.into_owned()))),
                Ok(None) => return,
                Err(error) => return self.fail(format!("cannot receive: {error}")),
            }
        }
    }

    /// Waits for one datagram and takes it into the queues.
    fn take_next(&self, buffers: &mut Buffers) {
        match self.transport.receive(buffers) {
            Ok(arrival) => self.queue(arrival.map(|(from, bytes)| (from, bytes.into_owned()))),
            Err(error) => self.fail(format!("cannot receive: {error}")),
        }
    }

    fn queue(&self, arrival: Option<(Peer, Vec<u8>)>) {
        if let Some((from, bytes)) = arrival
            && !lock(&self.queues).push(from, bytes)
        {
            self.counters.over_quota.add(1);
        }
    }

    /// Handles a message, and charges its sender; whether there was a step.
    fn handle(&self, from: Peer, bytes: &[u8], answers: &mut Buffers) -> bool {
        let before = Instant::now();
        let mut stepped = false;
        let mut factor = 1;
        if bytes.first() == Some(&control::CONTROL) {
            self.on_control(from, bytes, answers);
        } else {
            match self.checked(from, bytes) {
                Ok(Some(message)) => {
                    self.note_sender(&message);
                    let is_batch = matches!(*message, Message::PrePrepare(..));
                    self.step_locked(&mut lock(&self.core), Event::Message(message));
                    stepped = true;
                    if is_batch {
                        lock(&self.delays).handled(before.elapsed(), self.started.elapsed());
                    }
                }
                Ok(None) => {}
                Err(reason) => {
                    self.counters.reject(reason);
                    factor = FAILED_FACTOR;
                }
            }
        }
        lock(&self.queues).charge(from, before.elapsed() * factor);
        stepped
    }

    /// The message that these bytes are; nothing if the replica has no use for it.
    ///
    /// # Errors
    /// Why it cannot be one of this host's making, or of a correct replica's.
    fn checked(&self, from: Peer, bytes: &[u8]) -> Result<Option<Verified<Message<B::Crypto>>>, Rejection> {
        let message = wire::decode::<B::Crypto>(bytes)?;
        if !self.may_bring(from, &message) {
            return Err(Rejection::NotForThisNode);
        }
        if !self.admits(from, &message) {
            return Ok(None);
        }
        let Some(known) = self.heeds(&message) else {
            self.counters.unheeded.add(1);
            return Ok(None);
        };
        if !self.may_verify(from, &message) {
            return Ok(None);
        }
        let known = |request: &Signed<Request, B::Crypto>| known.contains(&request.content.client);
        let message = (self.counters)
            .timed(&self.counters.verify_ns, || verify_knowing(&self.setup, message, &known))?;
        self.counters.verified.add(1);
        Ok(Some(message))
    }

    /// Whether the replica has use for a message, if it is valid; and if it is a batch, the clients whose
    /// requests in it are known and have been verified.
    fn heeds(&self, message: &Message<B::Crypto>) -> Option<BTreeSet<ClientId>> {
        let replica = &lock(&self.core).replica;
        let heeds = Subject::of(message).is_none_or(|subject| replica.heeds(&self.setup, subject))
            && !replica.has_accepted(message);
        let requests = match message {
            Message::PrePrepare(_, batch) | Message::Batch(batch) => &batch.requests[..],
            _ => &[],
        };
        let mut known = BTreeSet::new();
        let mut twice = BTreeSet::new();
        for request in requests {
            let client = request.content.client;
            if replica.waiting_request(client) == Some(request) {
                known.insert(client);
            } else {
                twice.insert(client);
            }
        }
        // One client's name stands for one request: a batch with two of them is checked in full.
        known.retain(|client| !twice.contains(client));
        heeds.then_some(known)
    }

    /// Remembers that a replica is there.
    fn note_sender(&self, message: &Message<B::Crypto>) {
        if let Some(replica) = shows_presence(message) {
            lock(&self.progress).heard(replica, self.started.elapsed());
        }
    }

    fn on_control(&self, from: Peer, bytes: &[u8], buffers: &mut Buffers) {
        let members = self.setup.membership();
        let now = self.started.elapsed();
        let replica = self.hosts.replica_of(from);
        match control::decode::<B::Crypto>(bytes) {
            // That it came is all: now there is a session.
            Some(Control::Hello) => {}
            Some(Control::Query(query)) => match members.check(&query) {
                Ok(()) => {
                    let clock = query.content.clock;
                    let answer = Answer { replica: self.setup.id, clock, health: self.health() };
                    let answer = Control::<B::Crypto>::Answer(Signed::new(answer, &*self.setup.keys));
                    self.transport.send(&[from], &control::encode(&answer), buffers);
                }
                Err(reason) => self.counters.reject(reason),
            },
            Some(Control::Ping(number)) if replica.is_some() => {
                let pong = control::encode(&Control::<B::Crypto>::Pong(number));
                lock(&self.outbox).push(Outgoing::Control(vec![from], pong));
            }
            Some(Control::Pong(number)) => {
                if let Some(replica) = replica {
                    lock(&self.delays).answered(replica, number, now);
                }
            }
            Some(Control::Late(view)) => {
                if let Some(replica) = replica {
                    lock(&self.late).insert(replica, (view, now));
                }
            }
            Some(Control::Answer(_) | Control::Ping(_)) => self.counters.reject(Rejection::NotForThisNode),
            None => self.counters.reject(Rejection::Malformed),
        }
    }
}
