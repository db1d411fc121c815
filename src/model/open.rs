//! A model's folder, or that of an adapter with the model it belongs to, as sizes and weights.
//!
//! Knows nothing of who asks, or of what will be computed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;

use super::adapter::{
    ADAPTER_CONFIG, AdapterConfig, AdapterError, AdapterFiles, AdapterLayout, AdapterTensor,
    initial_values,
};
use super::parameters::{Holding, Values, Weights, WeightsError, host_values};
use crate::data::model_folder::ModelFileError;
use crate::model::config::ModelConfig;

/// Where the parts of a model lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPlace {
    /// The model's own folder.
    pub base: PathBuf,
    /// The folder of an adapter that lies over it.
    pub adapter: Option<PathBuf>,
}

/// Why a model cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its configuration does not serve.
    #[error(transparent)]
    Folder(#[from] ModelFileError),
    /// Its weights do not serve.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Its adapter does not serve.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// An adapter whose model is not there.
    #[error(
        "{adapter} is a LoRA adapter of the model {base}, which is not there\nhint: put the model there, or name its folder in adapter_config.json (`base_model_name_or_path`); or merge the adapter first (`vision-ekipl merge`, or merge_and_unload of PEFT)"
    )]
    NoBase {
        /// The adapter's folder.
        adapter: String,
        /// What it says of its model.
        base: String,
    },
}

impl ModelPlace {
    /// A model's own folder, whatever else is in it.
    #[must_use]
    pub fn plain(folder: &Path) -> Self {
        Self {
            base: folder.to_owned(),
            adapter: None,
        }
    }

    /// `folder` itself; or, if it is that of an adapter, the folder that its settings name as its model: an absolute path, or
    /// one from here, or one from the adapter's folder.
    ///
    /// # Errors
    /// If the settings of the adapter do not serve, or its model is not there.
    pub fn of(folder: &Path) -> Result<Self, OpenError> {
        if !folder.join(ADAPTER_CONFIG).is_file() {
            return Ok(Self::plain(folder));
        }
        let named = AdapterFiles::read_config(folder)?.base_model_name_or_path;
        let found = named.as_ref().and_then(|named| {
            let from_here = PathBuf::from(named);
            let from_there = folder.join(named);
            [from_here, from_there].into_iter().find(|p| p.is_dir())
        });
        match found {
            Some(base) => Ok(Self {
                base,
                adapter: Some(folder.to_owned()),
            }),
            None => Err(OpenError::NoBase {
                adapter: folder.display().to_string(),
                base: named.map_or_else(
                    || "that it does not name".to_owned(),
                    |named| format!("`{}`", named.escape_debug()),
                ),
            }),
        }
    }

    /// Sizes and weights, those of the adapter laid over them.
    ///
    /// # Errors
    /// If a file is absent, broken, or of another model, or the device fails.
    pub fn open(
        &self,
        holding: &Holding<'_>,
        device: &Device,
    ) -> Result<(ModelConfig, Weights), OpenError> {
        let config = ModelConfig::open(&self.base)?;
        let mut weights = Weights::load(&self.base, holding, device)?;
        if config.text.tie_word_embeddings && !weights.has_own_head() {
            weights.tie_head();
        }
        if let Some(folder) = &self.adapter {
            let (settings, tensors) = AdapterFiles::read(folder)?;
            let layout = layout(&settings, &weights)?;
            check(&folder.display().to_string(), &layout, &tensors)?;
            attach(&mut weights, settings, tensors, device);
        }
        Ok((config, weights))
    }
}

/// Lays a new adapter over a model: its low-rank factors as PEFT begins them, the rest as it is in the model.
///
/// # Errors
/// If the settings name no layer of the model.
pub fn attach_new(
    weights: &mut Weights,
    settings: AdapterConfig,
    seed: u64,
    device: &Device,
) -> Result<(), AdapterError> {
    settings.check_names(shapes(weights))?;
    let layout = layout(&settings, weights)?;
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let drawn = initial_values(&name, &shape, seed);
        let values = drawn.unwrap_or_else(|| values_of_model(weights, &name));
        AdapterTensor {
            name,
            shape,
            values,
        }
    };
    let tensors: Vec<AdapterTensor> = layout.tensors().map(tensor).collect();
    log::info!(
        "adapter: {} layers, {:.2} M parameters train",
        layout.adapted.len(),
        layout.count() as f64 / 1e6
    );
    attach(weights, settings, tensors, device);
    Ok(())
}

fn attach(
    weights: &mut Weights,
    settings: AdapterConfig,
    tensors: Vec<AdapterTensor>,
    device: &Device,
) {
    let tensors = tensors.into_iter().map(|tensor| {
        let replaced = super::adapter::names::replaced(&tensor.name);
        let name = replaced.unwrap_or(tensor.name);
        (name, tensor.shape, tensor.values)
    });
    weights.attach(Arc::new(settings), tensors, device);
}

/// The values of the parameter that a tensor trains a copy of; a tied head's are the embedding's.
fn values_of_model(weights: &Weights, tensor: &str) -> Vec<f32> {
    let name = super::adapter::names::replaced(tensor);
    let own = name.as_deref().and_then(|name| weights.base(name));
    let Some(parameter) = own.or_else(|| weights.base(super::EMBEDDING)) else {
        return Vec::new();
    };
    match &parameter.values {
        Values::Dense(values) => host_values(values),
        Values::Frozen(matrix) => {
            let [rows, columns] = matrix.shape();
            let mut values = vec![0.0; rows * columns];
            matrix.copy_rows(0..rows, &mut values);
            values
        }
    }
}

fn layout(settings: &AdapterConfig, weights: &Weights) -> Result<AdapterLayout, AdapterError> {
    settings.lay_out(shapes(weights))
}

fn shapes(weights: &Weights) -> impl Iterator<Item = (&str, &[usize])> {
    let parameters = weights.iter();
    parameters.map(|(name, parameter)| (name.as_str(), &parameter.shape[..]))
}

/// The tensors of a file are those that its settings ask for on this model.
fn check(
    place: &str,
    layout: &AdapterLayout,
    tensors: &[AdapterTensor],
) -> Result<(), AdapterError> {
    let mismatch = |problem: String| AdapterError::Mismatch {
        place: place.to_owned(),
        problem,
        hint: "the adapter belongs to another model, or its two files to different adapters",
    };
    let mut expected: BTreeMap<String, Vec<usize>> = layout.tensors().collect();
    for AdapterTensor { name, shape, .. } in tensors {
        match expected.remove(name) {
            Some(expected) if expected == *shape => {}
            Some(expected) => {
                return Err(mismatch(format!(
                    "tensor `{}` has shape {shape:?}, expected {expected:?}",
                    name.escape_debug()
                )));
            }
            None => {
                return Err(mismatch(format!(
                    "tensor `{}` is of no layer that adapter_config.json gives an adapter on this model",
                    name.escape_debug()
                )));
            }
        }
    }
    match expected.keys().next() {
        None => Ok(()),
        Some(name) => Err(mismatch(format!(
            "{} tensors are missing, `{name}` first",
            expected.len()
        ))),
    }
}
