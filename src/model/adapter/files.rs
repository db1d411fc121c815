//! The folder of an adapter: settings and tensors, read with care and written as PEFT writes them.
//!
//! A folder of somebody else's is not trusted: shapes must fit the rank, values are finite, names are LoRA's. Knows nothing
//! of the model that the adapter belongs to.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, View};

use super::config::AdapterConfig;
use super::config_file::{self, ADAPTER_CONFIG};
use super::error::{AdapterError, io_error};
use super::names::{self, FACTORS, Naming};
use crate::model::tensor_file::{ValueFault, decoded, encoded, write_tensors};
use crate::system::files::{self, Existing};

/// The tensors.
pub const ADAPTER_TENSORS: &str = "adapter_model.safetensors";

const SAVE_AGAIN: &str = "save it again with PEFT, or take it from where it came from";
const PICKLED: &str = "pickled tensors are not read: PeftModel.from_pretrained(base, folder).save_pretrained(folder) \
                       writes adapter_model.safetensors";

/// One tensor of an adapter under this program's name.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterTensor {
    /// `model.layers.0.self_attn.q_proj.lora_A.weight`.
    pub name: String,
    /// [r, in], [out, r], or the shape of what it takes the place of.
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

/// The two files of an adapter.
#[derive(Debug)]
pub struct AdapterFiles;

impl AdapterFiles {
    /// Settings and tensors of the adapter in `folder`, the tensors in the order of their names.
    ///
    /// # Errors
    /// If a file is absent or broken, the settings ask for what is not computed here, or a tensor is none of LoRA's, has a
    /// shape that does not fit the rank, stands twice or is not finite.
    pub fn read(folder: &Path) -> Result<(AdapterConfig, Vec<AdapterTensor>), AdapterError> {
        let mut config = config_file::read(folder)?;
        let path = folder.join(ADAPTER_TENSORS);
        if !path.is_file() {
            let pickled = folder.join("adapter_model.bin").is_file();
            let hint = if pickled { PICKLED } else { SAVE_AGAIN };
            return Err(broken(
                &path,
                "not found; expected the tensors of an adapter".to_owned(),
                hint,
            ));
        }
        let (tensors, naming) = read_tensors(&path)?;
        config.naming = naming;
        check_ranks(&path, &config, &tensors)?;
        Ok((config, tensors))
    }

    /// The settings alone.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_config(folder: &Path) -> Result<AdapterConfig, AdapterError> {
        config_file::read(folder)
    }

    /// Writes both files into `folder`, in f32 as PEFT does; files of an adapter that are there are replaced.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(
        folder: &Path,
        config: &AdapterConfig,
        tensors: impl IntoIterator<Item = AdapterTensor>,
    ) -> Result<(), AdapterError> {
        let path = folder.join(ADAPTER_CONFIG);
        let text = format!("{:#}\n", config_file::written(config));
        files::write(&path, text, Existing::Replace).map_err(io_error(&path))?;
        let path = folder.join(ADAPTER_TENSORS);
        let views = tensors
            .into_iter()
            .map(|tensor| (config.naming.key(&tensor.name), Written(tensor)));
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        write_tensors(&path, views, metadata).map_err(io_error(&path))
    }
}

fn broken(path: &Path, problem: String, hint: &'static str) -> AdapterError {
    AdapterError::Tensors {
        path: path.display().to_string(),
        problem,
        hint,
    }
}

fn read_tensors(path: &Path) -> Result<(Vec<AdapterTensor>, Naming), AdapterError> {
    let file = File::open(path).map_err(io_error(path))?;
    // SAFETY: the map is read-only and dropped before this function returns; a file that another program truncates
    // meanwhile ends the process, as with every reader of mapped safetensors.
    let map = unsafe { Mmap::map(&file) }.map_err(io_error(path))?;
    let tensors = SafeTensors::deserialize(&map).map_err(|error| {
        let problem = format!(
            "not a whole safetensors file: {error}; {} bytes are there",
            map.len()
        );
        broken(path, problem, "copy or download it again")
    })?;
    let mut found: BTreeMap<String, AdapterTensor> = BTreeMap::new();
    let mut naming = None;
    for key in tensors.names() {
        let shown = key.escape_debug();
        let (name, shows) = names::tensor(key)
            .map_err(|what| broken(path, format!("tensor `{shown}` {what}"), SAVE_AGAIN))?;
        if naming.is_some() && shows.is_some() && naming != shows {
            let problem = format!(
                "tensor `{shown}` is named otherwise than the others: two transformers wrote them"
            );
            return Err(broken(path, problem, SAVE_AGAIN));
        }
        naming = naming.or(shows);
        let view = tensors
            .tensor(key)
            .map_err(|error| broken(path, error.to_string(), SAVE_AGAIN))?;
        let values = decoded(&view).map_err(|fault| match fault {
            ValueFault::Format(dtype) => {
                let problem = format!("tensor `{shown}` is {dtype:?}; expected F32, F16 or BF16");
                broken(path, problem, SAVE_AGAIN)
            }
            ValueFault::NotFinite { found, index } => {
                let problem = format!("tensor `{shown}` holds {found} at index {index}");
                broken(
                    path,
                    problem,
                    "the adapter is damaged or comes from a diverged run; take an earlier one",
                )
            }
        })?;
        let tensor = AdapterTensor {
            name: name.clone(),
            shape: view.shape().to_vec(),
            values,
        };
        if found.insert(name, tensor).is_some() {
            return Err(broken(
                path,
                format!("tensor `{shown}` stands twice under two names"),
                SAVE_AGAIN,
            ));
        }
    }
    if found.is_empty() {
        return Err(broken(path, "holds no tensor".to_owned(), SAVE_AGAIN));
    }
    Ok((found.into_values().collect(), naming.unwrap_or_default()))
}

/// Every factor has its other half, and both have the rank.
fn check_ranks(
    path: &Path,
    config: &AdapterConfig,
    tensors: &[AdapterTensor],
) -> Result<(), AdapterError> {
    let [a, b] = FACTORS;
    let has = |name: &str| {
        tensors
            .binary_search_by(|tensor| tensor.name.as_str().cmp(name))
            .is_ok()
    };
    for tensor in tensors {
        let module = tensor.name.strip_suffix(".weight").unwrap_or_default();
        let (other, rank) = if let Some(module) = module.strip_suffix(a) {
            (format!("{module}{b}.weight"), tensor.shape.first())
        } else if let Some(module) = module.strip_suffix(b) {
            (format!("{module}{a}.weight"), tensor.shape.get(1))
        } else {
            continue;
        };
        let shown = tensor.name.escape_debug();
        if tensor.shape.len() != 2 || rank != Some(&config.r) {
            let problem = format!(
                "tensor `{shown}` has shape {:?}; expected a matrix of rank {}, as {ADAPTER_CONFIG} says",
                tensor.shape, config.r
            );
            return Err(broken(path, problem, "both files must be of one adapter"));
        }
        if !has(&other) {
            let problem = format!(
                "tensor `{shown}` is there without `{}`",
                other.escape_debug()
            );
            return Err(broken(path, problem, SAVE_AGAIN));
        }
    }
    Ok(())
}

/// A tensor as the file wants it.
struct Written(AdapterTensor);

impl View for Written {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.0.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        encoded(&self.0.values, Dtype::F32).into()
    }

    fn data_len(&self) -> usize {
        self.0.values.len() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::settings;
    use super::*;
    use crate::options::TargetModules;

    fn tensor(name: &str, shape: &[usize]) -> AdapterTensor {
        let count: usize = shape.iter().product();
        AdapterTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            values: (0..count).map(|index| index as f32 - 1.5).collect(),
        }
    }

    fn pair(module: &str) -> [AdapterTensor; 2] {
        [
            tensor(&format!("{module}.lora_A.weight"), &[4, 3]),
            tensor(&format!("{module}.lora_B.weight"), &[5, 4]),
        ]
    }

    #[test]
    fn what_is_written_is_read_in_either_naming() {
        for naming in [Naming::Current, Naming::Earlier] {
            let config = AdapterConfig {
                modules_to_save: vec!["lm_head".to_owned(), "merger".to_owned()],
                naming,
                ..settings(TargetModules::AllLinear)
            };
            let mut tensors = Vec::from(pair("model.layers.0.mlp.up_proj"));
            tensors.push(tensor("lm_head.modules_to_save.weight", &[7, 3]));
            tensors.push(tensor("visual.merger.mlp.0.modules_to_save.bias", &[6]));
            tensors.sort_by(|a, b| a.name.cmp(&b.name));
            let folder = tempfile::tempdir().expect("a folder");
            for _ in 0..2 {
                AdapterFiles::write(folder.path(), &config, tensors.clone()).expect("written");
            }
            let (read, found) = AdapterFiles::read(folder.path()).expect("readable");
            assert_eq!((read, found), (config, tensors));
        }
    }

    #[test]
    fn files_that_do_not_fit_are_refused() {
        let module = "model.layers.0.mlp.up_proj";
        let [a, b] = pair(module);
        let with = |tensors: &[AdapterTensor]| {
            let folder = tempfile::tempdir().expect("a folder");
            let config = settings(TargetModules::AllLinear);
            AdapterFiles::write(folder.path(), &config, tensors.to_vec()).expect("written");
            AdapterFiles::read(folder.path())
                .expect_err("refused")
                .to_string()
        };
        let rank = tensor(&a.name, &[3, 3]);
        let flat = tensor(&b.name, &[20]);
        let mut infinite = a.clone();
        infinite.values[2] = f32::INFINITY;
        let other = tensor(
            "visual.blocks.0.attn.qkv.lora_magnitude_vector.weight",
            &[3],
        );
        for (tensors, part) in [
            (
                vec![a.clone()],
                "is there without `model.layers.0.mlp.up_proj.lora_B.weight`",
            ),
            (
                vec![rank, b.clone()],
                "has shape [3, 3]; expected a matrix of rank 4",
            ),
            (vec![a.clone(), flat], "has shape [20]"),
            (vec![infinite, b.clone()], "holds inf at index 2"),
            (vec![a.clone(), b.clone(), other], "belongs to DoRA"),
            (vec![], "holds no tensor"),
        ] {
            let text = with(&tensors);
            assert!(text.contains(part) && text.contains("\nhint: "), "{text}");
        }
    }

    #[test]
    fn what_lies_there_instead_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = settings(TargetModules::AllLinear);
        let module = "model.layers.0.mlp.up_proj";
        AdapterFiles::write(folder.path(), &config, pair(module)).expect("written");
        let path = folder.path().join(ADAPTER_TENSORS);
        let text = || {
            AdapterFiles::read(folder.path())
                .expect_err("refused")
                .to_string()
        };
        let whole = std::fs::read(&path).expect("readable");
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("written");
        assert!(
            text().contains("not a whole safetensors file"),
            "{}",
            text()
        );
        std::fs::write(&path, "").expect("written");
        assert!(text().contains("0 bytes are there"), "{}", text());
        std::fs::remove_file(&path).expect("removed");
        assert!(
            text().contains("adapter_model.safetensors: not found"),
            "{}",
            text()
        );
        std::fs::write(folder.path().join("adapter_model.bin"), "x").expect("written");
        assert!(
            text().contains("hint: pickled tensors are not read"),
            "{}",
            text()
        );
    }
}
