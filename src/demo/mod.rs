//! The demo: a small model in the form of a published Qwen2-VL checkpoint, and what is done with it.

pub mod checkpoint;
mod report;
pub mod run;
pub mod tokenizer;
mod warm_start;
