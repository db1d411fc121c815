//! `harvest`: fills the record of endpoint answers for a data set ahead of training.

mod endpoint;

use std::sync::Arc;

use anyhow::{Result, bail};

use super::interrupts::{self, FirstSignal};
use super::say::say;
use crate::actions::teacher::endpoint::{Estimate, RecordFile};
use crate::cli::HarvestArguments;
use crate::config::{self, Endpoint, External, ExternalSource, Purpose, Run};
use crate::data::dataset::Dataset;
use crate::record::Example;
use crate::run::metrics::table;
use crate::run::setup;
use endpoint::Harvest;

/// `vision-ekipl harvest`.
pub(super) fn run(arguments: &HarvestArguments) -> Result<()> {
    let run = config::load(Purpose::Parts, &arguments.config, &arguments.keys.flags)?;
    run.log_remarks();
    setup::check_outputs(&run, &arguments.config)?;
    let endpoints: Vec<(&External, &Endpoint)> =
        run.group.external.iter().filter_map(endpoint_of).collect();
    if endpoints.is_empty() {
        bail!(
            "`external` has no entry with `base_url`, so there is nothing to harvest\nhint: add an OpenAI-compatible server; other sources need no record"
        );
    }
    let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
    let examples = Dataset::load(&setup::dataset_options(&run, &file)?, &|_| Ok(()))?.examples;
    let record = setup::record_file(&run)?;
    let place = record
        .path()
        .map_or_else(String::new, |path| path.display().to_string());
    if arguments.estimate {
        return estimate(&run, &endpoints, &examples, &record);
    }
    interrupts::catch(FirstSignal::Finishes("stopping; what has come is kept"))?;
    let mut rewards = setup::rewards(&run)?;
    let mut left = arguments.max_cost;
    let mut rows = Vec::new();
    for (external, endpoint) in endpoints {
        let mut harvest = Harvest::open(&run, (external, endpoint), &record, &examples, left)?;
        let ended = harvest.fill(&examples, &mut rewards);
        left = left.map(|left| (left - harvest.report.cost).max(0.0));
        rows.push(harvest.row());
        if let Err(error) = ended {
            say(&table(&HEADERS, &rows))?;
            return Err(error.context(format!("what has come so far is in {place}")));
        }
    }
    say(&format!("{}\nrecord: {place}\n", table(&HEADERS, &rows)))
}

fn endpoint_of(external: &External) -> Option<(&External, &Endpoint)> {
    match &external.source {
        ExternalSource::Endpoint(endpoint) => Some((external, endpoint)),
        _ => {
            log::info!("`{}` needs no record and is left out", external.name);
            None
        }
    }
}

const HEADERS: [&str; 9] = [
    "source", "answers", "of", "reward", "format", "accuracy", "tokens", "cost", "lost",
];

/// Counts tokens and price of what is missing; nothing is sent.
fn estimate(
    run: &Run,
    endpoints: &[(&External, &Endpoint)],
    examples: &[Arc<Example>],
    record: &Arc<RecordFile>,
) -> Result<()> {
    let mut rows = Vec::new();
    for (external, endpoint) in endpoints {
        let teacher = setup::endpoint_teacher(run, external, endpoint, Arc::clone(record), None)?;
        let Estimate {
            actions,
            recorded,
            requests,
            input_tokens,
            output_tokens,
            has_recorded_lengths,
            cost,
            spent,
            unreadable,
        } = teacher.estimate(examples);
        let bound = if has_recorded_lengths { "" } else { "at most " };
        rows.push(vec![
            external.name.clone(),
            actions.to_string(),
            recorded.to_string(),
            unreadable.to_string(),
            requests.to_string(),
            input_tokens.to_string(),
            format!("{bound}{output_tokens}"),
            format!("{bound}{cost:.4}"),
            format!("{spent:.4}"),
        ]);
    }
    let headers = [
        "source",
        "actions",
        "recorded",
        "unreadable",
        "requests",
        "input tokens",
        "output tokens",
        "cost",
        "spent before",
    ];
    say(&table(&headers, &rows))
}
