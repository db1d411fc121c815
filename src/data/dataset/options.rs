//! What is said of a data set besides its rows. It reads no file.

use std::path::PathBuf;

use super::template::PromptStyle;
use crate::record::Task;

/// Where the rows come from and how they become prompts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DatasetOptions {
    /// Data files, JSON lists or JSONL, read in this order.
    pub files: Vec<PathBuf>,
    /// Where relative picture paths begin; `None` = beside the data file.
    pub image_dir: Option<PathBuf>,
    /// The task of rows that have no `task_name`; it selects the prompt template.
    pub task: Option<Task>,
    /// A template with one `{Question}`, in place of the task's.
    pub prompt_template: Option<String>,
    /// Which of the task's templates.
    pub prompt_style: PromptStyle,
    /// What the rows are read for.
    pub purpose: Purpose,
    /// Largest accepted share of rejected rows, 0 to 1.
    pub max_rejected_fraction: f64,
}

/// What rows are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Purpose {
    /// To be answered and judged: each needs a gold answer, and its question stands in the task's template.
    #[default]
    Answered,
    /// To be continued or scored as they are: no gold answer, no template.
    Conversation,
}
