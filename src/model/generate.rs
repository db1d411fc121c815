//! Batched sampling on the device: prompts are read once per group, keys are appended in place, one readback per token.
//! A row that ends leaves the batch; what it drew and what the others draw does not depend on when.
//!
//! Knows nothing of text, rewards or teachers.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Qwen2Vl;
use super::kv_cache::KvCache;
use super::packing::{Packed, next_position, number};
use super::repetition::SeenTokens;
use super::text::index_tensor;
use crate::actions::generator::{Generate, GenerateError, Sampled, SamplingParameters};
use crate::device::{guard, read_back};
use crate::kernels::{
    SampleOptions, SampleOptionsError, Spans, TokenLogprobOptions, Visible, attention,
    logits_logprob, sample_token,
};
use crate::record::{FinishReason, Prompt};

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

/// One completion in the making.
struct Row {
    /// Index of its prompt.
    prompt: usize,
    /// Its place in the cache.
    cache: Range<u32>,
    /// Its own random stream, so that a row's draws do not depend on its neighbours.
    stream: ChaCha8Rng,
    sampled: Sampled,
}

/// One batch of completions in the making.
struct Decoder<'a> {
    model: &'a Qwen2Vl,
    prompts: &'a [Arc<Prompt>],
    packed: Packed,
    parameters: &'a SamplingParameters,
    cache: KvCache,
    /// [V] 1 where a token must not be drawn.
    suppressed: Option<Tensor<1>>,
    /// The tokens that a repetition penalty acts on, if there is one.
    seen: Option<SeenTokens>,
    rows: Vec<Row>,
    /// Rows that have not ended.
    alive: Vec<usize>,
}

impl<'a> Decoder<'a> {
    fn new(
        model: &'a Qwen2Vl,
        prompts: &'a [Arc<Prompt>],
        count: usize,
        parameters: &'a SamplingParameters,
    ) -> Self {
        let text = &model.config.text;
        let packed = Packed::new(prompts, &[]);
        let count_of_rows = prompts.len() * count;
        let cache = KvCache::new(
            text.num_hidden_layers,
            [text.num_key_value_heads, text.head_dim],
            [packed.ids.len(), count_of_rows, parameters.max_new_tokens],
            &model.device,
        );
        // A batch that runs over the end of the data may hold a prompt twice: its rows go on counting.
        let earlier = |place: usize| {
            let same = prompts[..place]
                .iter()
                .filter(|other| other.id == prompts[place].id);
            same.count() * count
        };
        let row = |row: usize| {
            let (prompt, index) = (row / count, row % count);
            Row {
                prompt,
                cache: cache.of_row(row),
                stream: stream(
                    parameters.seed,
                    &prompts[prompt].id,
                    earlier(prompt) + index,
                ),
                sampled: Sampled {
                    token_ids: Vec::new(),
                    logprobs: Vec::new(),
                    finish: FinishReason::Length,
                },
            }
        };
        Self {
            model,
            prompts,
            parameters,
            suppressed: parameters
                .suppressed
                .as_deref()
                .map(|flags| flag_tensor(flags, &model.device)),
            seen: SeenTokens::new(prompts, count, parameters.repetition_penalty),
            rows: (0..count_of_rows).map(row).collect(),
            alive: (0..count_of_rows).collect(),
            packed,
            cache,
        }
    }

    fn run(mut self) -> Result<Vec<Vec<Sampled>>, GenerateError> {
        let mut logits = self.read_prompts();
        for token in 0..self.parameters.max_new_tokens {
            self.draw(logits, token)?;
            if self.alive.is_empty() || token + 1 == self.parameters.max_new_tokens {
                break;
            }
            logits = self.advance();
        }
        let mut completions = vec![Vec::new(); self.prompts.len()];
        for row in self.rows {
            completions[row.prompt].push(row.sampled);
        }
        Ok(completions)
    }

    /// Logits [rows, V] of every row's first token: those of its prompt.
    fn read_prompts(&mut self) -> Tensor<2> {
        let (model, packed, cache) = (self.model, &self.packed, &mut self.cache);
        let places: Arc<[u32]> = (0..number(packed.ids.len())).collect();
        let hidden = model.text.forward(
            model.embed(self.prompts, packed),
            &model.rotary(&packed.positions),
            |layer, [queries, keys, values]| {
                cache.write(layer, [keys.clone(), values.clone()], &places);
                attention(queries, keys, values, &packed.spans)
            },
        );
        let last = index_tensor(&packed.last_of_prompts(), &model.device);
        let owners: Vec<u32> = self.rows.iter().map(|row| number(row.prompt)).collect();
        let logits = model.logits(hidden.select(0, last));
        logits.select(0, index_tensor(&owners, &model.device))
    }

    /// Draws one token for every row that is alive, from logits [alive, V].
    fn draw(&mut self, logits: Tensor<2>, token: usize) -> Result<(), GenerateError> {
        let (alive, rows) = (&self.alive, &mut self.rows);
        let uniforms: Vec<f32> = alive
            .iter()
            .map(|row| rows[*row].stream.random::<f32>())
            .collect();
        let uniforms = Tensor::from_data(
            TensorData::new(uniforms, [self.alive.len()]),
            &self.model.device,
        );
        let parameters = self.parameters;
        let options = SampleOptions {
            temperature: parameters.temperature,
            top_k: parameters.top_k,
            top_p: parameters.top_p,
            min_p: parameters.min_p,
            logprob_temperature: parameters.logprob_temperature,
        };
        let failed = |error: &dyn std::error::Error| GenerateError::Failed(error.to_string());
        let drawn = self.sample(logits, uniforms, &options);
        let drawn = read_back(&drawn.map_err(|error| failed(&error))?);
        let drawn = drawn.map_err(|error| failed(&error))?;
        for (index, pair) in self.alive.iter().zip(drawn.chunks_exact(2)) {
            let row = &mut self.rows[*index];
            let [id, logprob] = [pair[0], pair[1]];
            if id < 0.0 || !logprob.is_finite() {
                return Err(GenerateError::NotFinite {
                    id: self.prompts[row.prompt].id.clone(),
                    token,
                });
            }
            // Ids are whole numbers below 2^24, exact in f32.
            let id = id as u32;
            row.sampled.token_ids.push(id);
            row.sampled.logprobs.push(logprob);
            if let Some(seen) = &mut self.seen {
                seen.add(*index, id);
            }
            if parameters.end_tokens.contains(&id) {
                row.sampled.finish = FinishReason::Stop;
            }
        }
        let rows = &self.rows;
        self.alive
            .retain(|row| rows[*row].sampled.finish != FinishReason::Stop);
        Ok(())
    }

    /// Ids and log-probabilities [alive, 2]. A repetition penalty changes what is drawn, not the log-probability.
    fn sample(
        &self,
        logits: Tensor<2>,
        uniforms: Tensor<1>,
        options: &SampleOptions,
    ) -> Result<Tensor<2>, SampleOptionsError> {
        let suppressed = || self.suppressed.clone();
        let Some(seen) = &self.seen else {
            return sample_token(logits, uniforms, suppressed(), options);
        };
        let penalised = seen.penalise(logits.clone(), &self.alive);
        let ids = sample_token(penalised, uniforms, suppressed(), options)?.narrow(1, 0, 1);
        let plain = TokenLogprobOptions {
            temperature: options.logprob_temperature,
            suppressed: suppressed(),
            with_entropy: false,
            entropy_gradient: false,
        };
        let rows = self.alive.len();
        let logprobs = logits_logprob(logits, ids.clone().int().reshape([rows]), &plain).logprobs;
        Ok(Tensor::cat(vec![ids, logprobs.reshape([rows, 1])], 1))
    }

    /// Logits [alive, V] after the last token of every row that is alive.
    fn advance(&mut self) -> Tensor<2> {
        let (mut ids, mut positions, mut places, mut visible) = (vec![], vec![], vec![], vec![]);
        for row in self.alive.iter().map(|row| &self.rows[*row]) {
            let drawn = &row.sampled.token_ids;
            let before = number(drawn.len() - 1);
            ids.push(drawn[drawn.len() - 1]);
            positions.push([next_position(&self.prompts[row.prompt]) + before; 3]);
            places.push(row.cache.start + before);
            visible.push(Visible {
                prefix: self.packed.prompts[row.prompt].clone(),
                own: row.cache.start..row.cache.start + before + 1,
            });
        }
        let spans = Arc::new(Spans::new(visible, self.cache.places()));
        let places: Arc<[u32]> = places.into();
        let (model, cache) = (self.model, &mut self.cache);
        let hidden = model.text.forward(
            model.text.embed(&ids, &model.device),
            &model.rotary(&positions),
            |layer, [queries, keys, values]| {
                let [keys, values] = cache.write(layer, [keys, values], &places);
                attention(queries, keys, values, &spans)
            },
        );
        model.logits(hidden)
    }
}

/// [V] flags as a tensor of 0 and 1.
pub(crate) fn flag_tensor(flags: &[bool], device: &burn::tensor::Device) -> Tensor<1> {
    let values: Vec<f32> = flags
        .iter()
        .map(|flag| f32::from(u8::from(*flag)))
        .collect();
    Tensor::from_data(TensorData::new(values, [flags.len()]), device)
}

/// The random stream of one row: a function of seed, prompt and sample index only.
fn stream(seed: u64, prompt: &str, index: usize) -> ChaCha8Rng {
    let bytes = seed
        .to_le_bytes()
        .into_iter()
        .chain(prompt.bytes())
        .chain((index as u64).to_le_bytes());
    ChaCha8Rng::seed_from_u64(crate::seed::fnv1a(bytes))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use burn::tensor::Device;

    use super::*;
    use crate::model::config::ModelConfig;
    use crate::model::parameters::{Holding, Weights};

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

    #[test]
    fn streams_differ_by_seed_prompt_and_row() {
        let first = |seed, prompt: &str, index| stream(seed, prompt, index).random::<u64>();
        let all = [
            first(1, "a", 0),
            first(2, "a", 0),
            first(1, "b", 0),
            first(1, "a", 1),
        ];
        for (place, value) in all.iter().enumerate() {
            assert!(!all[..place].contains(value), "{all:?}");
        }
        assert_eq!(first(1, "a", 0), all[0], "and repeat");
    }
}
