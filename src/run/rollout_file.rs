//! `--dump-rollouts` and `--replay-rollouts`: the tokens and rewards of a run as JSON lines.
//!
//! A row: `{"step": 1, "id": "train-7", "source": "policy", "completion_ids": [27, 3], "reward": 1.0}` with
//! `old_logprobs` where the ratio is taken against given ones. Knows nothing of prompts, selection or losses.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::json_lines;
use crate::record::{Group, Source};

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
    /// A line is no row, or not one of this run.
    #[error("{path}:{line}: {problem}\nhint: {hint}")]
    Row {
        /// The file.
        path: String,
        /// 1-based.
        line: usize,
        /// What is wrong.
        problem: String,
        /// The remedy.
        hint: &'static str,
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

/// What a run can replay.
#[derive(Debug, Clone)]
pub struct Accepted<'a> {
    /// Examples of the data set.
    pub ids: HashSet<&'a str>,
    /// V: ids of the model.
    pub vocabulary: usize,
    /// Most tokens of a completion.
    pub max_completion_length: usize,
}

const FORM: &str = "each line is {\"step\", \"id\", \"source\", \"completion_ids\", \"reward\"}, as `dump_rollouts` writes it";
const SAME_RUN: &str = "replay with the model and the data set that the rollouts were made with";
const LENGTH: &str =
    "raise `max_completion_length`, or leave the row out; a completion is never cut";

/// Reads a whole file: the rows of each step in the order of the steps.
///
/// # Errors
/// If it cannot be read, holds nothing, or a line is no row that the run accepts.
pub fn read(
    path: &Path,
    accepted: &Accepted<'_>,
) -> Result<Vec<Vec<RolloutRow>>, RolloutFileError> {
    let shown = path.display().to_string();
    let content = json_lines::read(path).map_err(|source| RolloutFileError::Io {
        path: shown.clone(),
        source,
    })?;
    let mut steps: BTreeMap<u64, Vec<RolloutRow>> = BTreeMap::new();
    for line in json_lines::lines(&content) {
        let wrong = |(problem, hint)| RolloutFileError::Row {
            path: shown.clone(),
            line: line.number,
            problem,
            hint,
        };
        let row: RolloutRow =
            json_lines::parse(line.text).map_err(|fault| wrong((fault.to_string(), FORM)))?;
        check(&row, accepted).map_err(wrong)?;
        steps.entry(row.step).or_default().push(row);
    }
    if steps.is_empty() {
        return Err(RolloutFileError::Empty { path: shown });
    }
    Ok(steps.into_values().collect())
}

/// The rows of one step as groups in the order of their first rows, each with the policy's own first.
///
/// An example may stand twice in a step, where a pass over the data ends inside it: after `num_generations` rows of the
/// policy for one id, the next one opens another group.
#[must_use]
pub fn groups(rows: Vec<RolloutRow>, num_generations: usize) -> Vec<Vec<RolloutRow>> {
    let own = |row: &RolloutRow| row.source == Source::Policy.name();
    let mut groups: Vec<Vec<RolloutRow>> = Vec::new();
    for row in rows {
        let full = |group: &[RolloutRow]| {
            own(&row) && group.iter().filter(|other| own(other)).count() >= num_generations
        };
        match groups.iter_mut().rfind(|group| group[0].id == row.id) {
            Some(group) if !full(group) => group.push(row),
            _ => groups.push(vec![row]),
        }
    }
    for group in &mut groups {
        group.sort_by_key(|row| !own(row));
    }
    groups
}

fn check(row: &RolloutRow, accepted: &Accepted<'_>) -> Result<(), (String, &'static str)> {
    let RolloutRow {
        id, completion_ids, ..
    } = row;
    let tokens = completion_ids.len();
    if tokens == 0 {
        return Err((format!("`completion_ids` of `{id}` is empty"), FORM));
    }
    if !accepted.ids.contains(id.as_str()) {
        return Err((format!("`{id}` is no example of the data set"), SAME_RUN));
    }
    let vocabulary = accepted.vocabulary;
    if let Some(token) = completion_ids
        .iter()
        .find(|token| **token as usize >= vocabulary)
    {
        let problem = format!("token {token} of `{id}` is outside the vocabulary of {vocabulary}");
        return Err((problem, SAME_RUN));
    }
    let limit = accepted.max_completion_length;
    if tokens > limit {
        let problem = format!("`{id}` has {tokens} tokens, `max_completion_length` is {limit}");
        return Err((problem, LENGTH));
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
            let problem = format!("`{key}` of `{id}` has {found} values for {tokens} tokens");
            return Err((problem, FORM));
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
        let accepted = Accepted {
            ids: ["a", "b"].into(),
            vocabulary: 9,
            max_completion_length: 3,
        };
        read(&path, &accepted)
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

    #[test]
    fn an_example_that_stands_twice_has_two_groups() {
        let row = |id: &str, source: &str, token: u32| RolloutRow {
            step: 1,
            id: id.to_owned(),
            source: source.to_owned(),
            completion_ids: vec![token],
            reward: None,
            old_logprobs: None,
            sampling_logprobs: None,
        };
        let rows = vec![
            row("a", "policy", 1),
            row("b", "expert", 2),
            row("a", "policy", 3),
            row("a", "expert", 4),
            row("b", "policy", 5),
            row("a", "policy", 6),
            row("a", "expert", 7),
        ];
        let tokens = |group: &Vec<RolloutRow>| -> Vec<u32> {
            group.iter().map(|row| row.completion_ids[0]).collect()
        };
        let found: Vec<Vec<u32>> = groups(rows, 2).iter().map(tokens).collect();
        assert_eq!(found, [vec![1, 3, 4], vec![5, 2], vec![6, 7]]);
    }

    #[test]
    fn rows_of_another_run_are_refused() {
        for (id, ids, expected) in [
            (
                "c",
                "[1]",
                ":1: `c` is no example of the data set\nhint: replay with",
            ),
            (
                "a",
                "[1, 9]",
                ":1: token 9 of `a` is outside the vocabulary of 9\nhint: replay with",
            ),
            (
                "a",
                "[1, 2, 3, 4]",
                ":1: `a` has 4 tokens, `max_completion_length` is 3\nhint: raise",
            ),
        ] {
            let row = format!(
                "{{\"step\": 1, \"id\": \"{id}\", \"source\": \"policy\", \"completion_ids\": {ids}}}\n"
            );
            let text = read_text(&row).expect_err("of another run").to_string();
            assert!(text.contains(expected), "{text}");
        }
    }
}
