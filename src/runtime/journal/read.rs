//! Reading a journal, entry by entry.

use super::{ENTRY_HEADER_BYTES, Entry, Header, Input, JournalError, MAGIC, Note, Start, checksums};
use crate::crypto::Crypto;
use crate::replica::blocks::Tree;
use crate::replica::{Durable, Snapshot};
use crate::store::open;
use crate::types::{Bytes, SeqNo};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A journal being read. Holds one entry at a time.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    header: Header,
    position: u64,
    incomplete: u64,
}

/// What a life starts from.
#[derive(Clone, Debug)]
pub enum Life<C: Crypto> {
    /// The initial state, without a store.
    Memory,
    /// The initial state.
    Fresh,
    /// The initial state, although it has run before.
    Replacement,
    /// This state.
    Stored(Box<Durable<C>>),
}

/// What a journal says next.
#[derive(Clone, Debug)]
pub enum Recorded<C: Crypto> {
    /// A life begins.
    Started(Life<C>, Vec<Note>),
    /// One step.
    Step(Input, Vec<Note>),
    /// The number of steps of this life that are carried out.
    CarriedOut(u64),
}

/// Reads until the buffer is full or the file ends, and says how much there was.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match input.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

impl Reader {
    /// Opens a journal and reads its header.
    ///
    /// # Errors
    /// If it does not begin like a journal, or the machine fails.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let io = JournalError::io(path);
        let not_one = || JournalError::NotAJournal(path.to_path_buf());
        let mut input = BufReader::with_capacity(1 << 18, File::open(path).map_err(&io)?);
        let mut beginning = vec![0; MAGIC.len() + 4];
        let have = fill(&mut input, &mut beginning).map_err(&io)?;
        if have < beginning.len() || !beginning.starts_with(MAGIC) {
            return Err(not_one());
        }
        let length = word(&beginning[MAGIC.len()..]) as usize;
        // An identity is a few dozen bytes.
        if length > 1024 {
            return Err(not_one());
        }
        let mut owner = vec![0; length + 4];
        if fill(&mut input, &mut owner).map_err(&io)? < owner.len() {
            return Err(not_one());
        }
        let header: Header = postcard::from_bytes(&owner[..length]).map_err(|_| not_one())?;
        let bytes = header.to_bytes();
        if bytes[MAGIC.len() + 4..] != owner {
            return Err(not_one());
        }
        let position = bytes.len() as u64;
        Ok(Reader { path: path.to_path_buf(), input, header, position, incomplete: 0 })
    }

    /// Whose journal it is.
    pub fn header(&self) -> Header {
        self.header
    }

    /// The bytes of an entry that the file ends in, once its end is reached.
    pub fn incomplete_bytes(&self) -> u64 {
        self.incomplete
    }

    fn damaged(&self, what: &'static str) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), at: self.position, what }
    }

    /// The next entry as it was written; none at the end, or where the file ends within an entry.
    ///
    /// # Errors
    /// If an entry is not as it was written, or the machine fails.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, JournalError> {
        let io = JournalError::io(&self.path);
        let mut header = [0; ENTRY_HEADER_BYTES];
        let have = fill(&mut self.input, &mut header).map_err(&io)?;
        if have < header.len() {
            self.incomplete = have as u64;
            return Ok(None);
        }
        let length: [u8; 4] = header[..4].try_into().expect("four bytes");
        if checksums(self.position, length, &[]).0 != word(&header[4..8]) {
            return Err(self.damaged("the length of an entry is not as it was written"));
        }
        let mut content = vec![0; word(&length) as usize];
        let have = fill(&mut self.input, &mut content).map_err(&io)?;
        if have < content.len() {
            self.incomplete = (header.len() + have) as u64;
            return Ok(None);
        }
        if checksums(self.position, length, &content).1 != word(&header[8..]) {
            return Err(self.damaged("an entry is not as it was written"));
        }
        let entry = postcard::from_bytes(&content).map_err(|_| self.damaged("there is no known entry"))?;
        self.position += (header.len() + content.len()) as u64;
        Ok(Some(entry))
    }

    /// What the journal says next, with the state of a life put together.
    ///
    /// # Errors
    /// If something is not as it was written, or the machine fails.
    pub fn next_recorded<C: Crypto>(&mut self) -> Result<Option<Recorded<C>>, JournalError> {
        let at = self.position;
        match self.next_entry()? {
            None => Ok(None),
            Some(Entry::Step { input, effects }) => Ok(Some(Recorded::Step(input, effects))),
            Some(Entry::CarriedOut(steps)) => Ok(Some(Recorded::CarriedOut(steps))),
            Some(Entry::Started { start, effects }) => self.started(start, effects),
            Some(Entry::Chunk(_)) => {
                let path = self.path.clone();
                Err(JournalError::Damaged { path, at, what: "a piece of a state belongs to no start" })
            }
        }
    }

    fn started<C: Crypto>(
        &mut self,
        mut start: Start,
        mut effects: Vec<Note>,
    ) -> Result<Option<Recorded<C>>, JournalError> {
        'again: loop {
            let (image, n, root, count) = match start {
                Start::Memory => return Ok(Some(Recorded::Started(Life::Memory, effects))),
                Start::Fresh => return Ok(Some(Recorded::Started(Life::Fresh, effects))),
                Start::Replacement => return Ok(Some(Recorded::Started(Life::Replacement, effects))),
                Start::Stored { image, n, root, chunks } => (image, n, root, chunks),
            };
            let mut durable = open::<C>(&self.header.identity, &image).map_err(|_| {
                self.damaged("the state of a start is not one of this replica before the entry")
            })?;
            let mut chunks: Vec<Bytes> = Vec::new();
            for _ in 0..count {
                match self.next_entry()? {
                    Some(Entry::Chunk(chunk)) => chunks.push(chunk),
                    // The process stopped before it had written all of the state, and so before its first
                    // step.
                    Some(Entry::Started { start: next, effects: its }) => {
                        (start, effects) = (next, its);
                        continue 'again;
                    }
                    None => return Ok(None),
                    Some(_) => return Err(self.damaged("a piece of a state is missing before the entry")),
                }
            }
            if n > SeqNo(0) {
                let tree = Tree::build::<C>(&chunks, None);
                if tree.root() != root {
                    return Err(self.damaged("a state does not have its digest before the entry"));
                }
                durable.snapshot = Arc::new(Snapshot { n, tree });
            }
            return Ok(Some(Recorded::Started(Life::Stored(Box::new(durable)), effects)));
        }
    }
}
