//! `optimizer.safetensors`: `exp_avg.<parameter>` and `exp_avg_sq.<parameter>` (torch's words) of every parameter that has
//! been updated, `exact.<parameter>` of every one where the model's own files round, the number of updates, and that of updated parameters.
//!
//! A file is checked before it is believed: names, sizes, formats, values, and that it is of the checkpoint's step. Knows
//! nothing of how an update is computed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};

use super::error::{CheckpointError, io_error};
use crate::learner::Learner;
use crate::model::parameters::host_values;
use crate::model::tensor_file::write_tensors;

const MEAN: &str = "exp_avg.";
const MEAN_SQUARE: &str = "exp_avg_sq.";
const EXACT: &str = "exact.";
/// How many parameters have been updated, so that a file that lost one as a whole is not taken for whole.
const COUNT: &str = "num_parameters";
/// Missing parameters that a message names.
const NAMED: usize = 3;

/// Writes the file.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(learner: &Learner, path: &Path) -> Result<(), CheckpointError> {
    let optimizer = &learner.optimizer;
    let mut tensors: Vec<(String, StateView<'_>)> = optimizer
        .state()
        .map(|(name, tensor)| (name, StateView::new(tensor)))
        .collect();
    if !learner.weights.stored_exactly() {
        let exact = rounded(learner).filter_map(|name| {
            let values = learner.weights.get(name)?.dense()?;
            Some((format!("{EXACT}{name}"), StateView::new(values)))
        });
        tensors.extend(exact);
    }
    tensors.push((
        COUNT.to_owned(),
        StateView::Count(optimizer.num_parameters() as u64),
    ));
    // One entry only: the library keeps them in an order of its own, and files of equal runs are equal.
    let steps = optimizer.steps_taken().to_string();
    let metadata = HashMap::from([("steps".to_owned(), steps)]);
    write_tensors(path, tensors, metadata).map_err(io_error(path))
}

/// Reads the file into the learner.
///
/// # Errors
/// If it is not what [`write`] wrote for this model at `step`.
pub(super) fn read(
    learner: &mut Learner,
    path: &Path,
    step: u64,
    device: &Device,
) -> Result<(), CheckpointError> {
    let wrong = |problem: String| CheckpointError::Optimizer {
        path: path.display().to_string(),
        problem,
    };
    if !path.exists() {
        let problem =
            "is not there: the checkpoint was saved with `save_only_model`, or not copied whole";
        return Err(wrong(problem.to_owned()));
    }
    let file = File::open(path).map_err(io_error(path))?;
    // SAFETY: the map is read-only and dropped before this function returns; a file that another program truncates
    // meanwhile ends the process, as with every reader of mapped safetensors.
    let map = unsafe { Mmap::map(&file) }.map_err(io_error(path))?;
    let state = State::open(&map).map_err(wrong)?;
    state.check_step(step).map_err(wrong)?;
    state.check_tensors(learner).map_err(wrong)?;
    state.check_names(learner).map_err(wrong)?;
    let mut moments = BTreeMap::new();
    for name in &state.updated {
        let moment = |prefix: &str| state.tensor(&format!("{prefix}{name}"), device);
        let mean = moment(MEAN).map_err(wrong)?;
        let mean_square = moment(MEAN_SQUARE).map_err(wrong)?;
        moments.insert(name.clone(), (mean, mean_square));
    }
    for name in &state.exact {
        let value = state.tensor(&format!("{EXACT}{name}"), device);
        learner.weights.replace(name, value.map_err(wrong)?);
    }
    learner.optimizer.restore(step, moments);
    Ok(())
}

/// Parameters that train and that the model's own files round.
fn rounded(learner: &Learner) -> impl Iterator<Item = &String> {
    let names = learner.weights.rounded();
    names.filter(|name| learner.is_trainable(name))
}

/// A file that has been opened but not believed yet.
struct State<'a> {
    tensors: SafeTensors<'a>,
    metadata: HashMap<String, String>,
    /// Parameters with a mean.
    updated: BTreeSet<String>,
    /// Parameters with a mean square.
    squared: BTreeSet<String>,
    /// Parameters with exact values.
    exact: BTreeSet<String>,
}

impl<'a> State<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let text = |error: safetensors::SafeTensorError| {
            format!(
                "not a whole safetensors file: {error}; {} bytes are there",
                bytes.len()
            )
        };
        let tensors = SafeTensors::deserialize(bytes).map_err(text)?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(text)?;
        let of = |prefix: &str| {
            let names = tensors.names().into_iter();
            names
                .filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned()))
                .collect()
        };
        Ok(Self {
            updated: of(MEAN),
            squared: of(MEAN_SQUARE),
            exact: of(EXACT),
            metadata: header.metadata().clone().unwrap_or_default(),
            tensors,
        })
    }

    fn check_step(&self, step: u64) -> Result<(), String> {
        let found = self.metadata.get("steps");
        let found = found.and_then(|steps| steps.parse::<u64>().ok());
        match found {
            Some(found) if found == step => Ok(()),
            Some(found) => Err(format!(
                "it is of {found} updates, the checkpoint is of step {step}"
            )),
            None => Err("the number of updates is not noted in it".to_owned()),
        }
    }

    /// Every tensor is one of this model's, as f32.
    fn check_tensors(&self, learner: &Learner) -> Result<(), String> {
        for (name, view) in self.tensors.iter().filter(|(name, _)| *name != COUNT) {
            let prefixes = [MEAN, MEAN_SQUARE, EXACT];
            let parameter = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
            let parameter = parameter.and_then(|parameter| learner.weights.get(parameter));
            let expected = parameter.map(|parameter| parameter.shape.iter().product::<usize>());
            let found = view.shape().iter().product::<usize>();
            match expected {
                None => return Err(format!("`{name}` belongs to no parameter of the model")),
                Some(expected) if expected != found => {
                    return Err(format!(
                        "`{name}` has {found} values, the model has {expected}"
                    ));
                }
                Some(_) if view.dtype() != Dtype::F32 => {
                    return Err(format!("`{name}` is {:?}, expected F32", view.dtype()));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// No moment of a parameter is without the other, none of them is gone, and exact values are there where they are needed.
    fn check_names(&self, learner: &Learner) -> Result<(), String> {
        lacks(MEAN_SQUARE, self.updated.difference(&self.squared))?;
        lacks(MEAN, self.squared.difference(&self.updated))?;
        let (noted, found) = (self.count()?, self.updated.len() as u64);
        if noted != found {
            return Err(format!(
                "it was written with the moments of {noted} parameters and has those of {found}"
            ));
        }
        let frozen = self.updated.iter().find(|name| !learner.is_trainable(name));
        if let Some(name) = frozen {
            return Err(format!(
                "it has moments of `{name}`, which this run does not train (`freeze_vision_modules`)"
            ));
        }
        if learner.weights.stored_exactly() {
            return Ok(());
        }
        let names: BTreeSet<String> = rounded(learner).cloned().collect();
        lacks(EXACT, names.difference(&self.exact))
    }

    fn count(&self) -> Result<u64, String> {
        let view = self.tensors.tensor(COUNT).ok();
        let bytes = view.and_then(|view| view.data().try_into().ok());
        let bytes = bytes.ok_or_else(|| format!("`{COUNT}` is not noted in it"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The values of one tensor on the device.
    fn tensor(&self, name: &str, device: &Device) -> Result<Tensor<1>, String> {
        let view = self
            .tensors
            .tensor(name)
            .map_err(|error| error.to_string())?;
        let values = finite_values(name, &view)?;
        let count = values.len();
        Ok(Tensor::from_data(TensorData::new(values, [count]), device))
    }
}

/// An error that counts and names the parameters without a tensor.
fn lacks<'a>(prefix: &str, missing: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let missing: Vec<&String> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = missing
        .iter()
        .take(NAMED)
        .map(|name| format!("`{name}`"))
        .collect();
    let more = if missing.len() > NAMED { ", ..." } else { "" };
    Err(format!(
        "lacks {} of {} parameters: {}{more}",
        prefix.trim_end_matches('.'),
        missing.len(),
        named.join(", ")
    ))
}

/// The numbers of an f32 tensor; mean squares are at least 0.
pub(super) fn finite_values(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, String> {
    let values: Vec<f32> = bytemuck::allocation::pod_collect_to_vec(view.data());
    let least = if name.starts_with(MEAN_SQUARE) {
        0.0
    } else {
        f32::NEG_INFINITY
    };
    let wrong = |value: &f32| !value.is_finite() || *value < least;
    match values.iter().position(wrong) {
        None => Ok(values),
        Some(index) => Err(format!("`{name}` holds {} at index {index}", values[index])),
    }
}

/// What stands in the file.
pub(super) enum StateView<'a> {
    /// f32 values, read back only when they are written.
    Values {
        tensor: &'a Tensor<1>,
        shape: [usize; 1],
    },
    Count(u64),
}

impl<'a> StateView<'a> {
    pub(super) fn new(tensor: &'a Tensor<1>) -> Self {
        let shape = tensor.dims();
        Self::Values { tensor, shape }
    }
}

impl View for StateView<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Self::Values { .. } => Dtype::F32,
            Self::Count(_) => Dtype::U64,
        }
    }

    fn shape(&self) -> &[usize] {
        match self {
            Self::Values { shape, .. } => shape,
            Self::Count(_) => &[1],
        }
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Values { tensor, .. } => {
                bytemuck::cast_slice(&host_values(tensor)).to_vec().into()
            }
            Self::Count(count) => count.to_le_bytes().to_vec().into(),
        }
    }

    fn data_len(&self) -> usize {
        match self {
            Self::Values { shape, .. } => shape[0] * 4,
            Self::Count(_) => 8,
        }
    }
}
