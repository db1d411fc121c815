//! Supervised fine-tuning: the rows' own chains of thought and answers as targets (method: section 3.1).
//!
//! The loss is the mean negative log-probability over the target tokens of an optimizer step, and passes over the data end
//! with the rows that are left, as in transformers' Trainer. Knows nothing of sampling or rewards.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::config::{Run, SftTarget};
use crate::data::dataset::supervised_target;
use crate::data::prompt::PromptEncoder;
use crate::learner::optimizer::schedule::Schedule;
use crate::learner::{LearnError, Learner};
use crate::record::{Example, Prompt, TokenBatch, TokenRow};
use crate::run::evaluation;
use crate::run::memory_plan::Work;
use crate::run::metrics::StepMetrics;
use crate::run::setup::{self, Opening};
use crate::run::state::{Beginning, RunState};
use crate::run::stop;

/// A row ready to learn from.
struct Target {
    example: Arc<Example>,
    token_ids: Vec<u32>,
}

/// Held-out rows with their targets.
struct HeldOut {
    name: String,
    targets: Vec<Target>,
}

/// Everything of a fine-tuning run.
struct FineTuning {
    run: Run,
    learner: Learner,
    encoder: PromptEncoder,
    targets: Vec<Target>,
    held_out: Vec<HeldOut>,
    schedule: Schedule,
    state: RunState,
}

/// Fine-tunes until the last step or until somebody asks to stop; returns the run's folder.
///
/// # Errors
/// Whatever is wrong, with the remedy; the last whole checkpoint stays usable. A step that would not be finite is refused
/// after the state before it was saved.
pub fn fine_tune(run: Run) -> Result<PathBuf> {
    let mut tuning = FineTuning::open(run)?;
    let ended = tuning.learn();
    tuning.finish(ended)
}

impl FineTuning {
    fn open(run: Run) -> Result<Self> {
        let mut opening = setup::open(&run, 1.0)?;
        let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
        let folder = Some(opening.folder.path());
        let examples = setup::load_dataset(&run, &file, &opening.encoder, folder)?.examples;
        opening.check_memory(&run, Work::Supervised, &examples)?;
        let targets = targets(&run, &opening.encoder, &examples)?;
        let mut held_out = Vec::new();
        for set in evaluation::open_sets(&run, &opening.encoder)? {
            held_out.push(HeldOut {
                name: set.name,
                targets: self::targets(&run, &opening.encoder, &set.examples)?,
            });
        }
        let total = run.sft_steps(targets.len())?;
        let position = opening.position(&run, total, &examples)?;
        let steps_per_pass = run.sft_steps_per_epoch(targets.len());
        opening.check_space(&run, &position, steps_per_pass)?;
        let Opening {
            memory,
            folder,
            base,
            encoder,
            learner,
            checkpoint,
            ..
        } = opening;
        let beginning = Beginning {
            memory,
            folder,
            base,
            resumes: checkpoint.is_some(),
            position,
            steps_per_pass,
        };
        Ok(Self {
            schedule: setup::schedule(&run, total),
            // Nothing above this line touches an earlier run.
            state: RunState::begin(&run, beginning, "sft")?,
            run,
            learner,
            encoder,
            targets,
            held_out,
        })
    }

    fn learn(&mut self) -> Result<()> {
        if self.state.is_evaluation_due_at_start(&self.run.evaluation) {
            self.evaluate()?;
        }
        while !self.state.is_at_end() && (!stop::is_requested() || !self.state.is_saved()) {
            let started = std::time::Instant::now();
            let mut metrics = self.step()?;
            metrics.insert("step_time", started.elapsed().as_secs_f64());
            let loss = metrics.get("loss").unwrap_or(f64::NAN);
            self.state
                .finish_step(metrics, &format!("loss {loss:.3}"))?;
            if self.state.is_evaluation_due(&self.run.evaluation) {
                self.evaluate()?;
            }
            if self.state.is_save_due() || stop::is_requested() {
                self.state.save(&self.learner, &|_| Ok(()))?;
            }
        }
        Ok(())
    }

    /// One optimizer step over `per_device_train_batch_size` x `gradient_accumulation_steps` rows, or those that are left of
    /// the pass.
    fn step(&mut self) -> Result<StepMetrics> {
        let before = self.state.position.data.clone();
        let per_batch = self.run.batch.per_device_train_batch_size;
        let wanted = per_batch * self.run.batch.gradient_accumulation_steps;
        let rows = self.state.position.data.cursor.next_of_pass(wanted);
        let counts = rows.iter().map(|row| self.targets[*row].token_ids.len());
        let tokens: usize = counts.sum();
        let (mut loss, mut read) = (0.0, 0);
        let learning_rate = self.schedule.at(self.state.step());
        let mut learn = || -> Result<f64> {
            if rows.len() <= per_batch {
                let rows: Vec<&Target> = rows.iter().map(|row| &self.targets[*row]).collect();
                let batch = batch(&self.encoder, &rows)?;
                read += tokens_of(&batch);
                let share = 1.0 / tokens as f32;
                let step = self
                    .learner
                    .supervised_step_of_one(&batch, share, learning_rate)?;
                loss = step.0;
                return Ok(step.1.grad_norm);
            }
            for rows in rows.chunks(per_batch) {
                let rows: Vec<&Target> = rows.iter().map(|row| &self.targets[*row]).collect();
                let batch = batch(&self.encoder, &rows)?;
                read += tokens_of(&batch);
                loss += self
                    .learner
                    .accumulate_supervised(&batch, 1.0 / tokens as f32)?;
            }
            Ok(self.learner.apply(learning_rate)?.grad_norm)
        };
        let grad_norm = match learn() {
            Ok(norm) => norm,
            Err(error) => {
                self.state.position.data = before;
                let step = self.state.step() + 1;
                return Err(error.context(format!("step {step}: the update was refused")));
            }
        };
        let position = &mut self.state.position;
        position.state.num_input_tokens_seen += read;
        position.state.global_step += 1;
        position.state.epoch = position.data.cursor.progress();
        let mut metrics = StepMetrics::new();
        metrics.insert("loss", loss);
        metrics.insert("grad_norm", grad_norm);
        metrics.insert("learning_rate", learning_rate);
        metrics.insert("epoch", position.state.epoch);
        metrics.insert("num_tokens", position.state.num_input_tokens_seen as f64);
        Ok(metrics)
    }

    /// `eval_loss`: the mean negative log-probability of the held-out rows' target tokens; of several splits each name
    /// carries its split, as transformers names those of a dictionary of data sets.
    fn evaluate(&mut self) -> Result<()> {
        let mut metrics = StepMetrics::new();
        let rows_at_once = self.run.evaluation.per_device_eval_batch_size;
        for set in &self.held_out {
            let (mut sum, mut tokens) = (0.0, 0);
            for rows in set.targets.chunks(rows_at_once) {
                let batch = batch(&self.encoder, &rows.iter().collect::<Vec<_>>())?;
                let logprobs = self.learner.logprobs(&self.learner.weights, &batch)?;
                sum -= logprobs
                    .iter()
                    .flatten()
                    .copied()
                    .map(f64::from)
                    .sum::<f64>();
                tokens += logprobs.iter().map(Vec::len).sum::<usize>();
            }
            let name = match self.held_out.as_slice() {
                [_] => "eval_loss".to_owned(),
                _ => format!("eval_{}_loss", set.name),
            };
            metrics.insert(name, sum / tokens as f64);
        }
        self.state.log(metrics)
    }

    fn finish(mut self, ended: Result<()>) -> Result<PathBuf> {
        if let Err(error) = ended {
            if let Some(
                LearnError::Loss { .. } | LearnError::Gradient { .. } | LearnError::Overflow { .. },
            ) = error.downcast_ref()
            {
                let learner = &self.learner;
                self.state
                    .save_last_good_state(|state| state.save(learner, &|_| Ok(())));
            }
            return Err(error);
        }
        if self.state.is_at_end() {
            let rows = self.run.batch.per_device_train_batch_size
                * self.run.batch.gradient_accumulation_steps;
            let parameters = self.learner.weights.count();
            let summary = self.state.summary(rows as f64, parameters);
            self.state.log(summary)?;
        }
        Ok(self.state.close())
    }
}

/// Rows with their prompts read.
fn batch(encoder: &PromptEncoder, targets: &[&Target]) -> Result<TokenBatch> {
    let examples: Vec<Arc<Example>> = targets
        .iter()
        .map(|target| Arc::clone(&target.example))
        .collect();
    let prompts: Vec<Arc<Prompt>> = setup::encode_all(encoder, &examples)?;
    let rows = targets.iter().enumerate();
    let rows = rows.map(|(prompt, target)| TokenRow::plain(prompt, target.token_ids.clone()));
    Ok(TokenBatch {
        rows: rows.collect(),
        prompts,
    })
}

/// Prompt and target tokens.
fn tokens_of(batch: &TokenBatch) -> u64 {
    let read = batch.prompts.iter().map(|prompt| prompt.input_ids.len());
    let learnt = batch.rows.iter().map(|row| row.token_ids.len());
    (read.sum::<usize>() + learnt.sum::<usize>()) as u64
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
