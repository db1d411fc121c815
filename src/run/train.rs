//! The training loop, one screen: data -> prompts -> own actions -> rewards -> external actions -> selection ->
//! advantages -> loss -> update.
//!
//! Where it departs from textbook GRPO: the pool of a prompt holds external actions beside the policy's own, and only the
//! selected ones train (Vision-EKIPL, section 3); with `external: []` the same lines are plain GRPO. No maths and no file
//! formats here.

use std::path::PathBuf;

use anyhow::Result;

use crate::actions::selection;
use crate::config::Run;
use crate::run::metrics::{Phase, PhaseTimer};
use crate::run::trainer::{GenerationBatch, Rollouts, Trainer};

/// Trains until the last step or until somebody asks to stop; returns the run's folder.
///
/// # Errors
/// Whatever is wrong, with the remedy; the last whole checkpoint stays usable. What ends a run by rule first logs the step
/// and saves the last good state.
pub fn train(run: Run) -> Result<PathBuf> {
    let mut trainer = Trainer::open(run)?;
    let ended = learn(&mut trainer);
    trainer.finish(ended)
}

/// Generation batch after generation batch, each with its optimizer steps.
fn learn(trainer: &mut Trainer) -> Result<()> {
    trainer.evaluate_at_start()?;
    while trainer.goes_on() {
        let mut timer = PhaseTimer::start();
        let Some(batch) = generate(trainer, &mut timer)? else {
            break; // interrupted while teachers were awaited: the batch was not taken
        };
        for part in batch.parts() {
            // Forward, loss, backward; refuses what is not finite.
            if let Some(learned) = trainer.learn(&batch, &part)? {
                timer.lap(Phase::UpdateActor);
                trainer.finish_step(&batch, &learned, &timer)?;
                trainer.evaluate_if_due()?;
                timer = PhaseTimer::start();
            }
        }
        trainer.finish_generation()?;
    }
    Ok(())
}

/// What is learnt from until the next rollout.
fn generate(trainer: &mut Trainer, timer: &mut PhaseTimer) -> Result<Option<GenerationBatch>> {
    let mut rollouts = Rollouts::default();
    loop {
        let (examples, prompts) = trainer.next_prompts()?; // [Q]
        let mut groups = trainer.sample(&examples, &prompts, timer)?; // [Q][N] actions of the policy, scored
        let open = selection::gate(&groups, &trainer.selection.external_when, trainer.key());
        let Some(asked) = trainer.ask_teachers(&mut groups, &open, timer)? else {
            return Ok(None);
        }; // [Q][N + M] pools, scored
        trainer.credit(&mut groups, timer)?; // [Q][G] selected, with advantages
        if !trainer.wants_more(&mut rollouts, groups, asked) {
            break;
        }
    }
    let batch = trainer.plan(rollouts, timer)?; // packed, cut into micro-batches
    trainer.look_ahead(&batch)?; // slow teachers answer while the device learns
    Ok(Some(batch))
}
