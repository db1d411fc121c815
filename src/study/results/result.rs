//! What one run of the study leaves behind: the raw numbers from which every table and chart is computed.
//!
//! Knows no file and computes nothing; `result_file` reads, checks and writes it. A sceptic needs these files only:
//! every mean that is stored stands beside the values that it is the mean of.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Version of the layout below. A reader refuses any other.
pub const FORMAT_VERSION: u32 = 1;

/// One of the paper's three task families (method: section 1.1, fact 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Visual counting.
    Counting,
    /// Structure perception.
    Structure,
    /// Spatial transformation.
    Transformation,
}

impl Family {
    /// Every family, in the order of the paper's table.
    pub const ALL: [Self; 3] = [Self::Counting, Self::Structure, Self::Transformation];

    /// The word in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counting => "counting",
            Self::Structure => "structure",
            Self::Transformation => "transformation",
        }
    }
}

/// Whether a split looks like the training rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Domain {
    /// Drawn like the training rows.
    In,
    /// Another renderer, style or viewpoint.
    Out,
}

impl Domain {
    /// Both, in the order of the paper's table.
    pub const ALL: [Self; 2] = [Self::In, Self::Out];

    /// The words in tables.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::In => "in domain",
            Self::Out => "out of domain",
        }
    }
}

/// What a method is in the study for; it decides in which table and chart the method stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A row of the paper's table that others proposed: zero-shot, ANS-SFT, CoT-SFT, Reason-RFT-Zero, Reason-RFT.
    Reference,
    /// Vision-EKIPL as the paper describes it, from zero or after stage 1: the paper's claims are about these.
    Proposed,
    /// The baseline with as many sampled actions as the proposed method has in its pool.
    EqualBudget,
    /// Another published way to use the same external actions, or a check that the paper lacks.
    Control,
    /// The proposed method with one switch changed.
    Ablation,
}

/// A method of the study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// Short name in files, of `a-z 0-9 . _ -`.
    pub key: String,
    /// Name in tables and charts.
    pub title: String,
    /// What it is in the study for.
    pub role: Role,
    /// Place in tables and legends, smaller first.
    pub order: u32,
    /// Key of the method that differs in the external actions only (same start, same updates); `null` = the study's
    /// baseline. The paper's claims are judged against it.
    #[serde(deserialize_with = "present")]
    pub counterpart: Option<String>,
}

/// The model that was trained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDescription {
    /// Trainable and frozen parameters.
    pub parameters: u64,
    /// Architecture and size in words.
    pub description: String,
}

/// One logged training step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Optimizer steps done.
    pub step: u64,
    /// Completions scored so far in this run: sampled by the policy or read from external models; rows for supervised steps.
    pub samples: u64,
    /// Seconds of training so far, evaluation left out; time before a resume counts.
    pub wall_seconds: f64,
    /// Mean reward of the policy's own samples; `null` for a supervised step.
    #[serde(deserialize_with = "present")]
    pub reward: Option<f64>,
    /// Mean accuracy reward of the policy's own samples, 0 to 1; `null` for a supervised step.
    #[serde(deserialize_with = "present")]
    pub accuracy: Option<f64>,
    /// Share of the selected actions that each external model wrote, 0 to 1; the policy wrote the rest. Empty without any.
    pub external_share: BTreeMap<String, f64>,
}

/// Held-out accuracy at one moment of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// As [`Step::step`].
    pub step: u64,
    /// As [`Step::samples`].
    pub samples: u64,
    /// As [`Step::wall_seconds`].
    pub wall_seconds: f64,
    /// File stem of the rows: `test`, `test-ood`, `test-left`, ...
    pub split: String,
    /// Whether the split looks like the training rows.
    pub domain: Domain,
    /// Rows scored.
    pub rows: u64,
    /// Mean score, 0 to 1 (method: section 3.7).
    pub accuracy: f64,
}

/// The trained model on one whole split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalEvaluation {
    /// As [`Evaluation::split`].
    pub split: String,
    /// As [`Evaluation::domain`].
    pub domain: Domain,
    /// Rows scored.
    pub rows: u64,
    /// Sampling temperature; 0 = greedy.
    pub temperature: f64,
    /// Mean of `scores`.
    pub accuracy: f64,
    /// Share of completions that are right in every part, 0 to 1.
    pub exact_match: f64,
    /// [rows] score of each row in file order, 0 to 1; the mean over its completions if there are several.
    pub scores: Vec<f64>,
    /// Many sampled completions per row; `null` if pass@k was not measured on this split.
    #[serde(deserialize_with = "present")]
    pub pass_at_k: Option<PassAtK>,
}

/// Several completions per row, and how many were right.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassAtK {
    /// Sampling temperature.
    pub temperature: f64,
    /// Nucleus size; 1 = none.
    pub top_p: f64,
    /// Completions per row: the n of the estimator.
    pub samples_per_row: u32,
    /// Right completions of each of the first rows in file order, at most all: the c of the estimator.
    pub correct_counts: Vec<u32>,
    /// Mean over the rows of 1 - C(n-c, k)/C(n, k), by k.
    pub values: BTreeMap<u32, f64>,
}

/// Everything that one run of one method on one family with one seed is judged by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunResult {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The method.
    pub method: Method,
    /// The family whose rows it was trained and tested on.
    pub family: Family,
    /// Seed of the run.
    pub seed: u64,
    /// Commit of the program, with `-dirty` if the tree differed from it.
    pub commit: String,
    /// Cores, memory, system, in words.
    pub machine: String,
    /// The device that computed.
    pub device: String,
    /// The model.
    pub model: ModelDescription,
    /// What the policy started from, in words: random weights, or which earlier run.
    pub start: String,
    /// Exact command lines that repeat this run, data and earlier stages included, in order.
    pub commands: Vec<String>,
    /// Digest of the resolved configuration.
    pub config_digest: String,
    /// When the run began, as RFC 3339.
    pub started: String,
    /// Seconds of the whole run, evaluation included; time before a resume counts.
    pub wall_seconds: f64,
    /// Logged training steps in order; empty for a method that does not train.
    pub steps: Vec<Step>,
    /// Held-out accuracy during training, in order.
    pub evaluations: Vec<Evaluation>,
    /// The trained model on each split.
    #[serde(rename = "final")]
    pub final_evaluations: Vec<FinalEvaluation>,
    /// Total seconds per phase, by the names of the metrics `timing_s/*`.
    pub timing_s: BTreeMap<String, f64>,
}

impl RunResult {
    /// `METHOD-FAMILY-seed-N.json`: unique within a study.
    #[must_use]
    pub fn file_name(&self) -> String {
        let Self {
            method,
            family,
            seed,
            ..
        } = self;
        format!("{}-{}-seed-{seed}.json", method.key, family.name())
    }
}

/// Why a run that was planned gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingKind {
    /// It was not started, or not finished yet.
    NotRun,
    /// It ended with an error.
    Failed,
}

/// A run that was planned and gave no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingRun {
    /// The method.
    pub method: Method,
    /// The family.
    pub family: Family,
    /// The seed.
    pub seed: u64,
    /// What became of it.
    pub kind: MissingKind,
    /// The error, or why it was not run; one line.
    pub reason: String,
}

/// A value that may be `null` but must be there: serde takes an absent key for `None`.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}
