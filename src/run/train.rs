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
use crate::run::trainer::Trainer;

/// Trains until the last step or until somebody asks to stop; returns the run's folder.
///
/// # Errors
/// Whatever is wrong, with the remedy; the last whole checkpoint stays usable.
pub fn train(run: Run) -> Result<PathBuf> {
    let mut trainer = Trainer::open(run)?;
    let mut save_due = false;
    while let Some(step) = trainer.next_step() {
        let mut timer = PhaseTimer::start();
        if trainer.pending.is_empty() {
            let (examples, prompts) = trainer.next_prompts()?; // [Q]
            let mut groups = trainer.sample(step, &examples, &prompts)?; // [Q][N] actions of the policy, scored
            timer.lap(Phase::Gen);
            let open =
                selection::gate(&groups, &trainer.selection.external_when, trainer.key(step));
            let Some(external) = trainer.ask_teachers(step, &mut groups, &open)? else {
                break; // interrupted while teachers were awaited: the step was not taken
            }; // [Q][N + M] pools, scored
            timer.lap(Phase::External);
            trainer.plan(step, groups, &external, &mut timer)?; // [Q][G] selected, credited, packed
            trainer.look_ahead(step)?; // slow teachers answer while the device learns
        }
        let Some(work) = trainer.pending.pop_front() else {
            continue;
        };
        let (learned, update) = trainer.learn(step, &work)?; // forward, loss, backward; refuses what is not finite
        timer.lap(Phase::UpdateActor);
        trainer.finish_step(step, &work, &learned, update, &timer)?;
        trainer.evaluate_if_due(step)?;
        trainer.save_if_due(step, &mut save_due)?;
    }
    trainer.finish()
}
