//! What the built-in reward functions are as a kind; knows nothing of how they are computed.

use crate::options::RewardFunction;

impl RewardFunction {
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
