//! In whose name the commands ask replicas how they do: an observer's, or a client's.

use super::client;
use super::config::Config;
use super::config::members::StatusAsker;
use crate::output::interrupted;
use pbft::runtime::control::Health;
use pbft::types::{ClientId, Principal};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long to wait for another process that asks in the same name.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who asks.
#[derive(Clone, Copy, Default)]
pub enum Who {
    /// The first observer whose key is here and not in use; a client if the key of none is here.
    #[default]
    Anybody,
    /// This observer.
    Observer(u32),
    /// This client.
    Client(u32),
}

/// Asks, and keeps others from asking in the same name meanwhile.
pub struct Asking {
    asker: StatusAsker,
    _lock: Lock,
}

impl Asking {
    /// How each replica does that answers within `patience`.
    ///
    /// # Errors
    /// If the machine fails.
    pub fn ask(&mut self, patience: Duration) -> Result<Vec<Option<Health>>, String> {
        self.asker.ask(patience).map_err(|error| format!("cannot ask the replicas: {error}"))
    }
}

/// What keeps a key for one process until it is dropped.
#[expect(dead_code, reason = "held, and never looked at")]
enum Lock {
    Observer(File),
    Client(client::Kept),
}

/// Takes the key of whoever asks. While other processes use it, which they do for a second or so, this waits for
/// up to five seconds.
///
/// # Errors
/// One sentence that says what is missing.
pub fn open(config: &Config, who: Who) -> Result<Asking, String> {
    let listed = u32::try_from(config.file.observers.len()).unwrap_or(u32::MAX);
    let candidates: Vec<u32> = match who {
        Who::Client(id) => return as_client(config, Some(id)),
        Who::Observer(id) if id >= listed => {
            return Err(format!(
                "there is no observer {id}: the configuration lists {listed}, counted from 0"
            ));
        }
        Who::Observer(id) => vec![id],
        Who::Anybody => (0..listed).filter(|&id| config.observer_path(id).exists()).collect(),
    };
    if candidates.is_empty() {
        return match any_client(config) {
            true => as_client(config, None),
            false => Err(format!(
                "no observer's secret key is here, and no client's: copy {} to where status is asked",
                config.observer_path(0).display()
            )),
        };
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        for &id in &candidates {
            let path = config.observer_path(id).with_extension("lock");
            let taken = take(&path).map_err(|error| format!("cannot use {}: {error}", path.display()))?;
            if let Some(lock) = taken {
                return Ok(Asking { asker: config.ask_as_observer(id)?, _lock: Lock::Observer(lock) });
            }
        }
        if interrupted() || Instant::now() >= deadline {
            return Err(format!(
                "another process has been asking as observer {} for {} s: end it, or make more observers",
                candidates[0],
                PATIENCE.as_secs()
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn any_client(config: &Config) -> bool {
    let listed = u32::try_from(config.file.clients.len()).unwrap_or(u32::MAX);
    (0..listed).any(|id| config.secret_path(Principal::Client(ClientId(id))).exists())
}

fn as_client(config: &Config, wanted: Option<u32>) -> Result<Asking, String> {
    let (id, kept) = client::claim(config, wanted)?;
    Ok(Asking { asker: config.ask_as_client(id)?, _lock: Lock::Client(kept) })
}

/// The file, locked by this process, unless another has it.
fn take(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
