//! What every run begins with: the device, the folder, and the model that is to learn, fresh or from a checkpoint.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;

use super::memory::{Sized, check_memory};
use super::{learner_options, open_device, open_encoder, open_policy, policy_place, suppressed};
use crate::config::{IntervalStrategy, Resume, Run};
use crate::data::prompt::PromptEncoder;
use crate::device::{MemoryWatch, OpenDevice};
use crate::learner::Learner;
use crate::model::config::ModelConfig;
use crate::record::Example;
use crate::run::checkpoint::{self, Course};
use crate::run::folder::{Checkpoint, Mode, RunFolder};
use crate::run::memory_plan::Work;
use crate::run::position::Position;

/// The part of the trainer state that tells whether the rows are the same.
const ROWS: &str = "rows_digest";

/// The stages that training and fine-tuning have in common.
pub(crate) struct Opening {
    /// Where it computes.
    pub device: OpenDevice,
    /// What it takes of memory, from before the model is loaded.
    pub memory: MemoryWatch,
    /// The run's folder, locked but not yet changed.
    pub folder: RunFolder,
    /// What is continued.
    pub checkpoint: Option<Checkpoint>,
    /// The model folder whose files beside the weights are the policy's: a checkpoint of a whole model, or the start.
    pub base: PathBuf,
    /// Its sizes.
    pub config: ModelConfig,
    /// Its prompts.
    pub encoder: PromptEncoder,
    /// [V] tokens that never get probability.
    pub suppressed: Option<Vec<bool>>,
    /// The policy.
    pub learner: Learner,
}

/// Opens them; `logprob_temperature` divides the logits in training.
///
/// # Errors
/// If the device, the run's folder, a checkpoint in it or the model does not serve.
pub(crate) fn open(run: &Run, logprob_temperature: f64) -> Result<Opening> {
    let device = open_device(&run.runtime.device)?;
    let memory = MemoryWatch::start(&device);
    let (folder, checkpoint) = open_folder(run)?;
    let path = checkpoint.as_ref().map(|found| found.path.as_path());
    let place = policy_place(run, path)?;
    let base = place.base.clone();
    let config = ModelConfig::open(&base)?;
    let encoder = open_encoder(run, &base, config.text.max_position_embeddings)?;
    let suppressed = suppressed(run, &encoder, &config);
    let options = learner_options(run, suppressed.clone(), logprob_temperature);
    Ok(Opening {
        learner: open_policy(run, &place, options, &device)?,
        device,
        memory,
        folder,
        checkpoint,
        base,
        config,
        encoder,
        suppressed,
    })
}

impl Opening {
    /// Says what the run will take of memory, and makes sure that its largest tensors fit.
    ///
    /// # Errors
    /// If one does not, or the picture of a row cannot be read.
    pub fn check_memory(&self, run: &Run, work: Work, examples: &[Arc<Example>]) -> Result<()> {
        let sized = Sized {
            run,
            work,
            config: &self.config,
            encoder: &self.encoder,
            examples,
        };
        check_memory(&sized, &self.device)
    }

    /// Where the run stands: at its beginning, or where its checkpoint was saved; the optimizer is then restored.
    ///
    /// # Errors
    /// If the checkpoint cannot be continued over these rows.
    pub fn position(
        &mut self,
        run: &Run,
        total: u64,
        examples: &[Arc<Example>],
    ) -> Result<Position> {
        let rows = super::rows_digest(examples);
        let mut fresh = Position::fresh(run, total, examples.len());
        fresh.keep(ROWS, &rows)?;
        let Some(found) = &self.checkpoint else {
            return Ok(fresh);
        };
        let mut position = fresh.resumed(found, examples.len())?;
        super::refuse_other_rows(run, position.restore(ROWS)?, rows)?;
        position.keep(ROWS, &rows)?;
        checkpoint::restore_optimizer(
            &mut self.learner,
            &found.path,
            position.state.global_step,
            &self.device.device,
        )?;
        Ok(position)
    }

    /// Makes sure that the disk has room for the checkpoints to come; `steps_per_pass` optimizer steps make an epoch.
    ///
    /// # Errors
    /// If it has not, or cannot be measured.
    pub fn check_space(&self, run: &Run, position: &Position, steps_per_pass: u64) -> Result<()> {
        let every = match run.output.save_strategy {
            IntervalStrategy::No => None,
            IntervalStrategy::Steps => Some(position.state.save_steps),
            IntervalStrategy::Epoch => Some(steps_per_pass),
        };
        let course = Course {
            done: position.state.global_step,
            total: position.state.max_steps,
            every,
            existing: self.folder.checkpoints()?.len() as u64,
            limit: run.output.save_total_limit.map(|limit| limit as u64),
        };
        let base = &run.model.model_name_or_path;
        let bytes = checkpoint::planned_bytes(&self.learner, run, base, &course);
        Ok(self.folder.check_space(bytes)?)
    }
}

/// The run's folder, and the checkpoint to continue from, if it is to be continued.
fn open_folder(run: &Run) -> Result<(RunFolder, Option<Checkpoint>)> {
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
    if let Some(checkpoint) = &checkpoint {
        super::refuse_changes(run, &checkpoint.path)?;
    }
    Ok((folder, checkpoint))
}
