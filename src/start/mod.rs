//! A small Qwen2-VL checkpoint from nothing: a tokenizer learnt from the rows that will be taught, and random weights.
//!
//! Knows nothing of how it will be trained.

pub mod checkpoint;
pub mod full_size;
pub mod tokenizer;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::data::dataset::{Dataset, DatasetOptions, supervised_target};
use crate::record::{ContentPart, Task};
pub use checkpoint::Sizes;
use checkpoint::write_checkpoint;
use tokenizer::write_tokenizer;

/// What to make.
#[derive(Debug, Clone)]
pub struct Start {
    /// Rows whose prompts and targets the tokenizer is learnt from.
    pub rows: Vec<PathBuf>,
    /// The task of rows that do not tell.
    pub task: Option<Task>,
    /// A template with one `{Question}`, in place of the task's.
    pub prompt_template: Option<String>,
    /// The turn that comes first where a conversation has no system turn.
    pub system_turn: String,
    /// Ids at most, special tokens included.
    pub vocabulary: usize,
    /// Sizes of the weights.
    pub sizes: Sizes,
    /// Seed of the weights.
    pub seed: u64,
}

/// The files that [`Start::write`] writes.
pub const FILES: [&str; 9] = [
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "chat_template.json",
    "preprocessor_config.json",
    "generation_config.json",
    "config.json",
    "model.safetensors",
];

impl Start {
    /// Writes the folder.
    ///
    /// # Errors
    /// If the rows cannot be used or a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let texts = self.texts()?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot be created", folder.display()))?;
        let ids = write_tokenizer(folder, self.vocabulary, &texts, &self.system_turn)?;
        write_checkpoint(folder, &ids, &self.sizes, self.seed)
    }

    /// Prompts, and targets with their reasoning where they have any.
    fn texts(&self) -> Result<Vec<String>> {
        let options = DatasetOptions {
            files: self.rows.clone(),
            task: self.task,
            prompt_template: self.prompt_template.clone(),
            ..DatasetOptions::default()
        };
        let mut texts = Vec::new();
        for example in &Dataset::load(&options, &|_| Ok(()))?.examples {
            let parts = example.messages.iter().flat_map(|message| &message.content);
            texts.extend(parts.filter_map(|part| match part {
                ContentPart::Text { text } => Some(text.clone()),
                ContentPart::Image => None,
            }));
            let answer_only = example.cot.is_none() && example.target.is_none();
            texts.push(supervised_target(example, answer_only).map_err(anyhow::Error::msg)?);
        }
        Ok(texts)
    }
}
