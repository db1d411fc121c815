//! Prompts and completions laid one after the other, without a padded token, and what each token sees.
//!
//! Plain numbers on the host. Knows no tensor operation, no layer and no loss.

use std::ops::Range;
use std::sync::Arc;

use crate::kernels::{Spans, Visible};
use crate::record::Prompt;

/// Tokens of some prompts, each followed by its completions.
///
/// ```text
///  prompt A | a1 | a2 | ... | prompt B | b1 | ...
/// ```
#[derive(Debug, Clone)]
pub struct Packed {
    /// [n] token ids.
    pub ids: Vec<u32>,
    /// [n] M-RoPE positions: temporal, height, width.
    pub positions: Vec<[u32; 3]>,
    /// What each token sees of the others.
    pub spans: Arc<Spans>,
    /// Per completion token, in order of the rows: the token whose state predicts it.
    pub predictors: Vec<u32>,
    /// Per prompt: its tokens.
    pub prompts: Vec<Range<u32>>,
}

impl Packed {
    /// The last token of each prompt: its state predicts the first completion token.
    #[must_use]
    pub fn last_of_prompts(&self) -> Vec<u32> {
        self.prompts.iter().map(|prompt| prompt.end - 1).collect()
    }

    /// The prompts' tokens that stand for a piece of a picture, in order.
    pub fn image_places(&self, image_token_id: u32) -> impl Iterator<Item = u32> {
        let tokens = self.prompts.iter().cloned().flatten();
        tokens.filter(move |place| self.ids[*place as usize] == image_token_id)
    }

    /// Prompts with their completions: `rows` are (prompt, tokens), in order of their prompt. A completion's last token
    /// predicts nothing and is left out.
    ///
    /// # Panics
    /// If the rows are not in order of their prompt.
    #[must_use]
    pub fn new(prompts: &[Arc<Prompt>], rows: &[(usize, &[u32])]) -> Self {
        let mut builder = Builder::default();
        let mut rest = rows;
        for (index, prompt) in prompts.iter().enumerate() {
            let whole = builder.prompt(prompt);
            let own = rest.partition_point(|(owner, _)| *owner <= index);
            let (mine, later) = rest.split_at(own);
            for (owner, tokens) in mine {
                assert_eq!(*owner, index, "rows are in order of their prompt");
                builder.completion(tokens, &whole, next_position(prompt));
            }
            rest = later;
        }
        assert!(rest.is_empty(), "every row belongs to a prompt");
        builder.finish()
    }
}

/// Position of the first completion token: prompt length + `rope_delta`.
///
/// # Panics
/// If it is negative, which no prompt of the prompt stage gives.
pub(crate) fn next_position(prompt: &Prompt) -> u32 {
    let position = number(prompt.input_ids.len()) as i64 + prompt.rope_delta;
    u32::try_from(position).unwrap_or_else(|_| {
        panic!(
            "{}: the first completion token has position {position}",
            prompt.id
        )
    })
}

/// A token's number in a batch.
pub(crate) fn number(index: usize) -> u32 {
    u32::try_from(index).expect("a batch has fewer than 2^32 tokens")
}

#[derive(Default)]
struct Builder {
    ids: Vec<u32>,
    positions: Vec<[u32; 3]>,
    visible: Vec<Visible>,
    predictors: Vec<u32>,
    prompts: Vec<Range<u32>>,
}

impl Builder {
    /// Adds a prompt and returns its range.
    fn prompt(&mut self, prompt: &Prompt) -> Range<u32> {
        let start = number(self.ids.len());
        self.ids.extend_from_slice(&prompt.input_ids);
        self.positions.extend_from_slice(&prompt.positions);
        let end = number(self.ids.len());
        self.see(&(0..0), start..end);
        self.prompts.push(start..end);
        start..end
    }

    fn completion(&mut self, tokens: &[u32], prompt: &Range<u32>, position: u32) {
        let Some((_, inputs)) = tokens.split_last() else {
            return;
        };
        let start = number(self.ids.len());
        self.ids.extend_from_slice(inputs);
        let end = number(self.ids.len());
        let place = |token: u32| [position + token - start; 3];
        self.positions.extend((start..end).map(place));
        self.see(prompt, start..end);
        self.predictors.push(prompt.end - 1);
        self.predictors.extend(start..end);
    }

    /// Tokens that see a prefix and their own range up to themselves.
    fn see(&mut self, prefix: &Range<u32>, own: Range<u32>) {
        self.visible.extend(own.clone().map(|token| Visible {
            prefix: prefix.clone(),
            own: own.start..token + 1,
        }));
    }

    fn finish(self) -> Packed {
        let count = self.ids.len();
        Packed {
            ids: self.ids,
            positions: self.positions,
            spans: Arc::new(Spans::new(self.visible, count)),
            predictors: self.predictors,
            prompts: self.prompts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(tokens: u32, rope_delta: i64) -> Arc<Prompt> {
        Arc::new(Prompt {
            id: format!("p{tokens}"),
            rendered: String::new(),
            input_ids: (0..tokens).collect(),
            positions: (0..tokens).map(|place| [place; 3]).collect(),
            rope_delta,
            images: vec![],
        })
    }

    /// Tokens computed = tokens that exist: each prompt once, each completion without its last token.
    #[test]
    fn no_token_is_padding() {
        let rows: [&[u32]; 4] = [&[7, 8, 9], &[5], &[6, 6], &[1, 2, 3, 4]];
        let owned = [(0, rows[0]), (0, rows[1]), (2, rows[2]), (2, rows[3])];
        let packed = Packed::new(&[prompt(3, 0), prompt(2, 0), prompt(4, -1)], &owned);
        assert_eq!(packed.ids.len(), 3 + 2 + 4 + 2 + 1 + 3);
        assert_eq!(packed.ids[..5], [0, 1, 2, 7, 8]);
        assert_eq!(
            packed.predictors.len(),
            3 + 1 + 2 + 4,
            "one per token of a row"
        );
        assert_eq!(packed.predictors[..4], [2, 3, 4, 2]);
        assert_eq!(packed.prompts, [0..3, 5..7, 7..11]);
        assert_eq!(packed.positions[3], [3; 3]);
        assert_eq!(
            packed.positions[11], [3; 3],
            "the third prompt's delta is -1"
        );
        let seen = &packed.spans.visible()[4];
        assert_eq!((seen.prefix.clone(), seen.own.clone()), (0..3, 3..5));
    }

    #[test]
    #[should_panic(expected = "in order of their prompt")]
    fn rows_out_of_order_are_refused() {
        let _ = Packed::new(&[prompt(2, 0), prompt(2, 0)], &[(1, &[1]), (0, &[1])]);
    }
}
