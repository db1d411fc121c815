//! `reference.safetensors`: the parameters of a reference model that follows the policy (`sync_ref_model`), as f32 under
//! their hub names. A reference that stays the start of the run needs no file. Knows nothing of how it follows.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use super::error::{CheckpointError, io_error};
use super::optimizer_file::{StateView, finite_values};
use crate::model::parameters::Weights;
use crate::model::tensor_file::write_tensors;

/// Writes the file.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write(weights: &Weights, path: &Path) -> Result<(), CheckpointError> {
    let parameters = weights.iter();
    let tensors: Vec<_> = parameters
        .filter_map(|(name, parameter)| Some((name.clone(), StateView::new(parameter.dense()?))))
        .collect();
    write_tensors(path, tensors, HashMap::new()).map_err(io_error(path))
}

/// Reads the file into weights of the same model.
///
/// # Errors
/// If it is absent, broken, not finite, or of another model.
pub(super) fn read(
    weights: &mut Weights,
    path: &Path,
    device: &Device,
) -> Result<(), CheckpointError> {
    let wrong = |problem: String| CheckpointError::Optimizer {
        path: path.display().to_string(),
        problem,
    };
    let file = File::open(path).map_err(io_error(path))?;
    // SAFETY: as for the optimizer's file: read-only, and dropped before this function returns.
    let map = unsafe { Mmap::map(&file) }.map_err(io_error(path))?;
    let tensors =
        SafeTensors::deserialize(&map).map_err(|error| wrong(format!("not whole: {error}")))?;
    let held = weights.iter();
    let sizes: Vec<(String, usize)> = held
        .filter(|(_, parameter)| parameter.dense().is_some())
        .map(|(name, parameter)| (name.clone(), parameter.count()))
        .collect();
    for (name, size) in sizes {
        let view = tensors
            .tensor(&name)
            .map_err(|_| wrong(format!("lacks `{name}`")))?;
        let found = view.shape().iter().product::<usize>();
        if view.dtype() != Dtype::F32 || found != size {
            let dtype = view.dtype();
            return Err(wrong(format!(
                "`{name}` has {found} values of {dtype:?}, expected {size} of F32"
            )));
        }
        let values = finite_values(&name, &view).map_err(wrong)?;
        weights.replace(
            &name,
            Tensor::from_data(TensorData::new(values, [size]), device),
        );
    }
    Ok(())
}
