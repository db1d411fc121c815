//! `generate`: completions of one prompt, or of the rows of a file.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::output::Output;
use super::rows::{self, Outcome, Row};
use super::say::say_line;
use crate::actions::generator::{Generate, SamplingParameters};
use crate::cli::GenerateArguments;
use crate::data::prompt::{PromptEncoder, PromptOptions};
use crate::model::Qwen2Vl;
use crate::model::config::ModelConfig;
use crate::model::open::ModelPlace;
use crate::record::{ContentPart, ImageSource, Message, Prompt};
use crate::run::metrics::Progress;
use crate::run::setup;

/// Prompts decoded at a time.
const ROWS_AT_ONCE: usize = 16;

/// A model folder ready to write.
struct Session {
    encoder: PromptEncoder,
    model: Qwen2Vl,
    parameters: SamplingParameters,
}

/// `vision-ekipl generate`.
pub(super) fn run(arguments: &GenerateArguments) -> Result<()> {
    let session = Session::open(arguments)?;
    match (&arguments.input, &arguments.output) {
        (Some(input), Some(output)) => session.complete_rows(input, arguments, output),
        _ => session.complete_prompt(arguments),
    }
}

impl Session {
    fn open(arguments: &GenerateArguments) -> Result<Self> {
        let open = setup::open_device(&arguments.device.device)?;
        let place = ModelPlace::of(&arguments.model)?;
        let config = ModelConfig::open(&place.base)?;
        let options = PromptOptions {
            context_length: Some(config.text.max_position_embeddings),
            max_completion_length: arguments.max_new_tokens,
            ..PromptOptions::default()
        };
        let encoder = PromptEncoder::open(&place.base, &options)?;
        let (model, _) = setup::frozen_model(&place, arguments.weights.format(), &open)?;
        let suppressed = arguments
            .suppress_vision_tokens
            .then(|| encoder.suppressed_tokens(config.text.vocab_size).into());
        let parameters = SamplingParameters {
            temperature: arguments.temperature,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_new_tokens: arguments.max_new_tokens,
            logprob_temperature: 1.0,
            end_tokens: encoder.special().end_tokens.clone(),
            suppressed,
            generation_rows: None,
            seed: arguments.seed,
        };
        Ok(Self {
            encoder,
            model,
            parameters,
        })
    }

    fn complete(&self, prompts: &[Arc<Prompt>]) -> Result<Vec<Outcome>> {
        let groups = self.model.generate(prompts, 1, &self.parameters)?;
        let outcome = |(prompt, group): (&Arc<Prompt>, Vec<crate::actions::generator::Sampled>)| {
            let sampled = group
                .into_iter()
                .next()
                .expect("one completion was asked for");
            Outcome {
                id: prompt.id.clone(),
                prompt_ids: prompt.input_ids.clone(),
                text: self.encoder.decode(&sampled.token_ids, true),
                completion_ids: sampled.token_ids,
                logprobs: sampled.logprobs,
                entropies: None,
                finish_reason: Some(sampled.finish),
            }
        };
        Ok(prompts.iter().zip(groups).map(outcome).collect())
    }

    fn complete_prompt(&self, arguments: &GenerateArguments) -> Result<()> {
        let mut content: Vec<ContentPart> =
            arguments.image.iter().map(|_| ContentPart::Image).collect();
        content.push(ContentPart::Text {
            text: arguments.prompt.clone().unwrap_or_default(),
        });
        let messages = [Message {
            role: "user".to_owned(),
            content,
        }];
        let images: Vec<ImageSource> = arguments
            .image
            .iter()
            .cloned()
            .map(ImageSource::Path)
            .collect();
        let prompt = Arc::new(
            self.encoder
                .encode_conversation("prompt", &messages, &images)?,
        );
        let outcome = self.complete(&[prompt])?.remove(0);
        if arguments.json {
            say_line(&serde_json::to_string(&outcome)?)
        } else {
            say_line(&outcome.text)
        }
    }

    fn complete_rows(
        &self,
        input: &Path,
        arguments: &GenerateArguments,
        output: &Path,
    ) -> Result<()> {
        let rows = rows::read(input)?;
        let output = Output {
            path: output,
            existing: arguments.overwrite.into(),
        };
        output.check(input, &arguments.model, &rows)?;
        let prompt = |row: &Row| row.prompt(&self.encoder);
        rows::check(&rows, &|row| prompt(row).map(|_| ()))?;
        let mut output = output.create()?;
        let mut progress = Progress::start("generate", rows.len() as u64, 0);
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let prompts: Vec<_> = rows.iter().map(prompt).collect::<Result<_>>()?;
            for outcome in self.complete(&prompts)? {
                output.append(&outcome)?;
                progress.advance("");
            }
        }
        progress.finish();
        Ok(())
    }
}
