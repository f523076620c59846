//! Exact breadth-first search of a state graph, level by level, on every core, at two bytes a state or so.
//!
//! Every state reachable within the space's bounds is visited once; a violation is found at the least number
//! of steps from the start. States are compared exactly, never by a fingerprint, so no collision can hide
//! one. A run that is cut short says so: only [`Outcome::Exhausted`] is a claim about all states.
//!
//! A state is a few 32-bit words, names that the space has given to whatever they stand for. Reading what is
//! known ([`Space::expand`]) runs on all threads; what is met for the first time is worked out by one thread
//! in between ([`Space::learn`]), in an order that does not depend on how many threads there are; what that
//! takes and gives no names can be worked out before by all of them ([`Space::prepare`]). So counts, names and
//! traces are the same for any number of threads and any memory: what a level is does not depend on when there
//! was no room for more candidates.
//!
//! There is no table of states. The states of a level are a sorted list of numbers, each written as the
//! difference to the one before, and the list of what a level leads to is sorted and held against the lists
//! of all levels so far: everything is read and written in order. Nor is it kept where a state comes from: the
//! steps to a violation are found by expanding the levels before it once more.
//!
//! | file | what |
//! |---|---|
//! | `key`, `bits`, `run` | a state as a number, and sorted lists of them |
//! | `visited` | the lists of all levels |
//! | `disk`, `file` | lists in files, and going on with them |
//! | `candidates`, `piece`, `search` | the search |
//! | `trace` | the way to a state |
//! | `resident` | how much memory is in use |
//! | `workers` | the search spread over threads, processes and machines |
//! | `model` | the search for any packed model of `stateright` |

mod bits;
mod candidates;
mod disk;
mod file;
mod key;
mod model;
mod piece;
mod resident;
mod run;
mod search;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_models;
#[cfg(test)]
mod tests_on_disk;
mod trace;
mod visited;
mod workers;

pub use disk::{Directory, DiskTrouble};
pub use model::{Checked, Packed, PackedSpace, check};
pub use resident::resident;
pub use search::{explore, explore_in};
pub use workers::{Gone, Meeting, Peers, Trouble, Workers, explore_among};

use std::time::Duration;

/// A state graph.
pub trait Space: Sync {
    /// What a thread keeps for itself from one state to the next; it changes nothing but the time it takes.
    type Scratch: Default + Send;

    /// Words in a state, the same for all of them, and at least one. Each takes as many bits as its largest
    /// value so far, and one at least; together they may take 256: eight words of 32 bits, or more of fewer.
    fn width(&self) -> usize;

    /// The states to start from.
    fn initial(&mut self) -> Vec<Vec<u32>>;

    /// Whether the steps from a state depend on its distance from the start. Then states of different
    /// distances are different, and those of levels left behind are not compared any more.
    fn is_layered(&self) -> bool {
        false
    }

    /// Judges a state, and lists the states one step away, each once and without the state itself. `depth` is
    /// its distance from the start.
    ///
    /// # Errors
    /// If something about this state has to be learnt first; what was listed until then does not count.
    fn expand(
        &self,
        depth: usize,
        state: &[u32],
        scratch: &mut Self::Scratch,
        successors: &mut Successors<'_>,
    ) -> Result<Judgement, Unlearnt>;

    /// Called on all threads, in any order, for states that are to be learnt from next: works out what
    /// [`Space::learn`] will need, where that can be done before. It changes nothing but the time it takes.
    fn prepare(&self, depth: usize, state: &[u32]) {
        let _ = (depth, state);
    }

    /// Called when all that was prepared for has been learnt, or will not be; and now and then while everything is
    /// learnt again that had been before a stop. What will not be needed can be forgotten here.
    fn forget_prepared(&mut self) {}

    /// Learns what [`Space::expand`] needs for this state. Not called unless that says [`Unlearnt`].
    ///
    /// # Panics
    /// If a space that says so does not implement it.
    fn learn(&mut self, depth: usize, state: &[u32]) {
        panic!(
            "Space::expand wants something learnt for {state:?}, {depth} steps deep: implement Space::learn"
        )
    }

    /// Called for each state of the levels before, when an exploration goes on that was stopped: for what is
    /// kept of judging a state. What it needs has been learnt.
    fn revisit(&self, depth: usize, state: &[u32], scratch: &mut Self::Scratch) {
        let _ = (depth, state, scratch);
    }

    /// What is kept of judging states, for other processes that explore parts of the same space: they have
    /// learnt the same, so names mean the same. Of what is learnt nothing is told.
    fn noted(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Also keeps what another process has noted.
    fn merge_noted(&mut self, noted: &[u8]) {
        let _ = noted;
    }

    /// What is violated in a state that was judged unsound, for whoever reads the outcome.
    fn complaint(&self, state: &[u32]) -> String {
        let _ = state;
        String::new()
    }
}

/// Where the successors of one state go.
pub type Successors<'a> = dyn FnMut(&[u32]) + 'a;

/// A state is sound, or violates something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// Nothing is violated.
    Sound,
    /// Something is: [`Space::complaint`] says what.
    Unsound,
}

/// Something has to be learnt before a state can be expanded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unlearnt;

/// Why an exploration stops that its caller has told to.
pub const INTERRUPTED: &str = "it was interrupted";

/// How an exploration ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Every reachable state was visited and judged sound.
    Exhausted,
    /// A state was judged unsound.
    Violated {
        /// What is violated.
        what: String,
        /// A shortest way there: the state started from, and the state after each step.
        path: Vec<Vec<u32>>,
    },
    /// A limit or the caller stopped the run: nothing is claimed about what was not visited.
    NotExhausted {
        /// Why it stopped.
        why: &'static str,
    },
}

/// What an exploration did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exploration {
    /// How it ended.
    pub outcome: Outcome,
    /// Distinct states visited.
    pub states: u64,
    /// Distinct edges between them, loops left out.
    pub transitions: u64,
    /// The most steps that any visited state is away from the start.
    pub depth: usize,
    /// Wall time.
    pub elapsed: Duration,
    /// Bytes that the states take, tables of the space apart.
    pub state_bytes: usize,
}

/// What an exploration may use.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Threads.
    pub threads: usize,
    /// The most states; a run may visit some more.
    pub states: u64,
    /// The longest time; it is looked at between batches of states, so a run takes a little longer.
    pub time: Duration,
    /// The most bytes, as `allocated` counts them.
    pub bytes: usize,
    /// The bytes in use now by whatever counts towards the limit: [`resident`], unless told otherwise.
    pub allocated: fn() -> usize,
}

impl Default for Limits {
    /// Two threads, and no limit.
    fn default() -> Self {
        let time = Duration::MAX;
        Limits { threads: 2, states: u64::MAX, time, bytes: usize::MAX, allocated: resident }
    }
}

/// How far an exploration is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// States known to be visited so far.
    pub states: u64,
    /// Edges seen so far.
    pub transitions: u64,
    /// States of the level being expanded.
    pub frontier: u64,
    /// Those of them that have been expanded.
    pub expanded: u64,
    /// The number of that level.
    pub depth: usize,
    /// Bytes that the states take.
    pub state_bytes: usize,
    /// Wall time so far.
    pub elapsed: Duration,
}
