//! How much memory is in use.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at the memory in use: to look takes some microseconds.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The bytes of memory that the process has resident, as they were at most two milliseconds ago; 0 where the
/// system does not tell.
pub fn resident() -> usize {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    static NEXT_LOOK: AtomicU64 = AtomicU64::new(0);
    static RESIDENT: AtomicUsize = AtomicUsize::new(0);
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let (now, due) = (micros(STARTED.elapsed()), NEXT_LOOK.load(Ordering::Relaxed));
    let next = now + micros(LOOK_EVERY);
    let mine =
        now >= due && NEXT_LOOK.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    if mine && let Some(memory) = memory_stats::memory_stats() {
        RESIDENT.store(memory.physical_mem, Ordering::Relaxed);
    }
    RESIDENT.load(Ordering::Relaxed)
}
