//! Rows of `generate` and `score`: `{"id", "messages", "images": [paths beside the file], "completion" | "completion_ids"}`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::data::prompt::PromptEncoder;
use crate::json_lines;
use crate::record::{ContentPart, ImageSource, Message, Prompt};
use crate::run::metrics::JsonLines;

/// A row as it is written.
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    /// Its name in the result.
    id: Value,
    messages: Vec<RawMessage>,
    #[serde(default)]
    images: Vec<String>,
    /// Text to score.
    pub completion: Option<String>,
    /// Tokens to score.
    pub completion_ids: Option<Vec<u32>>,
    /// `file:line`.
    #[serde(skip)]
    pub origin: String,
}

#[derive(Debug, Deserialize)]
struct RawMessage {
    role: String,
    content: RawContent,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum RawContent {
    Text(String),
    Parts(Vec<RawPart>),
}

/// A part may carry its own copy of the picture's name; the list of the row counts.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum RawPart {
    Image {},
    Text { text: String },
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
    /// Its id as text.
    pub fn id(&self) -> String {
        self.id
            .as_str()
            .map_or_else(|| self.id.to_string(), str::to_owned)
    }

    /// Its prompt, with pictures beside `folder`.
    pub fn prompt(&self, encoder: &PromptEncoder, folder: &Path) -> Result<Arc<Prompt>> {
        let (messages, images) = self.conversation(folder);
        let prompt = encoder.encode_conversation(&self.id(), &messages, &images);
        prompt.map(Arc::new).with_context(|| self.origin.clone())
    }

    fn conversation(&self, folder: &Path) -> (Vec<Message>, Vec<ImageSource>) {
        let part = |part: &RawPart| match part {
            RawPart::Image {} => ContentPart::Image,
            RawPart::Text { text } => ContentPart::Text { text: text.clone() },
        };
        let message = |message: &RawMessage| Message {
            role: message.role.clone(),
            content: match &message.content {
                RawContent::Text(text) => vec![ContentPart::Text { text: text.clone() }],
                RawContent::Parts(parts) => parts.iter().map(part).collect(),
            },
        };
        let images = self
            .images
            .iter()
            .map(|image| ImageSource::Path(folder.join(image)))
            .collect();
        (self.messages.iter().map(message).collect(), images)
    }
}

/// Reads all rows; a broken line is named.
pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let content = json_lines::read(path)
        .with_context(|| format!("{}: cannot be read\nhint: check --input", path.display()))?;
    let mut rows = Vec::new();
    for line in json_lines::lines(&content) {
        let origin = format!("{}:{}", path.display(), line.number);
        let row: Row = json_lines::parse(line.text)
            .map_err(|fault| anyhow!("{fault}"))
            .with_context(|| {
                format!(
                    "{origin}: not a row\nhint: expected {{\"id\", \"messages\", \"images\", ...}}"
                )
            })?;
        rows.push(Row { origin, ..row });
    }
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

/// An empty file for the results, which is not the one that the rows came from.
pub(super) fn create(output: &Path, input: &Path) -> Result<JsonLines> {
    if let (Ok(output), Ok(input)) = (output.canonicalize(), input.canonicalize())
        && output == input
    {
        bail!(
            "{}: --output is the file of --input, which would be lost\nhint: name another file",
            output.display()
        );
    }
    Ok(JsonLines::create(output)?)
}
