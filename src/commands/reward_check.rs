//! `reward-check`: what the configured rewards say to given completions, without a model or a device.

mod completion_rows;
mod json;
mod report;
mod scoring;
mod text;

use std::collections::HashMap;

use anyhow::{Result, bail};

use super::interrupts::{self, FirstSignal};
use super::say::say;
use crate::cli::RewardCheckArguments;
use crate::config::{self, Purpose};
use crate::data::dataset::Dataset;
use crate::record::Example;
use crate::run::setup;
use completion_rows::CompletionRow;
use report::{Checked, LeftOut, Report};

/// `vision-ekipl reward-check`.
pub(super) fn run(arguments: &RewardCheckArguments) -> Result<()> {
    interrupts::catch(FirstSignal::Ends)?;
    let run = config::load(Purpose::Parts, &arguments.config, &arguments.keys.flags)?;
    run.log_remarks();
    let limit = arguments.limit.unwrap_or(usize::MAX);
    let rows = completion_rows::read(&arguments.completions, limit)?;
    let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
    let dataset = Dataset::load(&setup::dataset_options(&run, &file)?, &|_| Ok(()))?;
    let (known, left_out) = join(&rows, &dataset);
    if known.is_empty() {
        bail!(
            "{}: none of its {} completions belongs to a row of {}:{}\nhint: name the data file that they were made for with --dataset_name, or its split with --dataset_train_split",
            arguments.completions.display(),
            rows.len(),
            file.display(),
            text::left_out(&left_out)
        );
    }
    let tokenizer = scoring::tokenizer(&run);
    let mut rewards = setup::rewards(&run)?;
    let scored = scoring::score(&known, &mut rewards, &run, tokenizer.as_ref())?;
    let pairs = known.iter().zip(&scored);
    let report = Report {
        names: rewards.names().map(str::to_owned).collect(),
        checked: pairs
            .map(|((row, example), scored)| Checked {
                row,
                example,
                scored,
            })
            .collect(),
        left_out,
    };
    say(&if arguments.json {
        json::render(&report)
    } else {
        text::render(&report)
    })
}

/// The rows with their examples, and the rows that have none.
fn join<'a>(
    rows: &'a [CompletionRow],
    dataset: &'a Dataset,
) -> (Vec<(&'a CompletionRow, &'a Example)>, Vec<LeftOut>) {
    let examples = dataset
        .examples
        .iter()
        .map(|example| (example.id.as_str(), example.as_ref()));
    let examples: HashMap<&str, &Example> = examples.collect();
    let rejected = dataset
        .rejected
        .iter()
        .filter_map(|row| Some((row.id.as_deref()?, row)));
    let rejected: HashMap<&str, _> = rejected.collect();
    let (mut known, mut left_out) = (Vec::new(), Vec::new());
    for row in rows {
        let id = row.id.as_str();
        if let Some(example) = examples.get(id) {
            known.push((row, *example));
            continue;
        }
        let reason = rejected
            .get(id)
            .map(|row| format!("its row is rejected: {}", row.reason));
        left_out.push(LeftOut {
            place: row.origin.clone(),
            id: row.id.clone(),
            reason: reason.unwrap_or_else(|| "the data set has no such id".to_owned()),
        });
    }
    (known, left_out)
}
