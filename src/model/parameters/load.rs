//! Weights out of files: mapped, checked, and put where they are held.
//!
//! Knows nothing of what the parameters mean.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use memmap2::{Mmap, UncheckedAdvice};
use rayon::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::files::{EMBEDDING, HEAD, WeightFiles, hub_name, unwrapped};
use super::{Parameter, StoredTensor, Values, Weights, WeightsError};
use crate::device::{guard, is_gpu};
use crate::kernels::{FrozenMatrix, SharedBytes, Storage};
use crate::model::tensor_file;

/// How the parameters of a model are held in memory.
#[derive(Clone, Copy)]
pub struct Holding<'a> {
    /// Which parameters train, by hub name: they are f32 on the device.
    pub trains: &'a dyn Fn(&str) -> bool,
    /// What the others' matrices are held as.
    pub frozen: Quantization,
    /// Largest buffer a kernel of the device may bind, in bytes.
    pub max_buffer_bytes: u64,
}

/// What frozen matrices are held as; `None` = the number format of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quantization {
    /// All but the next two.
    pub matrices: Option<Storage>,
    /// The embedding and the head.
    pub tables: Option<Storage>,
}

impl Holding<'static> {
    /// Everything trains.
    #[must_use]
    pub fn trained(max_buffer_bytes: u64) -> Self {
        Self {
            trains: &|_| true,
            frozen: Quantization::default(),
            max_buffer_bytes,
        }
    }

    /// Nothing trains, and everything is as it lies in the file.
    #[must_use]
    pub fn frozen(max_buffer_bytes: u64) -> Self {
        Self {
            trains: &|_| false,
            ..Self::trained(max_buffer_bytes)
        }
    }
}

/// What a pass over the files has seen.
#[derive(Default)]
struct Seen {
    /// The file of each hub name.
    files: BTreeMap<String, String>,
    /// Names that lost a wrapper, the first of them.
    wrapped: Option<String>,
    /// Where the embedding and the head lie.
    tables: [Option<Mapped>; 2],
}

/// A tensor in a mapped file.
#[derive(Debug, Clone)]
struct Mapped {
    map: Arc<Mmap>,
    range: Range<usize>,
    dtype: Dtype,
}

impl Weights {
    /// Loads all safetensors of `folder`, one tensor at a time: the files are memory-mapped, frozen matrices stay there
    /// (or are quantised from there), and no second copy of the model exists on the host.
    ///
    /// # Errors
    /// If a file is absent or broken, a tensor has another number format, is not finite, stands twice, belongs to an
    /// adapter, or is too large for the device, or the device fails.
    pub fn load(
        folder: &Path,
        holding: &Holding<'_>,
        device: &Device,
    ) -> Result<Self, WeightsError> {
        let files = WeightFiles::find(folder)?;
        let mut weights = Self::default();
        weights.layout.index = files.index;
        let mut seen = Seen::default();
        for file in files.names {
            guard("loading the weights", || {
                weights.load_file(folder, file, &mut seen, (holding, device))
            })??;
        }
        if let Some(name) = seen.wrapped {
            let folder = folder.display();
            log::info!(
                "{folder}: names such as `{name}` lose what wrapped the model when it was saved"
            );
        }
        let [embedding, head] = seen.tables;
        weights.own_head = match (&embedding, &head) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(embedding), Some(head)) => !embedding.equals(head),
        };
        Ok(weights)
    }

    fn load_file(
        &mut self,
        folder: &Path,
        file: String,
        seen: &mut Seen,
        (holding, device): (&Holding<'_>, &Device),
    ) -> Result<(), WeightsError> {
        let path = folder.join(&file);
        let shown = path.display().to_string();
        let map = Arc::new(map_file(&path)?);
        let tensors = SafeTensors::deserialize(&map).map_err(|error| {
            let bytes = map.len() as u64;
            let announced = announced_bytes(&map).filter(|announced| *announced != bytes);
            let expected = announced.map_or_else(String::new, |announced| {
                format!(" (its header announces {announced} bytes)")
            });
            broken(&shown, &map, format!("{error}{expected}"))
        })?;
        let mut names = tensors.names();
        names.sort_unstable();
        let mut stored = Vec::with_capacity(names.len());
        for name in names {
            let view = tensors
                .tensor(name)
                .map_err(|error| broken(&shown, &map, error.to_string()))?;
            let own = unwrapped(name).ok_or_else(|| WeightsError::Adapter {
                path: shown.clone(),
                name: name.to_owned(),
            })?;
            let hub = seen.note(name, &own, &shown)?;
            check_values(&view, &shown, name)?;
            let mapped = Mapped::new(&map, &view);
            let place = [EMBEDDING, HEAD].iter().position(|table| *table == hub);
            if let Some(place) = place {
                seen.tables[place] = Some(mapped.clone());
            }
            let parameter = hold(&hub, &view, mapped, (holding, device))?;
            self.parameters.insert(hub.clone(), parameter);
            stored.push(StoredTensor {
                name: own,
                hub_name: hub,
                dtype: view.dtype(),
            });
        }
        self.layout.files.push((file, stored));
        Ok(())
    }
}

/// Puts a checked tensor where the device, and who trains it, want it.
fn hold(
    name: &str,
    view: &TensorView<'_>,
    mapped: Mapped,
    (holding, device): (&Holding<'_>, &Device),
) -> Result<Parameter, WeightsError> {
    let shape = view.shape().to_vec();
    let count: usize = shape.iter().product();
    let file_storage = storage_of(view.dtype());
    let wanted = if [EMBEDDING, HEAD].contains(&name) {
        holding.frozen.tables
    } else {
        holding.frozen.matrices
    };
    let storage = wanted.unwrap_or(file_storage);
    let needed = count as u64 * 4;
    let fits = needed <= holding.max_buffer_bytes;
    let is_frozen = shape.len() >= 2 && !(holding.trains)(name);
    // Burn's own product is the faster one for plain f32 on a GPU.
    let values = if is_frozen && !(storage == Storage::F32 && fits && is_gpu(device)) {
        let rows = shape[0];
        let columns = count / rows.max(1);
        let matrix = FrozenMatrix::new([rows, columns], file_storage, mapped.shared());
        let matrix = if storage == file_storage {
            matrix
        } else {
            let stored = matrix.stored_as(storage);
            mapped.let_go();
            stored
        };
        let matrix = Arc::new(matrix);
        matrix.prepare(device);

        if is_gpu(device) {
            mapped.let_go();
        }
        Values::Frozen(matrix)
    } else if fits {
        let values = TensorData::new(to_f32(view), [count]);
        mapped.let_go();
        Values::Dense(Tensor::from_data(values, device))
    } else {
        return Err(WeightsError::TooLarge {
            name: name.to_owned(),
            needed,
            allowed: holding.max_buffer_bytes,
        });
    };
    Ok(Parameter { values, shape })
}

impl Mapped {
    fn new(map: &Arc<Mmap>, view: &TensorView<'_>) -> Self {
        let data = view.data();
        let start = data.as_ptr().addr() - map.as_ptr().addr();
        Self {
            map: Arc::clone(map),
            range: start..start + data.len(),
            dtype: view.dtype(),
        }
    }

    fn shared(&self) -> SharedBytes {
        SharedBytes::new(Arc::clone(&self.map) as _, self.range.clone())
    }

    fn bytes(&self) -> &[u8] {
        &self.map[self.range.clone()]
    }

    fn equals(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.bytes() == other.bytes()
    }

    /// Tells the system that the pages are not needed for now: values that were copied do not count twice.
    fn let_go(&self) {
        if cfg!(unix) && !self.range.is_empty() {
            // SAFETY: the map is read-only and of a file: pages that are asked for again are read again.
            let advised = unsafe {
                self.map.unchecked_advise_range(
                    UncheckedAdvice::DontNeed,
                    self.range.start,
                    self.range.len(),
                )
            };
            if let Err(error) = advised {
                log::trace!("pages stay: {error}");
            }
        }
    }
}

/// Maps a file that is to be safetensors.
fn map_file(path: &Path) -> Result<Mmap, WeightsError> {
    let shown = path.display().to_string();
    let io = |source| WeightsError::Io {
        path: shown.clone(),
        source,
    };
    let handle = std::fs::File::open(path).map_err(io)?;
    if handle.metadata().map_err(io)?.len() == 0 {
        return Err(broken(&shown, &[], "the file is empty".to_owned()));
    }
    // SAFETY: the map is read-only; a checkpoint that another program truncates while it is in use ends the process, as
    // with every reader of mapped safetensors.
    let map = unsafe { Mmap::map(&handle) }.map_err(io)?;
    match instead(&map) {
        Some(found) => Err(broken(&shown, &map, found.to_owned())),
        None => Ok(map),
    }
}

fn broken(path: &str, file: &[u8], problem: String) -> WeightsError {
    WeightsError::Broken {
        path: path.to_owned(),
        problem,
        bytes: file.len() as u64,
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

const fn storage_of(dtype: Dtype) -> Storage {
    match dtype {
        Dtype::BF16 => Storage::Bf16,
        Dtype::F16 => Storage::F16,
        _ => Storage::F32,
    }
}

/// Refuses number formats other than little-endian f32, f16 and bf16, and values that are not finite.
fn check_values(view: &TensorView<'_>, path: &str, name: &str) -> Result<(), WeightsError> {
    /// Bytes that a thread looks at in one go; a multiple of every value's size.
    const PART: usize = 1 << 20;
    // Exponents of infinity and NaN: all ones.
    let (size, ones): (usize, u32) = match view.dtype() {
        Dtype::F32 => (4, 0x7f80_0000),
        Dtype::F16 => (2, 0x7c00),
        Dtype::BF16 => (2, 0x7f80),
        other => {
            return Err(WeightsError::Format {
                path: path.to_owned(),
                name: name.to_owned(),
                found: format!("{other:?}"),
            });
        }
    };
    let has_bad = |part: &[u8]| match size {
        4 => part.as_chunks::<4>().0.iter().fold(false, |bad, bytes| {
            bad | (u32::from_le_bytes(*bytes) & ones == ones)
        }),
        _ => part.as_chunks::<2>().0.iter().fold(false, |bad, bytes| {
            bad | (u32::from(u16::from_le_bytes(*bytes)) & ones == ones)
        }),
    };
    if !view.data().par_chunks(PART).any(has_bad) {
        return Ok(());
    }
    let values = to_f32(view);
    let index = values.iter().position(|value| !value.is_finite());
    let index = index.unwrap_or_default();
    Err(WeightsError::NotFinite {
        path: path.to_owned(),
        name: name.to_owned(),
        found: values[index],
        index,
    })
}

/// The values of a tensor whose format was checked.
fn to_f32(view: &TensorView<'_>) -> Vec<f32> {
    tensor_file::numbers(view.data(), view.dtype()).unwrap_or_default()
}
