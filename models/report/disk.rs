//! Explorations whose states are on disk.

use super::Explore;
use crate::engine::Directory;
use crate::problem::Problem;
use crate::world::WorldConfig;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// A short digest of a text, for what two processes compare.
pub fn digest(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..4])
}

/// Names this program: version, and what the file holds.
///
/// # Errors
/// If the file cannot be read: then this program cannot be told from another one.
pub fn program() -> Result<String, Problem> {
    // Linux gives the file that runs, even if another one is in its place by now.
    let file = std::fs::read("/proc/self/exe").or_else(|_| std::env::current_exe().and_then(std::fs::read));
    let file = file.map_err(|error| {
        format!("this program cannot be told from another one, as its file cannot be read: {error}")
    })?;
    Ok(format!("{} {}", env!("CARGO_PKG_VERSION"), hex::encode(&Sha256::digest(file)[..8])))
}

/// Where the states of worlds are kept: each world, explored in one way, in a directory of its own.
#[derive(Clone, Debug)]
pub struct OnDisk {
    path: PathBuf,
    resume: bool,
    /// Names the program: another one gives other names to what states are made of.
    program: String,
}

impl OnDisk {
    /// In directories in this one; and whether to go on with what is there, if this program has made it.
    ///
    /// # Errors
    /// If the program's file cannot be read ([`program`]).
    pub fn new(path: PathBuf, resume: bool) -> Result<Self, Problem> {
        Ok(OnDisk { path, resume, program: program()? })
    }

    pub(super) fn directory(&self, config: &WorldConfig, how: Explore) -> Directory {
        let world = format!("{} {}", config.name(), how.name());
        let bounds = digest(&format!("{config:?}"));
        Directory {
            path: self.path.join(world.replace(' ', "-")),
            identity: format!("{world} (bounds {bounds}, program {})", self.program),
            resume: self.resume,
        }
    }
}
