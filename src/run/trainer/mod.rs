//! A run in progress: all its stages, the step it is at, and the small moves that the loop in [`crate::run::train`] is made
//! of.
//!
//! Knows nothing of how a stage works inside.

mod actions;
mod cut;
mod end;
mod open;
mod plan;
mod reference;
mod resample;
mod step;

use std::collections::VecDeque;
use std::sync::Arc;

pub use cut::{Cut, Part};
pub use resample::Rollouts;

use crate::actions::advantage::AdvantageOptions;
use crate::actions::external_ratio::ExternalRatioOptions;
use crate::actions::generator::SamplingParameters;
use crate::actions::reward::Rewards;
use crate::actions::selection::{SelectionOptions, StepKey};
use crate::actions::teacher::Roster;
use crate::config::Run;
use crate::data::prompt::PromptEncoder;
use crate::device::OpenDevice;
use crate::learner::batch::LossWeightOptions;
use crate::learner::optimizer::schedule::Schedule;
use crate::learner::{Learner, MicroBatchResult};
use crate::model::parameters::Weights;
use crate::record::{Example, Group, Prompt, TokenBatch};
use crate::run::evaluation::EvaluationSet;
use crate::run::metrics::{CompletionsLog, JsonLines, StepMetrics, Watchdog};
use crate::run::position::DataPosition;
use crate::run::rollout_file::RolloutRow;
use crate::run::state::RunState;
use crate::run::stop;

/// What one rollout gives to learn from.
pub struct GenerationBatch {
    /// `steps_per_generation` of them, in order.
    micro_batches: Vec<TokenBatch>,
    /// [micro-batch][row][token] shares of the loss in a step of the usual size.
    weights: Vec<Vec<Vec<f32>>>,
    /// What the shares depend on.
    loss: LossWeightOptions,
    /// What sampling and selection gave.
    metrics: StepMetrics,
    /// The groups behind it.
    groups: Vec<Group>,
    cut: Cut,
    generation: u64,
    /// Optimizer steps before the run ends.
    steps_left: u64,
}

impl GenerationBatch {
    /// What each optimizer step takes of it, up to the last step of the run.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        let mut left = self.steps_left;
        self.cut.parts(self.generation).take_while(move |part| {
            let wanted = left > 0;
            left -= u64::from(wanted && part.completes);
            wanted
        })
    }
}

/// The prompts of the generation batch that comes next.
struct SeenAhead {
    /// Where the data stand after them.
    cursor: crate::data::dataset::Cursor,
    examples: Vec<Arc<Example>>,
    prompts: Vec<Arc<Prompt>>,
}

/// A run in progress.
pub struct Trainer {
    /// The configuration.
    pub run: Run,
    /// Where it computes.
    pub open: OpenDevice,
    /// The policy and its optimizer.
    pub learner: Learner,
    /// Who else acts.
    pub teachers: Roster,
    /// How pools become groups.
    pub selection: SelectionOptions,
    /// How rewards become advantages.
    pub advantages: AdvantageOptions,
    /// How external tokens are learnt from.
    pub external_ratio: ExternalRatioOptions,
    /// The learning rate.
    pub schedule: Schedule,
    encoder: PromptEncoder,
    examples: Vec<Arc<Example>>,
    rewards: Rewards,
    sampling: SamplingParameters,
    reference: Option<Weights>,
    cut: Cut,
    state: RunState,
    completions: CompletionsLog,
    watchdog: Watchdog,
    evaluation: Vec<EvaluationSet>,
    /// [generation batch][prompt] rows of a replayed file that are still to come.
    replay: Option<VecDeque<Vec<Vec<RolloutRow>>>>,
    dump: Option<JsonLines>,
    seen_ahead: Option<SeenAhead>,
    /// Where the data stood before the generation batch at hand.
    before: DataPosition,
    /// Rollouts since the last optimizer step.
    rollouts: u64,
    /// Tokens of these.
    new_tokens: u64,
    /// Micro-batches of a step that the next generation batch completes.
    carried: Vec<(TokenBatch, MicroBatchResult)>,
}

impl Trainer {
    /// The optimizer step to come, counted from 1.
    const fn next_step(&self) -> u64 {
        self.state.step() + 1
    }

    /// Whether another generation batch is to be made.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        // What was learnt since the newest checkpoint is never lost: the generation batch that is to come will save.
        let stopped = stop::is_requested() && self.state.is_saved();
        let replayed = self.replay.as_ref().is_some_and(VecDeque::is_empty);
        !self.state.is_at_end() && !stopped && !replayed
    }

    /// Where the randomness of the step to come is from.
    #[must_use]
    pub const fn key(&self) -> StepKey {
        StepKey {
            seed: self.run.runtime.seed,
            step: self.state.step(),
        }
    }
}
