//! `score`: log-probability and entropy of each token of given completions.

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::output::Output;
use super::rows::{self, Outcome, Row};
use crate::cli::ScoreArguments;
use crate::data::prompt::{PromptEncoder, PromptOptions};
use crate::learner::LearnerOptions;
use crate::model::config::{ModelConfig, TextConfig};
use crate::model::open::ModelPlace;
use crate::record::{Prompt, TokenBatch, TokenRow};
use crate::run::metrics::Progress;
use crate::run::setup;

/// `vision-ekipl score`.
pub(super) fn run(arguments: &ScoreArguments) -> Result<()> {
    let open = setup::open_device(&arguments.device.device)?;
    let folder = &arguments.model;
    let place = ModelPlace::of(folder)?;
    let config = ModelConfig::open(&place.base)?;
    let options = PromptOptions {
        context_length: Some(config.text.max_position_embeddings),
        ..PromptOptions::default()
    };
    let encoder = PromptEncoder::open(&place.base, &options)?;
    let suppressed = arguments
        .suppress_vision_tokens
        .then(|| encoder.suppressed_tokens(config.text.vocab_size));
    let rows = rows::read(&arguments.input)?;
    let output = Output {
        path: &arguments.output,
        existing: arguments.overwrite.into(),
    };
    output.check(&arguments.input, folder, &rows)?;
    let read = |row: &Row| -> Result<(Arc<Prompt>, Vec<u32>)> {
        let prompt = row.prompt(&encoder)?;
        let completion = completion(row, &encoder, &prompt, &config.text)?;
        Ok((prompt, completion))
    };
    rows::check(&rows, &|row| read(row).map(|_| ()))?;
    let learner = setup::scorer(
        &place,
        arguments.weights.format(),
        scoring(arguments.temperature, suppressed),
        &open,
    )?;
    let mut output = output.create()?;
    let mut progress = Progress::start("score", rows.len() as u64, 0);
    for row in &rows {
        let (prompt, completion_ids) = read(row)?;
        let batch = TokenBatch {
            prompts: vec![Arc::clone(&prompt)],
            rows: vec![TokenRow::plain(0, completion_ids.clone())],
        };
        let (mut logprobs, mut entropies) = learner.logprobs_and_entropies(&batch)?;
        output.append(&Outcome {
            id: row.example.id.clone(),
            prompt_ids: prompt.input_ids.clone(),
            text: encoder.decode(&completion_ids, true),
            completion_ids,
            logprobs: logprobs.remove(0),
            entropies: Some(entropies.remove(0)),
            finish_reason: None,
        })?;
        progress.advance("");
    }
    progress.finish();
    Ok(())
}

/// The given ids, or the tokens of the given text with an end token.
fn completion(
    row: &Row,
    encoder: &PromptEncoder,
    prompt: &Prompt,
    config: &TextConfig,
) -> Result<Vec<u32>> {
    let place = format!("{}: row `{}`", row.example.origin, row.example.id);
    let ids = match (&row.completion_ids, &row.example.target) {
        (Some(ids), _) => ids.clone(),
        (None, Some(text)) => {
            let mut ids = encoder
                .encode_completion(text)
                .with_context(|| place.clone())?;
            ids.push(encoder.special().end_tokens[0]);
            ids
        }
        (None, None) => {
            bail!("{place} has neither `completion` nor `completion_ids`\nhint: add one of them")
        }
    };
    let vocabulary = config.vocab_size;
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocabulary) {
        bail!(
            "{place}: token {id} is outside the vocabulary of {vocabulary}\nhint: the ids belong to another model"
        );
    }
    if ids.is_empty() {
        bail!("{place}: `completion_ids` is empty\nhint: give at least one token");
    }
    let (read, context) = (prompt.input_ids.len(), config.max_position_embeddings);
    if read + ids.len() > context {
        bail!(
            "{place}: the prompt of {read} tokens and the completion of {} exceed the context length {context}\nhint: shorten one of them",
            ids.len()
        );
    }
    Ok(ids)
}

/// A learner that only reads: nothing of the loss and the optimizer is used.
fn scoring(temperature: f32, suppressed: Option<Vec<bool>>) -> LearnerOptions {
    LearnerOptions {
        logprob_temperature: temperature,
        suppressed,
        freeze_vision_modules: true,
        ..LearnerOptions::default()
    }
}
