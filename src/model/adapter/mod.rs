//! Low-rank adapters in PEFT's format: which layers have one, what they start from, and the two files that hold them.
//!
//! An adapter of a layer with weight W [out, in] is a pair A [r, in], B [out, r]; the layer then gives
//! `W x + scale · B (A x)`. Here a module and a tensor have their hub names (`model.layers.0.self_attn.q_proj`,
//! `model.layers.0.self_attn.q_proj.lora_A.weight`); PEFT names modules as transformers does, and [`names`] translates.
//! All of it is host code: knows nothing of devices, losses or optimizers.

mod config;
mod config_file;
mod error;
mod files;
mod initial;
mod layout;
pub mod names;
mod targets;

pub use config::AdapterConfig;
pub use config_file::ADAPTER_CONFIG;
pub use error::AdapterError;
pub use files::{ADAPTER_TENSORS, AdapterFiles, AdapterTensor};
pub use initial::initial_values;
pub use layout::{Adapted, AdapterLayout, Saved};

#[cfg(test)]
mod golden_tests;
