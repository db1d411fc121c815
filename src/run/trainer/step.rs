//! One optimizer step and what follows it: update, logs, held-out scores, checkpoints, the end of the run.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use anyhow::Result;

use super::{STOP, Trainer, Work};
use crate::learner::{MicroBatchResult, UpdateReport};
use crate::record::Group;
use crate::run::metrics::step_report;
use crate::run::metrics::{LoggedStep, PhaseTimer, StepMetrics};
use crate::run::rollout_file;

impl Trainer {
    /// Forward and backward of all micro-batches, then the update.
    ///
    /// # Errors
    /// If the loss or a gradient is not finite: the weights are untouched, and the rollouts are written to a file.
    pub fn learn(
        &mut self,
        step: u64,
        work: &Work,
    ) -> Result<(Vec<MicroBatchResult>, UpdateReport)> {
        let mut learn = || {
            let pairs = work.batches.iter().zip(&work.weights);
            let results = pairs
                .map(|(batch, weights)| self.learner.accumulate(batch, weights))
                .collect::<Result<Vec<_>, _>>()?;
            let update = self.learner.apply(self.schedule.at(step - 1))?;
            Ok::<_, crate::learner::LearnError>((results, update))
        };
        learn().map_err(|error| {
            let path = self.folder.path().join(format!("failed-step-{step}.jsonl"));
            let rows = work
                .groups
                .iter()
                .flat_map(|group| rollout_file::rows_of(group, step));
            let text: String = rows
                .filter_map(|row| serde_json::to_string(&row).ok())
                .map(|row| row + "\n")
                .collect();
            let written = std::fs::write(&path, text);
            let place = if written.is_ok() {
                format!("its rollouts are in {}", path.display())
            } else {
                "its rollouts could not be written".to_owned()
            };
            anyhow::Error::new(error)
                .context(format!("step {step}: the update was refused; {place}"))
        })
    }

    /// Logs the step and moves on to the next.
    ///
    /// # Errors
    /// If a log cannot be written, or the watchdog ends the run.
    pub fn finish_step(
        &mut self,
        step: u64,
        work: &Work,
        results: &[MicroBatchResult],
        update: UpdateReport,
        timer: &PhaseTimer,
    ) -> Result<()> {
        self.position.state.global_step = step;
        self.position.state.epoch = self.position.cursor.progress();
        if work.fresh {
            let tokens = |group: &Group| {
                group
                    .pool
                    .iter()
                    .map(|scored| group.prompt.input_ids.len() + scored.action.token_ids.len())
                    .sum::<usize>()
            };
            self.position.state.num_input_tokens_seen +=
                work.groups.iter().map(tokens).sum::<usize>() as u64;
        }
        let mut metrics = step_report::of_update(&work.batches, results, work.fresh);
        let mut loss = StepMetrics::new();
        loss.insert("loss", metrics.get("loss").unwrap_or(f64::NAN));
        self.position.losses.push(loss);
        metrics.insert("grad_norm", update.grad_norm);
        metrics.insert("learning_rate", self.schedule.at(step - 1));
        metrics.insert("epoch", self.position.state.epoch);
        metrics.insert(
            "num_tokens",
            self.position.state.num_input_tokens_seen as f64,
        );
        metrics.extend(&work.metrics);
        timer.record(&mut metrics);
        self.watchdog.check(step, &metrics)?;
        let reward = metrics.get("reward").unwrap_or(f64::NAN);
        self.progress.advance(&format!("reward {reward:.2}"));
        self.position.window.push(metrics);
        if step.is_multiple_of(self.position.state.logging_steps)
            || step == self.position.state.max_steps
        {
            let row = LoggedStep {
                step,
                metrics: self.position.window.take(),
            };
            self.log(row)?;
            if self.run.output.log_completions {
                self.print_completions(&work.groups);
            }
        }
        Ok(())
    }

    fn log(&mut self, row: LoggedStep) -> Result<()> {
        self.metrics.write(&row)?;
        self.position.state.log_history.push(row);
        Ok(())
    }

    fn print_completions(&self, groups: &[Group]) {
        let actions = groups
            .iter()
            .flat_map(|group| group.pool.iter().map(move |scored| (group, scored)));
        for (group, scored) in actions.take(
            self.run
                .output
                .num_completions_to_print
                .unwrap_or(usize::MAX),
        ) {
            log::info!(
                "{} ({}, reward {:?}): {}",
                group.example.id,
                scored.action.source.name(),
                scored.reward,
                scored.action.text
            );
        }
    }

    /// Scores the held-out rows if this step is one to do so.
    ///
    /// # Errors
    /// If the policy's output is not finite, a reward cannot be had, or a log cannot be written.
    pub fn evaluate_if_due(&mut self, step: u64) -> Result<()> {
        let every = self
            .run
            .evaluation
            .eval_steps
            .steps(self.position.state.max_steps);
        if self.evaluation.is_empty()
            || !self.is_due(step, self.run.evaluation.eval_strategy, every)
        {
            return Ok(());
        }
        let policy = self.learner.policy()?;
        let mut evaluator = crate::run::evaluation::Evaluator {
            model: &policy,
            run: &self.run,
            encoder: &self.encoder,
            rewards: &mut self.rewards,
            parameters: crate::run::evaluation::parameters(&self.run, &self.sampling),
        };
        let metrics = evaluator.metrics(&self.evaluation)?;
        self.log(LoggedStep {
            step,
            metrics: metrics.prefixed("eval_"),
        })
    }

    fn is_due(&self, step: u64, strategy: crate::config::IntervalStrategy, every: u64) -> bool {
        use crate::config::IntervalStrategy;
        match strategy {
            IntervalStrategy::No => false,
            IntervalStrategy::Steps => step.is_multiple_of(every),
            IntervalStrategy::Epoch => {
                step % self.run.steps_per_epoch(self.examples.len()).max(1) == 0
            }
        }
    }

    /// Saves a checkpoint if this step is one to do so, the last one, or somebody asked to stop. A checkpoint waits for the
    /// end of its generation batch, so that it never has to hold half-used rollouts.
    ///
    /// # Errors
    /// If it cannot be written; earlier checkpoints stay usable.
    pub fn save_if_due(&mut self, step: u64, due: &mut bool) -> Result<()> {
        let last = step == self.position.state.max_steps || STOP.load(Ordering::SeqCst);
        *due |= last
            || self.is_due(
                step,
                self.run.output.save_strategy,
                self.position.state.save_steps,
            );
        if !*due || (!self.pending.is_empty() && step != self.position.state.max_steps) {
            return Ok(());
        }
        *due = false;
        self.save(step)
    }

    fn save(&mut self, step: u64) -> Result<()> {
        self.metrics.sync()?;
        self.completions.sync()?;
        self.dump.as_ref().map_or(Ok(()), |dump| dump.sync())?;
        self.position.keep()?;
        let (learner, base, state) = (&self.learner, &self.base, &self.position.state);
        let model_only = self.run.output.save_only_model;
        let saved = self.folder.save_checkpoint(step, |dir: &Path| {
            crate::run::checkpoint::save(learner, base, state, dir, model_only)
        })?;
        self.saved_step = step;
        // The files to copy next time lie in the newest checkpoint only if the start is gone.
        if !self.base.exists() {
            self.base = saved.path;
        }
        Ok(self.position.state.save(self.folder.path())?)
    }

    /// Writes the summary row and gives the run's folder.
    ///
    /// # Errors
    /// If a log cannot be written.
    pub fn finish(mut self) -> Result<PathBuf> {
        // A replay may end before its last step.
        if self.saved_step != self.position.state.global_step {
            self.save(self.position.state.global_step)?;
        }
        let runtime = self.started.elapsed().as_secs_f64();
        let steps = (self.position.state.global_step - self.first_step) as f64;
        let mut metrics = StepMetrics::new();
        metrics.insert("train_runtime", runtime);
        let samples = steps * self.run.completions_per_generation() as f64
            / self.steps_per_generation_batch() as f64;
        metrics.insert("train_samples_per_second", samples / runtime);
        metrics.insert("train_steps_per_second", steps / runtime);
        metrics.insert(
            "total_flos",
            6.0 * self.learner.weights.count() as f64
                * self.position.state.num_input_tokens_seen as f64,
        );
        metrics.insert(
            "train_loss",
            self.position.losses.take().get("loss").unwrap_or(f64::NAN),
        );
        if self.position.state.global_step == self.position.state.max_steps
            || !STOP.load(Ordering::SeqCst)
        {
            let row = LoggedStep {
                step: self.position.state.global_step,
                metrics,
            };
            self.log(row)?;
        }
        self.progress.finish();
        Ok(self.folder.path().to_owned())
    }
}
