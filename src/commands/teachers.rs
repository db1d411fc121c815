//! `teachers`: one example to every external model: how long it takes, what comes back, what it is worth.

mod round_trip;

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::interrupts::{self, FirstSignal};
use super::say::say;
use crate::actions::reward::{Rewards, ScoreContext};
use crate::actions::teacher::{TeacherAnswer, clean_text};
use crate::cli::TeachersArguments;
use crate::config::{self, External, ExternalSource, Purpose, Run};
use crate::data::dataset::Dataset;
use crate::record::{Action, Example, FinishReason, ScoredAction, Source};
use crate::run::metrics::table;
use crate::run::setup;
use round_trip::{Trip, round_trip};

/// `vision-ekipl teachers`.
pub(super) fn run(arguments: &TeachersArguments) -> Result<()> {
    interrupts::catch(FirstSignal::Ends)?;
    let run = config::load(Purpose::Parts, &arguments.config, &arguments.keys.flags)?;
    run.log_remarks();
    setup::check_outputs(&run, &arguments.config)?;
    if run.group.external.is_empty() {
        bail!(
            "`external` is [], so there is nobody to ask\nhint: add an entry with `path`, `model_name_or_path`, `base_url` or `column`"
        );
    }
    let example = example(&run, arguments.id.as_deref())?;
    let mut rewards = setup::rewards(&run)?;
    let mut lines = Vec::new();
    for external in &run.group.external {
        let trip = round_trip(&run, external, &example);
        lines.push(describe(external, trip, &example, &mut rewards)?);
    }
    let headers = [
        "source", "kind", "seconds", "tokens", "cost", "reward", "verdict",
    ];
    let cells: Vec<_> = lines.iter().map(|line| line.cells.clone()).collect();
    let mut text = format!(
        "example `{}`, gold answer {}\n\n{}",
        example.id,
        example.solution,
        table(&headers, &cells)
    );
    for (external, line) in run.group.external.iter().zip(&lines) {
        text.push_str(&format!("\n{}:\n{}\n", external.name, line.text));
    }
    say(&text)
}

/// The row with this id, or the first one.
fn example(run: &Run, id: Option<&str>) -> Result<Arc<Example>> {
    let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
    let dataset = Dataset::load(&setup::dataset_options(run, &file)?, &|_| Ok(()))?;
    let mut examples = dataset.examples.into_iter();
    match id {
        None => examples
            .next()
            .with_context(|| format!("{}: has no rows", file.display())),
        Some(id) => examples.find(|example| example.id == id).with_context(|| {
            format!(
                "{}: has no row `{id}`\nhint: --id takes the `id` of a row",
                file.display()
            )
        }),
    }
}

/// A row of the table, and the text below it.
struct Line {
    cells: Vec<String>,
    text: String,
}

fn describe(
    external: &External,
    trip: Result<Trip>,
    example: &Example,
    rewards: &mut Rewards,
) -> Result<Line> {
    let kind = match external.source {
        ExternalSource::Recorded { .. } => "recorded",
        ExternalSource::Local(_) => "local",
        ExternalSource::Endpoint(_) => "endpoint",
        ExternalSource::Column { .. } => "column",
    };
    let mut cells = vec![external.name.clone(), kind.to_owned()];
    let trip = match trip {
        Ok(trip) => trip,
        Err(error) => {
            cells.extend(["-", "-", "-", "-", "cannot be used"].map(str::to_owned));
            return Ok(Line {
                cells,
                text: format!("{error:#}"),
            });
        }
    };
    cells.push(format!("{:.2}", trip.seconds));
    cells.push(
        trip.tokens
            .map_or_else(|| "-".to_owned(), |tokens| tokens.to_string()),
    );
    cells.push(format!("{:.6}", trip.cost));
    let answer = match trip.answer {
        Ok(answer) => answer,
        Err(reason) => {
            cells.extend(["-", "no answer"].map(str::to_owned));
            return Ok(Line {
                cells,
                text: reason,
            });
        }
    };
    let scored = score(&external.name, &answer, example, rewards)?;
    let reward = scored
        .reward
        .map_or_else(|| "-".to_owned(), |reward| reward.to_string());
    let verdict = match (answer.finish_reason, scored.passes) {
        (FinishReason::Length, _) => "cut off: raise max_tokens",
        (FinishReason::Stop, true) => "right",
        (FinishReason::Stop, false) => "wrong",
    };
    cells.extend([reward, verdict.to_owned()]);
    Ok(Line {
        cells,
        text: answer.text,
    })
}

/// The rewards of a text as it came; rewards of tokens do not apply.
pub(super) fn score(
    name: &str,
    answer: &TeacherAnswer,
    example: &Example,
    rewards: &mut Rewards,
) -> Result<ScoredAction> {
    let action = Action {
        source: Source::External(name.into()),
        token_ids: Vec::new(),
        text: clean_text(&answer.text).to_owned(),
        sampling_logprobs: None,
        external_logprobs: None,
        external_logprob_sum: None,
        old_logprobs: None,
        finish: answer.finish_reason,
    };
    let context = ScoreContext {
        step: 0,
        max_completion_length: usize::MAX,
        characters: None,
    };
    let mut groups = rewards.score_batch(vec![(vec![action], example)], &context)?;
    groups
        .pop()
        .and_then(|mut group| group.pop())
        .context("a scored action for the one given")
}
