//! Who may read a store: its owner. Operations and their results stand in it as they are.

use super::OpenError;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const DIRECTORY: u32 = 0o700;
const FILE: u32 = 0o600;

/// Makes a directory, and those above it that are missing.
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY).create(directory)
}

/// How a file is made, if it is not there.
pub(super) fn creating() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true).mode(FILE);
    options
}

/// Takes from everybody but the owner what earlier versions, or a copy, have given them. If that is not
/// allowed the log says so, and the store is used as it is.
pub(super) fn tighten(directory: &Path) -> Result<(), OpenError> {
    let io = OpenError::io(directory);
    keep_to_owner(directory);
    for entry in fs::read_dir(directory).map_err(&io)? {
        let path = entry.map_err(&io)?.path();
        if path.is_file() {
            keep_to_owner(&path);
        }
    }
    Ok(())
}

fn keep_to_owner(path: &Path) {
    let tightened = fs::symlink_metadata(path).and_then(|metadata| {
        let mode = metadata.permissions().mode();
        if mode & 0o077 == 0 || metadata.is_symlink() {
            return Ok(());
        }
        fs::set_permissions(path, Permissions::from_mode(mode & DIRECTORY))
    });
    if let Err(error) = tightened {
        tracing::warn!(path = %path.display(), %error, "others may read the store, and that cannot be changed");
    }
}
