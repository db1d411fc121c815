//! Weights into files again, laid out as they were loaded, and whether the files can hold them.
//!
//! Knows nothing of when a checkpoint is due or of what else it holds.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::Path;

use burn::tensor::Tensor;
use half::f16;
use safetensors::{Dtype, View};

use super::files::{EMBEDDING, HEAD};
use super::{Parameter, StoredTensor, Values, Weights, WeightsError, host_values};
use crate::kernels::{FrozenMatrix, Storage};
use crate::model::tensor_file;
use crate::system::files::{self, Existing};

/// Numbers go into files as they lie in memory, and safetensors are little-endian.
const _: () = assert!(
    cfg!(target_endian = "little"),
    "safetensors are little-endian"
);

/// A parameter whose values no checkpoint must hold.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UnusableValues {
    /// NaN, infinity, or so large that their squares are.
    #[error("the new weights of `{name}` are not finite")]
    NotFinite {
        /// Hub name.
        name: String,
    },
    /// Larger than the number format of the model's own files reaches.
    #[error(
        "the new weights of `{name}` reach {largest:e}, and the model's files are F16, which ends at 65504"
    )]
    OutOfRange {
        /// Hub name.
        name: String,
        /// The largest absolute value.
        largest: f32,
    },
}

impl Weights {
    /// Writes the weights into `folder` under the file names, tensor names and number formats they were loaded with. A
    /// head that is tied to the embedding but stands in the files too is written from the embedding, so that readers
    /// that do not tie get the trained one.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), WeightsError> {
        for (file, tensors) in &self.layout.files {
            let views = tensors.iter().filter_map(|stored| {
                let view = StoredView {
                    parameter: self.stored_parameter(stored)?,
                    dtype: stored.dtype,
                };
                Some((stored.name.clone(), view))
            });
            let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
            let path = folder.join(file);
            tensor_file::write_tensors(&path, views, metadata).map_err(io_error(&path))?;
        }
        if let Some(index) = &self.layout.index {
            let path = folder.join("model.safetensors.index.json");
            files::write(&path, format!("{index:#}\n"), Existing::Replace)
                .map_err(io_error(&path))?;
        }
        Ok(())
    }

    /// Bytes of the tensors that [`Weights::save`] writes.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        let stored = self.layout.files.iter().flat_map(|(_, tensors)| tensors);
        stored
            .filter_map(|stored| {
                let parameter = self.stored_parameter(stored)?;
                let count: usize = parameter.shape.iter().product();
                Some((count * bytes_of(stored.dtype)) as u64)
            })
            .sum()
    }

    /// The first of the parameters `names` whose values cannot be kept; two reductions per parameter at most, and one
    /// readback for all of them.
    #[must_use]
    pub fn first_unusable<'a>(
        &self,
        names: impl Iterator<Item = &'a String>,
    ) -> Option<UnusableValues> {
        let halves = self.stored_as_f16();
        let (mut checks, mut numbers) = (Vec::new(), Vec::new());
        for name in names {
            let Some(parameter) = self.parameters.get(name) else {
                continue;
            };
            let Some(value) = parameter.dense().cloned() else {
                continue;
            };
            numbers.push((value.clone() * value.clone()).sum());
            checks.push((name, false));
            if halves.contains(name.as_str()) {
                numbers.push(value.abs().max());
                checks.push((name, true));
            }
        }
        if numbers.is_empty() {
            return None;
        }
        let numbers = host_values(&Tensor::cat(numbers, 0));
        checks
            .into_iter()
            .zip(numbers)
            .find_map(|((name, is_largest), number)| {
                let name = name.clone();
                if !number.is_finite() {
                    Some(UnusableValues::NotFinite { name })
                } else if is_largest && !f16::from_f32(number).is_finite() {
                    let largest = number;
                    Some(UnusableValues::OutOfRange { name, largest })
                } else {
                    None
                }
            })
    }

    /// Hub names of the parameters that the files hold as f16.
    fn stored_as_f16(&self) -> BTreeSet<&str> {
        let stored = self.layout.files.iter().flat_map(|(_, tensors)| tensors);
        stored
            .filter(|stored| stored.dtype == Dtype::F16)
            .map(|stored| stored.hub_name.as_str())
            .collect()
    }

    pub(super) fn stored_parameter(&self, stored: &StoredTensor) -> Option<&Parameter> {
        let tied = || {
            self.parameters
                .get(EMBEDDING)
                .filter(|_| stored.hub_name == HEAD)
        };
        self.parameters.get(&stored.hub_name).or_else(tied)
    }
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> WeightsError {
    move |source| WeightsError::Io {
        path: path.display().to_string(),
        source,
    }
}

pub(super) const fn bytes_of(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 4,
        _ => 2,
    }
}

/// The bytes of a matrix that is held in the file's own format.
fn as_stored(matrix: &FrozenMatrix, dtype: Dtype) -> Option<&[u8]> {
    let same = matches!(
        (matrix.storage(), dtype),
        (Storage::F32, Dtype::F32) | (Storage::F16, Dtype::F16) | (Storage::Bf16, Dtype::BF16)
    );
    same.then(|| matrix.bytes())
}

pub(super) fn decoded(matrix: &FrozenMatrix) -> Vec<f32> {
    let [rows, columns] = matrix.shape();
    let mut values = vec![0.0; rows * columns];
    matrix.copy_rows(0..rows, &mut values);
    values
}

/// A parameter as a file wants it; read back from the device only when it is written.
pub(super) struct StoredView<'a> {
    pub(super) parameter: &'a Parameter,
    pub(super) dtype: Dtype,
}

impl View for StoredView<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.parameter.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = match &self.parameter.values {
            Values::Dense(values) => host_values(values),
            Values::Frozen(matrix) => match as_stored(matrix, self.dtype) {
                Some(bytes) => return bytes.into(),
                None => decoded(matrix),
            },
        };
        tensor_file::encoded(&values, self.dtype).into()
    }

    fn data_len(&self) -> usize {
        self.parameter.shape.iter().product::<usize>() * bytes_of(self.dtype)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::super::{Holding, Layout};
    use super::*;

    fn weights(values: &[(&str, f32)], dtype: Dtype) -> Weights {
        let mut weights = Weights::default();
        let mut tensors = Vec::new();
        for (name, value) in values {
            weights.insert(name, vec![0.5, *value], vec![2], &Device::flex());
            tensors.push(StoredTensor {
                name: (*name).to_owned(),
                hub_name: (*name).to_owned(),
                dtype,
            });
        }
        weights.layout = Layout {
            files: vec![("model.safetensors".to_owned(), tensors)],
            index: None,
        };
        weights
    }

    fn unusable(values: &[(&str, f32)], dtype: Dtype) -> Option<UnusableValues> {
        let weights = weights(values, dtype);
        weights.first_unusable(weights.parameters.keys())
    }

    #[test]
    fn values_that_no_file_must_hold_are_named() {
        let good = ("a", 1.0);
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            assert_eq!(unusable(&[good, ("b", -65_504.0)], dtype), None);
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30] {
                let name = "b".to_owned();
                let expected = Some(UnusableValues::NotFinite { name });
                assert_eq!(unusable(&[good, ("b", bad)], dtype), expected, "{bad}");
            }
        }
        for (value, fits) in [(65_519.0, true), (65_520.0, false), (-1e9, false)] {
            let found = unusable(&[good, ("b", value)], Dtype::F16);
            assert_eq!(found.is_none(), fits, "{value} as F16: {found:?}");
            assert_eq!(unusable(&[good, ("b", value)], Dtype::F32), None);
        }
        assert_eq!(Weights::default().first_unusable([].into_iter()), None);
    }

    /// Numbers in the three formats, worked out by hand: 1.5 is 3fc00000, 3e00 and 3fc0.
    #[test]
    fn bytes_are_those_of_the_format() {
        for (dtype, expected) in [
            (Dtype::F32, vec![0, 0, 0, 0x3f, 0, 0, 0xc0, 0x3f]),
            (Dtype::F16, vec![0, 0x38, 0, 0x3e]),
            (Dtype::BF16, vec![0, 0x3f, 0xc0, 0x3f]),
        ] {
            let weights = weights(&[("a", 1.5)], dtype);
            let parameter = &weights.parameters["a"];
            let view = StoredView { parameter, dtype };
            assert_eq!(view.data(), expected, "{dtype:?}");
            assert_eq!(view.data_len(), expected.len());
            assert_eq!(weights.stored_bytes(), expected.len() as u64);
        }
    }

    #[test]
    fn a_tied_head_in_the_files_is_written_from_the_embedding() {
        let mut weights = weights(&[(EMBEDDING, 2.0), (HEAD, 7.0)], Dtype::F32);
        weights.remove(HEAD);
        let folder = tempfile::tempdir().expect("a folder");
        weights.save(folder.path()).expect("saved");
        let saved = Weights::load(folder.path(), &Holding::trained(u64::MAX), &Device::flex())
            .expect("loaded");
        for name in [EMBEDDING, HEAD] {
            let parameter = saved.get(name).expect("both stand in the file");
            let values = parameter.dense().expect("a vector");
            assert_eq!(host_values(values), [0.5, 2.0], "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_are_readable_as_the_mask_says() {
        use std::fs;
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("usual"), "x").expect("written");
        let saved = weights(&[("a", 1.0)], Dtype::F32).save(folder.path());
        saved.expect("saved");
        let mode = |name: &str| {
            let data = fs::metadata(folder.path().join(name)).expect("a file");
            data.permissions().mode()
        };
        assert_eq!(mode("model.safetensors"), mode("usual"));
    }
}
