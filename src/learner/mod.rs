//! Forward, loss, backward and update of one policy.
//!
//! Takes [`TokenBatch`]es with per-token loss weights and never learns which algorithm stamped them: selection,
//! advantages, aggregation and external actions are all in those streams. Knows nothing of text, files or rewards.

pub mod batch;
mod entropy;
mod error;
pub mod likelihood;
mod losses;
pub mod optimizer;
mod parameters;
mod pass;
mod rectangle;
mod report;
mod settings;
mod update;

use burn::tensor::{Device, Tensor};

pub use error::LearnError;
use rectangle::split_rows;
pub use report::{MicroBatchResult, UpdateReport};
pub use settings::LearnerOptions;
use update::Streaming;

use crate::device::{guard, read_back};
use crate::kernels::{TEMPERATURES, TokenLogprobOptions, token_logprob};
use crate::learner::optimizer::adamw::AdamW;
use crate::learner::optimizer::gradients::Gradients;
use crate::model::config::ModelConfig;
use crate::model::features::Features;
use crate::model::generate::flag_tensor;
use crate::model::parameters::spec::is_vision;
use crate::model::parameters::{Weights, WeightsError};
use crate::model::{Qwen2Vl, index_tensor};
use crate::record::TokenBatch;

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
    /// Embeddings of pictures, where the tower stays as it is.
    features: Option<Features>,
    gradients: Gradients,
    /// Micro-batches since the last update.
    micro_batches: u64,
    /// An update under way, where every gradient is used as it comes.
    streaming: Option<Streaming>,
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
        let mut learner = Self {
            config,
            weights,
            optimizer: AdamW::new(options.adamw),
            options,
            device: device.clone(),
            folder: folder.to_owned(),
            suppressed,
            features: None,
            gradients: Gradients::default(),
            micro_batches: 0,
            streaming: None,
        };
        let names = || learner.weights.iter().map(|(name, _)| name);
        let tower_trains = names().any(|name| is_vision(name) && learner.is_trainable(name));
        learner.features = (!tower_trains).then(Features::default);
        Ok(learner)
    }

    /// The policy as it is now, for sampling.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape than the configuration says.
    pub fn policy(&self) -> Result<Qwen2Vl, WeightsError> {
        self.model(&self.weights)
    }

    fn model(&self, weights: &Weights) -> Result<Qwen2Vl, WeightsError> {
        let model = Qwen2Vl::new(&self.config, weights, &self.folder, &self.device)?;
        Ok(model.remembering(self.features.clone()))
    }

    /// Pictures that a tower that stays as it is has computed so far; `None` if the tower trains.
    #[must_use]
    pub fn pictures_computed(&self) -> Option<usize> {
        self.features.as_ref().map(Features::computed)
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

    /// Log-probabilities of a batch under a model, without a graph.
    fn forward(&self, model: &Qwen2Vl, batch: &TokenBatch, entropies: Entropies) -> BatchLogprobs {
        let packed = pass::packed(batch);
        let states = model.states(&batch.prompts, &packed);
        self.score(model, (states, &packed.predictors), batch, entropies)
    }

    /// Log-probabilities of a batch's tokens by the states [n, D] before the final norm and which of them predict a token.
    fn score(
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

    /// Whether updates change the parameter of this name.
    #[must_use]
    pub fn is_trainable(&self, name: &str) -> bool {
        match self.weights.adapter() {
            Some(adapter) => adapter.has(name),
            None => !(self.options.freeze_vision_modules && is_vision(name)),
        }
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
        guard(&during, || {
            let found = self.policy_forward(batch, token_weights);
            let (forward, result) = found.inspect_err(|_| self.forget())?;
            self.backward(forward)?;
            Ok(result)
        })?
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
        guard(&during, || {
            let found = self.supervised_forward(batch, token_weight);
            let forward = found.inspect_err(|_| self.forget())?;
            let loss = forward.value;
            self.backward(forward)?;
            Ok(loss)
        })?
    }
}
