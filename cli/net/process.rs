//! What the processes of replicas have in common: their log, and when they are to stop.

use crate::output::interrupted;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The options that they share.
#[derive(clap::Args)]
pub struct ProcessArguments {
    /// How much to tell on standard error.
    #[arg(long, default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log: String,
    /// Write the log as JSON, one object a line.
    #[arg(long)]
    log_json: bool,
    /// Stop when standard input ends: with the process that started this one.
    #[arg(long, hide = true)]
    stop_with_parent: bool,
}

impl ProcessArguments {
    /// Logs to standard error, as text or as one JSON object a line.
    pub fn start_log(&self) {
        let level = self.log.parse().unwrap_or(tracing::Level::INFO);
        let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
        if self.log_json { log.json().init() } else { log.with_ansi(false).init() }
    }

    /// Whether to stop, each time it is asked: after Ctrl-C or SIGTERM, or, if so asked for, once standard
    /// input has ended.
    pub fn told_to_stop(&self) -> impl Fn() -> bool + use<> {
        let orphaned = Arc::new(AtomicBool::new(false));
        if self.stop_with_parent {
            let orphaned = orphaned.clone();
            std::thread::spawn(move || {
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                orphaned.store(true, Relaxed);
            });
        }
        move || interrupted() || orphaned.load(Relaxed)
    }
}
