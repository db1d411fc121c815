//! How the learner computes: loss, optimizer, what is trained.
//!
//! Declares values and defaults; computes nothing.

use crate::kernels::PolicyLossOptions;
use crate::learner::optimizer::adamw::AdamWOptions;

/// How the learner computes.
#[derive(Debug, Clone)]
pub struct LearnerOptions {
    /// The surrogate and the KL term.
    pub loss: PolicyLossOptions,
    /// Factor of the mean entropy of a micro-batch's tokens, which is subtracted from its loss: `entropy_coef` / the
    /// micro-batches of a step.
    pub entropy_coef: f32,
    /// Share of the most uncertain tokens of a micro-batch that have a surrogate.
    pub top_entropy_quantile: f64,
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
    /// Compute each block again in the backward pass instead of keeping what it computed.
    pub gradient_checkpointing: bool,
    /// What the masks of an adapter's dropout are drawn from.
    pub dropout_seed: u64,
}

impl Default for LearnerOptions {
    /// TRL's loss and transformers' AdamW on raw logits, everything trainable.
    fn default() -> Self {
        Self {
            loss: PolicyLossOptions::default(),
            entropy_coef: 0.0,
            top_entropy_quantile: 1.0,
            adamw: AdamWOptions::default(),
            max_grad_norm: 1.0,
            logprob_temperature: 1.0,
            suppressed: None,
            freeze_vision_modules: false,
            gradient_checkpointing: false,
            dropout_seed: 0,
        }
    }
}
