//! A policy in training: its parameters, its optimizer, and the step that is under way.
//!
//! Knows nothing of losses, and of gradients only where they gather.

use burn::tensor::{Device, Tensor};

use super::error::LearnError;
use super::optimizer::adamw::AdamW;
use super::optimizer::gradients::Gradients;
use super::settings::LearnerOptions;
use super::streaming::Streaming;
use crate::kernels::TEMPERATURES;
use crate::model::config::ModelConfig;
use crate::model::features::Features;
use crate::model::parameters::spec::is_vision;
use crate::model::parameters::{Weights, WeightsError};
use crate::model::{Qwen2Vl, flag_tensor};

/// A policy in training.
pub struct Learner {
    /// Sizes.
    pub config: ModelConfig,
    /// The parameters.
    pub weights: Weights,
    /// The optimizer.
    pub optimizer: AdamW,
    pub(super) options: LearnerOptions,
    pub(super) device: Device,
    pub(super) folder: String,
    pub(super) suppressed: Option<Tensor<1>>,
    /// Embeddings of pictures, where the tower stays as it is.
    pub(super) features: Option<Features>,
    pub(super) gradients: Gradients,
    /// Micro-batches since the last update.
    pub(super) micro_batches: u64,
    /// An update under way, where every gradient is used as it comes.
    pub(super) streaming: Option<Streaming>,
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

    /// A model of these weights that remembers pictures as the policy does.
    pub(super) fn model(&self, weights: &Weights) -> Result<Qwen2Vl, WeightsError> {
        let model = Qwen2Vl::new(&self.config, weights, &self.folder, &self.device)?;
        Ok(model.remembering(self.features.clone()))
    }

    /// Pictures that a tower that stays as it is has computed so far; `None` if the tower trains.
    #[must_use]
    pub fn pictures_computed(&self) -> Option<usize> {
        self.features.as_ref().map(Features::computed)
    }

    /// Whether updates change the parameter of this name.
    #[must_use]
    pub fn is_trainable(&self, name: &str) -> bool {
        match self.weights.adapter() {
            Some(adapter) => adapter.has(name),
            None => !(self.options.freeze_vision_modules && is_vision(name)),
        }
    }

    /// Forgets the step that had begun.
    pub(super) fn forget(&mut self) {
        self.gradients.take();
        self.micro_batches = 0;
        self.streaming = None;
    }
}
