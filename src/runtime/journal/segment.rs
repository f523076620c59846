//! One segment of a journal: a file with a header and entries.

use super::{Entry, Header, JournalError};
use crate::types::Bytes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"PBFT-JN3";
/// Length, checksum of the length, checksum of the content.
const ENTRY_HEADER_BYTES: usize = 12;
/// A state is written in pieces of this length, so that steps wait for no more of it at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// Where segment `number` of a journal is.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("segment-{number:010}"))
}

/// The segments in a directory, ascending.
pub(super) fn list(directory: &Path) -> Result<Vec<u64>, JournalError> {
    let io = JournalError::io(directory);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(&io)? {
        let name = entry.map_err(&io)?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("segment-"));
        numbers.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// What a segment begins with.
pub(super) fn preamble(header: &Header, number: u64) -> Vec<u8> {
    let owner = postcard::to_stdvec(&(number, header)).expect("encoding into memory cannot fail");
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&u32::try_from(owner.len()).expect("a header is short").to_le_bytes());
    bytes.extend_from_slice(&owner);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Makes a segment with these entries. It is there with all of them or not at all when the process stops, and
/// its `length` is then known.
pub(super) fn create(
    directory: &Path,
    header: &Header,
    number: u64,
    first: Option<&Entry>,
) -> io::Result<(File, u64)> {
    let (path, mut bytes) = (path(directory, number), preamble(header, number));
    if let Some(entry) = first {
        let at = bytes.len() as u64;
        encode(entry, number, at, &mut bytes)?;
    }
    let unfinished = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.create(true).append(true).mode(0o600).open(&unfinished)?;
    file.set_len(0)?;
    file.write_all(&bytes)?;
    fs::rename(&unfinished, &path)?;
    Ok((file, bytes.len() as u64))
}

/// Appends an entry, which begins at `position` of segment `number`, to a buffer.
pub(super) fn encode(entry: &Entry, number: u64, position: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; ENTRY_HEADER_BYTES]);
    let full = std::mem::take(buffer);
    *buffer = postcard::to_extend(entry, full).expect("encoding into memory cannot fail");
    let (header, content) = buffer[start..].split_at_mut(ENTRY_HEADER_BYTES);
    let length = u32::try_from(content.len()).map_err(io::Error::other)?.to_le_bytes();
    let (of_length, of_content) = checksums(number, position, length, content);
    header[..4].copy_from_slice(&length);
    header[4..8].copy_from_slice(&of_length.to_le_bytes());
    header[8..].copy_from_slice(&of_content.to_le_bytes());
    Ok(())
}

/// The checksum of an entry's length and the one of its content.
fn checksums(number: u64, position: u64, length: [u8; 4], content: &[u8]) -> (u32, u32) {
    let checksum = crate::runtime::store::checksum;
    (checksum(2 * number, position, &length), checksum(2 * number + 1, position, content))
}

/// How many pieces chunks are written in.
pub(super) fn count_pieces(chunks: &[Bytes]) -> u64 {
    chunks.iter().map(|chunk| chunk.len().div_ceil(PIECE_BYTES).max(1) as u64).sum()
}

/// What is still to be written of a state.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The last first.
    chunks: Vec<Bytes>,
    /// How much of the chunk to be written next is written.
    written: usize,
}

impl Pieces {
    pub(super) fn of(mut chunks: Vec<Bytes>) -> Self {
        chunks.reverse();
        Pieces { chunks, written: 0 }
    }
}

impl Iterator for Pieces {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let chunk = self.chunks.last()?;
        let end = chunk.len().min(self.written + PIECE_BYTES);
        let bytes = Bytes::from(&chunk[self.written..end]);
        let last = end == chunk.len();
        self.written = if last { 0 } else { end };
        if last {
            self.chunks.pop();
        }
        Some(Entry::Piece { bytes, last })
    }
}

/// A state being put together from its pieces.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) left: u64,
    chunks: Vec<Bytes>,
    open: Vec<u8>,
}

impl Assembly {
    pub(super) fn of(pieces: u64) -> Self {
        Assembly { left: pieces, chunks: Vec::new(), open: Vec::new() }
    }

    /// Adds the next piece.
    pub(super) fn add(&mut self, bytes: &[u8], last: bool) {
        self.left = self.left.saturating_sub(1);
        self.open.extend_from_slice(bytes);
        if last {
            self.chunks.push(Bytes::from(std::mem::take(&mut self.open)));
        }
    }

    /// The chunks, if none ends in the middle.
    pub(super) fn chunks(self) -> Option<Vec<Bytes>> {
        (self.left == 0 && self.open.is_empty()).then_some(self.chunks)
    }
}

/// A segment being read.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) number: u64,
    pub(super) header: Header,
    input: BufReader<File>,
    /// Where the first entry begins.
    begins_at: u64,
    /// Where the next entry begins: at the end, the bytes of all that are complete.
    pub(super) position: u64,
    /// The bytes of an entry that the file ends in, once its end is reached.
    pub(super) incomplete: u64,
}

/// Why there is no segment to read.
#[derive(Debug)]
pub(super) enum Unopened {
    /// The file ends within its header.
    Torn,
    Because(JournalError),
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

impl Segment {
    pub(super) fn open(path: &Path) -> Result<Self, Unopened> {
        let io = |error| Unopened::Because(JournalError::io(path)(error));
        let not_one = || Unopened::Because(JournalError::NotAJournal(path.to_path_buf()));
        let mut input = BufReader::with_capacity(1 << 18, File::open(path).map_err(io)?);
        let mut beginning = vec![0; MAGIC.len() + 4];
        let have = fill(&mut input, &mut beginning).map_err(io)?;
        if !beginning[..have.min(MAGIC.len())].iter().eq(&MAGIC[..have.min(MAGIC.len())]) {
            return Err(not_one());
        }
        if have < beginning.len() {
            return Err(Unopened::Torn);
        }
        let length = word(&beginning[MAGIC.len()..]) as usize;
        // An identity is a few dozen bytes.
        if length > 1024 {
            return Err(not_one());
        }
        let mut owner = vec![0; length + 4];
        if fill(&mut input, &mut owner).map_err(io)? < owner.len() {
            return Err(Unopened::Torn);
        }
        let (number, header): (u64, Header) =
            postcard::from_bytes(&owner[..length]).map_err(|_| not_one())?;
        let bytes = preamble(&header, number);
        if bytes[MAGIC.len() + 4..] != owner {
            return Err(not_one());
        }
        let position = bytes.len() as u64;
        Ok(Segment {
            path: path.to_path_buf(),
            number,
            header,
            input,
            begins_at: position,
            position,
            incomplete: 0,
        })
    }

    pub(super) fn is_at_its_beginning(&self) -> bool {
        self.begins_at == self.position
    }

    pub(super) fn damaged(&self, what: &'static str) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), at: self.position, what }
    }

    /// The next entry as it was written; none at the end, or where the file ends within an entry.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, JournalError> {
        let io = JournalError::io(&self.path);
        let mut header = [0; ENTRY_HEADER_BYTES];
        let have = fill(&mut self.input, &mut header).map_err(&io)?;
        if have < header.len() {
            self.incomplete = have as u64;
            return Ok(None);
        }
        let length: [u8; 4] = header[..4].try_into().expect("four bytes");
        if checksums(self.number, self.position, length, &[]).0 != word(&header[4..8]) {
            return Err(self.damaged("the length of an entry is not as it was written"));
        }
        let mut content = vec![0; word(&length) as usize];
        let have = fill(&mut self.input, &mut content).map_err(&io)?;
        if have < content.len() {
            self.incomplete = (header.len() + have) as u64;
            return Ok(None);
        }
        if checksums(self.number, self.position, length, &content).1 != word(&header[8..]) {
            return Err(self.damaged("an entry is not as it was written"));
        }
        let entry = postcard::from_bytes(&content).map_err(|_| self.damaged("there is no known entry"))?;
        self.position += (header.len() + content.len()) as u64;
        Ok(Some(entry))
    }
}
