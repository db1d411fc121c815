//! What was written: keys and values of the file, the flags and the preset, each with its origin.
//!
//! Every value is checked alone against its key; nothing is derived and no pair of keys
//! is judged here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value};

use super::error::{ConfigError, Fault, Origin};
use super::foreign::{self, Verdict};
use super::key::Key;
use super::yaml::parse_yaml;
use super::{aliases, presets, table};
use crate::json_lines::read_text;
use crate::options::Preset;

const STEPS: &str = "steps_per_generation";
const BATCH: &str = "generation_batch_size";

/// The keys that were written, each with the origin that won.
#[derive(Debug, Default)]
pub(super) struct RawConfig {
    written: BTreeMap<&'static str, Written>,
    /// One line for each foreign spelling, and one for each group of keys without effect.
    pub(super) notes: Vec<String>,
    /// One line for each key that is met in another way than it says.
    pub(super) warnings: Vec<String>,
    /// Keys without effect by their reason.
    without_effect: BTreeMap<&'static str, BTreeSet<String>>,
}

#[derive(Debug)]
struct Written {
    value: Value,
    origin: Origin,
    spelled: String,
}

/// A value as it was given: typed by YAML, or the text of a flag.
enum Given<'a> {
    Value(&'a Value),
    Text(&'a str),
}

impl RawConfig {
    /// Reads a file and lays the flags over it and the preset below it.
    ///
    /// # Errors
    /// If the file cannot be read or is not a flat YAML mapping, a key is unknown, or a value is not of its key's type.
    pub(super) fn load(path: &Path, flags: &[(String, String)]) -> Result<Self, ConfigError> {
        let text = read_text(path).map_err(|error| ConfigError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        let file = mapping(path, &text)?;
        let origin = Origin::File(path.to_owned());
        let mut raw = Self::default();
        let mut faults = Vec::new();
        for (spelled, value) in &file {
            faults.extend(raw.write(&origin, spelled, &Given::Value(value)).err());
        }
        let mut over = Self::default();
        for (spelled, text) in flags {
            faults.extend(over.write(&Origin::Flag, spelled, &Given::Text(text)).err());
        }
        if let Some(error) = ConfigError::of(faults) {
            return Err(error);
        }
        // Two keys for one thing: a flag of either overrides the file's line of the other.
        for (flag, other) in [(STEPS, BATCH), (BATCH, STEPS)] {
            if over.value(flag).is_some_and(|value| !value.is_null()) {
                raw.written.remove(other);
            }
        }
        raw.written.append(&mut over.written);
        raw.notes.append(&mut over.notes);
        raw.warnings.append(&mut over.warnings);
        for (group, names) in over.without_effect {
            raw.without_effect.entry(group).or_default().extend(names);
        }
        raw.notes.extend(
            raw.without_effect
                .iter()
                .map(|(reason, names)| note(reason, names)),
        );
        raw.lay_preset()?;
        Ok(raw)
    }

    /// The value of a key, where one was written.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.written.get(name).map(|written| &written.value)
    }

    /// Who wrote a key.
    pub(super) fn origin(&self, name: &str) -> Origin {
        self.written
            .get(name)
            .map_or(Origin::Default, |written| written.origin.clone())
    }

    /// Checks one key and keeps it.
    fn write(
        &mut self,
        origin: &Origin,
        spelled: &str,
        given: &Given<'_>,
    ) -> Result<(), ConfigError> {
        let plain = spelled.replace('-', "_");
        let alias = aliases::find(&plain);
        let name = alias.map_or(plain.as_str(), |alias| alias.key);
        let key = table::find(name);
        let mut value = match given {
            Given::Value(value) => (*value).clone(),
            Given::Text(text) => {
                key.map_or_else(|| Value::from(*text), |key| key.kind.of_flag(text))
            }
        };
        if let Some(alias) = alias {
            self.notes
                .push(format!("`{plain}` ({}) is read as `{name}`", alias.owner));
            value = (alias.translate)(value);
        }
        if foreign::is_the_only_way(name, &value) {
            return Ok(());
        }
        match (key, foreign::judge(name, &value)) {
            (Some(key), _) => self.keep(key, origin, plain, &value),
            (None, Some(Verdict::Quiet)) => Ok(()),
            (None, Some(Verdict::WithoutEffect(reason))) => {
                self.without_effect.entry(reason).or_default().insert(plain);
                Ok(())
            }
            (None, Some(Verdict::Warned(warning))) => {
                self.warnings.push(warning);
                Ok(())
            }
            (None, Some(Verdict::Refused(problem, hint))) => Err(ConfigError::Value {
                origin: origin.clone(),
                key: plain,
                problem,
                hint,
            }),
            (None, None) => {
                let nearest = table::nearest(&plain);
                Err(ConfigError::UnknownKeys {
                    origin: origin.clone(),
                    keys: vec![(spelled.to_owned(), nearest)],
                })
            }
        }
    }

    fn keep(
        &mut self,
        key: &'static Key,
        origin: &Origin,
        spelled: String,
        value: &Value,
    ) -> Result<(), ConfigError> {
        if key.name == "preset" {
            refuse_later_preset(origin, value)?;
        }
        let value = key
            .kind
            .read(value)
            .map_err(|fault| faulty(key, &spelled, origin, fault))?;
        let written = Written {
            value,
            origin: origin.clone(),
            spelled: spelled.clone(),
        };
        match self.written.insert(key.name, written) {
            // A flag given twice: the last one counts, as everywhere on a command line.
            Some(before) if *origin != Origin::Flag || before.spelled != spelled => {
                Err(ConfigError::Twice {
                    origin: origin.clone(),
                    first: before.spelled,
                    second: spelled,
                    key: key.name.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Fills the preset's keys in where nobody wrote them.
    fn lay_preset(&mut self) -> Result<(), ConfigError> {
        let named = self.value("preset").cloned().unwrap_or_default();
        let Ok(Some(preset)) = serde_json::from_value::<Option<Preset>>(named) else {
            return Ok(());
        };
        let origin = Origin::Preset(preset.name());
        let mut below = Self::default();
        // A later layer of a preset overrides an earlier one.
        let keys: BTreeMap<_, _> = presets::keys(preset).collect();
        for (name, text) in keys {
            below.write(&origin, name, &Given::Text(text))?;
        }
        below.written.append(&mut self.written);
        self.written = below.written;
        Ok(())
    }
}

/// An error at a key, with where that key was written.
pub(super) fn wrong(raw: &RawConfig, key: &str, problem: String, hint: String) -> ConfigError {
    ConfigError::Value {
        origin: raw.origin(key),
        key: key.to_owned(),
        problem,
        hint,
    }
}

fn note(reason: &str, names: &BTreeSet<String>) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    let verb = if names.len() == 1 { "has" } else { "have" };
    format!("{} {verb} no effect: {reason}", names.join(", "))
}

pub(super) fn mapping(path: &Path, text: &str) -> Result<Map<String, Value>, ConfigError> {
    let wrong = |reason: String| ConfigError::Syntax {
        path: path.to_owned(),
        reason,
    };
    match parse_yaml(text).map_err(wrong)? {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        other => Err(wrong(format!(
            "found {}; expected keys and values",
            super::error::shown(&other)
        ))),
    }
}

fn refuse_later_preset(origin: &Origin, value: &Value) -> Result<(), ConfigError> {
    let Some((name, lacking)) = value
        .as_str()
        .and_then(|name| Some((name, presets::lacking(name)?)))
    else {
        return Ok(());
    };
    Err(ConfigError::Value {
        origin: origin.clone(),
        key: "preset".to_owned(),
        problem: format!("is \"{name}\", which needs {lacking}; that is not in this version"),
        hint: format!("the presets are {}", Preset::NAMES.join(", ")),
    })
}

fn faulty(key: &Key, spelled: &str, origin: &Origin, fault: Fault) -> ConfigError {
    let hint = fault
        .hint
        .unwrap_or_else(|| format!("`{}`: {}", key.name, key.help()));
    let place = format!("{spelled}{}", fault.within);
    ConfigError::Value {
        origin: origin.clone(),
        key: place,
        problem: fault.problem,
        hint,
    }
}
