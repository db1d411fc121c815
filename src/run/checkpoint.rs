//! What a checkpoint folder holds: a Hugging Face model folder, the optimizer, and where the run stands.
//!
//! Knows nothing of when to save or of the folder's name and atomic appearance.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use safetensors::{Dtype, SafeTensors, View};

use crate::learner::Learner;
use crate::model::weights::{Weights, WeightsError, host_values};
use crate::run::metrics::{MetricsError, TrainerState};

/// Optimizer moments, and exact parameters where the model's own files round them.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// Weight files of any framework: never copied, because ours replace them.
const WEIGHT_SUFFIXES: [&str; 9] = [
    ".safetensors",
    ".safetensors.index.json",
    ".bin",
    ".bin.index.json",
    ".pt",
    ".pth",
    ".h5",
    ".msgpack",
    ".gguf",
];

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The model's files.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// `trainer_state.json`.
    #[error(transparent)]
    State(#[from] MetricsError),
    /// A file of the base model cannot be copied, or the optimizer's file cannot be read or written.
    #[error(
        "{path}: {source}\nhint: check that the file exists, that it may be accessed, and that the disk is not full"
    )]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The optimizer's file does not belong to this model.
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

/// Writes a model folder that transformers loads: weights as they were laid out, every other file copied from `base`.
///
/// # Errors
/// If a file cannot be read or written.
pub fn save_model(weights: &Weights, base: &Path, folder: &Path) -> Result<(), CheckpointError> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |source| CheckpointError::Io { path, source }
    };
    for entry in std::fs::read_dir(base).map_err(io(base))? {
        let path = entry.map_err(io(base))?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        let is_ours = name == OPTIMIZER_FILE
            || name == crate::run::metrics::TRAINER_STATE_FILE
            || name.starts_with('.');
        if !path.is_file() || is_ours || WEIGHT_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
        {
            continue;
        }
        std::fs::copy(&path, folder.join(&name)).map_err(io(&path))?;
    }
    Ok(weights.save(folder)?)
}

/// Writes everything that a resumed run needs.
///
/// # Errors
/// If a file cannot be read or written.
pub fn save(
    learner: &Learner,
    base: &Path,
    state: &TrainerState,
    folder: &Path,
    model_only: bool,
) -> Result<(), CheckpointError> {
    save_model(&learner.weights, base, folder)?;
    if !model_only {
        let mut tensors: Vec<(String, StateView<'_>)> = learner
            .optimizer
            .state()
            .map(|(name, tensor)| (name, StateView::new(tensor)))
            .collect();
        if !learner.weights.stored_exactly() {
            let exact = learner.weights.iter();
            tensors.extend(exact.map(|(name, parameter)| {
                (format!("exact.{name}"), StateView::new(&parameter.value))
            }));
        }
        let path = folder.join(OPTIMIZER_FILE);
        let steps = learner.optimizer.steps_taken().to_string();
        let metadata = std::collections::HashMap::from([("steps".to_owned(), steps)]);
        safetensors::serialize_to_file(tensors, Some(metadata), &path).map_err(|error| {
            CheckpointError::Io {
                path: path.display().to_string(),
                source: std::io::Error::other(error.to_string()),
            }
        })?;
    }
    Ok(state.save(folder)?)
}

/// Puts a checkpoint's optimizer, and exact parameters where there are some, back into the learner.
///
/// # Errors
/// If the file is absent, broken, or of another model.
pub fn restore_optimizer(
    learner: &mut Learner,
    folder: &Path,
    device: &Device,
) -> Result<(), CheckpointError> {
    let path = folder.join(OPTIMIZER_FILE);
    let shown = path.display().to_string();
    let bytes = std::fs::read(&path).map_err(|source| CheckpointError::Io {
        path: shown.clone(),
        source,
    })?;
    let wrong = |problem: String| CheckpointError::Optimizer {
        path: shown.clone(),
        problem,
    };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let (_, header) =
        SafeTensors::read_metadata(&bytes).map_err(|error| wrong(error.to_string()))?;
    let steps = header
        .metadata()
        .as_ref()
        .and_then(|metadata| metadata.get("steps")?.parse().ok());
    let steps: u64 =
        steps.ok_or_else(|| wrong("the number of updates is not noted in it".to_owned()))?;
    let mut state = BTreeMap::new();
    for (name, view) in file.tensors() {
        let words = view.data().chunks_exact(4);
        let values: Vec<f32> = words
            .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let parameter = ["exp_avg.", "exp_avg_sq.", "exact."]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix));
        let expected = parameter.and_then(|parameter| learner.weights.get(parameter));
        let expected = expected.map(|parameter| parameter.shape.iter().product::<usize>());
        if expected != Some(values.len()) {
            return Err(wrong(format!(
                "`{name}` has {} values, the model has {expected:?}",
                values.len()
            )));
        }
        if let Some(parameter) = name.strip_prefix("exact.") {
            let value = Tensor::from_data(
                burn::tensor::TensorData::new(values.clone(), [values.len()]),
                device,
            );
            learner.weights.replace(parameter, value);
        } else {
            state.insert(name, values);
        }
    }
    learner.optimizer.restore(steps, state, device);
    Ok(())
}

/// An f32 tensor that is read back only when it is written.
struct StateView<'a> {
    tensor: &'a Tensor<1>,
    shape: [usize; 1],
}

impl<'a> StateView<'a> {
    fn new(tensor: &'a Tensor<1>) -> Self {
        Self {
            tensor,
            shape: tensor.dims(),
        }
    }
}

impl View for StateView<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        host_values(self.tensor)
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<u8>>()
            .into()
    }

    fn data_len(&self) -> usize {
        self.shape[0] * 4
    }
}
