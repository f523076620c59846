//! Explorations on disk: runs in files, level after level, and going on after a stop.
//!
//! A level that is complete is committed: its files and what has been learnt are synced, and then the manifest
//! takes the place of the one before. Whatever else is in the directory is of a level that was not complete,
//! and is removed or made again. Names are not stored: the states for which something had to be learnt are, in order,
//! and learning from them once more gives the same names.

use super::file::{Place, RunFile, RunWriter};
use super::key::Layout;
use super::piece::Piece;
use super::run::{Body, Run, Stored};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

const MANIFEST: &str = "manifest.json";
const LEARNT: &str = "learnt";
/// The form of these files.
const FORM: u32 = 3;

/// Where an exploration keeps its states.
#[derive(Clone, Debug)]
pub struct Directory {
    /// It is made if it is not there.
    pub path: PathBuf,
    /// What is explored, and by which program: another one does not go on with it. Only this and the first
    /// states are compared, so whatever the steps or the judgements depend on belongs here.
    pub identity: String,
    /// Whether to go on with what is there.
    pub resume: bool,
}

/// Why a directory cannot be used, in a sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DiskTrouble {
    /// The sentence.
    pub what: String,
    /// Whether there is no room left: everything up to the last level is there.
    pub is_full: bool,
}

impl std::fmt::Display for DiskTrouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for DiskTrouble {}

impl DiskTrouble {
    pub(crate) fn new(what: String) -> Self {
        DiskTrouble { what, is_full: false }
    }

    pub(crate) fn of(path: &Path, error: &io::Error) -> Self {
        let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        DiskTrouble { what: format!("{}: {error}", path.display()), is_full }
    }
}

/// The first trouble that there was.
#[derive(Debug, Default)]
pub(crate) struct Trouble(OnceLock<DiskTrouble>);

impl Trouble {
    /// What it was, if there was any.
    pub(crate) fn get(&self) -> Option<DiskTrouble> {
        self.0.get().cloned()
    }

    /// Notes it, unless there was some before.
    pub(crate) fn note(&self, trouble: DiskTrouble) {
        // Only the first is told: others follow from it.
        let _ = self.0.set(trouble);
    }
}

/// What has been committed.
#[derive(Default, Deserialize, Serialize)]
struct Manifest {
    form: u32,
    identity: String,
    levels: Vec<Vec<RunEntry>>,
    /// Bits of each word.
    bits: Vec<u8>,
    mark: Mark,
    /// That of the level before, if it can be gone on from there: where one worker has committed the last
    /// level and another has not.
    before: Option<Mark>,
}

/// How far an exploration was when a level was committed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct Mark {
    transitions: u64,
    /// Bytes of what has been learnt.
    learnt: u64,
    learnt_sum: u32,
}

#[derive(Deserialize, Serialize)]
struct RunEntry {
    file: String,
    bits: Vec<u8>,
    chunks: Vec<ChunkEntry>,
}

#[derive(Deserialize, Serialize)]
struct ChunkEntry {
    len: usize,
    first: Box<[u64]>,
    place: Place,
}

/// What an exploration that was stopped had come to.
pub(crate) struct Resumed {
    pub(crate) levels: Vec<Vec<Run>>,
    pub(crate) transitions: u64,
    pub(crate) layout: Layout,
    /// The states for which something was learnt, each after its distance from the start.
    pub(crate) learnt: Vec<u32>,
}

/// A directory in use.
pub(crate) struct Disk {
    path: PathBuf,
    identity: String,
    trouble: Arc<Trouble>,
    learnt: BufWriter<File>,
    /// How far it is, and was when the last level was committed.
    mark: Mark,
    committed: Mark,
    /// Runs written since the last level was committed.
    written: usize,
}

/// A directory that can be taken into use, by nobody else from now on.
pub(crate) struct Found {
    path: PathBuf,
    identity: String,
    manifest: Option<Manifest>,
    learnt: File,
}

/// The file of what has been learnt, locked as long as it is open. A process that is killed holds no lock.
fn locked(directory: &Path) -> Result<File, DiskTrouble> {
    let path = directory.join(LEARNT);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| DiskTrouble::of(&path, &error))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let shown = directory.display();
            Err(DiskTrouble::new(format!(
                "{shown} is in use: wait for its exploration, or name another directory"
            )))
        }
        Err(error) => Err(DiskTrouble::of(&path, &error.into())),
    }
}

impl Found {
    /// Looks into a directory, which is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be read, is in use, holds something else, or something that was not asked for.
    pub(crate) fn look(directory: &Directory) -> Result<Self, DiskTrouble> {
        let Directory { path, identity, resume } = directory;
        std::fs::create_dir_all(path).map_err(|error| DiskTrouble::of(path, &error))?;
        let learnt = locked(path)?;
        let manifest = read_manifest(path)?;
        let shown = path.display();
        match &manifest {
            Some(_) if !resume => Err(DiskTrouble::new(format!(
                "{shown} holds an exploration: resume it, or name another directory"
            ))),
            Some(manifest) if manifest.identity != *identity || manifest.form != FORM => {
                let other = &manifest.identity;
                Err(DiskTrouble::new(format!("{shown} holds an exploration of {other}, not of {identity}")))
            }
            _ => Ok(Found { path: path.clone(), identity: identity.clone(), manifest, learnt }),
        }
    }

    /// How many levels have been committed there.
    pub(crate) fn levels(&self) -> usize {
        self.manifest.as_ref().map_or(0, |manifest| manifest.levels.len())
    }

    /// Takes it into use at this many levels, which are all that were committed or one less; and what is to be
    /// gone on with, if something is.
    ///
    /// # Errors
    /// If it cannot be read or written, is damaged, or there are more levels than one too many.
    pub(crate) fn open(self, levels: usize) -> Result<(Disk, Option<Resumed>), DiskTrouble> {
        let Found { path, identity, mut manifest, learnt: file } = self;
        let is_ahead = manifest.as_ref().is_some_and(|manifest| manifest.levels.len() > levels);
        if let Some(manifest) = &mut manifest
            && manifest.levels.len() > levels
        {
            if manifest.levels.len() > levels + 1 || manifest.before.is_none() {
                let (shown, all) = (path.display(), manifest.levels.len());
                return Err(DiskTrouble::new(format!(
                    "{shown} is {all} levels far and another worker's directory {levels}: begin anew in another one"
                )));
            }
            manifest.levels.truncate(levels);
            manifest.mark = manifest.before.take().unwrap_or_default();
        }
        let mark = manifest.as_ref().map(|manifest| manifest.mark).unwrap_or_default();
        let trouble = Arc::new(Trouble::default());
        let learnt_path = path.join(LEARNT);
        let of = |error: io::Error| DiskTrouble::of(&learnt_path, &error);
        let mut bytes = Vec::new();
        (&file).take(mark.learnt).read_to_end(&mut bytes).map_err(of)?;
        if bytes.len() as u64 != mark.learnt || crc32c::crc32c(&bytes) != mark.learnt_sum {
            return Err(DiskTrouble::new(format!("{} is damaged", learnt_path.display())));
        }
        // What was learnt for a level that was not complete is learnt again.
        file.set_len(mark.learnt).map_err(of)?;
        io::Seek::seek(&mut &file, io::SeekFrom::End(0)).map_err(of)?;
        let learnt = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let learnt_to = BufWriter::new(file);
        let disk = Disk { path, identity, trouble, learnt: learnt_to, mark, committed: mark, written: 0 };
        if is_ahead && let Some(manifest) = &manifest {
            // Before anything of that level is made again.
            put_manifest(&disk.path, manifest).map_err(|error| DiskTrouble::of(&disk.path, &error))?;
        }
        let manifest = manifest.filter(|manifest| !manifest.levels.is_empty());
        let resumed = manifest.map(|manifest| disk.resumed(manifest, learnt));
        Ok((disk, resumed))
    }
}

/// Puts a manifest in the place of the one before.
fn put_manifest(directory: &Path, manifest: &Manifest) -> io::Result<()> {
    let fresh = directory.join("manifest.new");
    let mut file = File::create(&fresh)?;
    let bytes = serde_json::to_vec(manifest)?;
    writeln!(file, "{:08x}", crc32c::crc32c(&bytes))?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, directory.join(MANIFEST))?;
    File::open(directory)?.sync_all()
}

impl Disk {
    /// Takes a directory into use; and what is to be gone on with, if something is.
    ///
    /// # Errors
    /// If it cannot be read or written, holds something else, or something that was not asked for.
    pub(crate) fn open(directory: &Directory) -> Result<(Self, Option<Resumed>), DiskTrouble> {
        if let Some(workers) = workers_of(&directory.path)?.filter(|&workers| workers > 0) {
            let shown = directory.path.display();
            return Err(DiskTrouble::new(format!("{shown} holds an exploration by {workers} workers")));
        }
        let found = Found::look(directory)?;
        let levels = found.levels();
        found.open(levels)
    }

    fn resumed(&self, manifest: Manifest, learnt: Vec<u32>) -> Resumed {
        let mut levels = Vec::new();
        for level in manifest.levels {
            let runs = level.into_iter().map(|entry| self.run(entry));
            levels.push(runs.collect());
        }
        let (transitions, layout) = (manifest.mark.transitions, Layout { bits: manifest.bits });
        Resumed { levels, transitions, layout, learnt }
    }

    fn run(&self, entry: RunEntry) -> Run {
        let file = RunFile::new(self.path.join(&entry.file), self.trouble.clone());
        let stored = |entry: ChunkEntry| {
            let body = Body::Disk(file.clone(), entry.place);
            Stored { len: entry.len, first: entry.first, body }
        };
        let chunks = entry.chunks.into_iter().map(stored).collect();
        Run { layout: Layout { bits: entry.bits }, chunks }
    }

    /// Looks whether what is gone on with begins as the space does.
    ///
    /// # Errors
    /// If it does not, so that it is another space of the same identity, or if it cannot be read.
    pub(crate) fn compare<'a>(
        &self,
        resumed: &Resumed,
        width: usize,
        initial: impl Iterator<Item = &'a Vec<u32>>,
    ) -> Result<(), DiskTrouble> {
        let is_as_wide = resumed.layout.bits.len() == width;
        let mut begins_with = BTreeSet::new();
        if is_as_wide {
            let mut add = |state: &[u32]| {
                begins_with.insert(state.to_vec());
            };
            resumed.levels[0].iter().flat_map(Piece::of_run).for_each(|piece| piece.each(width, &mut add));
        }
        if let Some(trouble) = self.trouble() {
            return Err(trouble);
        }
        if is_as_wide && begins_with.iter().eq(initial.collect::<BTreeSet<_>>()) {
            return Ok(());
        }
        let (shown, identity) = (self.path.display(), &self.identity);
        Err(DiskTrouble::new(format!(
            "{shown} holds another exploration that is also called {identity}: its first states are others"
        )))
    }

    /// The first trouble, if there was any.
    pub(crate) fn trouble(&self) -> Option<DiskTrouble> {
        self.trouble.get()
    }

    /// Writes a run of level `level` to a file, from which it is read from now on. If it cannot be, that is
    /// noted, and it stays in memory.
    pub(crate) fn write(&mut self, level: usize, run: &mut Run) {
        let Some(mut writer) = self.begin(level) else { return };
        run.chunks.iter_mut().for_each(|chunk| writer.push(chunk));
        writer.finish();
    }

    /// Begins to write a run of level `level` to a file. None if it cannot be, which is noted.
    pub(crate) fn begin(&mut self, level: usize) -> Option<RunWriter> {
        let path = self.path.join(format!("level-{level:05}-{:03}", self.written));
        self.written += 1;
        RunWriter::create(path, self.trouble.clone())
    }

    /// Remembers a state for which something is learnt.
    pub(crate) fn learn(&mut self, depth: usize, state: &[u32]) {
        let depth = u32::try_from(depth).expect("fewer than 2^32 levels are explored");
        let words = std::iter::once(&depth).chain(state).flat_map(|word| word.to_le_bytes());
        let bytes: Vec<u8> = words.collect();
        self.mark.learnt += bytes.len() as u64;
        self.mark.learnt_sum = crc32c::crc32c_append(self.mark.learnt_sum, &bytes);
        if let Err(error) = self.learnt.write_all(&bytes) {
            self.trouble.note(DiskTrouble::of(&self.path.join(LEARNT), &error));
        }
    }

    /// Commits these levels. If that cannot be done it is noted, and the ones before stay.
    pub(crate) fn commit(&mut self, levels: &[Vec<Run>], transitions: u64, layout: &Layout) {
        if self.trouble.get().is_some() {
            return;
        }
        self.written = 0;
        self.mark.transitions = transitions;
        let levels = levels.iter().map(|level| level.iter().map(entry).collect()).collect();
        let manifest = Manifest {
            form: FORM,
            identity: self.identity.clone(),
            levels,
            bits: layout.bits.clone(),
            mark: self.mark,
            before: Some(self.committed),
        };
        self.committed = self.mark;
        if let Err(error) = self.try_commit(&manifest) {
            self.trouble.note(DiskTrouble::of(&self.path, &error));
        }
    }

    fn try_commit(&mut self, manifest: &Manifest) -> io::Result<()> {
        self.learnt.flush()?;
        self.learnt.get_ref().sync_data()?;
        put_manifest(&self.path, manifest)?;
        self.remove_others(manifest)
    }

    /// Removes runs that are part of no level: several were made one, or a level was not complete.
    fn remove_others(&self, manifest: &Manifest) -> io::Result<()> {
        let runs: BTreeSet<&str> = manifest.levels.iter().flatten().map(|run| run.file.as_str()).collect();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_other =
                name.to_str().is_some_and(|name| name.starts_with("level-") && !runs.contains(name));
            if is_other && entry.file_type()?.is_file() {
                std::fs::remove_file(self.path.join(&name))?;
            }
        }
        Ok(())
    }
}

/// By how many workers the exploration in a directory is, if there is one: none if by one search.
pub(crate) fn workers_of(path: &Path) -> Result<Option<usize>, DiskTrouble> {
    let of = |error: io::Error| DiskTrouble::of(path, &error);
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.map_err(of)?,
    };
    let mut found = None;
    for entry in entries {
        let name = entry.map_err(of)?.file_name();
        let name = name.to_str().unwrap_or_default();
        let workers = name.strip_prefix("worker-").and_then(|name| name.split_once("-of-"));
        let workers = workers.and_then(|(_, workers)| workers.parse().ok());
        found = found.or(workers).or((name == MANIFEST).then_some(0));
    }
    Ok(found)
}

fn entry(run: &Run) -> RunEntry {
    let mut file = String::new();
    let chunks = run.chunks.iter().filter_map(|chunk| {
        let Body::Disk(of, place) = &chunk.body else { return None };
        file = of.name()?.to_owned();
        Some(ChunkEntry { len: chunk.len, first: chunk.first.clone(), place: *place })
    });
    let chunks = chunks.collect();
    RunEntry { file, bits: run.layout.bits.clone(), chunks }
}

fn read_manifest(directory: &Path) -> Result<Option<Manifest>, DiskTrouble> {
    let path = directory.join(MANIFEST);
    let bytes = match std::fs::read(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskTrouble::of(&path, &error)),
        Ok(bytes) => bytes,
    };
    // Its check sum comes first, on a line of its own.
    let read = || -> Option<Manifest> {
        let (sum, bytes) = bytes.split_at_checked(SUM)?;
        (sum == format!("{:08x}\n", crc32c::crc32c(bytes)).as_bytes()).then_some(())?;
        serde_json::from_slice(bytes).ok()
    };
    let damaged = || DiskTrouble::new(format!("{} is damaged, or of another version", path.display()));
    read().map(Some).ok_or_else(damaged)
}

/// The bytes of a check sum and the end of its line.
const SUM: usize = 9;
