//! One run: built from its configuration, its loop, what it writes, how it is judged and taken up again.

pub mod checkpoint;
pub mod evaluation;
pub mod folder;
pub mod memory_plan;
pub mod merge;
pub mod metrics;
mod position;
pub mod rollout_file;
pub mod setup;
pub mod sft;
mod state;
pub mod stop;
pub mod train;
pub mod trainer;
