//! `--dump-rollouts` and `--replay-rollouts`: the tokens and rewards of a run as JSON lines.
//!
//! A row: `{"step": 1, "id": "train-7", "source": "policy", "completion_ids": [27, 3], "reward": 1.0}` with
//! `old_logprobs` where the ratio is taken against given ones. Knows nothing of prompts, selection or losses.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::record::Group;

/// One action of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutRow {
    /// The step it trained in.
    pub step: u64,
    /// Example id.
    pub id: String,
    /// `policy` or the external model's name.
    pub source: String,
    /// Tokens up to and including the end token.
    pub completion_ids: Vec<u32>,
    /// Its reward; scored anew where it is absent.
    #[serde(default)]
    pub reward: Option<f32>,
    /// Log-probabilities that the importance ratio is taken against; absent = those of the policy as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_logprobs: Option<Vec<f32>>,
    /// Log-probabilities from decoding, for the agreement check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling_logprobs: Option<Vec<f32>>,
}

/// Why a rollout file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RolloutFileError {
    /// It cannot be read.
    #[error("{path}: {source}\nhint: check `replay_rollouts`")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is no row.
    #[error(
        "{path}:{line}: {problem}\nhint: each line is {{\"step\", \"id\", \"source\", \"completion_ids\", \"reward\"}}, as `dump_rollouts` writes it"
    )]
    Row {
        /// The file.
        path: String,
        /// 1-based.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// Nothing in it.
    #[error("{path}: no rows\nhint: check `replay_rollouts`")]
    Empty {
        /// The file.
        path: String,
    },
}

/// The rows of a group's pool; `old_logprobs` by pool index, where there are some.
#[must_use]
pub fn rows_of(group: &Group, step: u64) -> Vec<RolloutRow> {
    let row = |scored: &crate::record::ScoredAction| RolloutRow {
        step,
        id: group.example.id.clone(),
        source: scored.action.source.name().to_owned(),
        completion_ids: scored.action.token_ids.clone(),
        reward: scored.reward,
        old_logprobs: scored.action.old_logprobs.clone(),
        sampling_logprobs: scored.action.sampling_logprobs.clone(),
    };
    group.pool.iter().map(row).collect()
}

/// Reads a whole file: the rows of each step in the order of the steps.
///
/// # Errors
/// If it cannot be read, holds nothing, or a line is no row.
pub fn read(path: &Path) -> Result<Vec<Vec<RolloutRow>>, RolloutFileError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| RolloutFileError::Io {
        path: shown.clone(),
        source,
    })?;
    let mut steps: BTreeMap<u64, Vec<RolloutRow>> = BTreeMap::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let wrong = |problem: String| RolloutFileError::Row {
            path: shown.clone(),
            line: index + 1,
            problem,
        };
        let row: RolloutRow =
            serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        check(&row).map_err(wrong)?;
        steps.entry(row.step).or_default().push(row);
    }
    if steps.is_empty() {
        return Err(RolloutFileError::Empty { path: shown });
    }
    Ok(steps.into_values().collect())
}

fn check(row: &RolloutRow) -> Result<(), String> {
    let tokens = row.completion_ids.len();
    if tokens == 0 {
        return Err(format!("`completion_ids` of `{}` is empty", row.id));
    }
    for (key, values) in [
        ("old_logprobs", &row.old_logprobs),
        ("sampling_logprobs", &row.sampling_logprobs),
    ] {
        if let Some(found) = values
            .as_ref()
            .map(Vec::len)
            .filter(|found| *found != tokens)
        {
            return Err(format!(
                "`{key}` of `{}` has {found} values for {tokens} tokens",
                row.id
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Vec<RolloutRow>>, RolloutFileError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rollouts.jsonl");
        std::fs::write(&path, text).expect("a file");
        read(&path)
    }

    #[test]
    fn rows_are_gathered_by_step() {
        let steps = read_text(concat!(
            "{\"step\": 2, \"id\": \"b\", \"source\": \"policy\", \"completion_ids\": [1], \"reward\": 1}\n",
            "{\"step\": 1, \"id\": \"a\", \"source\": \"expert\", \"completion_ids\": [1, 2], \"reward\": 0.5, \"old_logprobs\": [-1, -2]}\n",
        ))
        .expect("two rows");
        assert_eq!(steps.len(), 2, "two steps");
        assert_eq!(
            steps[0][0].old_logprobs.as_deref(),
            Some(&[-1.0, -2.0][..]),
            "the earlier step comes first"
        );
    }

    #[test]
    fn wrong_rows_are_named() {
        let error = read_text(
            "{\"step\": 1, \"id\": \"a\", \"source\": \"policy\", \"completion_ids\": [1], \"old_logprobs\": [1, 2]}\n",
        );
        assert!(
            error
                .expect_err("lengths")
                .to_string()
                .contains(":1: `old_logprobs` of `a` has 2 values for 1 tokens"),
            "named"
        );
        assert!(
            read_text("{\"id\": 3}\n")
                .expect_err("no step")
                .to_string()
                .contains("hint: each line is"),
            "named"
        );
        assert!(
            read_text("\n")
                .expect_err("empty")
                .to_string()
                .contains("no rows"),
            "named"
        );
    }
}
