//! Writing a journal.

use super::note::notes;
use super::{Entry, Header, Input, JournalError, Reader, Start, checksums};
use crate::crypto::Crypto;
use crate::replica::{Bundle, Durable, Effect, Effects, Event};
use crate::runtime::options::Witness;
use crate::store::seal;
use crate::types::{Bytes, SeqNo};
use crate::wire;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Entries that nobody waits for are written when there is so much of them.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Appends entries to a file.
#[derive(Debug)]
pub struct Writer {
    file: File,
    /// The bytes of the file and of the buffer.
    length: u64,
    buffer: Vec<u8>,
    /// Whether a write did not finish: nothing may follow what it left.
    failed: bool,
}

impl Writer {
    /// Opens a journal for appending, or makes one that only its owner may read. The whole file is read and
    /// checked; an entry at its end that is not complete is cut off.
    ///
    /// # Errors
    /// If it is damaged, another's or in use, or the machine fails.
    pub fn open(path: &Path, header: Header) -> Result<Self, JournalError> {
        let io = JournalError::io(path);
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(&io)?;
        }
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(0o600).open(path).map_err(&io)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(JournalError::InUse(path.to_path_buf())),
            Err(error) => return Err(io(error.into())),
        }
        let beginning = header.to_bytes();
        let mut length = file.metadata().map_err(&io)?.len();
        if length < beginning.len() as u64 && beginning.starts_with(&fs::read(path).map_err(&io)?) {
            file.set_len(0).map_err(&io)?;
            (&file).write_all(&beginning).map_err(&io)?;
            length = beginning.len() as u64;
        }
        let mut reader = Reader::open(path)?;
        if reader.header() != header {
            return Err(JournalError::Foreign(path.to_path_buf()));
        }
        while reader.next_entry()?.is_some() {}
        if reader.incomplete_bytes() > 0 {
            length -= reader.incomplete_bytes();
            file.set_len(length).map_err(&io)?;
            tracing::warn!(path = %path.display(), at = length, dropped = reader.incomplete_bytes(), "cut off an entry that was being written");
        }
        Ok(Writer { file, length, buffer: Vec::new(), failed: false })
    }

    /// Adds an entry to the buffer, and writes the buffer if it is long.
    ///
    /// # Errors
    /// If the file cannot be written. The end of the file is unknown then: stop, and open the journal again
    /// to cut it.
    pub fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; super::ENTRY_HEADER_BYTES]);
        let buffer = std::mem::take(&mut self.buffer);
        self.buffer = postcard::to_extend(entry, buffer).expect("encoding into memory cannot fail");
        let (header, content) = self.buffer[start..].split_at_mut(super::ENTRY_HEADER_BYTES);
        let length = u32::try_from(content.len()).map_err(io::Error::other)?.to_le_bytes();
        let (of_length, of_content) = checksums(self.length, length, content);
        header[..4].copy_from_slice(&length);
        header[4..8].copy_from_slice(&of_length.to_le_bytes());
        header[8..].copy_from_slice(&of_content.to_le_bytes());
        self.length += (self.buffer.len() - start) as u64;
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
}

/// The journal of a running replica.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    header: Header,
    replacement: bool,
    /// None until the replica starts, which it does only if nobody else uses its store.
    writer: Option<Writer>,
    input: Option<Input>,
    scratch: Vec<u8>,
}

impl Journal {
    /// A journal in this file. `replacement`: the replica starts from nothing though it has run before.
    pub fn new(path: PathBuf, header: Header, replacement: bool) -> Self {
        Journal { path, header, replacement, writer: None, input: None, scratch: Vec::new() }
    }

    fn writer(&mut self) -> io::Result<&mut Writer> {
        self.writer.as_mut().ok_or_else(|| io::Error::other("it is not open"))
    }

    fn start<C: Crypto>(&self, stored: Option<&Durable<C>>) -> (Start, Vec<Bytes>) {
        let Some(durable) = stored else { return (Start::Memory, Vec::new()) };
        if *durable == Durable::default() {
            return (if self.replacement { Start::Replacement } else { Start::Fresh }, Vec::new());
        }
        let rest = Durable { snapshot: Arc::default(), ..durable.clone() };
        let image = Bytes::from(seal(&self.header.identity, &rest));
        let (n, root) = (durable.snapshot.n, durable.snapshot.tree.root());
        // The initial state is that of the service.
        let chunks = if n == SeqNo(0) { Vec::new() } else { durable.snapshot.tree.chunks() };
        (Start::Stored { image, n, root, chunks: chunks.len() as u64 }, chunks)
    }
}

impl<B: Bundle> Witness<B> for Journal {
    fn started(
        &mut self,
        stored: Option<&Durable<B::Crypto>>,
        effects: &Effects<B::Crypto>,
    ) -> io::Result<()> {
        let mut writer = Writer::open(&self.path, self.header).map_err(io::Error::other)?;
        let (start, chunks) = self.start(stored);
        writer.append(&Entry::Started { start, effects: notes(effects, &mut self.scratch) })?;
        chunks.into_iter().try_for_each(|chunk| writer.append(&Entry::Chunk(chunk)))?;
        writer.flush()?;
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

    fn effects(&mut self, effects: &Effects<B::Crypto>) -> io::Result<()> {
        let input = self.input.take().ok_or_else(|| io::Error::other("a step has no event"))?;
        let noted = notes(effects, &mut self.scratch);
        let writer = self.writer()?;
        writer.append(&Entry::Step { input, effects: noted })?;
        let waits = |effect: &Effect<_>| matches!(effect, Effect::Persist(_) | Effect::Send(..));
        if effects.iter().any(waits) { writer.flush() } else { Ok(()) }
    }

    fn carried_out(&mut self, steps: u64) -> io::Result<()> {
        let writer = self.writer()?;
        writer.append(&Entry::CarriedOut(steps))?;
        writer.flush()
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
