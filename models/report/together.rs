//! Runs that several workers do together, in one process or in several.

use crate::engine::{Gone, Peers, Trouble, Workers};
use crate::lazy::{Broken, Conditions, Walked};
use crate::problem::Problem;
use crate::world::Share;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Who takes part.
#[derive(Clone)]
pub struct Together {
    /// Workers in each process.
    pub workers: usize,
    /// The processes, if there are others.
    pub peers: Option<Arc<Peers>>,
}

/// Conditions as they travel.
#[derive(Deserialize, Serialize)]
struct Told {
    counts: Vec<(String, u64, u64)>,
    first: Vec<(String, String)>,
    stopped: Option<String>,
    walked: Option<Walked>,
}

impl Together {
    pub(super) fn workers(&self) -> Workers<'_> {
        Workers { here: self.workers, peers: self.peers.as_deref() }
    }

    /// The share of this process.
    pub(super) fn share(&self) -> Share {
        self.peers.as_ref().map_or_else(Share::default, |peers| Share {
            process: peers.process(),
            processes: peers.processes(),
        })
    }

    /// Whether this process takes the walks: the last, as the first has the most nodes to check.
    pub(super) fn takes_walks(&self) -> bool {
        let Share { process, processes } = self.share();
        process + 1 == processes
    }

    /// Why to stop checking conditions, because of another process.
    pub(super) fn stops(&self) -> Option<&'static str> {
        let peers = self.peers.as_ref()?;
        if peers.gone().is_some() {
            return Some("another process is gone");
        }
        peers.is_halted().then_some("another process was stopped while conditions were checked")
    }

    /// Has the others stop checking conditions.
    pub(super) fn halt(&self) {
        if let Some(peers) = &self.peers {
            peers.halt();
        }
    }

    /// What all processes have checked.
    pub(super) fn gathered(&self, own: Conditions, is_on_disk: bool) -> Result<Conditions, Problem> {
        let Some(peers) = &self.peers else { return Ok(own) };
        let told = Told {
            counts: own.counts.iter().map(|(name, &(all, failed))| (name.to_string(), all, failed)).collect(),
            first: own.first.iter().map(|(name, broken)| (name.to_string(), broken.what.clone())).collect(),
            stopped: own.stopped.map(str::to_owned),
            walked: own.walked,
        };
        let told = postcard::to_stdvec(&told).expect("it is plain data");
        let told = peers.gather(told).map_err(|who| gone(&who, is_on_disk))?;
        let mut all = Conditions { elapsed: own.elapsed, ..Conditions::default() };
        for (process, told) in told.iter().enumerate() {
            let told: Told = postcard::from_bytes(told).map_err(|_| {
                Problem::from(format!("what process {process} says of its conditions makes no sense"))
            })?;
            let counts = told.counts.iter().map(|(name, all, failed)| (named(name), (*all, *failed)));
            let first = told.first.into_iter().map(|(name, what)| (named(&name), Broken { what }));
            let (counts, first) = (counts.collect(), first.collect());
            all.add(&Conditions { counts, first, walked: told.walked, ..Conditions::default() });
            all.stopped = all.stopped.or(told.stopped.as_deref().map(named));
        }
        Ok(all)
    }
}

/// The name of a condition, or a reason, as it is in the program: there are few.
fn named(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(name);
    name
}

/// What to do when a process is gone while conditions are checked: what was explored is there, if on disk.
fn gone(who: &Gone, is_on_disk: bool) -> Problem {
    let how = if is_on_disk { ", with --resume" } else { "" };
    format!("{who} while conditions were checked: give the same commands again{how}").into()
}

/// What to do when an exploration could not go on.
pub(super) fn problem(trouble: &Trouble, is_on_disk: bool) -> Problem {
    let Trouble::Gone { who, level } = trouble else { return trouble.to_string().into() };
    match level {
        Some(level) => {
            format!("{who}: give the same commands again, with --resume, to go on from level {level}")
        }
        None if is_on_disk => format!("{who}: give the same commands again"),
        None => format!("{who}: what had been explored is lost, which with --disk it would not be"),
    }
    .into()
}
