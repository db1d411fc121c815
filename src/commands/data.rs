//! `data`: renders data sets in Reason-RFT's format.

use anyhow::Result;

use crate::cli::CountingArguments;
use crate::counting::{CountingOptions, Difficulty, Split};
use crate::demo::run::render;

/// `vision-ekipl data counting`.
pub(super) fn counting(arguments: &CountingArguments) -> Result<()> {
    let known = "the command line allows no other word";
    let options = CountingOptions {
        split: Split::from_name(&arguments.split).expect(known),
        count: arguments.count,
        seed: arguments.seed,
        out: arguments.out.clone(),
        size: arguments.size,
        max_objects: arguments.max_objects,
        difficulty: Difficulty::from_name(&arguments.difficulty).expect(known),
        expert_accuracy: arguments.expert_accuracy,
        expert_actions: arguments.expert_actions,
        expert_name: arguments.expert_name.clone(),
    };
    let summary = render(&options)?;
    println!("{}", summary.rows.display());
    if let Some(expert) = summary.expert {
        println!(
            "{} ({} of {} right)",
            expert.display(),
            summary.expert_right,
            summary.expert_actions
        );
    }
    Ok(())
}
