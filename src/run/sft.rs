//! Supervised fine-tuning: the rows' own chains of thought and answers as targets (method: section 3.1).
//!
//! The loss is the mean negative log-probability over the target tokens of an optimizer step, as in transformers'
//! Trainer. Knows nothing of sampling or rewards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};

use crate::config::{Run, SftTarget};
use crate::data::dataset::supervised_target;
use crate::data::prompt::PromptEncoder;
use crate::learner::Learner;
use crate::learner::optimizer::schedule::Schedule;
use crate::record::{Example, Prompt, TokenBatch, TokenRow};
use crate::run::folder::RunFolder;
use crate::run::metrics::{LoggedStep, MetricsLog, Progress, StepMetrics};
use crate::run::setup;
use crate::run::trainer::{Position, RUN_FILES, STOP, check_space, open_folder};

/// A row ready to learn from.
struct Target {
    example: Arc<Example>,
    token_ids: Vec<u32>,
}

/// Everything of a fine-tuning run.
struct FineTuning {
    run: Run,
    learner: Learner,
    encoder: PromptEncoder,
    targets: Vec<Target>,
    position: Position,
    schedule: Schedule,
    folder: RunFolder,
    metrics: MetricsLog,
    progress: Progress,
    base: PathBuf,
}

/// Fine-tunes until the last step or until somebody asks to stop; returns the run's folder.
///
/// # Errors
/// Whatever is wrong, with the remedy; the last whole checkpoint stays usable.
pub fn fine_tune(run: Run) -> Result<PathBuf> {
    let mut tuning = FineTuning::open(run)?;
    while tuning.position.state.global_step < tuning.position.state.max_steps {
        tuning.step()?;
        let step = tuning.position.state.global_step;
        let stop = STOP.load(Ordering::SeqCst);
        let due = tuning.run.output.save_strategy != crate::config::IntervalStrategy::No
            && step.is_multiple_of(tuning.position.state.save_steps);
        if due || stop || step == tuning.position.state.max_steps {
            tuning.save()?;
        }
        if stop {
            break;
        }
    }
    tuning.progress.finish();
    Ok(tuning.folder.path().to_owned())
}

impl FineTuning {
    fn open(run: Run) -> Result<Self> {
        let open = setup::open_device(&run.runtime.device)?;
        let (folder, checkpoint) = open_folder(&run)?;
        let start = || run.model.model_name_or_path.clone();
        let base = checkpoint
            .as_ref()
            .map_or_else(start, |found| found.path.clone());
        let config = crate::model::config::ModelConfig::open(&base)?;
        let encoder = setup::open_encoder(&run, &base, config.text.max_position_embeddings)?;
        let suppressed = setup::suppressed(&run, &encoder, &config);
        let mut learner =
            setup::load_learner(&base, setup::learner_options(&run, suppressed, 1.0), &open)?;
        let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
        let examples = setup::load_dataset(&run, &file, &encoder, Some(folder.path()))?.examples;
        setup::check_supervised(&run, &config, &open, (&encoder, &examples))?;
        let targets = targets(&run, &encoder, &examples)?;
        let total = run.sft_steps(targets.len())?;
        let mut position = Position::fresh(&run, total, targets.len());
        if let Some(checkpoint) = &checkpoint {
            position = position.resumed(checkpoint, targets.len())?;
            crate::run::checkpoint::restore_optimizer(
                &mut learner,
                &checkpoint.path,
                position.state.global_step,
                &open.device,
            )?;
        }
        let done = position.state.global_step;
        check_space(&folder, &learner, &run, &position, targets.len())?;
        // Nothing above this line touches an earlier run.
        folder.begin(&RUN_FILES)?;
        std::fs::write(folder.path().join("config.yaml"), run.to_yaml())
            .context("config.yaml cannot be written")?;
        let resumed = checkpoint.is_some().then_some(done);
        Ok(Self {
            schedule: setup::schedule(&run, total),
            metrics: MetricsLog::open(folder.path(), resumed)?,
            progress: Progress::start(run.output.run_name.as_deref().unwrap_or("sft"), total, done),
            run,
            learner,
            encoder,
            targets,
            position,
            folder,
            base,
        })
    }

    /// One optimizer step over `per_device_train_batch_size` x `gradient_accumulation_steps` rows.
    fn step(&mut self) -> Result<()> {
        let started = std::time::Instant::now();
        let per_batch = self.run.batch.per_device_train_batch_size;
        let rows = self
            .position
            .cursor
            .next((per_batch * self.run.batch.gradient_accumulation_steps).min(self.targets.len()));
        let tokens: usize = rows
            .iter()
            .map(|row| self.targets[*row].token_ids.len())
            .sum();
        let mut loss = 0.0;
        for rows in rows.chunks(per_batch) {
            let batch = self.batch(rows)?;
            let read = batch
                .prompts
                .iter()
                .map(|prompt| prompt.input_ids.len())
                .sum::<usize>();
            self.position.state.num_input_tokens_seen += (read
                + batch
                    .rows
                    .iter()
                    .map(|row| row.token_ids.len())
                    .sum::<usize>())
                as u64;
            loss += self
                .learner
                .accumulate_supervised(&batch, 1.0 / tokens as f32)?;
        }
        let learning_rate = self.schedule.at(self.position.state.global_step);
        let update = self.learner.apply(learning_rate)?;
        self.position.state.global_step += 1;
        self.position.state.epoch = self.position.cursor.progress();
        let mut metrics = StepMetrics::new();
        metrics.insert("loss", loss);
        metrics.insert("grad_norm", update.grad_norm);
        metrics.insert("learning_rate", learning_rate);
        metrics.insert("epoch", self.position.state.epoch);
        metrics.insert(
            "num_tokens",
            self.position.state.num_input_tokens_seen as f64,
        );
        metrics.insert("step_time", started.elapsed().as_secs_f64());
        self.progress.advance(&format!("loss {loss:.3}"));
        self.position.window.push(metrics);
        let step = self.position.state.global_step;
        if step.is_multiple_of(self.position.state.logging_steps)
            || step == self.position.state.max_steps
        {
            let row = LoggedStep {
                step,
                metrics: self.position.window.take(),
            };
            self.metrics.write(&row)?;
            self.position.state.log_history.push(row);
        }
        Ok(())
    }

    fn batch(&self, rows: &[usize]) -> Result<TokenBatch> {
        let examples: Vec<Arc<Example>> = rows
            .iter()
            .map(|row| Arc::clone(&self.targets[*row].example))
            .collect();
        let prompts: Vec<Arc<Prompt>> = setup::encode_all(&self.encoder, &examples)?;
        let row = |(index, row): (usize, &usize)| {
            TokenRow::plain(index, self.targets[*row].token_ids.clone())
        };
        Ok(TokenBatch {
            rows: rows.iter().enumerate().map(row).collect(),
            prompts,
        })
    }

    fn save(&mut self) -> Result<()> {
        self.metrics.sync()?;
        self.position.keep()?;
        let (learner, base, state, model_only) = (
            &self.learner,
            &self.base,
            &self.position.state,
            self.run.output.save_only_model,
        );
        let saved = self
            .folder
            .save_checkpoint(state.global_step, |dir: &Path| {
                crate::run::checkpoint::save(learner, base, state, dir, model_only)
            })?;
        // `save_total_limit` may take the checkpoint away that the run was resumed from.
        if !self.base.exists() {
            self.base = saved.path;
        }
        Ok(self.position.state.save(self.folder.path())?)
    }
}

/// The target tokens of every row, end token included; a row that has none stops the run here.
fn targets(run: &Run, encoder: &PromptEncoder, examples: &[Arc<Example>]) -> Result<Vec<Target>> {
    let answer_only = |example: &Example| match run.data.sft_target {
        SftTarget::Cot => false,
        SftTarget::Answer => true,
        SftTarget::CotOrAnswer => example.cot.is_none() && example.target.is_none(),
    };
    let mut targets = Vec::with_capacity(examples.len());
    for example in examples {
        let text = match supervised_target(example, answer_only(example)) {
            Ok(text) => text,
            Err(reason) => bail!(
                "{}: row `{}`: {reason}\nhint: set `sft_target: answer`, or leave the row out",
                example.origin,
                example.id
            ),
        };
        let place = || format!("{}: the target of row `{}`", example.origin, example.id);
        let mut token_ids = encoder.encode_completion(&text).with_context(place)?;
        token_ids.push(encoder.special().end_tokens[0]);
        if token_ids.len() > run.sampling.max_completion_length {
            bail!(
                "{}: the target of row `{}` has {} tokens, `max_completion_length` is {}\nhint: raise it; a target is never cut",
                example.origin,
                example.id,
                token_ids.len(),
                run.sampling.max_completion_length
            );
        }
        targets.push(Target {
            example: Arc::clone(example),
            token_ids,
        });
    }
    Ok(targets)
}
