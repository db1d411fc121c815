//! Completions in the making: whose they are, where their keys lie, and what each has drawn.
//!
//! Plain numbers: knows no tensor and no model.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::actions::generator::Sampled;
use crate::model::packing::number;
use crate::record::FinishReason;

/// One completion in the making.
#[derive(Debug)]
pub(super) struct Row {
    /// Its place in the result: its prompt's first row and its index among them.
    pub number: usize,
    /// Index of its prompt.
    pub prompt: usize,
    /// Its places in the cache.
    pub places: Range<u32>,
    /// Its own random stream, so that a row's draws do not depend on its neighbours.
    pub stream: ChaCha8Rng,
    pub sampled: Sampled,
}

impl Row {
    pub fn new(number: usize, prompt: usize, places: Range<u32>, stream: ChaCha8Rng) -> Self {
        Self {
            number,
            prompt,
            places,
            stream,
            sampled: Sampled {
                token_ids: Vec::new(),
                logprobs: Vec::new(),
                finish: FinishReason::Length,
            },
        }
    }

    /// Whether it has drawn a token.
    pub const fn began(&self) -> bool {
        !self.sampled.token_ids.is_empty()
    }

    /// Number of the token that is read `step` steps from now, to draw the next one.
    pub fn token(&self, step: usize) -> u32 {
        number(self.sampled.token_ids.len() + step - 1)
    }

    /// Tokens that it may still draw.
    pub fn rest(&self, max_new_tokens: usize) -> usize {
        max_new_tokens - self.sampled.token_ids.len()
    }

    /// Keeps a token; an end token ends the row.
    pub fn push(&mut self, id: u32, logprob: f32, end_tokens: &[u32]) {
        self.sampled.token_ids.push(id);
        self.sampled.logprobs.push(logprob);
        if end_tokens.contains(&id) {
            self.sampled.finish = FinishReason::Stop;
        }
    }

    /// Whether it draws no more.
    pub fn ended(&self, max_new_tokens: usize) -> bool {
        self.sampled.finish == FinishReason::Stop || self.rest(max_new_tokens) == 0
    }
}

/// The next `steps` uniform numbers of every row, in order of the steps.
pub(super) fn uniforms(rows: &mut [Row], steps: usize) -> Vec<f32> {
    let mut drawn = vec![0.0; steps * rows.len()];
    let count = rows.len();
    for (index, row) in rows.iter_mut().enumerate() {
        for step in 0..steps {
            drawn[step * count + index] = row.stream.random::<f32>();
        }
    }
    drawn
}

/// The random stream of one row: a function of seed, prompt and sample index only.
pub(super) fn stream(seed: u64, prompt: &str, index: usize) -> ChaCha8Rng {
    let bytes = seed
        .to_le_bytes()
        .into_iter()
        .chain(prompt.bytes())
        .chain((index as u64).to_le_bytes());
    ChaCha8Rng::seed_from_u64(crate::seed::fnv1a(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(index: usize) -> Row {
        Row::new(index, 0, 0..4, stream(1, "a", index))
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

    #[test]
    fn numbers_of_several_steps_are_those_of_one_step_after_the_other() {
        let (mut at_once, mut one_by_one) = ([row(0), row(1)], [row(0), row(1)]);
        let one = |rows: &mut [Row; 2]| uniforms(rows, 1);
        let expected: Vec<f32> = (0..3).flat_map(|_| one(&mut one_by_one)).collect();
        assert_eq!(uniforms(&mut at_once, 3), expected);
    }

    #[test]
    fn a_row_ends_with_an_end_token_or_at_the_limit() {
        let mut row = row(0);
        assert!(!row.began() && row.rest(3) == 3);
        row.push(5, -1.0, &[9]);
        assert!(row.began() && !row.ended(2) && row.ended(1));
        row.push(9, -1.0, &[9]);
        assert!(row.ended(3) && row.sampled.finish == FinishReason::Stop);
        assert_eq!((row.token(0), row.token(2)), (1, 3));
    }
}
