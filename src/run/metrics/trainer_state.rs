//! `trainer_state.json` as transformers' `TrainerState` reads and writes it.
//!
//! Does not decide when to save or what to count.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{LoggedStep, MetricsError};
use crate::system::files;

/// Name of the state file in `output_dir` and in each checkpoint.
pub const TRAINER_STATE_FILE: &str = "trainer_state.json";

/// Progress of a run. Every field name is one of transformers' `TrainerState`, which refuses unknown ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Optimizer steps done.
    pub global_step: u64,
    /// Passes over the data set, with a fraction.
    pub epoch: f64,
    /// Optimizer steps of the whole run.
    pub max_steps: u64,
    /// One `{"step", "epoch", "loss", ...}` per logged step.
    pub log_history: Vec<LoggedStep>,
    /// Best evaluation metric so far.
    pub best_metric: Option<f64>,
    /// Steps between checkpoints.
    pub save_steps: u64,
    /// Steps between log rows.
    pub logging_steps: u64,
    /// Completions per device and micro-batch.
    pub train_batch_size: u64,
    /// Prompt and completion tokens that went through training.
    pub num_input_tokens_seen: u64,
    /// Floating-point operations of training.
    pub total_flos: f64,
    /// State of parts of the trainer, by name; [`Self::keep`] and [`Self::restore`] fill and read it.
    pub stateful_callbacks: Map<String, Value>,
}

impl TrainerState {
    /// Keeps the state of `part` (such as the window of steps not yet logged) for a resumed run.
    ///
    /// # Errors
    /// The part does not serialise to JSON.
    pub fn keep(&mut self, part: &str, state: &impl Serialize) -> Result<(), serde_json::Error> {
        self.stateful_callbacks
            .insert(part.to_owned(), serde_json::to_value(state)?);
        Ok(())
    }

    /// The state of `part` as it was kept, if it was.
    ///
    /// # Errors
    /// What was kept is not of this type.
    pub fn restore<T: for<'de> Deserialize<'de>>(
        &self,
        part: &str,
    ) -> Result<Option<T>, serde_json::Error> {
        self.stateful_callbacks
            .get(part)
            .map(T::deserialize)
            .transpose()
    }

    /// Writes `trainer_state.json` into `directory`; an older one is replaced as a whole or not at all.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn save(&self, directory: &Path) -> Result<(), MetricsError> {
        let path = directory.join(TRAINER_STATE_FILE);
        let encode = |source| MetricsError::Encode {
            path: path.clone(),
            source,
        };
        let mut text = serde_json::to_string_pretty(self).map_err(encode)?;
        text.push('\n');
        files::write_whole(&path, text).map_err(MetricsError::io("write", &path))
    }

    /// Reads `trainer_state.json` from a checkpoint.
    ///
    /// # Errors
    /// The file is absent or not a trainer state.
    pub fn load(directory: &Path) -> Result<Self, MetricsError> {
        let path = directory.join(TRAINER_STATE_FILE);
        let text = fs::read_to_string(&path).map_err(MetricsError::io("read", &path))?;
        serde_json::from_str(&text).map_err(|source| MetricsError::State { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::metrics::{MetricsWindow, StepMetrics};

    fn state() -> TrainerState {
        let mut metrics = StepMetrics::new();
        metrics.insert("loss", 0.25);
        metrics.insert("epoch", 0.5);
        let mut state = TrainerState {
            global_step: 5,
            epoch: 0.5,
            max_steps: 10,
            ..TrainerState::default()
        };
        state.log_history.push(LoggedStep { step: 5, metrics });
        state
    }

    #[test]
    fn a_saved_state_loads_back_equal() {
        let directory = tempfile::tempdir().unwrap();
        let mut state = state();
        let mut window = MetricsWindow::default();
        window.push(state.log_history[0].metrics.clone());
        state.keep("metrics_window", &window).unwrap();
        state.save(directory.path()).unwrap();
        let loaded = TrainerState::load(directory.path()).unwrap();
        assert_eq!(loaded, state);
        assert_eq!(
            loaded.restore::<MetricsWindow>("metrics_window").unwrap(),
            Some(window)
        );
        assert_eq!(loaded.restore::<MetricsWindow>("absent").unwrap(), None);
    }

    #[test]
    fn the_file_has_the_keys_of_transformers() {
        let value = serde_json::to_value(state()).unwrap();
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        let expected = "global_step epoch max_steps log_history best_metric save_steps logging_steps train_batch_size \
                        num_input_tokens_seen total_flos stateful_callbacks";
        assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
        assert_eq!(value["log_history"][0]["step"], 5);
    }

    #[test]
    fn a_truncated_state_is_named_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join(TRAINER_STATE_FILE),
            "{\"global_step\": 5",
        )
        .unwrap();
        let error = TrainerState::load(directory.path())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("trainer_state.json: not a trainer state"),
            "{error}"
        );
        assert!(
            error.contains("\nhint: the checkpoint is damaged"),
            "{error}"
        );
    }
}
