//! How probable the tokens of a batch are under a model.
//!
//! Knows nothing of losses or gradients.

use burn::tensor::Tensor;

use super::error::LearnError;
use super::policy::Learner;
use super::rectangle::split_rows;
use crate::device::{guard, read_back};
use crate::kernels::{TokenLogprobOptions, token_logprob};
use crate::model::packing::Packed;
use crate::model::parameters::Weights;
use crate::model::{Qwen2Vl, index_tensor};
use crate::record::TokenBatch;

/// What a forward pass does about entropies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entropies {
    Skip,
    Values,
    Differentiable,
}

/// Log-probabilities of a batch's tokens, still on the device.
pub(super) struct BatchLogprobs {
    /// [n] real tokens of all rows one after the other.
    pub logprobs: Tensor<1>,
    /// [n]
    pub entropies: Tensor<1>,
}

/// Tokens of a batch without padding.
pub(super) fn packed(batch: &TokenBatch) -> Packed {
    let rows: Vec<(usize, &[u32])> = batch
        .rows
        .iter()
        .map(|row| (row.prompt, row.token_ids.as_slice()))
        .collect();
    Packed::new(&batch.prompts, &rows)
}

impl Learner {
    /// Log-probability of every token of every row under `weights` (the policy's own, or a frozen reference).
    ///
    /// # Errors
    /// If a parameter is missing or has another shape than the configuration says, or the device fails.
    pub fn logprobs(
        &self,
        weights: &Weights,
        batch: &TokenBatch,
    ) -> Result<Vec<Vec<f32>>, LearnError> {
        if batch.rows.is_empty() {
            return Ok(Vec::new());
        }
        guard("the log-probabilities of a batch", || {
            let model = self.model(weights)?;
            let found = self.forward(&model, batch, Entropies::Skip);
            Ok(split_rows(&read_back(&found.logprobs)?, batch))
        })?
    }

    /// As [`Learner::logprobs`] under the policy, with the entropy of every distribution.
    ///
    /// # Errors
    /// As [`Learner::logprobs`].
    pub fn logprobs_and_entropies(
        &self,
        batch: &TokenBatch,
    ) -> Result<(Vec<Vec<f32>>, Vec<Vec<f32>>), LearnError> {
        guard("the log-probabilities of a batch", || {
            let found = self.forward(&self.policy()?, batch, Entropies::Values);
            Ok((
                split_rows(&read_back(&found.logprobs)?, batch),
                split_rows(&read_back(&found.entropies)?, batch),
            ))
        })?
    }

    /// Log-probabilities of a batch under a model, without a graph.
    fn forward(&self, model: &Qwen2Vl, batch: &TokenBatch, entropies: Entropies) -> BatchLogprobs {
        let packed = packed(batch);
        let states = model.states(&batch.prompts, &packed);
        self.score(model, (states, &packed.predictors), batch, entropies)
    }

    /// Log-probabilities of a batch's tokens by the states [n, D] before the final norm and which of them predict a token.
    pub(super) fn score(
        &self,
        model: &Qwen2Vl,
        (states, predictors): (Tensor<2>, &[u32]),
        batch: &TokenBatch,
        entropies: Entropies,
    ) -> BatchLogprobs {
        // Only the states that predict a token reach the head.
        let states = states.select(0, index_tensor(predictors, &self.device));
        let rows = batch.rows.iter();
        let targets: Vec<u32> = rows.flat_map(|row| &row.token_ids).copied().collect();
        let options = TokenLogprobOptions {
            temperature: self.options.logprob_temperature,
            suppressed: self.suppressed.clone(),
            with_entropy: entropies != Entropies::Skip,
            entropy_gradient: entropies == Entropies::Differentiable,
        };
        let found = token_logprob(
            model.finish(states),
            &model.head(),
            index_tensor(&targets, &self.device),
            &options,
        );
        BatchLogprobs {
            logprobs: found.logprobs,
            entropies: found.entropies,
        }
    }
}
