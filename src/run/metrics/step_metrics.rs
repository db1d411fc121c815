//! The numbers of one step under TRL's names, in the order in which they were inserted.
//!
//! Knows no name's meaning, except which ones depend on the clock.

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::statistics;

/// Metric name -> value, in order of first insertion.
///
/// `{"loss": 0.02, "reward": 1.4, "completions/mean_length": 31.0}`
///
/// In JSON a value has 15 significant digits, one that is not finite is `null`, and `null` reads back as NaN.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepMetrics {
    entries: Vec<(String, f64)>,
}

impl StepMetrics {
    /// No metric yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name`; an existing name keeps its place and takes the new value.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<f64>) {
        let (name, value) = (name.into(), value.into());
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((name, value)),
        }
    }

    /// Inserts every metric of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (name, value) in other.iter() {
            self.insert(name, value);
        }
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.entries
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| *value)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
    }

    /// Number of metrics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no metric.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The same values under `prefix` + name (`eval_` for evaluation, as TRL does).
    #[must_use]
    pub fn prefixed(&self, prefix: &str) -> Self {
        Self {
            entries: self
                .iter()
                .map(|(name, value)| (format!("{prefix}{name}"), value))
                .collect(),
        }
    }

    /// The metrics that two equal runs share bit by bit: all but durations and rates.
    #[must_use]
    pub fn without_clock(&self) -> Self {
        let entries = self
            .entries
            .iter()
            .filter(|(name, _)| !depends_on_clock(name))
            .cloned()
            .collect();
        Self { entries }
    }
}

/// The metrics of a logged step: a row of `metrics.jsonl` and of `log_history`.
///
/// `{"step": 10, "loss": 0.02, ...}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoggedStep {
    /// Optimizer steps done.
    pub step: u64,
    /// The metrics, on the same level.
    #[serde(flatten)]
    pub metrics: StepMetrics,
}

/// Whether a metric measures time, so that it differs between two runs that are otherwise equal.
fn depends_on_clock(name: &str) -> bool {
    let name = name.strip_prefix("eval_").unwrap_or(name);
    const PREFIXES: [&str; 4] = [
        "timing_s/",
        "timing_per_token_ms/",
        "perf/",
        "external/latency_s",
    ];
    const SUFFIXES: [&str; 3] = ["runtime", "_per_second", "step_time"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

impl Serialize for StepMetrics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len()))?;
        for (name, value) in &self.entries {
            map.serialize_entry(name, &value.is_finite().then(|| rounded(*value)))?;
        }
        map.end()
    }
}

/// To 15 significant digits: reading may be off by the last bit, and these are written the same again, so that a
/// `log_history` that goes from checkpoint to checkpoint stays as it was.
fn rounded(value: f64) -> f64 {
    format!("{value:.14e}").parse().unwrap_or(value)
}

impl<'de> Deserialize<'de> for StepMetrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = StepMetrics;

            fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
                formatter.write_str("an object of metric names and numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StepMetrics, A::Error> {
                let mut metrics = StepMetrics::new();
                while let Some((name, value)) = map.next_entry::<String, Option<f64>>()? {
                    metrics.insert(name, value.unwrap_or(f64::NAN));
                }
                Ok(metrics)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Mean of the values that are not NaN; NaN if there is none (torch's `nanmean`).
#[must_use]
pub fn mean_ignoring_nan(values: impl IntoIterator<Item = f64>) -> f64 {
    statistics::mean(&without_nan(values)).unwrap_or(f64::NAN)
}

/// Unbiased standard deviation of the values that are not NaN (TRL's `nanstd`); NaN for fewer than two.
#[must_use]
pub fn std_ignoring_nan(values: impl IntoIterator<Item = f64>) -> f64 {
    statistics::variance(&without_nan(values)).map_or(f64::NAN, f64::sqrt)
}

fn without_nan(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    values.into_iter().filter(|value| !value.is_nan()).collect()
}

/// Smallest of the values that are not NaN (TRL's `nanmin`); NaN if there is none.
#[must_use]
pub fn min_ignoring_nan(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::NAN, f64::min)
}

/// Largest of the values that are not NaN (TRL's `nanmax`); NaN if there is none.
#[must_use]
pub fn max_ignoring_nan(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::NAN, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_the_first_insertion_and_the_last_value_wins() {
        let mut metrics = StepMetrics::new();
        metrics.insert("loss", 1.0);
        metrics.insert("reward", 0.5_f32);
        metrics.insert("loss", 2.0);
        assert_eq!(
            metrics.iter().collect::<Vec<_>>(),
            [("loss", 2.0), ("reward", 0.5)]
        );
        assert_eq!(metrics.get("reward"), Some(0.5));
        assert_eq!(metrics.get("kl"), None);
    }

    #[test]
    fn json_shows_fifteen_digits_and_writes_nan_as_null() {
        let mut metrics = StepMetrics::new();
        metrics.insert("loss", 0.1 + 0.2);
        metrics.insert("kl", f64::NAN);
        let text = serde_json::to_string(&LoggedStep { step: 3, metrics }).unwrap();
        assert_eq!(text, r#"{"step":3,"loss":0.3,"kl":null}"#);
        let back: LoggedStep = serde_json::from_str(r#"{"step":3,"loss":0.25,"kl":null}"#).unwrap();
        assert_eq!((back.step, back.metrics.get("loss")), (3, Some(0.25)));
        assert!(back.metrics.get("kl").unwrap().is_nan());
    }

    #[test]
    fn what_was_read_is_written_the_same_again() {
        let mut value = 0.7_f64;
        for _ in 0..20_000 {
            // A chaotic map visits mantissas and exponents of all kinds.
            value = 3.99 * value * (1.0 - value);
            let mut metrics = StepMetrics::new();
            metrics.insert("loss", value.powi(9) * -1e-3);
            let text = serde_json::to_string(&LoggedStep { step: 1, metrics }).unwrap();
            let back: LoggedStep = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&back).unwrap(), text);
        }
    }

    #[test]
    fn clock_metrics_are_left_out_under_the_eval_prefix_too() {
        let mut metrics = StepMetrics::new();
        for name in [
            "loss",
            "timing_s/gen",
            "step_time",
            "train_runtime",
            "train_steps_per_second",
            "num_tokens",
        ] {
            metrics.insert(name, 1.0);
        }
        metrics.extend(&metrics.prefixed("eval_"));
        let names: Vec<String> = metrics
            .without_clock()
            .iter()
            .map(|(name, _)| name.to_owned())
            .collect();
        assert_eq!(
            names,
            ["loss", "num_tokens", "eval_loss", "eval_num_tokens"]
        );
    }

    #[test]
    fn statistics_skip_nan_and_are_nan_for_nothing() {
        let values = [1.0, f64::NAN, 3.0];
        assert_eq!(mean_ignoring_nan(values), 2.0);
        assert_eq!(std_ignoring_nan(values), 2.0_f64.sqrt());
        assert_eq!(
            (min_ignoring_nan(values), max_ignoring_nan(values)),
            (1.0, 3.0)
        );
        assert!(mean_ignoring_nan([f64::NAN]).is_nan() && max_ignoring_nan([]).is_nan());
        assert!(std_ignoring_nan([1.0]).is_nan());
    }
}
