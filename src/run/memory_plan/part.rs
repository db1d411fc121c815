//! What fills memory, and when.

use serde::Serialize;

/// What a run does with the memory, one after the other; all but the first in every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Weights out of files.
    Loading,
    /// The policy's own completions.
    Sampling,
    /// Actions of local external models.
    Teachers,
    /// Log-probabilities that the loss compares with: the reference's, the old ones.
    Scoring,
    /// Forward and backward of a micro-batch.
    Backward,
    /// The optimizer's step.
    Update,
    /// A checkpoint.
    Saving,
}

impl Phase {
    /// All, in their order.
    pub const ALL: [Self; 7] = [
        Self::Loading,
        Self::Sampling,
        Self::Teachers,
        Self::Scoring,
        Self::Backward,
        Self::Update,
        Self::Saving,
    ];

    /// The word in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Sampling => "sampling",
            Self::Teachers => "teachers",
            Self::Scoring => "scoring",
            Self::Backward => "backward",
            Self::Update => "update",
            Self::Saving => "saving",
        }
    }
}

/// What fills memory, and how much of it in each phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// What it is.
    pub what: &'static str,
    /// Bytes, in the order of [`Phase::ALL`].
    pub bytes: [u64; Phase::ALL.len()],
}

impl Part {
    /// Bytes in the phases that `during` accepts.
    pub(super) fn new(what: &'static str, bytes: u64, during: impl Fn(Phase) -> bool) -> Self {
        Self {
            what,
            bytes: Phase::ALL.map(|phase| if during(phase) { bytes } else { 0 }),
        }
    }

    pub(super) fn empty(what: &'static str) -> Self {
        Self::new(what, 0, |_| false)
    }

    /// Bytes in one phase.
    #[must_use]
    pub const fn of(&self, phase: Phase) -> u64 {
        self.bytes[phase as usize]
    }

    pub(super) fn at(mut self, phase: Phase, bytes: u64) -> Self {
        self.bytes[phase as usize] = bytes;
        self
    }
}
