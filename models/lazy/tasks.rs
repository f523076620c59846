//! Work for several threads, in pieces that lead to more.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is left to do.
pub(super) struct Tasks<T> {
    left: Mutex<Left<T>>,
    changed: Condvar,
}

struct Left<T> {
    open: VecDeque<T>,
    /// How many are being worked on, and may lead to more.
    running: usize,
}

impl<T> Tasks<T> {
    pub(super) fn new(tasks: impl Iterator<Item = T>) -> Self {
        Tasks { left: Mutex::new(Left { open: tasks.collect(), running: 0 }), changed: Condvar::new() }
    }

    fn left(&self) -> MutexGuard<'_, Left<T>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one more, to be done after those that are there.
    pub(super) fn add(&self, task: T) {
        self.left().open.push_back(task);
        self.changed.notify_one();
    }

    /// Works on one after the other, until there are none and nobody works on any.
    pub(super) fn work(&self, work: impl Fn(T)) {
        while let Some(task) = self.next() {
            let _running = Running(self);
            work(task);
        }
    }

    fn next(&self) -> Option<T> {
        let mut left = self.left();
        loop {
            if let Some(task) = left.open.pop_front() {
                left.running += 1;
                return Some(task);
            }
            if left.running == 0 {
                return None;
            }
            left = self.changed.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// One of them is worked on: also when that panics, others do not wait for it.
struct Running<'a, T>(&'a Tasks<T>);

impl<T> Drop for Running<'_, T> {
    fn drop(&mut self) {
        self.0.left().running -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::Tasks;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Each number leads to those below it, by a tree: all are done, however many threads there are.
    #[test]
    fn all_is_done_that_tasks_lead_to() {
        for threads in 1..=4 {
            let tasks = Tasks::new([12_u32, 3].into_iter());
            let done = AtomicU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        tasks.work(|task| {
                            (0..task).for_each(|smaller| tasks.add(smaller));
                            done.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                }
            });
            assert_eq!(done.into_inner(), (1 << 12) + (1 << 3), "{threads} threads");
        }
    }

    /// A task that panics ends the scope; the other thread does what is left, and does not wait for ever.
    #[test]
    fn a_task_that_panics_keeps_nobody_waiting() {
        let tasks = Tasks::new(0..10_u32);
        let done = AtomicU32::new(0);
        let panicked = std::thread::scope(|scope| {
            let work = || {
                tasks.work(|task| {
                    assert!(task != 4, "the fourth");
                    done.fetch_add(1, Ordering::Relaxed);
                });
            };
            [scope.spawn(work), scope.spawn(work)].map(|thread| thread.join().is_err())
        });
        assert_eq!(panicked.iter().filter(|&&panicked| panicked).count(), 1);
        assert_eq!(done.into_inner(), 9);
    }
}
