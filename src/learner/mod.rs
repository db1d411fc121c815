//! Forward, loss, backward and update of one policy.
//!
//! Takes [`TokenBatch`]es with per-token loss weights and never learns which algorithm stamped them: selection,
//! advantages, aggregation and external actions are all in those streams. Knows nothing of text, files or rewards.

pub mod batch;
mod entropy;
mod error;
pub mod likelihood;
pub mod optimizer;
mod parameters;
mod rectangle;
mod report;
mod settings;

use burn::tensor::{Device, Tensor, TensorData};

pub use error::LearnError;
use rectangle::{add_rows, split_rows, spread};
pub use report::{MicroBatchResult, UpdateReport};
pub use settings::LearnerOptions;

use crate::device::{guard, read_back};
use crate::kernels::{
    PolicyLossInput, TEMPERATURES, TokenLogprobOptions, policy_loss, policy_loss_metrics,
    token_logprob,
};
use crate::learner::optimizer::adamw::AdamW;
use crate::learner::optimizer::gradients::{GradientNorm, Gradients};
use crate::model::config::ModelConfig;
use crate::model::generate::flag_tensor;
use crate::model::packing::Packed;
use crate::model::weights::{Weights, WeightsError};
use crate::model::{Qwen2Vl, index_tensor};
use crate::record::TokenBatch;

/// The optimizer squares gradients in f32.
const LARGEST_NORM: f64 = 1.8e19;

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

/// What a forward pass does about entropies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entropies {
    Skip,
    Values,
    Differentiable,
}

/// Log-probabilities of a batch's tokens, still on the device.
struct BatchLogprobs {
    /// [n] real tokens of all rows one after the other.
    logprobs: Tensor<1>,
    /// [n]
    entropies: Tensor<1>,
}

/// The same on the host, [row][token].
struct HostPass {
    logprobs: Vec<Vec<f32>>,
    entropies: Vec<Vec<f32>>,
    /// 1 for the most uncertain tokens, if only they have a surrogate.
    uncertain: Option<Vec<Vec<f32>>>,
}

impl Learner {
    /// A learner of these parameters.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape than the configuration says, or the temperature is out of range.
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
        Qwen2Vl::of_loaded(&config, &weights, folder, device)?;
        let found = options.logprob_temperature;
        if !TEMPERATURES.contains(&found) {
            return Err(LearnError::Temperature { found });
        }
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

    fn forward(&self, model: &Qwen2Vl, batch: &TokenBatch, entropies: Entropies) -> BatchLogprobs {
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
            with_entropy: entropies != Entropies::Skip,
            entropy_gradient: entropies == Entropies::Differentiable,
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
    /// If the loss is not finite, or the device fails.
    pub fn accumulate(
        &mut self,
        batch: &TokenBatch,
        token_weights: &[Vec<f32>],
    ) -> Result<MicroBatchResult, LearnError> {
        let during = format!("forward and backward of {} rows", batch.rows.len());
        guard(&during, || self.micro_batch(batch, token_weights))?
    }

    fn micro_batch(
        &mut self,
        batch: &TokenBatch,
        token_weights: &[Vec<f32>],
    ) -> Result<MicroBatchResult, LearnError> {
        let tracked = self.weights.tracked(&|name| self.is_trainable(name));
        let wanted = if self.options.entropy_coef == 0.0 {
            Entropies::Values
        } else {
            Entropies::Differentiable
        };
        let found = self.forward(&self.model(&tracked)?, batch, wanted);
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
        let loss = self.backward(&loss, &tracked)?;
        Ok(MicroBatchResult {
            loss,
            policy_loss: bonus.map(|bonus| loss - bonus),
            loss_terms,
            ratios: term(1),
            clipped,
            clip: policy_loss_metrics(&terms, &mask, tokens, &self.options.loss),
            logprobs: host.logprobs,
            entropies: host.entropies,
        })
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

    /// Forward and backward of supervised fine-tuning: −Σ weight · log p over the tokens of every row.
    ///
    /// # Errors
    /// If the loss is not finite, or the device fails.
    pub fn accumulate_supervised(
        &mut self,
        batch: &TokenBatch,
        token_weight: f32,
    ) -> Result<f32, LearnError> {
        let during = format!("forward and backward of {} rows", batch.rows.len());
        guard(&during, || self.supervised(batch, token_weight))?
    }

    fn supervised(&mut self, batch: &TokenBatch, token_weight: f32) -> Result<f32, LearnError> {
        let tracked = self.weights.tracked(&|name| self.is_trainable(name));
        let found = self.forward(&self.model(&tracked)?, batch, Entropies::Skip);
        let mask: Vec<f32> = batch
            .rows
            .iter()
            .flat_map(|row| row.mask.iter().copied())
            .collect();
        let loss = (found.logprobs * self.flat(mask))
            .sum()
            .mul_scalar(-token_weight);
        self.backward(&loss, &tracked)
    }

    fn backward(&mut self, loss: &Tensor<1>, tracked: &Weights) -> Result<f32, LearnError> {
        let value = read_back(loss)?[0];
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
    /// [`LearnError::Update`] if a new weight cannot be kept, and whatever the device says; the learner is then spoilt and
    /// must not be saved. (Holding the old weights until the new ones are known would take their memory twice.)
    pub fn apply(&mut self, learning_rate: f64) -> Result<UpdateReport, LearnError> {
        self.loss = 0.0;
        let gradients = self.gradients.take();
        guard("the update of the weights", || {
            self.update(gradients, learning_rate)
        })?
    }

    fn update(&mut self, mut gradients: Gradients, rate: f64) -> Result<UpdateReport, LearnError> {
        match gradients.norm()? {
            GradientNorm::NotFinite { tensor } => Err(LearnError::Gradient { tensor }),
            GradientNorm::Finite { norm, largest } => {
                let limit = self.options.max_grad_norm;
                if limit > 0.0 {
                    gradients.clip(norm, limit);
                }
                let kept = if limit > 0.0 { norm.min(limit) } else { norm };
                if kept > LARGEST_NORM {
                    return Err(LearnError::Overflow {
                        tensor: largest,
                        norm: kept,
                    });
                }
                self.optimizer.step(&mut self.weights, &gradients, rate);
                let names = gradients.iter().map(|(name, _)| name);
                match self.weights.first_unusable(names) {
                    Some(fault) => Err(LearnError::Update(fault)),
                    None => Ok(UpdateReport { grad_norm: norm }),
                }
            }
        }
    }
}
