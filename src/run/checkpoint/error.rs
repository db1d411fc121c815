//! What can be wrong with a checkpoint, with its remedy.

use std::io;
use std::path::Path;

use crate::device::DeviceFailure;
use crate::model::adapter::AdapterError;
use crate::model::parameters::{UnusableValues, WeightsError};
use crate::run::metrics::MetricsError;

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The model's files.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An adapter's files.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// `trainer_state.json`.
    #[error(transparent)]
    State(#[from] MetricsError),
    /// The device gave up.
    #[error(transparent)]
    Device(#[from] DeviceFailure),
    /// The weights are not ones to keep.
    #[error(
        "{0}; nothing was saved\nhint: lower learning_rate, then continue from an earlier checkpoint"
    )]
    Unusable(UnusableValues),
    /// A file of the base model cannot be copied, or the optimizer's file cannot be read or written.
    #[error(
        "{path}: {source}\nhint: check that the file exists, that it may be accessed, and that the disk is not full"
    )]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The optimizer's file does not belong to this model or this step.
    #[error(
        "{path}: {problem}\nhint: resume from another checkpoint, or start afresh with its folder as `model_name_or_path`"
    )]
    Optimizer {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

/// For `map_err`: the file around an I/O error.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::Io {
        path: path.display().to_string(),
        source,
    }
}
