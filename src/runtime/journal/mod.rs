//! A journal: everything a replica was given and asked for, in order, for observation only.
//!
//! | file | does |
//! |---|---|
//! | `write` | [`Journal`], the [`Witness`](super::Witness) that writes one |
//! | `segment` | one file of it |
//! | `cut` | when a segment ends, and which may be removed |
//! | `note` | what is kept of an effect |
//! | `read` | [`Reader`]: entry by entry, each checked |
//! | `replay` | [`Replay`]: the same inputs through the same [`step`](crate::replica::Replica::step) |
//!
//! # The files
//!
//! A journal is a directory of segments, `segment-K`, of which the last is written. Each begins with its
//! number and a [`Header`]: version, whose journal it is, and the number of clients. Entries follow, each
//! with its length and two CRC-32C, one over the length and one over the content, both over the segment and
//! the position too: so a file that ends within an entry (the process or the machine stopped there) is told
//! apart from one that is damaged. Such an end of the last segment is cut off when the replica starts again,
//! and said; damage is refused, as in the store. A replica checks its last segment when it starts, an audit
//! all of them.
//!
//! | entry | holds |
//! |---|---|
//! | `Started` | a life of the process begins: the durable state it starts from (nothing for the initial one) and the effects of starting |
//! | `Piece` | a piece of the state of the service in the state before it |
//! | `Step` | one event, a message in its wire encoding, and a note of each effect |
//! | `CarriedOut` | the records of the steps up to a number are durable, and what they send leaves now |
//! | `GoesOn` | first in each segment but segment 0: the state in which the replica is, in the middle of its life |
//!
//! Of an effect its kind, view and sequence number, the length of its encoding and a CRC-32C over it are
//! kept: enough to compare a replay effect by effect and to say in words where it differs, and about ten
//! bytes instead of the whole (a PRE-PREPARE with its batch would be there three times: received, recorded
//! and, at the primary, sent; a snapshot is the whole state). A difference goes unnoticed with probability
//! 2^-32; the journal is no defence against who can write it.
//!
//! # Segments
//!
//! A segment ends when it is as long as [`Limits`] say and a checkpoint has become stable whose state the
//! replica has. The next begins with all that the following steps depend on: the durable state, and
//! [what a restart forgets](crate::replica::Replica::volatile) (votes, VIEW-CHANGEs, requests that wait). The
//! state of the service is that of the stable checkpoint, for which the durable state has a quorum's
//! signatures; what executed since is executed again. So a replay can begin with any segment whose state is
//! whole and check each step in it; it checks first that a quorum vouches for that state. Where the segment
//! before is there too, its replay must end in exactly that state, or it diverges. A segment says how long
//! the one before is: one that is cut short is damage, one that is missing is a gap.
//!
//! A segment ends at a restart too, if it is long by then; it begins with the start. Neither waits for a
//! disk. The file of a segment gets its name when its `GoesOn` is written, and the state of the service
//! follows between the steps, 256 KiB after each: until all of it is there, and the last step before the
//! segment is known to be carried out (a crash would take it back otherwise), the segments before are kept.
//! Then the oldest are removed, oldest first, so that there is room for one more within what is kept. A
//! segment is at least as long as the states in it, so about half of what is written are states at most; a
//! state that is longer than what is kept is kept nevertheless. What is removed takes its evidence with it: a
//! replay then speaks of what came after.
//!
//! # What is written when
//!
//! A step that asks for anything to be recorded or sent is handed to the operating system, with all before
//! it, before its effects are even queued; steps that ask for nothing may wait in a buffer of 64 KiB. When
//! the records of a group are durable, and before its first message leaves, `CarriedOut` follows. So whatever
//! anybody was sent is in the journal after `kill -9`. Nothing is synced: after a power failure the end of
//! the journal may be missing, and then a replay says that the next life, or the next segment, does not
//! follow from it. That is not worth an `fdatasync` a step: nothing that the replica promises rests on its
//! journal.
//!
//! Whoever can read it can read every operation of every client.
//!
//! # What a kill leaves undone
//!
//! The last steps of a life that was killed may never have been made durable: the next life goes on from an
//! earlier state, and nobody has seen them. Their facts are not facts. A replay finds the record up to which
//! the next life's state reaches, and counts the facts before the next record, as the simulation does when it
//! crashes a replica between two effects; a state that lies before what was carried out, or that no record
//! leads to, is told as a divergence: the replica has forgotten what it promised. After the last life, what
//! was carried out counts. If the replay began in the middle of a life and nothing later was carried out
//! before the kill, the next life may stand on a state before the journal's first; what is known then begins
//! with that life.
//!
//! # What it costs
//!
//! Nothing if there is none. Measured on two shared virtual cores at `opt-level = 2`, n = 4, 100-byte
//! operations, memory store, three runs each, means (`pbft bench --store memory --clients 1`, with and
//! without `--journal`):
//!
//! | clients | journal | requests/s | processor time a request, all replicas | bytes a request and replica |
//! |---|---|---|---|---|
//! | 1 | no | 598 | 2,274 us | |
//! | 1 | yes | 555 | 2,478 us | 850 |
//! | 64 | no | 1,979 | 733 us | |
//! | 64 | yes | 2,093 | 735 us | 250 |
//!
//! With one client that is 7 % fewer requests; with 64 the difference is below what other work on the machine
//! causes. A replay takes about 0.1 to 0.2 ms a step, most of it for verifying and signing again.
//!
//! COST-OF-A-CUT

mod cut;
mod note;
mod read;
mod replay;
mod segment;
#[cfg(test)]
mod tests;
mod write;

pub use note::{Kind, Note};
pub use read::{Beginning, Life, Reader, Recorded};
pub use replay::{Divergence, Observer, Replay, Summary};
pub use write::{Journal, Writer};

use crate::replica::Expired;
use crate::store::Identity;
use crate::types::{Bytes, Digest, SeqNo};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Whose journal it is. A replica appends only to a journal with the very same header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The replica, its cluster and its bounds.
    pub identity: Identity,
    /// The number of registered clients, which decides whose messages are valid.
    pub clients: u32,
}

/// How long a journal becomes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// A segment of this many bytes ends at the next checkpoint that becomes stable, or when the replica next
    /// starts. What states take in it is not counted; a segment is as long as they are at least.
    pub segment_bytes: u64,
    /// The oldest segments are removed when all together would become longer than this, in bytes. What is
    /// needed to replay the last one that can be replayed by itself is always kept.
    pub keep_bytes: u64,
}

impl Default for Limits {
    /// 64 MiB and 1 GiB.
    fn default() -> Self {
        Limits { segment_bytes: 64 << 20, keep_bytes: 1 << 30 }
    }
}

/// The state that a life starts from.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Start {
    /// The initial one, because there is no store: whatever came before is forgotten.
    Memory,
    /// The initial one, from a store in which nothing was recorded.
    Fresh,
    /// The initial one, on purpose: this replica has lost its store and counts as faulty.
    Replacement,
    /// Another one.
    Stored {
        /// Its [image](crate::store) without the state of the service.
        image: Bytes,
        /// The sequence number of its snapshot.
        n: SeqNo,
        /// The root of its snapshot.
        root: Digest,
        /// How many entries with pieces of the snapshot follow.
        pieces: u64,
    },
}

/// What a segment begins with that is not the first.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// How often the replica has started.
    pub lives: u64,
    /// The steps of the last of these lives.
    pub steps: u64,
    /// The life from which it counts as faulty, because it started from nothing though it had run before.
    pub faulty_from: Option<u64>,
    /// The bytes of the segment before, which ends here.
    pub previous_bytes: u64,
    /// The state after those steps. None if that life is over: a start follows.
    pub state: Option<Middle>,
}

/// The state in the middle of a life: everything that the next step depends on.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Middle {
    /// The [image](crate::store) of what is durable, without the state of the service.
    pub image: Bytes,
    /// [What a restart forgets](crate::replica::Replica::volatile).
    pub volatile: Bytes,
    /// The sequence number of the snapshot.
    pub n: SeqNo,
    /// The root of the snapshot.
    pub root: Digest,
    /// How many entries with pieces of the snapshot follow, between the steps.
    pub pieces: u64,
}

/// What a replica was given.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A message in its [wire](crate::wire) encoding. It was verified before; a replay verifies it again.
    Message(Bytes),
    /// The progress timer fired.
    Progress,
    /// The status timer fired.
    Status,
}

impl Input {
    fn of_timer(timer: Expired) -> Self {
        match timer {
            Expired::Progress => Input::Progress,
            Expired::Status => Input::Status,
        }
    }
}

/// One entry as it is written.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    /// A life begins.
    Started {
        /// From what.
        start: Start,
        /// A note of each effect of starting.
        effects: Vec<Note>,
    },
    /// A piece of the snapshot of the state before it.
    Piece {
        /// At most 256 KiB.
        bytes: Bytes,
        /// Whether a chunk of the snapshot ends with it.
        last: bool,
    },
    /// One step.
    Step {
        /// What the replica was given.
        input: Input,
        /// A note of each effect.
        effects: Vec<Note>,
    },
    /// The steps of this life up to this number are durable, and what they send leaves now.
    CarriedOut(u64),
    /// A segment begins that is not the first.
    GoesOn(Box<Head>),
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It does not begin like one.
    #[error("{0} is no journal of this program, or of a version it no longer reads")]
    NotAJournal(PathBuf),
    /// It is another's.
    #[error("the journal {0} belongs to another replica, cluster or configuration")]
    Foreign(PathBuf),
    /// Another process writes it.
    #[error("the journal {0} is in use by another process")]
    InUse(PathBuf),
    /// It is not as it was written.
    #[error("the journal {path} is damaged: {what} at byte {at}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The machine refused.
    #[error("cannot use the journal {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl JournalError {
    fn io(path: &Path) -> impl Fn(io::Error) -> JournalError {
        let path = path.to_path_buf();
        move |error| JournalError::Io { path: path.clone(), error }
    }
}
