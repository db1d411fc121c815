//! A configuration becomes the stages of a run, fresh or resumed; everything that can be wrong is found here, before
//! the first step.
//!
//! Knows how stages are built, and nothing of the order in which they act.

mod data;
mod memory;
mod opening;
mod outputs;
mod policy;
mod resuming;
mod rewards;
mod teachers;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow};

use crate::actions::advantage::AdvantageOptions;
use crate::actions::external_ratio::ExternalRatioOptions;
use crate::actions::generator::SamplingParameters;
use crate::actions::selection::SelectionOptions;
use crate::actions::teacher::TextCodec;
use crate::config::{self, Run};
use crate::data::prompt::{PromptEncoder, PromptError, PromptOptions};
use crate::device::OpenDevice;
use crate::kernels::{PolicyLossOptions, Surrogate};
use crate::learner::LearnerOptions;
use crate::learner::optimizer::adamw::AdamWOptions;
use crate::learner::optimizer::schedule::{Schedule, ScheduleKind};
use crate::model::config::ModelConfig;
use crate::options::DeviceChoice;
use crate::record::{Example, FinishReason, Prompt};

pub use data::{data_file, dataset_options, load_dataset, picture_folder};
pub use memory::{Sized, adapters};
pub(crate) use opening::{Opening, open};
pub use outputs::{check_outputs, existing_dump, external_cache, inputs};
pub use policy::{frozen_model, open_policy, policy_place, policy_weights, scorer};
pub(crate) use resuming::{refuse_changes, refuse_other_rows, rows_digest};
pub use rewards::rewards;
pub use teachers::{endpoint_teacher, record_file, roster, teacher_of};

/// Opens the device that the configuration names, and says which one it is.
///
/// # Errors
/// If there is no such device.
pub fn open_device(choice: &DeviceChoice) -> Result<OpenDevice> {
    let open = crate::device::open(choice)?;
    let reason = open
        .reason
        .map_or_else(String::new, |reason| format!(" ({reason})"));
    log::info!("device: {}{reason}", open.description);
    Ok(open)
}

/// The prompt stage of a model folder under this run's limits.
///
/// # Errors
/// If the folder's tokenizer, template or processor files do not serve.
pub fn open_encoder(run: &Run, model_dir: &Path, context: usize) -> Result<PromptEncoder> {
    let options = PromptOptions {
        min_pixels: run.data.min_pixels,
        max_pixels: run.data.max_pixels,
        max_prompt_length: run.data.max_prompt_length,
        context_length: Some(context),
        max_completion_length: run.sampling.max_completion_length,
    };
    Ok(PromptEncoder::open(model_dir, &options)?)
}

/// Encodes examples in parallel, in order.
///
/// # Errors
/// The first row that cannot be encoded: a picture that has changed since the start, or whose header did not show that it
/// is broken.
pub fn encode_all(encoder: &PromptEncoder, examples: &[Arc<Example>]) -> Result<Vec<Arc<Prompt>>> {
    use rayon::prelude::*;
    let prompts: Result<Vec<_>, PromptError> = examples
        .par_iter()
        .map(|example| encoder.encode(example).map(Arc::new))
        .collect();
    prompts.map_err(|error| match &error {
        PromptError::Example { problem, .. } if matches!(**problem, PromptError::Image { .. }) => {
            anyhow!("{error}; `verify_images: full` finds such pictures before the first step")
        }
        _ => error.into(),
    })
}

/// How a pool becomes a group.
#[must_use]
pub fn selection(run: &Run) -> SelectionOptions {
    SelectionOptions {
        selection: run.group.selection,
        ties: run.group.selection_ties,
        group_size: run.group.group_size,
        replace_max: run.group.replace_max,
        max_external_fraction: run.group.max_external_fraction,
        external_when: run.group.external_when,
    }
}

/// How rewards become advantages.
#[must_use]
pub fn advantages(run: &Run) -> AdvantageOptions {
    AdvantageOptions {
        baseline: run.group.advantage_baseline,
        scale_rewards: run.group.scale_rewards,
        aggregation: run.group.multi_objective_aggregation,
    }
}

/// How the tokens of external actions are learnt from.
#[must_use]
pub fn external_ratio(run: &Run) -> ExternalRatioOptions {
    let group = &run.group;
    let models = group.external.iter();
    ExternalRatioOptions {
        ratio: group.external_ratio,
        gamma: group.external_gamma.map(|gamma| gamma as f32),
        weight_level: group.external_is_level,
        weight_cap: group.external_is_cap,
        share: group.external_mu,
        uncertainty_weighted: group.external_phi,
        coefficient: group.external_coef as f32,
        model_weights: models
            .map(|external| (external.name.clone(), external.weight as f32))
            .collect(),
    }
}

/// The course of the learning rate over `total_steps`.
#[must_use]
pub fn schedule(run: &Run, total_steps: u64) -> Schedule {
    let (kind, warms_up) = match run.optimizer.lr_scheduler_type {
        config::SchedulerType::Linear => (ScheduleKind::Linear, true),
        config::SchedulerType::Cosine => (ScheduleKind::Cosine, true),
        config::SchedulerType::ConstantWithWarmup => (ScheduleKind::Constant, true),
        config::SchedulerType::Constant => (ScheduleKind::Constant, false),
    };
    let warmup_steps = if warms_up {
        run.warmup_steps(total_steps)
    } else {
        0
    };
    Schedule {
        kind,
        learning_rate: run.optimizer.learning_rate,
        warmup_steps,
        total_steps,
    }
}

/// The tokens that the run never gives probability.
#[must_use]
pub fn suppressed(run: &Run, encoder: &PromptEncoder, config: &ModelConfig) -> Option<Vec<bool>> {
    run.model
        .suppress_vision_tokens
        .then(|| encoder.suppressed_tokens(config.text.vocab_size))
}

/// How the learner computes; supervised fine-tuning scores raw logits.
#[must_use]
pub fn learner_options(
    run: &Run,
    suppressed: Option<Vec<bool>>,
    logprob_temperature: f64,
) -> LearnerOptions {
    LearnerOptions {
        loss: PolicyLossOptions {
            surrogate: match run.loss.loss_type {
                config::LossType::Cispo => Surrogate::Cispo,
                config::LossType::Sapo => Surrogate::Sapo {
                    positive: run.loss.sapo_temperature_pos as f32,
                    negative: run.loss.sapo_temperature_neg as f32,
                },
                _ => Surrogate::Clipped,
            },
            epsilon_low: run.loss.epsilon as f32,
            epsilon_high: run.loss.epsilon_high as f32,
            delta: run.loss.delta.map(|delta| delta as f32),
            beta: run.loss.beta as f32,
            sequence_level: run.loss.importance_sampling_level
                == config::ImportanceSamplingLevel::Sequence,
            bias_corrected_kl: run.loss.use_bias_correction_kl,
        },
        // TRL: the mean entropy of each micro-batch, divided by the accumulation steps.
        entropy_coef: (run.loss.entropy_coef / run.batch.gradient_accumulation_steps as f64) as f32,
        top_entropy_quantile: run.loss.top_entropy_quantile,
        adamw: AdamWOptions {
            beta1: run.optimizer.adam_beta1,
            beta2: run.optimizer.adam_beta2,
            epsilon: run.optimizer.adam_epsilon,
            weight_decay: run.optimizer.weight_decay,
            decay_everything: false,
        },
        max_grad_norm: run.optimizer.max_grad_norm,
        logprob_temperature: logprob_temperature as f32,
        suppressed,
        freeze_vision_modules: run.model.freeze_vision_modules,
        gradient_checkpointing: run.optimizer.gradient_checkpointing,
        dropout_seed: run.runtime.seed,
    }
}

/// How the policy's completions are drawn; the seed is set per step.
#[must_use]
pub fn sampling(
    run: &Run,
    encoder: &PromptEncoder,
    suppressed: Option<&[bool]>,
) -> SamplingParameters {
    SamplingParameters {
        temperature: run.sampling.temperature as f32,
        top_k: run.sampling.top_k,
        top_p: run.sampling.top_p as f32,
        min_p: run.sampling.min_p.unwrap_or(0.0) as f32,
        max_new_tokens: run.sampling.max_completion_length,
        repetition_penalty: run.sampling.repetition_penalty as f32,
        logprob_temperature: run.training_temperature() as f32,
        end_tokens: encoder.special().end_tokens.clone(),
        suppressed: suppressed.map(Arc::from),
        generation_rows: run.sampling.generation_rows,
        seed: run.runtime.seed,
    }
}

/// The policy's tokenizer as teachers' texts meet it.
pub struct PolicyCodec<'a>(pub &'a PromptEncoder);

impl TextCodec for PolicyCodec<'_> {
    fn encode(&self, text: &str) -> Option<Vec<u32>> {
        self.0.encode_completion(text).ok()
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.0.decode(ids, true)
    }

    fn end_token(&self) -> u32 {
        self.0.special().end_tokens[0]
    }
}

/// Whether tokens end with an end token.
#[must_use]
pub fn finish_of(ids: &[u32], end_tokens: &[u32]) -> FinishReason {
    match ids.last() {
        Some(last) if end_tokens.contains(last) => FinishReason::Stop,
        _ => FinishReason::Length,
    }
}
