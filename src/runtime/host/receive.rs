//! From datagrams to steps: into queues by host, and from them in turn.

use super::{MAX_HELD, MAX_HOLD, Shared, lock};
use crate::crypto::{Signed, Verified};
use crate::message::{Message, Request};
use crate::rejection::Rejection;
use crate::replica::verify::verify_knowing;
use crate::replica::{Bundle, Event, Subject};
use crate::runtime::control::{self, Control};
use crate::runtime::output::Outgoing;
use crate::runtime::sessions::Peer;
use crate::runtime::transport::Buffers;
use crate::types::ClientId;
use crate::wire;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// The most datagrams that are taken into the queues before a message is handled.
const MAX_TAKEN: usize = 64;
/// How long messages are handled before the socket is looked at again.
const LOOK_AGAIN: Duration = Duration::from_micros(200);
/// A message that does not verify counts so many times as much as it costs.
const FAILED_FACTOR: u32 = 4;

/// Requests that have been verified, by client.
type Known<B> = BTreeMap<ClientId, Signed<Request, <B as Bundle>::Crypto>>;

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
            self.watch.peers.of(from).over_quota.add(1);
        }
    }

    /// Handles a message, and charges its sender; whether there was a step.
    fn handle(&self, from: Peer, bytes: &[u8], answers: &mut Buffers) -> bool {
        let before = Instant::now();
        self.note_sender(from);
        let mut stepped = false;
        let mut factor = 1;
        if self.is_control(from, bytes) {
            self.on_control(from, bytes, answers);
        } else {
            match self.checked(from, bytes) {
                Ok(Some(message)) => {
                    let is_batch = matches!(*message, Message::PrePrepare(..));
                    self.step_locked(&mut lock(&self.core), Event::Message(message));
                    stepped = true;
                    if is_batch {
                        lock(&self.delays).handled(before.elapsed(), self.started.elapsed());
                    }
                }
                Ok(None) => {}
                Err(reason) => {
                    self.refuse(from, reason);
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
            self.say_if_old(from, &message);
            return Ok(None);
        }
        let Some(known) = self.heeds(&message) else {
            self.say_if_old(from, &message);
            self.counters.unheeded.add(1);
            return Ok(None);
        };
        if !self.may_verify(from, &message) {
            return Ok(None);
        }
        let known =
            |request: &Signed<Request, B::Crypto>| known.get(&request.content.client) == Some(request);
        let message = (self.counters)
            .timed(&self.counters.verify_ns, || verify_knowing(&self.setup, message, &known))?;
        self.counters.verified.add(1);
        Ok(Some(message))
    }

    /// Whether the replica has use for a message, if it is valid; and if it holds a batch, the requests in it
    /// that wait here and so have been verified.
    fn heeds(&self, message: &Message<B::Crypto>) -> Option<Known<B>> {
        let replica = &lock(&self.core).replica;
        let heeds = Subject::of(message).is_none_or(|subject| replica.heeds(&self.setup, subject))
            && !replica.has_accepted(message);
        let requests = match message {
            Message::PrePrepare(_, batch) | Message::Batch(batch) => &batch.requests[..],
            _ => &[],
        };
        let waiting = |request: &Signed<Request, B::Crypto>| replica.waiting_request(request.content.client);
        let known = requests.iter().filter(|&request| waiting(request) == Some(request));
        heeds.then(|| known.map(|request| (request.content.client, request.clone())).collect())
    }

    /// Tells a client's host why nothing comes of a request: a clock that goes back, or was ahead once, would
    /// otherwise be found out by nobody.
    fn say_if_old(&self, from: Peer, message: &Message<B::Crypto>) {
        let Message::Request(request) = message else { return };
        let (client, timestamp) = (request.content.client, request.content.timestamp);
        let last = if request.content.read_only {
            lock(&self.admission).last_read(client)
        } else {
            lock(&self.core).replica.clients().last_timestamp(client)
        };
        if timestamp < last && self.hosts.of_client(client) == Some(from) {
            let old = Control::<B::Crypto>::Old(client, timestamp, last);
            lock(&self.outbox).push(Outgoing::Control(vec![from], control::encode(&old)));
        }
    }

    /// Remembers that a replica is there: whatever it says, it says now, in a session.
    fn note_sender(&self, from: Peer) {
        if let Some(replica) = self.hosts.replica_of(from) {
            lock(&self.progress).heard(replica, self.started.elapsed());
        }
    }
}
