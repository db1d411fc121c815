//! From a differentiable pass over a micro-batch to the loss that is to be differentiated, and what the logs want of it.
//!
//! Knows nothing of how gradients are computed or used.

use burn::tensor::{Tensor, TensorData};

use super::error::LearnError;
use super::pass::Forward;
use super::policy::Learner;
use super::rectangle::{add_rows, split_rows, spread};
use super::report::MicroBatchResult;
use super::score::Entropies;
use super::{entropy, likelihood};
use crate::device::read_back;
use crate::kernels::{PolicyLossInput, policy_loss, policy_loss_metrics};
use crate::record::TokenBatch;

/// Log-probabilities and entropies on the host, [row][token].
struct HostPass {
    logprobs: Vec<Vec<f32>>,
    entropies: Vec<Vec<f32>>,
    /// 1 for the most uncertain tokens, if only they have a surrogate.
    uncertain: Option<Vec<Vec<f32>>>,
}

impl Learner {
    /// The policy loss of a micro-batch before its backward pass, and all that is known of it by then.
    pub(super) fn policy_forward(
        &self,
        batch: &TokenBatch,
        token_weights: &[Vec<f32>],
    ) -> Result<(Forward, MicroBatchResult), LearnError> {
        let pass = self.pass(batch)?;
        let wanted = if self.options.entropy_coef == 0.0 {
            Entropies::Values
        } else {
            Entropies::Differentiable
        };
        let states = (pass.states.clone(), pass.predictors.as_slice());
        let found = self.score(&pass.model, states, batch, wanted);
        let current = read_back(&found.logprobs)?;
        let entropies = split_rows(&read_back(&found.entropies)?, batch);
        let share = self.options.top_entropy_quantile;
        let host = HostPass {
            logprobs: split_rows(&current, batch),
            uncertain: entropy::high_entropy_mask(batch, &entropies, share),
            entropies,
        };
        let longest = batch.rows.iter().map(|row| row.token_ids.len()).max();
        let [rows, tokens] = [batch.rows.len(), longest.unwrap_or(0)];
        let logprobs = spread(found.logprobs.clone(), batch, tokens, &self.device);
        let input = self.loss_input(logprobs, batch, &host, token_weights);
        let mask = read_back(&input.mask)?;
        let output = policy_loss(input, &self.options.loss);
        let terms = read_back(&output.terms)?;
        let term = |kind: usize| -> Vec<Vec<f32>> {
            let plane = &terms[kind * rows * tokens..(kind + 1) * rows * tokens];
            let row_of = |row: usize| {
                plane[row * tokens..row * tokens + batch.rows[row].token_ids.len()].to_vec()
            };
            (0..rows).map(row_of).collect()
        };
        let mut clipped = term(3);
        add_rows(&mut clipped, &term(4));
        let mut loss_terms = term(0);
        let mut loss = output.loss;
        if let Some(terms) = likelihood::terms(batch, &host.logprobs, token_weights) {
            add_rows(&mut loss_terms, &terms.losses);
            loss = loss + self.linear_term(found.logprobs, &current, &terms);
        }
        let mut bonus = None;
        if wanted == Entropies::Differentiable {
            let coefficient = self.options.entropy_coef;
            let weights = entropy::bonus_weights(batch, host.uncertain.as_deref(), coefficient);
            let weights = weights.concat();
            let pairs = weights.iter().zip(host.entropies.iter().flatten());
            let sum: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            bonus = Some(sum as f32);
            loss = loss + (found.entropies * self.flat(weights)).sum();
        }
        let forward = Forward::new(loss, pass)?;
        let result = MicroBatchResult {
            loss: forward.value,
            policy_loss: bonus.map(|bonus| forward.value - bonus),
            loss_terms,
            ratios: term(1),
            clipped,
            clip: policy_loss_metrics(&terms, &mask, tokens, &self.options.loss),
            logprobs: host.logprobs,
            entropies: host.entropies,
        };
        Ok((forward, result))
    }

    /// What the loss of a micro-batch is computed from, [R, T] each; `logprobs` are the tracked ones.
    fn loss_input(
        &self,
        logprobs: Tensor<2>,
        batch: &TokenBatch,
        host: &HostPass,
        token_weights: &[Vec<f32>],
    ) -> PolicyLossInput {
        let tokens = logprobs.dims()[1];
        let plane = |value: &dyn Fn(usize, usize) -> f32| self.rectangle(batch, tokens, value);
        let given = |values: &Option<Vec<f32>>, row: usize, token: usize| {
            let values = values.as_ref();
            values.map_or(host.logprobs[row][token], |values| values[token])
        };
        let rows = &batch.rows;
        let has_reference = rows.iter().any(|row| row.reference_logprobs.is_some());
        PolicyLossInput {
            logprobs,
            old_logprobs: plane(&|row, token| given(&rows[row].old_logprobs, row, token)),
            reference_logprobs: has_reference
                .then(|| plane(&|row, token| given(&rows[row].reference_logprobs, row, token))),
            advantages: plane(&|row, token| rows[row].advantages[token]),
            mask: plane(&|row, token| rows[row].mask[token]),
            weights: plane(&|row, token| token_weights[row][token]),
            kl_weights: Some(plane(&|row, _| rows[row].kl_weight)),
            surrogate_weights: host
                .uncertain
                .as_ref()
                .map(|mask| plane(&|row, token| mask[row][token])),
        }
    }

    /// [n] host values on the device.
    fn flat(&self, values: Vec<f32>) -> Tensor<1> {
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), &self.device)
    }

    /// [1] with the value and the gradient of the likelihood terms: slopes · (log p − its value) + the terms' loss.
    fn linear_term(
        &self,
        logprobs: Tensor<1>,
        current: &[f32],
        terms: &likelihood::LikelihoodTerms,
    ) -> Tensor<1> {
        let slopes: Vec<f32> = terms.slopes.iter().flatten().copied().collect();
        let pairs = slopes.iter().zip(current);
        let at_current: f64 = pairs
            .filter(|(slope, _)| **slope != 0.0)
            .map(|(slope, logprob)| f64::from(*slope) * f64::from(*logprob))
            .sum();
        (logprobs * self.flat(slopes))
            .sum()
            .add_scalar((terms.loss - at_current) as f32)
    }

    /// The supervised loss of a micro-batch before its backward pass.
    pub(super) fn supervised_forward(
        &self,
        batch: &TokenBatch,
        token_weight: f32,
    ) -> Result<Forward, LearnError> {
        let pass = self.pass(batch)?;
        let states = (pass.states.clone(), pass.predictors.as_slice());
        let found = self.score(&pass.model, states, batch, Entropies::Skip);
        let mask: Vec<f32> = batch
            .rows
            .iter()
            .flat_map(|row| row.mask.iter().copied())
            .collect();
        let loss = (found.logprobs * self.flat(mask))
            .sum()
            .mul_scalar(-token_weight);
        Forward::new(loss, pass)
    }

    /// [R, T] from per-token host values; 0 past a row's end.
    fn rectangle(
        &self,
        batch: &TokenBatch,
        tokens: usize,
        value: impl Fn(usize, usize) -> f32,
    ) -> Tensor<2> {
        let mut values = vec![0.0; batch.rows.len() * tokens];
        for (row, content) in batch.rows.iter().enumerate() {
            for index in 0..content.token_ids.len() {
                values[row * tokens + index] = value(row, index);
            }
        }
        Tensor::from_data(
            TensorData::new(values, [batch.rows.len(), tokens]),
            &self.device,
        )
    }
}
