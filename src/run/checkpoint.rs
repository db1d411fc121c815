//! What a checkpoint folder holds: a Hugging Face model folder, the optimizer, and where the run stands.
//!
//! Knows nothing of when to save or of the folder's name and atomic appearance.

mod model_files;
mod optimizer_file;
mod reference_file;
mod space;

use std::io;
use std::path::Path;

use burn::tensor::Device;

use crate::device::{DeviceFailure, guard};
use crate::learner::Learner;
use crate::model::weights::{UnusableValues, Weights, WeightsError};
use crate::run::metrics::{MetricsError, TrainerState};

pub use space::{Course, planned_bytes};

/// Optimizer moments, and exact parameters where the model's own files round them.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// A reference model that follows the policy.
const REFERENCE_FILE: &str = "reference.safetensors";

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The model's files.
    #[error(transparent)]
    Weights(#[from] WeightsError),
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

/// Writes a model folder that transformers loads: weights as they were laid out, the other files of a model copied from
/// `base`.
///
/// # Errors
/// If the weights are not finite, the device fails, or a file cannot be read or written.
pub fn save_model(weights: &Weights, base: &Path, folder: &Path) -> Result<(), CheckpointError> {
    guard("saving the weights", || {
        let names = weights.iter().map(|(name, _)| name);
        if let Some(fault) = weights.first_unusable(names) {
            return Err(CheckpointError::Unusable(fault));
        }
        model_files::copy(base, folder)?;
        Ok(weights.save(folder)?)
    })?
}

/// Writes everything that a resumed run needs.
///
/// # Errors
/// If the weights are not finite, or a file cannot be read or written.
pub fn save(
    learner: &Learner,
    base: &Path,
    state: &TrainerState,
    folder: &Path,
    model_only: bool,
) -> Result<(), CheckpointError> {
    save_model(&learner.weights, base, folder)?;
    if !model_only {
        guard("saving the optimizer", || {
            optimizer_file::write(learner, &folder.join(OPTIMIZER_FILE))
        })??;
    }
    Ok(state.save(folder)?)
}

/// Puts a checkpoint's optimizer, and exact parameters where there are some, back into the learner. The file is mapped and
/// goes to the device tensor by tensor: the host never holds a copy of the whole.
///
/// # Errors
/// If the file is absent, broken, incomplete, not finite, of another model, or not of `step` updates.
pub fn restore_optimizer(
    learner: &mut Learner,
    folder: &Path,
    step: u64,
    device: &Device,
) -> Result<(), CheckpointError> {
    optimizer_file::read(learner, &folder.join(OPTIMIZER_FILE), step, device)
}

/// Writes a reference model that follows the policy beside the model.
///
/// # Errors
/// If the file cannot be written.
pub fn save_reference(weights: &Weights, folder: &Path) -> Result<(), CheckpointError> {
    reference_file::write(weights, &folder.join(REFERENCE_FILE))
}

/// Puts it back.
///
/// # Errors
/// If the file is absent, broken, not finite, or of another model.
pub fn restore_reference(
    weights: &mut Weights,
    folder: &Path,
    device: &Device,
) -> Result<(), CheckpointError> {
    reference_file::read(weights, &folder.join(REFERENCE_FILE), device)
}

/// For `map_err`: the file around an I/O error.
fn io_error(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::Io {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests;
