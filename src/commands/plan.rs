//! `plan`, and the lines below the configuration that `--dry-run` prints: the memory of a run, phase by phase, against what
//! the device has, and what to change where it does not fit.

mod planned;
mod text;

use anyhow::Result;

use super::say::{say, say_line};
use crate::cli::PlanArguments;
use crate::config::{self, Purpose, Run};
use planned::Planned;

/// `vision-ekipl plan`.
pub(super) fn run(arguments: &PlanArguments) -> Result<()> {
    let purpose = if arguments.sft {
        Purpose::Sft
    } else {
        Purpose::Train
    };
    let run = config::load(purpose, &arguments.config, &arguments.keys.flags)?;
    run.log_remarks();
    let planned = Planned::new(&run, purpose, arguments.memory_gib)?;
    if arguments.json {
        return say_line(&format!("{:#}", planned.json()));
    }
    say(&format!("{}\n", text::of(&planned)))
}

/// The lines of `--dry-run`.
pub(super) fn comment(run: &Run, purpose: Purpose) -> Result<String> {
    let planned = Planned::new(run, purpose, None)?;
    let lines = text::of(&planned);
    let commented = lines
        .lines()
        .map(|line| format!("# {line}").trim_end().to_owned() + "\n");
    Ok(commented.collect())
}
