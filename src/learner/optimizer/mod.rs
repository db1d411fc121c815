//! From gradients to new weights: global-norm clipping, AdamW, learning-rate schedules.
//!
//! Knows nothing of models or losses: parameters and gradients are flat tensors by name.

pub mod adamw;
pub mod gradients;
pub mod schedule;
