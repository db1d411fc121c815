//! A model with its adapter folded in, in files laid out as the model's own: `W + scale · B A` for every adapted layer.
//!
//! One tensor is worked out at a time, when the file is written. Knows nothing of a model's other files.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use rayon::prelude::*;
use safetensors::{Dtype, View};
use serde_json::{Value, json};

use super::files::{EMBEDDING, HEAD};
use super::save::{StoredView, UnusableValues, bytes_of, decoded, io_error};
use super::{Adapter, Parameter, StoredTensor, Values, Weights, WeightsError, host_values};
use crate::model::tensor_file;
use crate::system::files::{self, Existing};

/// Why an adapter cannot be folded in.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// A file cannot be written.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The sum cannot be kept.
    #[error(
        "{0}; nothing was merged\nhint: take an earlier checkpoint of the adapter, or save the model in float32 first"
    )]
    Unusable(UnusableValues),
}

/// Whether readers must be told that the head is a table of its own, because the adapter trained one of two tied tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// As it was.
    Unchanged,
    /// It was tied.
    Untied,
}

impl Weights {
    /// Writes the model into `folder` as [`Weights::save`] does, with its adapter folded in. Where the adapter trained one
    /// of two tied tables, both are written.
    ///
    /// # Errors
    /// If a file cannot be written, or a sum is not finite or beyond the number format of the files.
    pub fn save_merged(&self, folder: &Path) -> Result<Head, MergeError> {
        let fault = Mutex::new(None);
        let new_head = self.new_head();
        for (file, tensors) in &self.layout.files {
            let new = new_head.iter().filter(|(of, _)| of == file);
            let stored = tensors.iter().chain(new.map(|(_, stored)| stored));
            let views = stored.filter_map(|stored| {
                let view = self.merged_view(stored, &fault)?;
                Some((stored.name.clone(), view))
            });
            let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
            let path = folder.join(file);
            tensor_file::write_tensors(&path, views, metadata).map_err(io_error(&path))?;
            if let Some(fault) = take(&fault) {
                return Err(MergeError::Unusable(fault));
            }
        }
        if let Some(index) = &self.layout.index {
            let index = self.merged_index(index, new_head.as_ref());
            let path = folder.join("model.safetensors.index.json");
            files::write(&path, format!("{index:#}\n"), Existing::Refuse)
                .map_err(io_error(&path))?;
        }
        Ok(if self.is_untied() {
            Head::Untied
        } else {
            Head::Unchanged
        })
    }

    /// Whether the adapter trains one of two tables that the model ties.
    fn is_untied(&self) -> bool {
        let has = |name: &str| {
            self.adapter
                .as_ref()
                .is_some_and(|adapter| adapter.has(name))
        };
        !self.parameters.contains_key(HEAD) && (has(HEAD) || has(EMBEDDING))
    }

    /// The head that the files lack, with the file that it goes to: that of the embedding.
    fn new_head(&self) -> Option<(String, StoredTensor)> {
        let is = |stored: &StoredTensor, name: &str| stored.hub_name == name;
        let stands = |name: &str| {
            let files = self.layout.files.iter();
            files
                .flat_map(|(file, tensors)| tensors.iter().map(move |stored| (file, stored)))
                .find(|(_, stored)| is(stored, name))
        };
        if !self.is_untied() || stands(HEAD).is_some() {
            return None;
        }
        let (file, embedding) = stands(EMBEDDING)?;
        let front = match embedding.name.starts_with("language_model.") {
            true => "language_model.",
            false => "",
        };
        let head = StoredTensor {
            name: format!("{front}{HEAD}"),
            hub_name: HEAD.to_owned(),
            dtype: embedding.dtype,
        };
        Some((file.clone(), head))
    }

    fn merged_index(&self, index: &Value, new_head: Option<&(String, StoredTensor)>) -> Value {
        let mut index = index.clone();
        if let (Some((file, head)), Some(embedding)) = (new_head, self.parameters.get(EMBEDDING)) {
            index["weight_map"][&head.name] = json!(file);
            let bytes = (embedding.count() * bytes_of(head.dtype)) as u64;
            if let Some(total) = index["metadata"]["total_size"].as_u64() {
                index["metadata"]["total_size"] = json!(total + bytes);
            }
        }
        index
    }

    fn merged_view<'a>(
        &'a self,
        stored: &'a StoredTensor,
        fault: &'a Mutex<Option<UnusableValues>>,
    ) -> Option<MergedView<'a>> {
        let name = stored.hub_name.as_str();
        let base = self.stored_parameter(stored)?;
        let adapter = self.adapter.as_ref();
        let change = adapter.and_then(|adapter| Change::of(adapter, name));
        Some(MergedView {
            base: StoredView {
                parameter: base,
                dtype: stored.dtype,
            },
            change,
            name,
            fault,
        })
    }
}

fn take(fault: &Mutex<Option<UnusableValues>>) -> Option<UnusableValues> {
    fault.lock().ok().and_then(|mut fault| fault.take())
}

/// What an adapter does to one parameter.
enum Change<'a> {
    /// It trained a copy.
    Replaced(&'a Parameter),
    /// B [out, r] and A [r, in].
    Added {
        down: &'a Parameter,
        up: &'a Parameter,
        scale: f32,
    },
}

impl<'a> Change<'a> {
    fn of(adapter: &'a Adapter, name: &str) -> Option<Self> {
        if let Some(copy) = adapter.parameters.get(name) {
            return Some(Self::Replaced(copy));
        }
        let module = name.strip_suffix(".weight")?;
        let factor = |letter| {
            adapter
                .parameters
                .get(&format!("{module}.lora_{letter}.weight"))
        };
        Some(Self::Added {
            down: factor('A')?,
            up: factor('B')?,
            scale: adapter.config.scale() as f32,
        })
    }

    fn values(&self, base: &Parameter) -> Vec<f32> {
        match self {
            Self::Replaced(copy) => values(copy),
            Self::Added { down, up, scale } => {
                let mut sum = values(base);
                let columns = down.shape.get(1).copied().unwrap_or(1).max(1);
                add(&mut sum, columns, &values(down), &values(up), *scale);
                sum
            }
        }
    }
}

fn values(parameter: &Parameter) -> Vec<f32> {
    match &parameter.values {
        Values::Dense(values) => host_values(values),
        Values::Frozen(matrix) => decoded(matrix),
    }
}

/// weight [out, in] += scale · up [out, r] down [r, in]
fn add(weight: &mut [f32], columns: usize, down: &[f32], up: &[f32], scale: f32) {
    let rank = down.len() / columns;
    let rows = weight
        .par_chunks_mut(columns)
        .zip(up.par_chunks(rank.max(1)));
    rows.for_each(|(row, factors)| {
        let mut change = vec![0.0_f32; columns];
        for (factor, down) in factors.iter().zip(down.chunks(columns)) {
            for (change, value) in change.iter_mut().zip(down) {
                *change += factor * value;
            }
        }
        for (value, change) in row.iter_mut().zip(change) {
            *value += scale * change;
        }
    });
}

/// A parameter as the file wants it, worked out only when it is written.
struct MergedView<'a> {
    base: StoredView<'a>,
    change: Option<Change<'a>>,
    name: &'a str,
    fault: &'a Mutex<Option<UnusableValues>>,
}

impl MergedView<'_> {
    /// What cannot be kept of these values in the format of the file.
    fn unusable(&self, values: &[f32]) -> Option<UnusableValues> {
        let largest = values.iter().fold(0.0_f32, |largest, value| {
            // A NaN stays: `max` would lose it.
            if value.is_finite() && largest.is_finite() {
                largest.max(value.abs())
            } else {
                f32::NAN
            }
        });
        let name = self.name.to_owned();
        if !largest.is_finite() {
            return Some(UnusableValues::NotFinite { name });
        }
        let fits = self.base.dtype != Dtype::F16 || half::f16::from_f32(largest).is_finite();
        (!fits).then_some(UnusableValues::OutOfRange { name, largest })
    }
}

impl View for MergedView<'_> {
    fn dtype(&self) -> Dtype {
        self.base.dtype
    }

    fn shape(&self) -> &[usize] {
        self.base.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let Some(change) = &self.change else {
            return self.base.data();
        };
        let values = change.values(self.base.parameter);
        if let (Some(found), Ok(mut fault)) = (self.unusable(&values), self.fault.lock()) {
            fault.get_or_insert(found);
        }
        tensor_file::encoded(&values, self.base.dtype).into()
    }

    fn data_len(&self) -> usize {
        self.base.data_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 x 3 matrix, rank 2, by hand.
    #[test]
    fn the_product_of_the_factors_is_added_with_its_scale() {
        let mut weight = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let down = [1.0, 0.0, -1.0, 2.0, 1.0, 0.5];
        let up = [1.0, 10.0, 0.0, -1.0];
        add(&mut weight, 3, &down, &up, 0.5);
        // B A = [[21, 10, 4], [-2, -1, -0.5]]
        assert_eq!(weight, [11.5, 7.0, 5.0, 3.0, 4.5, 5.75]);
    }
}
