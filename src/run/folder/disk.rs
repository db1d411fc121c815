//! The few things that must be asked of the disk itself.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Files and folders directly in `directory`.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect()
}

/// Forces every file below `directory`, and the folders themselves, to the disk.
pub(super) fn sync_tree(directory: &Path) -> io::Result<()> {
    for path in entries(directory)? {
        if path.is_dir() {
            sync_tree(&path)?
        } else {
            sync_file(&path)?
        }
    }
    sync_directory(directory)
}

/// Opened for reading, because a file that was copied into a checkpoint may be read-only.
#[cfg(unix)]
fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Windows flushes only what is open for writing.
#[cfg(not(unix))]
fn sync_file(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.permissions().readonly() {
        return Ok(());
    }
    File::options().write(true).open(path)?.sync_all()
}

/// Forces a folder's list of names to the disk.
#[cfg(unix)]
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Windows writes the list of names by itself and cannot open folders.
#[cfg(not(unix))]
pub(super) fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

/// Bytes that this user may still write on the disk of `directory`; `None` where the system does not tell.
#[cfg(unix)]
pub(super) fn free_bytes(directory: &Path) -> io::Result<Option<u64>> {
    let disk = rustix::fs::statvfs(directory)?;
    Ok(Some(disk.f_bavail.saturating_mul(disk.f_frsize)))
}

/// Windows: a file of the needed length takes its room at once, which the write probe tries.
#[cfg(not(unix))]
pub(super) fn free_bytes(_directory: &Path) -> io::Result<Option<u64>> {
    Ok(None)
}
