//! One object of a settings file: keys with the defaults of transformers' class, each read with its range.
//!
//! Knows no key by name.

use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};

use super::error::ModelFileError;
use super::json::shown;

const COMPARE: &str = "compare the file with that of the model's original folder";

/// A JSON object, what fills its absent keys, and how messages name it.
pub(crate) struct Section<'a> {
    /// The file.
    pub(crate) path: &'a Path,
    /// The object's own name with a dot, or nothing for the root: `vision_config.`
    pub(crate) prefix: String,
    /// What the file says.
    pub(crate) map: &'a Map<String, Value>,
    /// What transformers' class says.
    pub(crate) defaults: &'a Map<String, Value>,
}

impl<'a> Section<'a> {
    /// The file's own value, or `None` if the key is absent; null is a value.
    pub(crate) fn written(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key)
    }

    /// The file's value, else the default's.
    pub(crate) fn value(&self, key: &str) -> &'a Value {
        self.map
            .get(key)
            .or_else(|| self.defaults.get(key))
            .unwrap_or(&Value::Null)
    }

    /// The value as messages show it, saying so if it is a default.
    pub(crate) fn found(&self, key: &str) -> String {
        let value = shown(self.value(key));
        match self.map.contains_key(key) {
            true => value,
            false => format!("left out, so {value}, transformers' default"),
        }
    }

    /// A whole number within `range`.
    pub(crate) fn size(
        &self,
        key: &str,
        range: RangeInclusive<usize>,
    ) -> Result<usize, ModelFileError> {
        let number = self
            .value(key)
            .as_u64()
            .and_then(|value| usize::try_from(value).ok());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                self.wrong(
                    key,
                    format!("a whole number from {} to {}", range.start(), range.end()),
                )
            })
    }

    /// A number above `low`, up to `high`.
    pub(crate) fn number_above(
        &self,
        key: &str,
        low: f64,
        high: f64,
    ) -> Result<f64, ModelFileError> {
        let number = self.value(key).as_f64();
        number
            .filter(|number| *number > low && *number <= high)
            .ok_or_else(|| self.wrong(key, format!("a number above {low}, at most {high}")))
    }

    /// Yes or no; null is no.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, ModelFileError> {
        match self.value(key) {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            _ => Err(self.wrong(key, "true or false".to_owned())),
        }
    }

    /// One of these words.
    pub(crate) fn word(&self, key: &str, words: &[&str]) -> Result<&'a str, ModelFileError> {
        let word = self.value(key).as_str();
        word.filter(|word| words.contains(word)).ok_or_else(|| {
            self.refused(
                key,
                format!("`{}`", words.join("` or `")),
                "this program computes no other kind",
            )
        })
    }

    /// Refuses a second key that says something else about the same number than `key` does.
    pub(crate) fn agree(&self, key: &str, other: &str) -> Result<(), ModelFileError> {
        match self.written(other) {
            Some(value) if !same(value, self.value(key)) => Err(self.refused(
                other,
                format!(
                    "{}, as `{}{key}` ({}) says",
                    shown(self.value(key)),
                    self.prefix,
                    self.found(key)
                ),
                "two keys disagree about one number; remove the wrong one",
            )),
            _ => Ok(()),
        }
    }

    /// An error at a key whose value makes no sense.
    pub(crate) fn wrong(&self, key: &str, expected: String) -> ModelFileError {
        self.refused(key, expected, COMPARE)
    }

    /// An error at a key, with a remedy of its own.
    pub(crate) fn refused(&self, key: &str, expected: String, hint: &str) -> ModelFileError {
        ModelFileError::Key {
            path: self.path.to_owned(),
            key: format!("{}{key}", self.prefix),
            found: self.found(key),
            expected,
            hint: hint.to_owned(),
        }
    }
}

/// Equal values; 1 and 1.0 are.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}
