//! Values that are written in several forms: step intervals, where a run continues from, what scales the rewards.
//!
//! Knows the forms and what they mean; touches no file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::choice::ScaleRewards;
use super::error::Fault;
use super::value::{Kind, boolean};

/// A number of optimizer steps, or below 1 a share of all of them (transformers: `logging_steps` and its like).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Interval(pub f64);

impl Interval {
    /// The interval in steps, for a run of `total` optimizer steps; at least 1.
    #[must_use]
    pub fn steps(self, total: u64) -> u64 {
        if self.0 >= 1.0 {
            self.0 as u64
        } else {
            ((total as f64 * self.0).ceil() as u64).max(1)
        }
    }
}

/// `resume_from_checkpoint`: null, true or a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<Written>", into = "Option<Written>")]
pub enum Resume {
    /// Start from `model_name_or_path`.
    No,
    /// The newest checkpoint of `output_dir`.
    Last,
    /// This checkpoint folder.
    From(PathBuf),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Flag(bool),
    Folder(PathBuf),
}

impl From<Option<Written>> for Resume {
    fn from(written: Option<Written>) -> Self {
        match written {
            None | Some(Written::Flag(false)) => Self::No,
            Some(Written::Flag(true)) => Self::Last,
            Some(Written::Folder(path)) => Self::From(path),
        }
    }
}

impl From<Resume> for Option<Written> {
    fn from(resume: Resume) -> Self {
        match resume {
            Resume::No => None,
            Resume::Last => Some(Written::Flag(true)),
            Resume::From(path) => Some(Written::Folder(path)),
        }
    }
}

/// Reads `resume_from_checkpoint`.
pub(crate) const RESUME: Kind = Kind::Custom {
    description: "true, null or a checkpoint folder",
    read: read_resume,
};

fn read_resume(value: &Value) -> Result<Value, Fault> {
    match (value, boolean(value)) {
        (Value::Null, _) | (_, Some(false)) => Ok(Value::Null),
        (_, Some(true)) => Ok(json!(true)),
        (Value::String(path), None) if !path.trim().is_empty() => Ok(value.clone()),
        _ => Err(Fault::expected(value, &RESUME.description())),
    }
}

/// Reads `scale_rewards`.
pub(crate) const SCALE_REWARDS: Kind = Kind::Custom {
    description: "one of group, batch, none, true, false",
    read: read_scale_rewards,
};

fn read_scale_rewards(value: &Value) -> Result<Value, Fault> {
    match boolean(value) {
        Some(true) => Ok(json!(ScaleRewards::Group.name())),
        Some(false) => Ok(json!(ScaleRewards::None.name())),
        None => Kind::Choice(ScaleRewards::NAMES)
            .read(value)
            .map_err(|_| Fault::expected(value, &SCALE_REWARDS.description())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, train};
    use super::*;

    #[test]
    fn an_interval_below_one_is_a_share_of_all_steps() {
        assert_eq!(Interval(10.0).steps(5), 10);
        assert_eq!(Interval(0.05).steps(101), 6);
        assert_eq!(Interval(0.001).steps(10), 1);
    }

    #[test]
    fn resuming_takes_true_null_or_a_folder() {
        let resume = |text: &str| {
            train(&format!("resume_from_checkpoint: {text}"))
                .output
                .resume_from_checkpoint
        };
        assert_eq!(
            (resume("true"), resume("null"), resume("false")),
            (Resume::Last, Resume::No, Resume::No)
        );
        assert_eq!(
            resume("out/checkpoint-3"),
            Resume::From("out/checkpoint-3".into())
        );
        assert!(
            message("resume_from_checkpoint: 3")
                .contains("expected true, null or a checkpoint folder")
        );
    }
}
