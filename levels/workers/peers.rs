//! The processes that explore together.
//!
//! Each process binds to its own address and to no other, and is connected with every other one: the one with
//! the higher number connects. They first compare the terms on which they were started, and go on only if
//! these are equal. Over these connections go what is said outside of explorations, and a sign of life every
//! second; each exploration has connections of its own.
//!
//! Nothing is encrypted and nobody has to show who he is: whoever reaches these addresses can read along, and
//! spoil what is found out. This is for networks on which everybody is trusted.

use super::alarm::Alarmed;
use super::greeting::{GREETING, Greeting, Meeting, difference, read_greeting, write_greeting};
use super::talk::{GATHERED, HALTING, LEAVING, LOST, first_dead, give_signs, is_dead, listen, send};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Silence after which a process counts as gone.
const SILENCE: Duration = Duration::from_secs(20);
/// Between two looks at whether something has happened that wakes nobody.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The most connections at a time of which it is not known yet whose they are; others have to come again.
const MOST_GREETING: usize = 256;
/// The longest that a process waits at its end until all others have heard what it has said.
const FAREWELL: Duration = Duration::from_secs(3);

/// A process that others have lost.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Gone {
    /// Its number.
    pub process: usize,
    /// What it said of it, if it said something.
    pub why: Option<String>,
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.why {
            Some(why) => write!(f, "process {} has stopped: {why}", self.process),
            None => write!(f, "process {} is gone", self.process),
        }
    }
}

#[derive(Default)]
pub(super) struct Heard {
    /// What each process has sent to be gathered, and has not been taken.
    pub(super) gathered: Vec<VecDeque<Vec<u8>>>,
    /// The connections to processes with higher numbers.
    links: BTreeMap<usize, TcpStream>,
    /// Those for explorations.
    lines: BTreeMap<(u64, usize), TcpStream>,
    /// From which nothing more is to be heard.
    ended: Vec<bool>,
    /// How often all had gathered when one of them had the others stop, the last time.
    pub(super) halted: Option<u64>,
    /// How often all have gathered.
    gathers: u64,
    /// Why somebody was refused who came.
    refused: Option<String>,
    /// Connections of which it is not known yet whose they are.
    greeting: usize,
    pub(super) is_over: bool,
}

pub(super) struct State {
    heard: Mutex<Heard>,
    pub(super) changed: Condvar,
    gone: OnceLock<Gone>,
}

impl State {
    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something changes, or a while.
    pub(super) fn wait<'a>(&self, heard: MutexGuard<'a, Heard>) -> MutexGuard<'a, Heard> {
        self.changed.wait_timeout(heard, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0
    }

    /// What it said before may still be heard.
    pub(super) fn lose(&self, gone: Gone) {
        if self.heard().is_over {
            return;
        }
        // Others that are gone after the first are gone because of it.
        let _ = self.gone.set(gone);
        self.changed.notify_all();
    }
}

/// Where it is noted that a connection is lost.
#[derive(Clone)]
pub(crate) struct Losses(Arc<State>);

impl Losses {
    pub(crate) fn note(&self, gone: Gone, _: &io::Error) {
        self.0.lose(gone);
    }
}

/// The other processes, connected.
pub struct Peers {
    meeting: Meeting,
    state: Arc<State>,
    links: BTreeMap<usize, Arc<Mutex<TcpStream>>>,
    explorations: Mutex<u64>,
}

impl Peers {
    /// Meets all others, which were started on the same terms. `goes_on` may say to give up.
    ///
    /// # Errors
    /// In a sentence: if its own address cannot be bound to, another process does not come in time, or was
    /// started on other terms.
    pub fn meet(meeting: Meeting, goes_on: &dyn Fn() -> bool) -> Result<Self, String> {
        let own = &meeting.hosts[meeting.process];
        let cannot = |error: io::Error| format!("cannot bind to {own}, the address of this process: {error}");
        let listener = TcpListener::bind(own).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let all = meeting.hosts.len();
        let heard =
            Heard { gathered: vec![VecDeque::new(); all], ended: vec![false; all], ..Heard::default() };
        let state =
            Arc::new(State { heard: Mutex::new(heard), changed: Condvar::new(), gone: OnceLock::new() });
        let mut peers = Peers { meeting, state, links: BTreeMap::new(), explorations: Mutex::new(0) };
        let (meeting, state) = (peers.meeting.clone(), peers.state.clone());
        std::thread::spawn(move || accept(&listener, &Arc::new(meeting), &state));
        let began = Instant::now();
        let mut links = BTreeMap::new();
        for process in 0..peers.process() {
            let socket = peers.reach(process, None, began, &|| goes_on() && first_dead(&links).is_none());
            if let Some(gone) = first_dead(&links) {
                return Err(format!("process {gone} is gone while others were awaited"));
            }
            links.insert(process, socket?);
        }
        links.extend(peers.await_others(&links, began, goes_on)?);
        for (process, socket) in links {
            let cannot = |error: io::Error| format!("cannot talk to process {process}: {error}");
            socket.set_read_timeout(Some(SILENCE)).map_err(cannot)?;
            socket.set_write_timeout(Some(SILENCE)).map_err(cannot)?;
            let (reader, state) = (socket.try_clone().map_err(cannot)?, peers.state.clone());
            std::thread::spawn(move || {
                listen(reader, process, &state);
                state.heard().ended[process] = true;
                state.changed.notify_all();
            });
            peers.links.insert(process, Arc::new(Mutex::new(socket)));
        }
        let (links, state) = (peers.links.clone(), peers.state.clone());
        std::thread::spawn(move || give_signs(&links, &state));
        // Who leaves before others have noticed that it had come would be awaited by them.
        let all_have_met = peers.gather(Vec::new());
        all_have_met.map_err(|gone| format!("{gone}, while others were awaited"))?;
        Ok(peers)
    }

    /// The number of this process.
    pub fn process(&self) -> usize {
        self.meeting.process
    }

    /// How many processes there are.
    pub fn processes(&self) -> usize {
        self.meeting.hosts.len()
    }

    /// The first process that was lost, if one was.
    pub fn gone(&self) -> Option<Gone> {
        self.state.gone.get().cloned()
    }

    /// What each process says here, in the order of their numbers, this one included: all say something, and
    /// wait for all.
    ///
    /// # Errors
    /// If one is gone that has not said it.
    pub fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, Gone> {
        for (&process, link) in &self.links {
            if send(link, GATHERED, &own).is_err() {
                self.state.lose(Gone { process, why: None });
            }
        }
        let mut own = Some(own);
        let mut all = Vec::new();
        for process in 0..self.processes() {
            let mut heard = self.state.heard();
            let said = loop {
                let said = match process == self.process() {
                    true => own.take(),
                    false => heard.gathered[process].pop_front(),
                };
                if let Some(said) = said {
                    break said;
                }
                if heard.ended[process] {
                    let gone = self.gone();
                    return Err(gone.unwrap_or(Gone { process, why: None }));
                }
                heard = self.state.wait(heard);
            };
            all.push(said);
        }
        self.state.heard().gathers += 1;
        Ok(all)
    }

    /// Has all others stop what they do until all gather next, if they look at [`Peers::is_halted`].
    pub fn halt(&self) {
        let gathers = self.state.heard().gathers;
        for link in self.links.values() {
            // Who does not hear it will be found to be gone.
            let _ = send(link, HALTING, &gathers.to_le_bytes());
        }
    }

    /// Whether another process has had this one stop, since all have gathered.
    pub fn is_halted(&self) -> bool {
        let heard = self.state.heard();
        heard.halted == Some(heard.gathers)
    }

    /// Says to all why this process stops.
    pub fn leave(&self, why: &str) {
        for link in self.links.values() {
            // Who does not hear it will notice.
            let _ = send(link, LEAVING, why.as_bytes());
        }
    }

    pub(crate) fn losses(&self) -> Losses {
        Losses(self.state.clone())
    }

    /// Connections to all others for the next exploration.
    ///
    /// # Errors
    /// If one is gone.
    pub(crate) fn connections(&self) -> Result<Vec<Option<TcpStream>>, Alarmed> {
        let number = {
            let mut explorations = self.explorations.lock().unwrap_or_else(PoisonError::into_inner);
            *explorations += 1;
            *explorations
        };
        let (began, goes_on) = (Instant::now(), || self.gone().is_none());
        let mut sockets = Vec::new();
        for process in 0..self.processes() {
            sockets.push(match process.cmp(&self.process()) {
                std::cmp::Ordering::Equal => None,
                std::cmp::Ordering::Less => {
                    let reached = self.reach(process, Some(number), began, &goes_on);
                    Some(reached.map_err(|_| {
                        self.state.lose(Gone { process, why: None });
                        Alarmed
                    })?)
                }
                std::cmp::Ordering::Greater => {
                    let mut heard = self.state.heard();
                    Some(loop {
                        if let Some(line) = heard.lines.remove(&(number, process)) {
                            break line;
                        }
                        if !goes_on() {
                            return Err(Alarmed);
                        }
                        heard = self.state.wait(heard);
                    })
                }
            });
        }
        for socket in sockets.iter().flatten() {
            // It is slower without, and no less right.
            let _ = socket.set_nodelay(true);
        }
        Ok(sockets)
    }

    /// Connects with a process of a lower number.
    fn reach(
        &self,
        process: usize,
        exploration: Option<u64>,
        began: Instant,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<TcpStream, String> {
        let host = &self.meeting.hosts[process];
        let mut last = String::new();
        while began.elapsed() < self.meeting.patience {
            if !goes_on() {
                return Err("interrupted while waiting for the other processes".into());
            }
            let tried = host.to_socket_addrs().and_then(|addresses| {
                let mut tried = addresses.map(|address| TcpStream::connect_timeout(&address, GREETING));
                tried.find(Result::is_ok).unwrap_or(Err(ErrorKind::ConnectionRefused.into()))
            });
            match tried.and_then(|socket| self.greet(socket, exploration)) {
                Ok((socket, theirs)) => {
                    difference(&self.meeting, process, &theirs)?;
                    return Ok(socket);
                }
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let patience = self.meeting.patience.as_secs();
        Err(format!("process {process} was not to be reached at {host} within {patience} s: {last}"))
    }

    fn greet(&self, mut socket: TcpStream, exploration: Option<u64>) -> io::Result<(TcpStream, Greeting)> {
        socket.set_read_timeout(Some(GREETING))?;
        write_greeting(&mut socket, &self.meeting, exploration)?;
        let theirs = read_greeting(&mut socket)?;
        socket.set_read_timeout(None)?;
        Ok((socket, theirs))
    }

    /// Waits for the processes of higher numbers, while those of lower numbers are there.
    fn await_others(
        &self,
        lower: &BTreeMap<usize, TcpStream>,
        began: Instant,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<BTreeMap<usize, TcpStream>, String> {
        let expected = self.processes() - 1 - self.process();
        let mut heard = self.state.heard();
        loop {
            if let Some(why) = &heard.refused {
                return Err(why.clone());
            }
            if let Some(gone) = first_dead(lower) {
                return Err(format!("process {gone} is gone while others were awaited"));
            }
            // It may come again.
            heard.links.retain(|_, link| !is_dead(link));
            if heard.links.len() == expected {
                return Ok(std::mem::take(&mut heard.links));
            }
            if !goes_on() {
                return Err("interrupted while waiting for the other processes".into());
            }
            if began.elapsed() > self.meeting.patience {
                let missing = (self.process() + 1..self.processes()).find(|p| !heard.links.contains_key(p));
                let (process, patience) = (missing.unwrap_or_default(), self.meeting.patience.as_secs());
                let host = &self.meeting.hosts[process];
                return Err(format!("process {process}, of {host}, did not come within {patience} s"));
            }
            heard = self.state.wait(heard);
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.state.heard().is_over = true;
        if let Some(gone) = self.gone() {
            // Or others might take this process for the one that is gone.
            let number = (gone.process as u64).to_le_bytes();
            self.links.values().for_each(|link| drop(send(link, LOST, &number)));
        }
        self.state.changed.notify_all();
        for link in self.links.values() {
            let link = link.lock().unwrap_or_else(PoisonError::into_inner);
            // What was written is still sent; the other side may have closed already.
            let _ = link.shutdown(Shutdown::Write);
        }
        // To close a connection with something unread in it would take back what has been written.
        let began = Instant::now();
        let mut heard = self.state.heard();
        let awaits = |heard: &Heard| self.links.keys().any(|&process| !heard.ended[process]);
        while self.state.gone.get().is_none() && awaits(&heard) && began.elapsed() < FAREWELL {
            heard = self.state.wait(heard);
        }
        drop(heard);
        for link in self.links.values() {
            let link = link.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = link.shutdown(Shutdown::Both);
        }
    }
}

/// Lets in whoever comes on the same terms, until it is over.
fn accept(listener: &TcpListener, meeting: &Arc<Meeting>, state: &Arc<State>) {
    while !state.heard().is_over {
        match listener.accept() {
            Ok((socket, _)) if state.heard().greeting < MOST_GREETING => {
                state.heard().greeting += 1;
                let (meeting, state) = (meeting.clone(), state.clone());
                // Who says nothing must not keep the others waiting.
                std::thread::spawn(move || {
                    // Who says nothing sensible is no process of ours.
                    let _ = let_in(socket, &meeting, &state);
                    state.heard().greeting -= 1;
                });
            }
            Ok(_) => {}
            Err(_) => std::thread::sleep(LOOK_EVERY / 10),
        }
    }
}

fn let_in(mut socket: TcpStream, meeting: &Meeting, state: &State) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(GREETING))?;
    let theirs = read_greeting(&mut socket)?;
    write_greeting(&mut socket, meeting, None)?;
    socket.set_read_timeout(None)?;
    let process = theirs.process;
    let mut heard = state.heard();
    match (difference(meeting, process, &theirs), theirs.exploration) {
        (Err(why), _) => heard.refused = heard.refused.take().or(Some(why)),
        (Ok(()), _) if process <= meeting.process || process >= meeting.hosts.len() => {}
        (Ok(()), None) => {
            // Who comes again has been started again.
            heard.links.insert(process, socket);
        }
        (Ok(()), Some(exploration)) => {
            heard.lines.insert((exploration, process), socket);
        }
    }
    state.changed.notify_all();
    Ok(())
}
