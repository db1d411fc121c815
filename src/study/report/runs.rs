//! What ran where, with what, and what did not: the part of the report that others need to repeat or to doubt it.

use super::document::{Block, Emphasis, Row, Table};
use crate::study::results::collection::Study;
use crate::study::results::result::{FinalEvaluation, MissingKind, RunResult};
use crate::study::results::statistics;
use crate::study::results::text::{EMPTY, counted, distinct, duration};

/// Where the exact commands are, which are too many for a report.
const COMMANDS: &str = "The exact commands of a run, data and earlier stages included, stand in its result file under the \
    key commands; the command under a chart prints those of all its runs with --dry-run.";

/// Seeds, machine, commit, model, decoding; then the runs, then the gaps.
pub(super) fn blocks<'a>(study: &Study) -> Vec<Block<'a>> {
    let mut blocks = vec![Block::List(circumstances(study))];
    if !study.results.is_empty() {
        blocks.push(Block::Table(runs(study)));
        blocks.push(Block::Text(COMMANDS.to_owned()));
    }
    let missing = missing(study);
    if missing.is_empty() {
        blocks.push(Block::Text("No planned run is missing.".to_owned()));
    } else {
        let count = counted(missing.len(), "planned run");
        blocks.push(Block::Text(format!("Without a result, {count}:")));
        blocks.push(Block::List(missing));
    }
    blocks
}

/// One line per circumstance, with the number of runs for each value where they differ.
fn circumstances(study: &Study) -> Vec<String> {
    let runs = |value: &dyn Fn(&RunResult) -> String| {
        let values: Vec<String> = study.results.iter().map(value).collect();
        tally(&values)
    };
    let finals: Vec<&FinalEvaluation> = study
        .results
        .iter()
        .flat_map(|run| &run.final_evaluations)
        .collect();
    let rows: Vec<String> = study
        .results
        .iter()
        .flat_map(|run| {
            run.final_evaluations
                .iter()
                .map(move |one| (run.family, one))
        })
        .map(|(family, one)| format!("{} {} {}", family.name(), one.split, one.rows))
        .collect();
    let decoding: Vec<String> = finals
        .iter()
        .map(|one| match one.temperature {
            0.0 => "greedy".to_owned(),
            temperature => format!("temperature {temperature}"),
        })
        .collect();
    let sampling: Vec<String> = finals
        .iter()
        .filter_map(|one| one.pass_at_k.as_ref())
        .map(|pass| {
            let (samples, top_p) = (pass.samples_per_row, pass.top_p);
            format!(
                "n = {samples}, temperature {}, top_p {top_p}",
                pass.temperature
            )
        })
        .collect();
    let seeds: Vec<String> = {
        let mut seeds: Vec<u64> = study.results.iter().map(|run| run.seed).collect();
        seeds.sort_unstable();
        distinct(seeds).iter().map(u64::to_string).collect()
    };
    let model = |run: &RunResult| {
        let millions = run.model.parameters as f64 / 1e6;
        format!(
            "{}, {millions:.2} million parameters",
            run.model.description
        )
    };
    [
        ("Seeds", seeds.join(", ")),
        ("Commit", runs(&|run| run.commit.clone())),
        ("Machine", runs(&|run| run.machine.clone())),
        ("Device", runs(&|run| run.device.clone())),
        ("Model", runs(&model)),
        ("Decoding for accuracy", tally(&decoding)),
        ("Decoding for pass@k", tally(&sampling)),
        ("Rows per split", distinct(rows).join("; ")),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| format!("{name}: {value}"))
    .collect()
}

/// `a`, or `a (3 times); b (once)`: what should be equal and is not must be seen.
fn tally(values: &[String]) -> String {
    let kinds = distinct(values);
    if kinds.len() < 2 {
        return kinds
            .first()
            .map(|kind| (*kind).clone())
            .unwrap_or_default();
    }
    let count = |kind: &&String| values.iter().filter(|value| value == kind).count();
    let kinds = kinds
        .iter()
        .map(|kind| format!("{kind} (×{})", count(kind)));
    kinds.collect::<Vec<String>>().join("; ")
}

fn runs(study: &Study) -> Table {
    let mut rows = Vec::new();
    let named = distinct(
        study
            .results
            .iter()
            .map(|run| (run.method.order, &run.method.key)),
    );
    let mut named: Vec<_> = named.into_iter().collect();
    named.sort();
    for (_, key) in named {
        for family in crate::study::results::result::Family::ALL {
            let runs = study.runs(key, family);
            let Some(first) = runs.first() else {
                continue;
            };
            let seeds: Vec<String> = runs.iter().map(|run| run.seed.to_string()).collect();
            let steps: Vec<String> = runs
                .iter()
                .map(|run| {
                    run.steps
                        .last()
                        .map_or(EMPTY.to_owned(), |step| step.step.to_string())
                })
                .collect();
            let seconds: Vec<f64> = runs.iter().map(|run| run.wall_seconds).collect();
            let starts: Vec<&str> = distinct(runs.iter().map(|run| run.start.as_str()));
            rows.push(Row {
                cells: vec![
                    first.method.title.clone(),
                    family.name().to_owned(),
                    seeds.join(", "),
                    distinct(steps).join(", "),
                    statistics::mean(&seconds).map_or(EMPTY.to_owned(), duration),
                    starts.join("; "),
                ],
                emphasis: Emphasis::None,
            });
        }
    }
    let header = [
        "method",
        "family",
        "seeds",
        "steps",
        "time per run",
        "start",
    ];
    let total: f64 = study.results.iter().map(|run| run.wall_seconds).sum();
    Table {
        caption: format!(
            "{} with a result, {} planned, {} in all if run one after another.",
            counted(study.results.len(), "run"),
            counted(study.seeds().len(), "seed"),
            duration(total)
        ),
        header: header.map(str::to_owned).to_vec(),
        rows,
        notes: Vec::new(),
    }
}

fn missing(study: &Study) -> Vec<String> {
    let line = |run: &crate::study::results::result::MissingRun| {
        let (title, family, seed) = (&run.method.title, run.family.name(), run.seed);
        let what = match run.kind {
            MissingKind::NotRun => "not run",
            MissingKind::Failed => "failed",
        };
        format!("{title}, {family}, seed {seed}: {what}: {}", run.reason)
    };
    study.missing.iter().map(line).collect()
}
