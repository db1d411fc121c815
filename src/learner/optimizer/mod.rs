//! From gradients to new weights: global-norm clipping, AdamW, learning-rate schedules.
//!
//! Knows nothing of models or losses: parameters and gradients are flat tensors by name.

pub mod adamw;
pub mod gradients;
pub mod schedule;

use burn::tensor::Tensor;

/// What an optimizer changes: flat tensors by name.
pub trait Parameters {
    /// Replaces the values under a name by what `change` makes of them; false if there are none.
    ///
    /// The values are taken out for that long: `change` may write into their memory if nobody else holds it.
    fn change(&mut self, name: &str, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> bool;

    /// Whether weight decay acts on them.
    fn decays(&self, name: &str) -> bool;
}
