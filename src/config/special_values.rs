//! Values that are written in several forms: step intervals, where a run continues from, what scales the rewards.
//!
//! Knows the forms and what they mean; touches no file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::Fault;
use super::key::{Key, REQUIRED, inner_key as key, read_table as table};
use super::ranges::{SHARE, STEPS};
use super::value::{Kind, boolean};
use crate::options::{DeviceChoice, ExternalRatio, ScaleRewards};

/// A number of optimizer steps, or below 1 a share of all of them (transformers: `logging_steps` and its like).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Interval(pub f64);

/// As people write it: `500`, not `500.0`.
impl Serialize for Interval {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 >= 1.0 && self.0.fract() == 0.0 {
            serializer.serialize_u64(self.0 as u64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

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
    write: |value| Kind::Path.written(value),
};

fn read_resume(value: &Value) -> Result<Value, Fault> {
    match (value, boolean(value)) {
        (Value::Null, _) | (_, Some(false)) => Ok(Value::Null),
        (_, Some(true)) => Ok(json!(true)),
        (Value::String(path), None) if !path.trim().is_empty() => Kind::Path.read(value),
        _ => Err(Fault::expected(value, &RESUME.description())),
    }
}

/// Reads `device`.
pub(crate) const DEVICE: Kind = Kind::Custom {
    description: "one of auto, gpu, vulkan, metal, dx12, cpu, with an adapter's number or a part of its name after a colon (vulkan:1)",
    read: read_device,
    write: Value::clone,
};

fn read_device(value: &Value) -> Result<Value, Fault> {
    let choice = value.as_str().map(str::parse::<DeviceChoice>);
    match choice {
        Some(Ok(choice)) => Ok(json!(choice)),
        _ => Err(Fault::expected(value, &DEVICE.description())),
    }
}

/// Reads `scale_rewards`.
pub(crate) const SCALE_REWARDS: Kind = Kind::Custom {
    description: "one of group, batch, none, true, false",
    read: read_scale_rewards,
    write: Value::clone,
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

/// Reads `external_ratio`.
pub(crate) const EXTERNAL_RATIO: Kind = Kind::Custom {
    description: "one of same, luffy, rl_plus, unit, is (exact), snis (self_normalised), chord, hpt, sft_selected",
    read: read_external_ratio,
    write: Value::clone,
};

fn read_external_ratio(value: &Value) -> Result<Value, Fault> {
    let word = match value.as_str() {
        Some("exact") => json!("is"),
        Some("self_normalised" | "self_normalized") => json!("snis"),
        _ => value.clone(),
    };
    Kind::Choice(ExternalRatio::NAMES)
        .read(&word)
        .map_err(|_| Fault::expected(value, &EXTERNAL_RATIO.description()))
}

/// Reads `external_mu`.
pub(crate) const SUPERVISED_SHARE: Kind = Kind::Custom {
    description: "a number from 0 to 1 or {peak: x, valley: y, warmup_steps: n, decay_steps: n}",
    read: read_supervised_share,
    write: Value::clone,
};

#[rustfmt::skip] // One key a line: this is a table.
static COURSE: &[Key] = &[
    key("peak", SHARE, REQUIRED, "Largest share of the supervised loss."),
    key("valley", SHARE, REQUIRED, "Its share at the end."),
    key("warmup_steps", Kind::Count(0, STEPS), "0", "Optimizer steps from 0 to the peak."),
    key("decay_steps", Kind::Count(1, STEPS), REQUIRED, "Optimizer steps from the peak to the valley."),
];

fn read_supervised_share(value: &Value) -> Result<Value, Fault> {
    match value.as_object() {
        Some(written) => Ok(Value::Object(table(written, &[COURSE])?)),
        None => SHARE
            .read(value)
            .map_err(|_| Fault::expected(value, &SUPERVISED_SHARE.description())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, train};
    use super::*;
    use crate::options::SupervisedShare;

    #[test]
    fn an_interval_below_one_is_a_share_of_all_steps() {
        assert_eq!(Interval(10.0).steps(5), 10);
        assert_eq!(Interval(0.05).steps(101), 6);
        assert_eq!(Interval(0.001).steps(10), 1);
    }

    #[test]
    fn ratios_have_short_and_long_names() {
        for (written, ratio) in [
            ("exact", ExternalRatio::Is),
            ("self_normalised", ExternalRatio::Snis),
            ("rl_plus", ExternalRatio::RlPlus),
        ] {
            let run = train(&format!("external_ratio: {written}"));
            assert_eq!(run.group.external_ratio, ratio);
        }
        assert!(message("external_ratio: ppo").contains("expected one of same, luffy"));
    }

    #[test]
    fn the_supervised_share_is_a_number_or_a_course() {
        let share = |text: &str| train(&format!("external_mu: {text}")).group.external_mu;
        assert_eq!(share("0.3"), SupervisedShare::Constant(0.3));
        let course = SupervisedShare::Course {
            peak: 0.9,
            valley: 0.05,
            warmup_steps: 0,
            decay_steps: 80,
        };
        assert_eq!(share("{peak: 0.9, valley: 0.05, decay_steps: 80}"), course);
        assert!(message("external_mu: 2").contains("expected a number from 0 to 1 or {peak"));
        assert!(message("external_mu: {peak: 0.9}").contains("`external_mu.valley` is missing"));
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
