//! The search spread over workers: threads of one process, or of several on as many machines.
//!
//! Every worker is a search like that of one process, over the states whose hash says that they are its own:
//! it keeps their levels, in memory or in a directory of its own, expands them, and sends what they lead to
//! to the workers that own that. Workers exchange letters turn by turn, through an epoch of a dataflow of
//! [`timely`] for each turn.
//!
//! # Names
//!
//! A state is a few names, and means something only to who has given the same names to the same things. What
//! is new gets its name when a state is learnt ([`Space::learn`]), and learning is deterministic. So nothing
//! but states travels, and every process learns the same states in the same order:
//!
//! - A level is expanded in batches, ascending; between two batches the states are learnt that the first has
//!   met and that need it, ascending, and expanded again. So it is in one process, and the batches of all
//!   workers together are those of one process (`batch`).
//! - In a batch each worker expands the states that it owns, and tells all processes which of them have
//!   something to be learnt. Each process sorts what all have told, and learns it in that order. Then the
//!   owners expand them again.
//!
//! So names, transitions and the states visited are those of one process for any number of workers, and so
//! are the state at which a search with a violation stops and what it has counted by then. Definitions never
//! travel. Learning is not divided: spread by a hash, the states of each worker can be expected to meet nearly
//! everything that has a name, so that all would be sent to all. (That has not been measured.)
//!
//! Workers of one process share one space: one of them learns while the others wait, and tables are there
//! once. So a process is the share of a machine, and a worker that of a processor.
//!
//! # Ends
//!
//! A level is at its end when its last batch is, for all: the turn in which the successors arrive is the same
//! for all. What is found is held against the lists of its owner alone, as all that is equal has one owner.
//! Whether something was found, and every reason to stop, is decided by what all have said in one turn, so it
//! is decided alike. A way to a violation is found backwards, level by level: each worker looks through its
//! part, and the least state found is taken, as one process takes it.
//!
//! # On disk
//!
//! Each worker commits its levels by itself. As nobody ends a level before all have ended the one before, the
//! last levels committed differ by one at most, and a manifest also says what is needed to go on from the one
//! before. So after any stop all go on from the last level that all have. What has been learnt is written
//! once for each process, by its first worker.
//!
//! # When somebody is gone
//!
//! Timely has no recovery, and panics or waits for ever when a connection is lost. So it is not told: what it
//! reads and writes goes through a stream of ours (`stream`), which on any trouble says so to [`Peers`] and
//! to timely that the other side has ended as it should. All workers look at that while they wait, and leave
//! everything as it is. Beside it there is a connection between any two processes for what is said outside of
//! an exploration ([`Peers::gather`]) and to notice when a machine is silent.
//!
//! | file | what |
//! |---|---|
//! | `worker` | the search of one worker |
//! | `batch`, `sending` | which states are next, and where successors go |
//! | `post`, `stream` | turns, and their way between processes |
//! | `peers`, `greeting`, `talk`, `alarm` | other processes, and whether one is gone |
//! | `shared` | what the workers of a process share |

mod alarm;
mod batch;
mod greeting;
mod peers;
mod post;
mod sending;
mod shared;
mod stream;
mod talk;
#[cfg(test)]
mod tests;
mod worker;

pub use greeting::Meeting;
pub use peers::{Gone, Peers};

use crate::disk::{Found, workers_of};
use crate::search::{DISK, Gate, REPORT_EVERY};
use crate::{Directory, DiskTrouble, Exploration, INTERRUPTED, Limits, Outcome, Progress, Space};
use alarm::{Alarm, Alarmed, OnPanic};
use post::Post;
use shared::Shared;
use std::sync::mpsc::{RecvTimeoutError, channel};
use worker::{End, Part, Search};

/// The workers of this process, and the other processes.
#[derive(Clone, Copy)]
pub struct Workers<'a> {
    /// Workers in each process, at least one.
    pub here: usize,
    /// The processes, if there are others.
    pub peers: Option<&'a Peers>,
}

/// Why an exploration could not go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// With a directory.
    Disk(DiskTrouble),
    /// A process is gone.
    Gone {
        /// Which.
        who: Gone,
        /// The last level that this process has committed, if any.
        level: Option<usize>,
    },
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Disk(trouble) => trouble.fmt(f),
            Trouble::Gone { who, .. } => who.fmt(f),
        }
    }
}

impl std::error::Error for Trouble {}

/// Explores all of `space` among workers, or as much of it as `limits` allow: see the module above. All
/// processes call it with the same space, limits on states and number of workers; each returns the same
/// exploration. Limits on time and memory, and `progress`, are each process's own, and stop all.
///
/// # Errors
/// If there is trouble with the directory, other than that it is full, or a process is gone. What was
/// committed can be gone on with.
///
/// # Panics
/// As [`explore`](crate::explore).
pub fn explore_among<S: Space + Send>(
    space: &mut S,
    limits: Limits,
    directory: Option<&Directory>,
    workers: Workers<'_>,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Exploration, Trouble> {
    let (here, peers) = (workers.here.max(1), workers.peers);
    let found = match directory {
        Some(directory) => look(directory, here, peers).map_err(Trouble::Disk)?,
        None => (0..here).map(|_| None).collect(),
    };
    let initial = space.initial();
    let gate = Gate::new(limits);
    let began = gate.began;
    let shared = Shared::new(space, gate, here);
    let gone = |shared: &Shared<'_, S>| {
        let who = peers.and_then(Peers::gone).expect("the alarm is raised when somebody is gone");
        Trouble::Gone { who, level: directory.and(shared.last_committed()) }
    };
    let parts = work(&shared, peers, &initial, found, progress).map_err(|Alarmed| gone(&shared))?;
    let trouble = parts.iter().find_map(|part| part.trouble.clone());
    let part = parts.into_iter().next().expect("there is a worker");
    let outcome = match (part.end, trouble) {
        (_, Some(trouble)) if !trouble.is_full => return Err(Trouble::Disk(trouble)),
        (End::Stopped(DISK), _) => {
            let what = "another process has trouble with its disk".to_owned();
            return Err(Trouble::Disk(DiskTrouble { what, is_full: false }));
        }
        (End::Stopped(why), _) => Outcome::NotExhausted { why },
        (End::Exhausted, _) => Outcome::Exhausted,
        (End::Violated(path), _) => {
            let what = shared.read().complaint(path.last().expect("it ends somewhere"));
            Outcome::Violated { what, path }
        }
    };
    if let Some(peers) = peers {
        let noted = shared.read().noted();
        let all = peers.gather(noted).map_err(|_| gone(&shared))?;
        let mut space = shared.write();
        let others = all.iter().enumerate().filter(|&(process, _)| process != peers.process());
        others.for_each(|(_, noted)| space.merge_noted(noted));
    }
    Ok(Exploration {
        outcome,
        states: part.totals.states,
        transitions: part.totals.transitions,
        depth: part.depth,
        elapsed: began.elapsed(),
        state_bytes: usize::try_from(part.totals.bytes).unwrap_or(usize::MAX),
    })
}

/// The directories of the workers of this process.
fn look(
    directory: &Directory,
    here: usize,
    peers: Option<&Peers>,
) -> Result<Vec<Option<Found>>, DiskTrouble> {
    let (processes, process) = peers.map_or((1, 0), |peers| (peers.processes(), peers.process()));
    let all = here * processes;
    let refused = |by: &str| {
        let shown = directory.path.display();
        DiskTrouble { what: format!("{shown} holds an exploration by {by}, not by {all}"), is_full: false }
    };
    match workers_of(&directory.path)? {
        Some(0) => return Err(refused("no workers")),
        Some(other) if other != all => return Err(refused(&format!("{other} workers"))),
        _ => {}
    }
    let look = |worker: usize| {
        let path = directory.path.join(format!("worker-{worker}-of-{all}"));
        let identity = format!("{} by worker {worker} of {all}, {here} in a process", directory.identity);
        Found::look(&Directory { path, identity, resume: directory.resume }).map(Some)
    };
    (process * here..(process + 1) * here).map(look).collect()
}

/// Runs the workers of this process.
fn work<S: Space + Send>(
    shared: &Shared<'_, S>,
    peers: Option<&Peers>,
    initial: &[Vec<u32>],
    found: Vec<Option<Found>>,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Vec<Part>, Alarmed> {
    let alarm = Alarm::new(peers);
    let alarm = &alarm;
    let (builders, lines) = stream::connect(shared.here, peers)?;
    let (ended, ends) = channel::<()>();
    let joined: Vec<_> = std::thread::scope(|scope| {
        let spawn = |(builder, found): (timely::communication::AllocatorBuilder, _)| {
            let ended = ended.clone();
            scope.spawn(move || {
                let _on_panic = OnPanic(alarm);
                let _ended = ended;
                Search::work(Post::new(stream::built(builder), alarm), shared, initial, found)
            })
        };
        let workers: Vec<_> = builders.into_iter().zip(found).map(spawn).collect();
        drop(ended);
        // Nothing is ever sent: the last worker that ends hangs up.
        let mut last = None;
        while let Err(RecvTimeoutError::Timeout) = ends.recv_timeout(REPORT_EVERY) {
            // A worker looks at the alarm when it waits for others, and at the gate while it expands.
            if alarm.look().is_err() {
                shared.gate.close(INTERRUPTED);
            }
            // It is asked even if nothing has changed: it may say to stop.
            last = shared.progress().or(last);
            if last.is_some_and(|now| !progress(now)) {
                shared.gate.close(INTERRUPTED);
            }
        }
        workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut parts = Vec::new();
    for part in joined {
        match part {
            Ok(part) => parts.push(part),
            Err(panic) => {
                lines.abandon(true);
                std::panic::resume_unwind(panic);
            }
        }
    }
    let parts: Result<Vec<Part>, Alarmed> = parts.into_iter().collect();
    if parts.is_err() {
        lines.abandon(false);
    }
    parts
}
