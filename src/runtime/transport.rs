//! Messages over UDP: whole in one datagram or in fragments, of which lost ones are sent again one by one.
//!
//! Every datagram belongs to a session ([`super::sessions`]): what comes from outside of one reaches nothing in
//! here. So senders and receivers are hosts, and not addresses.

use super::counters::Counters;
use super::frame::{self, Fragment, Frame, OVERHEAD};
use super::reassembly::Reassembly;
use super::sessions::{self, Outgoing, Peer, PeerView, Received, Sealed, Sessions};
use socket2::{Domain, Protocol, Socket, Type};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest datagram that UDP can carry, in bytes.
pub const MAX_DATAGRAM_BYTES: usize = 65_507;
/// The shortest that can be configured.
pub const MIN_DATAGRAM_BYTES: usize = 512;
/// The buffers asked of the kernel for each direction; it may give less.
const SOCKET_BUFFER_BYTES: usize = 16 * 1024 * 1024;
/// What is kept of messages sent in fragments, to send fragments again.
const MAX_KEPT_BYTES: usize = 32 * 1024 * 1024;
/// How many times the fragments of one message may be asked for by one receiver.
const MAX_RESENDS: u32 = 16;

/// What of a buffer of this size, as the kernel tells it, can be asked for: Linux doubles what it is asked
/// for, to have room for its own records, and limits what is asked for.
fn usable(told: usize) -> usize {
    if cfg!(target_os = "linux") { told / 2 } else { told }
}

/// A message sent in fragments, and to whom.
struct Sent {
    bytes: Arc<[u8]>,
    /// Who may ask for it again, and how often they have.
    receivers: Vec<(Peer, u32)>,
}

/// What a thread needs to receive and to send.
pub struct Buffers {
    datagram: Vec<u8>,
    plaintext: Vec<u8>,
    frame: Vec<u8>,
    sealed: Vec<u8>,
    send: Vec<Outgoing>,
}

impl Default for Buffers {
    fn default() -> Self {
        Buffers {
            datagram: vec![0; MAX_DATAGRAM_BYTES],
            plaintext: Vec::new(),
            frame: Vec::new(),
            sealed: Vec::new(),
            send: Vec::new(),
        }
    }
}

#[derive(Default)]
struct Kept {
    messages: BTreeMap<u64, Sent>,
    order: VecDeque<u64>,
    bytes: usize,
}

/// The message that a datagram completes, if it does, and whose host sent it.
pub type Arrival<'b> = Option<(Peer, Cow<'b, [u8]>)>;

/// Whether a receive that failed so may be repeated at once: nothing came, or what was sent did not arrive.
fn is_passing(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted, TimedOut, WouldBlock};
    matches!(kind, WouldBlock | TimedOut | Interrupted | ConnectionRefused | ConnectionReset)
}

/// One socket. Any number of threads may send and receive.
pub struct Transport {
    socket: UdpSocket,
    /// The buffers that the kernel has given, for receiving and for sending, in bytes.
    granted: (usize, usize),
    sessions: Sessions,
    /// Where the time of the sessions begins.
    started: Instant,
    /// The longest frame, in bytes: a session makes it the longest datagram.
    frame_bytes: usize,
    reassembly: Mutex<Reassembly>,
    kept: Mutex<Kept>,
    next_id: AtomicU64,
    counters: Arc<Counters>,
    /// From this host on, none may send fragments.
    whole_from: Peer,
    /// How long to wait for a datagram.
    patience: Duration,
    /// How long the socket waits, in microseconds.
    waits_for: AtomicU64,
}

impl Transport {
    /// Binds a socket for these sessions. `replicas` are the senders that have room of their own for incomplete
    /// messages, and `patience` is how long [`Transport::receive`] waits.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        datagram_bytes: usize,
        sessions: Sessions,
        replicas: Vec<Peer>,
        patience: Duration,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        for bytes in [SOCKET_BUFFER_BYTES, SOCKET_BUFFER_BYTES / 4] {
            if socket.set_recv_buffer_size(bytes).and(socket.set_send_buffer_size(bytes)).is_ok() {
                break;
            }
        }
        let granted = (usable(socket.recv_buffer_size()?), usable(socket.send_buffer_size()?));
        socket.bind(&address.into())?;
        // Numbers go on where those of an earlier process at this address cannot have come to.
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        Ok(Transport {
            socket: socket.into(),
            granted,
            sessions,
            started: Instant::now(),
            frame_bytes: datagram_bytes.clamp(MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES) - sessions::OVERHEAD,
            reassembly: Mutex::new(Reassembly::new(replicas)),
            kept: Mutex::default(),
            next_id: AtomicU64::new(start as u64),
            counters,
            whole_from: Peer(u32::MAX),
            patience,
            waits_for: AtomicU64::new(0),
        })
    }

    /// The same, in which this host and those with a higher number may send no fragments: nothing that they may
    /// say is so long, and there is no room for what is.
    pub fn without_fragments_from(mut self, first: Peer) -> Self {
        self.whole_from = first;
        self
    }

    /// Returns the address that the socket is bound to.
    ///
    /// # Errors
    /// If the operating system does not tell it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The buffers that the kernel has given of those asked for, for receiving and for sending, in bytes.
    pub fn granted_buffers(&self) -> (usize, usize) {
        self.granted
    }

    /// Says in the log if the kernel has given smaller buffers than were asked for, and how to get them.
    pub fn tell_of_small_buffers(&self) {
        let (receive, send) = self.granted;
        if receive < SOCKET_BUFFER_BYTES || send < SOCKET_BUFFER_BYTES {
            tracing::warn!(
                asked = SOCKET_BUFFER_BYTES,
                receive,
                send,
                "the kernel limits the socket's buffers, so a burst is lost sooner: on Linux raise \
                 net.core.rmem_max and net.core.wmem_max with sysctl"
            );
        }
    }

    /// Waits for a datagram; the message, if it completes one, and whose host sent it.
    ///
    /// # Errors
    /// If the socket fails for another reason than a datagram that could not be delivered; nothing is lost by
    /// calling again.
    pub fn receive<'b>(&self, buffers: &'b mut Buffers) -> io::Result<Arrival<'b>> {
        self.receive_within(self.patience, buffers)
    }

    /// The same, waiting no longer than this; 0 counts as a microsecond.
    ///
    /// # Errors
    /// As those of [`Transport::receive`].
    pub fn receive_within<'b>(&self, wait: Duration, buffers: &'b mut Buffers) -> io::Result<Arrival<'b>> {
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX).max(1);
        if self.waits_for.swap(micros, Relaxed) != micros {
            self.socket.set_read_timeout(Some(Duration::from_micros(micros)))?;
        }
        let received = self.socket.recv_from(&mut buffers.datagram);
        match received {
            Ok((length, from)) => self.on_datagram(from, length, buffers),
            Err(error) if is_passing(error.kind()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same without waiting; nothing if no datagram is there.
    ///
    /// # Errors
    /// As those of [`Transport::receive`].
    pub fn try_receive<'b>(&self, buffers: &'b mut Buffers) -> io::Result<Option<Arrival<'b>>> {
        use rustix::net::{RecvFlags, recvfrom};
        let received = recvfrom(&self.socket, &mut buffers.datagram[..], RecvFlags::DONTWAIT);
        match received.map_err(io::Error::from) {
            Ok((length, _, Some(from))) => {
                let from =
                    SocketAddr::try_from(from).map_err(|_| io::Error::other("an address of no host"))?;
                self.on_datagram(from, length, buffers).map(Some)
            }
            Ok((_, _, None)) => Ok(None),
            Err(error) if is_passing(error.kind()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn on_datagram<'b>(
        &self,
        from: SocketAddr,
        length: usize,
        buffers: &'b mut Buffers,
    ) -> io::Result<Arrival<'b>> {
        let Buffers { datagram, plaintext, send, .. } = buffers;
        self.counters.datagrams_received.add(1);
        let datagram = datagram.get(..length).unwrap_or_default();
        let received = self.sessions.receive(from, datagram, self.now(), plaintext, send);
        for (to, datagram) in send.drain(..) {
            self.send_datagram(to, &datagram);
        }
        match received {
            Received::Payload { peer } => self.on_frame(peer, plaintext),
            Received::Nothing => Ok(None),
            Received::Dropped(why) => {
                self.counters.drop_datagram(why);
                Ok(None)
            }
        }
    }

    fn on_frame<'b>(&self, from: Peer, frame: &'b [u8]) -> io::Result<Arrival<'b>> {
        match frame::read(frame) {
            None => {
                self.counters.no_frame.add(1);
                Ok(None)
            }
            Some(Frame::Whole(bytes)) => Ok(Some((from, Cow::Borrowed(bytes)))),
            Some(Frame::Fragment(_)) if from >= self.whole_from => {
                self.counters.observer_refused.add(1);
                Ok(None)
            }
            Some(Frame::Fragment(fragment)) => {
                let mut reassembly = self.reassembly.lock().unwrap_or_else(PoisonError::into_inner);
                let whole = reassembly.take(from, &fragment, Instant::now());
                Ok(whole.map(|bytes| (from, Cow::Owned(bytes))))
            }
            Some(Frame::Resend { id, missing }) => {
                self.send_again(from, id, &missing);
                Ok(None)
            }
        }
    }

    /// Sends a message to each of these hosts. What the kernel does not take, or finds no session and no room
    /// to wait for one, is lost, as on any network.
    pub fn send(&self, to: &[Peer], message: &[u8], buffers: &mut Buffers) {
        let Buffers { frame, sealed, .. } = buffers;
        if message.len() + OVERHEAD <= self.frame_bytes {
            frame::write(&Frame::Whole(message), frame);
            to.iter().for_each(|&to| self.send_frame(to, frame, sealed));
            return;
        }
        let id = self.next_id.fetch_add(1, Relaxed);
        let bytes: Arc<[u8]> = Arc::from(message);
        self.keep(id, &bytes, to);
        for fragment in fragments(id, &bytes, self.frame_bytes) {
            frame::write(&Frame::Fragment(fragment), frame);
            to.iter().for_each(|&to| self.send_frame(to, frame, sealed));
        }
    }

    /// Asks for fragments that seem to be lost, and does what sessions need as time passes; to be called
    /// every few milliseconds.
    pub fn tick(&self, buffers: &mut Buffers) {
        for (to, datagram) in self.sessions.tick(self.now()) {
            self.send_datagram(to, &datagram);
        }
        let lost = self.reassembly.lock().unwrap_or_else(PoisonError::into_inner).lost(Instant::now());
        let Buffers { frame, sealed, .. } = buffers;
        for (from, id, missing) in lost {
            self.counters.fragments_asked.add(missing.len() as u64);
            frame::write(&Frame::Resend { id, missing }, frame);
            self.send_frame(from, frame, sealed);
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// How the sessions with a host stand, and the time by which that is told.
    pub fn view(&self, host: Peer) -> (PeerView, Duration) {
        let now = self.now();
        (self.sessions.view(host, now), now)
    }

    /// The bytes that sessions take up, without the keys of established ones.
    pub fn session_bytes(&self) -> usize {
        self.sessions.memory()
    }

    /// The bytes reserved for incomplete messages.
    pub fn incomplete_bytes(&self) -> usize {
        self.reassembly.lock().unwrap_or_else(PoisonError::into_inner).reserved()
    }

    /// Sends one frame, whatever it is; `sealed` is overwritten.
    pub fn send_frame(&self, to: Peer, frame: &[u8], sealed: &mut Vec<u8>) {
        match self.sessions.seal(to, frame, self.now(), sealed) {
            Sealed::Ready(address) | Sealed::Asked(address) => self.send_datagram(address, sealed),
            Sealed::Queued => {}
            Sealed::Dropped(_) => self.counters.no_session.add(1),
        }
    }

    fn send_datagram(&self, to: SocketAddr, datagram: &[u8]) {
        match self.socket.send_to(datagram, to) {
            Ok(_) => self.counters.datagrams_sent.add(1),
            Err(_) => self.counters.not_sent.add(1),
        }
    }

    fn keep(&self, id: u64, bytes: &Arc<[u8]>, to: &[Peer]) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let receivers = to.iter().map(|&to| (to, 0)).collect();
        kept.messages.insert(id, Sent { bytes: bytes.clone(), receivers });
        kept.order.push_back(id);
        kept.bytes += bytes.len();
        while kept.bytes > MAX_KEPT_BYTES
            && let Some(oldest) = kept.order.pop_front()
        {
            if let Some(sent) = kept.messages.remove(&oldest) {
                kept.bytes -= sent.bytes.len();
            }
        }
    }

    /// Only whom the message was sent to gets a part of it again, and only so often: nobody can make this
    /// replica flood somebody else.
    fn send_again(&self, from: Peer, id: u64, missing: &[u16]) {
        let bytes = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(sent) = kept.messages.get_mut(&id) else { return };
            let Some((_, asked)) = sent.receivers.iter_mut().find(|(to, _)| *to == from) else { return };
            if *asked >= MAX_RESENDS {
                return;
            }
            *asked += 1;
            sent.bytes.clone()
        };
        let (mut frame, mut sealed) = (Vec::new(), Vec::new());
        for fragment in fragments(id, &bytes, self.frame_bytes).filter(|f| missing.contains(&f.index)) {
            self.counters.fragments_resent.add(1);
            frame::write(&Frame::Fragment(fragment), &mut frame);
            self.send_frame(from, &frame, &mut sealed);
        }
    }
}

fn fragments(id: u64, message: &[u8], frame_bytes: usize) -> impl Iterator<Item = Fragment<'_>> {
    let pieces = message.chunks(frame_bytes - OVERHEAD);
    let count = u16::try_from(pieces.len()).expect("4 MiB are fewer than 65536 fragments");
    let total = u32::try_from(message.len()).expect("a message is at most 4 MiB");
    pieces.zip(0..).map(move |(bytes, index)| Fragment { id, index, count, total, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::sessions::{HostKey, Limits, PeerEntry, Random};

    const LOCAL: [u8; 4] = [127, 0, 0, 1];

    /// Three sockets of one cluster; the first is at an address that the others know.
    fn transports() -> [Transport; 3] {
        let key = |number: u8| HostKey::from_secret([number + 1; 32]);
        let mut first = None;
        [0, 1, 2].map(|number: u8| {
            let others = (0..3).filter(|&other| other != number);
            let entry = |other: u8| PeerEntry {
                peer: Peer(other.into()),
                public_key: key(other).public(),
                address: first.filter(|_| other == 0),
                fixed: first.is_some() && other == 0,
            };
            let entries: Vec<_> = others.map(entry).collect();
            let sessions = Sessions::new(
                key(number),
                [0; 32],
                &entries,
                Limits::default(),
                Random::seeded(number.into()),
            );
            let any = SocketAddr::from((LOCAL, 0));
            let patience = Duration::from_millis(20);
            let transport =
                Transport::bind(any, 1400, sessions.unwrap(), Vec::new(), patience, Arc::default()).unwrap();
            first.get_or_insert(transport.address().unwrap());
            transport
        })
    }

    fn receive(transport: &Transport) -> Option<Vec<u8>> {
        let mut buffers = Buffers::default();
        let received = transport.receive(&mut buffers).unwrap().map(|(_, bytes)| bytes.into_owned());
        transport.tick(&mut buffers);
        received
    }

    /// Sends something and waits until it is there.
    fn meet(from: &Transport, first: &Transport) {
        from.send(&[Peer(0)], b"here I am", &mut Buffers::default());
        let got = (0..100).find_map(|_| receive(first).or_else(|| receive(from)));
        assert_eq!(got.as_deref(), Some(&b"here I am"[..]));
        assert_eq!(receive(from), None);
    }

    #[test]
    fn the_buffers_told_are_those_that_the_kernel_gives() {
        let [transport, ..] = transports();
        let (receive, send) = transport.granted_buffers();
        assert!((1..=SOCKET_BUFFER_BYTES).contains(&receive) && (1..=SOCKET_BUFFER_BYTES).contains(&send));
        let limit = |name: &str| -> Option<usize> {
            std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?.trim().parse().ok()
        };
        if let (Some(rmem_max), Some(wmem_max)) = (limit("rmem_max"), limit("wmem_max")) {
            let least = |max: usize| max.min(SOCKET_BUFFER_BYTES);
            assert_eq!((receive, send), (least(rmem_max), least(wmem_max)));
        }
    }

    #[test]
    fn messages_of_any_length_arrive() {
        let [first, from, _] = transports();
        for length in [0, 1, 1352, 1353, 200_000] {
            let message: Vec<u8> = (0..length).map(|i: usize| i as u8).collect();
            from.send(&[Peer(0)], &message, &mut Buffers::default());
            let got = (0..1000).find_map(|_| receive(&first).or_else(|| receive(&from)));
            assert_eq!(got, Some(message));
        }
        first.send(&[Peer(1)], b"back", &mut Buffers::default());
        assert_eq!((0..100).find_map(|_| receive(&from)).as_deref(), Some(&b"back"[..]));
    }

    #[test]
    fn a_lost_fragment_is_sent_again_and_only_to_whom_the_message_went() {
        let [first, to, other] = transports();
        meet(&to, &first);
        meet(&other, &first);
        let message = vec![3; 10_000];
        let id = 7;
        first.keep(id, &Arc::from(&message[..]), &[Peer(1)]);
        let (mut frame, mut sealed) = (Vec::new(), Vec::new());
        for fragment in fragments(id, &message, first.frame_bytes).filter(|fragment| fragment.index != 2) {
            frame::write(&Frame::Fragment(fragment), &mut frame);
            first.send_frame(Peer(1), &frame, &mut sealed);
            assert_eq!(receive(&to), None);
        }
        frame::write(&Frame::Resend { id, missing: vec![2] }, &mut frame);
        other.send_frame(Peer(0), &frame, &mut sealed);
        assert_eq!((receive(&first), receive(&other)), (None, None));
        let got = (0..100).find_map(|_| receive(&first).or_else(|| receive(&to)));
        assert_eq!(got, Some(message));
        assert_eq!((other.counters.no_frame.get(), first.counters.fragments_resent.get()), (0, 1));
    }

    #[test]
    fn what_comes_from_outside_of_a_session_goes_nowhere_and_is_not_answered() {
        let [first, ..] = transports();
        let stranger = UdpSocket::bind(SocketAddr::from((LOCAL, 0))).unwrap();
        stranger.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut frame = Vec::new();
        let piece = Fragment { id: 1, index: 512, count: 513, total: 131_073, bytes: b"x" };
        for read in
            [Frame::Whole(b"message"), Frame::Fragment(piece), Frame::Resend { id: 1, missing: vec![0] }]
        {
            frame::write(&read, &mut frame);
            stranger.send_to(&frame, first.address().unwrap()).unwrap();
            assert_eq!(receive(&first), None);
        }
        assert!(stranger.recv(&mut [0; 2000]).is_err(), "nobody has answered");
        assert_eq!((first.incomplete_bytes(), first.counters.datagrams_sent.get()), (0, 0));
    }
}
