//! From what the commands of a run left behind to its one result.
//!
//! Trains nothing and computes nothing but sums: every number is read from `metrics.jsonl` or from what `eval` wrote.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::plan::{PlannedRun, Task, command_line};
use super::runner::Done;
use super::settings::{Base, StageCommand, TestSettings};
use crate::config::{self, Purpose, Run};
use crate::study::error::{StudyError, io_error};
use crate::study::results::result::{
    Evaluation, FORMAT_VERSION, FinalEvaluation, ModelDescription, PassAtK, RunResult, Step,
};

/// What ran the study.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Commit of the program.
    pub commit: String,
    /// Cores, memory, system, in words.
    pub machine: String,
}

/// What `eval` writes, as far as results need it.
#[derive(Debug, Deserialize)]
struct Report {
    parameters: u64,
    device: String,
    temperature: f64,
    top_p: f64,
    results: Vec<Scores>,
}

#[derive(Debug, Deserialize)]
struct Scores {
    rows: u64,
    completions_per_row: u32,
    accuracy: f64,
    exact: f64,
    pass_at: Vec<(u32, f64)>,
    right: Vec<u32>,
    scores: Vec<f64>,
}

/// Training as its log tells it.
#[derive(Debug, Default)]
struct History {
    steps: Vec<Step>,
    evaluations: Vec<Evaluation>,
    timing_s: BTreeMap<String, f64>,
}

/// The result of a run whose tasks are all done.
///
/// # Errors
/// A file of the run cannot be read or lacks what it must have.
pub fn result(
    (base, origin): (&Base, &Origin),
    run: &PlannedRun,
    (tasks, done): (&[Task], &[&Done]),
) -> Result<RunResult, StudyError> {
    let tests = &base.families[&run.family].tests;
    let greedy = report(&run.evaluations.0, tests.len())?;
    let pass = run.evaluations.1.as_deref();
    let pass = pass.map(|path| report(path, tests.len())).transpose()?;
    let history = match (&run.trained, run.stages.last()) {
        (Some((folder, command)), Some(task)) => {
            let settings = settings(*command, &tasks[*task].words)?;
            history(&folder.join("metrics.jsonl"), &settings, (*command, tests))?
        }
        _ => History::default(),
    };
    let own = run.tasks.iter().zip(done);
    let own = own.filter(|(task, _)| !is_preparation(&tasks[**task]));
    let own: Vec<&Done> = own.map(|(_, done)| *done).collect();
    Ok(RunResult {
        format_version: FORMAT_VERSION,
        method: run.method.clone(),
        family: run.family,
        seed: run.seed,
        commit: origin.commit.clone(),
        machine: origin.machine.clone(),
        device: greedy.device.clone(),
        model: ModelDescription {
            parameters: greedy.parameters,
            description: base.model.clone(),
        },
        start: run.start.clone(),
        commands: done.iter().map(|done| command_line(&done.words)).collect(),
        config_digest: run.digest.clone(),
        started: own
            .first()
            .map_or_else(String::new, |done| done.started.clone()),
        wall_seconds: own.iter().map(|done| done.seconds).sum(),
        steps: history.steps,
        evaluations: history.evaluations,
        final_evaluations: last_evaluations(tests, &greedy, pass.as_ref()),
        timing_s: history.timing_s,
    })
}

fn is_preparation(task: &Task) -> bool {
    let name = task.marker.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("prepare-"))
}

fn fault(path: &Path, message: String) -> StudyError {
    StudyError::Format {
        path: path.to_path_buf(),
        key: ".".to_owned(),
        message,
    }
}

fn report(path: &Path, tests: usize) -> Result<Report, StudyError> {
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    let report: Report =
        serde_json::from_str(&text).map_err(|error| fault(path, error.to_string()))?;
    if report.results.len() == tests {
        return Ok(report);
    }
    let found = report.results.len();
    Err(fault(
        path,
        format!(
            "expected one entry for each of {tests} splits, found {found}; a split holds one task"
        ),
    ))
}

fn last_evaluations(
    tests: &[TestSettings],
    greedy: &Report,
    pass: Option<&Report>,
) -> Vec<FinalEvaluation> {
    let evaluation = |(index, test): (usize, &TestSettings)| {
        let scores = &greedy.results[index];
        FinalEvaluation {
            split: test.split.clone(),
            domain: test.domain,
            rows: scores.rows,
            temperature: greedy.temperature,
            accuracy: scores.accuracy,
            exact_match: scores.exact,
            scores: scores.scores.clone(),
            pass_at_k: pass.map(|pass| pass_at_k(pass, &pass.results[index])),
        }
    };
    tests.iter().enumerate().map(evaluation).collect()
}

fn pass_at_k(report: &Report, scores: &Scores) -> PassAtK {
    PassAtK {
        temperature: report.temperature,
        top_p: report.top_p,
        samples_per_row: scores.completions_per_row,
        correct_counts: scores.right.clone(),
        values: scores.pass_at.iter().copied().collect(),
    }
}

/// The configuration of a stage, read as the command reads it.
fn settings(command: StageCommand, words: &[String]) -> Result<Run, StudyError> {
    let path = Path::new(&words[1]);
    let flags = words[2..].chunks(2).filter_map(|pair| {
        let key = pair.first()?.strip_prefix("--")?;
        Some((key.to_owned(), pair.get(1)?.clone()))
    });
    let flags: Vec<(String, String)> = flags.collect();
    let purpose = match command {
        StageCommand::Sft => Purpose::Sft,
        StageCommand::Train => Purpose::Train,
    };
    config::load(purpose, path, &flags).map_err(|error| StudyError::Settings {
        path: path.to_path_buf(),
        message: error.to_string(),
    })
}

fn history(
    path: &Path,
    run: &Run,
    (command, tests): (StageCommand, &[TestSettings]),
) -> Result<History, StudyError> {
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    let mut history = History::default();
    let (mut step, mut samples, mut wall_seconds) = (0, 0.0, 0.0);
    for line in text.lines() {
        let row: Map<String, Value> =
            serde_json::from_str(line).map_err(|error| fault(path, error.to_string()))?;
        let number = |key: &str| row.get(key).and_then(Value::as_f64);
        let at = row.get("step").and_then(Value::as_u64).unwrap_or(step);
        if row.keys().any(|key| key.starts_with("eval_")) {
            let moment = (at, samples as u64, wall_seconds);
            history
                .evaluations
                .extend(held_out(&row, run, tests, moment));
        }
        let Some(step_time) = number("step_time") else {
            continue;
        };
        // A row is the mean over the steps since the last one.
        let Some(passed) = at.checked_sub(step) else {
            return Err(fault(
                path,
                format!("expected steps in order, found {at} after {step}"),
            ));
        };
        let steps = passed as f64;
        step = at;
        wall_seconds += steps * step_time;
        samples += steps * samples_per_step(run, command, number("external/gate_open_frac"));
        for (key, value) in &row {
            if let (true, Some(seconds)) = (key.starts_with("timing_s/"), value.as_f64()) {
                *history.timing_s.entry(key.clone()).or_default() += steps * seconds;
            }
        }
        history.steps.push(Step {
            step,
            samples: samples.round() as u64,
            wall_seconds,
            reward: number("reward"),
            accuracy: number("rewards/accuracy/mean"),
            external_share: external_share(&row, run),
        });
    }
    Ok(history)
}

/// Completions that a step scores, own and external; rows that a supervised step reads.
fn samples_per_step(run: &Run, command: StageCommand, gate: Option<f64>) -> f64 {
    let micro = run.batch.per_device_train_batch_size;
    if command == StageCommand::Sft {
        return (micro * run.batch.gradient_accumulation_steps) as f64;
    }
    let external: usize = run
        .group
        .external
        .iter()
        .map(|entry| entry.num_actions)
        .sum();
    let prompts = run.prompts_per_generation() as f64;
    let pool = run.group.num_generations as f64 + external as f64 * gate.unwrap_or(1.0);
    let micro_batches = run.batch.steps_per_generation as f64;
    let steps = micro_batches / run.batch.gradient_accumulation_steps as f64;
    prompts * pool / (steps.max(1.0) * run.loss.num_iterations as f64)
}

fn external_share(row: &Map<String, Value>, run: &Run) -> BTreeMap<String, f64> {
    let share = |name: &str| {
        let value = row.get(&format!("external/{name}/fraction"))?.as_f64()?;
        Some((name.to_owned(), value))
    };
    let entries = run.group.external.iter();
    entries.filter_map(|entry| share(&entry.name)).collect()
}

/// Accuracy on every split at one moment; with one split the metrics do not carry its name.
fn held_out(
    row: &Map<String, Value>,
    run: &Run,
    tests: &[TestSettings],
    (step, samples, wall_seconds): (u64, u64, f64),
) -> Vec<Evaluation> {
    let files = &run.evaluation.eval_dataset_name;
    let evaluation = |(test, file): (&TestSettings, &std::path::PathBuf)| {
        let stem = file.file_stem()?.to_str()?;
        let value = |name: &str| {
            let named = row.get(&format!("eval_{stem}_{name}"));
            named.or_else(|| row.get(&format!("eval_{name}")))?.as_f64()
        };
        Some(Evaluation {
            step,
            samples,
            wall_seconds,
            split: test.split.clone(),
            domain: test.domain,
            rows: value("rows")? as u64,
            accuracy: value("accuracy")?,
        })
    };
    tests.iter().zip(files).filter_map(evaluation).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::result::Domain;

    fn run(folder: &Path, keys: &str) -> Run {
        let path = folder.join("run.yaml");
        let text = format!(
            "model_name_or_path: m\ndataset_name: rows.json\noutput_dir: out\n\
             eval_dataset_name: [a/test.json, a/test-ood.json]\n{keys}"
        );
        std::fs::write(&path, text).expect("written");
        config::load(Purpose::Train, &path, &[]).expect("a configuration")
    }

    fn tests() -> Vec<TestSettings> {
        [("test", Domain::In), ("test-ood", Domain::Out)]
            .map(|(split, domain)| TestSettings {
                split: split.to_owned(),
                domain,
                rows: format!("a/{split}.json"),
            })
            .into()
    }

    const EXPERTS: &str = "external:\n- {name: x, path: x.jsonl}\n- {name: y, path: y.jsonl}\n";

    #[test]
    fn a_step_scores_its_share_of_the_pool() {
        let folder = tempfile::tempdir().expect("a folder");
        // 4 prompts x 8 completions in one update, and in two.
        let batch = "per_device_train_batch_size: 8\nnum_generations: 8\n";
        let cases = [
            ("gradient_accumulation_steps: 4\n", 32.0),
            (
                "gradient_accumulation_steps: 2\nsteps_per_generation: 4\n",
                16.0,
            ),
            ("gradient_accumulation_steps: 4\nnum_iterations: 2\n", 16.0),
        ];
        for (keys, expected) in cases {
            let run = run(folder.path(), &format!("{batch}{keys}"));
            assert_eq!(
                samples_per_step(&run, StageCommand::Train, None),
                expected,
                "{keys}"
            );
        }
        let own = format!("{batch}gradient_accumulation_steps: 4\n{EXPERTS}");
        let run = run(folder.path(), &own);
        assert_eq!(
            samples_per_step(&run, StageCommand::Train, None),
            40.0,
            "two experts"
        );
        assert_eq!(
            samples_per_step(&run, StageCommand::Train, Some(0.5)),
            36.0,
            "asked half the time"
        );
        assert_eq!(
            samples_per_step(&run, StageCommand::Sft, None),
            32.0,
            "rows"
        );
    }

    #[test]
    fn a_log_becomes_steps_with_what_was_spent_so_far() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys =
            "per_device_train_batch_size: 8\nnum_generations: 8\ngradient_accumulation_steps: 4\n";
        let run = run(folder.path(), &format!("{keys}{EXPERTS}"));
        let path = folder.path().join("metrics.jsonl");
        let log = [
            r#"{"step": 2, "step_time": 1.5, "reward": 0.5, "rewards/accuracy/mean": 0.25, "external/x/fraction": 0.1, "timing_s/gen": 1.0}"#,
            r#"{"step": 2, "eval_test_accuracy": 0.4, "eval_test_rows": 10, "eval_test-ood_accuracy": 0.2, "eval_test-ood_rows": 5}"#,
            r#"{"step": 3, "step_time": 3.0, "reward": 0.75, "timing_s/gen": 2.0}"#,
        ];
        std::fs::write(&path, log.join("\n")).expect("written");
        let tests = tests();
        let found = history(&path, &run, (StageCommand::Train, &tests)).expect("a log");
        let spent: Vec<_> = found
            .steps
            .iter()
            .map(|one| (one.step, one.samples, one.wall_seconds))
            .collect();
        assert_eq!(
            spent,
            [(2, 80, 3.0), (3, 120, 6.0)],
            "the first row stands for two steps"
        );
        assert_eq!(
            found.steps[0].external_share,
            BTreeMap::from([("x".to_owned(), 0.1)])
        );
        assert_eq!(
            found.timing_s,
            BTreeMap::from([("timing_s/gen".to_owned(), 4.0)])
        );
        let held_out: Vec<_> = found
            .evaluations
            .iter()
            .map(|one| (one.split.as_str(), one.rows, one.accuracy, one.samples))
            .collect();
        assert_eq!(held_out, [("test", 10, 0.4, 80), ("test-ood", 5, 0.2, 80)]);
        std::fs::write(&path, format!("{}\n{}", log[2], log[0])).expect("written");
        let error = history(&path, &run, (StageCommand::Train, &tests)).expect_err("backwards");
        assert!(error.to_string().contains("found 2 after 3"), "{error}");
    }
}
