//! How a run ends: at its last step, because somebody asked, or by a rule that it must not go on.

use std::path::{Path, PathBuf};

use anyhow::{Error, Result};

use super::{GenerationBatch, Trainer, reference};
use crate::actions::reward::{ProcessError, RewardError};
use crate::actions::teacher::TeacherError;
use crate::learner::LearnError;
use crate::run::metrics::{StepMetrics, WatchdogError};
use crate::run::rollout_file;
use crate::run::stop;
use crate::system::files::{self, Existing};

impl Trainer {
    /// The error of a step that was refused: the weights are as before it. What was found goes into the log, the rollouts
    /// into a file of their own.
    pub(super) fn refused(
        &mut self,
        batch: &GenerationBatch,
        found: StepMetrics,
        error: Error,
    ) -> Error {
        let step = self.next_step();
        let mut metrics = StepMetrics::new();
        // What could not be computed stands in the row as null.
        for name in ["loss", "grad_norm"] {
            metrics.insert(name, f64::NAN);
        }
        metrics.extend(&found);
        metrics.extend(&batch.metrics);
        if let Err(unwritten) = self.state.log_refused(step, metrics) {
            log::warn!("step {step} could not be logged: {unwritten}");
        }
        let path = self.state.path().join(format!("failed-step-{step}.jsonl"));
        let groups = batch.groups.iter();
        let rows = groups.flat_map(|group| rollout_file::rows_of(group, step));
        let text: String = rows
            .filter_map(|row| serde_json::to_string(&row).ok())
            .map(|row| row + "\n")
            .collect();
        let place = match files::write(&path, text, Existing::Replace) {
            Ok(()) => format!("its rollouts are in {}", path.display()),
            Err(_) => "its rollouts could not be written".to_owned(),
        };
        error.context(format!("step {step}: the update was refused; {place}"))
    }

    /// Saves what was learnt last, writes the summary row and gives the run's folder; after an error that ends the run by
    /// rule, logs and saves the last good state and gives the error back.
    ///
    /// # Errors
    /// The error that ended the loop, or a log or checkpoint that cannot be written.
    pub fn finish(mut self, ended: Result<()>) -> Result<PathBuf> {
        if let Err(error) = ended {
            if is_by_rule(&error) {
                self.give_up();
            }
            return Err(error);
        }
        // A replay may end before its last step.
        if !self.state.is_saved() {
            self.save()?;
        }
        if self.state.is_at_end() || !stop::is_requested() {
            let samples = self.run.batch.per_device_train_batch_size * self.cut.accumulation;
            let parameters = self.learner.weights.count();
            let summary = self.state.summary(samples as f64, parameters);
            self.state.log(summary)?;
        }
        Ok(self.state.close())
    }

    /// Gives up the generation batch at hand: its rows come first when the run goes on.
    fn give_up(&mut self) {
        self.state.position.data = self.before.clone();
        if let Err(error) = self.sync_logs() {
            log::warn!("{error}");
        }
        let (run, reference) = (&self.run, self.reference.as_ref());
        let more = |folder: &Path| reference::save(run, reference, folder);
        let learner = &self.learner;
        self.state
            .save_last_good_state(|state| state.save(learner, &more));
    }
}

/// Whether only a rule says that the run must not go on: the weights are those of the step before, and the files can be
/// written. After [`LearnError::Update`] the weights are spoilt, and the newest checkpoint is the last good state.
fn is_by_rule(error: &Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(LearnError::Loss { .. } | LearnError::Gradient { .. } | LearnError::Overflow { .. })
    ) || error.is::<WatchdogError>()
        || error.is::<TeacherError>()
        || error.is::<RewardError>()
        || error.is::<ProcessError>()
}
