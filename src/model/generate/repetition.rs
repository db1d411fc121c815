//! Tokens that prompt or completion already hold are drawn less often: transformers' `RepetitionPenaltyLogitsProcessor`.
//!
//! Knows nothing of how tokens are drawn.

use std::collections::BTreeSet;
use std::sync::Arc;

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use crate::record::Prompt;

/// The distinct tokens of every row so far.
#[derive(Debug)]
pub(super) struct SeenTokens {
    rows: Vec<BTreeSet<u32>>,
    penalty: f32,
}

impl SeenTokens {
    /// The tokens of the prompts, `count` rows each; `None` for a penalty of 1, which changes nothing.
    pub fn new(prompts: &[Arc<Prompt>], count: usize, penalty: f32) -> Option<Self> {
        let of_prompt = |prompt: &Arc<Prompt>| prompt.input_ids.iter().copied().collect();
        let rows = prompts
            .iter()
            .flat_map(|prompt| vec![of_prompt(prompt); count])
            .collect();
        (penalty != 1.0).then_some(Self { rows, penalty })
    }

    /// A token that a row has drawn.
    pub fn add(&mut self, row: usize, token: u32) {
        self.rows[row].insert(token);
    }

    /// Logits [B, V] of these rows, in which those of each row's tokens are divided by the penalty if positive, multiplied
    /// if negative.
    pub fn penalise(&self, logits: Tensor<2>, rows: &[usize]) -> Tensor<2> {
        let seen = || rows.iter().map(|row| &self.rows[*row]);
        let longest = seen().map(BTreeSet::len).max().unwrap_or(0);
        if longest == 0 {
            return logits;
        }
        let (device, shape) = (logits.device(), [rows.len(), longest]);
        let padded = seen().flat_map(|tokens| {
            let ids = tokens.iter().map(|id| (*id as i32, 1.0_f32));
            // Padding adds 0 to token 0.
            ids.chain(std::iter::repeat((0, 0.0))).take(longest)
        });
        let (ids, real): (Vec<i32>, Vec<f32>) = padded.unzip();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device);
        let real = Tensor::<2>::from_data(TensorData::new(real, shape), &device);
        let plain = logits.clone().gather(1, ids.clone());
        let raised = plain.clone().mul_scalar(self.penalty);
        let lowered = plain.clone().div_scalar(self.penalty);
        let changed = lowered.mask_where(plain.clone().lower_elem(0.0), raised);
        logits.scatter(1, ids, (changed - plain) * real, IndexingUpdateOp::Add)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use serde_json::Value;

    use super::*;

    /// Scores of transformers' formula in plain Python (tests/golden/losses.py); ids that occur twice count once.
    #[test]
    fn the_penalty_is_that_of_transformers() {
        let text = include_str!("../../../tests/golden/losses.json");
        let golden: Value = serde_json::from_str(text).expect("JSON");
        let numbers = |value: &Value| -> Vec<f32> {
            let rows = value.as_array().expect("rows").iter();
            rows.flat_map(|row| row.as_array().expect("a row"))
                .map(|value| value.as_f64().expect("a number") as f32)
                .collect()
        };
        let logits = numbers(&golden["logits"]);
        let device = Device::flex();
        for case in golden["repetition_penalty"].as_array().expect("cases") {
            let penalty = case["repetition_penalty"].as_f64().expect("a number") as f32;
            let mut seen = SeenTokens {
                rows: vec![BTreeSet::new(); 3],
                penalty,
            };
            for (row, ids) in golden["seen"].as_array().expect("rows").iter().enumerate() {
                for id in ids.as_array().expect("ids") {
                    seen.add(row, id.as_u64().expect("an id") as u32);
                }
            }
            let tensor = Tensor::<2>::from_data(TensorData::new(logits.clone(), [3, 9]), &device);
            let found = seen.penalise(tensor, &[0, 1, 2]).into_data();
            let found: Vec<f32> = found.try_into_vec().expect("f32");
            for (found, expected) in found.iter().zip(numbers(&case["scores"])) {
                assert!(
                    (found - expected).abs() < 2e-6,
                    "{penalty}: {found}, {expected}"
                );
            }
        }
    }

    #[test]
    fn no_penalty_looks_at_no_token() {
        assert!(SeenTokens::new(&[], 2, 1.0).is_none());
        assert!(SeenTokens::new(&[], 2, 1.1).is_some());
    }
}
