//! Keys of what a run writes, how it is evaluated and where it runs.
//!
//! Declares names, types and defaults; writes nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::key::{Key, section};
use super::super::ranges::{ACTIONS, ROWS, SEED, TEMPERATURE_OR_GREEDY, from_to};
use super::super::special_values::{self, Interval, Resume};
use super::super::value::Kind;
use crate::options::{DeviceChoice, IntervalStrategy};

section! {
    /// What is written and when.
    OUTPUT: OutputKeys {
        /// Folder of metrics, completions and checkpoints.
        output_dir: PathBuf = Kind::Path, "required";
        /// Name of the run in logs.
        run_name: Option<String> = Kind::Optional(&Kind::Text), "null";
        /// Start afresh in an `output_dir` that holds a run.
        overwrite_output_dir: bool = Kind::Bool, "false";
        /// Replace a file that `dump_rollouts` or `--output` names and that exists.
        overwrite: bool = Kind::Bool, "false";
        /// Optimizer steps between metric lines; below 1 a share of all steps.
        logging_steps: Interval = Kind::Interval, "10";
        /// Log the first step too.
        logging_first_step: bool = Kind::Bool, "false";
        /// When a checkpoint is written.
        save_strategy: IntervalStrategy = Kind::Choice(IntervalStrategy::NAMES), "steps";
        /// Optimizer steps between checkpoints; below 1 a share of all steps.
        save_steps: Interval = Kind::Interval, "500";
        /// Newest checkpoints that are kept; null = all.
        save_total_limit: Option<usize> = Kind::Optional(&Kind::Count(1, ROWS)), "null";
        /// Checkpoints hold the model only and cannot be resumed.
        save_only_model: bool = Kind::Bool, "false";
        /// Checkpoint folder to continue from; true = the last one of `output_dir`.
        resume_from_checkpoint: Resume = special_values::RESUME, "null";
        /// Steps in a row without any difference of rewards that end the run; null = it goes on.
        watchdog_patience: Option<usize> = Kind::Optional(&Kind::Count(1, 1_000_000_000)), "null";
        /// Keys that may have other values than the run that is continued had, although its results depend on them.
        resume_allow_changes: Vec<String> = Kind::List(&Kind::Text), "[]";
        /// Print sampled completions when metrics are logged.
        log_completions: bool = Kind::Bool, "false";
        /// Completions that are printed; null = all of the batch.
        num_completions_to_print: Option<usize> = Kind::Optional(&Kind::Count(0, ROWS)), "null";
        /// JSONL file that receives the tokens, rewards and log-probabilities that are trained on.
        dump_rollouts: Option<PathBuf> = Kind::Optional(&Kind::Path), "null";
        /// JSONL file of tokens and rewards to train on instead of sampling.
        replay_rollouts: Option<PathBuf> = Kind::Optional(&Kind::Path), "null";
    }
}

section! {
    /// How held-out rows are scored.
    EVALUATION: EvaluationKeys {
        /// When the policy is evaluated during training.
        eval_strategy: IntervalStrategy = Kind::Choice(IntervalStrategy::NAMES), "no";
        /// Optimizer steps between evaluations, below 1 a share of all; null = `logging_steps`.
        eval_steps: Interval = Kind::Optional(&Kind::Interval), "null";
        /// Evaluate before the first step too.
        eval_on_start: bool = Kind::Bool, "false";
        /// Steps before the first evaluation, or passes with `eval_strategy: epoch`.
        eval_delay: f64 = from_to(0.0, 1e12), "0";
        /// Data files to evaluate; [] = the test split of `dataset_name`.
        eval_dataset_name: Vec<PathBuf> = Kind::List(&Kind::Path), "[]";
        /// Rows of each evaluated file at most, from the top; null = all.
        max_eval_samples: Option<usize> = Kind::Optional(&Kind::Count(1, 1_000_000_000)), "null";
        /// Completions decoded at a time in evaluation.
        per_device_eval_batch_size: usize = Kind::Count(1, ROWS), "8";
        /// Completions per row in evaluation, n of pass@k; null = `num_generations`.
        num_generations_eval: usize = Kind::Optional(&Kind::Count(1, ACTIONS)), "null";
        /// Sampling temperature of evaluation, 0 = greedy; null = `temperature`.
        eval_temperature: f64 = Kind::Optional(&TEMPERATURE_OR_GREEDY), "null";
    }
}

section! {
    /// Where the run computes and where its randomness starts.
    RUNTIME: RuntimeKeys {
        /// Where tensors live: a hardware GPU if there is one, else the CPU (auto); one of several adapters as vulkan:1.
        device: DeviceChoice = special_values::DEVICE, "auto";
        /// Seed of sampling and selection.
        seed: u64 = Kind::Count(0, SEED), "42";
        /// Seed of the order of rows; null = `seed`.
        data_seed: u64 = Kind::Optional(&Kind::Count(0, SEED)), "null";
    }
}
