//! From gradients to new weights: global-norm clipping, AdamW, learning-rate schedules.
//!
//! Knows nothing of models or losses: parameters and gradients are flat tensors by name.

pub mod adamw;
pub mod gradients;
pub mod schedule;

use burn::tensor::Tensor;

/// What an optimizer changes: flat tensors by name.
pub trait Parameters {
    /// The values under a name, if there are any.
    fn value(&self, name: &str) -> Option<Tensor<1>>;

    /// Puts other values there.
    fn replace(&mut self, name: &str, value: Tensor<1>);

    /// Whether weight decay acts on them.
    fn decays(&self, name: &str) -> bool;
}
