//! What the steps of learning gave, on the host.
//!
//! Knows nothing of how they are logged.

use crate::kernels::PolicyLossMetrics;

/// What one micro-batch gave, all on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct MicroBatchResult {
    /// Its part of the step's loss.
    pub loss: f32,
    /// That part without the entropy bonus, where there is one.
    pub policy_loss: Option<f32>,
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
