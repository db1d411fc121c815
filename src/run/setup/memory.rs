//! A configuration and its rows become the sizes that a memory plan is made of; a run says what it will take, and is refused
//! before its first step where its largest tensors fit no buffer of the device.
//!
//! Reads configurations and headers of files; the arithmetic stands in `run::memory_plan`.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::policy::{adapter_settings, quantization};
use crate::config::{ExternalSource, Run, WeightFormat};
use crate::data::prompt::{PromptEncoder, PromptExtent};
use crate::device::{OpenDevice, survey};
use crate::kernels::Storage;
use crate::model::adapter::AdapterFiles;
use crate::model::config::ModelConfig;
use crate::model::open::ModelPlace;
use crate::model::parameters::spec::specs;
use crate::record::Example;
use crate::run::memory_plan::{
    Adapters, Buffer, Cause, Formats, MemoryPlan, Place, PromptSizes, Settings, TeacherSettings,
    Trained, Work,
};

/// What the sizes of a run are taken from.
#[derive(Clone, Copy)]
pub struct Sized<'a> {
    /// Its keys.
    pub run: &'a Run,
    /// Sampling and learning, or learning alone.
    pub work: Work,
    /// Sizes of the policy.
    pub config: &'a ModelConfig,
    /// What prompts become.
    pub encoder: &'a PromptEncoder,
    /// The rows that train.
    pub examples: &'a [Arc<Example>],
}

impl Sized<'_> {
    /// The settings of a plan for a device of this kind.
    ///
    /// # Errors
    /// If a picture's header or a local external model's folder cannot be read.
    pub fn settings(&self, place: Place) -> Result<Settings> {
        let run = self.run;
        let batch = &run.batch;
        let supervised = self.work == Work::Supervised;
        let trained = if run.adapter.use_peft {
            Trained::Adapters(adapters(run, self.config)?)
        } else {
            Trained::Weights {
                vision: !run.model.freeze_vision_modules,
            }
        };
        let reference = !supervised && run.loss.beta > 0.0;
        let updates = batch.steps_per_generation * run.loss.num_iterations;
        let old = updates > batch.gradient_accumulation_steps;
        let rows = batch.per_device_train_batch_size;
        Ok(Settings {
            model: self.config.clone(),
            formats: formats(run.model.weight_format(), &policy_start(run)?.base),
            trained,
            work: self.work,
            place,
            tokenizer_bytes: tokenizer_bytes(&policy_start(run)?.base),
            gradient_checkpointing: run.optimizer.gradient_checkpointing,
            keeps_gradients: run.optimizer.max_grad_norm > 0.0
                || batch.gradient_accumulation_steps > 1,
            reference,
            scores: !supervised
                && (reference || old || run.group.external_ratio.needs_external_logprobs()),
            prompts: if supervised {
                rows
            } else {
                run.prompts_per_generation()
            },
            samples: if supervised {
                1
            } else {
                run.group.num_generations
            },
            generation_rows: run.sampling.generation_rows,
            group: if supervised { 1 } else { run.group.group_size },
            micro_batches: if supervised {
                1
            } else {
                batch.steps_per_generation
            },
            accumulation: batch.gradient_accumulation_steps,
            completion_tokens: run.sampling.max_completion_length,
            prompt: largest(self.encoder, self.examples)?,
            teachers: if supervised {
                Vec::new()
            } else {
                teachers(run)?
            },
            unload_teachers: run.group.unload_between_phases,
        })
    }
}

/// The largest prompt in each respect, from the headers of pictures alone.
fn largest(encoder: &PromptEncoder, examples: &[Arc<Example>]) -> Result<PromptSizes> {
    let extents = examples.par_iter().map(|example| encoder.extent(example));
    let largest = extents.try_reduce(PromptExtent::default, |a, b| Ok(a.max(b)))?;
    Ok(PromptSizes {
        tokens: largest.tokens,
        pictures: largest.pictures,
        picture_patches: largest.picture_patches,
    })
}

/// The adapters that train, or that would with `use_peft: true`.
///
/// # Errors
/// If the keys name no layer of the model, or the start is an adapter whose settings do not serve.
pub fn adapters(run: &Run, config: &ModelConfig) -> Result<Adapters> {
    let place = policy_start(run)?;
    let settings = match &place.adapter {
        Some(folder) => AdapterFiles::read_config(folder)?,
        None => adapter_settings(run, &place),
    };
    let specs = specs(config);
    let parameters = specs
        .iter()
        .map(|spec| (spec.name.as_str(), spec.shape.as_slice()));
    let layout = settings.lay_out(parameters)?;
    let whole = layout.saved.into_iter();
    Ok(Adapters {
        rank: settings.r,
        dropout: settings.lora_dropout > 0.0,
        modules: layout
            .adapted
            .into_iter()
            .map(|layer| layer.module)
            .collect(),
        whole: whole
            .map(|saved| (saved.parameter, saved.shape.iter().product()))
            .collect(),
    })
}

/// Where the start lies, whether or not adapters are to train.
fn policy_start(run: &Run) -> Result<ModelPlace> {
    Ok(ModelPlace::of(&run.model.model_name_or_path)?)
}

/// The local models, each folder once.
fn teachers(run: &Run) -> Result<Vec<TeacherSettings>> {
    let mut found: Vec<(&Path, TeacherSettings)> = Vec::new();
    for external in &run.group.external {
        let ExternalSource::Local(local) = &external.source else {
            continue;
        };
        let folder = local.model_name_or_path.as_path();
        let actions = external.num_actions;
        let completion_tokens = local.max_tokens.min(run.sampling.max_completion_length);
        if let Some((_, known)) = found.iter_mut().find(|(known, _)| *known == folder) {
            known.actions = known.actions.max(actions);
            known.completion_tokens = known.completion_tokens.max(completion_tokens);
            continue;
        }
        let base = ModelPlace::of(folder)?.base;
        found.push((
            folder,
            TeacherSettings {
                model: ModelConfig::open(&base)?,
                formats: formats(local.format, &base),
                actions,
                completion_tokens,
            },
        ));
    }
    Ok(found.into_iter().map(|(_, teacher)| teacher).collect())
}

fn formats(keys: WeightFormat, folder: &Path) -> Formats {
    let wanted = quantization(keys);
    let stored = stored_as(folder).unwrap_or(Storage::F32);
    Formats {
        matrices: wanted.matrices.unwrap_or(stored),
        tables: wanted.tables.unwrap_or(stored),
    }
}

/// `tokenizer.json`, or what takes its place.
fn tokenizer_bytes(folder: &Path) -> u64 {
    let size = |name: &str| folder.join(name).metadata().map_or(0, |data| data.len());
    let whole = size("tokenizer.json");
    if whole > 0 {
        whole
    } else {
        size("vocab.json") + size("merges.txt")
    }
}

/// The number format of most values of a folder's first weight file; its header alone is read.
fn stored_as(folder: &Path) -> Option<Storage> {
    /// Longer headers are none.
    const LONGEST_HEADER: u64 = 64 << 20;
    let entries = std::fs::read_dir(folder).ok()?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_weights =
        |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "safetensors");
    let mut file = std::fs::File::open(paths.filter(is_weights).min()?).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let length = u64::from_le_bytes(length);
    let mut header = Vec::new();
    file.take(length.min(LONGEST_HEADER))
        .read_to_end(&mut header)
        .ok()?;
    let tensors: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&header).ok()?;
    let largest = tensors.values().max_by_key(|tensor| {
        let offsets = tensor["data_offsets"].as_array()?;
        offsets
            .last()?
            .as_u64()?
            .checked_sub(offsets.first()?.as_u64()?)
    })?;
    match largest["dtype"].as_str()? {
        "F32" => Some(Storage::F32),
        "BF16" => Some(Storage::Bf16),
        "F16" => Some(Storage::F16),
        _ => None,
    }
}

/// Says what a run will take of memory, warns where the device has less, and refuses a run whose sampling or learning needs
/// a tensor that no buffer of the device can hold.
///
/// # Errors
/// Names the tensor, its size, the limit, and the key to change; or a row whose picture cannot be read.
pub(super) fn check_memory(sized: &Sized<'_>, open: &OpenDevice) -> Result<()> {
    let device = survey(&sized.run.runtime.device)?;
    let place = if device.is_gpu {
        Place::Gpu
    } else {
        Place::Cpu
    };
    let settings = sized.settings(place)?;
    let (phase, bytes) = MemoryPlan::new(&settings).peak();
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let planned = format!(
        "planned peak: {:.2} GB in {}",
        gigabytes(bytes),
        phase.name()
    );
    match device.memory_bytes {
        Some(memory) if bytes > memory => log::warn!(
            "{planned}, and {} has {:.2} GB\nhint: `vision-ekipl plan` with the same arguments says what would make it fit",
            device.name,
            gigabytes(memory)
        ),
        _ => log::info!("{planned}"),
    }
    check(open, &settings.largest_of_update(), LEARNING)?;
    match settings.largest_of_sampling() {
        Some(largest) => check(open, &largest, SAMPLING),
        None => Ok(()),
    }
}

/// Keys that make prompts and completions of a batch smaller.
type Keys = [&'static str; 2];
const LEARNING: Keys = [
    "per_device_train_batch_size",
    "per_device_train_batch_size or max_completion_length",
];
const SAMPLING: Keys = [
    "steps_per_generation (or generation_batch_size)",
    "steps_per_generation (or generation_batch_size) or max_completion_length",
];

fn check(open: &OpenDevice, largest: &Buffer, keys: Keys) -> Result<()> {
    let allowed = open.max_buffer_bytes;
    let Buffer { what, bytes, cause } = largest;
    if *bytes <= allowed {
        return Ok(());
    }
    let key = match cause {
        Cause::Picture => "max_pixels".to_owned(),
        Cause::Prompts => format!("max_pixels or {}", keys[0]),
        Cause::Completions => keys[1].to_owned(),
    };
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    bail!(
        "{what} takes a buffer of {:.0} MB, and {} allows {:.0} MB\nhint: lower {key}, or run on --device cpu or on an adapter with larger buffers (`vision-ekipl doctor` lists them)",
        megabytes(*bytes),
        open.description,
        megabytes(allowed)
    )
}
