//! The keys, grouped as [`Run`](super::Run) holds them.
//!
//! Each file declares sections with the `section!` macro: a struct field per key, with its documentation, its reader
//! and its default as YAML text. Names and defaults are TRL's wherever TRL has the key.

mod adapter;
mod data;
mod group;
mod learning;
mod output;

pub(crate) use adapter::ADAPTER;
pub use adapter::AdapterKeys;
pub(crate) use data::{DATA, MODEL};
pub use data::{DataKeys, ModelKeys};
pub(crate) use group::GROUP;
pub use group::GroupKeys;
pub(crate) use learning::{BATCH, LOSS, OPTIMIZER, SAMPLING};
pub use learning::{BatchKeys, LossKeys, OptimizerKeys, SamplingKeys};
pub(crate) use output::{EVALUATION, OUTPUT, RUNTIME};
pub use output::{EvaluationKeys, OutputKeys, RuntimeKeys};
