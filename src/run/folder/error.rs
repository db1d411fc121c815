//! What can be wrong with a run's folder, with its remedy.

use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;

/// Why a run cannot use its folder.
#[derive(Debug, thiserror::Error)]
pub enum RunFolderError {
    /// The folder cannot be made or written.
    #[error("{}: cannot {action}: {source}\nhint: choose an `output_dir` that you may write, on a disk that is not full", path.display())]
    Io {
        /// `create the folder`, `write`, ...
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process holds the lock.
    #[error("{}: another run{} is writing here\nhint: wait for it, stop it, or choose another `output_dir`", path.display(), process_text(process))]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Process id of the other run, as it was written into the lock file.
        process: String,
    },
    /// A new run would mix with what is there.
    #[error(
        "{}: expected an empty folder, found `{found}`\nhint: continue with `--resume_from_checkpoint true`, start over with `--overwrite_output_dir true`, or choose another `output_dir`",
        path.display()
    )]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// The first entry.
        found: String,
    },
    /// Too little room.
    #[error(
        "{}: expected {} of free space for the checkpoints and logs of this run, found {}\nhint: free some, choose an `output_dir` on another disk, or lower `save_total_limit`",
        path.display(), bytes_text(*needed), bytes_text(*free)
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes the run will write.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Nothing to resume from.
    #[error("{}: expected a whole checkpoint (`checkpoint-STEP`), found none\nhint: leave out `--resume_from_checkpoint` to start a new run", path.display())]
    NoCheckpoint {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Resuming would leave later checkpoints of another course of the run beside the new ones.
    #[error(
        "{}: step {later} is later than step {step}, where the run is to continue\nhint: resume from `checkpoint-{later}`, move the later checkpoints away, or choose another `output_dir`",
        path.display()
    )]
    LaterCheckpoint {
        /// The later checkpoint.
        path: PathBuf,
        /// Its step.
        later: u64,
        /// The step asked for.
        step: u64,
    },
    /// A checkpoint was not completed; earlier ones are untouched.
    #[error("{}: the checkpoint could not be written: {source}\nhint: {}", path.display(), last_text(last.as_ref()))]
    Save {
        /// The checkpoint.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// The newest whole checkpoint.
        last: Option<Checkpoint>,
    },
}

fn process_text(process: &str) -> String {
    if process.is_empty() {
        String::new()
    } else {
        format!(" (process {process})")
    }
}

fn bytes_text(bytes: u64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let bytes = bytes as f64;
    match UNITS.into_iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", bytes / size),
        None => format!("{bytes} bytes"),
    }
}

fn last_text(last: Option<&Checkpoint>) -> String {
    match last {
        Some(last) => format!(
            "remove the cause (is the disk full?), then continue from `{}` with `--resume_from_checkpoint true`",
            last.path.display()
        ),
        None => {
            "remove the cause (is the disk full?), then start again; no earlier checkpoint exists"
                .to_owned()
        }
    }
}

/// For `map_err`: the failed action and the path around an I/O error.
pub(super) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> RunFolderError {
    move |source| RunFolderError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}
