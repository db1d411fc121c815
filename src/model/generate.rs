//! Batched sampling on the device: prompts are read once per group, keys are appended in place, one readback per token.
//!
//! Knows nothing of text, rewards or teachers.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::kv_cache::KvCache;
use super::text::index_tensor;
use super::{EncodedPrompts, Qwen2Vl, row_number};
use crate::actions::generator::{Generate, GenerateError, Sampled, SamplingParameters};
use crate::kernels::{SampleOptions, sample_token};
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
        Decoder::new(self, prompts, count, parameters).run()
    }
}

/// One batch of completions in the making.
struct Decoder<'a> {
    model: &'a Qwen2Vl,
    prompts: &'a [Arc<Prompt>],
    count: usize,
    parameters: &'a SamplingParameters,
    encoded: EncodedPrompts,
    cache: KvCache,
    /// [V] 1 where a token must not be drawn.
    suppressed: Option<Tensor<1>>,
    /// One random stream per row, so that a row's draws do not depend on its neighbours.
    streams: Vec<ChaCha8Rng>,
    rows: Vec<Sampled>,
    done: Vec<bool>,
}

impl<'a> Decoder<'a> {
    fn new(
        model: &'a Qwen2Vl,
        prompts: &'a [Arc<Prompt>],
        count: usize,
        parameters: &'a SamplingParameters,
    ) -> Self {
        let rows = prompts.len() * count;
        let text = &model.config.text;
        // A batch that runs over the end of the data may hold a prompt twice: its rows go on counting.
        let earlier = |place: usize| {
            let same = prompts[..place]
                .iter()
                .filter(|other| other.id == prompts[place].id);
            same.count() * count
        };
        let streams = (0..rows)
            .map(|row| {
                let (place, index) = (row / count, row % count);
                stream(parameters.seed, &prompts[place].id, earlier(place) + index)
            })
            .collect();
        let shape = [rows, text.num_key_value_heads, text.head_dim];
        Self {
            model,
            prompts,
            count,
            parameters,
            encoded: model.encode_prompts(prompts),
            cache: KvCache::new(
                text.num_hidden_layers,
                shape,
                parameters.max_new_tokens,
                &model.device,
            ),
            suppressed: parameters
                .suppressed
                .as_deref()
                .map(|flags| flag_tensor(flags, &model.device)),
            streams,
            rows: vec![
                Sampled {
                    token_ids: Vec::new(),
                    logprobs: Vec::new(),
                    finish: FinishReason::Length
                };
                rows
            ],
            done: vec![false; rows],
        }
    }

    fn run(mut self) -> Result<Vec<Vec<Sampled>>, GenerateError> {
        let owner: Vec<u32> = (0..self.rows.len())
            .map(|row| row_number(row / self.count))
            .collect();
        let first = self.model.logits(self.encoded.last_hidden.clone());
        let mut logits = first.select(0, index_tensor(&owner, &self.model.device));
        for token in 0..self.parameters.max_new_tokens {
            let drawn = self.draw(logits, token)?;
            if self.done.iter().all(|done| *done) || token + 1 == self.parameters.max_new_tokens {
                break;
            }
            logits = self.advance(&drawn, token);
        }
        let mut rows = self.rows.into_iter();
        Ok((0..self.prompts.len())
            .map(|_| rows.by_ref().take(self.count).collect())
            .collect())
    }

    /// Draws one token for every row and keeps it for those that have not ended.
    fn draw(&mut self, logits: Tensor<2>, token: usize) -> Result<Vec<u32>, GenerateError> {
        let uniforms: Vec<f32> = self.streams.iter_mut().map(Rng::random::<f32>).collect();
        let uniforms = Tensor::from_data(
            TensorData::new(uniforms, [self.rows.len()]),
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
        let drawn = super::weights::host_values(&sample_token(
            logits,
            uniforms,
            self.suppressed.clone(),
            &options,
        ));
        let mut ids = Vec::with_capacity(self.rows.len());
        for (row, pair) in drawn.chunks_exact(2).enumerate() {
            let [id, logprob] = [pair[0], pair[1]];
            if self.done[row] {
                ids.push(0);
                continue;
            }
            if id < 0.0 || !logprob.is_finite() {
                return Err(GenerateError::NotFinite {
                    id: self.prompts[row / self.count].id.clone(),
                    token,
                });
            }
            // Ids are whole numbers below 2^24, exact in f32.
            let id = id as u32;
            ids.push(id);
            let sampled = &mut self.rows[row];
            sampled.token_ids.push(id);
            sampled.logprobs.push(logprob);
            if parameters.end_tokens.contains(&id) {
                sampled.finish = FinishReason::Stop;
                self.done[row] = true;
            }
        }
        Ok(ids)
    }

    /// Logits [rows, V] after the token at `place`.
    fn advance(&mut self, drawn: &[u32], place: usize) -> Tensor<2> {
        let ids: Vec<Vec<u32>> = drawn.iter().map(|id| vec![*id]).collect();
        let mask = self.cache.mask(place);
        let (encoded, cache, share) = (&self.encoded, &mut self.cache, self.count);
        let hidden =
            self.model
                .continue_prompts(encoded, share, &ids, place, |layer, keys, values| {
                    vec![
                        encoded.block(layer, share),
                        cache.append(layer, place, keys, values, &mask),
                    ]
                });
        let [rows, _, width] = hidden.dims();
        self.model.logits(hidden.reshape([rows, width]))
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
