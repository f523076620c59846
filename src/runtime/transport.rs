//! Messages over UDP: whole in one datagram or in fragments, of which lost ones are sent again one by one.

use super::counters::Counters;
use super::frame::{self, Fragment, Frame, OVERHEAD};
use super::reassembly::Reassembly;
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

/// A message sent in fragments, and to whom.
struct Sent {
    bytes: Arc<[u8]>,
    /// Who may ask for it again, and how often they have.
    receivers: Vec<(SocketAddr, u32)>,
}

#[derive(Default)]
struct Kept {
    messages: BTreeMap<u64, Sent>,
    order: VecDeque<u64>,
    bytes: usize,
}

/// One socket. Any number of threads may send and receive.
pub struct Transport {
    socket: UdpSocket,
    /// The longest datagram sent, in bytes.
    datagram_bytes: usize,
    reassembly: Mutex<Reassembly>,
    kept: Mutex<Kept>,
    next_id: AtomicU64,
    counters: Arc<Counters>,
}

impl Transport {
    /// Binds a socket. `replicas` are the senders that have room of their own for incomplete messages, and
    /// `patience` is how long [`Transport::receive`] waits.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub fn bind(
        address: SocketAddr,
        datagram_bytes: usize,
        replicas: Vec<SocketAddr>,
        patience: Duration,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        for bytes in [SOCKET_BUFFER_BYTES, SOCKET_BUFFER_BYTES / 4] {
            if socket.set_recv_buffer_size(bytes).and(socket.set_send_buffer_size(bytes)).is_ok() {
                break;
            }
        }
        socket.bind(&address.into())?;
        socket.set_read_timeout(Some(patience))?;
        // Numbers go on where those of an earlier process at this address cannot have come to.
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        Ok(Transport {
            socket: socket.into(),
            datagram_bytes: datagram_bytes.clamp(MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES),
            reassembly: Mutex::new(Reassembly::new(replicas)),
            kept: Mutex::default(),
            next_id: AtomicU64::new(start as u64),
            counters,
        })
    }

    /// Returns the address that the socket is bound to.
    ///
    /// # Errors
    /// If the operating system does not tell it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Waits for a datagram; the message, if it completes one. `buffer` takes the longest datagram.
    ///
    /// # Errors
    /// If the socket fails for another reason than a datagram that could not be delivered; nothing is lost by
    /// calling again.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<(SocketAddr, Cow<'b, [u8]>)>> {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, Interrupted, TimedOut, WouldBlock};
        let (length, from) = match self.socket.recv_from(buffer) {
            Ok(received) => received,
            Err(error) => match error.kind() {
                WouldBlock | TimedOut | Interrupted | ConnectionRefused | ConnectionReset => return Ok(None),
                _ => return Err(error),
            },
        };
        self.counters.datagrams_received.add(1);
        match frame::read(buffer.get(..length).unwrap_or_default()) {
            None => {
                self.counters.no_frame.add(1);
                Ok(None)
            }
            Some(Frame::Whole(bytes)) => Ok(Some((from, Cow::Borrowed(bytes)))),
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

    /// Whether a datagram waits to be received.
    pub fn has_more(&self) -> bool {
        rustix::io::ioctl_fionread(&self.socket).is_ok_and(|bytes| bytes > 0)
    }

    /// Sends a message to each of the receivers. What the kernel does not take is lost, as on any network.
    pub fn send(&self, to: &[SocketAddr], message: &[u8], datagram: &mut Vec<u8>) {
        if message.len() + OVERHEAD <= self.datagram_bytes {
            frame::write(&Frame::Whole(message), datagram);
            to.iter().for_each(|&to| self.send_datagram(to, datagram));
            return;
        }
        let id = self.next_id.fetch_add(1, Relaxed);
        let bytes: Arc<[u8]> = Arc::from(message);
        self.keep(id, &bytes, to);
        for fragment in fragments(id, &bytes, self.datagram_bytes) {
            frame::write(&Frame::Fragment(fragment), datagram);
            to.iter().for_each(|&to| self.send_datagram(to, datagram));
        }
    }

    /// Asks for fragments that seem to be lost; to be called every few milliseconds.
    pub fn ask_for_lost_fragments(&self) {
        let lost = self.reassembly.lock().unwrap_or_else(PoisonError::into_inner).lost(Instant::now());
        let mut datagram = Vec::new();
        for (from, id, missing) in lost {
            self.counters.fragments_asked.add(missing.len() as u64);
            frame::write(&Frame::Resend { id, missing }, &mut datagram);
            self.send_datagram(from, &datagram);
        }
    }

    /// The bytes reserved for incomplete messages.
    pub fn incomplete_bytes(&self) -> usize {
        self.reassembly.lock().unwrap_or_else(PoisonError::into_inner).reserved()
    }

    fn send_datagram(&self, to: SocketAddr, datagram: &[u8]) {
        match self.socket.send_to(datagram, to) {
            Ok(_) => self.counters.datagrams_sent.add(1),
            Err(_) => self.counters.not_sent.add(1),
        }
    }

    fn keep(&self, id: u64, bytes: &Arc<[u8]>, to: &[SocketAddr]) {
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
    fn send_again(&self, from: SocketAddr, id: u64, missing: &[u16]) {
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
        let mut datagram = Vec::new();
        for fragment in fragments(id, &bytes, self.datagram_bytes).filter(|f| missing.contains(&f.index)) {
            self.counters.fragments_resent.add(1);
            frame::write(&Frame::Fragment(fragment), &mut datagram);
            self.send_datagram(from, &datagram);
        }
    }
}

fn fragments(id: u64, message: &[u8], datagram_bytes: usize) -> impl Iterator<Item = Fragment<'_>> {
    let pieces = message.chunks(datagram_bytes - OVERHEAD);
    let count = u16::try_from(pieces.len()).expect("4 MiB are fewer than 65536 fragments");
    let total = u32::try_from(message.len()).expect("a message is at most 4 MiB");
    pieces.zip(0..).map(move |(bytes, index)| Fragment { id, index, count, total, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(datagram_bytes: usize) -> Transport {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let patience = Duration::from_millis(50);
        Transport::bind(any, datagram_bytes, Vec::new(), patience, Arc::default()).unwrap()
    }

    fn receive(transport: &Transport) -> Option<Vec<u8>> {
        let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
        transport.receive(&mut buffer).unwrap().map(|(_, bytes)| bytes.into_owned())
    }

    #[test]
    fn messages_of_any_length_arrive() {
        let (from, to) = (transport(1400), transport(1400));
        for length in [0, 1, 1382, 1383, 200_000] {
            let message: Vec<u8> = (0..length).map(|i: usize| i as u8).collect();
            from.send(&[to.address().unwrap()], &message, &mut Vec::new());
            let got = (0..1000).find_map(|_| receive(&to));
            assert_eq!(got, Some(message));
        }
    }

    #[test]
    fn a_lost_fragment_is_sent_again_and_only_to_whom_the_message_went() {
        let (from, to, other) = (transport(1400), transport(1400), transport(1400));
        let message = vec![3; 10_000];
        let id = 7;
        from.keep(id, &Arc::from(&message[..]), &[to.address().unwrap()]);
        let mut datagram = Vec::new();
        for fragment in fragments(id, &message, 1400).filter(|fragment| fragment.index != 2) {
            frame::write(&Frame::Fragment(fragment), &mut datagram);
            from.send_datagram(to.address().unwrap(), &datagram);
            assert_eq!(receive(&to), None);
        }
        frame::write(&Frame::Resend { id, missing: vec![2] }, &mut datagram);
        other.send_datagram(from.address().unwrap(), &datagram);
        assert_eq!((receive(&from), receive(&other)), (None, None));
        std::thread::sleep(Duration::from_millis(15));
        to.ask_for_lost_fragments();
        assert_eq!(receive(&from), None, "a request for fragments is no message");
        assert_eq!(receive(&to), Some(message));
        assert_eq!((to.counters.fragments_asked.get(), from.counters.fragments_resent.get()), (1, 1));
    }
}
