//! The mean of the steps since the last logged one (`logging_steps`).
//!
//! Does not know when a step is logged.

use serde::{Deserialize, Serialize};

use super::step_metrics::{StepMetrics, mean_ignoring_nan};

/// Metrics whose newest value is logged; every other one is averaged over the steps, NaN ignored.
/// transformers' and TRL's loggers treat the first four alike; the others are the largest so far.
const NEWEST: [&str; 7] = [
    "grad_norm",
    "learning_rate",
    "epoch",
    "num_tokens",
    "perf/max_memory_allocated_gb",
    "perf/max_memory_reserved_gb",
    "perf/cpu_memory_used_gb",
];

/// Steps that wait to be logged.
///
/// It serialises, so that a checkpoint between two logged steps carries it and a resumed run logs the same means: values
/// as their bits, because reading a decimal number may be off by the last one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Bits", into = "Bits")]
pub struct MetricsWindow {
    steps: Vec<StepMetrics>,
}

type Bits = Vec<Vec<(String, u64)>>;

impl From<MetricsWindow> for Bits {
    fn from(window: MetricsWindow) -> Self {
        let bits = |step: &StepMetrics| {
            step.iter()
                .map(|(name, value)| (name.to_owned(), value.to_bits()))
                .collect()
        };
        window.steps.iter().map(bits).collect()
    }
}

impl From<Bits> for MetricsWindow {
    fn from(bits: Bits) -> Self {
        let mut window = Self::default();
        for kept in bits {
            let mut step = StepMetrics::new();
            for (name, value) in kept {
                step.insert(name, f64::from_bits(value));
            }
            window.push(step);
        }
        window
    }
}

impl MetricsWindow {
    /// Adds a step.
    pub fn push(&mut self, step: StepMetrics) {
        self.steps.push(step);
    }

    /// Number of steps that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether no step waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps as one, and an empty window. A metric that some steps lack is averaged over those that have it.
    #[must_use]
    pub fn take(&mut self) -> StepMetrics {
        let steps = std::mem::take(&mut self.steps);
        let mut names = StepMetrics::new();
        for step in &steps {
            names.extend(step);
        }
        let mut logged = StepMetrics::new();
        for (name, newest) in names.iter() {
            let newest_counts = NEWEST.contains(&name);
            let value = if newest_counts {
                newest
            } else {
                mean_ignoring_nan(steps.iter().filter_map(|step| step.get(name)))
            };
            logged.insert(name, value);
        }
        logged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(loss: f64, learning_rate: f64) -> StepMetrics {
        let mut metrics = StepMetrics::new();
        metrics.insert("loss", loss);
        metrics.insert("learning_rate", learning_rate);
        metrics
    }

    #[test]
    fn means_ignore_nan_and_the_learning_rate_is_the_newest() {
        let mut window = MetricsWindow::default();
        for (loss, rate) in [(1.0, 0.3), (f64::NAN, 0.2), (2.0, 0.1)] {
            window.push(step(loss, rate));
        }
        assert_eq!(window.take(), step(1.5, 0.1));
        assert!(window.is_empty());
    }

    #[test]
    fn a_window_that_went_through_json_gives_the_same_means() {
        let mut window = MetricsWindow::default();
        window.push(step(0.1 + 0.2, 1.0 / 3.0));
        window.push(step(f64::NAN, f64::INFINITY));
        let mut resumed: MetricsWindow =
            serde_json::from_str(&serde_json::to_string(&window).unwrap()).unwrap();
        for one in [&mut window, &mut resumed] {
            one.push(step(0.7, 0.5));
        }
        assert_eq!(window.take(), resumed.take());
    }

    #[test]
    fn a_metric_of_some_steps_is_averaged_over_those() {
        let mut window = MetricsWindow::default();
        window.push(StepMetrics::new());
        window.push(step(4.0, 0.0));
        assert_eq!(window.take().get("loss"), Some(4.0));
    }
}
