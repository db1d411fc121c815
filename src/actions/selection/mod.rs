//! Decides which prompts ask for external actions ([`gate()`]) and which actions of a pool train ([`choose`]); knows
//! nothing of how actions were made or scored, nor of what follows from the choice.
//!
//! Method: sections 2.1, 2.2 and 2.4.

mod choice;
mod gate;

pub use choice::choose;
pub use gate::gate;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use crate::options::{ExternalSchedule, ExternalWhen, ScheduleShape, Selection, SelectionTies};
use crate::seed::fnv1a;

/// How a pool becomes a group.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectionOptions {
    /// The rule.
    pub selection: Selection,
    /// The order among equals.
    pub ties: SelectionTies,
    /// Actions per prompt that enter the loss (G).
    pub group_size: usize,
    /// Most actions that [`Selection::ReplaceWorstIfAllWrong`] replaces.
    pub replace_max: usize,
    /// Most external actions among the selected ones, as a share of them.
    pub max_external_fraction: f64,
    /// Which prompts ask for external actions.
    pub external_when: ExternalWhen,
}

/// Where the randomness of a step comes from: the same key always gives the same gate and the same ties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepKey {
    /// The run's seed.
    pub seed: u64,
    /// Optimizer step, from 0.
    pub step: u64,
}

impl StepKey {
    /// A generator of its own for each prompt and purpose.
    fn generator(self, prompt_id: &str, purpose: Purpose) -> ChaCha8Rng {
        let mut seed = [0; 32];
        let words = [
            self.seed,
            self.step,
            fnv1a(prompt_id.bytes()),
            purpose as u64,
        ];
        for (bytes, word) in seed.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(seed)
    }
}

/// What a draw decides.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    Gate = 1,
    Ties = 2,
}

/// Selection options that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SelectionError {
    /// More actions wanted than there can be.
    #[error(
        "`group_size` is {group_size}, but a prompt has at most {pool} actions: {num_generations} of the policy and \
         {external} external\nhint: lower `group_size` to {pool} or below, or raise `num_generations`"
    )]
    GroupTooLarge {
        /// G.
        group_size: usize,
        /// N + Σ n.
        pool: usize,
        /// N.
        num_generations: usize,
        /// Σ n.
        external: usize,
    },
    /// Too few actions for a group statistic.
    #[error(
        "`group_size` is {0}; group-relative advantages need at least 2\nhint: raise it; 8 is the default"
    )]
    GroupTooSmall(usize),
    /// A replacement rule that replaces nothing.
    #[error(
        "`replace_max` is 0, so `selection: replace_worst_if_all_wrong` would never replace an action\nhint: use 1 or more"
    )]
    ReplaceNothing,
    /// A number of `external_when` outside its range.
    #[error("`external_when.{key}` is {value}, expected {expected}\nhint: {hint}")]
    Gate {
        /// The key below `external_when`.
        key: &'static str,
        /// What it holds.
        value: f64,
        /// What it may hold.
        expected: &'static str,
        /// What to do.
        hint: &'static str,
    },
}

impl SelectionOptions {
    /// Checks the options against the sizes of a run: `num_generations` policy actions and `external` external actions
    /// per prompt.
    ///
    /// # Errors
    /// [`SelectionError`] names the key, the value and the bound.
    pub fn check(&self, num_generations: usize, external: usize) -> Result<(), SelectionError> {
        let (group_size, pool) = (self.group_size, num_generations + external);
        // `all` ignores the group size.
        if self.selection != Selection::All {
            if group_size < 2 {
                return Err(SelectionError::GroupTooSmall(group_size));
            }
            if group_size > pool {
                return Err(SelectionError::GroupTooLarge {
                    group_size,
                    pool,
                    num_generations,
                    external,
                });
            }
        }
        if self.selection == Selection::ReplaceWorstIfAllWrong && self.replace_max == 0 {
            return Err(SelectionError::ReplaceNothing);
        }
        self.external_when.check()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::record::{Action, Example, FinishReason, Group, Prompt, ScoredAction, Source};

    /// A group with these rewards; an action passes with an accuracy of 2 or more.
    pub(super) fn group(id: &str, policy: &[f32], external: &[f32]) -> Group {
        let sources = [
            (Source::Policy, policy),
            (Source::External(Arc::from("expert")), external),
        ];
        let pool = sources.into_iter().flat_map(|(source, rewards)| {
            rewards
                .iter()
                .map(move |&reward| scored(source.clone(), reward))
                .collect::<Vec<_>>()
        });
        Group {
            example: Arc::new(Example {
                id: id.to_owned(),
                task: None,
                messages: Vec::new(),
                images: Vec::new(),
                solution: String::new(),
                cot: None,
                target: None,
                columns: serde_json::Map::new(),
                origin: "rows.jsonl:1".to_owned(),
            }),
            prompt: Arc::new(Prompt {
                id: id.to_owned(),
                rendered: String::new(),
                input_ids: vec![1],
                positions: vec![[0; 3]],
                rope_delta: 0,
                images: Vec::new(),
            }),
            pool: pool.collect(),
            selected: Vec::new(),
            advantages: Vec::new(),
        }
    }

    fn scored(source: Source, reward: f32) -> ScoredAction {
        let action = Action {
            source,
            token_ids: vec![1],
            text: String::new(),
            sampling_logprobs: None,
            external_logprobs: None,
            external_logprob_sum: None,
            old_logprobs: None,
            finish: FinishReason::Stop,
        };
        // NaN stands for an action without a reward.
        let value = (!reward.is_nan()).then_some(reward);
        ScoredAction {
            action,
            rewards: vec![value],
            reward: value,
            passes: reward >= 2.0,
        }
    }

    pub(super) fn options() -> SelectionOptions {
        SelectionOptions {
            selection: Selection::TopReward,
            ties: SelectionTies::Policy,
            group_size: 8,
            replace_max: 1,
            max_external_fraction: 1.0,
            external_when: ExternalWhen::Always,
        }
    }

    pub(super) const KEY: StepKey = StepKey { seed: 42, step: 3 };

    #[test]
    fn sizes_are_checked_against_the_pool() {
        assert_eq!(options().check(8, 2), Ok(()));
        assert_eq!(options().check(8, 0), Ok(()));
        let message = options().check(4, 2).expect_err("too large").to_string();
        assert!(message.contains(
            "`group_size` is 8, but a prompt has at most 6 actions: 4 of the policy and 2 external"
        ));
        let small = SelectionOptions {
            group_size: 1,
            ..options()
        };
        assert_eq!(small.check(8, 2), Err(SelectionError::GroupTooSmall(1)));
        let all = SelectionOptions {
            selection: Selection::All,
            group_size: 99,
            ..options()
        };
        assert_eq!(all.check(7, 1), Ok(()));
        let replace = SelectionOptions {
            selection: Selection::ReplaceWorstIfAllWrong,
            replace_max: 0,
            ..options()
        };
        assert_eq!(replace.check(8, 1), Err(SelectionError::ReplaceNothing));
    }
}
