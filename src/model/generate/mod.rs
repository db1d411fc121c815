//! Batched sampling on the device: prompts are read once, keys are appended in place, and rows that wait take the places
//! of those that end. What a row draws is a function of seed, prompt and sample index, not of when it was drawn or with whom.
//!
//! ```text
//!  room     how many rows and prompt tokens the cache holds       prompts   read in order, kept while rows need them
//!  cache    keys and values in place, free stretches              rows      one completion in the making
//!  decoder  begin rows, draw, keep, end rows                      repetition  the repetition penalty
//! ```
//!
//! Knows nothing of text, rewards or teachers.

mod cache;
mod decoder;
mod prompts;
mod repetition;
mod room;
mod rows;

use std::sync::Arc;

use super::Qwen2Vl;
use crate::actions::generator::{Generate, GenerateError, Sampled, SamplingParameters};
use crate::device::guard;
use crate::record::Prompt;
use decoder::Decoder;
pub use prompts::TOKENS_AT_ONCE;
pub use room::{CACHE_BYTES, CacheRoom};

impl Generate for Qwen2Vl {
    fn generate(
        &self,
        prompts: &[Arc<Prompt>],
        count: usize,
        parameters: &SamplingParameters,
    ) -> Result<Vec<Vec<Sampled>>, GenerateError> {
        if prompts.is_empty() || count == 0 || parameters.max_new_tokens == 0 {
            return Ok(vec![Vec::new(); prompts.len()]);
        }
        let context = self.config.text.max_position_embeddings;
        for prompt in prompts {
            if prompt.input_ids.len() + parameters.max_new_tokens > context {
                return Err(GenerateError::TooLong {
                    id: prompt.id.clone(),
                    prompt: prompt.input_ids.len(),
                    completion: parameters.max_new_tokens,
                    context,
                });
            }
        }
        let sampled = guard("sampling", || {
            Decoder::new(self, prompts, count, parameters).run()
        });
        sampled.map_err(|failure| GenerateError::Failed(failure.to_string()))?
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::Device;

    use super::*;
    use crate::model::config::ModelConfig;
    use crate::model::parameters::{Holding, Weights};
    use crate::record::FinishReason;

    fn model() -> Qwen2Vl {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public/qwen2vl-tiny");
        let device = Device::flex();
        let config = ModelConfig::open(&folder).expect("config.json");
        let weights =
            Weights::load(&folder, &Holding::trained(u64::MAX), &device).expect("weights");
        Qwen2Vl::new(&config, &weights, "tiny", &device).expect("a whole model")
    }

    /// A prompt without a picture.
    fn prompt(id: &str, tokens: usize) -> Arc<Prompt> {
        Arc::new(Prompt {
            id: id.to_owned(),
            rendered: String::new(),
            input_ids: (0..tokens as u32).map(|token| 40 + token % 60).collect(),
            positions: (0..tokens as u32).map(|place| [place; 3]).collect(),
            rope_delta: 0,
            images: Vec::new(),
        })
    }

    fn parameters(max_new_tokens: usize) -> SamplingParameters {
        SamplingParameters {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_new_tokens,
            logprob_temperature: 1.0,
            end_tokens: Vec::new(),
            suppressed: None,
            generation_rows: None,
            seed: 7,
        }
    }

    #[test]
    fn nothing_asked_for_is_nothing() {
        let (model, prompts) = (model(), [prompt("a", 3), prompt("b", 2)]);
        let none = |count, tokens| model.generate(&prompts, count, &parameters(tokens));
        assert_eq!(none(0, 4).expect("nothing to do"), vec![vec![]; 2]);
        assert_eq!(none(2, 0).expect("nothing to do"), vec![vec![]; 2]);
        assert!(
            model
                .generate(&[], 2, &parameters(4))
                .expect("nothing to do")
                .is_empty()
        );
    }

    #[test]
    fn a_row_ends_with_its_first_end_token_or_at_the_limit() {
        let model = model();
        let free = model.generate(&[prompt("a", 3)], 4, &parameters(6));
        let free = free.expect("finite logits").remove(0);
        for row in &free {
            assert_eq!((row.token_ids.len(), row.logprobs.len()), (6, 6));
            assert_eq!(row.finish, FinishReason::Length);
        }
        // The third token of the first row ends every row that draws it, the same tokens being drawn.
        let end = free[0].token_ids[2];
        let ended = SamplingParameters {
            end_tokens: vec![end],
            ..parameters(6)
        };
        let ended = model
            .generate(&[prompt("a", 3)], 4, &ended)
            .expect("finite logits")
            .remove(0);
        for (free, ended) in free.iter().zip(&ended) {
            let cut = free.token_ids.iter().position(|id| *id == end);
            let length = cut.map_or(6, |place| place + 1);
            assert_eq!(ended.token_ids, free.token_ids[..length]);
            assert_eq!(ended.logprobs.len(), length);
            assert_eq!(ended.finish == FinishReason::Stop, cut.is_some());
        }
    }

    #[test]
    fn what_cannot_be_sampled_is_an_error() {
        let model = model();
        let context = model.config.text.max_position_embeddings;
        let long = model.generate(&[prompt("long", 5)], 1, &parameters(context));
        let text = long.expect_err("too long").to_string();
        assert!(
            text.starts_with("prompt `long` has 5 tokens; with"),
            "{text}"
        );
        for (temperature, top_p, name) in [
            (1e-40, 1.0, "temperature"),
            (1e38, 1.0, "temperature"),
            (1.0, 0.0, "top_p"),
        ] {
            let odd = SamplingParameters {
                temperature,
                top_p,
                ..parameters(2)
            };
            let text = model
                .generate(&[prompt("a", 2)], 1, &odd)
                .expect_err(name)
                .to_string();
            assert!(
                text.starts_with(&format!("`{name}` is ")) && text.contains("\nhint: "),
                "{text}"
            );
        }
    }

    /// What a GPU draws past an end token before the host looks changes nothing, whoever waits for the place.
    #[test]
    fn tokens_do_not_depend_on_how_often_the_host_looks() {
        let model = model();
        let prompts = [
            prompt("a", 3),
            prompt("b", 11),
            prompt("a", 3),
            prompt("c", 1),
        ];
        let parameters = |generation_rows| SamplingParameters {
            end_tokens: (0..928).filter(|id| id % 9 == 4).collect(),
            generation_rows,
            ..parameters(13)
        };
        let draw = |generation_rows, tokens_per_look| {
            let parameters = parameters(generation_rows);
            let mut decoder = Decoder::new(&model, &prompts, 3, &parameters);
            decoder.tokens_per_look = tokens_per_look;
            decoder.run().expect("finite logits")
        };
        let ids = |groups: Vec<Vec<Sampled>>| -> Vec<(Vec<u32>, FinishReason)> {
            let rows = groups.into_iter().flatten();
            rows.map(|row| (row.token_ids, row.finish)).collect()
        };
        let one_by_one = ids(draw(None, 1));
        let lengths = one_by_one.iter().map(|row| row.0.len());
        assert!(lengths.clone().min() < lengths.max(), "{one_by_one:?}");
        assert_ne!(one_by_one[0], one_by_one[6], "the second `a` counts on");
        for rows in [None, Some(1), Some(5)] {
            for tokens in [2, 3, 8, 100] {
                assert_eq!(ids(draw(rows, tokens)), one_by_one, "{rows:?}, {tokens}");
            }
        }
    }
}
