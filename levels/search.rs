//! The search: all states of one distance from the start before any of the next.

use super::candidates::{Candidates, with};
use super::disk::{Directory, Disk, DiskTrouble, Resumed};
use super::key::{Key, Layout};
use super::piece::{Piece, STATES_AT_A_TIME};
use super::run::Run;
use super::visited::Visited;
use super::{Exploration, INTERRUPTED, Judgement, Limits, Outcome, Progress, Space};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Pieces expanded between two looks at the limits. Not a function of the number of threads: see the module
/// above.
pub(crate) const PIECES_IN_A_BATCH: usize = if cfg!(test) { 2 } else { 128 };
/// States, or successors of one state, that a thread takes between two looks at the limits.
pub(crate) const LOOK_AFTER: usize = 32;
pub(crate) const LOOK_AFTER_SUCCESSORS: usize = 1 << 14;
/// Between two calls of the progress report.
pub(crate) const REPORT_EVERY: Duration = Duration::from_millis(500);
/// The part of the memory that candidates may take until they are held against what has been visited, the
/// least and most of them in bytes, and how much that is if memory has no limit.
pub(crate) const CANDIDATES_PART: usize = 8;
const CANDIDATES: Range<usize> = 1 << 24..1 << 30;
const CANDIDATES_WITHOUT_LIMIT: usize = 1 << 28;

/// Explores all of `space`, or as much of it as `limits` allow, telling `progress` now and then. The
/// exploration stops when `progress` returns false.
///
/// # Panics
/// If the system does not let it start the threads asked for, or a state has another number of words than
/// [`Space::width`], or more than 256 bits.
pub fn explore<S: Space>(
    space: &mut S,
    limits: Limits,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Exploration {
    explore_in(space, limits, None, progress).expect("in memory there is no trouble with a disk")
}

/// The same, with the states in a directory, if one is given.
///
/// # Errors
/// If there is trouble with the directory, other than that it is full. What was committed in it can be gone on
/// with.
///
/// # Panics
/// As [`explore`].
pub fn explore_in<S: Space>(
    space: &mut S,
    limits: Limits,
    directory: Option<&Directory>,
    progress: &mut dyn FnMut(Progress) -> bool,
) -> Result<Exploration, DiskTrouble> {
    let threads = limits.threads.max(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.expect("threads can be started");
    let began = Instant::now();
    let mut search = Search {
        layout: Layout::new(space.width()),
        scratches: (0..threads).map(|_| Mutex::default()).collect(),
        pool,
        space,
        visited: Visited::default(),
        candidates: Candidates::default(),
        gate: Gate::new(limits),
        reported: began,
        transitions: 0,
        depth: 0,
        expanded: 0,
    };
    let opened = directory.map(Disk::open).transpose()?;
    let initial = search.space.initial();
    let resumed = match opened {
        Some((disk, resumed)) => {
            if let Some(resumed) = &resumed {
                disk.compare(resumed, search.space.width(), initial.iter())?;
            }
            search.visited.disk = Some(disk);
            resumed
        }
        None => None,
    };
    match resumed {
        Some(resumed) => search.resume(resumed),
        None => search.begin(&initial),
    }
    let outcome = match search.trouble() {
        None => search.run(progress),
        Some(_) => Outcome::NotExhausted { why: DISK },
    };
    search.take_candidates();
    let outcome = match search.trouble() {
        None => outcome,
        Some(trouble) if trouble.is_full => Outcome::NotExhausted { why: FULL },
        Some(trouble) => return Err(trouble),
    };
    // What a level discovers is one step further away, whether or not that level was finished.
    let depth = search.depth + usize::from(search.visited.len_of_next() > 0);
    Ok(Exploration {
        outcome,
        states: search.visited.len(),
        transitions: search.transitions,
        depth,
        elapsed: began.elapsed(),
        state_bytes: search.visited.bytes(),
    })
}

/// Why a search stops that has taken as long as it may.
pub(crate) const LATE: &str = "the limit on time was reached";
/// Why a search stops that has as much memory as it may have.
pub(crate) const LARGE: &str = "the limit on memory was reached";
/// Why a search stops that has visited as many states as it may.
pub(crate) const MANY: &str = "the limit on states was reached";
/// Why a search stops that has filled its disk.
pub(crate) const FULL: &str = "the disk is full";
/// Why a search stops that is in other trouble with its disk.
pub(crate) const DISK: &str = "there was trouble with the disk";

/// Learns from what was learnt from: for each state its distance from the start, and its words.
pub(crate) fn learn_again<S: Space>(space: &mut S, width: usize, learnt: &[u32]) {
    for some in learnt.chunks((1 + width) << 10) {
        some.chunks_exact(1 + width).for_each(|state| space.learn(state[0] as usize, &state[1..]));
        space.forget_prepared();
    }
}

/// A search.
pub(crate) struct Search<'a, S: Space> {
    pub(crate) space: &'a mut S,
    pub(crate) pool: rayon::ThreadPool,
    pub(crate) scratches: Vec<Mutex<S::Scratch>>,
    pub(crate) visited: Visited,
    layout: Layout,
    /// What the level being expanded leads to and has not been held against what was visited.
    candidates: Candidates,
    gate: Gate,
    reported: Instant,
    transitions: u64,
    depth: usize,
    /// States of this level that have been expanded.
    expanded: u64,
}

/// Whether a limit has been reached. One state can have so many successors that there is no waiting for the
/// end of a batch.
pub(crate) struct Gate {
    pub(crate) limits: Limits,
    pub(crate) began: Instant,
    over: OnceLock<&'static str>,
}

impl Gate {
    /// Opens now.
    pub(crate) fn new(limits: Limits) -> Self {
        Gate { limits, began: Instant::now(), over: OnceLock::new() }
    }

    /// From now on the search must stop.
    pub(crate) fn close(&self, why: &'static str) {
        // Only the first reason is told.
        let _ = self.over.set(why);
    }

    /// Bytes of candidates after which they are held against what has been visited.
    pub(crate) fn budget(&self) -> usize {
        match self.limits.bytes {
            usize::MAX => CANDIDATES_WITHOUT_LIMIT,
            bytes => (bytes / CANDIDATES_PART).clamp(CANDIDATES.start, CANDIDATES.end),
        }
    }

    /// Whether so many bytes of candidates, the share of one of so many, are to be held against what has been
    /// visited: they are large as they are, and most have been visited.
    pub(crate) fn is_full(&self, candidates: usize, sharers: usize) -> bool {
        let is_full = candidates > self.budget() / sharers || self.is_scarce();
        is_full && candidates > CANDIDATES.start / 4 / sharers
    }

    /// Makes room for more candidates.
    ///
    /// All that they may take is asked for at once, as what is asked for is not used before something is there. To ask
    /// for more bit by bit is to copy them again and again: a quarter of the time on two threads went into that.
    pub(crate) fn make_room<T>(&self, candidates: &mut Vec<T>, more: usize) {
        if candidates.capacity() - candidates.len() < more {
            let all = self.budget() / size_of::<T>();
            let grown = all.saturating_sub(candidates.len()).max(candidates.len() / CANDIDATES_PART);
            candidates.reserve_exact(more + grown);
        }
    }

    /// Gives back the memory of candidates that have been taken, if there is little.
    pub(crate) fn give_back<T>(&self, candidates: &mut Vec<T>) {
        if self.is_scarce() {
            *candidates = Vec::new();
        }
    }

    fn is_scarce(&self) -> bool {
        let Limits { bytes, allocated, .. } = self.limits;
        allocated() > bytes - bytes / CANDIDATES_PART
    }

    /// Why the search must stop, if it must: once it must, it always must.
    pub(crate) fn look(&self) -> Option<&'static str> {
        let why = if self.began.elapsed() > self.limits.time {
            Some(LATE)
        } else if (self.limits.allocated)() > self.limits.bytes {
            Some(LARGE)
        } else {
            None
        };
        if let Some(why) = why {
            return Some(self.over.get_or_init(|| why));
        }
        self.over.get().copied()
    }
}

/// What one thread found in one piece.
struct Found<const W: usize> {
    candidates: Vec<Key<W>>,
    transitions: u64,
    expanded: u64,
    unlearnt: Vec<u32>,
    unsound: Option<Vec<u32>>,
    /// With more bits, if something did not fit.
    wider: Option<Layout>,
}

impl<S: Space> Search<'_, S> {
    /// Makes the states to start from the first level.
    fn begin(&mut self, initial: &[Vec<u32>]) {
        initial.iter().for_each(|state| {
            self.layout.widen(state);
        });
        self.candidates = Candidates::new(self.layout.limbs());
        let layout = &self.layout;
        with!(&mut self.candidates, list => {
            list.extend(initial.iter().map(|state| layout.pack(state).expect("it is wide enough")));
        });
        self.take_candidates();
        self.close_level();
    }

    /// Goes on where another has stopped.
    fn resume(&mut self, resumed: Resumed) {
        let width = self.space.width();
        learn_again(self.space, width, &resumed.learnt);
        self.layout = resumed.layout;
        self.candidates = Candidates::new(self.layout.limbs());
        self.transitions = resumed.transitions;
        self.visited.levels = resumed.levels;
        self.depth = self.visited.levels.len() - 1;
        for (depth, level) in self.visited.levels[..self.depth].iter().enumerate() {
            let pieces: Vec<Piece<'_>> = level.iter().flat_map(Piece::of_run).collect();
            let revisit = |piece: &Piece<'_>| {
                let scratch = &self.scratches[rayon::current_thread_index().unwrap_or_default()];
                let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
                piece.each(self.space.width(), |state| self.space.revisit(depth, state, &mut scratch));
            };
            self.pool.install(|| pieces.par_iter().for_each(revisit));
        }
    }

    /// What there is trouble with, if there is any.
    fn trouble(&self) -> Option<DiskTrouble> {
        self.visited.trouble()
    }

    /// Makes what has been found the next level.
    fn close_level(&mut self) {
        self.visited.close_level(&self.layout);
        if let Some(disk) = &mut self.visited.disk {
            disk.commit(&self.visited.levels, self.transitions, &self.layout);
        }
    }

    fn run(&mut self, progress: &mut dyn FnMut(Progress) -> bool) -> Outcome {
        loop {
            if self.space.is_layered() {
                self.visited.forget();
            }
            let level = self.visited.levels[self.depth].clone();
            let pieces: Vec<Piece<'_>> = level.iter().flat_map(Piece::of_run).collect();
            let frontier = level.iter().map(Run::len).sum();
            self.expanded = 0;
            let mut pieces = pieces.into_iter().peekable();
            while pieces.peek().is_some() {
                let batch: Vec<Piece<'_>> = pieces.by_ref().take(PIECES_IN_A_BATCH).collect();
                if let Some(unsound) = self.expand(batch) {
                    let what = self.space.complaint(&unsound);
                    return match self.path(unsound, self.depth) {
                        Some(path) => Outcome::Violated { what, path },
                        None => Outcome::NotExhausted { why: DISK },
                    };
                }
                if let Some(why) = self.stop(frontier, progress) {
                    return Outcome::NotExhausted { why };
                }
            }
            self.take_candidates();
            if self.visited.next.is_empty() {
                return Outcome::Exhausted;
            }
            self.close_level();
            self.depth += 1;
            if self.trouble().is_some() {
                return Outcome::NotExhausted { why: DISK };
            }
        }
    }

    /// Holds the candidates against what has been visited.
    fn take_candidates(&mut self) {
        let (layout, visited, gate) = (&self.layout, &mut self.visited, &self.gate);
        with!(&mut self.candidates, list => {
            self.pool.install(|| visited.add(list, layout));
            gate.give_back(list);
        });
    }

    /// Expands a batch; returns the first state that is unsound.
    fn expand(&mut self, batch: Vec<Piece<'_>>) -> Option<Vec<u32>> {
        let mut waiting = batch;
        let mut unsound: Option<Vec<u32>> = None;
        while !waiting.is_empty() {
            let mut candidates = std::mem::take(&mut self.candidates);
            let looked = with!(&mut candidates, list => self.pass(&waiting, list));
            self.candidates = candidates;
            match looked {
                Err(wider) => {
                    self.candidates = std::mem::take(&mut self.candidates).widened(&self.layout, &wider);
                    self.layout = wider;
                }
                Ok((unlearnt, first)) => {
                    unsound = unsound.or(first);
                    let width = self.space.width();
                    if !self.learn(&unlearnt) {
                        return unsound;
                    }
                    let pieces = unlearnt.chunks(STATES_AT_A_TIME * width);
                    waiting = pieces.map(|states| Piece::States(states.to_vec())).collect();
                }
            }
        }
        unsound
    }

    /// Learns from these states, in their order; false if a limit is reached before the end.
    fn learn(&mut self, states: &[u32]) -> bool {
        let width = self.space.width();
        // One thread alone gains nothing by it.
        if self.pool.current_num_threads() > 1 {
            let (space, gate, depth) = (&*self.space, &self.gate, self.depth);
            let prepare = |state: &[u32]| {
                if gate.look().is_none() {
                    space.prepare(depth, state);
                }
            };
            self.pool.install(|| states.par_chunks_exact(width).for_each(prepare));
        }
        let learnt = states.chunks_exact(width).all(|state| {
            let goes_on = self.gate.look().is_none();
            if goes_on {
                self.space.learn(self.depth, state);
                if let Some(disk) = &mut self.visited.disk {
                    disk.learn(self.depth, state);
                }
            }
            goes_on
        });
        self.space.forget_prepared();
        learnt
    }

    /// Expands pieces as far as what has been learnt allows: the states for which something has to be learnt,
    /// and the first unsound one.
    ///
    /// # Errors
    /// If a word does not fit: a wider layout, and nothing has happened.
    fn pass<const W: usize>(
        &mut self,
        pieces: &[Piece<'_>],
        candidates: &mut Vec<Key<W>>,
    ) -> Result<(Vec<u32>, Option<Vec<u32>>), Layout> {
        let look = || pieces.par_iter().map(|piece| self.look(piece)).collect();
        let found: Vec<Found<W>> = self.pool.install(look);
        let wider = found.iter().filter_map(|found| found.wider.as_ref());
        if let Some(wider) = wider.cloned().reduce(Layout::joined) {
            return Err(wider);
        }
        let (mut unlearnt, mut unsound) = (Vec::new(), None);
        let more = found.iter().map(|found| found.candidates.len()).sum::<usize>();
        self.gate.make_room(candidates, more);
        for found in found {
            self.transitions += found.transitions;
            self.expanded += found.expanded;
            candidates.extend(found.candidates);
            unlearnt.extend(found.unlearnt);
            unsound = unsound.or(found.unsound);
        }
        Ok((unlearnt, unsound))
    }

    /// Expands the states of a piece, or those of them that the limits leave time and memory for.
    fn look<const W: usize>(&self, piece: &Piece<'_>) -> Found<W> {
        let mut found = Found {
            candidates: Vec::new(),
            transitions: 0,
            expanded: 0,
            unlearnt: Vec::new(),
            unsound: None,
            wider: None,
        };
        let scratch = &self.scratches[rayon::current_thread_index().unwrap_or_default()];
        let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut taken, mut stopped) = (0, false);
        piece.each(self.space.width(), |state| {
            stopped |= taken % LOOK_AFTER == 0 && self.gate.look().is_some();
            taken += 1;
            if !stopped {
                self.look_at(state, &mut scratch, &mut found);
            }
        });
        found.candidates.sort_unstable();
        found.candidates.dedup();
        found
    }

    fn look_at<const W: usize>(&self, state: &[u32], scratch: &mut S::Scratch, found: &mut Found<W>) {
        let before = found.candidates.len();
        let (mut listed, mut over) = (0_usize, false);
        let mut list = |next: &[u32]| {
            listed += 1;
            over |= listed % LOOK_AFTER_SUCCESSORS == 0 && self.gate.look().is_some();
            if over {
                return;
            }
            match self.layout.pack(next) {
                Some(key) => found.candidates.push(key),
                None => {
                    found.wider.get_or_insert_with(|| self.layout.clone()).widen(next);
                }
            }
        };
        match self.space.expand(self.depth, state, scratch, &mut list) {
            Err(_) => {
                found.candidates.truncate(before);
                found.unlearnt.extend_from_slice(state);
            }
            Ok(judgement) => {
                found.transitions += listed as u64;
                found.expanded += 1;
                if judgement == Judgement::Unsound && found.unsound.is_none() {
                    found.unsound = Some(state.to_vec());
                }
            }
        }
    }

    /// Why the search must stop here, if it must.
    fn stop(&mut self, frontier: u64, progress: &mut dyn FnMut(Progress) -> bool) -> Option<&'static str> {
        let states = self.gate.limits.states;
        let known = self.visited.len();
        if self.gate.is_full(self.candidates.bytes(), 1) || known + self.candidates.len() as u64 > states {
            self.take_candidates();
        }
        if self.visited.len() > states {
            return Some(MANY);
        }
        if self.trouble().is_some() {
            return Some(DISK);
        }
        if let Some(why) = self.gate.look() {
            return Some(why);
        }
        if self.reported.elapsed() < REPORT_EVERY {
            return None;
        }
        self.reported = Instant::now();
        let now = Progress {
            states: self.visited.len(),
            transitions: self.transitions,
            frontier,
            expanded: self.expanded,
            depth: self.depth,
            state_bytes: self.visited.bytes(),
            elapsed: self.gate.began.elapsed(),
        };
        (!progress(now)).then_some(INTERRUPTED)
    }
}
