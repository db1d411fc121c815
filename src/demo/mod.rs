//! The demo's small model: tokenizer and random weights in the form of a published Qwen2-VL checkpoint.

pub mod checkpoint;
pub mod tokenizer;
