//! A log in a file of its own: opened again when it is told to, or moved aside when it is long.
//!
//! Written here because the crates that rotate files by size neither open them again nor say when they cannot
//! be opened.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// When to begin another file.
#[derive(Clone, Copy)]
pub struct Rotation {
    /// When it would have more bytes than this.
    pub max_bytes: u64,
    /// How many old ones are kept: FILE.1, the newest of them, to FILE.N.
    pub keep: u32,
}

struct Current {
    file: File,
    length: u64,
}

/// The file. Each write is one entry of the log, and entries are never parted.
pub struct LogFile {
    path: PathBuf,
    rotation: Option<Rotation>,
    current: Mutex<Current>,
}

fn open(path: &Path) -> io::Result<Current> {
    let file = File::options().create(true).append(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    Ok(Current { file, length })
}

impl LogFile {
    /// Opens the file to append to it, or makes one that only its owner may read.
    pub fn open(path: &Path, rotation: Option<Rotation>) -> io::Result<Self> {
        Ok(LogFile { path: path.to_path_buf(), rotation, current: Mutex::new(open(path)?) })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what has this name now; if that fails, writing goes on where it was.
    pub fn reopen(&self) -> io::Result<()> {
        let opened = open(&self.path)?;
        *self.current() = opened;
        Ok(())
    }

    fn old(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate(&self, keep: u32) -> io::Result<Current> {
        for number in (1..keep).rev() {
            match fs::rename(self.old(number), self.old(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.old(1))?;
        open(&self.path)
    }
}

impl Write for &LogFile {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        let mut current = self.current();
        if let Some(Rotation { max_bytes, keep }) = self.rotation
            && current.length > 0
            && current.length + entry.len() as u64 > max_bytes
            && let Ok(next) = self.rotate(keep)
        {
            *current = next;
        }
        // Without another file the log goes on in this one: an entry lost tells nobody anything.
        current.file.write_all(entry)?;
        current.length += entry.len() as u64;
        Ok(entry.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_long_log_goes_on_in_another_file_and_only_so_many_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let log = LogFile::open(&path, Some(Rotation { max_bytes: 14, keep: 2 })).unwrap();
        for entry in ["first.\n", "second\n", "third.\n", "fourth\n", "fifth.\n", "longer than fourteen\n"] {
            (&log).write_all(entry.as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(read("log"), "longer than fourteen\n");
        assert_eq!(read("log.1"), "fourth\nfifth.\n");
        assert_eq!(read("log.2"), "second\nthird.\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_log_that_was_moved_away_is_begun_again_when_it_is_reopened() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("moved"));
        let log = LogFile::open(&path, None).unwrap();
        (&log).write_all(b"1\n").unwrap();
        fs::rename(&path, &moved).unwrap();
        (&log).write_all(b"2\n").unwrap();
        log.reopen().unwrap();
        (&log).write_all(b"3\n").unwrap();
        assert_eq!(fs::read_to_string(&moved).unwrap(), "1\n2\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "3\n");
        fs::remove_dir_all(directory.path()).unwrap();
        assert!(log.reopen().is_err());
        (&log).write_all(b"4\n").unwrap();
    }
}
