//! A model's parameters by name: loaded from, and saved to, Hugging Face safetensors files.
//!
//! Every parameter is a flat f32 tensor on one device under its hub name (`visual.*`, `model.layers.*`), whatever the
//! file calls it. Tensors are immutable handles: a clone of [`Weights`] shares all memory, an optimizer step replaces
//! values one by one. Knows nothing of what the parameters mean.

mod error;
mod save;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

pub use error::WeightsError;
pub use save::{UnusableValues, write_tensors};

/// One parameter: values on the device and the shape they have in files.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// [elements] row-major.
    pub value: Tensor<1>,
    /// The shape in the file.
    pub shape: Vec<usize>,
}

/// Where one tensor of a file comes from and goes to.
#[derive(Debug, Clone, PartialEq)]
struct StoredTensor {
    name: String,
    hub_name: String,
    dtype: Dtype,
}

/// How the checkpoint was laid out on disk, so that saving writes the same files.
#[derive(Debug, Clone, Default, PartialEq)]
struct Layout {
    /// File name and its tensors in their order.
    files: Vec<(String, Vec<StoredTensor>)>,
    /// `model.safetensors.index.json`, if there was one.
    index: Option<Value>,
}

/// All parameters of a model by hub name.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    parameters: BTreeMap<String, Parameter>,
    layout: Layout,
}

/// The hub's name of a tensor that transformers 5 calls `model.visual.*` or `model.language_model.*`.
fn hub_name(name: &str) -> String {
    let renames = [
        ("model.visual.", "visual."),
        ("model.language_model.", "model."),
        ("language_model.model.", "model."),
    ];
    for (from, to) in renames {
        if let Some(rest) = name.strip_prefix(from) {
            return format!("{to}{rest}");
        }
    }
    name.strip_prefix("language_model.lm_head")
        .map_or_else(|| name.to_owned(), |rest| format!("lm_head{rest}"))
}

impl Weights {
    /// Loads all safetensors of `folder` onto `device`, one tensor at a time: the files are memory-mapped, and no second
    /// copy of the model exists on the host. `max_buffer_bytes` is the device's limit for one buffer.
    ///
    /// # Errors
    /// If a file is absent or broken, a tensor has another number format, is not finite, or is too large for the device.
    pub fn load(
        folder: &Path,
        device: &Device,
        max_buffer_bytes: u64,
    ) -> Result<Self, WeightsError> {
        let (files, index) = shard_files(folder)?;
        let mut weights = Self {
            layout: Layout {
                files: Vec::new(),
                index,
            },
            ..Self::default()
        };
        for file in files {
            weights.load_file(&folder.join(&file), file, device, max_buffer_bytes)?;
        }
        Ok(weights)
    }

    fn load_file(
        &mut self,
        path: &Path,
        file: String,
        device: &Device,
        limit: u64,
    ) -> Result<(), WeightsError> {
        let shown = path.display().to_string();
        let io = |source| WeightsError::Io {
            path: shown.clone(),
            source,
        };
        let handle = std::fs::File::open(path).map_err(io)?;
        let bytes = handle.metadata().map_err(io)?.len();
        let broken = |problem: String| WeightsError::Broken {
            path: shown.clone(),
            problem,
            bytes,
        };
        if bytes == 0 {
            return Err(broken("the file is empty".to_owned()));
        }
        // SAFETY: the map is read-only and dropped before this function returns; a checkpoint that another program
        // truncates meanwhile ends the process, as with every reader of mapped safetensors.
        let map = unsafe { Mmap::map(&handle) }.map_err(io)?;
        let tensors = SafeTensors::deserialize(&map).map_err(|error| {
            let announced = announced_bytes(&map).filter(|announced| *announced != bytes);
            let expected = announced.map_or_else(String::new, |announced| {
                format!(" (its header announces {announced} bytes)")
            });
            broken(format!("{error}{expected}"))
        })?;
        let mut names = tensors.names();
        names.sort_unstable();
        let mut stored = Vec::with_capacity(names.len());
        for name in names {
            let view = tensors
                .tensor(name)
                .map_err(|error| broken(error.to_string()))?;
            let values = to_f32(&view, &shown, name)?;
            let needed = values.len() as u64 * 4;
            let hub = hub_name(name);
            if needed > limit {
                return Err(WeightsError::TooLarge {
                    name: hub,
                    needed,
                    allowed: limit,
                });
            }
            let shape = view.shape().to_vec();
            self.insert(&hub, values, shape, device);
            stored.push(StoredTensor {
                name: name.to_owned(),
                hub_name: hub,
                dtype: view.dtype(),
            });
        }
        self.layout.files.push((file, stored));
        Ok(())
    }

    /// Puts a parameter under `name`, replacing the one that was there.
    pub fn insert(&mut self, name: &str, values: Vec<f32>, shape: Vec<usize>, device: &Device) {
        let value = Tensor::from_data(
            TensorData::new(values, [shape.iter().product::<usize>()]),
            device,
        );
        self.parameters
            .insert(name.to_owned(), Parameter { value, shape });
    }

    /// Lays a model that was not loaded from files out as one f32 `model.safetensors`.
    pub fn lay_out_as_one_file(&mut self) {
        let stored = |name: &String| StoredTensor {
            name: name.clone(),
            hub_name: name.clone(),
            dtype: Dtype::F32,
        };
        let tensors = self.parameters.keys().map(stored).collect();
        self.layout = Layout {
            files: vec![("model.safetensors".to_owned(), tensors)],
            index: None,
        };
    }

    /// The parameter under a hub name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        self.parameters.get(name)
    }

    /// Replaces a parameter's values, keeping its shape; used by the optimizer.
    pub fn replace(&mut self, name: &str, value: Tensor<1>) {
        if let Some(parameter) = self.parameters.get_mut(name) {
            parameter.value = value;
        }
    }

    /// Names and parameters in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Parameter)> {
        self.parameters.iter()
    }

    /// Lets go of a head that the embedding serves as: it is no parameter, and files that repeat it get the embedding.
    pub fn tie_head(&mut self) {
        self.remove(save::HEAD);
    }

    /// Takes a parameter out; the file layout is kept.
    pub fn remove(&mut self, name: &str) -> Option<Parameter> {
        self.parameters.remove(name)
    }

    /// Number of values in all parameters.
    #[must_use]
    pub fn count(&self) -> usize {
        self.parameters
            .values()
            .map(|parameter| parameter.shape.iter().product::<usize>())
            .sum()
    }

    /// Whether every tensor is stored as f32, so that a saved folder holds the values exactly.
    #[must_use]
    pub fn stored_exactly(&self) -> bool {
        self.layout
            .files
            .iter()
            .flat_map(|(_, tensors)| tensors)
            .all(|tensor| tensor.dtype == Dtype::F32)
    }

    /// The same weights with gradients switched on for those that `trainable` accepts.
    #[must_use]
    pub fn tracked(&self, trainable: &dyn Fn(&str) -> bool) -> Self {
        let track = |(name, parameter): (&String, &Parameter)| {
            let value = parameter.value.clone();
            let value = if trainable(name) {
                value.autodiff().require_grad()
            } else {
                value
            };
            (
                name.clone(),
                Parameter {
                    value,
                    shape: parameter.shape.clone(),
                },
            )
        };
        Self {
            parameters: self.parameters.iter().map(track).collect(),
            layout: Layout::default(),
        }
    }
}

/// The files that hold the weights: the index's, or `model.safetensors`.
fn shard_files(folder: &Path) -> Result<(Vec<String>, Option<Value>), WeightsError> {
    let index_path: PathBuf = folder.join("model.safetensors.index.json");
    if !index_path.is_file() {
        if !folder.join("model.safetensors").is_file() {
            return Err(WeightsError::NoFile {
                folder: folder.display().to_string(),
            });
        }
        return Ok((vec!["model.safetensors".to_owned()], None));
    }
    let path = index_path.display().to_string();
    let text = std::fs::read_to_string(&index_path).map_err(|source| WeightsError::Io {
        path: path.clone(),
        source,
    })?;
    let broken = |problem: String| WeightsError::Broken {
        path: path.clone(),
        problem,
        bytes: text.len() as u64,
    };
    let index: Value = serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
    let map = index
        .get("weight_map")
        .and_then(Value::as_object)
        .ok_or_else(|| broken("`weight_map` is absent".to_owned()))?;
    let mut files = BTreeSet::new();
    for (tensor, file) in map {
        let name = file.as_str().filter(|name| is_plain_name(name));
        let name = name.ok_or_else(|| WeightsError::Outside {
            path: path.clone(),
            tensor: tensor.clone(),
            found: file.to_string(),
        })?;
        files.insert(name.to_owned());
    }
    Ok((files.into_iter().collect(), Some(index)))
}

/// Whether a name of a downloaded index is that of a weight file in the folder itself, on any system: it is read there, and
/// written there in every checkpoint.
fn is_plain_name(name: &str) -> bool {
    let stem = name.strip_suffix(".safetensors").unwrap_or_default();
    let is_ours = name == "optimizer.safetensors";
    !stem.is_empty() && !stem.starts_with('.') && !is_ours && !name.contains(['/', '\\', ':', '\0'])
}

/// Length of a safetensors file by its own header, if that is whole: 8 bytes, the header, the tensors.
fn announced_bytes(file: &[u8]) -> Option<u64> {
    let (length, rest) = file.split_first_chunk::<8>()?;
    let header = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let tensors: serde_json::Map<String, Value> = serde_json::from_slice(header).ok()?;
    let end = |tensor: &Value| tensor.get("data_offsets")?.get(1)?.as_u64();
    let end = tensors.values().filter_map(end).max()?;
    Some(8 + header.len() as u64 + end)
}

/// Decodes little-endian f32, f16 or bf16 and refuses values that are not finite.
fn to_f32(
    view: &safetensors::tensor::TensorView<'_>,
    path: &str,
    name: &str,
) -> Result<Vec<f32>, WeightsError> {
    let data = view.data();
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => data
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect(),
        Dtype::F16 => data
            .chunks_exact(2)
            .map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
            .collect(),
        Dtype::BF16 => data
            .chunks_exact(2)
            .map(|bytes| bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
            .collect(),
        other => {
            return Err(WeightsError::Format {
                path: path.to_owned(),
                name: name.to_owned(),
                found: format!("{other:?}"),
            });
        }
    };
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => Err(WeightsError::NotFinite {
            path: path.to_owned(),
            name: name.to_owned(),
            found: values[index],
            index,
        }),
    }
}

/// Reads a tensor back as f32 values.
///
/// # Panics
/// If the device fails: nothing can be computed or saved from then on.
#[must_use]
pub fn host_values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    tensor
        .clone()
        .without_autodiff()
        .try_into_vec_as::<f32>()
        .expect("the device answers")
}

#[cfg(test)]
mod tests {
    use super::is_plain_name;

    #[test]
    fn names_of_an_index_are_files_of_its_folder() {
        for name in [
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "weights with spaces ü.safetensors",
            "a..b.safetensors",
        ] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in [
            "/home/me/x.safetensors",
            "../x.safetensors",
            "a/../../x.safetensors",
            "part/x.safetensors",
            "..\\x.safetensors",
            "C:x.safetensors",
            "x.safetensors:stream.safetensors",
            "x\0.safetensors",
            ".safetensors",
            "..safetensors",
            ".hidden.safetensors",
            "config.json",
            "pytorch_model.bin",
            "optimizer.safetensors",
            "",
            "..",
        ] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }
}
