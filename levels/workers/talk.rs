//! What two processes say to each other outside of explorations.

use super::peers::{Gone, State};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two signs of life.
const SIGN_EVERY: Duration = Duration::from_secs(1);

/// What is said between two processes.
const SIGN: u8 = 0;
pub(super) const GATHERED: u8 = 1;
pub(super) const LEAVING: u8 = 2;
pub(super) const HALTING: u8 = 3;
pub(super) const LOST: u8 = 4;

/// Whether the other side has closed a connection of which nothing has been read yet.
pub(super) fn is_dead(link: &TcpStream) -> bool {
    let look = || -> io::Result<usize> {
        link.set_nonblocking(true)?;
        let seen = link.peek(&mut [0]);
        link.set_nonblocking(false)?;
        seen
    };
    match look() {
        Ok(seen) => seen == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// The first of these connections that the other side has closed.
pub(super) fn first_dead(links: &BTreeMap<usize, TcpStream>) -> Option<usize> {
    links.iter().find(|(_, link)| is_dead(link)).map(|(&process, _)| process)
}

pub(super) fn send(link: &Mutex<TcpStream>, kind: u8, bytes: &[u8]) -> io::Result<()> {
    write(&mut link.lock().unwrap_or_else(PoisonError::into_inner), kind, bytes)
}

fn write(link: &mut TcpStream, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let head = (bytes.len() as u64).to_le_bytes();
    let written = [&[kind], &head[..], bytes].iter().try_for_each(|part| link.write_all(part));
    if written.is_err() {
        // Nothing can be said any more: what was said by the other side is heard to its end, and no more.
        let _ = link.shutdown(Shutdown::Both);
    }
    written
}

pub(super) fn give_signs(links: &BTreeMap<usize, Arc<Mutex<TcpStream>>>, state: &State) {
    loop {
        for (&process, link) in links {
            // One on which something is being sent needs no sign, and must not keep the others from theirs.
            let Ok(mut link) = link.try_lock() else { continue };
            if write(&mut link, SIGN, &[]).is_err() {
                drop(link);
                state.lose(Gone { process, why: None });
            }
        }
        let began = Instant::now();
        let mut heard = state.heard();
        while began.elapsed() < SIGN_EVERY {
            if heard.is_over {
                return;
            }
            heard = state.wait(heard);
        }
    }
}

/// Hears what a process says, until it is gone.
pub(super) fn listen(mut socket: TcpStream, process: usize, state: &State) {
    let mut next = || -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 9];
        socket.read_exact(&mut head)?;
        let mut length = [0; 8];
        length.copy_from_slice(&head[1..]);
        let (length, mut bytes) = (u64::from_le_bytes(length), Vec::new());
        let read = (&mut socket).take(length).read_to_end(&mut bytes)?;
        if read as u64 == length { Ok((head[0], bytes)) } else { Err(ErrorKind::UnexpectedEof.into()) }
    };
    loop {
        match next() {
            Ok((GATHERED, bytes)) => {
                state.heard().gathered[process].push_back(bytes);
                state.changed.notify_all();
            }
            Ok((HALTING, at)) => {
                let at = at.as_slice().try_into().map(u64::from_le_bytes).ok();
                let mut heard = state.heard();
                heard.halted = heard.halted.max(at);
            }
            Ok((LOST, number)) => {
                let number = number.as_slice().try_into().map_or(u64::MAX, u64::from_le_bytes);
                let lost = usize::try_from(number).ok().filter(|&lost| lost < state.heard().gathered.len());
                // That it is gone itself is found next.
                state.lose(Gone { process: lost.unwrap_or(process), why: None });
            }
            Ok((LEAVING, why)) => {
                let why = Some(String::from_utf8_lossy(&why).into_owned());
                return state.lose(Gone { process, why });
            }
            Ok(_) => {}
            Err(_) => return state.lose(Gone { process, why: None }),
        }
    }
}
