//! The way of letters between processes: what timely reads and writes.
//!
//! Timely panics in a thread of its own when a connection breaks, and its workers wait for ever. So it gets a
//! stream that never breaks: when the connection does, that is noted, reading ends as if the other side had
//! ended, and writing goes nowhere. Messages are handed on whole, so that there is always an end between two
//! of them.

use super::alarm::Alarmed;
use super::peers::{Gone, Losses, Peers};
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::{
    CommsGuard, initialize_networking_from_sockets,
};
use timely::communication::allocator::zero_copy::stream::Stream;
use timely::communication::{Allocator, AllocatorBuilder, Hooks};

/// Bytes of the head of a message of timely.
const HEAD: usize = 48;

/// One end of a connection to another process.
struct Line {
    socket: TcpStream,
    reader: BufReader<TcpStream>,
    losses: Losses,
    process: usize,
    message: Vec<u8>,
    handed_on: usize,
    has_ended: bool,
}

impl Line {
    fn new(socket: TcpStream, losses: Losses, process: usize) -> io::Result<Self> {
        let reader = BufReader::with_capacity(1 << 16, socket.try_clone()?);
        Ok(Line { socket, reader, losses, process, message: Vec::new(), handed_on: 0, has_ended: false })
    }

    /// Reads the next message, or else the one that says that there is no other.
    fn next(&mut self) {
        self.handed_on = 0;
        if let Err(error) = self.try_next() {
            self.losses.note(Gone { process: self.process, why: None }, &error);
            self.message.clear();
            self.message.resize(HEAD, 0);
        }
        // Such a head, all zeros, is how timely says that it ends.
        self.has_ended = self.message.len() == HEAD;
    }

    fn try_next(&mut self) -> io::Result<()> {
        self.message.clear();
        self.message.resize(HEAD, 0);
        self.reader.read_exact(&mut self.message)?;
        let length = length(&self.message);
        let more = (&mut self.reader).take(length).read_to_end(&mut self.message)?;
        if more as u64 == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// The bytes that follow this head.
fn length(head: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[32..40]);
    u64::from_be_bytes(bytes)
}

impl Read for Line {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.handed_on == self.message.len() {
            if self.has_ended {
                return Ok(0);
            }
            self.next();
        }
        let count = (&self.message[self.handed_on..]).read(to)?;
        self.handed_on += count;
        Ok(count)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.socket.write_all(bytes) {
            self.losses.note(Gone { process: self.process, why: None }, &error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Line {
    fn try_clone(&self) -> io::Result<Self> {
        Line::new(self.socket.try_clone()?, self.losses.clone(), self.process)
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        // If it is broken there is nothing to shut down.
        let _ = self.socket.shutdown(how);
        Ok(())
    }
}

/// The connections of one exploration.
pub(crate) struct Lines {
    guard: Option<CommsGuard>,
    sockets: Vec<TcpStream>,
}

impl Lines {
    /// Ends them where they are. If a worker has panicked, timely's own threads do too, and nobody waits for
    /// them.
    pub(crate) fn abandon(mut self, has_panicked: bool) {
        for socket in &self.sockets {
            // It may be broken already.
            let _ = socket.shutdown(Shutdown::Both);
        }
        if has_panicked {
            std::mem::forget(self.guard.take());
        }
    }
}

/// Connects so many workers of this process with those of the others.
///
/// # Errors
/// If another process is gone.
pub(crate) fn connect(here: usize, peers: Option<&Peers>) -> Result<(Vec<AllocatorBuilder>, Lines), Alarmed> {
    let hooks = Hooks::default();
    let local = ProcessBuilder::new_typed_vector(here, hooks.refill.clone(), None);
    let Some(peers) = peers else {
        let builders = local.into_iter().map(AllocatorBuilder::Process).collect();
        return Ok((builders, Lines { guard: None, sockets: Vec::new() }));
    };
    let sockets = peers.connections()?;
    let losses = peers.losses();
    let lost = |process: usize| {
        let losses = losses.clone();
        move |error: io::Error| {
            losses.note(Gone { process, why: None }, &error);
            Alarmed
        }
    };
    let (mut lines, mut kept) = (Vec::new(), Vec::new());
    for (process, socket) in sockets.into_iter().enumerate() {
        let Some(socket) = socket else {
            lines.push(None);
            continue;
        };
        kept.push(socket.try_clone().map_err(lost(process))?);
        lines.push(Some(Line::new(socket, losses.clone(), process).map_err(lost(process))?));
    }
    let me = peers.process();
    let connected = initialize_networking_from_sockets(local, lines, me, here, hooks);
    let (builders, guard) = connected.map_err(lost(usize::from(me == 0)))?;
    let builders = builders.into_iter().map(AllocatorBuilder::Tcp).collect();
    Ok((builders, Lines { guard: Some(guard), sockets: kept }))
}

/// What a worker sends and receives by, built in its own thread.
pub(crate) fn built(builder: AllocatorBuilder) -> Allocator {
    match builder {
        AllocatorBuilder::Thread(_) => unreachable!("workers are connected by process or by TCP"),
        AllocatorBuilder::Process(process) => Allocator::Process(process.build()),
        AllocatorBuilder::Tcp(tcp) => Allocator::Tcp(tcp.build()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use timely::communication::networking::MessageHeader;

    #[test]
    fn the_head_of_a_message_is_as_timely_writes_it() {
        let head = MessageHeader {
            channel: 1,
            source: 2,
            target_lower: 3,
            target_upper: 4,
            length: 0x1_2345,
            seqno: 6,
        };
        let mut bytes = Vec::new();
        head.write_to(&mut bytes).unwrap();
        assert_eq!((bytes.len(), head.header_bytes(), length(&bytes)), (HEAD, HEAD, 0x1_2345));
    }
}
