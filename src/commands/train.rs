//! `train` and `sft`: resolve the configuration, then run it or say what it would take.

use anyhow::Result;

use super::interrupts::{self, FirstSignal};
use super::say::{say, say_line};
use crate::cli::TrainArguments;
use crate::config::{self, Purpose, Run};
use crate::model::config::ModelConfig;
use crate::run::{setup, sft, train};

/// A run saves what it has learnt.
pub(super) const AFTER_STEP: FirstSignal =
    FirstSignal::Finishes("stopping after this step, with a checkpoint");

/// `vision-ekipl train`.
pub(super) fn train(arguments: &TrainArguments) -> Result<()> {
    let run = load(arguments, Purpose::Train)?;
    if arguments.dry_run {
        return dry_run(&run, Purpose::Train);
    }
    interrupts::catch(AFTER_STEP)?;
    let folder = train::train(run)?;
    say_line(&folder.display().to_string())
}

/// `vision-ekipl sft`.
pub(super) fn sft(arguments: &TrainArguments) -> Result<()> {
    let run = load(arguments, Purpose::Sft)?;
    if arguments.dry_run {
        return dry_run(&run, Purpose::Sft);
    }
    interrupts::catch(AFTER_STEP)?;
    let folder = sft::fine_tune(run)?;
    say_line(&folder.display().to_string())
}

fn load(arguments: &TrainArguments, purpose: Purpose) -> Result<Run> {
    let run = config::load(purpose, &arguments.config, &arguments.keys.flags)?;
    run.log_remarks();
    setup::check_outputs(&run, &arguments.config)?;
    Ok(run)
}

/// Prints the resolved configuration, the steps, and an estimate of the device memory.
fn dry_run(run: &Run, purpose: Purpose) -> Result<()> {
    let start = &run.model.model_name_or_path;
    let config = ModelConfig::open(start)?;
    let encoder = setup::open_encoder(run, start, config.text.max_position_embeddings)?;
    let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
    let dataset = setup::load_dataset(run, &file, &encoder, None)?;
    let rows = dataset.examples.len();
    let steps = if purpose == Purpose::Sft {
        run.sft_steps(rows)?
    } else {
        run.steps(rows)?
    };
    let sample = &dataset.examples[..rows.min(64)];
    let lengths = sample.iter().map(|example| encoder.check(example));
    let lengths: Vec<usize> = lengths.collect::<Result<_, _>>()?;
    let longest = lengths.into_iter().max().unwrap_or(0);
    let mut text = format!(
        "{}\n\n# {rows} rows ({} rejected), {steps} optimizer steps, prompts of up to {longest} tokens\n",
        run.to_yaml().trim_end(),
        dataset.rejected.len()
    );
    for (what, bytes) in memory(run, &config, longest, purpose) {
        text.push_str(&format!("# {:>9.1} MB  {what}\n", bytes / 1e6));
    }
    say(&text)
}

/// Device memory by part, in bytes: what is certain (weights, gradients, moments) and what follows from the shapes.
fn memory(
    run: &Run,
    config: &ModelConfig,
    prompt: usize,
    purpose: Purpose,
) -> Vec<(&'static str, f64)> {
    let parameters = config.parameter_count() as f64 * 4.0;
    let text = &config.text;
    let rows = run.batch.per_device_train_batch_size as f64;
    let (completion, prompt) = (run.sampling.max_completion_length as f64, prompt as f64);
    let own = if purpose == Purpose::Sft {
        1.0
    } else {
        run.group.num_generations as f64
    };
    let tokens = rows * completion + (rows / own).ceil() * prompt;
    // Per token and layer autodiff keeps about 12 values of the hidden width, 4 of the MLP's, and the attention scores.
    let scores = text.num_attention_heads as f64 * (prompt + completion) * 3.0;
    let widths = 12.0 * text.hidden_size as f64 + 4.0 * text.intermediate_size as f64;
    let per_token = text.num_hidden_layers as f64 * (widths + scores);
    let keys = text.num_key_value_heads as f64 * text.head_dim as f64;
    let cache = run.completions_per_generation() as f64
        * completion
        * text.num_hidden_layers as f64
        * 2.0
        * keys
        * 4.0;
    let mut parts = vec![
        ("weights", parameters),
        ("gradients", parameters),
        ("AdamW moments", 2.0 * parameters),
        (
            "activations of one micro-batch (estimate)",
            tokens * per_token * 4.0,
        ),
        (
            "logits of one tile",
            crate::kernels::LOGITS_CHUNK_BYTES as f64,
        ),
    ];
    if purpose == Purpose::Train {
        parts.push(("keys and values of the rollouts", cache));
        if run.loss.beta > 0.0 {
            parts.push(("reference model", parameters));
        }
    }
    parts.push(("total", parts.iter().map(|(_, bytes)| bytes).sum()));
    parts
}
