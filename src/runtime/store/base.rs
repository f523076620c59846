//! Bases: the whole durable state at one moment.
//!
//! A base is an image ([`crate::store`]) without the service's state, and then that state as chunks. The tree
//! over the chunks is made again when it is read, and its root must be the one the replica vouched for.

use super::{OpenError, modes};
use crate::crypto::Crypto;
use crate::replica::blocks::Tree;
use crate::replica::{Durable, Snapshot};
use crate::store::{Identity, StoreError, open, seal};
use crate::types::{Bytes, Digest, SeqNo};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The bytes of a base that are synced at a time: the log, which is synced meanwhile, must not wait for all
/// of it.
const PACE_BYTES: usize = 8 << 20;

/// The bases in a directory, ascending.
pub(super) fn list(directory: &Path) -> Result<Vec<u64>, OpenError> {
    numbered(directory, "base-")
}

/// Where the base before segment `segment` is.
pub(super) fn path(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("base-{segment:010}"))
}

/// The numbers of the files whose name is `prefix` and a number, ascending.
pub(super) fn numbered(directory: &Path, prefix: &str) -> Result<Vec<u64>, OpenError> {
    let io = OpenError::io(directory);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory).map_err(&io)? {
        let name = entry.map_err(&io)?.file_name();
        if let Some(digits) = name.to_str().and_then(|name| name.strip_prefix(prefix))
            && let Ok(number) = digits.parse()
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes what was created or renamed in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Writes a file under another name, makes it durable and gives it its name: it is whole or not there.
pub(super) fn replace_file(
    directory: &Path,
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = BufWriter::with_capacity(1 << 20, modes::creating().truncate(true).open(&unfinished)?);
    write(&mut file)?;
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_directory(directory)
}

/// Writes the base before `segment`.
pub(super) fn write<C: Crypto>(
    directory: &Path,
    identity: &Identity,
    segment: u64,
    durable: &Durable<C>,
) -> io::Result<()> {
    // The initial state is not written: it is that of the service.
    let initial = durable.snapshot.n == SeqNo(0);
    let snapshot = if initial { Arc::default() } else { durable.snapshot.clone() };
    let rest = Durable { snapshot: Arc::default(), ..durable.clone() };
    let image = seal(identity, &rest);
    replace_file(directory, &path(directory, segment), |file| {
        let (mut checksum, mut unsynced) = (0, 0);
        let mut put = |bytes: &[u8]| {
            checksum = crc32c::crc32c_append(checksum, bytes);
            file.write_all(bytes)?;
            unsynced += bytes.len();
            if unsynced > PACE_BYTES {
                unsynced = 0;
                file.flush()?;
                file.get_ref().sync_data()?;
            }
            Ok::<(), io::Error>(())
        };
        put(&(image.len() as u64).to_le_bytes())?;
        put(&image)?;
        put(&snapshot.n.0.to_le_bytes())?;
        put(&snapshot.tree.root().0)?;
        let chunks = snapshot.tree.chunks();
        put(&(chunks.len() as u64).to_le_bytes())?;
        for chunk in chunks {
            put(&(chunk.len() as u64).to_le_bytes())?;
            put(&chunk)?;
        }
        let end = checksum.to_le_bytes();
        file.write_all(&end)
    })
}

/// The durable state in a base.
pub(super) fn read<C: Crypto>(
    directory: &Path,
    identity: &Identity,
    segment: u64,
) -> Result<Durable<C>, OpenError> {
    let path = path(directory, segment);
    let damaged = |what: &str| OpenError::damaged(&path, what);
    let file = File::open(&path).map_err(OpenError::io(&path))?;
    let mut left = file.metadata().map_err(OpenError::io(&path))?.len();
    let mut input = BufReader::with_capacity(1 << 20, file);
    let mut checksum = 0;
    // Nothing is reserved for more bytes than the file has.
    let mut take = |count: u64| -> Result<(Vec<u8>, u32), OpenError> {
        left = left.checked_sub(count).ok_or_else(|| damaged("it ends too early"))?;
        let mut bytes = vec![0; usize::try_from(count).map_err(|_| damaged("it announces too much"))?];
        input.read_exact(&mut bytes).map_err(OpenError::io(&path))?;
        let before = checksum;
        checksum = crc32c::crc32c_append(checksum, &bytes);
        Ok((bytes, before))
    };
    let word =
        |(bytes, _): (Vec<u8>, u32)| u64::from_le_bytes(bytes.try_into().expect("eight bytes were read"));
    let length = word(take(8)?);
    let (image, _) = take(length)?;
    let mut durable = open::<C>(identity, &image).map_err(|error| match error {
        StoreError::Foreign => OpenError::Foreign(directory.to_path_buf()),
        StoreError::Damaged => damaged("the checksum of its image does not match"),
        StoreError::NotAStore => damaged("it holds no image that this version reads"),
    })?;
    let n = SeqNo(word(take(8)?));
    let root = Digest(take(32)?.0.try_into().expect("32 bytes were read"));
    let count = word(take(8)?);
    let mut chunks = Vec::new();
    for _ in 0..count {
        let length = word(take(8)?);
        chunks.push(Bytes::from(take(length)?.0));
    }
    let (end, expected) = take(4)?;
    if end != expected.to_le_bytes() {
        return Err(damaged("its checksum does not match its contents"));
    }
    if left > 0 {
        return Err(damaged("it goes on after its end"));
    }
    if n > SeqNo(0) {
        let tree = Tree::build::<C>(&chunks, None);
        if tree.root() != root {
            return Err(damaged("the state in it does not have the digest of its checkpoint"));
        }
        durable.snapshot = Arc::new(Snapshot { n, tree });
    }
    Ok(durable)
}
