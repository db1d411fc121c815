//! What can be wrong with a configuration, said with the key, the value, where it came from and the remedy.
//!
//! Knows nothing of YAML, flags or the keys themselves.

use std::fmt;
use std::path::PathBuf;

use serde_json::Value;
use thiserror::Error;

use super::secret::{hidden, scrubbed};

/// Who wrote a value: the first of flag, file, preset and default that has the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A `--key value` of the command line.
    Flag,
    /// A line of this file.
    File(PathBuf),
    /// The preset of this name.
    Preset(&'static str),
    /// Nobody: the key's default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => formatter.write_str("command line"),
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Preset(name) => write!(formatter, "preset `{name}`"),
            Self::Default => formatter.write_str("default"),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(
        "cannot read the configuration {}: {reason}\nhint: give the path of a YAML file, for example configs/ekipl.yaml",
        path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The file is not YAML, or not one mapping of keys to values.
    #[error("{}: {reason}\nhint: a configuration is one flat YAML mapping, a line `key: value` for each key", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        reason: String,
    },
    /// Keys that do not exist, all of one place.
    #[error("{}", unknown_keys(origin, keys))]
    UnknownKeys {
        /// Where they stand.
        origin: Origin,
        /// As each was written, and the known key that looks most like it.
        keys: Vec<(String, String)>,
    },
    /// Several things at once, so that a pasted file is corrected in one go.
    #[error("{}", several(faults))]
    Several {
        /// In the order of the file.
        faults: Vec<ConfigError>,
    },
    /// A value of the wrong type or range, a feature that does not exist, or values that do not fit together.
    #[error("{origin}: `{key}` {problem}\nhint: {hint}")]
    Value {
        /// Where the key stands.
        origin: Origin,
        /// The key, with the place inside it (`external[0].name`).
        key: String,
        /// What was found and what was expected.
        problem: String,
        /// The change to make.
        hint: String,
    },
    /// A key without a default that nobody set.
    #[error("{}: `{key}` is missing\nhint: add `{key}: ...` or pass --{key}; {meaning}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its one-line documentation.
        meaning: String,
    },
    /// One key under two spellings in the same place.
    #[error("{origin}: `{first}` and `{second}` are the same key `{key}`\nhint: keep `{key}`")]
    Twice {
        /// Where both stand.
        origin: Origin,
        /// The spelling that came first.
        first: String,
        /// The spelling that came second.
        second: String,
        /// The key that both mean.
        key: String,
    },
    /// Passes whose steps nobody could wait for.
    #[error(
        "`num_train_epochs` {epochs} of {steps_per_epoch} steps each make more than {most} optimizer steps\n\
         hint: lower `num_train_epochs`, or set `max_steps`"
    )]
    TooManySteps {
        /// Passes.
        epochs: f64,
        /// Steps of one pass.
        steps_per_epoch: u64,
        /// The limit.
        most: u64,
    },
    /// Fewer usable rows than one batch of prompts.
    #[error(
        "the data set has {rows} usable rows, but one generation batch takes {needed} different prompts\n\
         hint: add rows, or lower `per_device_train_batch_size` or `steps_per_generation`, or raise `num_generations`"
    )]
    TooFewRows {
        /// Usable rows.
        rows: usize,
        /// Rows of one generation batch.
        needed: usize,
    },
}

impl ConfigError {
    /// All faults of a file and of the flags as one error; unknown keys of one place are named together.
    pub(super) fn of(found: Vec<Self>) -> Option<Self> {
        let mut faults: Vec<Self> = Vec::new();
        for fault in found {
            let Self::UnknownKeys { origin, keys } = fault else {
                faults.push(fault);
                continue;
            };
            let known = faults.iter_mut().find_map(|earlier| match earlier {
                Self::UnknownKeys {
                    origin: place,
                    keys,
                } if *place == origin => Some(keys),
                _ => None,
            });
            match known {
                Some(earlier) => earlier.extend(keys),
                None => faults.push(Self::UnknownKeys { origin, keys }),
            }
        }
        match faults.len() {
            0 | 1 => faults.pop(),
            _ => Some(Self::Several { faults }),
        }
    }
}

fn unknown_keys(origin: &Origin, keys: &[(String, String)]) -> String {
    let lists = "`vision-ekipl train --help` lists all";
    if let [(key, nearest)] = keys {
        let key = scrubbed(key);
        return format!(
            "{origin}: unknown key `{key}`\nhint: the nearest known key is `{nearest}`; {lists}"
        );
    }
    let named = keys
        .iter()
        .map(|(key, nearest)| format!("`{}` (nearest: `{nearest}`)", scrubbed(key)));
    let named = named.collect::<Vec<_>>().join(", ");
    format!(
        "{origin}: {} unknown keys: {named}\nhint: correct or remove them; {lists}",
        keys.len()
    )
}

fn several(faults: &[ConfigError]) -> String {
    let lines = faults
        .iter()
        .map(|fault| fault.to_string().replace("\nhint: ", "\n    "))
        .collect::<Vec<_>>();
    format!(
        "{} things in the configuration:\n  {}\nhint: correct each as it says",
        faults.len(),
        lines.join("\n  ")
    )
}

/// What is wrong with one value, before key and origin are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The place inside the value, as it follows the key: `[0].top_p`, or nothing.
    pub within: String,
    /// What was found and what was expected.
    pub problem: String,
    /// The remedy, where it is more than the key's documentation.
    pub hint: Option<String>,
}

impl Fault {
    /// A value that is not what the key takes.
    pub(super) fn expected(value: &Value, expected: &str) -> Self {
        Self {
            within: String::new(),
            problem: format!("is {}; expected {expected}", shown(value)),
            hint: None,
        }
    }

    /// The same fault with a remedy of its own.
    pub(super) fn with_hint(mut self, hint: String) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The same fault one level further out.
    pub(super) fn inside(mut self, place: &str) -> Self {
        self.within.insert_str(0, place);
        self
    }
}

/// A value as messages show it: JSON without what looks like a key, cut after 80 characters.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = hidden(value).to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    let head: String = text.chars().take(LONGEST).collect();
    format!("{head}...")
}
