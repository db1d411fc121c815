//! A vision-language model on the same machine as a teacher, driven through [`Generate`].
//!
//! It reads the example with its own tokenizer, template and picture settings and answers in text, so it need not share
//! anything with the policy. Knows nothing of the policy.

use std::error::Error;
use std::sync::Arc;

use super::{Teacher, TeacherAnswer, TeacherError, TeacherRequest, TokenLogprobs, clean_text};
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

    /// The answer as it was drawn; where cleaning it would only cut whole tokens off its ends, without them, so that the log-
    /// probabilities of what is left stay known.
    fn answer(&self, sampled: Sampled) -> TeacherAnswer {
        let text = self.encoder.decode(&sampled.token_ids, true);
        let finish_reason = sampled.finish;
        let mut own = TokenLogprobs {
            token_ids: sampled.token_ids,
            logprobs: sampled.logprobs,
        };
        let cleaned = clean_text(&text);
        let changes = cleaned != text;
        let cut = (changes && clean_text(cleaned) == cleaned)
            .then(|| self.without_ends(&own, &text, cleaned))
            .flatten();
        let text = match cut {
            Some(kept) => {
                own = kept;
                cleaned.to_owned()
            }
            None => text.clone(),
        };
        TeacherAnswer {
            text,
            finish_reason,
            token_logprobs: Some(own),
            token_texts: None,
        }
    }

    /// The tokens of `cleaned`, a slice of `text`, and the end token; `None` if a cut goes through a token.
    fn without_ends(
        &self,
        own: &TokenLogprobs,
        text: &str,
        cleaned: &str,
    ) -> Option<TokenLogprobs> {
        let place = super::place_of(cleaned, text);
        let end = own.token_ids.len().checked_sub(1)?;
        let spelled = |count: usize| self.encoder.decode(&own.token_ids[..count], true);
        let boundary = |bytes: usize| (0..=end).find(|count| spelled(*count) == text[..bytes]);
        let (first, last) = (boundary(place.start)?, boundary(place.end)?);
        let kept = || (first..last).chain([end]);
        Some(TokenLogprobs {
            token_ids: kept().map(|index| own.token_ids[index]).collect(),
            logprobs: kept().map(|index| own.logprobs[index]).collect(),
        })
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

#[cfg(test)]
mod tests {
    use super::super::{TextCodec, to_action};
    use super::*;
    use crate::actions::generator::GenerateError;
    use crate::data::prompt::PromptOptions;
    use crate::record::{FinishReason, Prompt};

    /// Never asked: the tests hand the teacher what it drew.
    struct Silent;

    impl Generate for Silent {
        fn generate(
            &self,
            _: &[Arc<Prompt>],
            _: usize,
            _: &SamplingParameters,
        ) -> Result<Vec<Vec<Sampled>>, GenerateError> {
            Ok(Vec::new())
        }
    }

    /// The policy shares the teacher's tokenizer.
    struct Codec<'a>(&'a PromptEncoder);

    impl TextCodec for Codec<'_> {
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

    fn teacher() -> LocalTeacher {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden/public/qwen2vl-tiny");
        let encoder = PromptEncoder::open(&folder, &PromptOptions::default()).expect("a folder");
        let options = LocalOptions {
            name: "local".to_owned(),
            num_actions: 1,
            parameters: SamplingParameters {
                temperature: 1.0,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                repetition_penalty: 1.0,
                max_new_tokens: 64,
                logprob_temperature: 1.0,
                end_tokens: Vec::new(),
                suppressed: None,
                generation_rows: None,
                seed: 0,
            },
            unload_between_phases: false,
        };
        LocalTeacher::open(options, Box::new(|| Ok(Box::new(Silent))), encoder).expect("a teacher")
    }

    /// Importance weights need them, and models like to begin with a line break.
    #[test]
    fn text_with_white_space_at_its_ends_keeps_the_log_probabilities_of_the_rest() {
        let teacher = teacher();
        let codec = Codec(&teacher.encoder);
        let text = "<answer>3</answer>";
        let encoded = |text: &str| codec.encode(text).expect("every byte has a token");
        let own = encoded(text);
        let drawn = |before: &str, after: &str| {
            let parts = [encoded(before), own.clone(), encoded(after)];
            let token_ids = [parts.concat(), vec![codec.end_token()]].concat();
            let answer = teacher.answer(Sampled {
                logprobs: (0..token_ids.len()).map(|index| -(index as f32)).collect(),
                token_ids,
                finish: FinishReason::Stop,
            });
            to_action(answer, &Arc::from("local"), &codec, 64).expect("an action")
        };
        for (before, after) in [("", ""), ("\n\n", ""), ("", "\n"), ("\n", " \n\n")] {
            let action = drawn(before, after);
            assert_eq!(action.text, text);
            let (first, last) = (encoded(before).len(), encoded(after).len());
            let mut expected: Vec<f32> = (first..first + own.len())
                .map(|index| -(index as f32))
                .collect();
            expected.push(-((first + own.len() + last) as f32));
            let sum = expected.iter().sum::<f32>();
            assert_eq!(
                action.external_logprobs,
                Some(expected),
                "{before:?} {after:?}"
            );
            assert_eq!(action.external_logprob_sum, Some(sum));
        }
    }
}
