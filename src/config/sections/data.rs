//! Keys of the model, the data and the rewards.
//!
//! Declares names, types and defaults; reads no file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::key::{Key, section};
use super::super::ranges::{PIXELS, REWARD, SHARE, TOKENS};
use super::super::reward_entry::{self, RewardEntry};
use super::super::value::Kind;
use crate::options::{Dtype, Preset, ScoreCompat, SftTarget, VerifyImages, WeightFormat};
use crate::record::Task;

/// Reason-RFT's task names.
const TASKS: &[&str] = &[
    Task::Counting.name(),
    Task::Structure.name(),
    Task::Transformation.name(),
    Task::TransformationOnlyFull.name(),
    Task::TransformationPenalty.name(),
    Task::TransformationFullCaption.name(),
];

section! {
    /// Where the policy comes from.
    MODEL: ModelKeys {
        /// A published method's keys, below the file's and the flags'.
        preset: Option<Preset> = Kind::Optional(&Kind::Choice(Preset::NAMES)), "null";
        /// Folder of the Qwen2-VL checkpoint that training starts from.
        model_name_or_path: PathBuf = Kind::Path, "required";
        /// How weights that do not train are held, auto = as in the file; computing is in float32.
        dtype: Dtype = Kind::Choice(Dtype::NAMES), "auto";
        /// Hold the matrices that do not train in 4 bits, blocks of 32 numbers with a scale each.
        load_in_4bit: bool = Kind::Bool, "false";
        /// Hold the matrices that do not train in 8 bits, blocks of 32 numbers with a scale each.
        load_in_8bit: bool = Kind::Bool, "false";
        /// Hold embedding table and output head in 8 bits where they do not train; `load_in_4bit` and `load_in_8bit` leave them.
        quantize_embeddings: bool = Kind::Bool, "false";
        /// Keep the vision tower and its projector as they are.
        freeze_vision_modules: bool = Kind::Bool, "false";
        /// Give the vision placeholders and the unassigned end of the vocabulary no probability, in sampling and in training.
        suppress_vision_tokens: bool = Kind::Bool, "true";
    }
}

impl ModelKeys {
    /// How the policy's frozen weights are held.
    #[must_use]
    pub const fn weight_format(&self) -> WeightFormat {
        WeightFormat {
            dtype: self.dtype,
            load_in_4bit: self.load_in_4bit,
            load_in_8bit: self.load_in_8bit,
            quantize_embeddings: self.quantize_embeddings,
        }
    }
}

section! {
    /// Rows, prompts, pictures and rewards.
    DATA: DataKeys {
        /// JSON or JSONL file of rows, or a folder with one file per split.
        dataset_name: PathBuf = Kind::Path, "required";
        /// Split that trains, where `dataset_name` is a folder.
        dataset_train_split: String = Kind::Text, "train";
        /// Split that is evaluated, where `dataset_name` is a folder.
        dataset_test_split: String = Kind::Text, "test";
        /// Folder that relative picture paths start from; null = the folder of the data file.
        image_dir: Option<PathBuf> = Kind::Optional(&Kind::Path), "null";
        /// How much of every picture is read before the first step: its header and its end, or all of it, decoded.
        verify_images: VerifyImages = Kind::Choice(VerifyImages::NAMES), "header";
        /// Reason-RFT's task of every row: prompt template and accuracy reward; null = the rows say it.
        task_name: Option<Task> = Kind::Optional(&Kind::Choice(TASKS)), "null";
        /// File with a prompt template, `{Question}` in the problem's place; null = the task's own.
        prompt_template: Option<PathBuf> = Kind::Optional(&Kind::Path), "null";
        /// Smallest picture area after resizing, in pixels; null = the model folder's own limit, as in every command.
        min_pixels: Option<usize> = Kind::Optional(&Kind::Count(1, PIXELS[0])), "null";
        /// Largest picture area after resizing, in pixels, also for evaluation; null = the model folder's own, and 401,408 for endpoints.
        max_pixels: Option<usize> = Kind::Optional(&Kind::Count(1, PIXELS[1])), "null";
        /// Rows whose prompt has more tokens are rejected, never cut; null = no limit.
        max_prompt_length: Option<usize> = Kind::Optional(&Kind::Count(1, TOKENS)), "null";
        /// Share of unusable rows above which the run stops before its first step.
        max_rejected_fraction: f64 = SHARE, "0";
        /// Visit the rows in an order drawn from `data_seed`, a new one in each pass.
        shuffle_dataset: bool = Kind::Bool, "true";
        /// Rewards, summed; a table {name, command, timeout_s, max_restarts, measures_accuracy} is a program of yours.
        reward_funcs: Vec<RewardEntry> = reward_entry::LIST, "[accuracy, format]";
        /// One weight per reward function; null = 1 each.
        reward_weights: Vec<f64> = Kind::Optional(&Kind::List(&REWARD)), "null";
        /// Tokens before `max_completion_length` at which soft_overlong_punishment sets in; null = a fifth of it.
        soft_punish_cache: Option<usize> = Kind::Optional(&Kind::Count(1, TOKENS)), "null";
        /// Whose reading of answers the evaluation follows: the original's with its quirks, or the repaired one.
        score_compat: ScoreCompat = Kind::Choice(ScoreCompat::NAMES), "fixed";
        /// What `sft` teaches: the chain of thought with the answer in tags, or the bare answer.
        sft_target: SftTarget = Kind::Choice(SftTarget::NAMES), "cot";
    }
}
