//! Values that are written in several forms: step intervals, where a run continues from, what scales the rewards.
//!
//! Knows the forms and what they mean; touches no file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::{Fault, shown};
use super::key::{Key, REQUIRED, inner_key as key, read_table as table};
use super::ranges::{SHARE, STEPS};
use super::value::{Kind, boolean};
use crate::options::{DeviceChoice, ExternalRatio, ScaleRewards, TargetModules};

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

/// Reads `lora_target_modules`.
pub(crate) const TARGET_MODULES: Kind = Kind::Custom {
    description: "a list of names, all-linear, or one regular expression for whole names",
    read: read_target_modules,
    write: Value::clone,
};

/// A word without the signs of a regular expression is a name, and several with commas are names; a list of one is its
/// entry, as in TRL.
fn read_target_modules(value: &Value) -> Result<Value, Fault> {
    let expected = || Fault::expected(value, &TARGET_MODULES.description());
    match value {
        Value::Array(items) if items.is_empty() => Err(expected()),
        Value::Array(items) if items.len() > 1 => Kind::List(&Kind::Text).read(value),
        Value::Array(items) => read_target_modules(&items[0]),
        Value::String(text) => {
            Kind::Text.read(value).map_err(|_| expected())?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
            let names: Vec<&str> = text.split(',').map(str::trim).collect();
            if text.eq_ignore_ascii_case(TargetModules::ALL_LINEAR) {
                Ok(json!(TargetModules::ALL_LINEAR))
            } else if names
                .iter()
                .all(|name| !name.is_empty() && name.chars().all(is_name))
            {
                Ok(json!(names))
            } else {
                pattern(value, text)
            }
        }
        _ => Err(expected()),
    }
}

fn pattern(value: &Value, text: &str) -> Result<Value, Fault> {
    match fancy_regex::Regex::new(text) {
        Ok(_) => Ok(value.clone()),
        Err(error) => Err(Fault {
            within: String::new(),
            problem: format!("is {}, no regular expression: {error}", shown(value)),
            hint: Some("write names as a list: [q_proj, v_proj]".to_owned()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Purpose;
    use super::super::tests::{NEEDED, message, read, train};
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

    #[test]
    fn targets_are_names_all_linear_or_an_expression() {
        let targets = |text: &str| {
            let run = train(&format!("use_peft: true\nlora_target_modules: {text}"));
            run.adapter.target_modules()
        };
        let names =
            |names: &[&str]| TargetModules::Names(names.iter().map(|&n| n.into()).collect());
        for text in [
            "null",
            "[q_proj, v_proj]",
            "q_proj,v_proj",
            "q_proj, v_proj",
        ] {
            assert_eq!(targets(text), names(&["q_proj", "v_proj"]), "{text}");
        }
        assert_eq!(
            targets("layers.0.mlp.up_proj"),
            names(&["layers.0.mlp.up_proj"])
        );
        for text in ["all-linear", "[all-linear]", "All-Linear"] {
            assert_eq!(targets(text), TargetModules::AllLinear, "{text}");
        }
        let without_tower = r"^(?!.*visual).*(q_proj|v_proj)$";
        for text in [format!("'{without_tower}'"), format!("['{without_tower}']")] {
            assert_eq!(targets(&text), TargetModules::Pattern(without_tower.into()));
        }
        for (text, part) in [
            ("'(q_proj'", "no regular expression: "),
            (
                "[]",
                "expected a list of names, all-linear, or one regular expression",
            ),
            ("3", "expected a list of names"),
            (
                "[q_proj, 3]",
                "`lora_target_modules[1]` is 3; expected text",
            ),
        ] {
            let message = message(&format!("use_peft: true\nlora_target_modules: {text}"));
            assert!(
                message.contains(part) && message.contains("\nhint: "),
                "{message}"
            );
        }
        let flags = [
            ("use_peft", "true"),
            ("lora_target_modules", "q_proj,v_proj"),
        ];
        let run = read(Purpose::Train, NEEDED, &flags).unwrap();
        assert_eq!(run.adapter.target_modules(), names(&["q_proj", "v_proj"]));
    }
}
