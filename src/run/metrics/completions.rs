//! `completions.jsonl`: every action of every logged group, with its rewards and what became of it.
//!
//! Does not score, select or tokenise.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::MetricsError;
use super::jsonl::{self, JsonLines};
use crate::record::{Group, ScoredAction};

/// Name of the completions log in `output_dir`.
pub const COMPLETIONS_FILE: &str = "completions.jsonl";

/// The open `completions.jsonl`. A row:
///
/// `{"step": 3, "id": "train-7", "prompt": "<|im_start|>...", "completion": "<answer>3</answer>", "source": "policy",
/// "accuracy": 1.0, "format": 0.0, "reward": 1.0, "advantage": 0.7, "selected": true}`
///
/// One column per reward function stands between `source` and `reward`; `null` is a function that did not apply, or
/// the advantage of an action that was not selected.
#[derive(Debug)]
pub struct CompletionsLog {
    lines: JsonLines,
    reward_names: Vec<String>,
}

impl CompletionsLog {
    /// Opens the log of a run that starts (`None`) or continues after step `resumed`; `reward_names` in configuration
    /// order.
    ///
    /// # Errors
    /// As [`JsonLines::create`] and [`JsonLines::resume`].
    pub fn open(
        output_dir: &Path,
        resumed: Option<u64>,
        reward_names: Vec<String>,
    ) -> Result<Self, MetricsError> {
        Ok(Self {
            lines: jsonl::open(&output_dir.join(COMPLETIONS_FILE), resumed)?,
            reward_names,
        })
    }

    /// Writes one row per action of the group's pool, in pool order.
    ///
    /// # Errors
    /// The disk is full or gone.
    ///
    /// # Panics
    /// If an action does not have one reward per name: a bug in the caller.
    pub fn write(&mut self, step: u64, group: &Group) -> Result<(), MetricsError> {
        (0..group.pool.len()).try_for_each(|index| self.lines.append(&self.row(step, group, index)))
    }

    /// As [`JsonLines::sync`].
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn sync(&self) -> Result<(), MetricsError> {
        self.lines.sync()
    }

    fn row(&self, step: u64, group: &Group, index: usize) -> Map<String, Value> {
        let ScoredAction {
            action,
            rewards,
            reward,
            ..
        } = &group.pool[index];
        assert_eq!(
            rewards.len(),
            self.reward_names.len(),
            "rewards of {} for {:?}",
            group.example.id,
            self.reward_names
        );
        let place = group
            .selected
            .iter()
            .position(|&selected| selected == index);
        let mut row = Map::new();
        let mut put = |name: &str, value: Value| drop(row.insert(name.to_owned(), value));
        put("step", json!(step));
        put("id", json!(group.example.id));
        put("prompt", json!(group.prompt.rendered));
        put("completion", json!(action.text));
        put("source", json!(action.source.name()));
        for (name, reward) in self.reward_names.iter().zip(rewards) {
            put(name, json!(reward));
        }
        put("reward", json!(reward));
        put(
            "advantage",
            json!(place.map(|place| group.advantages[place])),
        );
        put("selected", json!(place.is_some()));
        row
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::{Action, Example, FinishReason, Prompt, Source};

    fn scored(source: Source, rewards: Vec<Option<f32>>, reward: Option<f32>) -> ScoredAction {
        let action = Action {
            source,
            token_ids: vec![1],
            text: "<answer>3</answer>".into(),
            sampling_logprobs: None,
            external_logprobs: None,
            external_logprob_sum: None,
            old_logprobs: None,
            finish: FinishReason::Stop,
        };
        ScoredAction {
            action,
            rewards,
            reward,
            passes: false,
        }
    }

    fn group() -> Group {
        let example = Example {
            id: "train-7".into(),
            task: None,
            messages: vec![],
            images: vec![],
            solution: "3".into(),
            cot: None,
            target: None,
            columns: Map::new(),
            origin: "rows.json:1".into(),
        };
        let prompt = Prompt {
            id: "train-7".into(),
            rendered: "How many?".into(),
            input_ids: vec![],
            positions: vec![],
            rope_delta: 0,
            images: vec![],
        };
        Group {
            example: Arc::new(example),
            prompt: Arc::new(prompt),
            pool: vec![
                scored(Source::Policy, vec![Some(0.0), None], Some(0.0)),
                scored(
                    Source::External("expert".into()),
                    vec![Some(1.0), Some(0.5)],
                    Some(1.5),
                ),
            ],
            selected: vec![1],
            advantages: vec![0.5],
        }
    }

    fn log(directory: &Path, resumed: Option<u64>) -> CompletionsLog {
        CompletionsLog::open(directory, resumed, vec!["accuracy".into(), "format".into()]).unwrap()
    }

    #[test]
    fn rows_hold_every_action_with_its_fate() {
        let directory = tempfile::tempdir().unwrap();
        log(directory.path(), None).write(3, &group()).unwrap();
        let text = std::fs::read_to_string(directory.path().join(COMPLETIONS_FILE)).unwrap();
        let expected = [
            r#"{"step":3,"id":"train-7","prompt":"How many?","completion":"<answer>3</answer>","source":"policy","accuracy":0.0,"format":null,"reward":0.0,"advantage":null,"selected":false}"#,
            r#"{"step":3,"id":"train-7","prompt":"How many?","completion":"<answer>3</answer>","source":"expert","accuracy":1.0,"format":0.5,"reward":1.5,"advantage":0.5,"selected":true}"#,
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_resumed_log_drops_the_steps_that_will_be_repeated() {
        let directory = tempfile::tempdir().unwrap();
        let mut first = log(directory.path(), None);
        for step in 1..=3 {
            first.write(step, &group()).unwrap();
        }
        drop(first);
        log(directory.path(), Some(2)).write(3, &group()).unwrap();
        let text = std::fs::read_to_string(directory.path().join(COMPLETIONS_FILE)).unwrap();
        let steps: Vec<&str> = text.lines().map(|line| &line[..9]).collect();
        assert_eq!(
            steps,
            [
                "{\"step\":1",
                "{\"step\":1",
                "{\"step\":2",
                "{\"step\":2",
                "{\"step\":3",
                "{\"step\":3"
            ]
        );
    }
}
