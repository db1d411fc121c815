//! Files to prompts: rows of six layouts, pictures, templates, token ids; and what a model folder says of itself.
//!
//! Knows no model, no device and no reward.

pub mod dataset;
pub mod model_folder;
pub mod prompt;
