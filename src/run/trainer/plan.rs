//! From scored pools to the work of the coming optimizer steps: selection, advantages, packing, fixed log-probabilities.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::{Trainer, Work};
use crate::actions::advantage;
use crate::actions::external_ratio::{self, ExternalRatio};
use crate::actions::selection;
use crate::kernels::{AdvantageRows, group_advantage};
use crate::learner::batch::{self, LossWeightOptions, PackOptions};
use crate::record::{Group, Source, TokenBatch};
use crate::run::metrics::step_report;
use crate::run::metrics::{Phase, PhaseTimer, StepMetrics};
use crate::run::rollout_file;

impl Trainer {
    /// Selects, credits and packs the groups into the work of the coming optimizer steps.
    ///
    /// # Errors
    /// If an action cannot be packed, or the device fails.
    pub fn plan(
        &mut self,
        step: u64,
        mut groups: Vec<Group>,
        external: &StepMetrics,
        timer: &mut PhaseTimer,
    ) -> Result<()> {
        selection::choose(&mut groups, &self.selection, self.key(step));
        external_ratio::admit(&mut groups, self.external_ratio.ratio);
        let weights = &self.run.data.reward_weights;
        let values = advantage::of_groups(&groups, self.advantages, weights, &|input| {
            let rows = AdvantageRows {
                rewards: &input.rewards,
                groups: &input.groups,
                in_baseline: &input.in_baseline,
                wanted: &input.wanted,
                scale_rewards: input.scale_rewards,
            };
            group_advantage(&rows, &self.open.device)
        })?;
        advantage::assign(&mut groups, &values);
        timer.lap(Phase::Adv);
        let options = PackOptions {
            mask_truncated_completions: self.run.loss.mask_truncated_completions,
            max_completion_length: self.run.sampling.max_completion_length,
            external_kl: self.run.group.external_kl,
        };
        let mut whole = batch::pack(&groups, &options)?;
        self.fill_old_and_reference(&mut whole, timer)?;
        let stamped = external_ratio::stamp(&mut whole, &self.external_ratio, step - 1)?;
        let names: Vec<&str> = self.rewards.names().collect();
        let mut metrics = step_report::of_groups(&groups, &names, &self.external_names(&groups));
        metrics.extend(external);
        metrics.extend(&step_report::of_ratio(&stamped));
        self.write_rollouts(step, &groups)?;
        let groups = Arc::new(groups);
        let most = groups
            .iter()
            .map(|group| group.selected.len())
            .max()
            .unwrap_or(1)
            .max(1);
        let rows = (self.run.batch.per_device_train_batch_size * most)
            .div_ceil(self.run.group.num_generations);
        let micro = batch::micro_batches(&whole, rows);
        if micro.is_empty() && self.external_ratio.ratio != ExternalRatio::SftSelected {
            bail!(
                "step {step}: no selected action of any group has a reward, so there is nothing to learn from\nhint: check `reward_funcs` against the task of the rows"
            );
        }
        let per_step = self.run.batch.gradient_accumulation_steps;
        let steps = micro.len().div_ceil(per_step).max(1);
        let options = LossWeightOptions {
            loss_type: self.run.loss.loss_type,
            max_completion_length: self.run.sampling.max_completion_length,
            generation_tokens: batch::masked_tokens(&whole),
            steps_per_generation_batch: steps as f64,
        };
        let metrics = Arc::new(metrics);
        for iteration in 0..self.run.loss.num_iterations {
            for (index, chunk) in chunks(&micro, per_step).into_iter().enumerate() {
                let weights = batch::loss_weights(chunk, &options);
                let fresh = iteration == 0 && index == 0;
                let work = Work {
                    batches: chunk.to_vec(),
                    weights,
                    metrics: Arc::clone(&metrics),
                    groups: Arc::clone(&groups),
                    fresh,
                };
                self.pending.push_back(work);
            }
        }
        Ok(())
    }

    fn external_names<'a>(&'a self, groups: &'a [Group]) -> Vec<&'a str> {
        let mut names = self.teachers.names();
        for scored in groups.iter().flat_map(|group| &group.pool) {
            if scored.action.source != Source::Policy
                && !names.contains(&scored.action.source.name())
            {
                names.push(scored.action.source.name());
            }
        }
        names
    }

    /// Old log-probabilities where several updates follow one rollout; reference ones where there is a KL term.
    fn fill_old_and_reference(&self, batch: &mut TokenBatch, timer: &mut PhaseTimer) -> Result<()> {
        let cut =
            |logprobs: &dyn Fn(&TokenBatch) -> Result<Vec<Vec<f32>>>| -> Result<Vec<Vec<f32>>> {
                let parts =
                    batch::micro_batches(batch, self.run.batch.per_device_train_batch_size.max(1));
                Ok(parts
                    .iter()
                    .map(logprobs)
                    .collect::<Result<Vec<_>>>()?
                    .into_iter()
                    .flatten()
                    .collect())
            };
        let mut old = None;
        if self.steps_per_generation_batch() > 1
            || self.external_ratio.ratio.needs_external_logprobs()
        {
            old = Some(cut(&|part| {
                Ok(self.learner.logprobs(&self.learner.weights, part)?)
            })?);
            timer.lap(Phase::Old);
        }
        let mut reference = None;
        if let Some(weights) = &self.reference {
            reference = Some(cut(&|part| Ok(self.learner.logprobs(weights, part)?))?);
            timer.lap(Phase::Ref);
        }
        for (index, row) in batch.rows.iter_mut().enumerate() {
            if let (None, Some(old)) = (&row.old_logprobs, &old) {
                row.old_logprobs = Some(old[index].clone());
            }
            row.reference_logprobs = reference.as_ref().map(|reference| reference[index].clone());
        }
        Ok(())
    }

    fn write_rollouts(&mut self, step: u64, groups: &[Group]) -> Result<()> {
        if let Some(file) = &mut self.dump {
            for row in groups
                .iter()
                .flat_map(|group| rollout_file::rows_of(group, step))
            {
                file.append(&row)?;
            }
        }
        for group in groups {
            self.completions.write(step, group)?;
        }
        Ok(())
    }
}

/// The micro-batches of each optimizer step; without any, one step that has nothing to learn from.
fn chunks(micro: &[TokenBatch], per_step: usize) -> Vec<&[TokenBatch]> {
    if micro.is_empty() {
        return vec![&[]];
    }
    micro.chunks(per_step).collect()
}
