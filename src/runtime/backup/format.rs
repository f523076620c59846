//! Files of state: written whole or not at all, and read within the bounds of their length.

use super::{Backup, BackupError, Origin};
use crate::certificate::StableCertificate;
use crate::crypto::Evidence;
use crate::crypto::ed25519::Signature;
use crate::types::{Bytes, Cluster, Digest, ReplicaId, SeqNo};
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What a file begins with, and what it is called.
pub(super) type Kind = (&'static [u8; 8], &'static str);

pub(super) const BACKUP: Kind = (b"PBFT-BK1", "backup");
pub(super) const GENESIS: Kind = (b"PBFT-GN1", "genesis state");

const CHECKSUM_BYTES: u64 = 32;

/// A file being written.
pub(super) struct Output {
    file: BufWriter<File>,
    checksum: Sha256,
}

impl Output {
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.file.write_all(bytes)
    }

    /// The number of chunks, and each with its length.
    pub(super) fn put_chunks(&mut self, chunks: &[Bytes]) -> io::Result<()> {
        self.put(&(chunks.len() as u64).to_le_bytes())?;
        for chunk in chunks {
            self.put(&(chunk.len() as u64).to_le_bytes())?;
            self.put(chunk)?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        let checksum: [u8; 32] = self.checksum.finalize().into();
        self.file.write_all(&checksum)?;
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

/// Writes a file under another name, makes it durable and gives it its name, unless there is one.
pub(super) fn create(
    path: &Path,
    write: impl FnOnce(&mut Output) -> io::Result<()>,
) -> Result<(), BackupError> {
    if path.symlink_metadata().is_ok() {
        return Err(BackupError::Exists);
    }
    let unfinished = beside(path);
    let outcome = write_whole(&unfinished, write).and_then(|()| give_name(&unfinished, path));
    // If it has its name, that was a second one.
    let _ = fs::remove_file(&unfinished);
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(BackupError::Exists),
        outcome => Ok(outcome?),
    }
}

/// A name that nothing else uses, in the same directory.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn write_whole(path: &Path, write: impl FnOnce(&mut Output) -> io::Result<()>) -> io::Result<()> {
    // What a killed process of the same number left.
    let _ = fs::remove_file(path);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut output = Output { file: BufWriter::with_capacity(1 << 20, file), checksum: Sha256::new() };
    write(&mut output)?;
    output.finish()
}

/// A link fails if the name is taken, which a renaming does not; some file systems have no links.
fn give_name(unfinished: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(unfinished, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) => fs::rename(unfinished, path)?,
        Ok(()) => {}
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Everything of a backup but its checksum.
pub(super) fn put_backup(output: &mut Output, backup: &Backup) -> io::Result<()> {
    let Backup { origin, certificate, chunks } = backup;
    let short = |number: usize| u16::try_from(number).map(u16::to_le_bytes).map_err(io::Error::other);
    output.put(BACKUP.0)?;
    output.put(&origin.domain.0)?;
    output.put(&short(origin.cluster.n())?)?;
    output.put(&short(origin.cluster.f())?)?;
    origin.keys.iter().try_for_each(|key| output.put(key))?;
    output.put(&certificate.n.0.to_le_bytes())?;
    output.put(&certificate.digest.0)?;
    let votes = &certificate.proof.votes;
    output.put(&short(votes.len())?)?;
    for (replica, signature) in votes {
        output.put(&replica.0.to_le_bytes())?;
        output.put(&signature.0)?;
    }
    output.put_chunks(chunks)
}

/// A file being read. Nothing is reserved for more bytes than are left of it.
pub(super) struct Input {
    file: BufReader<File>,
    /// The bytes before the checksum that have not been read.
    left: u64,
    checksum: Sha256,
}

impl Input {
    /// Opens a file that begins as it should.
    pub(super) fn open(path: &Path, (magic, name): Kind) -> Result<Self, BackupError> {
        let file = File::open(path)?;
        let unknown = || BackupError::Unknown(name);
        let length = file.metadata()?.len();
        let left = length.checked_sub(CHECKSUM_BYTES).ok_or_else(unknown)?;
        let mut input =
            Input { file: BufReader::with_capacity(1 << 20, file), left, checksum: Sha256::new() };
        if left < magic.len() as u64 || input.bytes::<8>()? != *magic {
            return Err(unknown());
        }
        Ok(input)
    }

    fn take(&mut self, count: u64) -> Result<Vec<u8>, BackupError> {
        self.left = self.left.checked_sub(count).ok_or(BackupError::Damaged("it ends too early"))?;
        let count = usize::try_from(count).map_err(|_| BackupError::Damaged("it announces too much"))?;
        let mut bytes = vec![0; count];
        self.file.read_exact(&mut bytes)?;
        self.checksum.update(&bytes);
        Ok(bytes)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        Ok(self.take(N as u64)?.try_into().expect("as many bytes were read"))
    }

    fn short(&mut self) -> Result<u16, BackupError> {
        self.bytes().map(u16::from_le_bytes)
    }

    fn word(&mut self) -> Result<u64, BackupError> {
        self.bytes().map(u64::from_le_bytes)
    }

    pub(super) fn chunks(&mut self) -> Result<Vec<Bytes>, BackupError> {
        let count = self.word()?;
        let mut chunks = Vec::new();
        for _ in 0..count {
            let length = self.word()?;
            chunks.push(Bytes::from(self.take(length)?));
        }
        Ok(chunks)
    }

    /// Checks that this was all of it, and as it was written.
    pub(super) fn finish(mut self) -> Result<(), BackupError> {
        if self.left > 0 {
            return Err(BackupError::Damaged("it goes on after its end"));
        }
        let mut expected = [0; CHECKSUM_BYTES as usize];
        self.file.read_exact(&mut expected)?;
        let found: [u8; 32] = self.checksum.finalize().into();
        if found != expected {
            return Err(BackupError::Damaged("its checksum does not match its contents"));
        }
        Ok(())
    }

    /// Everything of a backup after the magic.
    pub(super) fn backup(mut self) -> Result<Backup, BackupError> {
        let domain = Digest(self.bytes()?);
        let (n, f) = (self.short()?, self.short()?);
        let cluster = Cluster::new(n, f);
        let mut keys = Vec::new();
        for _ in 0..n {
            keys.push(self.bytes()?);
        }
        let (number, digest) = (SeqNo(self.word()?), Digest(self.bytes()?));
        let mut votes = Vec::new();
        for _ in 0..self.short()? {
            votes.push((ReplicaId(self.short()?), Signature(self.bytes()?)));
        }
        let chunks = self.chunks()?;
        self.finish()?;
        let proof = Evidence { proposal: None, votes };
        let certificate = StableCertificate { n: number, digest, proof };
        Ok(Backup { origin: Origin { domain, cluster, keys }, certificate, chunks })
    }
}
