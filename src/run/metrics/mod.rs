//! What a run says about itself: numbers per step, completions, progress, warnings.
//!
//! Names are TRL's, verbatim, with `external/*` and `timing_s/*` beside them (`StepMetrics`). This module does not
//! know how a number was computed, nor anything of devices, models or configuration.

mod completions;
mod console;
mod jsonl;
mod step_metrics;
pub mod step_report;
mod timing;
mod trainer_state;
mod watchdog;
mod window;

pub use completions::{COMPLETIONS_FILE, CompletionsLog};
pub use console::{LogWriter, Progress, table, write_log_line};
pub use jsonl::{JsonLines, METRICS_FILE, MetricsLog};
pub use step_metrics::{
    LoggedStep, StepMetrics, max_ignoring_nan, mean_ignoring_nan, min_ignoring_nan,
    std_ignoring_nan,
};
pub use timing::{Phase, PhaseTimer};
pub use trainer_state::{TRAINER_STATE_FILE, TrainerState};
pub use watchdog::{Watchdog, WatchdogError};
pub use window::MetricsWindow;

use std::io;
use std::path::{Path, PathBuf};

/// A log or state file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The operating system refused.
    #[error(
        "{}: cannot {action}: {source}\nhint: check that its folder exists and may be written, and that the disk is not full; whole checkpoints stay usable",
        path.display()
    )]
    Io {
        /// `create`, `write`, ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A whole line of an existing log is not a row of it.
    #[error(
        "{}:{line}: expected a JSON object with a whole number `step`, found {found}\nhint: correct or delete the line, or move the file away; a resumed run then writes a new one",
        path.display()
    )]
    Row {
        /// The file.
        path: PathBuf,
        /// 1-based line.
        line: usize,
        /// The start of the line.
        found: String,
    },
    /// A row could not be turned into JSON.
    #[error("{}: a row is not JSON: {source}\nhint: this is a bug in the row's type", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// `trainer_state.json` is not what it should be.
    #[error(
        "{}: not a trainer state: {source}\nhint: the checkpoint is damaged; resume from an earlier one with `--resume_from_checkpoint PATH`",
        path.display()
    )]
    State {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
}

impl MetricsError {
    /// For `map_err`: the failed action and the file around an I/O error.
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }
}
