//! Builds the stages of a run, fresh or from a checkpoint; all that can be wrong is found before an earlier run is
//! touched.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::{Position, RUN_FILES, Trainer};
use crate::config::{IntervalStrategy, Resume, Run};
use crate::device::OpenDevice;
use crate::learner::Learner;
use crate::model::config::ModelConfig;
use crate::model::weights::Weights;
use crate::record::Example;
use crate::run::checkpoint::{self, Course};
use crate::run::folder::{Checkpoint, Mode, RunFolder};
use crate::run::metrics::{CompletionsLog, JsonLines, MetricsLog, Progress, Watchdog};
use crate::run::rollout_file::{self, RolloutRow};
use crate::run::setup;

/// [generation batch][prompt] rows.
type Replay = VecDeque<Vec<Vec<RolloutRow>>>;

impl Trainer {
    /// Builds every stage, fresh or from a checkpoint, and finds all that is wrong before anything is written.
    ///
    /// # Errors
    /// Whatever is wrong, with the remedy.
    pub fn open(run: Run) -> Result<Self> {
        let open = setup::open_device(&run.runtime.device)?;
        let (folder, checkpoint) = open_folder(&run)?;
        let start = || run.model.model_name_or_path.clone();
        let base = checkpoint
            .as_ref()
            .map_or_else(start, |found| found.path.clone());
        let config = ModelConfig::open(&base)?;
        let encoder = setup::open_encoder(&run, &base, config.text.max_position_embeddings)?;
        let suppressed = setup::suppressed(&run, &encoder, &config);
        let sampling = setup::sampling(&run, &encoder, suppressed.as_deref());
        let options = setup::learner_options(&run, suppressed, run.training_temperature());
        let mut learner = setup::load_learner(&base, options, &open)?;
        let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
        let examples = setup::load_dataset(&run, &file, &encoder, Some(folder.path()))?.examples;
        setup::check_training(&run, &config, &open, (&encoder, &examples))?;
        let teachers = setup::roster(&run, &open, &examples)?;
        let selection = setup::selection(&run);
        selection.check(run.group.num_generations, teachers.num_actions())?;
        let rewards = setup::rewards(&run)?;
        let evaluation = crate::run::evaluation::open_sets(&run, &encoder)?;
        let mut replay = replay(&run, &examples, config.text.vocab_size)?;
        let total = total_steps(&run, examples.len(), replay.as_ref().map(VecDeque::len))?;
        let reference = reference(&run, &learner, checkpoint.is_some(), &open)?;
        let mut position = Position::fresh(&run, total, examples.len());
        if let Some(checkpoint) = &checkpoint {
            position = position.resumed(checkpoint, examples.len())?;
            crate::run::checkpoint::restore_optimizer(
                &mut learner,
                &checkpoint.path,
                position.state.global_step,
                &open.device,
            )?;
        }
        check_space(&folder, &learner, &run, &position, examples.len())?;
        if let Some(replay) = &mut replay {
            replay.drain(..position.replayed.min(replay.len()));
        }
        let done = position.state.global_step;
        let resumed = checkpoint.is_some().then_some(done);
        let dump = open_dump(&run, resumed)?;
        // Nothing above this line touches an earlier run.
        folder.begin(&RUN_FILES)?;
        std::fs::write(folder.path().join("config.yaml"), run.to_yaml())
            .context("config.yaml cannot be written")?;
        let names = rewards.names().map(str::to_owned).collect();
        let label = run.output.run_name.as_deref().unwrap_or("train");
        Ok(Self {
            schedule: setup::schedule(&run, total),
            metrics: MetricsLog::open(folder.path(), resumed)?,
            completions: CompletionsLog::open(folder.path(), resumed, names)?,
            progress: Progress::start(label, total, done),
            advantages: setup::advantages(&run),
            external_ratio: setup::external_ratio(&run),
            pending: VecDeque::new(),
            seen_ahead: None,
            cursor_before: position.cursor.clone(),
            watchdog: Watchdog::new(None),
            started: std::time::Instant::now(),
            first_step: done,
            saved_step: done,
            run,
            open,
            learner,
            teachers,
            selection,
            encoder,
            examples,
            rewards,
            sampling,
            reference,
            base,
            folder,
            position,
            evaluation,
            replay,
            dump,
        })
    }
}

/// The run's folder, and the checkpoint to continue from, if it is to be continued.
///
/// # Errors
/// If the folder cannot be written, holds another run, or has no such checkpoint.
pub(crate) fn open_folder(run: &Run) -> Result<(RunFolder, Option<Checkpoint>)> {
    let output = &run.output;
    let mode = match (&output.resume_from_checkpoint, output.overwrite_output_dir) {
        (Resume::No, true) => Mode::Overwrite,
        (Resume::No, false) => Mode::Fresh,
        _ => Mode::Resume,
    };
    let folder = RunFolder::open(&output.output_dir, mode, output.save_total_limit)?;
    let checkpoint = match &output.resume_from_checkpoint {
        Resume::No => None,
        Resume::Last => Some(folder.resume_from(None)?),
        Resume::From(path) => Some(folder.resume_from(Some(path))?),
    };
    Ok((folder, checkpoint))
}

/// Makes sure that the disk has room for the checkpoints to come; `rows` of the data set make an epoch.
///
/// # Errors
/// If it has not, or cannot be measured.
pub(crate) fn check_space(
    folder: &RunFolder,
    learner: &Learner,
    run: &Run,
    position: &Position,
    rows: usize,
) -> Result<()> {
    let every = match run.output.save_strategy {
        IntervalStrategy::No => None,
        IntervalStrategy::Steps => Some(position.state.save_steps),
        IntervalStrategy::Epoch => Some(run.steps_per_epoch(rows)),
    };
    let course = Course {
        done: position.state.global_step,
        total: position.state.max_steps,
        every,
        existing: folder.checkpoints()?.len() as u64,
        limit: run.output.save_total_limit.map(|limit| limit as u64),
    };
    let base = &run.model.model_name_or_path;
    Ok(folder.check_space(checkpoint::planned_bytes(learner, run, base, &course))?)
}

fn replay(run: &Run, examples: &[Arc<Example>], vocabulary: usize) -> Result<Option<Replay>> {
    let Some(path) = run.output.replay_rollouts.as_deref() else {
        return Ok(None);
    };
    let accepted = rollout_file::Accepted {
        ids: examples.iter().map(|example| example.id.as_str()).collect(),
        vocabulary,
        max_completion_length: run.sampling.max_completion_length,
    };
    let steps = rollout_file::read(path, &accepted)?.into_iter();
    Ok(Some(
        steps
            .map(|rows| rollout_file::groups(rows, run.group.num_generations))
            .collect(),
    ))
}

fn open_dump(run: &Run, resumed: Option<u64>) -> Result<Option<JsonLines>> {
    let Some(path) = run.output.dump_rollouts.as_deref() else {
        return Ok(None);
    };
    Ok(Some(match resumed {
        None => JsonLines::create(path)?,
        Some(step) => JsonLines::resume(path, step)?,
    }))
}

/// Optimizer steps of the run; a replay is as long as its file at most.
fn total_steps(run: &Run, rows: usize, replayed: Option<usize>) -> Result<u64> {
    let Some(generations) = replayed else {
        return Ok(run.steps(rows)?);
    };
    let cuts = run
        .batch
        .steps_per_generation
        .div_ceil(run.batch.gradient_accumulation_steps);
    let available = (generations * cuts * run.loss.num_iterations) as u64;
    let wanted = u64::try_from(run.batch.max_steps).unwrap_or(available);
    if wanted > available {
        bail!(
            "`max_steps` is {wanted}, but `replay_rollouts` has rollouts for {available} steps\nhint: lower max_steps to {available} or record more"
        );
    }
    Ok(wanted)
}

/// The frozen start, if there is a KL term: handles to the same tensors on a fresh run, loaded again on a resumed one.
fn reference(
    run: &Run,
    learner: &Learner,
    resumed: bool,
    open: &OpenDevice,
) -> Result<Option<Weights>> {
    if run.loss.beta == 0.0 {
        return Ok(None);
    }
    if !resumed {
        return Ok(Some(learner.weights.clone()));
    }
    let start = &run.model.model_name_or_path;
    let weights = Weights::load(start, &open.device, open.max_buffer_bytes);
    weights.map(Some).with_context(|| {
        format!(
            "the KL term needs the start of the run, {}",
            start.display()
        )
    })
}
