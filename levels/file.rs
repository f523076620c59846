//! Runs in files: chunks one after the other, each with a check sum.

use super::disk::{DiskTrouble, Trouble};
use super::run::{Body, Chunk, Stored};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A file of chunks. It is open only while it is read: there can be more levels than files may be open.
#[derive(Debug)]
pub(crate) struct RunFile {
    path: PathBuf,
    trouble: Arc<Trouble>,
}

/// Where in a file a chunk is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Place {
    offset: u64,
    pub(crate) bytes: usize,
}

impl RunFile {
    pub(crate) fn new(path: PathBuf, trouble: Arc<Trouble>) -> Arc<Self> {
        Arc::new(RunFile { path, trouble })
    }

    /// Its name in its directory.
    pub(crate) fn name(&self) -> Option<&str> {
        self.path.file_name()?.to_str()
    }

    /// The chunk there. None if it cannot be read, which is noted.
    pub(crate) fn read(&self, place: Place) -> Option<Chunk> {
        let mut bytes = vec![0; place.bytes];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut bytes, place.offset));
        let chunk = match read {
            Ok(()) => Chunk::read(&bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
            Err(error) => {
                self.trouble.note(DiskTrouble::of(&self.path, &error));
                return None;
            }
        };
        if chunk.is_none() {
            self.trouble.note(DiskTrouble::new(format!("{} is damaged", self.path.display())));
        }
        chunk
    }
}

/// A run that is being written.
pub(crate) struct RunWriter {
    file: Arc<RunFile>,
    to: BufWriter<File>,
    bytes: Vec<u8>,
    offset: u64,
}

impl RunWriter {
    /// Makes the file. None if it cannot be made, which is noted.
    pub(crate) fn create(path: PathBuf, trouble: Arc<Trouble>) -> Option<Self> {
        match File::create(&path) {
            Ok(to) => {
                let (file, to) = (RunFile::new(path, trouble), BufWriter::new(to));
                Some(RunWriter { file, to, bytes: Vec::new(), offset: 0 })
            }
            Err(error) => {
                trouble.note(DiskTrouble::of(&path, &error));
                None
            }
        }
    }

    /// Writes a chunk, which is read from the file from now on: what cannot be written is noted, and read by
    /// nobody.
    pub(crate) fn push(&mut self, stored: &mut Stored) {
        let Some(chunk) = stored.open() else { return };
        self.bytes.clear();
        chunk.write(&mut self.bytes);
        match self.to.write_all(&self.bytes) {
            Ok(()) => {
                let place = Place { offset: self.offset, bytes: self.bytes.len() };
                self.offset += self.bytes.len() as u64;
                stored.body = Body::Disk(self.file.clone(), place);
            }
            Err(error) => self.file.trouble.note(DiskTrouble::of(&self.file.path, &error)),
        }
    }

    /// All of it is written, and synced.
    pub(crate) fn finish(mut self) {
        if let Err(error) = self.to.flush().and_then(|()| self.to.get_ref().sync_data()) {
            self.file.trouble.note(DiskTrouble::of(&self.file.path, &error));
        }
    }
}
