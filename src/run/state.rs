//! What a run in progress has besides its model and its data: its place, its folder and its logs; training and supervised
//! fine-tuning share it. Knows nothing of how a step is made.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use crate::config::{EvaluationKeys, IntervalStrategy, Run};
use crate::device::{MemoryPeaks, MemoryWatch};
use crate::learner::Learner;
use crate::run::checkpoint;
use crate::run::folder::{RUN_FILES, RunFolder};
use crate::run::metrics::{LoggedStep, MetricsLog, Progress, StepMetrics};
use crate::run::position::Position;

/// Whether a step's metrics were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logged {
    /// They were, with those of the steps before it that waited.
    Now,
    /// They wait for a later step.
    Later,
}

/// A run in progress.
pub(crate) struct RunState {
    /// Where it stands.
    pub position: Position,
    folder: RunFolder,
    /// The folder whose files beside the weights go into every checkpoint.
    base: PathBuf,
    metrics: MetricsLog,
    progress: Progress,
    /// The step of the newest checkpoint.
    saved_step: u64,
    first_step: u64,
    started: Instant,
    memory: MemoryWatch,
    steps_per_pass: u64,
    save_strategy: IntervalStrategy,
    save_only_model: bool,
    logging_first_step: bool,
}

/// What a run goes on from.
pub(crate) struct Beginning {
    /// What is taken of memory.
    pub memory: MemoryWatch,
    /// The run's folder, locked.
    pub folder: RunFolder,
    /// The folder whose files beside the weights go into every checkpoint.
    pub base: PathBuf,
    /// Whether a checkpoint is continued.
    pub resumes: bool,
    /// Where it stands.
    pub position: Position,
    /// Optimizer steps of a pass over the data.
    pub steps_per_pass: u64,
}

impl RunState {
    /// Takes the folder over: everything that could be wrong with the run has been found, and only now is an earlier run
    /// touched.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn begin(run: &Run, beginning: Beginning, label: &str) -> Result<Self> {
        let Beginning {
            memory,
            folder,
            base,
            resumes,
            position,
            steps_per_pass,
        } = beginning;
        let (done, total) = (position.state.global_step, position.state.max_steps);
        folder.begin(&RUN_FILES)?;
        folder.write("config.yaml", &run.to_yaml())?;
        let label = run.output.run_name.as_deref().unwrap_or(label);
        Ok(Self {
            metrics: MetricsLog::open(folder.path(), resumes.then_some(done))?,
            progress: Progress::start(label, total, done),
            position,
            folder,
            base,
            saved_step: done,
            first_step: done,
            started: Instant::now(),
            memory,
            steps_per_pass: steps_per_pass.max(1),
            save_strategy: run.output.save_strategy,
            save_only_model: run.output.save_only_model,
            logging_first_step: run.output.logging_first_step,
        })
    }

    /// The run's folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Optimizer steps done.
    pub const fn step(&self) -> u64 {
        self.position.state.global_step
    }

    /// Whether the last step is done.
    pub const fn is_at_end(&self) -> bool {
        self.step() >= self.position.state.max_steps
    }

    /// Whether there is no step after the newest checkpoint, or after the start.
    pub const fn is_saved(&self) -> bool {
        self.saved_step == self.step()
    }

    /// Whether the policy is to be evaluated after the step that was just done.
    ///
    /// `eval_delay` counts steps with `eval_strategy: steps` and passes with `epoch` (transformers `DefaultFlowCallback`).
    pub fn is_evaluation_due(&self, keys: &EvaluationKeys) -> bool {
        let (step, state) = (self.step(), &self.position.state);
        match keys.eval_strategy {
            IntervalStrategy::No => false,
            IntervalStrategy::Steps => {
                step.is_multiple_of(keys.eval_steps.steps(state.max_steps))
                    && keys.eval_delay <= step as f64
            }
            IntervalStrategy::Epoch => {
                step.is_multiple_of(self.steps_per_pass)
                    && keys.eval_delay <= (step / self.steps_per_pass) as f64
            }
        }
    }

    /// Whether the policy is to be evaluated before the first step. A run that is taken up again is past that.
    pub fn is_evaluation_due_at_start(&self, keys: &EvaluationKeys) -> bool {
        keys.eval_on_start && self.step() == 0
    }

    /// Whether a checkpoint is due: by strategy at any step since the newest one, or because the run is at its end.
    pub fn is_save_due(&self) -> bool {
        let every = match self.save_strategy {
            IntervalStrategy::No => u64::MAX,
            IntervalStrategy::Steps => self.position.state.save_steps.max(1),
            IntervalStrategy::Epoch => self.steps_per_pass,
        };
        let passed = self.step() / every > self.saved_step / every;
        !self.is_saved() && (passed || self.is_at_end())
    }

    /// Counts a step as done and logs it if it is one to be logged.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn finish_step(&mut self, mut metrics: StepMetrics, shown: &str) -> Result<Logged> {
        record(&self.memory.peaks(), &mut metrics);
        let mut loss = StepMetrics::new();
        loss.insert("loss", metrics.get("loss").unwrap_or(f64::NAN));
        self.position.losses.push(loss);
        self.position.window.push(metrics);
        self.progress.advance(shown);
        let due = self
            .step()
            .is_multiple_of(self.position.state.logging_steps)
            || self.is_at_end()
            || (self.logging_first_step && self.step() == 1);
        if !due {
            return Ok(Logged::Later);
        }
        self.flush()?;
        Ok(Logged::Now)
    }

    /// Logs the steps that wait.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        if self.position.window.is_empty() {
            return Ok(());
        }
        let metrics = self.position.window.take();
        self.log(metrics)
    }

    /// A row of the log, and of the trainer state, at the step that was done last.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn log(&mut self, metrics: StepMetrics) -> Result<()> {
        let step = self.step();
        let row = LoggedStep { step, metrics };
        self.metrics.write(&row)?;
        self.position.state.log_history.push(row);
        Ok(())
    }

    /// A row of the log for a step that was not done: no checkpoint knows of it.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn log_refused(&mut self, step: u64, metrics: StepMetrics) -> Result<()> {
        self.flush()?;
        Ok(self.metrics.write(&LoggedStep { step, metrics })?)
    }

    /// Saves a checkpoint of the step that was done last; `more` adds to its folder.
    ///
    /// # Errors
    /// If it cannot be written; earlier checkpoints stay usable.
    pub fn save(&mut self, learner: &Learner, more: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
        self.metrics.sync()?;
        self.position.keep_all()?;
        let (base, state) = (&self.base, &self.position.state);
        let model_only = self.save_only_model;
        let saved = self
            .folder
            .save_checkpoint(state.global_step, |folder: &Path| {
                checkpoint::save(learner, base, state, folder, model_only)?;
                more(folder)
            })?;
        self.saved_step = self.step();
        // `save_total_limit` may take the checkpoint away that the run was resumed from.
        if !self.base.exists() {
            self.base = saved.path;
        }
        Ok(self.position.state.save(self.folder.path())?)
    }

    /// After an error that ends the run by rule: logs the steps that wait and saves what they taught, so that only the step
    /// that failed is lost. A failure of that is a warning, because the error that is on its way says why the run ended.
    pub fn save_last_good_state(&mut self, save: impl FnOnce(&mut Self) -> Result<()>) {
        let logged = self.flush();
        let saved = logged.and_then(|()| {
            if self.is_saved() {
                return Ok(());
            }
            save(self)
        });
        match saved {
            Ok(()) if self.step() == 0 => {}
            Ok(()) => log::warn!(
                "the last good state, step {}, is saved; `--resume_from_checkpoint true` goes on from it",
                self.step()
            ),
            Err(error) => log::warn!("the last good state could not be saved: {error}"),
        }
    }

    /// transformers' closing numbers: time, speed and the mean loss. `samples`: completions or rows of a step.
    pub fn summary(&mut self, samples: f64, parameters: usize) -> StepMetrics {
        let runtime = self.started.elapsed().as_secs_f64();
        let steps = (self.step() - self.first_step) as f64;
        let tokens = self.position.state.num_input_tokens_seen as f64;
        let mut metrics = StepMetrics::new();
        metrics.insert("train_runtime", runtime);
        metrics.insert("train_samples_per_second", steps * samples / runtime);
        metrics.insert("train_steps_per_second", steps / runtime);
        metrics.insert("total_flos", 6.0 * parameters as f64 * tokens);
        let losses = self.position.losses.take();
        metrics.insert("train_loss", losses.get("loss").unwrap_or(f64::NAN));
        metrics
    }

    /// Ends the progress line and gives the run's folder.
    pub fn close(self) -> PathBuf {
        self.progress.finish();
        self.folder.path().to_owned()
    }
}

/// The largest memory so far in GiB, under the names and in the unit of verl; on the CPU device that of the process.
fn record(peaks: &MemoryPeaks, metrics: &mut StepMetrics) {
    let mut insert = |name: &str, bytes: Option<u64>| {
        if let Some(bytes) = bytes {
            metrics.insert(name, bytes as f64 / f64::from(1 << 30));
        }
    };
    let of_device = peaks.pool_allocated.or(peaks.resident);
    insert("perf/max_memory_allocated_gb", of_device);
    insert("perf/max_memory_reserved_gb", peaks.pool_reserved);
    insert("perf/cpu_memory_used_gb", peaks.resident);
}
