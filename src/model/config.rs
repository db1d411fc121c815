//! The shape of the model: what config.json says, as prompts and the model both read it.
//!
//! Knows nothing of its own: the reader is plain Rust and stands with the model folder's other files.

pub use crate::data::model_folder::{
    ModelConfig, Rope, RopeScaling, TextConfig, VisionConfig, VisionKind,
};
