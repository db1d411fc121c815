//! What to reward, and what can be wrong with that; knows nothing of how a value comes about.

use super::length::CharacterRange;
use super::process::{ProcessError, ProcessOptions};
use crate::options::RewardFunction;

/// What a score depends on besides the completion and its example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreContext {
    /// Optimizer step, from 0.
    pub step: usize,
    /// Most tokens a completion may have.
    pub max_completion_length: usize,
    /// Shortest and longest completion of the batch, for the `length` reward; `None` makes it not applicable.
    pub characters: Option<CharacterRange>,
}

/// Where one reward comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RewardSource {
    /// A function of ours.
    BuiltIn(RewardFunction),
    /// A program of the user's.
    Process(ProcessOptions),
}

impl RewardSource {
    /// The name in `reward_funcs` and in metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::BuiltIn(function) => function.name(),
            Self::Process(options) => &options.name,
        }
    }
}

/// What to reward.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardOptions {
    /// Rewards, in the order in which their values are reported.
    pub sources: Vec<RewardSource>,
    /// One weight per reward.
    pub weights: Vec<f32>,
    /// Accuracy from which an action passes.
    pub pass_threshold: f32,
    /// Tokens before `max_completion_length` at which [`super::soft_overlong_punishment`] sets in; `None`: a fifth of it, as
    /// in the DAPO paper (4096 of 20,480).
    pub soft_punish_cache: Option<usize>,
}

impl RewardOptions {
    /// These rewards with weight 1 and `pass_threshold` 1.
    #[must_use]
    pub fn new(sources: Vec<RewardSource>) -> Self {
        let weights = vec![1.0; sources.len()];
        Self {
            sources,
            weights,
            pass_threshold: 1.0,
            soft_punish_cache: None,
        }
    }
}

/// Rewards that cannot be used or had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RewardError {
    /// Nothing to reward.
    #[error("`reward_funcs` is empty\nhint: name at least one, for example [accuracy, format]")]
    NoFunctions,
    /// A weight too many or too few.
    #[error(
        "`reward_weights` has {weights} values for {functions} `reward_funcs`\nhint: give one weight per function, or leave `reward_weights` out"
    )]
    WeightCount {
        /// Weights given.
        weights: usize,
        /// Functions named.
        functions: usize,
    },
    /// A weight that makes every sum meaningless.
    #[error("`reward_weights` holds {weight} for `{function}`\nhint: use finite numbers")]
    Weight {
        /// The weight.
        weight: f32,
        /// Its function.
        function: String,
    },
    /// The same name twice.
    #[error("`reward_funcs` names `{0}` twice\nhint: name it once and raise its weight")]
    Duplicate(String),
    /// A threshold that no comparison can use.
    #[error("`pass_threshold` is {0}\nhint: use a number, 1.0 for an entirely right answer")]
    Threshold(f32),
    /// A program without usable rewards.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// Whether the rewards can be told apart and summed.
///
/// # Errors
/// [`RewardError`] where they cannot.
pub(super) fn check(sources: &[RewardSource], weights: &[f32]) -> Result<(), RewardError> {
    if sources.is_empty() {
        return Err(RewardError::NoFunctions);
    }
    if sources.len() != weights.len() {
        return Err(RewardError::WeightCount {
            weights: weights.len(),
            functions: sources.len(),
        });
    }
    for (index, (source, &weight)) in sources.iter().zip(weights).enumerate() {
        let name = source.name();
        if !weight.is_finite() {
            let function = name.to_owned();
            return Err(RewardError::Weight { weight, function });
        }
        if sources[..index]
            .iter()
            .any(|earlier| earlier.name() == name)
        {
            return Err(RewardError::Duplicate(name.to_owned()));
        }
    }
    Ok(())
}
