//! `eval`: accuracy per task and split, and pass@k.

use std::path::Path;

use anyhow::{Context, Result};

use super::interrupts::{self, FirstSignal};
use super::say::say;
use crate::cli::EvalArguments;
use crate::config::{self, Purpose};
use crate::record::Task;
use crate::run::evaluation::{self, EvaluationReport, EvaluationResult};
use crate::run::metrics::{Progress, table};
use crate::run::setup;
use crate::system::files::{self, Existing, Named};

/// `vision-ekipl eval`.
pub(super) fn run(arguments: &EvalArguments) -> Result<()> {
    interrupts::catch(FirstSignal::Ends)?;
    let run = config::load(Purpose::Eval, &arguments.config, &arguments.flags())?;
    run.log_remarks();
    // Tried before the work, written after it.
    if let Some(path) = &arguments.output {
        let output = Named::new("--output", path);
        output.is_none_of(&setup::inputs(&run, &arguments.config))?;
        output.may_be_written(Existing::from(run.output.overwrite))?;
        files::try_out(path).with_context(|| unwritable(path))?;
    }
    let open = setup::open_device(&run.runtime.device)?;
    let mut subject = evaluation::Subject::open(&run, &open)?;
    let sets = evaluation::all_sets(&run, &subject.encoder)?;
    let parameters = subject.parameter_count as u64;
    let mut evaluator = subject.evaluator(&run);
    let mut results = Vec::new();
    for set in sets {
        let mut progress = Progress::start(&set.name, set.examples.len() as u64, 0);
        let mut advance = |rows: usize| (0..rows).for_each(|_| progress.advance(""));
        results.push(evaluator.evaluate(&set, &mut advance)?);
        progress.finish();
    }
    let shown = render(&results);
    let mut written = Ok(());
    if let Some(path) = &arguments.output {
        let report = EvaluationReport {
            model: run.model.model_name_or_path.display().to_string(),
            parameters,
            device: open.description,
            temperature: run.evaluation.eval_temperature,
            top_p: run.sampling.top_p,
            results,
        };
        let json = serde_json::to_string_pretty(&report)?;
        written = files::write(path, json + "\n", Existing::Replace);
    }
    // Neither of the two is lost with the other.
    say(&shown)?;
    match &arguments.output {
        Some(path) => written.with_context(|| unwritable(path)),
        None => Ok(()),
    }
}

fn unwritable(path: &Path) -> String {
    format!(
        "{}: cannot be written\nhint: check --output, and that the disk is not full",
        path.display()
    )
}

/// One row per task and split.
pub(super) fn render(results: &[EvaluationResult]) -> String {
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let largest = results
        .iter()
        .filter_map(|result| result.pass_at.last())
        .map(|(k, _)| *k)
        .max()
        .unwrap_or(1);
    let pass = format!("pass@{largest}");
    let rows: Vec<Vec<String>> = results
        .iter()
        .map(|result| {
            let formatted = result.rewards.iter().find(|(name, _)| name == "format");
            vec![
                result.name.clone(),
                result.task.map_or("-", Task::name).to_owned(),
                result.rows.to_string(),
                percent(result.accuracy),
                percent(result.exact),
                formatted.map_or_else(|| "-".to_owned(), |(_, share)| percent(*share)),
                result
                    .pass_at
                    .last()
                    .map_or_else(|| "-".to_owned(), |(_, share)| percent(*share)),
                format!("{:.1}", result.mean_length),
            ]
        })
        .collect();
    table(
        &[
            "split",
            "task",
            "rows",
            "accuracy",
            "exact match",
            "format",
            &pass,
            "tokens",
        ],
        &rows,
    )
}
