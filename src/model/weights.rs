//! A model's parameters by name: loaded from, and saved to, Hugging Face safetensors files.
//!
//! Every parameter is a flat f32 tensor on one device under its hub name (`visual.*`, `model.layers.*`), whatever the
//! file calls it. Tensors are immutable handles: a clone of [`Weights`] shares all memory, an optimizer step replaces
//! values one by one. Knows nothing of what the parameters mean.

mod error;
mod files;
mod save;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use files::{EMBEDDING, HEAD, WeightFiles, hub_name, unwrapped};

pub use error::WeightsError;
pub use save::{UnusableValues, write_tensors};

use crate::device::guard;

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
    /// Whether the files hold a head that is another table than the embedding.
    own_head: bool,
}

/// What a pass over the files has seen.
#[derive(Default)]
struct Seen {
    /// The file of each hub name.
    files: BTreeMap<String, String>,
    /// Names that lost a wrapper, the first of them.
    wrapped: Option<String>,
    /// Fingerprints of the embedding and of the head.
    tables: [Option<u64>; 2],
}

impl Weights {
    /// Loads all safetensors of `folder` onto `device`, one tensor at a time: the files are memory-mapped, and no second
    /// copy of the model exists on the host. `max_buffer_bytes` is the device's limit for one buffer.
    ///
    /// # Errors
    /// If a file is absent or broken, a tensor has another number format, is not finite, stands twice, belongs to an
    /// adapter, or is too large for the device, or the device fails.
    pub fn load(
        folder: &Path,
        device: &Device,
        max_buffer_bytes: u64,
    ) -> Result<Self, WeightsError> {
        let files = WeightFiles::find(folder)?;
        let mut weights = Self::default();
        weights.layout.index = files.index;
        let mut seen = Seen::default();
        for file in files.names {
            guard("loading the weights", || {
                weights.load_file(folder, file, &mut seen, (device, max_buffer_bytes))
            })??;
        }
        if let Some(name) = seen.wrapped {
            let folder = folder.display();
            log::info!(
                "{folder}: names such as `{name}` lose what wrapped the model when it was saved"
            );
        }
        let [embedding, head] = seen.tables;
        weights.own_head = head.is_some() && head != embedding;
        Ok(weights)
    }

    fn load_file(
        &mut self,
        folder: &Path,
        file: String,
        seen: &mut Seen,
        (device, limit): (&Device, u64),
    ) -> Result<(), WeightsError> {
        let path = folder.join(&file);
        let shown = path.display().to_string();
        let io = |source| WeightsError::Io {
            path: shown.clone(),
            source,
        };
        let handle = std::fs::File::open(&path).map_err(io)?;
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
        if let Some(found) = instead(&map) {
            return Err(broken(found.to_owned()));
        }
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
            let own = unwrapped(name).ok_or_else(|| WeightsError::Adapter {
                path: shown.clone(),
                name: name.to_owned(),
            })?;
            let hub = seen.note(name, &own, &shown)?;
            let values = to_f32(&view, &shown, name)?;
            let needed = values.len() as u64 * 4;
            seen.note_table(&hub, &values);
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
                name: own,
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

    /// Replaces a parameter's values, keeping its shape.
    pub fn replace(&mut self, name: &str, value: Tensor<1>) {
        if let Some(parameter) = self.parameters.get_mut(name) {
            parameter.value = value;
        }
    }

    /// Replaces a parameter's values by what `change` makes of them, keeping its shape; false if there is no such
    /// parameter. The values are taken out for that long, so that `change` may be their only owner.
    pub fn change(&mut self, name: &str, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> bool {
        let Some((name, parameter)) = self.parameters.remove_entry(name) else {
            return false;
        };
        let Parameter { value, shape } = parameter;
        let value = change(value);
        self.parameters.insert(name, Parameter { value, shape });
        true
    }

    /// Names and parameters in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Parameter)> {
        self.parameters.iter()
    }

    /// Lets go of a head that the embedding serves as: it is no parameter, and files that repeat it get the embedding.
    pub fn tie_head(&mut self) {
        self.remove(HEAD);
    }

    /// Whether the files hold a head that is another table than the embedding; then it is the head, whatever config.json
    /// says of tying, as in transformers 5.
    #[must_use]
    pub const fn has_own_head(&self) -> bool {
        self.own_head
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
            own_head: self.own_head,
        }
    }
}

impl Seen {
    /// The hub's name of a tensor, which no other tensor may have.
    fn note(&mut self, name: &str, own: &str, file: &str) -> Result<String, WeightsError> {
        if own != name && self.wrapped.is_none() {
            self.wrapped = Some(name.escape_debug().to_string());
        }
        let hub = hub_name(own);
        match self.files.insert(hub.clone(), file.to_owned()) {
            None => Ok(hub),
            Some(first) => Err(WeightsError::Twice {
                name: hub,
                first,
                second: file.to_owned(),
            }),
        }
    }

    /// Remembers what a head might repeat.
    fn note_table(&mut self, hub: &str, values: &[f32]) {
        let place = [EMBEDDING, HEAD].iter().position(|name| *name == hub);
        if let Some(place) = place {
            // FNV-1a over the bits.
            let mixed = values.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, value| {
                (sum ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3)
            });
            self.tables[place] = Some(mixed);
        }
    }
}

/// What often lies under the name of weights.
fn instead(file: &[u8]) -> Option<&'static str> {
    let kinds: [(&[u8], &str); 4] = [
        (
            b"version https://git-lfs",
            "it is a Git LFS pointer, which `git lfs pull` replaces by the weights",
        ),
        (
            b"PK\x03\x04",
            "it is a pickled PyTorch file under another name, which save_pretrained(folder) turns into safetensors",
        ),
        (b"GGUF", "it is a GGUF file under another name"),
        (b"<", "it is a web page, not the file that it shows"),
    ];
    // A safetensors file begins with the length of its header and a brace.
    let is_whole = file.get(8) == Some(&b'{');
    let found = kinds.into_iter().find(|(start, _)| file.starts_with(start));
    found.filter(|_| !is_whole).map(|(_, what)| what)
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

/// Reads a tensor back as f32 values, where nothing can be done about a device that fails: inside of
/// [`crate::device::guard`], and in tests. Everything else uses [`crate::device::read_back`].
///
/// # Panics
/// With a [`crate::device::DeviceFailure`] if the device fails.
#[must_use]
pub fn host_values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    crate::device::read_back(tensor).unwrap_or_else(|failure| std::panic::panic_any(failure))
}
