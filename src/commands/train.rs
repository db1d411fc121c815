//! `train` and `sft`: resolve the configuration, then run it or say what it would take.

use anyhow::Result;

use super::interrupts::{self, FirstSignal};
use super::plan;
use super::say::{say, say_line};
use crate::cli::TrainArguments;
use crate::config::{self, Purpose, Run};
use crate::run::{setup, sft, train};

/// A run saves what it has learnt.
pub(super) const AFTER_STEP: FirstSignal =
    FirstSignal::Finishes("stopping after this step, with a checkpoint");

/// `vision-ekipl train`.
pub(super) fn train(arguments: &TrainArguments) -> Result<()> {
    let run = load(arguments, Purpose::Train)?;
    if arguments.dry_run {
        return dry_run(&run, Purpose::Train);
    }
    interrupts::catch(AFTER_STEP)?;
    let folder = train::train(run)?;
    say_line(&folder.display().to_string())
}

/// `vision-ekipl sft`.
pub(super) fn sft(arguments: &TrainArguments) -> Result<()> {
    let run = load(arguments, Purpose::Sft)?;
    if arguments.dry_run {
        return dry_run(&run, Purpose::Sft);
    }
    interrupts::catch(AFTER_STEP)?;
    let folder = sft::fine_tune(run)?;
    say_line(&folder.display().to_string())
}

fn load(arguments: &TrainArguments, purpose: Purpose) -> Result<Run> {
    let run = config::load(purpose, &arguments.config, &arguments.keys.flags)?;
    run.log_remarks();
    setup::check_outputs(&run, &arguments.config)?;
    Ok(run)
}

/// Prints the resolved configuration, the steps, and the memory that they take.
fn dry_run(run: &Run, purpose: Purpose) -> Result<()> {
    let planned = plan::comment(run, purpose)?;
    say(&format!("{}\n\n{planned}", run.to_yaml().trim_end()))
}
