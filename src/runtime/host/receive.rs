//! From datagrams to steps: into queues by host, and from them in turn.

use super::together::Together;
use super::{MAX_HELD, MAX_HOLD, RECEIVE_WAIT, Shared, lock};
use crate::crypto::{Crypto, Signed, Verified};
use crate::message::{Message, Request};
use crate::rejection::Rejection;
use crate::replica::verify::verify_knowing;
use crate::replica::{Bundle, Event, Subject};
use crate::runtime::control::{self, Control};
use crate::runtime::output::Outgoing;
use crate::runtime::queues::Next;
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

/// How much longer than it has cost somebody waits who has sent what [does not verify](Found::Invalid).
pub(super) const INVALID: u32 = 40;
/// Who has sent what comes [too often](Found::Excess).
const EXCESS: u32 = 10;
/// Who has sent FETCH: answers take a quarter of the time, also of a replica that fetches a large state.
const FETCH: u32 = 3;
/// The shortest wait for a datagram.
const LEAST_WAIT: Duration = Duration::from_micros(200);

/// What a message is found to be.
enum Found<C: Crypto> {
    /// Valid, and of use.
    Useful(Verified<Message<C>>),
    /// A request of use, which is verified together with others.
    Request(Signed<Request, C>),
    /// Of no use to this replica: it has it, or needs it no more. Such things happen all the time.
    Useless,
    /// More than a correct sender sends.
    Excess,
    /// Nothing that a correct sender sends.
    Invalid(Rejection),
}

/// Requests that have been verified, by client.
type Known<B> = BTreeMap<ClientId, Signed<Request, <B as Bundle>::Crypto>>;

impl<B: Bundle> Shared<B> {
    /// Receives until told to stop. While more messages wait, effects that must be made durable are left in
    /// the outbox: one sync serves many steps.
    pub(super) fn work(&self) {
        let (mut buffers, mut answers) = (Buffers::default(), Buffers::default());
        let (mut since, mut looked) = (Instant::now(), Instant::now());
        let (mut steps, mut together) = (0, Together::new());
        while !self.stop.load(Relaxed) {
            if steps == 0 {
                since = Instant::now();
            }
            if looked.elapsed() >= LOOK_AGAIN || lock(&self.queues).is_idle() {
                self.take_waiting(&mut buffers);
                looked = Instant::now();
            }
            let next = lock(&self.queues).pop(self.started.elapsed());
            match next {
                Next::Message(from, bytes) => {
                    steps += self.handle(from, &bytes, &mut answers, &mut together);
                }
                Next::At(_) | Next::Nothing if !together.is_empty() => {
                    steps += self.handle_together(&mut together);
                }
                Next::At(_) | Next::Nothing => {
                    steps = 0;
                    self.flush();
                    self.take_next(next, &mut buffers);
                    continue;
                }
            }
            let enough = steps >= MAX_HELD || since.elapsed() > MAX_HOLD;
            if enough && !together.is_empty() {
                // A sync may take long, and what they lead to can be part of it.
                steps += self.handle_together(&mut together);
            }
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

    /// Waits for one datagram, or until what is there is to be handled, and takes it into the queues.
    fn take_next(&self, next: Next, buffers: &mut Buffers) {
        let wait = match next {
            Next::At(at) => at.saturating_sub(self.started.elapsed()).clamp(LEAST_WAIT, RECEIVE_WAIT),
            _ => RECEIVE_WAIT,
        };
        match self.transport.receive_within(wait, buffers) {
            Ok(arrival) => self.queue(arrival.map(|(from, bytes)| (from, bytes.into_owned()))),
            Err(error) => self.fail(format!("cannot receive: {error}")),
        }
    }

    fn queue(&self, arrival: Option<(Peer, Vec<u8>)>) {
        if let Some((from, bytes)) = arrival
            && !lock(&self.queues).push(from, bytes, self.started.elapsed())
        {
            self.counters.over_quota.add(1);
            self.watch.peers.of(from).over_quota.add(1);
        }
    }

    /// Handles a message, or puts it to those that are verified together, and charges its sender; returns how many
    /// steps there were.
    pub(super) fn handle(
        &self,
        from: Peer,
        bytes: &[u8],
        answers: &mut Buffers,
        together: &mut Together<B::Crypto>,
    ) -> usize {
        let before = Instant::now();
        self.note_sender(from);
        let (mut steps, mut wait) = (0, 0);
        if self.is_control(from, bytes) {
            self.on_control(from, bytes, answers);
        } else {
            match self.checked(from, bytes) {
                Found::Request(request) => {
                    match together.of_same_client(&request) {
                        Some(other) if *other == request => {
                            self.counters.unheeded.add(1);
                            self.charge(from, before.elapsed(), 0);
                            return 0;
                        }
                        Some(_) => steps += self.handle_together(together),
                        None => {}
                    }
                    together.push(from, request, before.elapsed());
                    return steps + if together.is_due() { self.handle_together(together) } else { 0 };
                }
                Found::Useful(message) => {
                    let is_batch = matches!(*message, Message::PrePrepare(..));
                    let is_status = matches!(*message, Message::Status(_));
                    wait = if matches!(*message, Message::Fetch(_)) { FETCH } else { 0 };
                    self.step_locked(&mut lock(&self.core), Event::Message(message));
                    steps += 1;
                    if is_batch {
                        lock(&self.delays).handled(before.elapsed(), self.started.elapsed());
                    }
                    if is_status {
                        lock(&self.queues).answered(from, before.elapsed(), self.started.elapsed());
                    }
                }
                Found::Useless => {}
                Found::Excess => wait = EXCESS,
                Found::Invalid(reason) => {
                    self.refuse(from, reason);
                    self.suspect_if_forged(from, reason);
                    wait = INVALID;
                }
            }
        }
        self.charge(from, before.elapsed(), wait);
        if together.is_due() {
            steps += self.handle_together(together);
        }
        steps
    }

    /// Charges a host for what it has cost, and has it wait so many times as long.
    pub(super) fn charge(&self, host: Peer, cost: Duration, wait: u32) {
        let now = self.started.elapsed();
        let mut queues = lock(&self.queues);
        queues.charge(host, cost, now);
        queues.wait(host, cost * wait, now);
    }

    /// What the message is that these bytes are.
    fn checked(&self, from: Peer, bytes: &[u8]) -> Found<B::Crypto> {
        let message = match wire::decode::<B::Crypto>(bytes) {
            Ok(message) => message,
            Err(error) => return Found::Invalid(error),
        };
        if !self.may_bring(from, &message) {
            return Found::Invalid(Rejection::NotForThisNode);
        }
        // A correct replica leaves views, and asks what others have, from time to time.
        let is_rare = matches!(message, Message::Status(_) | Message::ViewChange(_) | Message::NewView(_));
        let too_much = || if is_rare { Found::Excess } else { Found::Useless };
        if !self.admits(from, &message) {
            self.say_if_old(from, &message);
            return too_much();
        }
        let Some(known) = self.heeds(&message) else {
            self.say_if_old(from, &message);
            self.counters.unheeded.add(1);
            return too_much();
        };
        if !self.may_verify(from, &message) {
            return too_much();
        }
        let message = match message {
            Message::Request(request) if !self.is_suspect(from) => return Found::Request(request),
            message => message,
        };
        let known =
            |request: &Signed<Request, B::Crypto>| known.get(&request.content.client) == Some(request);
        let verified =
            (self.counters).timed(&self.counters.verify_ns, || verify_knowing(&self.setup, message, &known));
        match verified {
            Ok(message) => {
                self.counters.verified.add(1);
                Found::Useful(message)
            }
            Err(reason) => Found::Invalid(reason),
        }
    }

    /// Whether the replica has use for a message, if it is valid; and if it holds a batch, the requests in it
    /// that wait here and so have been verified.
    pub(super) fn heeds(&self, message: &Message<B::Crypto>) -> Option<Known<B>> {
        let replica = &lock(&self.core).replica;
        let heeds = Subject::of(message).is_none_or(|subject| replica.heeds(&self.setup, subject))
            && !replica.has_accepted(&self.setup, message);
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
