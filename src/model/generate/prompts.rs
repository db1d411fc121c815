//! Prompts in the cache: read in order, several together, and dropped when the last of their rows has ended.
//!
//! Knows nothing of sampling.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::Tensor;

use super::cache::{KvCache, Stretches, Table};
use crate::kernels::{Places, attention};
use crate::model::packing::{Packed, number};
use crate::model::{Qwen2Vl, index_tensor};
use crate::record::Prompt;

/// Tokens of prompts that are read together, unless one prompt alone is longer.
pub const TOKENS_AT_ONCE: usize = 4096;

/// The prompts of a batch of completions.
#[derive(Debug)]
pub(super) struct CachedPrompts<'a> {
    prompts: &'a [Arc<Prompt>],
    /// Places of those that were read.
    places: Vec<Range<u32>>,
    /// Rows of each that have not ended.
    left: Vec<usize>,
    free: Stretches,
    /// [Q, 1, D] the state of each prompt's last token, which predicts the first token of a row whenever it begins.
    states: Table,
}

impl<'a> CachedPrompts<'a> {
    /// None is read yet; `count` rows belong to each, `places` of the cache to all.
    pub fn new(
        model: &Qwen2Vl,
        prompts: &'a [Arc<Prompt>],
        count: usize,
        places: Range<u32>,
    ) -> Self {
        let shape = [prompts.len(), 1, model.config.text.hidden_size];
        Self {
            prompts,
            places: Vec::new(),
            left: vec![count; prompts.len()],
            free: Stretches::new(places),
            states: Table::zeros(shape, &model.device),
        }
    }

    /// How many were read.
    pub const fn read(&self) -> usize {
        self.places.len()
    }

    /// Where a prompt that was read and still has rows lies in the cache.
    pub fn places_of(&self, prompt: usize) -> Range<u32> {
        self.places[prompt].clone()
    }

    /// States [n, D] of the last token of each of these prompts.
    pub fn states(&self, owners: &[u32], model: &Qwen2Vl) -> Tensor<2> {
        let table = self.states.whole().squeeze_dim::<2>(1);
        table.select(0, index_tensor(owners, &model.device))
    }

    /// Reads the next prompts, at most `wanted`, as many as there is room for; says whether any was read.
    pub fn read_next(&mut self, wanted: usize, model: &Qwen2Vl, cache: &mut KvCache) -> bool {
        let first = self.read();
        let mut places: Vec<u32> = Vec::new();
        for prompt in self.prompts[first..].iter().take(wanted) {
            let length = prompt.input_ids.len();
            if !places.is_empty() && places.len() + length > TOKENS_AT_ONCE {
                break;
            }
            let Some(taken) = self.free.take(number(length)) else {
                break;
            };
            places.extend(taken.clone());
            self.places.push(taken);
        }
        let batch = first..self.read();
        if batch.is_empty() {
            return false;
        }
        let prompts = &self.prompts[batch.clone()];
        let packed = Packed::new(prompts, &[]);
        let places = Arc::new(Places::new(places));
        let hidden = model.text.forward(
            model.embed(prompts, &packed),
            &model.rotary(&packed.positions),
            |layer, [queries, keys, values]| {
                cache.write(layer, [keys.clone(), values.clone()], &places);
                attention(queries, keys, values, &packed.spans)
            },
        );
        let last = index_tensor(&packed.last_of_prompts(), &model.device);
        let slots = Arc::new(Places::new(batch.map(number).collect()));
        self.states
            .write(hidden.select(0, last).unsqueeze_dim(1), &slots);
        true
    }

    /// A row of `prompt` has ended; after the last one its places are free.
    pub fn row_ended(&mut self, prompt: usize) {
        self.left[prompt] -= 1;
        if self.left[prompt] == 0 {
            self.free.give(self.places[prompt].clone());
        }
    }
}
