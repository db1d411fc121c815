//! The demo's closing tables.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::evaluation::EvaluationResult;
use crate::run::metrics::{METRICS_FILE, mean_ignoring_nan, table};

/// Accuracy in and out of domain, one column per model: `scores` [model][split].
#[must_use]
pub fn accuracy(scores: &[Vec<EvaluationResult>]) -> String {
    let row = |(index, name): (usize, &str)| {
        let cells = scores
            .iter()
            .map(|results| format!("{:.1} %", 100.0 * results[index].accuracy));
        std::iter::once(name.to_owned()).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = ["in domain", "out of domain"]
        .into_iter()
        .enumerate()
        .map(row)
        .collect();
    table(
        &["accuracy", "before", "warm start", "GRPO", "EKIPL"],
        &rows,
    )
}

/// Mean reward of the policy's own samples in each tenth of training, one row per run.
///
/// # Errors
/// If a run's metrics cannot be read.
pub fn rewards(runs: &[(&str, &Path)]) -> Result<String> {
    let headers: Vec<String> = (1..=10).map(|part| format!("{part}0 %")).collect();
    let headers: Vec<&str> = std::iter::once("reward")
        .chain(headers.iter().map(String::as_str))
        .collect();
    let row = |(name, run): &(&str, &Path)| {
        let cells = tenths(run)?.into_iter().map(|value| format!("{value:.2}"));
        Ok(std::iter::once((*name).to_owned()).chain(cells).collect())
    };
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect::<Result<_>>()?;
    Ok(table(&headers, &rows))
}

fn tenths(run: &Path) -> Result<Vec<f64>> {
    let path = run.join(METRICS_FILE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let reward = |line: &str| {
        serde_json::from_str::<Value>(line)
            .ok()?
            .get("reward")?
            .as_f64()
    };
    let rewards: Vec<f64> = text.lines().filter_map(reward).collect();
    Ok(means_of_tenths(&rewards))
}

/// Fewer than ten values leave some tenths empty (NaN).
fn means_of_tenths(values: &[f64]) -> Vec<f64> {
    let part = |index: usize| &values[index * values.len() / 10..(index + 1) * values.len() / 10];
    (0..10)
        .map(|index| mean_ignoring_nan(part(index).iter().copied()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenths_cover_everything_once() {
        let values: Vec<f64> = (0..20).map(f64::from).collect();
        assert_eq!(means_of_tenths(&values)[9], 18.5, "the last two of twenty");
        assert_eq!(means_of_tenths(&values)[0], 0.5, "the first two");
        assert!(means_of_tenths(&[1.0])[0].is_nan(), "nothing to average");
    }
}
