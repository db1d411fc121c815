//! Completions to score, one JSON object a line: `{"id", "completion"}`, a row of a run's completions.jsonl, or a recorded
//! action `{"id", "source", "text"}`. Knows nothing of data sets or rewards.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use crate::actions::teacher::Ending;
use crate::json_lines::{self, RowId};
use crate::record::FinishReason;

/// A completion as it was given.
#[derive(Debug, PartialEq)]
pub(super) struct CompletionRow {
    /// The example's.
    pub id: String,
    /// What is scored.
    pub text: String,
    /// Who wrote it, where the row says so.
    pub source: Option<String>,
    /// The training step it belongs to, from 1, where the row says so.
    pub step: Option<u64>,
    /// Its tokens, where the row has them.
    pub token_ids: Option<Vec<u32>>,
    /// Why it ended; `stop` where the row does not say.
    pub finish: FinishReason,
    /// `file:line`.
    pub origin: String,
}

#[derive(Deserialize)]
struct Line {
    id: RowId,
    completion: Option<String>,
    text: Option<String>,
    source: Option<String>,
    step: Option<u64>,
    completion_ids: Option<Vec<u32>>,
    finish_reason: Option<String>,
}

const FORM: &str = "each line is {\"id\", \"completion\"} or {\"id\", \"source\", \"text\"}; other keys are not read";

/// The first `limit` rows of a file.
///
/// # Errors
/// If it cannot be read, has no row, or a line is none.
pub(super) fn read(path: &Path, limit: usize) -> Result<Vec<CompletionRow>> {
    let shown = path.display();
    let content = json_lines::read(path)
        .with_context(|| format!("{shown}: cannot be read\nhint: check --completions"))?;
    let row = |line: json_lines::Line<'_>| parse(line.text, format!("{shown}:{}", line.number));
    let lines = json_lines::lines(&content).take(limit);
    let rows: Vec<CompletionRow> = lines.map(row).collect::<Result<_>>()?;
    if rows.is_empty() {
        bail!("{shown}: no rows\nhint: {FORM}");
    }
    Ok(rows)
}

fn parse(line: &[u8], origin: String) -> Result<CompletionRow> {
    let line: Line = json_lines::parse(line)
        .map_err(|fault| anyhow!("{fault}"))
        .with_context(|| format!("{origin}: not a completion\nhint: {FORM}"))?;
    let text = match (line.completion, line.text) {
        (Some(completion), Some(text)) if completion != text => {
            bail!(
                "{origin}: `completion` and `text` differ\nhint: keep the one that is to be scored"
            )
        }
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => bail!("{origin}: neither `completion` nor `text`\nhint: {FORM}"),
    };
    Ok(CompletionRow {
        id: line.id.0,
        text,
        source: line.source,
        step: line.step,
        token_ids: line.completion_ids,
        // What broke off has no end token either.
        finish: Ending::of(line.finish_reason.as_deref())
            .finish_reason()
            .unwrap_or(FinishReason::Length),
        origin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(content: &str, limit: usize) -> Result<Vec<CompletionRow>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, content).expect("written");
        read(&path, limit).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn rows_of_three_origins_are_read() {
        let content = r#"{"id": "a", "completion": "<answer>3</answer>"}

{"step": 3, "id": 7, "prompt": "x", "completion": "", "source": "policy", "accuracy": 1.0, "reward": null, "selected": true}
{"id": "b", "source": "expert", "text": "4", "finish_reason": "length", "completion_ids": [5, 6]}
"#;
        let rows = rows(content, 9).expect("readable");
        let brief: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row.id.as_str(),
                    row.text.as_str(),
                    row.source.as_deref(),
                    row.step,
                )
            })
            .collect();
        let expected = [
            ("a", "<answer>3</answer>", None, None),
            ("7", "", Some("policy"), Some(3)),
            ("b", "4", Some("expert"), None),
        ];
        assert_eq!(brief, expected);
        assert!(
            rows[2].origin.ends_with("rows.jsonl:4"),
            "blank lines count: {}",
            rows[2].origin
        );
        assert_eq!(
            (rows[2].finish, rows[2].token_ids.as_deref()),
            (FinishReason::Length, Some(&[5, 6][..]))
        );
    }

    #[test]
    fn a_limit_leaves_the_rest_unread() {
        let content =
            "{\"id\": \"a\", \"text\": \"1\"}\n{\"id\": \"b\", \"text\": \"2\"}\nbroken\n";
        assert_eq!(rows(content, 2).expect("readable").len(), 2);
        let text = rows(content, 3).expect_err("the third line");
        assert!(
            text.contains("rows.jsonl:3: not a completion\nhint: each line is"),
            "{text}"
        );
    }

    #[test]
    fn lines_without_a_completion_are_named() {
        for (content, words) in [
            (
                "{\"id\": \"a\"}",
                "rows.jsonl:1: neither `completion` nor `text`",
            ),
            (
                "{\"id\": \"a\", \"text\": \"1\", \"completion\": \"2\"}",
                "`completion` and `text` differ",
            ),
            ("{\"completion\": \"2\"}", "missing field `id`"),
            (
                "{\"id\": [], \"completion\": \"2\"}",
                "an `id` that is a string or a whole number",
            ),
            (
                "{\"id\": \"a\", \"completion\": [{\"role\": \"assistant\"}]}",
                "expected a string",
            ),
            ("\n \n", "rows.jsonl: no rows"),
        ] {
            let text = rows(content, 9).expect_err(content);
            assert!(text.contains(words), "{content}: {text}");
        }
        assert_eq!(
            rows("{\"id\": \"a\", \"text\": \"1\", \"completion\": \"1\"}", 9)
                .expect("equal")
                .len(),
            1
        );
    }
}
