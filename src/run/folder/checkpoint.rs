//! What a whole checkpoint is called and where it lies.

use std::path::PathBuf;

/// A whole checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Optimizer steps done.
    pub step: u64,
    /// `.../checkpoint-{step}`.
    pub path: PathBuf,
}
