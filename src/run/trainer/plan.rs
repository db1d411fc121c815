//! From scored pools to a generation batch: selection, advantages, packing, fixed log-probabilities, shares of the loss.

use anyhow::{Result, bail};

use super::resample::Chosen;
use super::{GenerationBatch, Rollouts, Trainer};
use crate::actions::advantage;
use crate::actions::external_ratio::{self, ExternalRatio};
use crate::actions::selection;
use crate::kernels::{AdvantageRows, group_advantage};
use crate::learner::batch::{self, LossWeightOptions, PackOptions};
use crate::record::{Group, ScoredAction, Source, TokenBatch};
use crate::run::metrics::step_report;
use crate::run::metrics::{Phase, PhaseTimer};
use crate::run::rollout_file;

/// [row][token] log-probabilities.
type Logprobs = Vec<Vec<f32>>;

impl Trainer {
    /// Selects the actions of a rollout that train and gives them their advantages.
    ///
    /// # Errors
    /// If the device fails.
    pub fn credit(&mut self, groups: &mut [Group], timer: &mut PhaseTimer) -> Result<()> {
        selection::choose(groups, &self.selection, self.key());
        external_ratio::admit(groups, self.external_ratio.ratio);
        self.assign_advantages(groups)?;
        self.rollouts += 1;
        timer.lap(Phase::Adv);
        Ok(())
    }

    fn assign_advantages(&self, groups: &mut [Group]) -> Result<()> {
        let weights = &self.run.data.reward_weights;
        let values = advantage::of_groups(groups, self.advantages, weights, &|input| {
            let rows = AdvantageRows {
                rewards: &input.rewards,
                groups: &input.groups,
                in_baseline: &input.in_baseline,
                wanted: &input.wanted,
                scale_rewards: input.scale_rewards,
            };
            group_advantage(&rows, &self.open.device)
        })?;
        advantage::assign(groups, &values);
        Ok(())
    }

    /// Packs the groups of one or several rollouts into what the coming optimizer steps learn from.
    ///
    /// # Errors
    /// If an action cannot be packed, there is nothing to learn from, or the device fails.
    pub fn plan(&mut self, rollouts: Rollouts, timer: &mut PhaseTimer) -> Result<GenerationBatch> {
        let step = self.next_step();
        let Chosen {
            mut groups,
            discarded,
            metrics: asked,
        } = self.take(rollouts);
        if !discarded.is_empty() {
            // What a batch shares, such as `scale_rewards: batch`, is that of the groups that train.
            self.assign_advantages(&mut groups)?;
        }
        let mut whole = batch::pack(&groups, &self.pack_options())?;
        if whole.rows.is_empty() && self.external_ratio.ratio != ExternalRatio::SftSelected {
            bail!(
                "step {step}: no selected action of any group has a reward, so there is nothing to learn from\nhint: check `reward_funcs` against the task of the rows"
            );
        }
        self.fill_old_and_reference(&mut whole, timer)?;
        let stamped = external_ratio::stamp(&mut whole, &self.external_ratio, step - 1)?;
        let names: Vec<&str> = self.rewards.names().collect();
        let mut metrics = step_report::of_groups(&groups, &names, &self.external_names(&groups));
        metrics.extend(&asked);
        metrics.extend(&step_report::of_ratio(&stamped));
        self.write_rollouts(step, &groups)?;
        for group in &discarded {
            self.completions.write(step, group)?;
        }
        self.new_tokens += groups.iter().map(tokens_of).sum::<u64>();
        let micro_batches = batch::micro_batches(&whole, self.cut.micro_batches);
        let loss = self.loss_options();
        Ok(GenerationBatch {
            weights: batch::loss_weights(&micro_batches, &loss),
            micro_batches,
            loss,
            metrics,
            groups,
            cut: self.cut,
            generation: self.state.position.data.generations,
            steps_left: self.state.position.state.max_steps - self.state.step(),
        })
    }

    const fn pack_options(&self) -> PackOptions {
        PackOptions {
            mask_truncated_completions: self.run.loss.mask_truncated_completions,
            max_completion_length: self.run.sampling.max_completion_length,
            external_kl: self.run.group.external_kl,
        }
    }

    fn loss_options(&self) -> LossWeightOptions {
        LossWeightOptions {
            loss_type: self.run.loss.loss_type,
            max_completion_length: self.run.sampling.max_completion_length,
            steps: self.cut.micro_batches as f64 / self.cut.accumulation as f64,
        }
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

    /// Old log-probabilities where an update comes between a rollout and its learning; reference ones where there is a KL
    /// term.
    fn fill_old_and_reference(&self, batch: &mut TokenBatch, timer: &mut PhaseTimer) -> Result<()> {
        let mut parts = self.cut.parts(self.state.position.data.generations);
        let mut old = None;
        if parts.nth(1).is_some() || self.external_ratio.ratio.needs_external_logprobs() {
            let policy = |part: &TokenBatch| self.learner.logprobs(&self.learner.weights, part);
            old = Some(self.by_micro_batch(batch, &|part| Ok(policy(part)?))?);
            timer.lap(Phase::Old);
        }
        let mut reference = None;
        if let Some(weights) = &self.reference {
            let frozen = |part: &TokenBatch| self.learner.logprobs(weights, part);
            reference = Some(self.by_micro_batch(batch, &|part| Ok(frozen(part)?))?);
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

    /// Log-probabilities of all rows, micro-batch by micro-batch.
    fn by_micro_batch(
        &self,
        batch: &TokenBatch,
        logprobs: &dyn Fn(&TokenBatch) -> Result<Logprobs>,
    ) -> Result<Logprobs> {
        let micro_batches = batch::micro_batches(batch, self.cut.micro_batches);
        let parts = micro_batches.iter().map(logprobs);
        Ok(parts.collect::<Result<Vec<_>>>()?.concat())
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

/// Prompt and completion tokens of all actions of a group.
fn tokens_of(group: &Group) -> u64 {
    let prompt = group.prompt.input_ids.len();
    let tokens = |scored: &ScoredAction| (prompt + scored.action.token_ids.len()) as u64;
    group.pool.iter().map(tokens).sum()
}
