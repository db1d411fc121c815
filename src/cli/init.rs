//! Arguments of `init`.

use std::path::PathBuf;

use clap::Args;

use super::values::{ExpandedPath, SEED, multiple, whole};
use crate::record::Task;

/// Arguments of `init`. The sizes that are not asked for follow from the others, as in the published models: the MLP is
/// 8/3 as wide as the model, a query head has 24 numbers, two query heads share their keys and values.
#[derive(Debug, Args)]
pub struct InitArguments {
    /// Rows whose prompts and targets the tokenizer is learnt from; may be repeated.
    #[arg(long, value_name = "FILE", required = true, value_parser = ExpandedPath)]
    pub rows: Vec<PathBuf>,
    /// Folder for the checkpoint.
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub out: PathBuf,
    /// Replace a checkpoint that is there.
    #[arg(long)]
    pub overwrite: bool,
    /// Task of rows that do not name theirs.
    #[arg(long = "task_name", visible_alias = "task-name", value_parser = clap::builder::PossibleValuesParser::new(Task::ALL.map(Task::name)))]
    pub task: Option<String>,
    /// File with a template with one `{Question}`, in place of the task's.
    #[arg(
        long = "prompt_template",
        visible_alias = "prompt-template",
        value_name = "FILE",
        value_parser = ExpandedPath
    )]
    pub prompt_template: Option<PathBuf>,
    /// Seed of the weights.
    #[arg(long, value_name = "S", default_value_t = 42, value_parser = whole::<u64>(0, SEED))]
    pub seed: u64,
    /// The turn that comes first where a conversation has no system turn.
    #[arg(long, value_name = "TEXT", default_value = "You see.")]
    pub system: String,
    /// Ids of the tokenizer at most.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = whole::<usize>(270, 1_000_000))]
    pub vocabulary: usize,
    /// Width of the language model, a multiple of 48.
    #[arg(long, value_name = "N", default_value_t = 96, value_parser = multiple(48, 6144))]
    pub hidden: usize,
    /// Layers of the language model.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole::<usize>(1, 128))]
    pub layers: usize,
    /// Width of the vision tower, a multiple of 16.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = multiple(16, 4096))]
    pub vision_width: usize,
    /// Blocks of the vision tower.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = whole::<usize>(1, 128))]
    pub vision_depth: usize,
    /// Cosines each way in the vision tower's random filters: few for coloured areas, more for thin lines and digits.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = whole::<usize>(1, 14))]
    pub filter_waves: usize,
}
