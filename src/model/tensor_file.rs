//! One safetensors file: its values as f32, and a new one written as any file of this user.
//!
//! Knows nothing of what the tensors mean or of devices.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, View};

use crate::system::files;

/// Why the values of a tensor cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueFault {
    /// Another number format than F32, F16 and BF16.
    Format(Dtype),
    /// NaN or infinity.
    NotFinite {
        /// The value.
        found: f32,
        /// Where.
        index: usize,
    },
}

/// The values of a tensor in F32, F16 or BF16, little-endian.
///
/// # Errors
/// If it has another format, or a value is not finite.
pub fn decoded(view: &TensorView<'_>) -> Result<Vec<f32>, ValueFault> {
    let values = numbers(view.data(), view.dtype()).ok_or(ValueFault::Format(view.dtype()))?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => Err(ValueFault::NotFinite {
            found: values[index],
            index,
        }),
    }
}

/// Numbers in one of the three formats, whatever they are; `None` in another one.
#[must_use]
pub fn numbers(data: &[u8], dtype: Dtype) -> Option<Vec<f32>> {
    let halves = || {
        let halves = data.as_chunks::<2>().0.par_iter();
        halves.map(|bytes| u16::from_le_bytes(*bytes))
    };
    Some(match dtype {
        Dtype::F32 => {
            let words = data.as_chunks::<4>().0.par_iter();
            words.map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        Dtype::F16 => halves().map(|bits| f16::from_bits(bits).to_f32()).collect(),
        Dtype::BF16 => halves()
            .map(|bits| bf16::from_bits(bits).to_f32())
            .collect(),
        _ => return None,
    })
}

/// Values in one of the three formats, rounded to the nearest.
#[must_use]
pub fn encoded(values: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => {
            let values: Vec<f16> = values.iter().map(|value| f16::from_f32(*value)).collect();
            bytemuck::cast_slice(values.reinterpret_cast()).to_vec()
        }
        Dtype::BF16 => {
            let values: Vec<bf16> = values.iter().map(|value| bf16::from_f32(*value)).collect();
            bytemuck::cast_slice(values.reinterpret_cast()).to_vec()
        }
        _ => bytemuck::cast_slice(values).to_vec(),
    }
}

/// Writes a safetensors file that whoever may read a new file of this user may read.
///
/// # Errors
/// If it cannot be written; half a file has another name by then and is gone.
pub fn write_tensors<V: View>(
    path: &Path,
    tensors: impl IntoIterator<Item = (String, V)>,
    metadata: HashMap<String, String>,
) -> io::Result<()> {
    // The library renames a temporary file, which only its owner may read; a file made in the usual way knows the mask.
    let usual = files::open_or_create(path)?.metadata()?.permissions();
    let written = safetensors::serialize_to_file(tensors, Some(metadata), path);
    written.map_err(|error| match error {
        SafeTensorError::IoError(source) => source,
        other => io::Error::other(other.to_string()),
    })?;
    fs::set_permissions(path, usual)
}
