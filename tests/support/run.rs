//! Whole runs for tests: rendered rows, configurations, and comparison of what two runs left behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use vision_ekipl::config::{self, Purpose, Run};
use vision_ekipl::run::metrics::{LoggedStep, TRAINER_STATE_FILE, TrainerState};
use vision_ekipl::synthetic::{Expert, Family, Split, SyntheticOptions, generate};

use super::golden_path;

/// Rows of the rendered data set.
pub const ROWS: usize = 10;

/// Keys of a run that takes a second: 2 prompts with 4 completions a step. Drawn from the two most probable tokens
/// a policy of random weights repeats itself now and then, so that the repetition penalty tells completions apart.
const KEYS: [(&str, &str); 15] = [
    ("task_name", "clevr-math"),
    ("device", "cpu"),
    ("max_pixels", "7056"),
    ("per_device_train_batch_size", "8"),
    ("num_generations", "4"),
    ("max_completion_length", "24"),
    ("max_steps", "6"),
    ("learning_rate", "3e-4"),
    ("temperature", "0.5"),
    ("top_k", "2"),
    ("reward_funcs", "[repetition_penalty, accuracy, format]"),
    ("logging_steps", "1"),
    ("save_steps", "3"),
    ("seed", "7"),
    ("loss_type", "grpo"),
];

/// A folder with a rendered data set in it, and room for runs beside it.
pub struct Workspace {
    folder: tempfile::TempDir,
    /// The rows' file.
    pub rows: PathBuf,
    /// An expert's recorded actions, right in seven of ten cases.
    pub expert: PathBuf,
}

impl Workspace {
    pub fn new() -> Self {
        super::program::hear_interrupts();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (family, data) = (Family::FLAT_COUNTING, folder.path().join("data"));
        let mut options = SyntheticOptions::new(family, Split::Train, ROWS, 3, data);
        options.experts = vec![Expert::new("expert", 0.7)];
        let summary = generate(&options, &|_| ()).expect("rendered rows");
        Self {
            folder,
            rows: summary.rows,
            expert: summary.experts[0].path.clone(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<name>.yaml` for a run into the folder `name`; `keys` replace those of every test run, an empty value
    /// takes one out.
    pub fn config(&self, name: &str, keys: &[(&str, &str)]) -> PathBuf {
        let mut all: BTreeMap<&str, String> = KEYS
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect();
        all.insert("model_name_or_path", shown(&golden_path("qwen2vl-tiny")));
        all.insert("dataset_name", shown(&self.rows));
        all.insert("output_dir", shown(&self.path(name)));
        for (key, value) in keys {
            all.insert(key, (*value).to_owned());
        }
        all.retain(|_, value| !value.is_empty());
        let lines: Vec<String> = all
            .iter()
            .map(|(key, value)| format!("{key}: {value}\n"))
            .collect();
        let path = self.path(&format!("{name}.yaml"));
        std::fs::write(&path, lines.concat()).expect("a written configuration");
        path
    }

    pub fn load(&self, purpose: Purpose, name: &str, keys: &[(&str, &str)]) -> Run {
        config::load(purpose, &self.config(name, keys), &[])
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Trains into the folder `name`.
    pub fn train(&self, name: &str, keys: &[(&str, &str)]) -> PathBuf {
        self.try_train(name, keys)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }

    pub fn try_train(&self, name: &str, keys: &[(&str, &str)]) -> anyhow::Result<PathBuf> {
        vision_ekipl::run::train::train(self.load(Purpose::Train, name, keys))
    }

    /// Fine-tunes into the folder `name`.
    pub fn fine_tune(&self, name: &str, keys: &[(&str, &str)]) -> PathBuf {
        vision_ekipl::run::sft::fine_tune(self.load(Purpose::Sft, name, keys))
            .unwrap_or_else(|error| panic!("{name}: {error:?}"))
    }
}

/// A path as configuration text.
pub fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Keys with some replaced or added.
pub fn with<'a>(
    keys: &[(&'a str, &'a str)],
    more: &[(&'a str, &'a str)],
) -> Vec<(&'a str, &'a str)> {
    let kept = keys
        .iter()
        .filter(|(key, _)| more.iter().all(|(other, _)| other != key));
    kept.chain(more).copied().collect()
}

/// The rows of a JSONL file.
pub fn json_lines(path: &Path) -> Vec<Map<String, Value>> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object"))
        .collect()
}

/// The rows of a run's metrics.jsonl.
pub fn metrics(run: &Path) -> Vec<Map<String, Value>> {
    json_lines(&run.join("metrics.jsonl"))
}

/// One metric of the steps that were logged; the summary row at the end has none of a step's.
pub fn metric(run: &Path, name: &str) -> Vec<f64> {
    metrics(run)
        .iter()
        .filter_map(|row| row.get(name)?.as_f64())
        .collect()
}

/// A logged step without what the clock said, as text: equal text is equal bits.
fn without_clock(row: &LoggedStep) -> String {
    let metrics = row.metrics.without_clock();
    let step = row.step;
    serde_json::to_string(&LoggedStep { step, metrics }).expect("numbers have a JSON form")
}

/// The rows of a run's metrics.jsonl without what the clock said.
pub fn comparable(run: &Path) -> Vec<String> {
    let rows = metrics(run).into_iter();
    rows.map(|row| {
        let row = serde_json::from_value(Value::Object(row)).expect("a logged step");
        without_clock(&row)
    })
    .collect()
}

/// Two runs logged the same, but for the clock, and wrote the same completions.
pub fn assert_same_logs(found: &Path, expected: &Path) {
    let (rows, wanted) = (comparable(found), comparable(expected));
    for (row, wanted) in rows.iter().zip(&wanted) {
        assert_eq!(row, wanted, "metrics.jsonl of {}", found.display());
    }
    assert_eq!(rows.len(), wanted.len(), "rows of metrics.jsonl");
    let completions = expected.join("completions.jsonl");
    if completions.exists() {
        let text = |run: &Path| {
            std::fs::read_to_string(run.join("completions.jsonl")).expect("completions")
        };
        assert!(text(expected).lines().count() > 0, "there are completions");
        assert_eq!(text(found), text(expected), "completions.jsonl");
    }
}

/// Two checkpoints hold the same bytes, but for the clock in the trainer's state.
pub fn assert_same_checkpoint(found: &Path, expected: &Path) {
    assert_eq!(names(found), names(expected), "files of the checkpoint");
    for name in names(expected) {
        let read = |folder: &Path| std::fs::read(folder.join(&name)).expect("a readable file");
        if name == TRAINER_STATE_FILE {
            let (state, log) = without_history(found);
            let (wanted_state, wanted_log) = without_history(expected);
            assert_eq!(state, wanted_state, "{name}");
            assert_eq!(log, wanted_log, "log_history of {name}");
        } else {
            assert!(
                read(found) == read(expected),
                "{name} of {} differs from {}",
                found.display(),
                expected.display()
            );
        }
    }
}

/// A checkpoint's state, and its log without what the clock said.
fn without_history(checkpoint: &Path) -> (TrainerState, Vec<String>) {
    let mut state = TrainerState::load(checkpoint).expect("a trainer state");
    let log = std::mem::take(&mut state.log_history);
    (state, log.iter().map(without_clock).collect())
}

/// File names of a folder, in order.
pub fn names(folder: &Path) -> Vec<String> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into()
        })
        .collect();
    names.sort();
    names
}

/// Copies a folder of folders.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a new folder");
    for name in names(from) {
        let (source, target) = (from.join(&name), to.join(&name));
        if source.is_dir() {
            copy_folder(&source, &target);
        } else {
            std::fs::copy(&source, &target).expect("a copied file");
        }
    }
}
