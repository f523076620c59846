//! What the processes of replicas have in common: their log, and when they are to stop.

use crate::output::interrupted;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Logs to standard error, as text or as one JSON object a line.
pub fn start_log(level: &str, json: bool) {
    let level = level.parse().unwrap_or(tracing::Level::INFO);
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    if json { log.json().init() } else { log.with_ansi(false).init() }
}

/// Whether to stop, each time it is asked: after Ctrl-C or SIGTERM, or, with `with_parent`, once standard input has
/// ended.
pub fn told_to_stop(with_parent: bool) -> impl Fn() -> bool {
    let orphaned = Arc::new(AtomicBool::new(false));
    if with_parent {
        let orphaned = orphaned.clone();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            orphaned.store(true, Relaxed);
        });
    }
    move || interrupted() || orphaned.load(Relaxed)
}
