//! A vision-language model on the same machine as a teacher, driven through [`Generate`].
//!
//! It reads the example with its own tokenizer, template and picture settings and answers in text, so it need not share
//! anything with the policy. Knows nothing of the policy.

use std::sync::Arc;

use super::{Teacher, TeacherAnswer, TeacherError, TeacherRequest, TokenLogprobs};
use crate::generator::{Generate, Sampled, SamplingParameters};
use crate::prompt::PromptEncoder;

/// A frozen model that writes actions.
pub struct LocalTeacher {
    name: String,
    num_actions: usize,
    model: Box<dyn Generate>,
    encoder: PromptEncoder,
    parameters: SamplingParameters,
}

impl LocalTeacher {
    /// A teacher of this name; the seed of `parameters` is replaced at each call.
    #[must_use]
    pub fn new(
        name: &str,
        num_actions: usize,
        model: Box<dyn Generate>,
        encoder: PromptEncoder,
        parameters: SamplingParameters,
    ) -> Self {
        Self {
            name: name.to_owned(),
            num_actions,
            model,
            encoder,
            parameters,
        }
    }

    fn fault(&self, source: impl std::error::Error + Send + Sync + 'static) -> TeacherError {
        TeacherError::Other {
            name: self.name.clone(),
            error: Box::new(source),
        }
    }

    fn answer(&self, sampled: Sampled) -> TeacherAnswer {
        TeacherAnswer {
            text: self.encoder.decode(&sampled.token_ids, true),
            finish_reason: sampled.finish,
            token_logprobs: Some(TokenLogprobs {
                token_ids: sampled.token_ids,
                logprobs: sampled.logprobs,
            }),
        }
    }
}

impl Teacher for LocalTeacher {
    fn name(&self) -> &str {
        &self.name
    }

    fn num_actions(&self) -> usize {
        self.num_actions
    }

    fn act(
        &mut self,
        requests: &[TeacherRequest<'_>],
        seed: u64,
    ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError> {
        let count = requests
            .iter()
            .map(|request| request.num_actions)
            .max()
            .unwrap_or(0);
        let encode =
            |request: &TeacherRequest<'_>| self.encoder.encode(request.example).map(Arc::new);
        let prompts: Vec<_> = requests
            .iter()
            .map(encode)
            .collect::<Result<_, _>>()
            .map_err(|error| self.fault(error))?;
        let parameters = SamplingParameters {
            seed,
            ..self.parameters.clone()
        };
        let groups = self
            .model
            .generate(&prompts, count, &parameters)
            .map_err(|error| self.fault(error))?;
        let answers = groups.into_iter().zip(requests).map(|(group, request)| {
            group
                .into_iter()
                .take(request.num_actions)
                .map(|sampled| self.answer(sampled))
                .collect()
        });
        Ok(answers.collect())
    }
}
