//! One worker: the search of [`crate::search`] over the states that it owns.

use super::alarm::Alarmed;
use super::batch::{BATCH, Upcoming};
use super::post::{Letter, Post, What};
use super::sending::{Successors, owner};
use super::shared::Shared;
use crate::candidates::{Candidates, with};
use crate::disk::{DiskTrouble, Found, Resumed};
use crate::key::{Layout, assert_width};
use crate::piece::Piece;
use crate::run::Run;
use crate::search::{DISK, FULL, LARGE, LATE, LOOK_AFTER, LOOK_AFTER_SUCCESSORS, MANY, learn_again};
use crate::visited::Visited;
use crate::{INTERRUPTED, Judgement, Progress, Space};

/// Why a search stops, by the numbers that are told.
const WHYS: [&str; 6] = [DISK, FULL, MANY, LARGE, LATE, INTERRUPTED];

/// How the search of all workers has ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Exhausted,
    Violated(Vec<Vec<u32>>),
    Stopped(&'static str),
}

/// What one worker knows when all have ended.
pub(crate) struct Part {
    pub(crate) end: End,
    /// Those of all workers.
    pub(crate) totals: Totals,
    pub(crate) depth: usize,
    /// The trouble with its disk, if there was any.
    pub(crate) trouble: Option<DiskTrouble>,
}

/// Sums over all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) states: u64,
    pub(crate) transitions: u64,
    pub(crate) bytes: u64,
    candidates: u64,
    expanded: u64,
    unlearnt: u64,
    next: u64,
}

/// What there is to go on with, or that some worker cannot use its directory, and this one's trouble with it.
type Opened = Result<Option<Resumed>, Option<DiskTrouble>>;

/// What all have said in a turn.
struct Said {
    totals: Totals,
    stop: Option<&'static str>,
    /// The first unsound state.
    unsound: Option<Vec<u32>>,
}

/// One of the workers.
pub(crate) struct Search<'a, 's, S: Space> {
    post: Post<'a>,
    shared: &'a Shared<'s, S>,
    scratch: S::Scratch,
    width: usize,
    /// Of one thread: a worker is no more.
    pool: rayon::ThreadPool,
    visited: Visited,
    successors: Successors,
    transitions: u64,
    depth: usize,
    expanded: u64,
    unlearnt: Vec<u32>,
    unsound: Option<Vec<u32>>,
}

impl<'a, 's, S: Space> Search<'a, 's, S> {
    /// Explores, with all others, and returns when all have ended.
    ///
    /// # Errors
    /// If somebody is gone.
    pub(crate) fn work(
        post: Post<'a>,
        shared: &'a Shared<'s, S>,
        initial: &[Vec<u32>],
        found: Option<Found>,
    ) -> Result<Part, Alarmed> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let width = shared.read().width();
        let mut search = Search {
            successors: Successors::new(Layout::new(width), post.workers()),
            post,
            shared,
            scratch: S::Scratch::default(),
            width,
            pool: pool.expect("threads can be started"),
            visited: Visited::default(),
            transitions: 0,
            depth: 0,
            expanded: 0,
            unlearnt: Vec::new(),
            unsound: None,
        };
        let mut trouble = None;
        let end = match search.open(found, initial)? {
            Err(why) => {
                trouble = why;
                End::Stopped(DISK)
            }
            Ok(resumed) => {
                match resumed {
                    Some(resumed) => search.resume(resumed)?,
                    None => search.begin(initial),
                }
                search.run()?
            }
        };
        search.take_candidates();
        let Said { totals, stop, .. } = search.say()?;
        let end = match (&end, stop) {
            // What cannot be read or written decides nothing.
            (_, Some(why @ (DISK | FULL))) => End::Stopped(why),
            _ => end,
        };
        // What a level discovers is one step further away, whether or not that level was finished.
        let depth = search.depth + usize::from(totals.next > 0);
        let trouble = trouble.or_else(|| search.visited.trouble());
        search.post.close()?;
        Ok(Part { end, totals, depth, trouble })
    }

    /// Takes the directory into use, if there is one, at the last level that all have.
    fn open(&mut self, found: Option<Found>, initial: &[Vec<u32>]) -> Result<Opened, Alarmed> {
        let Some(found) = found else { return Ok(Ok(None)) };
        self.post.tell(&[found.levels() as u64], &[]);
        let told = self.post.told()?;
        let levels = told.iter().map(|(numbers, _)| numbers[0]).min().unwrap_or_default();
        let levels = usize::try_from(levels).expect("it was a number of levels");
        let opened = found.open(levels).and_then(|(disk, resumed)| {
            if let Some(resumed) = &resumed {
                disk.compare(resumed, self.width, self.own(initial))?;
            }
            Ok((disk, resumed))
        });
        self.post.tell(&[u64::from(opened.is_err())], &[]);
        let told = self.post.told()?;
        let is_refused = told.iter().any(|(numbers, _)| numbers[0] != 0);
        Ok(match opened {
            Err(trouble) => Err(Some(trouble)),
            Ok(_) if is_refused => Err(None),
            Ok((disk, resumed)) => {
                self.visited.disk = Some(disk);
                Ok(resumed)
            }
        })
    }

    /// Those of these states that it owns.
    fn own<'i>(&self, initial: &'i [Vec<u32>]) -> impl Iterator<Item = &'i Vec<u32>> + use<'i, S> {
        let (own, workers) = (self.post.index(), self.post.workers());
        initial.iter().filter(move |state| owner(state, workers) == own)
    }

    /// Makes those of the states to start from that it owns the first level.
    fn begin(&mut self, initial: &[Vec<u32>]) {
        let mine: Vec<&Vec<u32>> = self.own(initial).collect();
        mine.into_iter().for_each(|state| self.successors.push(state));
        self.successors.keep(self.post.index());
        self.take_candidates();
        self.close_level();
    }

    /// Goes on where all have stopped.
    fn resume(&mut self, resumed: Resumed) -> Result<(), Alarmed> {
        if self.shared.leads(self.post.index()) {
            let mut space = self.shared.write();
            learn_again(&mut **space, self.width, &resumed.learnt);
        }
        self.post.tell(&[], &[]);
        self.post.told()?;
        self.successors = Successors::new(resumed.layout, self.post.workers());
        self.transitions = resumed.transitions;
        self.visited.levels = resumed.levels;
        self.depth = self.visited.levels.len() - 1;
        self.shared.committed(self.depth);
        let space = self.shared.read();
        for (depth, level) in self.visited.levels[..self.depth].iter().enumerate() {
            for piece in level.iter().flat_map(Piece::of_run) {
                piece.each(self.width, |state| space.revisit(depth, state, &mut self.scratch));
            }
        }
        Ok(())
    }

    /// Makes what has been found the next level.
    fn close_level(&mut self) {
        let (layout, visited) = (&self.successors.layout, &mut self.visited);
        self.pool.install(|| visited.close_level(layout));
        if let Some(disk) = &mut self.visited.disk {
            disk.commit(&self.visited.levels, self.transitions, &self.successors.layout);
            self.shared.committed(self.visited.levels.len() - 1);
        }
    }

    fn run(&mut self) -> Result<End, Alarmed> {
        loop {
            if self.shared.is_layered {
                self.visited.forget();
            }
            let level = self.visited.levels[self.depth].clone();
            self.expanded = 0;
            let own: u64 = level.iter().map(Run::len).sum();
            self.post.tell(&[own], &[]);
            let frontier: u64 = self.post.told()?.iter().map(|(numbers, _)| numbers[0]).sum();
            let (mut left, mut upcoming) = (frontier, Upcoming::new(&level, self.width));
            while left > 0 {
                let batch = upcoming.take(&mut self.post, left, BATCH)?;
                left = left.saturating_sub(BATCH as u64);
                let (unsound, said) = self.expand(batch)?;
                self.report(said.totals, frontier);
                if let Some(unsound) = unsound {
                    self.take_candidates();
                    return Ok(match self.path(unsound)? {
                        Some(path) => End::Violated(path),
                        None => End::Stopped(DISK),
                    });
                }
                if let Some(why) = self.stop(said)? {
                    return Ok(End::Stopped(why));
                }
            }
            self.take_candidates();
            let said = self.say()?;
            if let Some(why) = said.stop {
                return Ok(End::Stopped(why));
            }
            if said.totals.next == 0 {
                return Ok(End::Exhausted);
            }
            self.close_level();
            self.depth += 1;
        }
    }

    /// Why all must stop here, if they must.
    fn stop(&mut self, said: Said) -> Result<Option<&'static str>, Alarmed> {
        if said.stop.is_some() {
            return Ok(said.stop);
        }
        let most = self.shared.gate.limits.states;
        if said.totals.states + said.totals.candidates > most {
            self.take_candidates();
            let said = self.say()?;
            return Ok(said.stop.or((said.totals.states > most).then_some(MANY)));
        }
        Ok(None)
    }

    fn report(&self, totals: Totals, frontier: u64) {
        let Totals { states, transitions, expanded, bytes, .. } = totals;
        let (depth, state_bytes) = (self.depth, usize::try_from(bytes).unwrap_or(usize::MAX));
        let elapsed = self.shared.gate.began.elapsed();
        self.shared.report(Progress { states, transitions, frontier, expanded, depth, state_bytes, elapsed });
    }

    /// Holds the candidates against what has been visited.
    fn take_candidates(&mut self) {
        let Successors { layout, own, .. } = &mut self.successors;
        let (visited, gate) = (&mut self.visited, &self.shared.gate);
        with!(own, list => {
            self.pool.install(|| visited.add(list, layout));
            gate.give_back(list);
        });
    }

    /// Expands this worker's part of a batch, while all others expand theirs; the first unsound state of all,
    /// and what was said last.
    fn expand(&mut self, batch: Vec<u32>) -> Result<(Option<Vec<u32>>, Said), Alarmed> {
        let (mut waiting, mut unsound) = (batch, None);
        loop {
            self.pass(&waiting);
            self.send_found();
            let letters = self.say_and_receive()?;
            let unlearnt = self.receive(&letters);
            let said = self.said(letters);
            unsound = unsound.or_else(|| said.unsound.clone());
            if said.totals.unlearnt == 0 || said.stop.is_some() {
                return Ok((unsound, said));
            }
            if let Some(mut unlearnt) = unlearnt {
                unlearnt.sort_unstable();
                self.learn(&unlearnt);
            }
            waiting = std::mem::take(&mut self.unlearnt);
            // Nobody goes on before everything has been learnt.
            self.post.tell(&[], &[]);
            self.post.told()?;
        }
    }

    /// Expands states as far as what has been learnt allows: where their successors go, the states for which
    /// something has to be learnt, and the first unsound one.
    fn pass(&mut self, states: &[u32]) {
        let Search { shared, scratch, width, successors, .. } = self;
        let (space, gate, depth) = (shared.read(), &shared.gate, self.depth);
        let mut listed: Vec<u32> = Vec::new();
        self.unsound = None;
        self.unlearnt.clear();
        for (number, state) in states.chunks_exact(*width).enumerate() {
            if number % LOOK_AFTER == 0 && gate.look().is_some() {
                return;
            }
            listed.clear();
            let (mut count, mut over) = (0_usize, false);
            let mut list = |next: &[u32]| {
                count += 1;
                assert_width(next, *width);
                over |= count % LOOK_AFTER_SUCCESSORS == 0 && gate.look().is_some();
                if !over {
                    listed.extend_from_slice(next);
                }
            };
            match space.expand(depth, state, scratch, &mut list) {
                Err(_) => self.unlearnt.extend_from_slice(state),
                Ok(judgement) => {
                    self.transitions += count as u64;
                    self.expanded += 1;
                    if judgement == Judgement::Unsound && self.unsound.is_none() {
                        self.unsound = Some(state.to_vec());
                    }
                    listed.chunks_exact(*width).for_each(|next| successors.push(next));
                }
            }
        }
        // Only one of the workers of a process learns; the others would wait.
        if shared.here > 1 {
            self.unlearnt.chunks_exact(*width).take_while(|_| gate.look().is_none()).for_each(|state| {
                space.prepare(depth, state);
            });
        }
    }

    /// Puts what the pass has found into the post.
    fn send_found(&mut self) {
        let own = self.post.index();
        self.successors.keep(own);
        for to in (0..self.post.workers()).filter(|&to| to != own) {
            let bits = self.successors.layout.bits.clone();
            let post = &mut self.post;
            self.successors.cut(to, |limbs| post.send(to, What::Keys { bits: bits.clone(), limbs }));
        }
        if !self.unlearnt.is_empty() {
            for to in self.shared.leaders(self.post.workers()) {
                self.post.send(to, What::Unlearnt(self.unlearnt.clone()));
            }
        }
    }

    /// Takes what others have found, and returns what is to be learnt, if this is the worker of its process
    /// that learns.
    fn receive(&mut self, letters: &[Letter]) -> Option<Vec<Vec<u32>>> {
        let mut unlearnt = Vec::new();
        for letter in letters {
            match &letter.what {
                What::Keys { bits, limbs } => self.successors.receive(bits, limbs),
                What::Unlearnt(states) => {
                    unlearnt.extend(states.chunks_exact(self.width).map(<[u32]>::to_vec));
                }
                What::Told { .. } => {}
            }
        }
        if self.shared.gate.is_full(self.successors.own.bytes(), self.shared.here) {
            self.take_candidates();
        }
        self.shared.leads(self.post.index()).then_some(unlearnt)
    }

    /// Learns what these states need, in their order.
    fn learn(&mut self, states: &[Vec<u32>]) {
        let mut space = self.shared.write();
        for state in states {
            if self.shared.gate.look().is_some() {
                break;
            }
            space.learn(self.depth, state);
            if let Some(disk) = &mut self.visited.disk {
                disk.learn(self.depth, state);
            }
        }
        space.forget_prepared();
    }

    /// Says how it is with this worker, and hears it of all.
    fn say(&mut self) -> Result<Said, Alarmed> {
        let letters = self.say_and_receive()?;
        Ok(self.said(letters))
    }

    fn say_and_receive(&mut self) -> Result<Vec<Letter>, Alarmed> {
        let trouble = self.visited.trouble().map(|trouble| if trouble.is_full { FULL } else { DISK });
        let why = trouble.or_else(|| self.shared.gate.look());
        let number = |why| WHYS.iter().position(|&known| known == why).expect("it is one of them");
        let numbers = [
            why.map_or(0, |why| 1 + number(why) as u64),
            self.visited.len(),
            self.transitions,
            self.visited.bytes() as u64,
            self.successors.own.len() as u64,
            self.expanded,
            (self.unlearnt.len() / self.width) as u64,
            self.visited.len_of_next(),
        ];
        self.post.tell(&numbers, self.unsound.as_deref().unwrap_or_default());
        self.post.turn()
    }

    fn said(&self, letters: Vec<Letter>) -> Said {
        let mut all = Said { totals: Totals::default(), stop: None, unsound: None };
        let mut first_why = WHYS.len();
        for letter in letters {
            let What::Told { numbers, states } = letter.what else { continue };
            let &[why, known, transitions, bytes, candidates, expanded, unlearnt, next] = &numbers[..] else {
                continue;
            };
            if let Some(why) = why.checked_sub(1) {
                first_why = first_why.min(usize::try_from(why).unwrap_or(usize::MAX));
            }
            all.totals.states += known;
            all.totals.transitions += transitions;
            all.totals.bytes += bytes;
            all.totals.candidates += candidates;
            all.totals.expanded += expanded;
            all.totals.unlearnt += unlearnt;
            all.totals.next += next;
            let unsound = (!states.is_empty()).then_some(states);
            all.unsound = all.unsound.into_iter().chain(unsound).min();
        }
        all.stop = WHYS.get(first_why).copied();
        all
    }

    /// A shortest way to a state of this level: of all states that lead to one, the first in the order of
    /// states, whoever owns it. None if a level cannot be read.
    fn path(&mut self, state: Vec<u32>) -> Result<Option<Vec<Vec<u32>>>, Alarmed> {
        let mut path = vec![state];
        for level in (0..self.depth).rev() {
            let before = self.before(level, path.last().expect("it ends somewhere"));
            self.post.tell(&[], &before.unwrap_or_default());
            let told = self.post.told()?.into_iter().map(|(_, state)| state);
            let Some(first) = told.filter(|state| !state.is_empty()).min() else { return Ok(None) };
            path.push(first);
        }
        path.reverse();
        Ok(Some(path))
    }

    /// The first of its states of a level that leads to this one.
    fn before(&mut self, level: usize, to: &[u32]) -> Option<Vec<u32>> {
        let (space, scratch) = (self.shared.read(), &mut self.scratch);
        let mut first = None;
        for piece in self.visited.levels[level].iter().flat_map(Piece::of_run) {
            piece.each(self.width, |state| {
                if first.is_some() {
                    return;
                }
                let mut leads = false;
                let expanded = space.expand(level, state, scratch, &mut |next| leads |= next == to);
                if expanded.is_ok() && leads {
                    first = Some(state.to_vec());
                }
            });
            if first.is_some() {
                break;
            }
        }
        first
    }
}
