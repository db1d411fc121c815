//! One file per subcommand: flags in, stages called, results on standard output.

mod data;
mod demo;
mod doctor;
mod eval;
mod full_size;
mod generate;
mod harvest;
mod init;
mod interrupts;
mod merge;
mod output;
mod plan;
mod reward_check;
mod rows;
mod say;
mod score;
mod study;
mod teachers;
mod train;
mod verify_export;

use anyhow::Result;

use crate::cli::{Cli, Command};
pub use interrupts::exit_status;
pub use say::complain;

/// Runs the command that was given.
///
/// # Errors
/// What went wrong, with the remedy.
pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Train(arguments) => train::train(&arguments),
        Command::Sft(arguments) => train::sft(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Merge(arguments) => merge::run(&arguments),
        Command::VerifyExport(arguments) => verify_export::run(&arguments),
        Command::RewardCheck(arguments) => reward_check::run(&arguments),
        Command::Harvest(arguments) => harvest::run(&arguments),
        Command::Teachers(arguments) => teachers::run(&arguments),
        Command::Data { family } => data::run(&family),
        Command::Init(arguments) => init::run(&arguments),
        Command::FullSize(arguments) => full_size::run(&arguments),
        Command::Study(arguments) => study::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    }
}
