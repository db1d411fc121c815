//! A run in progress: all its stages, the step it is at, and the small moves that the loop in [`crate::run::train`] is made
//! of.
//!
//! Knows nothing of how a stage works inside.

mod actions;
mod open;
mod plan;
mod position;
mod step;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::actions::advantage::AdvantageOptions;
use crate::actions::external_ratio::ExternalRatioOptions;
use crate::actions::generator::SamplingParameters;
use crate::actions::reward::Rewards;
use crate::actions::selection::{SelectionOptions, StepKey};
use crate::actions::teacher::Roster;
use crate::config::Run;
use crate::data::dataset::Cursor;
use crate::data::prompt::PromptEncoder;
use crate::device::OpenDevice;
use crate::learner::Learner;
use crate::learner::optimizer::schedule::Schedule;
use crate::model::weights::Weights;
use crate::record::{Example, Group, Prompt, TokenBatch};
use crate::run::evaluation::EvaluationSet;
use crate::run::folder::RunFolder;
use crate::run::metrics::{CompletionsLog, JsonLines, MetricsLog, Progress, StepMetrics, Watchdog};
use crate::run::rollout_file::RolloutRow;

pub(crate) use open::{check_space, open_folder};
pub(crate) use position::Position;

/// Set by Ctrl-C: the run saves a checkpoint at the next whole step and ends.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Files of a run besides its checkpoints.
pub const RUN_FILES: [&str; 4] = [
    "metrics.jsonl",
    "completions.jsonl",
    "trainer_state.json",
    "config.yaml",
];

/// What one optimizer step learns from.
#[derive(Debug, Clone)]
pub struct Work {
    /// Its micro-batches.
    pub batches: Vec<TokenBatch>,
    /// [micro-batch][row][token] shares of the loss.
    pub weights: Vec<Vec<Vec<f32>>>,
    /// What sampling and selection gave.
    pub metrics: Arc<StepMetrics>,
    /// The groups behind it.
    pub groups: Arc<Vec<Group>>,
    /// Whether the weights are still those that sampled.
    pub fresh: bool,
}

/// The prompts of the generation batch that comes next.
struct SeenAhead {
    /// Where the data stand after them.
    cursor: Cursor,
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
    /// Work of the generation batch at hand that is not done yet.
    pub pending: VecDeque<Work>,
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
    base: PathBuf,
    folder: RunFolder,
    metrics: MetricsLog,
    completions: CompletionsLog,
    position: Position,
    watchdog: Watchdog,
    progress: Progress,
    evaluation: Vec<EvaluationSet>,
    /// [generation batch][prompt] rows of a replayed file that are still to come.
    replay: Option<VecDeque<Vec<Vec<RolloutRow>>>>,
    dump: Option<JsonLines>,
    seen_ahead: Option<SeenAhead>,
    /// Where the data stood before the rows of the step at hand.
    cursor_before: Cursor,
    started: std::time::Instant,
    first_step: u64,
    /// The step of the newest checkpoint.
    saved_step: u64,
}

impl Trainer {
    /// Optimizer steps that one generation batch lasts.
    fn steps_per_generation_batch(&self) -> u64 {
        let cuts = self
            .run
            .batch
            .steps_per_generation
            .div_ceil(self.run.batch.gradient_accumulation_steps);
        (cuts * self.run.loss.num_iterations) as u64
    }

    /// The next optimizer step, counted from 1, if there is one and nobody asked to stop.
    #[must_use]
    pub fn next_step(&self) -> Option<u64> {
        let step = self.position.state.global_step;
        // What was learnt since the newest checkpoint is never lost: the step that is to come will save.
        let stopped = STOP.load(Ordering::SeqCst) && self.saved_step == step;
        let replayed = self.replay.as_ref().is_some_and(VecDeque::is_empty);
        let ended = (stopped || replayed) && self.pending.is_empty();
        (step < self.position.state.max_steps && !ended).then_some(step + 1)
    }

    /// Where this step's randomness comes from.
    #[must_use]
    pub const fn key(&self, step: u64) -> StepKey {
        StepKey {
            seed: self.run.runtime.seed,
            step: step - 1,
        }
    }
}
