//! The final numbers of every run as a table for other programs, one line per run and split.

use std::path::Path;

use crate::study::error::{StudyError, io_error};
use crate::study::report::charts::pass::powers_of_two;
use crate::study::results::result::{Domain, FinalEvaluation, Role, RunResult};
use crate::study::results::statistics::mean_pass_at_k;

const COLUMNS: [&str; 18] = [
    "method",
    "title",
    "role",
    "family",
    "seed",
    "split",
    "domain",
    "rows",
    "accuracy",
    "exact_match",
    "temperature",
    "samples_per_row",
    "steps",
    "wall_seconds",
    "parameters",
    "commit",
    "device",
    "config_digest",
];

/// Writes `results.csv`.
///
/// # Errors
/// The file cannot be written.
pub fn write(results: &[RunResult], path: &Path) -> Result<(), StudyError> {
    let samples = |run: &RunResult| {
        let finals = run.final_evaluations.iter();
        let samples = finals.filter_map(|one| Some(one.pass_at_k.as_ref()?.samples_per_row));
        samples.max()
    };
    let ks = results
        .iter()
        .filter_map(samples)
        .max()
        .map_or(Vec::new(), powers_of_two);
    let failed = |error: csv::Error| io_error("write", path)(error.into());
    let mut writer = csv::Writer::from_path(path).map_err(failed)?;
    let header = COLUMNS.iter().map(|column| (*column).to_owned());
    let header = header.chain(ks.iter().map(|k| format!("pass@{k}")));
    writer.write_record(header).map_err(failed)?;
    for run in results {
        for evaluation in &run.final_evaluations {
            writer
                .write_record(record(run, evaluation, &ks))
                .map_err(failed)?;
        }
    }
    writer.flush().map_err(io_error("write", path))
}

fn record(run: &RunResult, evaluation: &FinalEvaluation, ks: &[u32]) -> Vec<String> {
    let role = match run.method.role {
        Role::Reference => "reference",
        Role::Proposed => "proposed",
        Role::EqualBudget => "equal_budget",
        Role::Control => "control",
        Role::Ablation => "ablation",
    };
    let domain = match evaluation.domain {
        Domain::In => "in",
        Domain::Out => "out",
    };
    let pass = evaluation.pass_at_k.as_ref();
    let at = |k: &u32| {
        let value =
            pass.and_then(|pass| mean_pass_at_k(pass.samples_per_row, &pass.correct_counts, *k));
        value.map_or(String::new(), |value| value.to_string())
    };
    let fixed = [
        run.method.key.clone(),
        run.method.title.clone(),
        role.to_owned(),
        run.family.name().to_owned(),
        run.seed.to_string(),
        evaluation.split.clone(),
        domain.to_owned(),
        evaluation.rows.to_string(),
        evaluation.accuracy.to_string(),
        evaluation.exact_match.to_string(),
        evaluation.temperature.to_string(),
        pass.map_or(String::new(), |pass| pass.samples_per_row.to_string()),
        run.steps.last().map_or(0, |step| step.step).to_string(),
        run.wall_seconds.to_string(),
        run.model.parameters.to_string(),
        run.commit.clone(),
        run.device.clone(),
        run.config_digest.clone(),
    ];
    fixed.into_iter().chain(ks.iter().map(at)).collect()
}
