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
use super::text::index_tensor;
use crate::actions::generator::{Generate, GenerateError, Sampled, SamplingParameters};
use crate::kernels::{SampleOptions, Spans, Visible, attention, sample_token};
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
        let rows = &mut self.rows;
        let uniforms: Vec<f32> = self
            .alive
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
        let drawn = super::weights::host_values(&sample_token(
            logits,
            uniforms,
            self.suppressed.clone(),
            &options,
        ));
        for (row, pair) in self.alive.iter().zip(drawn.chunks_exact(2)) {
            let row = &mut rows[*row];
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
            if parameters.end_tokens.contains(&id) {
                row.sampled.finish = FinishReason::Stop;
            }
        }
        self.alive
            .retain(|row| rows[*row].sampled.finish != FinishReason::Stop);
        Ok(())
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
