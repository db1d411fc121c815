//! One optimizer step and what follows it: update, logs, held-out scores, checkpoints.

use std::borrow::Cow;
use std::path::Path;

use anyhow::Result;

use super::{GenerationBatch, Part, Trainer, reference};
use crate::learner::batch;
use crate::learner::{LearnError, MicroBatchResult};
use crate::record::{Group, TokenBatch};
use crate::run::evaluation::{self, Evaluator};
use crate::run::metrics::step_report;
use crate::run::metrics::{PhaseTimer, StepMetrics};
use crate::run::state::Logged;
use crate::run::stop;

impl Trainer {
    /// Forward and backward of a part of a step, and the update with its last part: what that gave, for the logs.
    ///
    /// # Errors
    /// If the loss or a gradient is not finite, or sampling and training disagree about the first batch: the weights are
    /// untouched, the step is logged, and its rollouts are written to a file.
    pub fn learn(&mut self, batch: &GenerationBatch, part: &Part) -> Result<Option<StepMetrics>> {
        let mut metrics = StepMetrics::new();
        match self.try_learn(batch, part, &mut metrics) {
            Ok(done) => Ok(done.then_some(metrics)),
            Err(error) => Err(self.refused(batch, metrics, error)),
        }
    }

    /// Whether the step is done. `metrics` has what was found before a failure, too.
    fn try_learn(
        &mut self,
        batch: &GenerationBatch,
        part: &Part,
        metrics: &mut StepMetrics,
    ) -> Result<bool> {
        if part.completes && self.carried.is_empty() {
            let mut filled = part.micro_batches.iter();
            let filled = filled
                .by_ref()
                .filter(|index| !batch.micro_batches[**index].rows.is_empty());
            if let [only] = filled.collect::<Vec<_>>()[..] {
                self.learn_at_once(batch, part, *only, metrics)?;
                return Ok(true);
            }
        }
        let results = self.accumulate(batch, part)?;
        let current: Vec<(&TokenBatch, &MicroBatchResult)> =
            batch.micro_batches_of(part).zip(&results).collect();
        if !part.completes {
            let kept = current
                .into_iter()
                .map(|(batch, result)| (batch.clone(), result.clone()));
            self.carried.extend(kept);
            return Ok(false);
        }
        let carried = std::mem::take(&mut self.carried);
        let mut all: Vec<_> = carried
            .iter()
            .map(|(batch, result)| (batch, result))
            .collect();
        all.extend(&current);
        metrics.extend(&step_report::of_update(&all));
        if part.number == 0 {
            metrics.extend(&step_report::of_agreement(&current));
            self.watchdog.check_agreement(self.next_step(), metrics)?;
        }
        let learning_rate = self.schedule.at(self.state.step());
        let update = self.learner.apply(learning_rate)?;
        metrics.insert("grad_norm", update.grad_norm);
        metrics.insert("learning_rate", learning_rate);
        Ok(true)
    }

    /// A step of one micro-batch, whose gradients may be used as they come.
    fn learn_at_once(
        &mut self,
        batch: &GenerationBatch,
        part: &Part,
        index: usize,
        metrics: &mut StepMetrics,
    ) -> Result<()> {
        let learning_rate = self.schedule.at(self.state.step());
        let (step, watchdog) = (self.next_step(), &mut self.watchdog);
        let micro_batch = &batch.micro_batches[index];
        let check = |result: &MicroBatchResult| -> Result<()> {
            let all = [(micro_batch, result)];
            metrics.extend(&step_report::of_update(&all));
            if part.number == 0 {
                metrics.extend(&step_report::of_agreement(&all));
                watchdog.check_agreement(step, metrics)?;
            }
            Ok(())
        };
        let weights = &token_weights(batch, part)[index];
        let update = self
            .learner
            .step_of_one(micro_batch, weights, learning_rate, check);
        let (_, update) = update?;
        metrics.insert("grad_norm", update.grad_norm);
        metrics.insert("learning_rate", learning_rate);
        Ok(())
    }

    /// Forward and backward of the micro-batches of a part; empty ones add nothing.
    fn accumulate(
        &mut self,
        batch: &GenerationBatch,
        part: &Part,
    ) -> Result<Vec<MicroBatchResult>, LearnError> {
        let weights = token_weights(batch, part);
        part.micro_batches
            .iter()
            .filter(|index| !batch.micro_batches[**index].rows.is_empty())
            .map(|index| {
                self.learner
                    .accumulate(&batch.micro_batches[*index], &weights[*index])
            })
            .collect()
    }

    /// Counts a step as done: logs it, looks for the known ways to go wrong.
    ///
    /// # Errors
    /// If a log cannot be written, or the watchdog ends the run.
    pub fn finish_step(
        &mut self,
        batch: &GenerationBatch,
        learned: &StepMetrics,
        timer: &PhaseTimer,
    ) -> Result<()> {
        self.rollouts = 0;
        let position = &mut self.state.position;
        position.state.num_input_tokens_seen += std::mem::take(&mut self.new_tokens);
        position.state.global_step += 1;
        position.state.epoch = position.data.cursor.progress();
        let mut metrics = learned.clone();
        metrics.insert("epoch", position.state.epoch);
        metrics.insert("num_tokens", position.state.num_input_tokens_seen as f64);
        metrics.extend(&batch.metrics);
        timer.record(&mut metrics);
        self.sync_reference();
        let reward = metrics.get("reward").unwrap_or(f64::NAN);
        let found = self.watchdog.check(self.state.step(), &metrics);
        let logged = self
            .state
            .finish_step(metrics, &format!("reward {reward:.2}"))?;
        if logged == Logged::Now && self.run.output.log_completions {
            self.print_completions(&batch.groups);
        }
        Ok(found?)
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

    /// Scores the held-out rows before the first step, if they are to be.
    ///
    /// # Errors
    /// As [`Self::evaluate_if_due`].
    pub fn evaluate_at_start(&mut self) -> Result<()> {
        if self.state.is_evaluation_due_at_start(&self.run.evaluation) {
            self.evaluate()?;
        }
        Ok(())
    }

    /// Scores the held-out rows if this step is one to do so.
    ///
    /// # Errors
    /// If the policy's output is not finite, a reward cannot be had, or a log cannot be written.
    pub fn evaluate_if_due(&mut self) -> Result<()> {
        if self.state.is_evaluation_due(&self.run.evaluation) {
            self.evaluate()?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<()> {
        let policy = self.learner.policy()?;
        let mut evaluator = Evaluator {
            model: &policy,
            run: &self.run,
            encoder: &self.encoder,
            rewards: &mut self.rewards,
            parameters: evaluation::parameters(&self.run, &self.sampling),
        };
        let metrics = evaluator.metrics(&self.evaluation)?;
        self.state.log(metrics.prefixed("eval_"))
    }

    /// After the last part of a generation batch: its rows are used up, and a checkpoint is saved if a step of it was one
    /// to do so, it was the last, or somebody asked to stop. A checkpoint never has to hold half-used rollouts, nor the
    /// gradients of half a step.
    ///
    /// # Errors
    /// If it cannot be written; earlier checkpoints stay usable.
    pub fn finish_generation(&mut self) -> Result<()> {
        self.state.position.data.generations += 1;
        self.before = self.state.position.data.clone();
        let asked = stop::is_requested() && !self.state.is_saved();
        let whole = self.carried.is_empty() || self.state.is_at_end();
        if whole && (asked || self.state.is_save_due()) {
            self.save()?;
        }
        Ok(())
    }

    pub(super) fn save(&mut self) -> Result<()> {
        self.sync_logs()?;
        let (run, reference) = (&self.run, self.reference.as_ref());
        let more = |folder: &Path| reference::save(run, reference, folder);
        self.state.save(&self.learner, &more)
    }

    /// Before a checkpoint: what a resumed run reads besides it is on the disk.
    pub(super) fn sync_logs(&mut self) -> Result<()> {
        self.completions.sync()?;
        self.dump.as_ref().map_or(Ok(()), |dump| dump.sync())?;
        self.state.position.keep("watchdog", &self.watchdog)
    }
}

/// [micro-batch][row][token] shares in the loss of a step. The last step of a pass may be smaller, and its rows then count
/// for more.
fn token_weights<'a>(batch: &'a GenerationBatch, part: &Part) -> Cow<'a, [Vec<Vec<f32>>]> {
    if part.of == batch.cut.accumulation {
        return Cow::Borrowed(&batch.weights);
    }
    let steps = batch.cut.micro_batches as f64 / part.of as f64;
    let options = batch::LossWeightOptions {
        steps,
        ..batch.loss
    };
    Cow::Owned(batch::loss_weights(&batch.micro_batches, &options))
}

impl GenerationBatch {
    /// The micro-batches of a part that have rows.
    fn micro_batches_of<'a>(&'a self, part: &'a Part) -> impl Iterator<Item = &'a TokenBatch> {
        let all = part
            .micro_batches
            .iter()
            .map(|index| &self.micro_batches[*index]);
        all.filter(|micro| !micro.rows.is_empty())
    }
}
