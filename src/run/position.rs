//! Where a run stands: all that a checkpoint keeps besides weights and optimizer.

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Run;
use crate::data::dataset::Cursor;
use crate::run::folder::Checkpoint;
use crate::run::metrics::{MetricsWindow, TrainerState};

/// Where a run stands in its data.
#[derive(Debug, Clone)]
pub(crate) struct DataPosition {
    /// Which rows come next.
    pub cursor: Cursor,
    /// Generation batches that were learnt from.
    pub generations: u64,
    /// Generation batches of a replayed file that were used.
    pub replayed: usize,
}

/// Where a run stands.
#[derive(Debug)]
pub(crate) struct Position {
    /// transformers' trainer state.
    pub state: TrainerState,
    /// Which rows come next.
    pub data: DataPosition,
    /// Steps that wait to be logged.
    pub window: MetricsWindow,
    /// The losses of all steps, for their mean at the end.
    pub losses: MetricsWindow,
}

impl Position {
    /// The beginning of a run of `total` steps over `rows` rows.
    pub fn fresh(run: &Run, total: u64, rows: usize) -> Self {
        let state = TrainerState {
            max_steps: total,
            save_steps: run.output.save_steps.steps(total),
            logging_steps: run.output.logging_steps.steps(total),
            train_batch_size: run.batch.per_device_train_batch_size as u64,
            ..TrainerState::default()
        };
        Self {
            state,
            data: DataPosition {
                cursor: Cursor::new(rows, run.runtime.data_seed, run.data.shuffle_dataset),
                generations: 0,
                replayed: 0,
            },
            window: MetricsWindow::default(),
            losses: MetricsWindow::default(),
        }
    }

    /// Where `checkpoint` stands, with this run's length and intervals.
    ///
    /// # Errors
    /// If it cannot be resumed, or belongs to a data set of another size.
    pub fn resumed(self, checkpoint: &Checkpoint, rows: usize) -> Result<Self> {
        let saved = TrainerState::load(&checkpoint.path)?;
        if saved.global_step != checkpoint.step {
            bail!(
                "{}: its trainer_state.json is of step {}\nhint: give the folder its own name back, or resume from another checkpoint",
                checkpoint.path.display(),
                saved.global_step
            );
        }
        let cursor: Option<Cursor> = saved.restore("cursor")?;
        let cursor = cursor.context(
            "the checkpoint has no data position\nhint: it was saved with `save_only_model`; start afresh from it",
        )?;
        cursor.check(rows)?;
        Ok(Self {
            data: DataPosition {
                cursor,
                generations: saved.restore("generations")?.unwrap_or_default(),
                replayed: saved.restore("replayed")?.unwrap_or_default(),
            },
            window: saved.restore("window")?.unwrap_or_default(),
            losses: saved.restore("losses")?.unwrap_or_default(),
            state: TrainerState {
                max_steps: self.state.max_steps,
                save_steps: self.state.save_steps,
                logging_steps: self.state.logging_steps,
                train_batch_size: self.state.train_batch_size,
                ..saved
            },
        })
    }

    /// A part of the trainer as the checkpoint kept it, if it did.
    ///
    /// # Errors
    /// If what was kept is of another form.
    pub fn restore<T: DeserializeOwned>(&self, part: &str) -> Result<Option<T>> {
        Ok(self.state.restore(part)?)
    }

    /// Keeps a part of the trainer for the next checkpoint.
    ///
    /// # Errors
    /// If it has no JSON form.
    pub fn keep(&mut self, part: &str, state: &impl Serialize) -> Result<()> {
        Ok(self.state.keep(part, state)?)
    }

    /// Puts everything into the trainer state, which is what is written.
    ///
    /// # Errors
    /// Never in practice: all parts have a JSON form.
    pub fn keep_all(&mut self) -> Result<()> {
        self.state.keep("cursor", &self.data.cursor)?;
        self.state.keep("generations", &self.data.generations)?;
        self.state.keep("window", &self.window)?;
        self.state.keep("losses", &self.losses)?;
        Ok(self.state.keep("replayed", &self.data.replayed)?)
    }
}
