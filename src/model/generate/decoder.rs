//! Continuous batching: rows draw tokens together; one that ends gives its places to one that waits.
//!
//! Rows begin in order of their numbers, so those that are alive lie in that order, and rows of one prompt side by side.
//! Knows nothing of text, rewards or teachers.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

use super::cache::{KvCache, Stretches};
use super::prompts::CachedPrompts;
use super::repetition::SeenTokens;
use super::room::CacheRoom;
use super::rows::{Row, stream, uniforms};
use crate::actions::generator::{GenerateError, Sampled, SamplingParameters};
use crate::device::read_back;
use crate::kernels::{
    Places, SampleOptions, SampleOptionsError, Spans, TokenLogprobOptions, Visible, attention,
    logits_logprob, sample_token,
};
use crate::model::packing::{next_position, number};
use crate::model::rotary::Rotary;
use crate::model::{Qwen2Vl, flag_tensor, index_tensor};
use crate::record::Prompt;

/// Tokens that a GPU draws before the host looks at them: a look waits for all that was asked for. What a row draws
/// after its end token is dropped.
const TOKENS_PER_LOOK: usize = 8;

/// A batch of completions in the making.
pub(super) struct Decoder<'a> {
    model: &'a Qwen2Vl,
    prompts: &'a [Arc<Prompt>],
    count: usize,
    parameters: &'a SamplingParameters,
    /// How many tokens are drawn before the host looks.
    pub tokens_per_look: usize,
    room: CacheRoom,
    cache: KvCache,
    cached: CachedPrompts<'a>,
    free_rows: Stretches,
    /// Angles of every position that a completion may have, from `first_position` on.
    rotary: Rotary,
    first_position: u32,
    /// [V] 1 where a token must not be drawn.
    suppressed: Option<Tensor<1>>,
    /// The tokens that a repetition penalty acts on, if there is one.
    seen: Option<SeenTokens>,
    /// Samples that earlier prompts with the same id have taken: a batch that runs over the end of the data may hold a
    /// prompt twice, and its rows go on counting.
    earlier: Vec<usize>,
    /// Number of the next row that begins.
    next_row: usize,
    alive: Vec<Row>,
    ended: BTreeMap<usize, Sampled>,
}

impl<'a> Decoder<'a> {
    pub fn new(
        model: &'a Qwen2Vl,
        prompts: &'a [Arc<Prompt>],
        count: usize,
        parameters: &'a SamplingParameters,
    ) -> Self {
        let text = &model.config.text;
        let lengths: Vec<usize> = prompts
            .iter()
            .map(|prompt| prompt.input_ids.len())
            .collect();
        let longest = parameters.max_new_tokens;
        let room = CacheRoom::new(text, &lengths, [count, longest], parameters.generation_rows);
        let prompt_places = number(room.prompt_places);
        let positions = || prompts.iter().map(|prompt| next_position(prompt));
        let first_position = positions().min().unwrap_or(0);
        let end = positions().max().unwrap_or(0) + number(longest);
        let positions: Vec<[u32; 3]> = (first_position..end).map(|place| [place; 3]).collect();
        let mut samples: BTreeMap<&str, usize> = BTreeMap::new();
        let earlier = prompts.iter().map(|prompt| {
            let taken = samples.entry(&prompt.id).or_default();
            *taken += count;
            *taken - count
        });
        Self {
            tokens_per_look: match model.device.identity() {
                Some(_) => TOKENS_PER_LOOK,
                None => 1,
            },
            cache: KvCache::new(
                text.num_hidden_layers,
                [text.num_key_value_heads, text.head_dim],
                room.places(),
                &model.device,
            ),
            cached: CachedPrompts::new(model, prompts, count, 0..prompt_places),
            free_rows: Stretches::new(prompt_places..number(room.places())),
            rotary: model.rotary(&positions),
            first_position,
            suppressed: parameters
                .suppressed
                .as_deref()
                .map(|flags| flag_tensor(flags, &model.device)),
            seen: SeenTokens::new(prompts, count, parameters.repetition_penalty),
            earlier: earlier.collect(),
            next_row: 0,
            alive: Vec::new(),
            ended: BTreeMap::new(),
            model,
            prompts,
            count,
            parameters,
            room,
        }
    }

    pub fn run(mut self) -> Result<Vec<Vec<Sampled>>, GenerateError> {
        loop {
            self.begin_rows();
            if self.alive.is_empty() {
                break;
            }
            let drawn = self.draw()?;
            self.keep(&drawn)?;
            self.end_rows();
        }
        let mut rows = self.ended.into_values();
        let groups = self.prompts.iter();
        Ok(groups
            .map(|_| rows.by_ref().take(self.count).collect())
            .collect())
    }

    /// Lets waiting rows begin while there is room for them, and reads their prompts.
    fn begin_rows(&mut self) {
        loop {
            while self.next_row < self.cached.read() * self.count {
                let Some(places) = self.free_rows.take(number(self.room.row_places)) else {
                    return;
                };
                let (prompt, sample) = (self.next_row / self.count, self.next_row % self.count);
                let index = self.earlier[prompt] + sample;
                let stream = stream(self.parameters.seed, &self.prompts[prompt].id, index);
                self.alive
                    .push(Row::new(self.next_row, prompt, places, stream));
                self.next_row += 1;
            }
            let wanted = (self.room.rows - self.alive.len()).div_ceil(self.count);
            if !self.cached.read_next(wanted, self.model, &mut self.cache) {
                return;
            }
        }
    }

    /// Draws tokens for every row that is alive, as many as the host does not look at: [steps x alive] pairs of id and
    /// log-probability.
    fn draw(&mut self) -> Result<Vec<f32>, GenerateError> {
        let alive = self.alive.len();
        let rest = self.alive.iter();
        let rest = rest
            .map(|row| row.rest(self.parameters.max_new_tokens))
            .min();
        let steps = self.tokens_per_look.min(rest.unwrap_or(1));
        // A repetition penalty needs every token at once.
        let steps = if self.seen.is_some() { 1 } else { steps };
        let uniforms = TensorData::new(uniforms(&mut self.alive, steps), [steps * alive]);
        let uniforms = Tensor::<1>::from_data(uniforms, &self.model.device);
        let positions = self.positions(steps);
        let failed = |error: &dyn std::error::Error| GenerateError::Failed(error.to_string());
        let mut drawn: Vec<Tensor<2>> = Vec::with_capacity(steps);
        for step in 0..steps {
            let positions = positions.clone().narrow(0, step * alive, alive);
            let states = self.states(step, drawn.last(), positions);
            let uniforms = uniforms.clone().narrow(0, step * alive, alive);
            let pairs = self.sample(self.model.logits(states), uniforms);
            drawn.push(pairs.map_err(|error| failed(&error))?);
        }
        read_back(&Tensor::cat(drawn, 0)).map_err(|error| failed(&error))
    }

    /// Which angles each row's token has in each step, [steps x alive]; a row that begins reads none in the first.
    fn positions(&self, steps: usize) -> Tensor<1, Int> {
        let of_row = |step: usize, row: &Row| {
            let first = next_position(&self.prompts[row.prompt]) - self.first_position;
            let reads = step > 0 || row.began();
            first + if reads { row.token(step) } else { 0 }
        };
        let numbers: Vec<u32> = (0..steps)
            .flat_map(|step| self.alive.iter().map(move |row| of_row(step, row)))
            .collect();
        index_tensor(&numbers, &self.model.device)
    }

    /// States [alive, D] that predict the next token of every row: those of the tokens drawn before, and of the prompt
    /// where a row begins.
    fn states(
        &mut self,
        step: usize,
        before: Option<&Tensor<2>>,
        positions: Tensor<1, Int>,
    ) -> Tensor<2> {
        let reads = match step {
            0 => self.alive.partition_point(Row::began),
            _ => self.alive.len(),
        };
        let mut states = Vec::new();
        if reads > 0 {
            let ids = match before {
                // An id below zero says why there is none; the host will see it.
                Some(pairs) => {
                    let ids = pairs.clone().narrow(1, 0, 1).clamp_min(0.0).int();
                    ids.reshape([reads])
                }
                None => self.last_ids(reads),
            };
            let rotary = self.rotary.at(positions.narrow(0, 0, reads));
            states.push(self.read(step, ids, &rotary));
        }
        if reads < self.alive.len() {
            let begin = self.alive[reads..].iter();
            let owners: Vec<u32> = begin.map(|row| number(row.prompt)).collect();
            states.push(self.cached.states(&owners, self.model));
        }
        Tensor::cat(states, 0)
    }

    fn last_ids(&self, rows: usize) -> Tensor<1, Int> {
        let drawn = self.alive[..rows].iter();
        let ids: Vec<u32> = drawn
            .flat_map(|row| row.sampled.token_ids.last().copied())
            .collect();
        index_tensor(&ids, &self.model.device)
    }

    /// States [n, D] of tokens of the first n rows; their keys and values go into the cache.
    fn read(&mut self, step: usize, ids: Tensor<1, Int>, rotary: &Rotary) -> Tensor<2> {
        let (mut places, mut visible) = (Vec::new(), Vec::new());
        for row in &self.alive[..ids.dims()[0]] {
            let place = row.places.start + row.token(step);
            places.push(place);
            visible.push(Visible {
                prefix: self.cached.places_of(row.prompt),
                own: row.places.start..place + 1,
            });
        }
        let spans = Arc::new(Spans::new(visible, self.cache.places()));
        let places = Arc::new(Places::new(places));
        let (text, cache) = (&self.model.text, &mut self.cache);
        text.forward(
            text.embedding.gather(ids),
            rotary,
            |layer, [queries, keys, values]| {
                let [keys, values] = cache.write(layer, [keys, values], &places);
                attention(queries, keys, values, &spans)
            },
        )
    }

    /// Ids and log-probabilities [alive, 2]. A repetition penalty changes what is drawn, not the log-probability.
    fn sample(
        &self,
        logits: Tensor<2>,
        uniforms: Tensor<1>,
    ) -> Result<Tensor<2>, SampleOptionsError> {
        let parameters = self.parameters;
        let options = SampleOptions {
            temperature: parameters.temperature,
            top_k: parameters.top_k,
            top_p: parameters.top_p,
            min_p: parameters.min_p,
            logprob_temperature: parameters.logprob_temperature,
        };
        let suppressed = || self.suppressed.clone();
        let Some(seen) = &self.seen else {
            return sample_token(logits, uniforms, suppressed(), &options);
        };
        let rows: Vec<usize> = self.alive.iter().map(|row| row.number).collect();
        let penalised = seen.penalise(logits.clone(), &rows);
        let ids = sample_token(penalised, uniforms, suppressed(), &options)?.narrow(1, 0, 1);
        let plain = TokenLogprobOptions {
            temperature: options.logprob_temperature,
            suppressed: suppressed(),
            with_entropy: false,
            entropy_gradient: false,
        };
        let count = rows.len();
        let logprobs = logits_logprob(logits, ids.clone().int().reshape([count]), &plain).logprobs;
        Ok(Tensor::cat(vec![ids, logprobs.reshape([count, 1])], 1))
    }

    /// Gives every row what it drew, up to its end token.
    fn keep(&mut self, drawn: &[f32]) -> Result<(), GenerateError> {
        let alive = self.alive.len();
        let end_tokens = &self.parameters.end_tokens;
        for (index, pair) in drawn.chunks_exact(2).enumerate() {
            let row = &mut self.alive[index % alive];
            if row.ended(self.parameters.max_new_tokens) {
                continue;
            }
            let [id, logprob] = [pair[0], pair[1]];
            if id < 0.0 || !logprob.is_finite() {
                return Err(GenerateError::NotFinite {
                    id: self.prompts[row.prompt].id.clone(),
                    token: row.sampled.token_ids.len(),
                });
            }
            // Ids are whole numbers below 2^24, exact in f32.
            let id = id as u32;
            row.push(id, logprob, end_tokens);
            if let Some(seen) = &mut self.seen {
                seen.add(row.number, id);
            }
        }
        Ok(())
    }

    /// Takes out the rows that draw no more; their places are free.
    fn end_rows(&mut self) {
        let rows = std::mem::take(&mut self.alive);
        for row in rows {
            if row.ended(self.parameters.max_new_tokens) {
                self.free_rows.give(row.places);
                self.cached.row_ended(row.prompt);
                self.ended.insert(row.number, row.sampled);
            } else {
                self.alive.push(row);
            }
        }
    }
}
