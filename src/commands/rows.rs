//! Rows of `generate` and `score`: conversations in every form that training reads, and the completion to score.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use crate::data::dataset::read_conversations;
use crate::data::prompt::PromptEncoder;
use crate::record::{Example, ImageSource, Prompt};

/// A row as it is used.
#[derive(Debug)]
pub(super) struct Row {
    /// The conversation; [`Example::target`] is the text to score.
    pub example: Example,
    /// Tokens to score.
    pub completion_ids: Option<Vec<u32>>,
}

/// The result of one row.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// The row's.
    pub id: String,
    /// Image tokens expanded.
    pub prompt_ids: Vec<u32>,
    /// End token included.
    pub completion_ids: Vec<u32>,
    /// Special tokens left out.
    pub text: String,
    /// One per completion token.
    pub logprobs: Vec<f32>,
    /// One per completion token; `score` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropies: Option<Vec<f32>>,
    /// `stop` or `length`; `generate` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<crate::record::FinishReason>,
}

impl Row {
    /// The places of its pictures.
    pub fn pictures(&self) -> impl Iterator<Item = &Path> {
        let images = self.example.images.iter();
        images.filter_map(|image| match image {
            ImageSource::Path(path) => Some(path.as_path()),
            _ => None,
        })
    }

    /// Its prompt.
    pub fn prompt(&self, encoder: &PromptEncoder) -> Result<Arc<Prompt>> {
        let prompt = encoder.encode(&self.example);
        prompt
            .map(Arc::new)
            .with_context(|| self.example.origin.clone())
    }
}

/// Reads all rows; those that cannot be used are named.
pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let row = |example: Example| {
        let completion_ids = match example.columns.get("completion_ids") {
            None | Some(Value::Null) => None,
            Some(ids) => Some(serde_json::from_value(ids.clone()).map_err(|error| {
                anyhow!(
                    "{}: `completion_ids` must be a list of token ids: {error}\nhint: give whole numbers from 0",
                    example.origin
                )
            })?),
        };
        Ok(Row {
            example,
            completion_ids,
        })
    };
    let examples = read_conversations(path).context("--input cannot be used")?;
    let rows: Vec<Row> = examples.into_iter().map(row).collect::<Result<_>>()?;
    if rows.is_empty() {
        bail!("{}: no rows\nhint: check --input", path.display());
    }
    Ok(rows)
}

/// Makes sure that every row can be used before the first one is, so that a late one costs no work.
pub(super) fn check(rows: &[Row], usable: &(dyn Fn(&Row) -> Result<()> + Sync)) -> Result<()> {
    let results: Vec<Result<()>> = rows.par_iter().map(usable).collect();
    results.into_iter().collect()
}
