//! The names of the built-in reward functions; knows nothing of how they are computed.

/// A built-in reward function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RewardFunction {
    /// The accuracy of the example's task: [`super::accuracy_reward`], or the task's form of
    /// [`super::function_sequence_reward`].
    Accuracy,
    /// The format of the example's task: [`super::format_reward`], or [`super::full_caption_format_reward`].
    Format,
    /// [`super::math_accuracy_reward`]; not applicable to transformation tasks.
    MathAccuracy,
    /// [`super::function_sequence_reward`] with [`super::Credit::PARTIAL`];
    /// not applicable to counting and structure tasks.
    Trance,
    /// [`super::function_sequence_reward`] with [`super::Credit::ONLY_FULL`];
    /// not applicable to counting and structure tasks.
    TranceOnlyFull,
    /// [`super::function_sequence_reward`] with [`super::Credit::PENALTY`];
    /// not applicable to counting and structure tasks.
    TrancePenalty,
    /// [`super::think_format_reward`].
    ThinkFormat,
    /// [`super::soft_overlong_punishment`].
    SoftOverlongPunishment,
    /// [`super::cosine_reward`].
    Cosine,
    /// [`super::repetition_penalty`].
    RepetitionPenalty,
    /// [`super::length_reward`].
    Length,
    /// [`super::reason_reward`].
    Reason,
}

impl RewardFunction {
    /// Every function, in the order of the conventions.
    pub const ALL: [Self; 12] = [
        Self::Accuracy,
        Self::Format,
        Self::MathAccuracy,
        Self::Trance,
        Self::TranceOnlyFull,
        Self::TrancePenalty,
        Self::ThinkFormat,
        Self::SoftOverlongPunishment,
        Self::Cosine,
        Self::RepetitionPenalty,
        Self::Length,
        Self::Reason,
    ];

    /// The name in `reward_funcs` and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Format => "format",
            Self::MathAccuracy => "math_accuracy",
            Self::Trance => "trance",
            Self::TranceOnlyFull => "trance-only-full",
            Self::TrancePenalty => "trance-penalty",
            Self::ThinkFormat => "think_format_reward",
            Self::SoftOverlongPunishment => "soft_overlong_punishment",
            Self::Cosine => "cosine",
            Self::RepetitionPenalty => "repetition_penalty",
            Self::Length => "length",
            Self::Reason => "reason",
        }
    }

    /// The function of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|function| function.name() == name)
    }

    /// Whether the value says how right the answer is, so that it can decide whether an action passes.
    #[must_use]
    pub const fn measures_accuracy(self) -> bool {
        matches!(
            self,
            Self::Accuracy
                | Self::MathAccuracy
                | Self::Trance
                | Self::TranceOnlyFull
                | Self::TrancePenalty
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_round_trip() {
        for function in RewardFunction::ALL {
            assert_eq!(RewardFunction::from_name(function.name()), Some(function));
        }
        assert_eq!(RewardFunction::from_name("acuracy"), None);
    }
}
