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
        rollouts.sort(groups);
        rollouts.useful.len() < self.run.prompts_per_generation()
            && rollouts.asked.len() <= keys.max_resample_times
    }

    /// Ends the rollouts of a generation batch.
    pub(super) fn take(&self, rollouts: Rollouts) -> Chosen {
        let mut metrics = step_report::of_rollouts(&rollouts.asked);
        if !self.run.group.dynamic_sampling {
            return Chosen {
                groups: rollouts.useful,
                discarded: Vec::new(),
                metrics,
            };
        }
        let (count, flat) = (rollouts.asked.len(), rollouts.flat.len());
        metrics.insert("dynamic_sampling/rollouts", count as f64);
        metrics.insert("dynamic_sampling/flat_groups", flat as f64);
        let wanted = self.run.prompts_per_generation();
        let (groups, discarded) = rollouts.filled(wanted);
        let idle = groups.iter().filter(|group| is_flat(group)).count();
        if idle > 0 {
            log::warn!(
                "step {}: {idle} of {wanted} groups give no gradient after {} further rollouts (`max_resample_times`)",
                self.next_step(),
                count - 1
            );
        }
        Chosen {
            groups,
            discarded,
            metrics,
        }
    }
}

impl Rollouts {
    /// Adds groups where they belong.
    fn sort(&mut self, groups: Vec<Group>) {
        let (flat, useful): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(is_flat);
        self.useful.extend(useful);
        self.flat.extend(flat);
    }

    /// `wanted` groups, and the others, of which nothing is selected any more. Groups with a gradient come first; where
    /// there are too few, the first ones without fill up, so that a batch always has its size (ms-swift goes back to its
    /// first rollout instead).
    fn filled(self, wanted: usize) -> (Vec<Group>, Vec<Group>) {
        let mut groups = self.useful;
        groups.extend(self.flat);
        let mut discarded = groups.split_off(wanted.min(groups.len()));
        for group in &mut discarded {
            group.selected.clear();
            group.advantages.clear();
        }
        (groups, discarded)
    }
}

/// Whether nothing of a group moves the policy.
fn is_flat(group: &Group) -> bool {
    group.advantages.iter().all(|advantage| *advantage == 0.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::{Example, Prompt};

    fn group(id: &str, advantages: &[f32]) -> Group {
        let example = Example {
            id: id.to_owned(),
            task: None,
            messages: Vec::new(),
            images: Vec::new(),
            solution: String::new(),
            cot: None,
            target: None,
            columns: serde_json::Map::new(),
            origin: String::new(),
        };
        let prompt = Prompt {
            id: id.to_owned(),
            rendered: String::new(),
            input_ids: vec![1],
            positions: vec![[0; 3]],
            rope_delta: 0,
            images: Vec::new(),
        };
        Group {
            example: Arc::new(example),
            prompt: Arc::new(prompt),
            pool: Vec::new(),
            selected: (0..advantages.len()).collect(),
            advantages: advantages.to_vec(),
        }
    }

    fn ids(groups: &[Group]) -> Vec<&str> {
        groups.iter().map(|group| &*group.example.id).collect()
    }

    /// Flat are equal rewards and groups of which nothing trains.
    fn rollouts() -> Rollouts {
        let mut rollouts = Rollouts::default();
        rollouts.sort(vec![group("a", &[0.0, 0.0]), group("b", &[1.0, -1.0])]);
        rollouts.sort(vec![group("c", &[]), group("d", &[0.5, -0.5])]);
        rollouts
    }

    #[test]
    fn groups_with_a_gradient_come_first_and_flat_ones_fill_up() {
        for (wanted, taken, left) in [
            (1, &["b"][..], &["d", "a", "c"][..]),
            (2, &["b", "d"], &["a", "c"]),
            (3, &["b", "d", "a"], &["c"]),
            (9, &["b", "d", "a", "c"], &[]),
        ] {
            let (groups, discarded) = rollouts().filled(wanted);
            assert_eq!(
                (ids(&groups).as_slice(), ids(&discarded).as_slice()),
                (taken, left)
            );
            assert!(discarded.iter().all(|group| group.selected.is_empty()));
            let trains = groups.iter().find(|group| group.example.id == "b");
            assert_eq!(trains.expect("it has a gradient").selected, [0, 1]);
        }
    }
}
