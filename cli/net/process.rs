//! What the processes of replicas have in common: their log, and when they are to stop.

use super::log_file::{LogFile, Rotation};
use crate::output::{expect_hangups, hung_up, interrupted};
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The options that they share.
#[derive(clap::Args)]
pub struct ProcessArguments {
    /// How much to tell in the log.
    #[arg(long, default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log: String,
    /// Write the log as JSON, one object a line.
    #[arg(long)]
    log_json: bool,
    /// Write the log to this file instead of standard error. SIGHUP has it opened again, for logrotate.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Go on in another file when this one would have more MiB than this; the old ones become FILE.1, FILE.2
    /// and so on. Without this a log file grows without bound.
    #[arg(long, value_name = "MIB", requires = "log_file", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    log_max_mb: Option<u64>,
    /// How many old files are kept.
    #[arg(long, value_name = "N", requires = "log_max_mb", default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    log_keep: u32,
    /// Stop when standard input ends: with the process that started this one.
    #[arg(long, hide = true)]
    stop_with_parent: bool,
}

/// The log of this process; none of its own if it goes to standard error.
#[derive(Clone)]
pub struct Log(Option<Arc<LogFile>>);

impl ProcessArguments {
    /// Logs as text or as one JSON object a line, and from now on a hangup means to open the log again.
    pub fn start_log(&self) -> Result<Log, String> {
        expect_hangups();
        let level = self.log.parse().unwrap_or(tracing::Level::INFO);
        // A log that cannot be written is no reason to stop, and complaints about it on standard error would
        // be one if that cannot be written either.
        let log = tracing_subscriber::fmt().with_max_level(level).log_internal_errors(false);
        let Some(path) = &self.log_file else {
            let log = log.with_writer(std::io::stderr);
            if self.log_json {
                log.json().init()
            } else {
                log.with_ansi(false).init()
            }
            return Ok(Log(None));
        };
        let rotation = self.log_max_mb.map(|mib| Rotation { max_bytes: mib << 20, keep: self.log_keep });
        let file = LogFile::open(path, rotation).map_err(|error| {
            format!("cannot write the log {}: {error}; name another file with --log-file", path.display())
        })?;
        let file = Arc::new(file);
        let log = log.with_writer(file.clone());
        if self.log_json {
            log.json().init()
        } else {
            log.with_ansi(false).init()
        }
        let tell = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            tracing::error!("{panic}");
            tell(panic);
        }));
        Ok(Log(Some(file)))
    }

    /// Whether to stop, each time it is asked: after Ctrl-C or SIGTERM, or, if so asked for, once standard
    /// input has ended. After SIGHUP it opens the log again.
    pub fn told_to_stop(&self, log: &Log) -> impl Fn() -> bool + use<> {
        let orphaned = Arc::new(AtomicBool::new(false));
        if self.stop_with_parent {
            let orphaned = orphaned.clone();
            std::thread::spawn(move || {
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
                orphaned.store(true, Relaxed);
            });
        }
        let log = log.clone();
        move || {
            if hung_up() {
                log.reopen();
            }
            interrupted() || orphaned.load(Relaxed)
        }
    }
}

impl Log {
    fn reopen(&self) {
        match self.0.as_ref().map(|file| file.reopen()) {
            None => {
                tracing::info!("SIGHUP: the log goes to standard error, so there is nothing to open again")
            }
            Some(Ok(())) => tracing::info!("SIGHUP: the log is open again"),
            Some(Err(error)) => {
                tracing::warn!(%error, "SIGHUP: the log cannot be opened again, and goes on as it was")
            }
        }
    }

    /// Writes why the process ends, which it tells on standard error too, to the log if that is a file.
    pub fn last_words(&self, why: &str) {
        if self.0.is_some() {
            tracing::error!("{why}");
        }
    }
}
