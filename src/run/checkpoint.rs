//! What a checkpoint folder holds: a Hugging Face model folder, the optimizer, and where the run stands.
//!
//! Knows nothing of when to save or of the folder's name and atomic appearance.

mod error;
mod model_files;
mod optimizer_file;
mod reference_file;
mod space;

use std::path::Path;

use burn::tensor::Device;

use crate::device::guard;
use crate::learner::Learner;
use crate::model::adapter::{AdapterFiles, AdapterTensor, names};
use crate::model::parameters::{Adapter, Weights, host_values};
use crate::run::metrics::TrainerState;

pub use error::CheckpointError;
use model_files::Contents;
pub use space::{Course, planned_bytes};

/// Optimizer moments, and exact parameters where the model's own files round them.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// A reference model that follows the policy.
const REFERENCE_FILE: &str = "reference.safetensors";

/// Writes a model folder that transformers loads: weights as they were laid out, the other files of a model copied from
/// `base`. Where an adapter trains, a folder that PEFT loads over `base`: the adapter, and what reads prompts.
///
/// # Errors
/// If the weights are not finite, the device fails, or a file cannot be read or written.
pub fn save_model(weights: &Weights, base: &Path, folder: &Path) -> Result<(), CheckpointError> {
    guard("saving the weights", || {
        let names = weights.iter().map(|(name, _)| name);
        if let Some(fault) = weights.first_unusable(names) {
            return Err(CheckpointError::Unusable(fault));
        }
        model_files::copy(base, folder, contents(weights))?;
        let Some(adapter) = weights.adapter() else {
            return Ok(weights.save(folder)?);
        };
        Ok(AdapterFiles::write(
            folder,
            &adapter.config,
            tensors(adapter),
        )?)
    })?
}

/// Copies the files of the model in `base`, weights left out, into `folder`.
///
/// # Errors
/// If a file cannot be read or written.
pub fn copy_model_files(base: &Path, folder: &Path) -> Result<(), CheckpointError> {
    model_files::copy(base, folder, Contents::Model)
}

/// Whether a checkpoint holds a whole model or an adapter.
const fn contents(weights: &Weights) -> Contents {
    match weights.adapter() {
        Some(_) => Contents::Adapter,
        None => Contents::Model,
    }
}

/// An adapter's tensors under PEFT's words, read back one by one.
fn tensors(adapter: &Adapter) -> impl Iterator<Item = AdapterTensor> {
    adapter.iter().filter_map(|(name, parameter)| {
        let is_factor = names::is_factor(name);
        Some(AdapterTensor {
            name: if is_factor {
                name.clone()
            } else {
                names::saved(name)
            },
            shape: parameter.shape.clone(),
            values: host_values(parameter.dense()?),
        })
    })
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

#[cfg(test)]
mod tests;
