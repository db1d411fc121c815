//! Forward, loss, backward and update of one policy.
//!
//! Takes [`TokenBatch`](crate::record::TokenBatch)es with per-token loss weights and never learns which algorithm stamped them: selection,
//! advantages, aggregation and external actions are all in those streams. Knows nothing of text, files or rewards.

pub mod batch;
mod entropy;
mod error;
pub mod likelihood;
mod losses;
pub mod optimizer;
mod parameters;
mod pass;
mod policy;
mod rectangle;
mod report;
mod score;
mod settings;
mod streaming;
mod update;

pub use error::LearnError;
pub use policy::Learner;
pub use report::{MicroBatchResult, UpdateReport};
pub use settings::LearnerOptions;
