//! Writing a journal.

use super::cut::{Standing, surplus};
use super::note::notes;
use super::segment::{self, Pieces, Segment, Unopened};
use super::{Entry, Head, Header, Input, JournalError, Limits, Middle, Start};
use crate::crypto::Crypto;
use crate::replica::{Bundle, Durable, Effect, Effects, Event, Record, Replica, Setup};
use crate::runtime::options::Witness;
use crate::store::seal;
use crate::types::{Bytes, SeqNo};
use crate::wire;
use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries that nobody waits for are written when there is so much of them.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Appends entries to the last segment of a journal, and begins new ones.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    header: Header,
    limits: Limits,
    file: File,
    number: u64,
    /// The bytes of the file and of the buffer.
    length: u64,
    buffer: Vec<u8>,
    /// Whether a write did not finish: nothing may follow what it left.
    failed: bool,
    standing: Standing,
    /// What is still to be written of the state that the segment begins with.
    pieces: Pieces,
    /// The number and the bytes of each segment before the last.
    older: VecDeque<(u64, u64)>,
    _lock: File,
}

impl Writer {
    /// Opens a journal for appending, or makes one that only its owner may read. The whole last segment is
    /// read and checked; an entry at its end that is not complete is cut off.
    ///
    /// # Errors
    /// If it is damaged, another's or in use, or the machine fails.
    pub fn open(directory: &Path, header: Header, limits: Limits) -> Result<Self, JournalError> {
        let io = JournalError::io(directory);
        if directory.is_file() {
            return Err(JournalError::NotAJournal(directory.to_path_buf()));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(&io)?;
        let lock = lock(directory)?;
        let mut numbers = segment::list(directory)?;
        let next = numbers.last().map_or(0, |last| last + 1);
        for unfinished in [next, 0] {
            match fs::remove_file(segment::path(directory, unfinished).with_extension("new")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
                _ => {}
            }
        }
        let last = loop {
            let Some(number) = numbers.pop() else { break None };
            match read_last(directory, number, &header)? {
                Some(last) => break Some(last),
                // The machine lost its power as the segment began: what came before has no end yet.
                None => {
                    let path = segment::path(directory, number);
                    tracing::warn!(path = %path.display(), "removed a segment that had not begun");
                    fs::remove_file(&path).map_err(JournalError::io(&path))?;
                }
            }
        };
        let bytes = |number| Ok((number, fs::metadata(segment::path(directory, number))?.len()));
        let older = numbers.into_iter().map(bytes).collect::<io::Result<_>>().map_err(&io)?;
        let (number, file, length, standing) = match last {
            Some(last) => last,
            None => {
                let (file, length) = segment::create(directory, &header, 0, None).map_err(&io)?;
                (0, file, length, Standing::default())
            }
        };
        let directory = directory.to_path_buf();
        let (buffer, pieces) = (Vec::new(), Pieces::default());
        let failed = false;
        let _lock = lock;
        let writer = Writer {
            directory,
            header,
            limits,
            file,
            number,
            length,
            buffer,
            failed,
            standing,
            pieces,
            older,
            _lock,
        };
        Ok(writer)
    }

    /// Adds an entry to the buffer, and writes the buffer if it is long.
    ///
    /// # Errors
    /// If the file cannot be written. The end of the file is unknown then: stop, and open the journal again
    /// to cut it.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let start = self.buffer.len();
        segment::encode(entry, self.number, self.length, &mut self.buffer)?;
        let bytes = (self.buffer.len() - start) as u64;
        self.length += bytes;
        self.standing.note(entry, bytes);
        if self.buffer.len() >= MAX_BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Hands everything to the operating system; nothing is synced.
    ///
    /// # Errors
    /// If the file cannot be written. The end of the file is unknown then, and every later call fails: open
    /// the journal again to cut it.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("it has failed before"));
        }
        self.failed = true;
        self.file.write_all(&self.buffer)?;
        self.failed = false;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the segment and begins the next with `state`, or with the start that follows if there is none.
    fn begin_segment(&mut self, state: Option<Middle>, chunks: Vec<Bytes>) -> io::Result<()> {
        self.flush()?;
        self.failed = true;
        let Standing { lives, steps, faulty_from, .. } = self.standing;
        let head = Head { lives, steps, faulty_from, previous_bytes: self.length, state };
        let entry = Entry::GoesOn(Box::new(head));
        let number = self.number + 1;
        let (file, length) = segment::create(&self.directory, &self.header, number, Some(&entry))?;
        self.failed = false;
        self.older.push_back((self.number, self.length));
        (self.file, self.number, self.length) = (file, number, length);
        self.standing.note(&entry, length);
        self.pieces = Pieces::of(chunks);
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.standing.is_long(self.length, &self.limits)
    }

    /// Goes on writing the state that the segment begins with.
    fn write_piece(&mut self) -> io::Result<()> {
        self.pieces.next().map_or(Ok(()), |piece| self.append(&piece))
    }

    /// Removes the oldest segments if there is too much and the last one can be replayed without them.
    fn remove_oldest(&mut self) -> io::Result<()> {
        if !self.standing.is_whole() {
            return Ok(());
        }
        // The oldest first: whenever the process stops, no segment is missing between two others.
        for _ in 0..surplus(&self.older, self.length, &self.limits) {
            let Some((number, _)) = self.older.pop_front() else { break };
            match fs::remove_file(segment::path(&self.directory, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn lock(directory: &Path) -> Result<File, JournalError> {
    let path = directory.join("lock");
    let io = JournalError::io(&path);
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(&io)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::InUse(directory.to_path_buf())),
        Err(error) => Err(io(error.into())),
    }
}

type Last = (u64, File, u64, Standing);

/// Reads the last segment and cuts off what is not complete. None if it has not begun.
fn read_last(directory: &Path, number: u64, header: &Header) -> Result<Option<Last>, JournalError> {
    let path = segment::path(directory, number);
    let io = JournalError::io(&path);
    let mut segment = match Segment::open(&path) {
        Ok(segment) => segment,
        Err(Unopened::Torn) => return Ok(None),
        Err(Unopened::Because(error)) => return Err(error),
    };
    if segment.header != *header {
        return Err(JournalError::Foreign(directory.to_path_buf()));
    }
    if segment.number != number {
        return Err(segment.damaged("it is another segment than its name says"));
    }
    let (mut standing, mut at) = (Standing::default(), segment.position);
    while let Some(entry) = segment.next_entry()? {
        standing.note(&entry, segment.position - at);
        at = segment.position;
    }
    if segment.is_at_its_beginning() && number > 0 {
        return Ok(None);
    }
    let file = OpenOptions::new().append(true).open(&path).map_err(&io)?;
    if segment.incomplete > 0 {
        file.set_len(at).map_err(&io)?;
        tracing::warn!(path = %path.display(), at, dropped = segment.incomplete, "cut off an entry that was being written");
    }
    Ok(Some((number, file, at, standing)))
}

/// The journal of a running replica.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    header: Header,
    limits: Limits,
    replacement: bool,
    /// None until the replica starts, which it does only if nobody else uses its store.
    writer: Option<Writer>,
    input: Option<Input>,
    scratch: Vec<u8>,
}

impl Journal {
    /// A journal in this directory. `replacement`: the replica starts from nothing though it has run before.
    pub fn new(path: PathBuf, header: Header, limits: Limits, replacement: bool) -> Self {
        Journal { path, header, limits, replacement, writer: None, input: None, scratch: Vec::new() }
    }

    fn writer(&mut self) -> io::Result<&mut Writer> {
        self.writer.as_mut().ok_or_else(|| io::Error::other("it is not open"))
    }

    fn start<C: Crypto>(&self, stored: Option<&Durable<C>>) -> (Start, Vec<Bytes>) {
        let Some(durable) = stored else { return (Start::Memory, Vec::new()) };
        if *durable == Durable::default() {
            return (if self.replacement { Start::Replacement } else { Start::Fresh }, Vec::new());
        }
        let (n, root) = (durable.snapshot.n, durable.snapshot.tree.root());
        // The initial state is that of the service.
        let chunks = if n == SeqNo(0) { Vec::new() } else { durable.snapshot.tree.chunks() };
        let (image, pieces) = (image(&self.header, durable), segment::count_pieces(&chunks));
        (Start::Stored { image, n, root, pieces }, chunks)
    }

    /// Ends the segment if it is long and the replica is in a state with which another can begin.
    fn cut<B: Bundle>(&mut self, setup: &Setup<B>, replica: &Replica<B>) -> io::Result<()> {
        let header = self.header;
        let writer = self.writer()?;
        if !writer.is_long() {
            return Ok(());
        }
        let Some(volatile) = replica.volatile(setup) else { return Ok(()) };
        let durable = replica.durable();
        let (n, root, chunks) =
            (durable.snapshot.n, durable.snapshot.tree.root(), durable.snapshot.tree.chunks());
        let (image, pieces) = (image(&header, durable), segment::count_pieces(&chunks));
        writer.begin_segment(Some(Middle { image, volatile, n, root, pieces }), chunks)
    }
}

/// A durable state without the state of the service.
fn image<C: Crypto>(header: &Header, durable: &Durable<C>) -> Bytes {
    let rest = Durable { snapshot: Arc::default(), ..durable.clone() };
    Bytes::from(seal(&header.identity, &rest))
}

impl<B: Bundle> Witness<B> for Journal {
    fn started(
        &mut self,
        stored: Option<&Durable<B::Crypto>>,
        effects: &Effects<B::Crypto>,
    ) -> io::Result<()> {
        let mut writer = Writer::open(&self.path, self.header, self.limits).map_err(io::Error::other)?;
        if writer.length >= self.limits.segment_bytes {
            writer.begin_segment(None, Vec::new())?;
        }
        let (start, chunks) = self.start(stored);
        writer.append(&Entry::Started { start, effects: notes(effects, &mut self.scratch) })?;
        Pieces::of(chunks).try_for_each(|piece| writer.append(&piece))?;
        writer.flush()?;
        writer.remove_oldest()?;
        self.writer = Some(writer);
        Ok(())
    }

    fn event(&mut self, event: &Event<B::Crypto>) -> io::Result<()> {
        self.input = Some(match event {
            Event::Message(message) => Input::Message(wire::encode(message).into()),
            Event::Timeout(timer) => Input::of_timer(*timer),
        });
        Ok(())
    }

    fn effects(
        &mut self,
        setup: &Setup<B>,
        replica: &Replica<B>,
        effects: &Effects<B::Crypto>,
    ) -> io::Result<()> {
        let input = self.input.take().ok_or_else(|| io::Error::other("a step has no event"))?;
        let noted = notes(effects, &mut self.scratch);
        let writer = self.writer()?;
        writer.append(&Entry::Step { input, effects: noted })?;
        writer.write_piece()?;
        let waits = |effect: &Effect<_>| matches!(effect, Effect::Persist(_) | Effect::Send(..));
        if effects.iter().any(waits) {
            writer.flush()?;
        }
        let snapshot = |effect: &Effect<_>| matches!(effect, Effect::Persist(Record::Snapshot(_)));
        if effects.iter().any(snapshot) { self.cut(setup, replica) } else { Ok(()) }
    }

    fn carried_out(&mut self, steps: u64) -> io::Result<()> {
        let writer = self.writer()?;
        writer.append(&Entry::CarriedOut(steps))?;
        writer.flush()?;
        writer.remove_oldest()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Steps that asked for nothing: nobody misses them.
        if let Some(writer) = &mut self.writer {
            let _ = writer.flush();
        }
    }
}
