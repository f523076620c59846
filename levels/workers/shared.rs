//! What the workers of one process share.

use crate::search::Gate;
use crate::{Progress, Space};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The space, the limits, and how far the search is.
pub(crate) struct Shared<'a, S> {
    space: RwLock<&'a mut S>,
    pub(crate) is_layered: bool,
    pub(crate) gate: Gate,
    /// Workers in each process.
    pub(crate) here: usize,
    progress: Mutex<Option<Progress>>,
    /// One more than the last level committed.
    committed: AtomicUsize,
}

impl<'a, S: Space> Shared<'a, S> {
    pub(crate) fn new(space: &'a mut S, gate: Gate, here: usize) -> Self {
        Shared {
            is_layered: space.is_layered(),
            space: RwLock::new(space),
            gate,
            here,
            progress: Mutex::default(),
            committed: AtomicUsize::new(0),
        }
    }

    /// The space, as all workers read it.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, &'a mut S> {
        self.space.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The space, for the worker that learns.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, &'a mut S> {
        self.space.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this worker learns for its process: the first of each.
    pub(crate) fn leads(&self, worker: usize) -> bool {
        worker.is_multiple_of(self.here)
    }

    /// The workers that learn, of so many.
    pub(crate) fn leaders(&self, workers: usize) -> impl Iterator<Item = usize> {
        (0..workers).step_by(self.here)
    }

    /// How far it is, once for all workers.
    pub(crate) fn report(&self, progress: Progress) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = Some(progress);
    }

    /// How far it is, if that has changed.
    pub(crate) fn progress(&self) -> Option<Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A level has been committed.
    pub(crate) fn committed(&self, level: usize) {
        self.committed.store(level + 1, Ordering::Relaxed);
    }

    /// The last level that was committed, if one was.
    pub(crate) fn last_committed(&self) -> Option<usize> {
        self.committed.load(Ordering::Relaxed).checked_sub(1)
    }
}
