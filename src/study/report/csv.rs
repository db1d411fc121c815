//! The final numbers of every run as a table for other programs, one line per run and split.

use std::path::Path;

use crate::printable::printable;
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

/// What every `results.csv` begins with.
pub(super) const MARK: &str = "method,title,role,family,seed,split";

/// The text of `results.csv`.
///
/// # Errors
/// The path names a file that cannot be written; a table in memory always can.
pub(super) fn render(results: &[RunResult], path: &Path) -> Result<String, StudyError> {
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
    let mut writer = csv::Writer::from_writer(Vec::new());
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
    let bytes = writer.into_inner();
    let bytes = bytes.map_err(|error| io_error("write", path)(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
    let fixed = fixed.map(|cell| shown(&cell));
    fixed.into_iter().chain(ks.iter().map(at)).collect()
}

/// A cell that no spreadsheet takes for a formula: one that begins as formulas do gets an apostrophe before it, and line ends
/// and other control characters, which could begin a cell anew, are written out.
fn shown(cell: &str) -> String {
    let cell = printable(cell).to_string();
    // Full-width signs are formulas too where East Asian input is usual.
    let formula = [
        '=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}',
    ];
    if cell.trim_start().starts_with(formula) {
        format!("'{cell}")
    } else {
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::fixture::{method, run};
    use crate::study::results::result::Family;

    #[test]
    fn cells_are_text_and_never_formulas() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "  =1", "\u{ff1d}1"] {
            assert_eq!(shown(formula), format!("'{formula}"));
        }
        assert_eq!(shown("\t=1"), r"\t=1", "a tab would be skipped");
        assert_eq!(shown("a\r\n=1"), r"a\r\n=1");
        assert_eq!(shown("0.5"), "0.5");
        let mut result = run(method("ours", Role::Proposed), Family::Counting, 1, 5);
        result.method.title = "=HYPERLINK(\"http://evil\",\"x\")".to_owned();
        result.commit = "@x".to_owned();
        result.device = "+1".to_owned();
        result.config_digest = "-1".to_owned();
        result.final_evaluations[0].split = "=1".to_owned();
        let text = render(&[result], Path::new("results.csv")).expect("a table");
        assert!(text.starts_with(MARK), "{text}");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        for record in reader.records().map(|record| record.expect("a record")) {
            for cell in &record {
                assert!(
                    !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                    "{cell}"
                );
            }
        }
    }
}
