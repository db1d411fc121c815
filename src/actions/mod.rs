//! Prompts to groups with credit: own and external actions, their rewards, the selection of the best group, advantages.
//!
//! Plain host code: models are reached through [`generator::Generate`] only, and the stages meet in [`crate::record`].

pub mod advantage;
pub mod external_ratio;
pub mod generator;
pub mod reward;
pub mod rollout;
mod secret;
pub mod selection;
pub mod teacher;
