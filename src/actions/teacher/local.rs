//! A vision-language model on the same machine as a teacher, driven through [`Generate`].
//!
//! It reads the example with its own tokenizer, template and picture settings and answers in text, so it need not share
//! anything with the policy. Knows nothing of the policy.

use std::error::Error;
use std::sync::Arc;

use super::{Teacher, TeacherAnswer, TeacherError, TeacherRequest, TokenLogprobs};
use crate::actions::generator::{Generate, Sampled, SamplingParameters};
use crate::data::prompt::PromptEncoder;

/// Brings the model into memory; called again after [`Teacher::release`].
pub type LoadModel = Box<dyn Fn() -> Result<Box<dyn Generate>, Box<dyn Error + Send + Sync>>>;

/// How a local teacher acts.
pub struct LocalOptions {
    /// The name in every log.
    pub name: String,
    /// Actions per prompt.
    pub num_actions: usize,
    /// How its completions are drawn; the seed is replaced at each call.
    pub parameters: SamplingParameters,
    /// Whether its model leaves memory between the calls.
    pub unload_between_phases: bool,
}

/// A frozen model that writes actions.
pub struct LocalTeacher {
    options: LocalOptions,
    load: LoadModel,
    model: Option<Box<dyn Generate>>,
    encoder: PromptEncoder,
}

impl LocalTeacher {
    /// A teacher whose model is loaded at once, so that a folder that does not serve is found before the first step.
    ///
    /// # Errors
    /// What loading fails with.
    pub fn open(
        options: LocalOptions,
        load: LoadModel,
        encoder: PromptEncoder,
    ) -> Result<Self, TeacherError> {
        let mut teacher = Self {
            options,
            load,
            model: None,
            encoder,
        };
        teacher.load()?;
        teacher.release();
        Ok(teacher)
    }

    fn load(&mut self) -> Result<(), TeacherError> {
        if self.model.is_none() {
            let model = (self.load)().map_err(|error| TeacherError::Other {
                name: self.options.name.clone(),
                error,
            })?;
            self.model = Some(model);
        }
        Ok(())
    }

    fn fault(&self, error: impl Error + Send + Sync + 'static) -> TeacherError {
        TeacherError::Other {
            name: self.options.name.clone(),
            error: Box::new(error),
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
            token_texts: None,
        }
    }
}

impl Teacher for LocalTeacher {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn num_actions(&self) -> usize {
        self.options.num_actions
    }

    fn act(
        &mut self,
        requests: &[TeacherRequest<'_>],
        seed: u64,
    ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError> {
        self.load()?;
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
            ..self.options.parameters.clone()
        };
        let model = self.model.as_ref().expect("it was loaded above");
        let groups = model
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

    fn release(&mut self) {
        if self.options.unload_between_phases {
            self.model = None;
        }
    }
}
