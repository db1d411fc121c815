//! Files to prompts: rows of six layouts, pictures, templates, token ids.
//!
//! Knows no model, no device and no reward.

pub mod dataset;
pub mod prompt;
