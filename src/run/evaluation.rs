//! Held-out rows through the same prompts, sampling and scores as training.
//!
//! Knows nothing of training. Accuracy is Reason-RFT's evaluation metric (method: section 3.7), which for spatial
//! transformation is partial credit; exact matches stand beside it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde::Serialize;

use crate::actions::generator::{Generate, SamplingParameters};
use crate::actions::reward::{Rewards, ScoreContext, eval_score};
use crate::actions::rollout;
use crate::config::{IntervalStrategy, Run};
use crate::data::prompt::PromptEncoder;
use crate::device::OpenDevice;
use crate::model::Qwen2Vl;
use crate::model::open::ModelPlace;
use crate::record::{Example, Task};
use crate::run::metrics::StepMetrics;
use crate::run::setup;
use crate::statistics::mean_pass_at_k;

/// Rows of one task in one split.
pub struct EvaluationSet {
    /// The file's stem, and the task where the file holds several.
    pub name: String,
    /// The task of its rows, if they name one.
    pub task: Option<Task>,
    /// Its rows.
    pub examples: Vec<Arc<Example>>,
}

/// Scores of one task in one split; shares lie between 0 and 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EvaluationResult {
    /// The split.
    pub name: String,
    /// The task of its rows, if they name one.
    pub task: Option<Task>,
    /// Rows.
    pub rows: usize,
    /// Completions per row.
    pub completions_per_row: usize,
    /// Mean score.
    pub accuracy: f64,
    /// Share of completions that are right in every part.
    pub exact: f64,
    /// Mean of the configured rewards' sum.
    pub reward: f64,
    /// Mean of each reward function, by name.
    pub rewards: Vec<(String, f64)>,
    /// (k, pass@k) for k = 1, 2, 4, ... up to the completions per row.
    pub pass_at: Vec<(usize, f64)>,
    /// Per row: completions that are right, from which pass@k can be worked out again.
    pub right: Vec<u32>,
    /// Per row: mean score of its completions.
    pub scores: Vec<f64>,
    /// Mean length in tokens.
    pub mean_length: f64,
    /// Share of completions without an end token.
    pub clipped_ratio: f64,
}

/// What `eval` writes: who was tested, how it drew, and the scores.
#[derive(Debug, Clone, Serialize)]
pub struct EvaluationReport {
    /// The checkpoint.
    pub model: String,
    /// Its parameters.
    pub parameters: u64,
    /// The device that computed.
    pub device: String,
    /// Sampling temperature; 0 = greedy.
    pub temperature: f64,
    /// Nucleus size; 1 = none.
    pub top_p: f64,
    /// One entry per split and task.
    pub results: Vec<EvaluationResult>,
}

/// The splits that the configuration evaluates during training, if it does so at all.
///
/// # Errors
/// If a file is absent or its rows are unusable.
pub fn open_sets(run: &Run, encoder: &PromptEncoder) -> Result<Vec<EvaluationSet>> {
    if run.evaluation.eval_strategy == IntervalStrategy::No && !run.evaluation.eval_on_start {
        return Ok(Vec::new());
    }
    all_sets(run, encoder)
}

/// The splits of `eval_dataset_name`, or the test split of `dataset_name`.
///
/// # Errors
/// If a file is absent or its rows are unusable.
pub fn all_sets(run: &Run, encoder: &PromptEncoder) -> Result<Vec<EvaluationSet>> {
    let names = &run.evaluation.eval_dataset_name;
    let split = &run.data.dataset_test_split;
    let names = if names.is_empty() {
        std::slice::from_ref(&run.data.dataset_name)
    } else {
        names.as_slice()
    };
    let files = names.iter().map(|name| setup::data_file(name, split));
    let files: Vec<_> = files.collect::<Result<_>>()?;
    let mut sets = Vec::new();
    for file in &files {
        sets.extend(open_file(run, encoder, file)?);
    }
    Ok(sets)
}

/// One data file, a set per task in order of appearance.
///
/// # Errors
/// If its rows are unusable.
pub fn open_file(run: &Run, encoder: &PromptEncoder, file: &Path) -> Result<Vec<EvaluationSet>> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    let mut sets: Vec<EvaluationSet> = Vec::new();
    let examples = setup::load_dataset(run, file, encoder, None)?.examples;
    let limit = run.evaluation.max_eval_samples.unwrap_or(usize::MAX);
    for example in examples.into_iter().take(limit) {
        let task = example.task;
        match sets.iter_mut().find(|set| set.task == task) {
            Some(set) => set.examples.push(example),
            None => sets.push(EvaluationSet {
                name: stem.unwrap_or("eval").to_owned(),
                task,
                examples: vec![example],
            }),
        }
    }
    if sets.len() > 1 {
        for set in &mut sets {
            let task = set.task.map_or("no-task", Task::name);
            set.name = format!("{}-{task}", set.name);
        }
    }
    Ok(sets)
}

/// How evaluation draws: as training, with `eval_temperature`.
#[must_use]
pub fn parameters(run: &Run, sampling: &SamplingParameters) -> SamplingParameters {
    SamplingParameters {
        temperature: run.evaluation.eval_temperature as f32,
        ..sampling.clone()
    }
}

/// A model folder opened for evaluation, by `eval` and by the demo.
pub struct Subject {
    /// Its prompts.
    pub encoder: PromptEncoder,
    /// Its parameters.
    pub parameter_count: usize,
    model: Qwen2Vl,
    rewards: Rewards,
    parameters: SamplingParameters,
}

impl Subject {
    /// Opens `model_name_or_path` of the run.
    ///
    /// # Errors
    /// If a file of the folder is absent, broken, or of another model.
    pub fn open(run: &Run, open: &OpenDevice) -> Result<Self> {
        let place = ModelPlace::of(&run.model.model_name_or_path)?;
        let (model, weights) = setup::frozen_model(&place, run.model.weight_format(), open)?;
        let context = model.config.text.max_position_embeddings;
        let encoder = setup::open_encoder(run, &place.base, context)?;
        let suppressed = setup::suppressed(run, &encoder, &model.config);
        let sampling = setup::sampling(run, &encoder, suppressed.as_deref());
        Ok(Self {
            parameter_count: weights.count(),
            model,
            rewards: setup::rewards(run)?,
            parameters: parameters(run, &sampling),
            encoder,
        })
    }

    /// What scores its completions.
    #[must_use]
    pub fn evaluator<'a>(&'a mut self, run: &'a Run) -> Evaluator<'a> {
        Evaluator {
            model: &self.model,
            run,
            encoder: &self.encoder,
            rewards: &mut self.rewards,
            parameters: self.parameters.clone(),
        }
    }
}

/// A model under test, with everything that scoring it takes.
pub struct Evaluator<'a> {
    /// Who writes.
    pub model: &'a dyn Generate,
    /// The configuration.
    pub run: &'a Run,
    /// The model's prompts.
    pub encoder: &'a PromptEncoder,
    /// The configured rewards.
    pub rewards: &'a mut Rewards,
    /// How completions are drawn.
    pub parameters: SamplingParameters,
}

impl Evaluator<'_> {
    /// Scores one split; `advance` is called with the number of rows done.
    ///
    /// # Errors
    /// If the model's output is not finite, a row cannot be encoded, or a reward cannot be had.
    pub fn evaluate(
        &mut self,
        set: &EvaluationSet,
        advance: &mut dyn FnMut(usize),
    ) -> Result<EvaluationResult> {
        let Self {
            run, parameters, ..
        } = self;
        // Greedy decoding gives the same completion every time.
        let count = if parameters.temperature == 0.0 {
            1
        } else {
            run.evaluation.num_generations_eval
        };
        let rows_at_once = (run.evaluation.per_device_eval_batch_size / count).max(1);
        let context = ScoreContext {
            step: 0,
            max_completion_length: parameters.max_new_tokens,
            characters: None,
        };
        let mut tally = Tally::new(self.rewards.names());
        for examples in set.examples.chunks(rows_at_once) {
            let prompts = setup::encode_all(self.encoder, examples)?;
            let decode = |ids: &[u32]| self.encoder.decode(ids, true);
            let groups = rollout::sample(self.model, &prompts, count, parameters, &decode)?;
            let batch = groups.into_iter().zip(examples);
            let batch = batch.map(|(actions, example)| (actions, example.as_ref()));
            let groups = self.rewards.score_batch(batch.collect(), &context)?;
            for (example, group) in examples.iter().zip(groups) {
                let mut right = 0;
                let before = tally.score;
                for scored in group {
                    let score = eval_score(example, &scored.action.text, run.data.score_compat);
                    right += u32::from(score.exact);
                    tally.add(score.score, score.exact, &scored);
                }
                tally.right.push(right);
                tally.scores.push((tally.score - before) / count as f64);
            }
            advance(examples.len());
        }
        Ok(tally.result(set, count))
    }

    /// All splits as metrics, without the `eval_` prefix; of several splits each name carries its split.
    ///
    /// # Errors
    /// As [`Evaluator::evaluate`].
    pub fn metrics(&mut self, sets: &[EvaluationSet]) -> Result<StepMetrics> {
        let mut metrics = StepMetrics::new();
        for set in sets {
            let result = self.evaluate(set, &mut |_| {})?;
            let prefix = if sets.len() == 1 {
                String::new()
            } else {
                format!("{}_", set.name)
            };
            metrics.insert(format!("{prefix}rows"), result.rows as f64);
            metrics.insert(format!("{prefix}accuracy"), result.accuracy);
            metrics.insert(format!("{prefix}exact_match"), result.exact);
            metrics.insert(format!("{prefix}reward"), result.reward);
            for (name, value) in &result.rewards {
                metrics.insert(format!("{prefix}rewards/{name}/mean"), *value);
            }
            for (k, value) in &result.pass_at {
                metrics.insert(format!("{prefix}pass@{k}"), *value);
            }
            metrics.insert(
                format!("{prefix}completions/mean_length"),
                result.mean_length,
            );
            metrics.insert(
                format!("{prefix}completions/clipped_ratio"),
                result.clipped_ratio,
            );
        }
        Ok(metrics)
    }
}

struct Tally {
    names: Vec<String>,
    right: Vec<u32>,
    scores: Vec<f64>,
    completions: f64,
    score: f64,
    exact: f64,
    reward: f64,
    rewards: Vec<f64>,
    length: f64,
    clipped: f64,
}

impl Tally {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<String> = names.map(str::to_owned).collect();
        let sums = vec![0.0; names.len()];
        Self {
            names,
            right: Vec::new(),
            scores: Vec::new(),
            completions: 0.0,
            score: 0.0,
            exact: 0.0,
            reward: 0.0,
            rewards: sums,
            length: 0.0,
            clipped: 0.0,
        }
    }

    fn add(&mut self, score: f64, exact: bool, scored: &crate::record::ScoredAction) {
        self.completions += 1.0;
        self.score += score;
        self.exact += f64::from(u8::from(exact));
        self.reward += f64::from(scored.reward.unwrap_or(0.0));
        for (sum, reward) in self.rewards.iter_mut().zip(&scored.rewards) {
            *sum += f64::from(reward.unwrap_or(0.0));
        }
        self.length += scored.action.token_ids.len() as f64;
        self.clipped += f64::from(u8::from(
            scored.action.finish == crate::record::FinishReason::Length,
        ));
    }

    fn result(self, set: &EvaluationSet, count: usize) -> EvaluationResult {
        let mean = |sum: f64| sum / self.completions.max(1.0);
        let powers = std::iter::successors(Some(1), |k| Some(k * 2)).take_while(|k| *k <= count);
        let pass_at = |k| {
            (
                k,
                mean_pass_at_k(count as u32, &self.right, k as u32).unwrap_or(0.0),
            )
        };
        EvaluationResult {
            name: set.name.clone(),
            task: set.task,
            rows: set.examples.len(),
            completions_per_row: count,
            accuracy: mean(self.score),
            exact: mean(self.exact),
            reward: mean(self.reward),
            rewards: self
                .names
                .iter()
                .cloned()
                .zip(self.rewards.iter().map(|sum| mean(*sum)))
                .collect(),
            pass_at: powers.map(pass_at).collect(),
            right: self.right.clone(),
            scores: self.scores.clone(),
            mean_length: mean(self.length),
            clipped_ratio: mean(self.clipped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Action, FinishReason, ScoredAction, Source};

    fn scored(tokens: usize, rewards: [Option<f32>; 2], finish: FinishReason) -> ScoredAction {
        ScoredAction {
            action: Action {
                source: Source::Policy,
                token_ids: vec![1; tokens],
                text: String::new(),
                sampling_logprobs: None,
                external_logprobs: None,
                external_logprob_sum: None,
                old_logprobs: None,
                finish,
            },
            reward: rewards[0],
            rewards: rewards.to_vec(),
            passes: false,
        }
    }

    /// Two rows of four completions: one row has two right ones, the other none.
    #[test]
    fn a_result_is_the_mean_over_completions_and_pass_at_k_over_rows() {
        let mut tally = Tally::new(["accuracy", "format"].into_iter());
        for (row, right) in [(0, 2), (1, 0)] {
            let before = tally.score;
            for index in 0..4 {
                let is_right = index < right;
                let (score, finish) = if is_right {
                    (1.0, FinishReason::Stop)
                } else {
                    (0.5, FinishReason::Length)
                };
                let rewards = [Some(score as f32), (index == 0).then_some(1.0)];
                tally.add(score, is_right, &scored(2 + 2 * row, rewards, finish));
            }
            tally.right.push(right);
            tally.scores.push((tally.score - before) / 4.0);
        }
        let set = EvaluationSet {
            name: "test".to_owned(),
            task: None,
            examples: Vec::new(),
        };
        let result = tally.result(&set, 4);
        assert_eq!(result.accuracy, (2.0 + 6.0 * 0.5) / 8.0);
        assert_eq!((result.exact, result.clipped_ratio), (0.25, 0.75));
        assert_eq!(result.reward, result.accuracy);
        assert_eq!(result.rewards[1], ("format".to_owned(), 0.25));
        assert_eq!((result.mean_length, result.scores), (3.0, vec![0.75, 0.5]));
        // 1 - C(2, k)/C(4, k) for two right of four, halved by the row without any.
        let expected = [(1, 0.25), (2, 5.0 / 12.0), (4, 0.5)];
        assert_eq!(result.pass_at.len(), expected.len());
        for ((k, found), (wanted, value)) in result.pass_at.iter().zip(expected) {
            assert!(
                *k == wanted && (found - value).abs() < 1e-12,
                "pass@{k} {found}"
            );
        }
    }

    #[test]
    fn a_set_without_completions_has_no_not_a_number() {
        let set = EvaluationSet {
            name: "empty".to_owned(),
            task: None,
            examples: Vec::new(),
        };
        let result = Tally::new(std::iter::once("accuracy")).result(&set, 1);
        assert_eq!((result.accuracy, result.mean_length), (0.0, 0.0));
        assert_eq!(result.pass_at, [(1, 0.0)]);
    }
}
