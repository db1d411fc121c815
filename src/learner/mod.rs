//! Forward, loss, backward and update of one policy.
//!
//! Takes [`TokenBatch`]es with per-token loss weights and never learns which algorithm stamped them: selection,
//! advantages, aggregation and external actions are all in those streams. Knows nothing of text, files or rewards.

pub mod batch;
pub mod likelihood;
pub mod optimizer;
mod rectangle;

use burn::tensor::{Device, Tensor, TensorData};

use rectangle::{add_rows, split_rows, spread};

use crate::kernels::{
    PolicyLossInput, PolicyLossMetrics, PolicyLossOptions, TokenLogprobOptions, policy_loss,
    policy_loss_metrics, token_logprob,
};
use crate::learner::optimizer::adamw::{AdamW, AdamWOptions};
use crate::learner::optimizer::gradients::{GradientNorm, Gradients};
use crate::model::config::ModelConfig;
use crate::model::generate::flag_tensor;
use crate::model::packing::Packed;
use crate::model::weights::{UnusableValues, Weights, WeightsError, host_values};
use crate::model::{Qwen2Vl, index_tensor};
use crate::record::TokenBatch;

/// How the learner computes.
#[derive(Debug, Clone)]
pub struct LearnerOptions {
    /// The clipped surrogate and the KL term.
    pub loss: PolicyLossOptions,
    /// The optimizer.
    pub adamw: AdamWOptions,
    /// Global gradient norm is clipped to this; 0 = no clipping.
    pub max_grad_norm: f64,
    /// Divides the logits before the log-softmax.
    pub logprob_temperature: f32,
    /// [V] tokens that have probability 0.
    pub suppressed: Option<Vec<bool>>,
    /// Leave the vision tower as it is.
    pub freeze_vision_modules: bool,
}

/// Why a step must not reach the weights.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The loss is NaN or infinite.
    #[error(
        "the loss is {found}\nhint: nothing was written to the weights; lower learning_rate, or look for extreme values in the dumped rollouts"
    )]
    Loss {
        /// Its value.
        found: f32,
    },
    /// A gradient is NaN or infinite.
    #[error(
        "the gradient of `{tensor}` is not finite\nhint: nothing was written to the weights; lower learning_rate or max_grad_norm, or look for extreme values in the dumped rollouts"
    )]
    Gradient {
        /// The first parameter whose gradient is not finite.
        tensor: String,
    },
    /// The update gave values that must not be kept.
    #[error(
        "{0}; nothing is saved, and earlier checkpoints stay\nhint: lower learning_rate, then continue from the last checkpoint with `--resume_from_checkpoint true`"
    )]
    Update(UnusableValues),
    /// The parameters do not fit the configuration.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// What one micro-batch gave, all on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct MicroBatchResult {
    /// Its part of the step's loss.
    pub loss: f32,
    /// Per row and token: the loss term before weighting.
    pub loss_terms: Vec<Vec<f32>>,
    /// Per row and token: the importance ratio.
    pub ratios: Vec<Vec<f32>>,
    /// Per row and token: 1 where the ratio was clipped, on either side.
    pub clipped: Vec<Vec<f32>>,
    /// TRL's clip metrics and `kl` of this micro-batch.
    pub clip: PolicyLossMetrics,
    /// Per row and token: log-probability under the weights that were differentiated.
    pub logprobs: Vec<Vec<f32>>,
    /// Per row and token: entropy of the distribution in nats.
    pub entropies: Vec<Vec<f32>>,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UpdateReport {
    /// Global norm before clipping.
    pub grad_norm: f64,
}

/// A policy in training.
pub struct Learner {
    /// Sizes.
    pub config: ModelConfig,
    /// The parameters.
    pub weights: Weights,
    /// The optimizer.
    pub optimizer: AdamW,
    options: LearnerOptions,
    device: Device,
    folder: String,
    suppressed: Option<Tensor<1>>,
    gradients: Gradients,
    loss: f32,
}

/// Log-probabilities of a batch's tokens, still on the device.
struct BatchLogprobs {
    /// [n] real tokens of all rows one after the other.
    logprobs: Tensor<1>,
    /// [n]
    entropies: Tensor<1>,
}

impl Learner {
    /// A learner of these parameters.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape than the configuration says.
    pub fn new(
        config: ModelConfig,
        mut weights: Weights,
        folder: &str,
        options: LearnerOptions,
        device: &Device,
    ) -> Result<Self, LearnError> {
        if config.text.tie_word_embeddings {
            if weights.has_own_head() {
                log::warn!(
                    "{folder}: config.json ties the head to the embedding, but the files hold another one: lm_head.weight is the head, as in transformers 5\nhint: set `tie_word_embeddings` to false"
                );
            } else {
                weights.tie_head();
            }
        }
        Qwen2Vl::new(&config, &weights, folder, device)?;
        let suppressed = options
            .suppressed
            .as_deref()
            .map(|flags| flag_tensor(flags, device));
        Ok(Self {
            config,
            weights,
            optimizer: AdamW::new(options.adamw),
            options,
            device: device.clone(),
            folder: folder.to_owned(),
            suppressed,
            gradients: Gradients::default(),
            loss: 0.0,
        })
    }

    /// The policy as it is now, for sampling.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape than the configuration says.
    pub fn policy(&self) -> Result<Qwen2Vl, WeightsError> {
        self.model(&self.weights)
    }

    fn model(&self, weights: &Weights) -> Result<Qwen2Vl, WeightsError> {
        Qwen2Vl::new(&self.config, weights, &self.folder, &self.device)
    }

    /// Log-probability of every token of every row under `weights` (the policy's own, or a frozen reference).
    ///
    /// # Errors
    /// If a parameter is missing or has another shape than the configuration says.
    pub fn logprobs(
        &self,
        weights: &Weights,
        batch: &TokenBatch,
    ) -> Result<Vec<Vec<f32>>, WeightsError> {
        if batch.rows.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.forward(&self.model(weights)?, batch, false);
        Ok(split_rows(&host_values(&found.logprobs), batch))
    }

    /// As [`Learner::logprobs`] under the policy, with the entropy of every distribution.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape than the configuration says.
    pub fn logprobs_and_entropies(
        &self,
        batch: &TokenBatch,
    ) -> Result<(Vec<Vec<f32>>, Vec<Vec<f32>>), WeightsError> {
        let found = self.forward(&self.policy()?, batch, true);
        Ok((
            split_rows(&host_values(&found.logprobs), batch),
            split_rows(&host_values(&found.entropies), batch),
        ))
    }

    fn forward(&self, model: &Qwen2Vl, batch: &TokenBatch, with_entropy: bool) -> BatchLogprobs {
        let rows: Vec<(usize, &[u32])> = batch
            .rows
            .iter()
            .map(|row| (row.prompt, row.token_ids.as_slice()))
            .collect();
        let packed = Packed::new(&batch.prompts, &rows);
        // Only the states that predict a token reach the head.
        let states = model
            .hidden(&batch.prompts, &packed)
            .select(0, index_tensor(&packed.predictors, &self.device));
        let targets: Vec<u32> = rows.iter().flat_map(|row| row.1).copied().collect();
        let options = TokenLogprobOptions {
            temperature: self.options.logprob_temperature,
            suppressed: self.suppressed.clone(),
            with_entropy,
        };
        let found = token_logprob(
            states,
            model.head(),
            index_tensor(&targets, &self.device),
            &options,
        );
        BatchLogprobs {
            logprobs: found.logprobs,
            entropies: found.entropies,
        }
    }

    /// Whether updates change the parameter of this name.
    #[must_use]
    pub fn is_trainable(&self, name: &str) -> bool {
        !(self.options.freeze_vision_modules && name.starts_with("visual."))
    }

    /// Forward and backward of one micro-batch of the policy loss; gradients add up until [`Learner::apply`].
    ///
    /// `token_weights` [row][token] are the shares of each token in the step's loss. Rows without `old_logprobs` use
    /// the current ones, detached: the first update after a rollout.
    ///
    /// # Errors
    /// If the loss is not finite.
    pub fn accumulate(
        &mut self,
        batch: &TokenBatch,
        token_weights: &[Vec<f32>],
    ) -> Result<MicroBatchResult, LearnError> {
        let tracked = self.weights.tracked(&|name| self.is_trainable(name));
        let found = self.forward(&self.model(&tracked)?, batch, true);
        let current = host_values(&found.logprobs);
        let current_rows = split_rows(&current, batch);
        let longest = batch.rows.iter().map(|row| row.token_ids.len()).max();
        let [rows, tokens] = [batch.rows.len(), longest.unwrap_or(0)];
        let has_reference = batch
            .rows
            .iter()
            .any(|row| row.reference_logprobs.is_some());
        let input = PolicyLossInput {
            logprobs: spread(found.logprobs.clone(), batch, tokens, &self.device),
            old_logprobs: self.rectangle(batch, tokens, |row, index| {
                batch.rows[row]
                    .old_logprobs
                    .as_ref()
                    .map_or(current_rows[row][index], |old| old[index])
            }),
            reference_logprobs: has_reference.then(|| {
                self.rectangle(batch, tokens, |row, index| {
                    batch.rows[row]
                        .reference_logprobs
                        .as_ref()
                        .map_or(current_rows[row][index], |values| values[index])
                })
            }),
            advantages: self.rectangle(batch, tokens, |row, index| {
                batch.rows[row].advantages[index]
            }),
            mask: self.rectangle(batch, tokens, |row, index| batch.rows[row].mask[index]),
            weights: self.rectangle(batch, tokens, |row, index| token_weights[row][index]),
            kl_weights: Some(self.rectangle(batch, tokens, |row, _| batch.rows[row].kl_weight)),
        };
        let mask = host_values(&input.mask);
        let output = policy_loss(input, &self.options.loss);
        let terms = host_values(&output.terms);
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
        if let Some(terms) = likelihood::terms(batch, &current_rows, token_weights) {
            add_rows(&mut loss_terms, &terms.losses);
            loss = loss + self.linear_term(found.logprobs, &current, &terms);
        }
        let loss = self.backward(&loss, &tracked)?;
        Ok(MicroBatchResult {
            loss,
            loss_terms,
            ratios: term(1),
            clipped,
            clip: policy_loss_metrics(&terms, &mask, tokens, &self.options.loss),
            logprobs: current_rows,
            entropies: split_rows(&host_values(&found.entropies), batch),
        })
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
        let count = slopes.len();
        let slopes = Tensor::<1>::from_data(TensorData::new(slopes, [count]), &self.device);
        (logprobs * slopes)
            .sum()
            .add_scalar((terms.loss - at_current) as f32)
    }

    /// Forward and backward of supervised fine-tuning: −Σ weight · log p over the tokens of every row.
    ///
    /// # Errors
    /// If the loss is not finite.
    pub fn accumulate_supervised(
        &mut self,
        batch: &TokenBatch,
        token_weight: f32,
    ) -> Result<f32, LearnError> {
        let tracked = self.weights.tracked(&|name| self.is_trainable(name));
        let found = self.forward(&self.model(&tracked)?, batch, false);
        let mask: Vec<f32> = batch
            .rows
            .iter()
            .flat_map(|row| row.mask.iter().copied())
            .collect();
        let mask =
            Tensor::<1>::from_data(TensorData::new(mask.clone(), [mask.len()]), &self.device);
        let loss = (found.logprobs * mask).sum().mul_scalar(-token_weight);
        self.backward(&loss, &tracked)
    }

    fn backward(&mut self, loss: &Tensor<1>, tracked: &Weights) -> Result<f32, LearnError> {
        let value = host_values(loss)[0];
        if !value.is_finite() {
            self.gradients.take();
            self.loss = 0.0;
            return Err(LearnError::Loss { found: value });
        }
        let mut gradients = loss.backward();
        for (name, parameter) in tracked.iter() {
            if let Some(gradient) = parameter.value.grad_remove(&mut gradients) {
                self.gradients.add(name, gradient);
            }
        }
        self.loss += value;
        Ok(value)
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

    /// The gradients gathered so far, by parameter name.
    #[must_use]
    pub const fn gradients(&self) -> &Gradients {
        &self.gradients
    }

    /// Clips, checks and applies the gathered gradients, then forgets them.
    ///
    /// # Errors
    /// [`LearnError::Gradient`] if a gradient is not finite; the weights and the optimizer are then as before.
    /// [`LearnError::Update`] if a new weight cannot be kept; the learner is then spoilt and must not be saved. (Holding the
    /// old weights until the new ones are known would take their memory twice.)
    pub fn apply(&mut self, learning_rate: f64) -> Result<UpdateReport, LearnError> {
        let mut gradients = self.gradients.take();
        self.loss = 0.0;
        match gradients.norm() {
            GradientNorm::NotFinite { tensor } => Err(LearnError::Gradient { tensor }),
            GradientNorm::Finite(grad_norm) => {
                if self.options.max_grad_norm > 0.0 {
                    gradients.clip(grad_norm, self.options.max_grad_norm);
                }
                let names: Vec<String> = gradients.iter().map(|(name, _)| name.clone()).collect();
                self.optimizer
                    .step(&mut self.weights, gradients, learning_rate);
                match self.weights.first_unusable(names.iter()) {
                    Some(fault) => Err(LearnError::Update(fault)),
                    None => Ok(UpdateReport { grad_norm }),
                }
            }
        }
    }
}
