//! Reading a journal, entry by entry, from one segment to the next.

use super::segment::{self, Assembly, Segment, Unopened};
use super::{Entry, Head, Header, Input, JournalError, Middle, Note, Start};
use crate::crypto::Crypto;
use crate::replica::blocks::Tree;
use crate::replica::{Durable, Snapshot};
use crate::store::open;
use crate::types::{Digest, SeqNo};
use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A journal being read. Holds one entry at a time, and the state that a segment begins with until it is
/// compared.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    current: Segment,
    later: VecDeque<PathBuf>,
    /// The length of the segment before, if that has been read and none is missing in between.
    previous: Option<u64>,
    /// The segments missing before this one.
    missing: Option<RangeInclusive<u64>>,
    /// Whether what comes next does not follow from what was read.
    begins: bool,
    /// The state that this segment begins with, and the root it is to have.
    assembly: Option<(Assembly, Digest)>,
    /// A segment that had not begun when the machine stopped.
    torn: u64,
    skipped: u64,
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

/// Where a journal begins whose beginning is not here.
#[derive(Clone, Debug)]
pub struct Beginning<C: Crypto> {
    /// What its first segment says of what came before.
    pub head: Box<Head>,
    /// The durable state, in the middle of a life. None if a start is what comes next.
    pub state: Option<Box<Durable<C>>>,
    /// The segments that are missing after what was read before, if anything was.
    pub missing: Option<RangeInclusive<u64>>,
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
    /// The next segment begins, with this state; a durable one lacks its snapshot.
    GoesOn(Box<Head>, Option<Box<Durable<C>>>),
    /// What comes next does not follow from anything that was read.
    Begins(Beginning<C>),
}

impl Reader {
    /// Opens a journal, or one segment of it, and reads the first header.
    ///
    /// # Errors
    /// If it does not begin like a journal, or the machine fails.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let segments = if path.is_dir() { segment::list(path)? } else { Vec::new() };
        let mut later: VecDeque<PathBuf> = segments.iter().map(|&k| segment::path(path, k)).collect();
        let first = if path.is_dir() { later.pop_front() } else { Some(path.to_path_buf()) };
        let first = first.ok_or_else(|| JournalError::NotAJournal(path.to_path_buf()))?;
        let current = Segment::open(&first).map_err(|why| match why {
            Unopened::Torn => JournalError::NotAJournal(first.clone()),
            Unopened::Because(error) => error,
        })?;
        if segments.first().is_some_and(|&number| number != current.number) {
            return Err(current.damaged("it is another segment than its name says"));
        }
        Ok(Reader {
            path: path.to_path_buf(),
            begins: true,
            current,
            later,
            previous: None,
            missing: None,
            assembly: None,
            torn: 0,
            skipped: 0,
        })
    }

    /// Whose journal it is.
    pub fn header(&self) -> Header {
        self.current.header
    }

    /// The number of the segment being read; the first that there ever was is 0.
    pub fn segment(&self) -> u64 {
        self.current.number
    }

    /// The bytes of an entry that the journal ends in, once its end is reached.
    pub fn incomplete_bytes(&self) -> u64 {
        self.current.incomplete + self.torn
    }

    /// The steps that cannot be replayed, because the state before them is not here.
    pub fn skipped_steps(&self) -> u64 {
        self.skipped
    }

    /// The next entry as it was written; none at the end, or where the last segment ends within an entry.
    ///
    /// # Errors
    /// If an entry is not as it was written, or the machine fails.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, JournalError> {
        loop {
            let is_first = self.current.is_at_its_beginning() && self.current.number > 0;
            if let Some(entry) = self.current.next_entry()? {
                if is_first != matches!(entry, Entry::GoesOn(_)) {
                    return Err(self
                        .current
                        .damaged("a segment does not begin as it should before the entry"));
                }
                return Ok(Some(entry));
            }
            let Some(next) = self.later.pop_front() else { return Ok(None) };
            match Segment::open(&next) {
                Ok(next) => self.open_next(next)?,
                Err(Unopened::Torn) if self.later.is_empty() => {
                    self.torn = std::fs::metadata(&next).map_err(JournalError::io(&next))?.len();
                    return Ok(None);
                }
                Err(Unopened::Torn) => return Err(JournalError::NotAJournal(next)),
                Err(Unopened::Because(error)) => return Err(error),
            }
        }
    }

    fn open_next(&mut self, next: Segment) -> Result<(), JournalError> {
        let before = &self.current;
        if before.incomplete > 0 {
            return Err(before.damaged("it ends within an entry, though another segment follows,"));
        }
        if next.header != before.header {
            return Err(JournalError::Foreign(self.path.clone()));
        }
        if segment::path(&self.path, next.number) != next.path {
            return Err(next.damaged("it is another segment than its name says"));
        }
        let expected = before.number + 1;
        self.previous = (next.number == expected).then_some(before.position);
        if next.number != expected {
            (self.missing, self.begins) = (Some(expected..=next.number - 1), true);
        }
        self.assembly = None;
        self.current = next;
        Ok(())
    }

    /// What the journal says next, with states put together.
    ///
    /// # Errors
    /// If something is not as it was written, or the machine fails.
    pub fn next_recorded<C: Crypto>(&mut self) -> Result<Option<Recorded<C>>, JournalError> {
        while let Some(entry) = self.next_entry()? {
            match entry {
                Entry::GoesOn(head) => return self.goes_on(head).map(Some),
                Entry::Started { start, effects } => {
                    (self.begins, self.assembly) = (false, None);
                    return self.started(start, effects);
                }
                Entry::Piece { bytes, last } => self.add_piece::<C>(&bytes, last)?,
                Entry::Step { .. } if self.begins => self.skipped += 1,
                Entry::CarriedOut(_) if self.begins => {}
                Entry::Step { input, effects } => return Ok(Some(Recorded::Step(input, effects))),
                Entry::CarriedOut(steps) => return Ok(Some(Recorded::CarriedOut(steps))),
            }
        }
        Ok(None)
    }

    fn goes_on<C: Crypto>(&mut self, head: Box<Head>) -> Result<Recorded<C>, JournalError> {
        if self.previous.is_some_and(|bytes| bytes != head.previous_bytes) {
            return Err(self.current.damaged("the segment before is not as long as it was before the entry"));
        }
        let rest = match &head.state {
            Some(middle) => Some(Box::new(self.open_image(&middle.image)?)),
            None => None,
        };
        if !self.begins {
            let assembly = |middle: &Middle| (Assembly::of(middle.pieces), middle.root);
            self.assembly = head.state.as_ref().map(assembly);
            return Ok(Recorded::GoesOn(head, rest));
        }
        let (mut state, missing) = (None, self.missing.take());
        if let (Some(middle), Some(mut durable)) = (&head.state, rest)
            && let Some(tree) = self.look_ahead::<C>(middle)?
        {
            durable.snapshot = Arc::new(Snapshot { n: middle.n, tree });
            (state, self.begins) = (Some(durable), false);
        }
        Ok(Recorded::Begins(Beginning { head, state, missing }))
    }

    fn open_image<C: Crypto>(&self, image: &[u8]) -> Result<Durable<C>, JournalError> {
        let what = "the state is not one of this replica before the entry";
        open::<C>(&self.current.header.identity, image).map_err(|_| self.current.damaged(what))
    }

    /// The snapshot that this segment begins with, if all of it was written before the life ended.
    fn look_ahead<C: Crypto>(&self, middle: &Middle) -> Result<Option<Tree>, JournalError> {
        let mut ahead = match Segment::open(&self.current.path) {
            Ok(segment) => segment,
            Err(Unopened::Torn) => return Ok(None),
            Err(Unopened::Because(error)) => return Err(error),
        };
        let mut assembly = Assembly::of(middle.pieces);
        while assembly.left > 0 {
            match ahead.next_entry()? {
                Some(Entry::Piece { bytes, last }) => assembly.add(&bytes, last),
                Some(Entry::Started { .. }) | None => return Ok(None),
                Some(_) => {}
            }
        }
        let tree = assembly.chunks().map(|chunks| Tree::build::<C>(&chunks, None));
        let tree = tree.filter(|tree| tree.root() == middle.root);
        tree.map(Some).ok_or_else(|| ahead.damaged("a state does not have its digest before the entry"))
    }

    /// Compares the state that this segment begins with when all of it is here.
    fn add_piece<C: Crypto>(&mut self, bytes: &[u8], last: bool) -> Result<(), JournalError> {
        let Some((assembly, _)) = &mut self.assembly else { return Ok(()) };
        assembly.add(bytes, last);
        if assembly.left > 0 {
            return Ok(());
        }
        let Some((assembly, root)) = self.assembly.take() else { return Ok(()) };
        let found = assembly.chunks().map(|chunks| Tree::build::<C>(&chunks, None).root());
        let same = found == Some(root);
        let damaged = || self.current.damaged("a state does not have its digest before the entry");
        if same { Ok(()) } else { Err(damaged()) }
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
                Start::Stored { image, n, root, pieces } => (image, n, root, pieces),
            };
            let mut durable = self.open_image::<C>(&image)?;
            let mut assembly = Assembly::of(count);
            while assembly.left > 0 {
                match self.next_entry()? {
                    Some(Entry::Piece { bytes, last }) => assembly.add(&bytes, last),
                    // The process stopped before it had written all of the state, and so before its first
                    // step.
                    Some(Entry::Started { start: next, effects: its }) => {
                        (start, effects) = (next, its);
                        continue 'again;
                    }
                    Some(Entry::GoesOn(head)) => return self.goes_on(head).map(Some),
                    None => return Ok(None),
                    Some(_) => {
                        return Err(self.current.damaged("a piece of a state is missing before the entry"));
                    }
                }
            }
            if n > SeqNo(0) {
                let tree = assembly.chunks().map(|chunks| Tree::build::<C>(&chunks, None));
                let tree = tree.filter(|tree| tree.root() == root);
                let what = "a state does not have its digest before the entry";
                let tree = tree.ok_or_else(|| self.current.damaged(what))?;
                durable.snapshot = Arc::new(Snapshot { n, tree });
            }
            return Ok(Some(Recorded::Started(Life::Stored(Box::new(durable)), effects)));
        }
    }
}
