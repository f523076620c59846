//! Segments of the log, and the note of how much of it is promised.

use super::OpenError;
use super::base::{numbered, replace_file, sync_directory};
use crate::crypto::Crypto;
use crate::replica::Record;
use crate::store::Identity;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The name of the file that says how much of the log is durable.
pub(super) const PROMISED: &str = "promised";
const MAGIC: &[u8; 8] = b"PBFT-LG1";
/// Length and checksum before each record.
const HEADER_BYTES: usize = 8;
/// The longest record: a PRE-PREPARE with its batch or a NEW-VIEW, which are messages too.
const MAX_RECORD_BYTES: usize = 2 * crate::parameters::MAX_MESSAGE_BYTES;

/// The segments in a directory, ascending.
pub(super) fn list(directory: &Path) -> Result<Vec<u64>, OpenError> {
    numbered(directory, "log-")
}

/// Where segment `segment` is.
pub(super) fn path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("log-{segment:010}"))
}

/// What a segment begins with: whose it is and which.
fn preamble(identity: &Identity, segment: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&segment.to_le_bytes());
    let owner = postcard::to_stdvec(identity).expect("encoding into memory cannot fail");
    bytes.extend_from_slice(&u32::try_from(owner.len()).expect("an identity is short").to_le_bytes());
    bytes.extend_from_slice(&owner);
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The checksum of a record: its place is part of it, so that none can stand elsewhere.
pub(in crate::runtime) fn checksum(segment: u64, position: u64, content: &[u8]) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&segment.to_le_bytes());
    place[8..].copy_from_slice(&position.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&place), content)
}

/// The segment being appended to.
pub(super) struct Log {
    file: File,
    pub(super) segment: u64,
    pub(super) length: u64,
    buffer: Vec<u8>,
}

impl Log {
    /// A new segment, empty and durable.
    pub(super) fn create(directory: &Path, identity: &Identity, segment: u64) -> io::Result<Log> {
        replace_file(directory, &path(directory, segment), |file| {
            file.write_all(&preamble(identity, segment))
        })?;
        Log::resume(directory, segment)
    }

    /// An existing segment, to be appended to.
    pub(super) fn resume(directory: &Path, segment: u64) -> io::Result<Log> {
        let file = OpenOptions::new().append(true).open(path(directory, segment))?;
        let length = file.metadata()?.len();
        Ok(Log { file, segment, length, buffer: Vec::new() })
    }

    /// Appends the records with one write; false if there was nothing to append.
    pub(super) fn append<C: Crypto>(&mut self, records: &[Record<C>]) -> io::Result<bool> {
        self.buffer.clear();
        for record in records.iter().filter(|record| !matches!(record, Record::Snapshot(_))) {
            let start = self.buffer.len();
            self.buffer.extend_from_slice(&[0; HEADER_BYTES]);
            let buffer = std::mem::take(&mut self.buffer);
            self.buffer = postcard::to_extend(record, buffer).expect("encoding into memory cannot fail");
            let position = self.length + start as u64;
            let (header, content) = self.buffer[start..].split_at_mut(HEADER_BYTES);
            let length = u32::try_from(content.len()).map_err(io::Error::other)?;
            header[..4].copy_from_slice(&length.to_le_bytes());
            header[4..].copy_from_slice(&checksum(self.segment, position, content).to_le_bytes());
        }
        self.file.write_all(&self.buffer)?;
        self.length += self.buffer.len() as u64;
        Ok(!self.buffer.is_empty())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// What is to happen to a torn tail of the last segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum TornTail {
    /// It is cut off: whoever reads has the store to itself, and appends.
    Cut,
    /// It is left alone: whoever has the store may be writing it.
    Leave,
}

/// The records of a segment. A torn tail of the last one is left out, if none of it is promised.
pub(super) fn read<C: Crypto>(
    directory: &Path,
    identity: &Identity,
    segment: u64,
    is_last: bool,
    promise: (u64, u64),
    torn: TornTail,
) -> Result<Vec<Record<C>>, OpenError> {
    let path = path(directory, segment);
    let bytes = fs::read(&path).map_err(OpenError::io(&path))?;
    let preamble = preamble(identity, segment);
    if !bytes.starts_with(&preamble) {
        return Err(OpenError::damaged(&path, "it does not begin like a segment of this replica's log"));
    }
    let mut records = Vec::new();
    let mut at = preamble.len();
    while at < bytes.len() {
        match record_at(&bytes, segment, at) {
            Ok((record, next)) => {
                records.push(record);
                at = next;
            }
            Err(Unreadable::Torn) if is_last => break,
            Err(_) => {
                return Err(OpenError::damaged(
                    &path,
                    format!("the record at byte {at} is not as it was written"),
                ));
            }
        }
    }
    let promised = if promise.0 == segment { promise.1 } else { 0 };
    let must_be_whole = segment < promise.0;
    if (at as u64) < promised || (must_be_whole && at < bytes.len()) {
        return Err(OpenError::damaged(&path, format!("it ends at byte {at}, before what was made durable")));
    }
    if at < bytes.len() && torn == TornTail::Cut {
        let file = OpenOptions::new().write(true).open(&path).map_err(OpenError::io(&path))?;
        file.set_len(at as u64).and_then(|()| file.sync_all()).map_err(OpenError::io(&path))?;
        tracing::warn!(path = %path.display(), at, dropped = bytes.len() - at, "cut off a group that was being written");
    }
    Ok(records)
}

enum Unreadable {
    /// The file ends within the record, or from here on it is zeros: the write did not finish.
    Torn,
    /// It is there, and not what was written.
    Damaged,
}

fn record_at<C: Crypto>(bytes: &[u8], segment: u64, at: usize) -> Result<(Record<C>, usize), Unreadable> {
    let rest = &bytes[at..];
    let Some((header, rest)) = rest.split_at_checked(HEADER_BYTES) else { return Err(Unreadable::Torn) };
    if header == [0; HEADER_BYTES] {
        let zeros = rest.iter().all(|&byte| byte == 0);
        return Err(if zeros { Unreadable::Torn } else { Unreadable::Damaged });
    }
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    let (length, expected) = (word(&header[..4]) as usize, word(&header[4..]));
    if length > MAX_RECORD_BYTES {
        return Err(Unreadable::Damaged);
    }
    let content = rest.get(..length).ok_or(Unreadable::Torn)?;
    if checksum(segment, at as u64, content) != expected {
        return Err(Unreadable::Damaged);
    }
    let record = postcard::from_bytes(content).map_err(|_| Unreadable::Damaged)?;
    Ok((record, at + HEADER_BYTES + length))
}

/// Up to where the log was durable when something that relies on it may have left.
pub(super) struct Promise {
    file: File,
    pub(super) segment: u64,
    pub(super) length: u64,
}

impl Promise {
    pub(super) fn create(directory: &Path) -> io::Result<()> {
        replace_file(directory, &directory.join(PROMISED), |file| file.write_all(&Self::encode(0, 0)))?;
        sync_directory(directory)
    }

    pub(super) fn open(directory: &Path) -> Result<Self, OpenError> {
        let (segment, length) = Self::read(directory)?;
        let path = directory.join(PROMISED);
        let file = OpenOptions::new().write(true).open(&path).map_err(OpenError::io(&path))?;
        Ok(Promise { file, segment, length })
    }

    /// The segment, and the length of it.
    pub(super) fn read(directory: &Path) -> Result<(u64, u64), OpenError> {
        let path = directory.join(PROMISED);
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => OpenError::damaged(&path, "the file is missing"),
            _ => OpenError::Io { path: path.clone(), error },
        };
        let bytes = fs::read(&path).map_err(missing)?;
        let word = |range| bytes.get(range).and_then(|b: &[u8]| b.try_into().ok()).map(u64::from_le_bytes);
        let (segment, length) = (word(0..8).unwrap_or_default(), word(8..16).unwrap_or_default());
        if bytes != Self::encode(segment, length) {
            return Err(OpenError::damaged(&path, "its checksum does not match its contents"));
        }
        Ok((segment, length))
    }

    fn encode(segment: u64, length: u64) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&segment.to_le_bytes());
        bytes[8..16].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..16]);
        bytes[16..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn set(&mut self, segment: u64, length: u64) -> io::Result<()> {
        (self.segment, self.length) = (segment, length);
        self.file.write_all_at(&Self::encode(segment, length), 0)
    }
}
