//! Builds the stages of a run, fresh or from a checkpoint; all that can be wrong is found before an earlier run is
//! touched.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Result, bail};

use super::{Cut, Trainer};
use crate::config::Run;
use crate::record::Example;
use crate::run::memory_plan::Work;
use crate::run::metrics::{CompletionsLog, JsonLines, Watchdog};
use crate::run::rollout_file::{self, RolloutRow};
use crate::run::setup::{self, Opening};
use crate::run::state::{Beginning, RunState};

/// [generation batch][prompt] rows.
type Replay = VecDeque<Vec<Vec<RolloutRow>>>;

impl Trainer {
    /// Builds every stage, fresh or from a checkpoint, and finds all that is wrong before anything is written.
    ///
    /// # Errors
    /// Whatever is wrong, with the remedy.
    pub fn open(run: Run) -> Result<Self> {
        let mut opening = setup::open(&run, run.training_temperature())?;
        let sampling = setup::sampling(&run, &opening.encoder, opening.suppressed.as_deref());
        let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
        let folder = Some(opening.folder.path());
        let examples = setup::load_dataset(&run, &file, &opening.encoder, folder)?.examples;
        opening.check_memory(&run, Work::Training, &examples)?;
        let teachers = setup::roster(&run, &opening.device, &examples)?;
        let selection = setup::selection(&run);
        selection.check(run.group.num_generations, teachers.num_actions())?;
        let rewards = setup::rewards(&run)?;
        let evaluation = crate::run::evaluation::open_sets(&run, &opening.encoder)?;
        let mut replay = replay(&run, &examples, opening.config.text.vocab_size)?;
        let cut = Cut::of(&run, examples.len());
        let total = total_steps(&run, examples.len(), replay.as_ref().map(VecDeque::len))?;
        let resumes = opening.checkpoint.is_some();
        let reference = super::reference::open(&run, &opening)?;
        let position = opening.position(&run, total, &examples)?;
        let steps_per_pass = run.steps_per_epoch(examples.len());
        opening.check_space(&run, &position, steps_per_pass)?;
        if let Some(replay) = &mut replay {
            replay.drain(..position.data.replayed.min(replay.len()));
        }
        let patience = run.output.watchdog_patience.map(|steps| steps as u64);
        let kept: Option<Watchdog> = position.restore("watchdog")?;
        let resumed = resumes.then_some(position.state.global_step);
        let dump = open_dump(&run, resumed)?;
        let before = position.data.clone();
        let Opening {
            device,
            memory,
            folder,
            base,
            encoder,
            learner,
            ..
        } = opening;
        let beginning = Beginning {
            memory,
            folder,
            base,
            resumes,
            position,
            steps_per_pass,
        };
        // Nothing above this line touches an earlier run.
        let state = RunState::begin(&run, beginning, "train")?;
        let names = rewards.names().map(str::to_owned).collect();
        Ok(Self {
            schedule: setup::schedule(&run, total),
            completions: CompletionsLog::open(state.path(), resumed, names)?,
            advantages: setup::advantages(&run),
            external_ratio: setup::external_ratio(&run),
            watchdog: kept.map_or_else(|| Watchdog::new(patience), |kept| kept.resumed(patience)),
            seen_ahead: None,
            rollouts: 0,
            new_tokens: 0,
            carried: Vec::new(),
            open: device,
            run,
            learner,
            teachers,
            selection,
            encoder,
            examples,
            rewards,
            sampling,
            reference,
            cut,
            state,
            evaluation,
            replay,
            dump,
            before,
        })
    }
}

/// The rows of the file by generation batch: those of a step, and where a step takes several rollouts, those of each.
fn replay(run: &Run, examples: &[Arc<Example>], vocabulary: usize) -> Result<Option<Replay>> {
    let Some(path) = run.output.replay_rollouts.as_deref() else {
        return Ok(None);
    };
    let accepted = rollout_file::Accepted {
        ids: examples.iter().map(|example| example.id.as_str()).collect(),
        vocabulary,
        max_completion_length: run.sampling.max_completion_length,
    };
    let mut batches = Replay::new();
    for rows in rollout_file::read(path, &accepted)? {
        let groups = rollout_file::groups(rows, run.group.num_generations);
        let rollouts = groups.chunks(run.prompts_per_generation());
        batches.extend(rollouts.map(<[_]>::to_vec));
    }
    Ok(Some(batches))
}

fn open_dump(run: &Run, resumed: Option<u64>) -> Result<Option<JsonLines>> {
    let Some(path) = run.output.dump_rollouts.as_deref() else {
        return Ok(None);
    };
    Ok(Some(match resumed {
        None => JsonLines::create(path, setup::existing_dump(run))?,
        Some(step) => JsonLines::resume(path, step)?,
    }))
}

/// Optimizer steps of the run; a replay is as long as its file at most.
fn total_steps(run: &Run, rows: usize, replayed: Option<usize>) -> Result<u64> {
    let Some(generations) = replayed else {
        return Ok(run.steps(rows)?);
    };
    let cut = Cut::of(run, rows);
    let available = (0..generations as u64).map(|index| cut.steps(index)).sum();
    let wanted = u64::try_from(run.batch.max_steps).unwrap_or(available);
    if wanted > available {
        bail!(
            "`max_steps` is {wanted}, but `replay_rollouts` has rollouts for {available} steps\nhint: lower max_steps to {available} or record more"
        );
    }
    Ok(wanted)
}
