//! Whether the largest tensors of a run fit one buffer of the device, asked before its first step.
//!
//! Knows the batches of a run; what a batch makes of them the model says.

use std::sync::Arc;

use anyhow::{Result, bail};
use rayon::prelude::*;

use crate::config::Run;
use crate::data::prompt::{PromptEncoder, PromptExtent};
use crate::device::OpenDevice;
use crate::model::activations::{Activation, Cause, Demand, Work};
use crate::model::config::ModelConfig;
use crate::record::Example;

/// Refuses training whose sampling or learning needs a tensor that no buffer of the device can hold.
///
/// # Errors
/// Names the tensor, its size, the limit, and the key to change; or a row whose picture cannot be read.
pub fn check_training(
    run: &Run,
    config: &ModelConfig,
    open: &OpenDevice,
    (encoder, examples): (&PromptEncoder, &[Arc<Example>]),
) -> Result<()> {
    if open.max_buffer_bytes == u64::MAX {
        return Ok(());
    }
    let extent = largest(encoder, examples)?;
    let rows = run.batch.per_device_train_batch_size;
    // The rows of a prompt are neighbours, but a cut may part them.
    let prompts = rows.div_ceil(run.group.num_generations) + 1;
    let sampled = run.completions_per_generation();
    let tokens = run.sampling.max_completion_length;
    let learning = demand(&extent, [prompts, rows, tokens], Work::Learning);
    let sampling = [run.prompts_per_generation(), sampled, tokens];
    let sampling = demand(&extent, sampling, Work::Sampling);
    check(config, open, &learning, LEARNING)?;
    check(config, open, &sampling, SAMPLING)
}

/// As [`check_training`] for supervised fine-tuning, whose rows have a prompt each.
///
/// # Errors
/// As [`check_training`].
pub fn check_supervised(
    run: &Run,
    config: &ModelConfig,
    open: &OpenDevice,
    (encoder, examples): (&PromptEncoder, &[Arc<Example>]),
) -> Result<()> {
    if open.max_buffer_bytes == u64::MAX {
        return Ok(());
    }
    let extent = largest(encoder, examples)?;
    let rows = run.batch.per_device_train_batch_size;
    let longest = run.sampling.max_completion_length;
    let learning = demand(&extent, [rows, rows, longest], Work::Learning);
    check(config, open, &learning, LEARNING)
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

fn largest(encoder: &PromptEncoder, examples: &[Arc<Example>]) -> Result<PromptExtent> {
    let extents = examples.par_iter().map(|example| encoder.extent(example));
    let largest = extents.try_reduce(PromptExtent::default, |a, b| Ok(a.max(b)));
    Ok(largest?)
}

fn demand(
    extent: &PromptExtent,
    [prompts, rows, completion_tokens]: [usize; 3],
    work: Work,
) -> Demand {
    Demand {
        prompts,
        prompt_tokens: extent.tokens,
        pictures: prompts.saturating_mul(extent.pictures),
        picture_patches: extent.picture_patches,
        rows,
        completion_tokens,
        work,
    }
}

fn check(config: &ModelConfig, open: &OpenDevice, demand: &Demand, keys: Keys) -> Result<()> {
    let allowed = open.max_buffer_bytes;
    let Activation { what, bytes, cause } = config.largest_activation(demand);
    if bytes <= allowed {
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
        megabytes(bytes),
        open.description,
        megabytes(allowed)
    )
}
