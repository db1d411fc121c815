//! `dynamic_sampling`: prompts whose group gives no gradient make room for others of the data, before anything is learnt.
//! (DAPO, arXiv 2503.14476, section 3.2; the names and the limit are ms-swift's.)

use super::Trainer;
use crate::record::Group;
use crate::run::metrics::{StepMetrics, step_report};

/// What the rollouts of one generation batch have brought so far.
#[derive(Default)]
pub struct Rollouts {
    /// Groups with an advantage.
    useful: Vec<Group>,
    /// Groups whose advantages are all 0.
    flat: Vec<Group>,
    /// What asking the teachers took, by rollout.
    asked: Vec<StepMetrics>,
}

/// A whole generation batch.
pub(super) struct Chosen {
    /// [Q] groups to learn from.
    pub groups: Vec<Group>,
    /// Groups that are not learnt from.
    pub discarded: Vec<Group>,
    /// What it took.
    pub metrics: StepMetrics,
}

impl Trainer {
    /// Adds a rollout; whether another one is wanted, because too many of its groups give no gradient.
    pub fn wants_more(
        &self,
        rollouts: &mut Rollouts,
        groups: Vec<Group>,
        asked: StepMetrics,
    ) -> bool {
        rollouts.asked.push(asked);
        let keys = &self.run.group;
        if !keys.dynamic_sampling {
            rollouts.useful.extend(groups);
            return false;
        }
        let (flat, useful): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(is_flat);
        rollouts.useful.extend(useful);
        rollouts.flat.extend(flat);
        rollouts.useful.len() < self.run.prompts_per_generation()
            && rollouts.asked.len() <= keys.max_resample_times
    }

    /// Ends the rollouts of a generation batch. Groups that are too many are left out; where there are too few with a
    /// gradient, the first ones without fill up, so that a batch always has its size (ms-swift goes back to its first
    /// rollout instead).
    pub(super) fn take(&self, rollouts: Rollouts) -> Chosen {
        let Rollouts {
            mut useful,
            mut flat,
            asked,
        } = rollouts;
        let mut metrics = step_report::of_rollouts(&asked);
        if !self.run.group.dynamic_sampling {
            return Chosen {
                groups: useful,
                discarded: Vec::new(),
                metrics,
            };
        }
        metrics.insert("dynamic_sampling/rollouts", asked.len() as f64);
        metrics.insert("dynamic_sampling/flat_groups", flat.len() as f64);
        let wanted = self.run.prompts_per_generation();
        let filled = wanted.saturating_sub(useful.len()).min(flat.len());
        if filled > 0 {
            log::warn!(
                "step {}: {filled} of {wanted} groups give no gradient after {} further rollouts (`max_resample_times`)",
                self.next_step(),
                asked.len() - 1
            );
        }
        useful.extend(flat.drain(..filled));
        let mut discarded = useful.split_off(wanted.min(useful.len()));
        discarded.append(&mut flat);
        for group in &mut discarded {
            group.selected.clear();
            group.advantages.clear();
        }
        Chosen {
            groups: useful,
            discarded,
            metrics,
        }
    }
}

/// Whether nothing of a group moves the policy.
fn is_flat(group: &Group) -> bool {
    group.advantages.iter().all(|advantage| *advantage == 0.0)
}
