//! Model folders become models: the policy with what trains of it, and models that only answer.
//!
//! Knows nothing of prompts, rows or devices beyond their limits.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::config::Run;
use crate::device::OpenDevice;
use crate::kernels::Storage;
use crate::learner::{Learner, LearnerOptions};
use crate::model::Qwen2Vl;
use crate::model::adapter::AdapterConfig;
use crate::model::adapter::names::Naming;
use crate::model::config::ModelConfig;
use crate::model::open::{ModelPlace, attach_new};
use crate::model::parameters::spec::is_vision;
use crate::model::parameters::{Holding, Quantization, Weights};
use crate::options::{Held, WeightFormat};

/// What frozen matrices are held as.
#[must_use]
pub const fn quantization(format: WeightFormat) -> Quantization {
    Quantization {
        matrices: storage(format.matrices()),
        tables: storage(format.embeddings()),
    }
}

const fn storage(held: Held) -> Option<Storage> {
    Some(match held {
        Held::AsStored => return None,
        Held::Float32 => Storage::F32,
        Held::Bfloat16 => Storage::Bf16,
        Held::Float16 => Storage::F16,
        Held::EightBit => Storage::Q8,
        Held::FourBit => Storage::Q4,
    })
}

/// Where the policy's parts lie: those of the start, or a checkpoint over or in place of them.
///
/// # Errors
/// If the start is an adapter and the run trains whole models, or its model is not there.
pub fn policy_place(run: &Run, checkpoint: Option<&Path>) -> Result<ModelPlace> {
    let named = &run.model.model_name_or_path;
    let start = ModelPlace::of(named)?;
    if run.adapter.use_peft {
        let adapter = checkpoint.map(Path::to_owned).or(start.adapter);
        return Ok(ModelPlace { adapter, ..start });
    }
    ensure!(
        start.adapter.is_none(),
        "{}: a LoRA adapter of {}\nhint: set `use_peft: true` to train it further, or make a whole model of both: `vision-ekipl merge`",
        named.display(),
        start.base.display()
    );
    Ok(checkpoint.map_or(start, ModelPlace::plain))
}

/// The policy's weights: what trains as f32 on the device, the rest as the keys say.
///
/// # Errors
/// If a file is absent, broken, or of another model, or adapters have no layer to sit on.
pub fn policy_weights(
    run: &Run,
    place: &ModelPlace,
    open: &OpenDevice,
) -> Result<(ModelConfig, Weights)> {
    let (peft, frozen_tower) = (run.adapter.use_peft, run.model.freeze_vision_modules);
    let trains = move |name: &str| !(peft || frozen_tower && is_vision(name));
    let holding = Holding {
        trains: &trains,
        frozen: quantization(run.model.weight_format()),
        max_buffer_bytes: open.max_buffer_bytes,
    };
    let (config, mut weights) = place.open(&holding, &open.device)?;
    if peft && place.adapter.is_none() {
        let settings = adapter_settings(run, place);
        attach_new(&mut weights, settings, run.runtime.seed, &open.device)?;
    } else if let Some(adapter) = weights.adapter().filter(|_| peft) {
        say_whose_settings_count(run, place, &adapter.config);
    }
    Ok((config, weights))
}

/// An adapter that trains on keeps the settings that it was made with.
fn say_whose_settings_count(run: &Run, place: &ModelPlace, found: &AdapterConfig) {
    let asked = adapter_settings(run, place);
    let shown = |settings: &AdapterConfig| {
        format!(
            "lora_r {}, lora_alpha {}, lora_dropout {}, use_rslora {}",
            settings.r, settings.lora_alpha, settings.lora_dropout, settings.use_rslora
        )
    };
    let folder = place.adapter.as_ref().unwrap_or(&place.base).display();
    if shown(&asked) != shown(found) {
        log::info!(
            "{folder}: the adapter trains on with its own settings ({}), not with those of the keys ({})",
            shown(found),
            shown(&asked)
        );
    }
}

pub(super) fn adapter_settings(run: &Run, place: &ModelPlace) -> AdapterConfig {
    let keys = &run.adapter;
    let settings = AdapterConfig {
        r: keys.lora_r,
        lora_alpha: keys.lora_alpha as f64,
        lora_dropout: keys.lora_dropout,
        use_rslora: keys.use_rslora,
        target_modules: keys.target_modules(),
        exclude_modules: None,
        modules_to_save: keys.lora_modules_to_save.clone(),
        base_model_name_or_path: Some(place.base.display().to_string()),
        naming: Naming::Current,
    };
    if run.model.freeze_vision_modules {
        settings.without_vision_tower()
    } else {
        settings
    }
}

/// A learner of the policy at `place`.
///
/// # Errors
/// As [`policy_weights`].
pub fn open_policy(
    run: &Run,
    place: &ModelPlace,
    options: LearnerOptions,
    open: &OpenDevice,
) -> Result<Learner> {
    let (config, weights) = policy_weights(run, place, open)?;
    let folder = place.base.display().to_string();
    log::info!("{folder}: {:.1} M parameters", weights.count() as f64 / 1e6);
    Ok(Learner::new(
        config,
        weights,
        &folder,
        options,
        &open.device,
    )?)
}

/// A model that only answers, its weights as they lie in the file or as `format` says; and its weights.
///
/// # Errors
/// If a file is absent, broken, or of another model.
pub fn frozen_model(
    place: &ModelPlace,
    format: WeightFormat,
    open: &OpenDevice,
) -> Result<(Qwen2Vl, Weights)> {
    let (config, weights) = frozen(place, format, open)?;
    let folder = place.base.display().to_string();
    let model = Qwen2Vl::of_loaded(&config, &weights, &folder, &open.device)?;
    Ok((model, weights))
}

/// A learner of such a model, which says how probable tokens are and learns nothing.
///
/// # Errors
/// As [`frozen_model`].
pub fn scorer(
    place: &ModelPlace,
    format: WeightFormat,
    options: LearnerOptions,
    open: &OpenDevice,
) -> Result<Learner> {
    let (config, weights) = frozen(place, format, open)?;
    let folder = place.base.display().to_string();
    let learner = Learner::new(config, weights, &folder, options, &open.device);
    Ok(learner?)
}

fn frozen(
    place: &ModelPlace,
    format: WeightFormat,
    open: &OpenDevice,
) -> Result<(ModelConfig, Weights)> {
    let holding = Holding {
        frozen: quantization(format),
        ..Holding::frozen(open.max_buffer_bytes)
    };
    Ok(place.open(&holding, &open.device)?)
}
