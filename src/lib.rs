//! Vision-EKIPL: reinforcement learning of vision-language models with external actions, on any GPU.
//!
//! The table of contents, in the order of the data.

pub mod cli;
pub mod commands;
pub mod config;
pub mod setup;
pub mod train;
pub mod trainer;

pub mod generator;
pub mod record;

pub mod dataset;
pub mod prompt;
pub mod rollout;
pub mod rollout_file;
pub mod teacher;

pub mod advantage;
pub mod batch;
pub mod reward;
pub mod selection;

pub mod kernels;
pub mod learner;
pub mod model;
pub mod optimizer;

pub mod device;

pub mod checkpoint;
pub mod evaluation;
pub mod metrics;
pub mod run_folder;
pub mod sft;
pub mod step_report;

pub mod counting;
pub mod demo;
