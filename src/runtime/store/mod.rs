//! Stable storage of one replica: a directory with a base image and a log of records after it.
//!
//! | file | holds |
//! |---|---|
//! | `lock` | locked while a process uses the directory |
//! | `base-K` | the durable state before segment K of the log, and the state of the service it refers to |
//! | `log-K` | segment K: records, each with its length and a CRC-32C over position and content |
//! | `promised` | up to where the log has been made durable, and so may have been vouched for |
//!
//! Only its owner may read the directory and the files in it, and those of a store that others may read are
//! taken from them when it is opened.
//!
//! [`Store::commit`] appends a group of records and makes them durable with one `fdatasync`; only then may
//! what they promise be sent. When a checkpoint becomes stable and the log has grown as long as the base,
//! within bounds, it goes on in a new segment, a new base is written beside it (by a thread of its own, so
//! the pause of service does not grow with the state), and then the older files are removed. So what is
//! written for bases is at most as much as what is logged, until the state is longer than the longest log.
//! Until a base is complete, the old one and all segments since say the same: a replica that starts from them
//! executes the batches after the old checkpoint again.
//!
//! # What is repaired and what is refused
//!
//! A crash can leave the last group half written. Such a tail is cut off, if it is short or zeros, and lies
//! above what `promised` says was durable: no message that relies on it has left. Everything else (a record
//! whose checksum is wrong, a missing file, a log that is shorter than promised) is damage, and a damaged
//! store is refused: a replica that forgets what it sent counts as one of the f faults. `promised` is written
//! after each `fdatasync`, without one of its own: it survives the end of the process, and after a power
//! failure it says too little, never too much.
//!
//! # Reading without the lock
//!
//! [`View::read`] reads a store that another process may be writing, and changes nothing: a base is complete
//! once it has its name, the log only grows, and if a file is removed meanwhile it begins again.
//!
//! # Why a log of our own
//!
//! Measured on two shared virtual cores with a virtual disk, 1,500 records of 300 bytes, each made durable by
//! itself (microseconds, two runs):
//!
//! | | p50 | p99 | mean |
//! |---|---|---|---|
//! | appended log with CRC-32C, `fdatasync` | 92, 65 | 5128, 4162 | 919, 316 |
//! | fjall 3.1, `PersistMode::SyncData` | 48, 73 | 4015, 4116 | 197, 458 |
//! | redb 4.6, one transaction each | 158, 185 | 5641, 5273 | 674, 836 |
//!
//! The disk decides, so the figures of the log and of fjall do not differ beyond noise, and redb pays for
//! writing its tree twice. Records are only ever appended, replayed from the beginning, and dropped all
//! together, which is what neither a tree of sorted runs nor a B-tree is for; and neither can tell a torn
//! tail from one that was promised.

mod base;
mod log;
mod modes;
#[cfg(test)]
mod tests;
mod view;

use crate::certificate::StableCertificate;
use crate::crypto::Crypto;
use crate::replica::{Durable, Record};
use crate::rules::Pbft;
use crate::store::Identity;
pub(super) use log::checksum;
use log::{Log, Promise, TornTail};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
pub use view::View;

/// A shorter log than this is not worth a new base.
const LEAST_LOG_BYTES: u64 = 1 << 20;
/// A longer one would take too long to start from.
const MOST_LOG_BYTES: u64 = 64 << 20;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store in the directory.
    #[error("there is no store in {0}")]
    Missing(PathBuf),
    /// A store is there already, and a new one was asked for.
    #[error("there is a store in {0} already")]
    Exists(PathBuf),
    /// Another process has it open.
    #[error("the store in {0} is in use by another process")]
    InUse(PathBuf),
    /// It is another replica's, or another configuration's.
    #[error("the store in {0} belongs to another replica, cluster or configuration")]
    Foreign(PathBuf),
    /// It is not what this program can have left.
    #[error("the store is damaged: {what}, in {path}")]
    Damaged {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The machine refused.
    #[error("cannot use {path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl OpenError {
    fn io(path: &Path) -> impl Fn(io::Error) -> OpenError {
        let path = path.to_path_buf();
        move |error| OpenError::Io { path: path.clone(), error }
    }

    fn damaged(path: &Path, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { path: path.to_path_buf(), what: what.into() }
    }
}

/// A base to be written by the thread that does so.
struct BaseJob<C: Crypto> {
    segment: u64,
    durable: Durable<C>,
}

/// The open store of one replica.
///
/// After an error nothing more may be committed: what is on the disk is then unknown until it is opened
/// again.
pub struct Store<C: Crypto> {
    directory: PathBuf,
    identity: Identity,
    log: Log,
    promise: Promise,
    jobs: SyncSender<BaseJob<C>>,
    written: Receiver<io::Result<u64>>,
    /// Whether a base is being written.
    writing: bool,
    /// The length of the last base, and of the segments between it and the last one.
    base_bytes: u64,
    older_bytes: u64,
    _lock: File,
}

impl<C: Crypto> Store<C> {
    /// Makes an empty store for a replica that has never run.
    ///
    /// # Errors
    /// If there is a store already, or it cannot be written.
    pub fn create(directory: &Path, identity: &Identity) -> Result<(), OpenError> {
        let io = OpenError::io(directory);
        modes::create_directory(directory).map_err(&io)?;
        let _lock = lock(directory)?;
        if Self::exists(directory)? {
            return Err(OpenError::Exists(directory.to_path_buf()));
        }
        Log::create(directory, identity, 0).map_err(&io)?;
        Promise::create(directory).map_err(&io)?;
        // Last, because a directory with a base is a store.
        base::write::<C>(directory, identity, 0, &Durable::default()).map_err(&io)
    }

    /// Whether there is a store in the directory, of whatever replica and in whatever state.
    ///
    /// # Errors
    /// If the directory is there and cannot be read.
    pub fn exists(directory: &Path) -> Result<bool, OpenError> {
        Ok(directory.exists()
            && (directory.join(log::PROMISED).exists() || !base::list(directory)?.is_empty()))
    }

    /// Opens a store and returns what was durable when it was closed, or stopped in the middle of something.
    ///
    /// # Errors
    /// If it is missing, in use, another's or damaged. A refused store is left as it is.
    pub fn open(directory: &Path, identity: &Identity) -> Result<(Self, Durable<C>), OpenError> {
        let io = OpenError::io(directory);
        if !directory.exists() {
            return Err(OpenError::Missing(directory.to_path_buf()));
        }
        let lock = lock(directory)?;
        modes::tighten(directory)?;
        let recovered = recover(directory, identity, TornTail::Cut, &mut |_| {})?;
        let Recovered { first, segments, durable, .. } = recovered;
        let mut promise = Promise::open(directory)?;
        let last = segments.last().copied().unwrap_or(first);
        let log = Log::resume(directory, last).map_err(&io)?;
        promise.set(last, log.length).map_err(&io)?;
        let length = |path: PathBuf| Ok(fs::metadata(path)?.len());
        let older = segments.iter().filter(|&&k| k < last).map(|&k| length(log::path(directory, k)));
        let older_bytes = older.sum::<io::Result<u64>>().map_err(&io)?;
        let (jobs, written) = start_writer(directory, identity).map_err(&io)?;
        let mut store = Store {
            directory: directory.to_path_buf(),
            identity: *identity,
            log,
            promise,
            jobs,
            written,
            writing: false,
            base_bytes: 0,
            older_bytes,
            _lock: lock,
        };
        store.remove_before(first).map_err(&io)?;
        Ok((store, durable))
    }

    /// Appends the records and makes them, and all before them, durable.
    ///
    /// Own snapshots are not logged: they follow from the batches executed, and [`Store::checkpoint`] keeps
    /// them.
    ///
    /// # Errors
    /// If a file cannot be written or synced. What is on disk is unknown then: send nothing that rests on it,
    /// stop, and open the store again.
    pub fn commit(&mut self, records: &[Record<C>]) -> io::Result<()> {
        self.collect_written()?;
        if self.log.append(records)? {
            self.log.sync()?;
            self.promise.set(self.log.segment, self.log.length)?;
        }
        Ok(())
    }

    /// Begins a new segment, before which `durable` is the durable state, and has its base written. If the
    /// base before is still being written, or the log since is short, nothing happens: the log just goes on.
    ///
    /// # Errors
    /// If a file cannot be written or synced. What is on disk is unknown then: send nothing that rests on it,
    /// stop, and open the store again.
    pub fn checkpoint(&mut self, durable: Durable<C>) -> io::Result<()> {
        self.collect_written()?;
        let logged = self.older_bytes + self.log.length;
        if self.writing || logged < self.base_bytes.clamp(LEAST_LOG_BYTES, MOST_LOG_BYTES) {
            return Ok(());
        }
        self.begin_segment(durable)
    }

    fn begin_segment(&mut self, durable: Durable<C>) -> io::Result<()> {
        self.older_bytes = 0;
        let segment = self.log.segment + 1;
        // The segment first: a base without its segment would be a damaged store.
        self.log = Log::create(&self.directory, &self.identity, segment)?;
        self.writing = true;
        self.jobs.send(BaseJob { segment, durable }).map_err(|_| writer_is_gone())
    }

    /// The same, and waits until the base is complete: for a state that was fetched, which nothing else says.
    ///
    /// # Errors
    /// If a file cannot be written or synced. What is on disk is unknown then: send nothing that rests on it,
    /// stop, and open the store again.
    pub fn checkpoint_now(&mut self, durable: &Durable<C>) -> io::Result<()> {
        let segment = self.log.segment + 1;
        let next = Log::create(&self.directory, &self.identity, segment)?;
        base::write(&self.directory, &self.identity, segment, durable)?;
        self.log = next;
        self.promise.set(self.log.segment, self.log.length)?;
        self.older_bytes = 0;
        self.remove_before(segment)
    }

    /// Takes note of the bases that have been completed.
    fn collect_written(&mut self) -> io::Result<()> {
        loop {
            match self.written.try_recv() {
                Ok(outcome) => {
                    let segment = outcome?;
                    self.writing = false;
                    self.remove_before(segment)?;
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(writer_is_gone()),
            }
        }
    }

    /// Removes what came before the base `first`, which is complete.
    fn remove_before(&mut self, first: u64) -> io::Result<()> {
        self.base_bytes = fs::metadata(base::path(&self.directory, first))?.len();
        let failed = |error: OpenError| io::Error::other(error.to_string());
        for base in base::list(&self.directory).map_err(failed)?.into_iter().filter(|&k| k < first) {
            fs::remove_file(base::path(&self.directory, base))?;
        }
        for segment in log::list(&self.directory).map_err(failed)?.into_iter().filter(|&k| k < first) {
            fs::remove_file(log::path(&self.directory, segment))?;
        }
        Ok(())
    }
}

/// What the files of a store add up to.
struct Recovered<C: Crypto> {
    /// The last base.
    first: u64,
    /// The segments of the log since, the first of them that of the base.
    segments: Vec<u64>,
    durable: Durable<C>,
    /// The last stable checkpoint that the base knows of.
    base_stable: Option<StableCertificate<C>>,
}

/// Reads the last base and the log after it; `seen` is told of each record.
fn recover<C: Crypto>(
    directory: &Path,
    identity: &Identity,
    torn: TornTail,
    seen: &mut dyn FnMut(&Record<C>),
) -> Result<Recovered<C>, OpenError> {
    let bases = base::list(directory)?;
    let Some(&first) = bases.last() else {
        let rest = directory.join(log::PROMISED).exists() || !log::list(directory)?.is_empty();
        return Err(if rest {
            OpenError::damaged(directory, "it has a log and no base")
        } else {
            OpenError::Missing(directory.to_path_buf())
        });
    };
    let mut durable = base::read::<C>(directory, identity, first)?;
    let base_stable = durable.stable.clone();
    // Before the log: what grows meanwhile is longer than promised here, never shorter.
    let promise = Promise::read(directory)?;
    let segments: Vec<u64> = log::list(directory)?.into_iter().filter(|&k| k >= first).collect();
    if segments.first() != Some(&first) || segments.windows(2).any(|pair| pair[0] + 1 != pair[1]) {
        return Err(OpenError::damaged(directory, "a segment of the log is missing"));
    }
    let last = segments.last().copied().unwrap_or(first);
    for &segment in &segments {
        for record in log::read::<C>(directory, identity, segment, segment == last, promise, torn)? {
            seen(&record);
            durable.apply(&record, &Pbft);
        }
    }
    if promise.0 > last {
        return Err(OpenError::damaged(directory, "the last segment of the log is missing"));
    }
    Ok(Recovered { first, segments, durable, base_stable })
}

fn writer_is_gone() -> io::Error {
    io::Error::other("the thread that writes bases is gone")
}

type Writer<C> = (SyncSender<BaseJob<C>>, Receiver<io::Result<u64>>);

fn start_writer<C: Crypto>(directory: &Path, identity: &Identity) -> io::Result<Writer<C>> {
    let (jobs, todo) = sync_channel::<BaseJob<C>>(1);
    let (done, written) = sync_channel(2);
    let (directory, identity): (Arc<Path>, _) = (Arc::from(directory), *identity);
    let work = move || {
        while let Ok(job) = todo.recv() {
            let outcome = base::write(&directory, &identity, job.segment, &job.durable).map(|()| job.segment);
            if done.send(outcome).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("base".into()).spawn(work)?;
    Ok((jobs, written))
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    let io = OpenError::io(&path);
    let file = modes::creating().truncate(false).open(&path).map_err(&io)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse(directory.to_path_buf())),
        Err(error) => Err(io(error.into())),
    }
}
