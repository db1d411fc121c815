//! What a study compares, as its YAML files say it: one file per method over a base file with the families.
//!
//! Reads and checks; starts nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::config;
use crate::json_lines::read_text;

use crate::study::error::StudyError;
use crate::study::results::result::{Domain, Family, Method, Role};

/// Seeds that a study may take; each is a run of every method on every family.
pub const SEEDS: std::ops::RangeInclusive<u64> = 1..=1000;

/// A method of the study: what is done to the family's model, one stage after the other.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct MethodFile {
    title: String,
    role: Role,
    order: u32,
    #[serde(default)]
    counterpart: Option<String>,
    #[serde(default = "yes")]
    pass_at_k: bool,
    stages: Vec<Stage>,
}

const fn yes() -> bool {
    true
}

/// A method with its stages.
#[derive(Debug, Clone)]
pub struct MethodSettings {
    /// Name, title, role, place; the key is the stem of the file.
    pub method: Method,
    /// Whether pass@k is measured.
    pub pass_at_k: bool,
    /// What is done to the family's model, in order; nothing for a model that is tested as it is.
    pub stages: Vec<Stage>,
}

/// One `sft` or `train`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Which command.
    pub command: StageCommand,
    /// Configuration keys over those of the family and of the base; `external: experts` stands for the family's
    /// external models, `external: first-expert` for the first of them.
    #[serde(default)]
    pub keys: Map<String, Value>,
}

/// The command of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageCommand {
    /// Supervised.
    Sft,
    /// Reinforcement.
    Train,
}

impl StageCommand {
    /// The word on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::Train => "train",
        }
    }
}

/// The base of a study: machine, model, families, how they are tested.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// The model in words.
    pub model: String,
    /// Key of the method that the others are compared with.
    pub baseline: String,
    /// Configuration of supervised stages, beside this file.
    pub sft: PathBuf,
    /// Configuration of reinforcement, beside this file; also that of the evaluations.
    pub train: PathBuf,
    /// Memory that one process takes, in GiB.
    pub process_gib: f64,
    /// How pass@k is measured.
    pub pass_at_k: PassSettings,
    /// Configuration keys that a method needs at this scale, over its own: one entry per stage.
    #[serde(default)]
    pub methods: BTreeMap<String, Vec<Map<String, Value>>>,
    /// The families, with what is specific to them.
    pub families: BTreeMap<Family, FamilySettings>,
    /// Named parts of the study.
    #[serde(default)]
    pub presets: BTreeMap<String, PartSettings>,
    /// The file.
    #[serde(skip)]
    pub path: PathBuf,
}

/// pass@k: many samples per row.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassSettings {
    /// Rows of each split at most.
    pub rows: usize,
    /// Completions per row.
    pub samples: usize,
    /// Sampling temperature.
    pub temperature: f64,
    /// Nucleus size; 1 = none.
    pub top_p: f64,
}

/// One family. In its texts `{shared}` stands for the folder of the family, `{folder}` for that of family and seed, `{seed}`
/// for the seed, `{here}` for the folder of the base file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FamilySettings {
    /// Commands that make the model that all seeds start from, without the program's name; none where it is there.
    #[serde(default)]
    pub shared: Vec<String>,
    /// Commands that make the data of a seed; none where they are there.
    #[serde(default)]
    pub prepare: Vec<String>,
    /// Checkpoint folder that every method starts from.
    pub model_name_or_path: String,
    /// Training rows.
    pub dataset_name: String,
    /// External models, as in the configuration key `external`.
    #[serde(default)]
    pub external: Vec<Map<String, Value>>,
    /// Held-out rows.
    pub tests: Vec<TestSettings>,
    /// Configuration keys of every stage and evaluation.
    #[serde(default)]
    pub keys: Map<String, Value>,
}

/// One file of held-out rows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSettings {
    /// Its name in the results.
    pub split: String,
    /// Whether it looks like the training rows.
    pub domain: Domain,
    /// The file.
    pub rows: String,
}

/// A part of the study; what is not said is everything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartSettings {
    /// Keys of the methods.
    #[serde(default)]
    pub methods: Option<Vec<String>>,
    /// Families.
    #[serde(default)]
    pub families: Option<Vec<Family>>,
    /// Number of seeds.
    #[serde(default)]
    pub seeds: Option<u64>,
}

/// Reads a method file; its stem is the method's key.
///
/// # Errors
/// The file cannot be read, lacks a key or has an unknown one.
pub fn read_method(path: &Path) -> Result<MethodSettings, StudyError> {
    let file: MethodFile = read(path)?;
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    Ok(MethodSettings {
        method: Method {
            key: stem.unwrap_or_default().to_owned(),
            title: file.title,
            role: file.role,
            order: file.order,
            counterpart: file.counterpart,
        },
        pass_at_k: file.pass_at_k,
        stages: file.stages,
    })
}

/// Reads the base file; configurations that it names are found beside it.
///
/// # Errors
/// As [`read_method`], or a preset or a count that cannot be.
pub fn read_base(path: &Path) -> Result<Base, StudyError> {
    let mut base: Base = read(path)?;
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    let fault = |message: String| StudyError::Settings {
        path: path.to_path_buf(),
        message,
    };
    for file in [&mut base.sft, &mut base.train] {
        let expanded = config::expand_path(&file.to_string_lossy()).map_err(fault)?;
        *file = folder.join(expanded);
    }
    base.path = path.to_path_buf();
    if base.process_gib.is_nan() || base.process_gib <= 0.0 {
        return Err(fault(format!(
            "`process_gib`: expected more than 0, found {}",
            base.process_gib
        )));
    }
    let pass = &base.pass_at_k;
    let is_drawn = pass.temperature > 0.0;
    if pass.rows == 0 || pass.samples == 0 || !is_drawn {
        return Err(fault(
            "`pass_at_k`: expected rows, samples and a temperature above 0".to_owned(),
        ));
    }
    let mut parts = base.presets.iter();
    if let Some((name, part)) =
        parts.find(|(_, part)| part.seeds.is_some_and(|seeds| !SEEDS.contains(&seeds)))
    {
        return Err(fault(format!(
            "`presets.{name}.seeds`: expected {} to {}, found {}",
            SEEDS.start(),
            SEEDS.end(),
            part.seeds.unwrap_or(0)
        )));
    }
    if let Some((family, _)) = base
        .families
        .iter()
        .find(|(_, found)| found.tests.is_empty())
    {
        let family = family.name();
        return Err(fault(format!(
            "`families.{family}.tests`: expected at least one, found none"
        )));
    }
    let lines = |found: &FamilySettings| [found.shared.clone(), found.prepare.clone()].concat();
    let mut all = base.families.values().flat_map(lines);
    if all.any(|line| line.trim().is_empty()) {
        return Err(fault(
            "`shared`, `prepare`: expected commands, found an empty line".to_owned(),
        ));
    }
    Ok(base)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, StudyError> {
    let fault = |message: String| StudyError::Settings {
        path: path.to_path_buf(),
        message,
    };
    let text = read_text(path).map_err(|error| fault(format!("cannot be read: {error}")))?;
    let value = config::parse_yaml(&text).map_err(fault)?;
    serde_path_to_error::deserialize(value).map_err(|error| fault(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "
model: m
baseline: a
sft: sft.yaml
train: train.yaml
process_gib: 1
pass_at_k: {rows: 3, samples: 4, temperature: 0.9, top_p: 1.0}
families:
  counting:
    prepare: ['data counting']
    model_name_or_path: model
    dataset_name: rows.json
    tests: [{split: test, domain: in, rows: test.json}]
";

    #[test]
    fn a_method_is_called_like_its_file_and_unknown_keys_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ours.yaml");
        let text = "title: Ours\nrole: proposed\norder: 3\nstages:\n- command: train\n  keys: {beta: 0.1}\n";
        // A byte order mark, as editors on Windows write it.
        std::fs::write(&path, format!("\u{feff}{text}")).expect("written");
        let found = read_method(&path).expect("a method");
        assert_eq!((found.method.key.as_str(), found.pass_at_k), ("ours", true));
        assert_eq!(found.stages[0].command.name(), "train");
        std::fs::write(&path, format!("{text}colour: red\n")).expect("written");
        let error = read_method(&path).expect_err("refused").to_string();
        assert!(
            error.contains("colour") && error.contains("ours.yaml"),
            "{error}"
        );
        let error = read_method(folder.path())
            .expect_err("a folder")
            .to_string();
        assert!(error.contains("a folder"), "{error}");
    }

    #[test]
    fn a_base_that_cannot_be_run_is_refused_with_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("base.yaml");
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            read_base(&path)
        };
        let base = read(BASE).expect("a base");
        assert_eq!(
            base.sft,
            folder.path().join("sft.yaml"),
            "beside the base file"
        );
        let cases = [
            ("process_gib: 1", "process_gib: 0", "`process_gib`"),
            ("process_gib: 1", "process_gib: .nan", "process_gib"),
            ("samples: 4", "samples: 0", "`pass_at_k`"),
            ("temperature: 0.9", "temperature: 0", "`pass_at_k`"),
            (
                "[{split: test, domain: in, rows: test.json}]",
                "[]",
                "`families.counting.tests`",
            ),
            ("['data counting']", "[' ']", "an empty line"),
            (
                "families:",
                "presets: {all: {seeds: 100000000000}}\nfamilies:",
                "`presets.all.seeds`",
            ),
            (
                "families:",
                "presets: {all: {seeds: 0}}\nfamilies:",
                "1 to 1000",
            ),
        ];
        for (from, to, expected) in cases {
            let error = read(&BASE.replace(from, to)).expect_err(to).to_string();
            assert!(
                error.contains(expected) && error.contains("hint: "),
                "{error}"
            );
        }
    }
}
