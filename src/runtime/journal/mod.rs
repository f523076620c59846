//! A journal: everything a replica was given and asked for, in order, for observation only.
//!
//! | file | does |
//! |---|---|
//! | `write` | [`Journal`], the [`Witness`](super::Witness) that writes one |
//! | `note` | what is kept of an effect |
//! | `read` | [`Reader`]: entry by entry, each checked |
//! | `replay` | [`Replay`]: the same inputs through the same [`step`](crate::replica::Replica::step) |
//!
//! # The file
//!
//! It begins with a [`Header`]: version, whose journal it is, and the number of clients. Entries follow, each
//! with its length and two CRC-32C, one over the length and one over the content, both over the position too:
//! so a file that ends within an entry (the process or the machine stopped there) is told apart from one that
//! is damaged. Such an end is cut off when the replica starts again, and said; damage is refused, as in the
//! store.
//!
//! | entry | holds |
//! |---|---|
//! | `Started` | a life of the process begins: the durable state it starts from (nothing for the initial one) and the effects of starting |
//! | `Chunk` | a piece of that state |
//! | `Step` | one event, a message in its wire encoding, and a note of each effect |
//! | `CarriedOut` | the records of the steps up to a number are durable, and what they send leaves now |
//!
//! Of an effect its kind, view and sequence number, the length of its encoding and a CRC-32C over it are
//! kept: enough to compare a replay effect by effect and to say in words where it differs, and about ten
//! bytes instead of the whole (a PRE-PREPARE with its batch would be there three times: received, recorded
//! and, at the primary, sent; a snapshot is the whole state). A difference goes unnoticed with probability
//! 2^-32; the journal is no defence against who can write it.
//!
//! # What is written when
//!
//! A step that asks for anything to be recorded or sent is handed to the operating system, with all before
//! it, before its effects are even queued; steps that ask for nothing may wait in a buffer of 64 KiB. When
//! the records of a group are durable, and before its first message leaves, `CarriedOut` follows. So whatever
//! anybody was sent is in the journal after `kill -9`. Nothing is synced: after a power failure the end of
//! the journal may be missing, and then a replay says that the next life does not follow from it. That is not
//! worth an `fdatasync` a step: nothing that the replica promises rests on its journal.
//!
//! The file only grows; nothing removes it. Whoever can read it can read every operation of every client.
//!
//! # What a kill leaves undone
//!
//! The last steps of a life that was killed may never have been made durable: the next life goes on from an
//! earlier state, and nobody has seen them. Their facts are not facts. A replay finds the record up to which
//! the next life's state reaches, and counts the facts before the next record, as the simulation does when it
//! crashes a replica between two effects; a state that lies before what was carried out, or that no record
//! leads to, is told as a divergence: the replica has forgotten what it promised. After the last life, what
//! was carried out counts.
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

mod note;
mod read;
mod replay;
#[cfg(test)]
mod tests;
mod write;

pub use note::{Kind, Note};
pub use read::{Life, Reader, Recorded};
pub use replay::{Divergence, Observer, Replay, Summary};
pub use write::{Journal, Writer};

use crate::replica::Timer;
use crate::store::Identity;
use crate::types::{Bytes, Digest, SeqNo};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"PBFT-JN1";
/// Length, checksum of the length, checksum of the content.
const ENTRY_HEADER_BYTES: usize = 12;

/// Whose journal it is. A replica appends only to a journal with the very same header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The replica, its cluster and its bounds.
    pub identity: Identity,
    /// The number of registered clients, which decides whose messages are valid.
    pub clients: u32,
}

impl Header {
    fn to_bytes(self) -> Vec<u8> {
        let owner = postcard::to_stdvec(&self).expect("encoding into memory cannot fail");
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&u32::try_from(owner.len()).expect("a header is short").to_le_bytes());
        bytes.extend_from_slice(&owner);
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
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
        /// How many entries with chunks of the snapshot follow.
        chunks: u64,
    },
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
    fn of_timer(timer: Timer) -> Self {
        match timer {
            Timer::Progress { .. } => Input::Progress,
            Timer::Status => Input::Status,
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
    /// A piece of the snapshot that the life starts from.
    Chunk(Bytes),
    /// One step.
    Step {
        /// What the replica was given.
        input: Input,
        /// A note of each effect.
        effects: Vec<Note>,
    },
    /// The steps of this life up to this number are durable, and what they send leaves now.
    CarriedOut(u64),
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
        /// The file.
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

/// The checksum of an entry's length and the one of its content.
fn checksums(position: u64, length: [u8; 4], content: &[u8]) -> (u32, u32) {
    (super::store::checksum(0, position, &length), super::store::checksum(1, position, content))
}
