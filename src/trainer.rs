//! A run in progress: all its stages, the step it is at, and the small moves that the loop in [`crate::train`] is made
//! of.
//!
//! Knows nothing of how a stage works inside.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

use crate::advantage::{self, AdvantageOptions};
use crate::batch::{self, LossWeightOptions, PackOptions};
use crate::config::{Resume, Run};
use crate::dataset::Cursor;
use crate::device::OpenDevice;
use crate::evaluation::EvaluationSet;
use crate::generator::SamplingParameters;
use crate::kernels::group_advantage;
use crate::learner::{Learner, MicroBatchResult, UpdateReport};
use crate::metrics::{
    CompletionsLog, LoggedStep, MetricsLog, MetricsWindow, Phase, PhaseTimer, Progress,
    StepMetrics, TrainerState, Watchdog,
};
use crate::model::weights::Weights;
use crate::optimizer::schedule::Schedule;
use crate::prompt::PromptEncoder;
use crate::record::{Action, Example, Group, Prompt, Source, TokenBatch};
use crate::reward::{CharacterRange, Rewards, ScoreContext};
use crate::rollout;
use crate::rollout_file::{self, RolloutRow};
use crate::run_folder::{Mode, RunFolder};
use crate::selection::{self, SelectionOptions, StepKey};
use crate::setup::{self, PolicyCodec};
use crate::step_report;
use crate::teacher::Roster;

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
    /// The learning rate.
    pub schedule: Schedule,
    encoder: PromptEncoder,
    examples: Vec<Arc<Example>>,
    cursor: Cursor,
    rewards: Rewards,
    sampling: SamplingParameters,
    reference: Option<Weights>,
    base: PathBuf,
    folder: RunFolder,
    metrics: MetricsLog,
    completions: CompletionsLog,
    state: TrainerState,
    window: MetricsWindow,
    watchdog: Watchdog,
    progress: Progress,
    evaluation: Vec<EvaluationSet>,
    /// [generation batch][prompt] rows of a replayed file that are still to come.
    replay: Option<VecDeque<Vec<Vec<RolloutRow>>>>,
    dump: Option<crate::metrics::JsonLines>,
    started: std::time::Instant,
    first_step: u64,
    /// Generation batches of the file that were used.
    replayed: usize,
    losses: MetricsWindow,
    /// The step of the newest checkpoint.
    saved_step: u64,
}

impl Trainer {
    /// Builds every stage, fresh or from a checkpoint, and finds all that is wrong before anything is written.
    ///
    /// # Errors
    /// Whatever is wrong, with the remedy.
    pub fn open(run: Run) -> Result<Self> {
        let open = setup::open_device(run.runtime.device)?;
        let mode = match (
            &run.output.resume_from_checkpoint,
            run.output.overwrite_output_dir,
        ) {
            (Resume::No, true) => Mode::Overwrite,
            (Resume::No, false) => Mode::Fresh,
            _ => Mode::Resume,
        };
        let folder = RunFolder::open(&run.output.output_dir, mode, run.output.save_total_limit)?;
        let checkpoint = match &run.output.resume_from_checkpoint {
            Resume::No => None,
            Resume::Last => Some(folder.resume_from(None)?),
            Resume::From(path) => Some(folder.resume_from(Some(path))?),
        };
        let base = checkpoint.as_ref().map_or_else(
            || run.model.model_name_or_path.clone(),
            |found| found.path.clone(),
        );
        let config = crate::model::config::ModelConfig::open(&base)?;
        let encoder = setup::open_encoder(&run, &base, config.text.max_position_embeddings)?;
        let suppressed = setup::suppressed(&run, &encoder, &config);
        let sampling = setup::sampling(&run, &encoder, suppressed.as_deref());
        let options = setup::learner_options(&run, suppressed, run.training_temperature());
        let mut learner = setup::load_learner(&base, options, &open)?;
        let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
        let examples = setup::load_dataset(&run, &file, &encoder, Some(folder.path()))?.examples;
        let teachers = setup::roster(&run, &open, &examples)?;
        let selection = setup::selection(&run);
        selection.check(run.group.num_generations, teachers.num_actions())?;
        let rewards = setup::rewards(&run)?;
        let evaluation = crate::evaluation::open_sets(&run, &encoder)?;
        let replay = run
            .output
            .replay_rollouts
            .as_deref()
            .map(|path| {
                let accepted = rollout_file::Accepted {
                    ids: examples.iter().map(|example| example.id.as_str()).collect(),
                    vocabulary: config.text.vocab_size,
                    max_completion_length: run.sampling.max_completion_length,
                };
                let steps = rollout_file::read(path, &accepted)?.into_iter();
                let groups = |rows| rollout_file::groups(rows, run.group.num_generations);
                anyhow::Ok(steps.map(groups).collect::<VecDeque<_>>())
            })
            .transpose()?;
        let total = total_steps(&run, examples.len(), replay.as_ref().map(VecDeque::len))?;
        let reference = reference(&run, &learner, checkpoint.is_some(), &open)?;
        folder.check_space(checkpoint_bytes(&learner, &run))?;
        let mut state = TrainerState {
            max_steps: total,
            save_steps: run.output.save_steps.steps(total),
            logging_steps: run.output.logging_steps.steps(total),
            train_batch_size: run.batch.per_device_train_batch_size as u64,
            ..TrainerState::default()
        };
        let mut cursor = Cursor::new(
            examples.len(),
            run.runtime.data_seed,
            run.data.shuffle_dataset,
        );
        let (mut window, mut losses) = (MetricsWindow::default(), MetricsWindow::default());
        let mut replayed = 0;
        if let Some(checkpoint) = &checkpoint {
            let saved = TrainerState::load(&checkpoint.path)?;
            cursor = saved.restore("cursor")?.context("the checkpoint has no data position\nhint: it was saved with `save_only_model`; start afresh from it")?;
            cursor.check(examples.len())?;
            window = saved.restore("window")?.unwrap_or_default();
            losses = saved.restore("losses")?.unwrap_or_default();
            replayed = saved.restore("replayed")?.unwrap_or_default();
            crate::checkpoint::restore_optimizer(&mut learner, &checkpoint.path, &open.device)?;
            state = TrainerState {
                max_steps: state.max_steps,
                save_steps: state.save_steps,
                logging_steps: state.logging_steps,
                train_batch_size: state.train_batch_size,
                ..saved
            };
        }
        let resumed = checkpoint.is_some().then_some(state.global_step);
        let dump = run.output.dump_rollouts.as_deref();
        let dump = dump.map(|path| match resumed {
            None => crate::metrics::JsonLines::create(path),
            Some(step) => crate::metrics::JsonLines::resume(path, step),
        });
        let dump = dump.transpose()?;
        // Nothing above this line touches an earlier run.
        folder.begin(&RUN_FILES)?;
        std::fs::write(folder.path().join("config.yaml"), run.to_yaml())
            .context("config.yaml cannot be written")?;
        let names = rewards
            .functions()
            .iter()
            .map(|function| function.name().to_owned())
            .collect();
        let mut trainer = Self {
            schedule: setup::schedule(&run, total),
            metrics: MetricsLog::open(folder.path(), resumed)?,
            completions: CompletionsLog::open(folder.path(), resumed, names)?,
            progress: Progress::start(
                run.output.run_name.as_deref().unwrap_or("train"),
                total,
                state.global_step,
            ),
            dump,
            advantages: setup::advantages(&run),
            first_step: state.global_step,
            pending: VecDeque::new(),
            watchdog: Watchdog::new(None),
            started: std::time::Instant::now(),
            losses,
            saved_step: state.global_step,
            run,
            open,
            learner,
            teachers,
            selection,
            encoder,
            examples,
            cursor,
            rewards,
            sampling,
            reference,
            base,
            folder,
            state,
            window,
            evaluation,
            replay,
            replayed,
        };
        if let Some(replay) = &mut trainer.replay {
            replay.drain(..trainer.replayed.min(replay.len()));
        }
        Ok(trainer)
    }

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
        let step = self.state.global_step;
        // What was learnt since the newest checkpoint is never lost: the step that is to come will save.
        let stopped = STOP.load(Ordering::SeqCst) && self.saved_step == step;
        let replayed = self.replay.as_ref().is_some_and(VecDeque::is_empty);
        let ended = (stopped || replayed) && self.pending.is_empty();
        (step < self.state.max_steps && !ended).then_some(step + 1)
    }

    /// Where this step's randomness comes from.
    #[must_use]
    pub const fn key(&self, step: u64) -> StepKey {
        StepKey {
            seed: self.run.runtime.seed,
            step: step - 1,
        }
    }

    /// The examples of the next generation batch, [Q], and their prompts.
    ///
    /// # Errors
    /// If a picture can no longer be read.
    pub fn next_prompts(&mut self) -> Result<(Vec<Arc<Example>>, Vec<Arc<Prompt>>)> {
        let examples: Vec<Arc<Example>> = match self.replay.as_ref().and_then(VecDeque::front) {
            None => {
                let rows = self.cursor.next(self.run.prompts_per_generation());
                rows.into_iter()
                    .map(|row| Arc::clone(&self.examples[row]))
                    .collect()
            }
            Some(groups) => self.replayed_examples(groups),
        };
        let prompts = setup::encode_all(&self.encoder, &examples)?;
        Ok((examples, prompts))
    }

    fn replayed_examples(&self, groups: &[Vec<RolloutRow>]) -> Vec<Arc<Example>> {
        let find = |rows: &Vec<RolloutRow>| {
            let found = self
                .examples
                .iter()
                .find(|example| example.id == rows[0].id);
            Arc::clone(found.expect("the reader of the file accepts no other id"))
        };
        groups.iter().map(find).collect()
    }

    /// The pool of each prompt with the policy's own actions in it: [Q] groups of N.
    ///
    /// # Errors
    /// If the policy's output is not finite.
    pub fn sample(
        &mut self,
        step: u64,
        examples: &[Arc<Example>],
        prompts: &[Arc<Prompt>],
    ) -> Result<Vec<Group>> {
        let group = |(example, prompt): (&Arc<Example>, &Arc<Prompt>)| Group {
            example: Arc::clone(example),
            prompt: Arc::clone(prompt),
            pool: Vec::new(),
            selected: Vec::new(),
            advantages: Vec::new(),
        };
        let mut groups: Vec<Group> = examples.iter().zip(prompts).map(group).collect();
        if let Some(replayed) = self.replay.as_mut().and_then(VecDeque::pop_front) {
            self.replayed += 1;
            for (group, rows) in groups.iter_mut().zip(replayed) {
                self.replay_into(group, rows, step);
            }
            return Ok(groups);
        }
        let seed = rollout::step_seed(self.run.runtime.seed, step);
        let parameters = SamplingParameters {
            seed,
            ..self.sampling.clone()
        };
        let policy = self.learner.policy()?;
        let decode = |ids: &[u32]| self.encoder.decode(ids, true);
        let actions = rollout::sample(
            &policy,
            prompts,
            self.run.group.num_generations,
            &parameters,
            &decode,
        )?;
        self.score_into(step, &mut groups, actions);
        Ok(groups)
    }

    /// Fills a pool with given tokens; a given reward stands, an absent one is scored.
    fn replay_into(&self, group: &mut Group, rows: Vec<RolloutRow>, step: u64) {
        for row in rows {
            let source = if row.source == "policy" {
                Source::Policy
            } else {
                Source::External(row.source.as_str().into())
            };
            let action = Action {
                source,
                text: self.encoder.decode(&row.completion_ids, true),
                finish: setup::finish_of(&row.completion_ids, &self.encoder.special().end_tokens),
                token_ids: row.completion_ids,
                sampling_logprobs: row.sampling_logprobs,
                external_logprobs: None,
                old_logprobs: row.old_logprobs,
            };
            let mut scored = self
                .rewards
                .score(action, &group.example, &self.context(step));
            scored.reward = row.reward.or(scored.reward);
            group.pool.push(scored);
        }
    }

    const fn context(&self, step: u64) -> ScoreContext {
        ScoreContext {
            step: (step - 1) as usize,
            max_completion_length: self.run.sampling.max_completion_length,
            characters: None,
        }
    }

    fn score_into(&self, step: u64, groups: &mut [Group], actions: Vec<Vec<Action>>) {
        let context = ScoreContext {
            characters: CharacterRange::of(
                actions.iter().flatten().map(|action| action.text.as_str()),
            ),
            ..self.context(step)
        };
        for (group, actions) in groups.iter_mut().zip(actions) {
            let score = |action| self.rewards.score(action, &group.example, &context);
            let scored: Vec<_> = actions.into_iter().map(score).collect();
            group.pool.extend(scored);
        }
    }

    /// Adds the external actions of the prompts whose gate is open.
    ///
    /// # Errors
    /// If a teacher fails.
    pub fn ask_teachers(
        &mut self,
        step: u64,
        groups: &mut [Group],
        open: &[bool],
    ) -> Result<StepMetrics> {
        let mut metrics = StepMetrics::new();
        if self.teachers.is_empty() || self.run.output.replay_rollouts.is_some() {
            return Ok(metrics);
        }
        let asked: Vec<usize> = (0..groups.len()).filter(|index| open[*index]).collect();
        let prompts: Vec<(&Example, &Prompt)> = asked
            .iter()
            .map(|index| {
                (
                    groups[*index].example.as_ref(),
                    groups[*index].prompt.as_ref(),
                )
            })
            .collect();
        let seed = rollout::step_seed(self.run.runtime.seed ^ 0x7465_6163_6865_7273, step);
        let limit = self.run.sampling.max_completion_length;
        let answer = self
            .teachers
            .act(&prompts, seed, &PolicyCodec(&self.encoder), limit)?;
        metrics.insert(
            "external/gate_open_frac",
            asked.len() as f64 / groups.len().max(1) as f64,
        );
        for teacher in &answer.statistics {
            for (reason, count) in &teacher.dropped {
                metrics.insert(
                    format!("external/{}/dropped/{}", teacher.name, reason.name()),
                    *count as f64,
                );
            }
            metrics.insert(
                format!("external/{}/tokens", teacher.name),
                teacher.tokens as f64,
            );
        }
        let mut actions: Vec<Vec<Action>> = vec![Vec::new(); groups.len()];
        for (index, group) in asked.into_iter().zip(answer.actions) {
            actions[index] = group;
        }
        self.score_into(step, groups, actions);
        Ok(metrics)
    }

    /// Selects, credits and packs the groups into the work of the coming optimizer steps.
    ///
    /// # Errors
    /// If an action cannot be packed, or the device fails.
    pub fn plan(
        &mut self,
        step: u64,
        mut groups: Vec<Group>,
        external: &StepMetrics,
        timer: &mut PhaseTimer,
    ) -> Result<()> {
        selection::choose(&mut groups, &self.selection, self.key(step));
        let input = advantage::gather(&groups, self.advantages);
        advantage::assign(&mut groups, &group_advantage(&input, &self.open.device));
        timer.lap(Phase::Adv);
        let options = PackOptions {
            mask_truncated_completions: self.run.loss.mask_truncated_completions,
            max_completion_length: self.run.sampling.max_completion_length,
            external_kl: self.run.group.external_kl,
        };
        let mut whole = batch::pack(&groups, &options)?;
        self.fill_old_and_reference(&mut whole, timer)?;
        let names: Vec<&str> = self
            .rewards
            .functions()
            .iter()
            .map(|function| function.name())
            .collect();
        let mut metrics = step_report::of_groups(&groups, &names, &self.external_names(&groups));
        metrics.extend(external);
        self.write_rollouts(step, &groups)?;
        let groups = Arc::new(groups);
        let most = groups
            .iter()
            .map(|group| group.selected.len())
            .max()
            .unwrap_or(1)
            .max(1);
        let rows = (self.run.batch.per_device_train_batch_size * most)
            .div_ceil(self.run.group.num_generations);
        let micro = batch::micro_batches(&whole, rows);
        let per_step = self.run.batch.gradient_accumulation_steps;
        let steps = micro.len().div_ceil(per_step).max(1);
        let options = LossWeightOptions {
            loss_type: setup::same_word(&self.run.loss.loss_type),
            max_completion_length: self.run.sampling.max_completion_length,
            generation_tokens: batch::masked_tokens(&whole),
            steps_per_generation_batch: steps as f64,
        };
        let metrics = Arc::new(metrics);
        for iteration in 0..self.run.loss.num_iterations {
            for (index, chunk) in micro.chunks(per_step).enumerate() {
                let mut weights = batch::loss_weights(chunk, &options);
                self.weigh_external(chunk, &mut weights);
                let fresh = iteration == 0 && index == 0;
                let work = Work {
                    batches: chunk.to_vec(),
                    weights,
                    metrics: Arc::clone(&metrics),
                    groups: Arc::clone(&groups),
                    fresh,
                };
                self.pending.push_back(work);
            }
        }
        Ok(())
    }

    fn external_names<'a>(&'a self, groups: &'a [Group]) -> Vec<&'a str> {
        let mut names = self.teachers.names();
        for scored in groups.iter().flat_map(|group| &group.pool) {
            if scored.action.source != Source::Policy
                && !names.contains(&scored.action.source.name())
            {
                names.push(scored.action.source.name());
            }
        }
        names
    }

    /// `external_coef` on the external part of the loss.
    fn weigh_external(&self, batches: &[TokenBatch], weights: &mut [Vec<Vec<f32>>]) {
        let factor = self.run.group.external_coef as f32;
        for (batch, weights) in batches.iter().zip(weights) {
            for (row, weights) in batch.rows.iter().zip(weights) {
                if row.source != Source::Policy {
                    weights.iter_mut().for_each(|weight| *weight *= factor);
                }
            }
        }
    }

    /// Old log-probabilities where several updates follow one rollout; reference ones where there is a KL term.
    fn fill_old_and_reference(&self, batch: &mut TokenBatch, timer: &mut PhaseTimer) -> Result<()> {
        let cut =
            |logprobs: &dyn Fn(&TokenBatch) -> Result<Vec<Vec<f32>>>| -> Result<Vec<Vec<f32>>> {
                let parts =
                    batch::micro_batches(batch, self.run.batch.per_device_train_batch_size.max(1));
                Ok(parts
                    .iter()
                    .map(logprobs)
                    .collect::<Result<Vec<_>>>()?
                    .into_iter()
                    .flatten()
                    .collect())
            };
        let mut old = None;
        if self.steps_per_generation_batch() > 1 {
            old = Some(cut(&|part| {
                Ok(self.learner.logprobs(&self.learner.weights, part)?)
            })?);
            timer.lap(Phase::Old);
        }
        let mut reference = None;
        if let Some(weights) = &self.reference {
            reference = Some(cut(&|part| Ok(self.learner.logprobs(weights, part)?))?);
            timer.lap(Phase::Ref);
        }
        for (index, row) in batch.rows.iter_mut().enumerate() {
            if let (None, Some(old)) = (&row.old_logprobs, &old) {
                row.old_logprobs = Some(old[index].clone());
            }
            row.reference_logprobs = reference.as_ref().map(|reference| reference[index].clone());
        }
        Ok(())
    }

    fn write_rollouts(&mut self, step: u64, groups: &[Group]) -> Result<()> {
        if let Some(file) = &mut self.dump {
            for row in groups
                .iter()
                .flat_map(|group| rollout_file::rows_of(group, step))
            {
                file.append(&row)?;
            }
        }
        for group in groups {
            self.completions.write(step, group)?;
        }
        Ok(())
    }

    /// Forward and backward of all micro-batches, then the update.
    ///
    /// # Errors
    /// If the loss or a gradient is not finite: the weights are untouched, and the rollouts are written to a file.
    pub fn learn(
        &mut self,
        step: u64,
        work: &Work,
    ) -> Result<(Vec<MicroBatchResult>, UpdateReport)> {
        let mut learn = || {
            let pairs = work.batches.iter().zip(&work.weights);
            let results = pairs
                .map(|(batch, weights)| self.learner.accumulate(batch, weights))
                .collect::<Result<Vec<_>, _>>()?;
            let update = self.learner.apply(self.schedule.at(step - 1))?;
            Ok::<_, crate::learner::LearnError>((results, update))
        };
        learn().map_err(|error| {
            let path = self.folder.path().join(format!("failed-step-{step}.jsonl"));
            let rows = work
                .groups
                .iter()
                .flat_map(|group| rollout_file::rows_of(group, step));
            let text: String = rows
                .filter_map(|row| serde_json::to_string(&row).ok())
                .map(|row| row + "\n")
                .collect();
            let written = std::fs::write(&path, text);
            let place = if written.is_ok() {
                format!("its rollouts are in {}", path.display())
            } else {
                "its rollouts could not be written".to_owned()
            };
            anyhow::Error::new(error)
                .context(format!("step {step}: the update was refused; {place}"))
        })
    }

    /// Logs the step and moves on to the next.
    ///
    /// # Errors
    /// If a log cannot be written, or the watchdog ends the run.
    pub fn finish_step(
        &mut self,
        step: u64,
        work: &Work,
        results: &[MicroBatchResult],
        update: UpdateReport,
        timer: &PhaseTimer,
    ) -> Result<()> {
        self.state.global_step = step;
        self.state.epoch = self.cursor.progress();
        if work.fresh {
            let tokens = |group: &Group| {
                group
                    .pool
                    .iter()
                    .map(|scored| group.prompt.input_ids.len() + scored.action.token_ids.len())
                    .sum::<usize>()
            };
            self.state.num_input_tokens_seen +=
                work.groups.iter().map(tokens).sum::<usize>() as u64;
        }
        let mut metrics = step_report::of_update(&work.batches, results, work.fresh);
        let mut loss = StepMetrics::new();
        loss.insert("loss", metrics.get("loss").unwrap_or(f64::NAN));
        self.losses.push(loss);
        metrics.insert("grad_norm", update.grad_norm);
        metrics.insert("learning_rate", self.schedule.at(step - 1));
        metrics.insert("epoch", self.state.epoch);
        metrics.insert("num_tokens", self.state.num_input_tokens_seen as f64);
        metrics.extend(&work.metrics);
        timer.record(&mut metrics);
        self.watchdog.check(step, &metrics)?;
        let reward = metrics.get("reward").unwrap_or(f64::NAN);
        self.progress.advance(&format!("reward {reward:.2}"));
        self.window.push(metrics);
        if step % self.state.logging_steps == 0 || step == self.state.max_steps {
            let row = LoggedStep {
                step,
                metrics: self.window.take(),
            };
            self.log(row)?;
            if self.run.output.log_completions {
                self.print_completions(&work.groups);
            }
        }
        Ok(())
    }

    fn log(&mut self, row: LoggedStep) -> Result<()> {
        self.metrics.write(&row)?;
        self.state.log_history.push(row);
        Ok(())
    }

    fn print_completions(&self, groups: &[Group]) {
        let actions = groups
            .iter()
            .flat_map(|group| group.pool.iter().map(move |scored| (group, scored)));
        for (group, scored) in actions.take(
            self.run
                .output
                .num_completions_to_print
                .unwrap_or(usize::MAX),
        ) {
            log::info!(
                "{} ({}, reward {:?}): {}",
                group.example.id,
                scored.action.source.name(),
                scored.reward,
                scored.action.text
            );
        }
    }

    /// Scores the held-out rows if this step is one to do so.
    ///
    /// # Errors
    /// If the policy's output is not finite or a log cannot be written.
    pub fn evaluate_if_due(&mut self, step: u64) -> Result<()> {
        let every = self.run.evaluation.eval_steps.steps(self.state.max_steps);
        if self.evaluation.is_empty()
            || !self.is_due(step, self.run.evaluation.eval_strategy, every)
        {
            return Ok(());
        }
        let policy = self.learner.policy()?;
        let metrics = crate::evaluation::metrics(
            &policy,
            &self.evaluation,
            &self.run,
            &self.encoder,
            &self.rewards,
            &self.sampling,
        )?;
        self.log(LoggedStep {
            step,
            metrics: metrics.prefixed("eval_"),
        })
    }

    fn is_due(&self, step: u64, strategy: crate::config::IntervalStrategy, every: u64) -> bool {
        use crate::config::IntervalStrategy;
        match strategy {
            IntervalStrategy::No => false,
            IntervalStrategy::Steps => step % every == 0,
            IntervalStrategy::Epoch => {
                step % self.run.steps_per_epoch(self.examples.len()).max(1) == 0
            }
        }
    }

    /// Saves a checkpoint if this step is one to do so, the last one, or somebody asked to stop. A checkpoint waits for the
    /// end of its generation batch, so that it never has to hold half-used rollouts.
    ///
    /// # Errors
    /// If it cannot be written; earlier checkpoints stay usable.
    pub fn save_if_due(&mut self, step: u64, due: &mut bool) -> Result<()> {
        let last = step == self.state.max_steps || STOP.load(Ordering::SeqCst);
        *due |= last || self.is_due(step, self.run.output.save_strategy, self.state.save_steps);
        if !*due || (!self.pending.is_empty() && step != self.state.max_steps) {
            return Ok(());
        }
        *due = false;
        self.save(step)
    }

    fn save(&mut self, step: u64) -> Result<()> {
        self.metrics.sync()?;
        self.completions.sync()?;
        self.dump.as_ref().map_or(Ok(()), |dump| dump.sync())?;
        self.state.keep("cursor", &self.cursor)?;
        self.state.keep("window", &self.window)?;
        self.state.keep("losses", &self.losses)?;
        self.state.keep("replayed", &self.replayed)?;
        let (learner, base, state) = (&self.learner, &self.base, &self.state);
        let model_only = self.run.output.save_only_model;
        let saved = self.folder.save_checkpoint(step, |dir: &Path| {
            crate::checkpoint::save(learner, base, state, dir, model_only)
        })?;
        self.saved_step = step;
        // The files to copy next time lie in the newest checkpoint only if the start is gone.
        if !self.base.exists() {
            self.base = saved.path;
        }
        Ok(self.state.save(self.folder.path())?)
    }

    /// Writes the summary row and gives the run's folder.
    ///
    /// # Errors
    /// If a log cannot be written.
    pub fn finish(mut self) -> Result<PathBuf> {
        // A replay may end before its last step.
        if self.saved_step != self.state.global_step {
            self.save(self.state.global_step)?;
        }
        let runtime = self.started.elapsed().as_secs_f64();
        let steps = (self.state.global_step - self.first_step) as f64;
        let mut metrics = StepMetrics::new();
        metrics.insert("train_runtime", runtime);
        let samples = steps * self.run.completions_per_generation() as f64
            / self.steps_per_generation_batch() as f64;
        metrics.insert("train_samples_per_second", samples / runtime);
        metrics.insert("train_steps_per_second", steps / runtime);
        metrics.insert(
            "total_flos",
            6.0 * self.learner.weights.count() as f64 * self.state.num_input_tokens_seen as f64,
        );
        metrics.insert(
            "train_loss",
            self.losses.take().get("loss").unwrap_or(f64::NAN),
        );
        if self.state.global_step == self.state.max_steps || !STOP.load(Ordering::SeqCst) {
            let row = LoggedStep {
                step: self.state.global_step,
                metrics,
            };
            self.log(row)?;
        }
        self.progress.finish();
        Ok(self.folder.path().to_owned())
    }
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
        anyhow::bail!(
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

/// Bytes of all checkpoints that are kept, and of one more while it is written.
pub(crate) fn checkpoint_bytes(learner: &Learner, run: &Run) -> u64 {
    let copies = if run.output.save_only_model { 1 } else { 3 };
    let kept = run.output.save_total_limit.unwrap_or(1) as u64 + 1;
    learner.weights.count() as u64 * 4 * copies * kept
}
