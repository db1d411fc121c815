//! The whole plan: all parts, and the phase in which they are largest.

use serde::Serialize;

use super::bytes::times;
use super::part::{Part, Phase};
use super::parts;
use super::settings::{Settings, Work};

/// The memory of a run from its second step on, when everything that it keeps is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// What the run does.
    pub phases: Vec<Phase>,
    /// What takes memory at all.
    pub parts: Vec<Part>,
    /// What a step reads and writes.
    pub tokens: StepTokens,
}

/// Tokens of one step at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StepTokens {
    /// Drawn by the policy in one generation batch.
    pub sampled: u64,
    /// That go through the layers at once in the update, prompts included.
    pub micro_batch: u64,
    /// Completion tokens that one optimizer step learns from.
    pub learnt: u64,
}

impl MemoryPlan {
    /// The plan of a run.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let mut parts = parts::of(settings);
        parts.retain(|part| part.bytes.iter().any(|bytes| *bytes > 0));
        let tokens = settings.completion_tokens as u64;
        let takes_place = |phase: &Phase| match phase {
            Phase::Loading | Phase::Backward | Phase::Update | Phase::Saving => true,
            Phase::Sampling => settings.work == Work::Training,
            Phase::Teachers => !settings.teachers.is_empty(),
            Phase::Scoring => settings.scores,
        };
        Self {
            phases: Phase::ALL.into_iter().filter(takes_place).collect(),
            parts,
            tokens: StepTokens {
                sampled: times([settings.completions(), settings.completion_tokens]),
                micro_batch: settings.update_tokens() as u64,
                learnt: times([settings.rows(), settings.accumulation]).saturating_mul(tokens),
            },
        }
    }

    /// Bytes of all parts in one phase.
    #[must_use]
    pub fn of(&self, phase: Phase) -> u64 {
        let bytes = self.parts.iter().map(|part| part.of(phase));
        bytes.fold(0, u64::saturating_add)
    }

    /// The largest phase and its bytes.
    #[must_use]
    pub fn peak(&self) -> (Phase, u64) {
        let mut peak = (Phase::Loading, 0);
        for phase in &self.phases {
            let (phase, bytes) = (*phase, self.of(*phase));
            if bytes > peak.1 {
                peak = (phase, bytes);
            }
        }
        peak
    }
}
