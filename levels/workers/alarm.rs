//! Whether to leave everything as it is, because somebody is gone.

use super::peers::Peers;
use std::sync::atomic::{AtomicBool, Ordering};

/// Looked at by all workers of a process while they wait for others.
pub(crate) struct Alarm<'a> {
    is_raised: AtomicBool,
    peers: Option<&'a Peers>,
}

/// Somebody is gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Alarmed;

impl<'a> Alarm<'a> {
    pub(crate) fn new(peers: Option<&'a Peers>) -> Self {
        Alarm { is_raised: AtomicBool::new(false), peers }
    }

    pub(crate) fn raise(&self) {
        self.is_raised.store(true, Ordering::Relaxed);
    }

    /// # Errors
    /// If a thread of this process has panicked, or another process is gone.
    pub(crate) fn look(&self) -> Result<(), Alarmed> {
        let is_gone = || self.peers.is_some_and(|peers| peers.gone().is_some());
        if self.is_raised.load(Ordering::Relaxed) || is_gone() { Err(Alarmed) } else { Ok(()) }
    }
}

/// Raises the alarm if the thread panics that holds it.
pub(crate) struct OnPanic<'a>(pub(crate) &'a Alarm<'a>);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.raise();
        }
    }
}
