//! Why a step must not reach the weights, in words with a remedy.
//!
//! Knows nothing of how steps are taken.

use crate::device::DeviceFailure;
use crate::model::parameters::{UnusableValues, WeightsError};

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
    /// A gradient too large to be squared.
    #[error(
        "the gradient of `{tensor}` has a norm of {norm:e}, whose square no f32 can hold\nhint: nothing was written to the weights; set max_grad_norm, lower learning_rate, or look for extreme values in the dumped rollouts"
    )]
    Overflow {
        /// The first parameter with such a gradient.
        tensor: String,
        /// Its norm after clipping.
        norm: f64,
    },
    /// A gradient that is not finite, or too large to be squared, behind others that were applied already.
    #[error(
        "the gradient of `{tensor}` is not finite, and parts of the model are updated already; nothing is saved, and earlier checkpoints stay\nhint: set max_grad_norm (then all gradients are checked before the first is applied), or lower learning_rate, and continue from the last checkpoint with `--resume_from_checkpoint true`"
    )]
    PartlyApplied {
        /// The parameter.
        tensor: String,
    },
    /// The update gave values that must not be kept.
    #[error(
        "{0}; nothing is saved, and earlier checkpoints stay\nhint: lower learning_rate, then continue from the last checkpoint with `--resume_from_checkpoint true`"
    )]
    Update(UnusableValues),
    /// A temperature that makes logits infinite.
    #[error(
        "the temperature is {found}; expected 1e-6 to 1e6\nhint: 1 is the distribution that the model learnt"
    )]
    Temperature {
        /// Its value.
        found: f32,
    },
    /// The device gave up.
    #[error(transparent)]
    Device(#[from] DeviceFailure),
    /// The parameters do not fit the configuration.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}
