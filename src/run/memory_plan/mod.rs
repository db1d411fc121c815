//! How much memory a run takes, part by part and phase by phase, worked out from sizes and keys before anything is loaded.
//!
//! Pure arithmetic on [`Settings`]: no file, device or tensor. What each operation keeps for its backward pass is written
//! down in `activations`; the measured peak, `perf/max_memory_allocated_gb`, says how well.

mod activations;
mod buffers;
mod bytes;
mod graph;
mod part;
mod parts;
mod plan;
mod remedies;
mod settings;
mod tower;
mod weights;

pub use buffers::{Buffer, Cause};
pub use part::{Part, Phase};
pub use plan::{MemoryPlan, StepTokens};
pub use remedies::{Advice, Remedy, advice};
pub use settings::{
    Adapters, Formats, Place, PromptSizes, Settings, TeacherSettings, Trained, Work,
};

#[cfg(test)]
mod tests;
