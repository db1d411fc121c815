//! The report's tables: accuracy, differences, pass@k, convergence, time.
//!
//! Every average is computed from the runs; nothing is copied.

use std::collections::BTreeSet;

use super::document::{Emphasis, Row, Table};
use crate::study::report::charts::pass::powers_of_two;
use crate::study::results::collection::{Cell, Measure, Study};
use crate::study::results::convergence::{Race, Reached, races};
use crate::study::results::result::{Family, Method, Role};
use crate::study::results::statistics::{self, summarize};
use crate::study::results::text::{EMPTY, Unit, counted, family_list, percent};

fn emphasis(method: &Method) -> Emphasis {
    match method.role {
        Role::Proposed => Emphasis::Strong,
        _ => Emphasis::None,
    }
}

fn row(name: String, values: impl Iterator<Item = String>, emphasis: Emphasis) -> Row {
    let cells = std::iter::once(name).chain(values).collect();
    Row { cells, emphasis }
}

/// Why cells of these methods and families are empty or rest on fewer seeds.
fn gaps(study: &Study, methods: &[&Method], families: &[Family]) -> Vec<String> {
    let pairs = methods
        .iter()
        .flat_map(|method| families.iter().map(move |family| (method, *family)));
    pairs
        .filter_map(|(method, family)| {
            let gap = study.gap(&method.key, family)?;
            Some(format!("{}, {}: {gap}", method.title, family.name()))
        })
        .collect()
}

/// `counting, in domain`, ..., and `average` where there is something to average over.
fn columns(families: &[Family]) -> (Vec<String>, Vec<Vec<Cell>>) {
    let cells = Study::cells(families);
    let name = |(family, domain): &Cell| format!("{}, {}", family.name(), domain.title());
    let mut header: Vec<String> = cells.iter().map(name).collect();
    let mut groups: Vec<Vec<Cell>> = cells.iter().map(|cell| vec![*cell]).collect();
    header.push("average".to_owned());
    groups.push(cells);
    (header, groups)
}

fn with_first(name: &str, header: Vec<String>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(header).collect()
}

/// Mean and deviation over seeds: a row per method, a column per family and domain, and their average.
pub(super) fn scores(
    study: &Study,
    methods: &[&Method],
    families: &[Family],
    measure: Measure,
) -> Table {
    let (header, groups) = columns(families);
    let seeds = study.seeds().len();
    let value = |method: &Method, cells: &[Cell]| {
        let per_seed = study.per_seed(&method.key, measure, cells);
        let values: Vec<f64> = per_seed.into_values().collect();
        Unit::Percent.summary(summarize(&values), seeds)
    };
    let line = |method: &&Method| {
        let values = groups.iter().map(|cells| value(method, cells));
        row(method.title.clone(), values, emphasis(method))
    };
    let what = match measure {
        Measure::Accuracy => "Accuracy",
        Measure::ExactMatch => "Answers that are right in every part",
        Measure::PassAt(_) => "pass@k",
    };
    Table {
        caption: format!(
            "{what} in percent: mean ± standard deviation over {}. An average takes the seeds that have all its cells.",
            counted(seeds, "seed")
        ),
        header: with_first("method", header),
        rows: methods.iter().map(line).collect(),
        notes: gaps(study, methods, families),
    }
}

/// Paired differences with intervals: to the baseline, then of the proposed methods to their own counterparts.
pub(super) fn differences(study: &Study, methods: &[&Method], families: &[Family]) -> Table {
    let (header, groups) = columns(families);
    let line = |method: &Method, other: &str, name: String| {
        let pair = (method.key.as_str(), other);
        let value = |cells: &Vec<Cell>| {
            Unit::Percent.difference(study.difference(pair, Measure::Accuracy, cells))
        };
        row(name, groups.iter().map(value), emphasis(method))
    };
    let mut rows = Vec::new();
    for method in methods.iter().filter(|method| method.key != study.baseline) {
        rows.push(line(method, study.baseline, method.title.clone()));
        let counterpart = study.counterpart(method);
        if method.role == Role::Proposed && counterpart != study.baseline {
            let name = format!("{}, minus {}", method.title, study.title(counterpart));
            rows.push(line(method, counterpart, name));
        }
    }
    let baseline = study.title(study.baseline);
    Table {
        caption: format!(
            "Paired differences to {baseline} in points (where another method is named, to that one): mean over the seeds that \
             both have, with Student's t interval at 95 %."
        ),
        header: with_first(&format!("minus {baseline}"), header),
        rows,
        notes: Vec::new(),
    }
}

/// pass@k averaged over families and domains, then its differences to the baseline; `None` if nothing was measured.
pub(super) fn pass_at_k(
    study: &Study,
    methods: &[&Method],
    families: &[Family],
) -> Option<[Table; 2]> {
    let mut methods = methods.to_vec();
    methods.retain(|method| study.largest_k(&[&method.key]).is_some());
    let keys: Vec<&str> = methods.iter().map(|method| method.key.as_str()).collect();
    let ks = powers_of_two(study.largest_k(&keys)?);
    let cells = Study::cells(families);
    let seeds = study.seeds().len();
    let score = |method: &Method, k: u32| {
        let per_seed = study.per_seed(&method.key, Measure::PassAt(k), &cells);
        let values: Vec<f64> = per_seed.into_values().collect();
        Unit::Percent.summary(summarize(&values), seeds)
    };
    let difference = |method: &Method, k: u32| {
        let pair = (method.key.as_str(), study.baseline);
        Unit::Percent.difference(study.difference(pair, Measure::PassAt(k), &cells))
    };
    let table = |value: &dyn Fn(&Method, u32) -> String, rows: &[&Method], caption: String| {
        let header = ks.iter().map(|k| format!("pass@{k}")).collect();
        let line = |method: &&Method| {
            let values = ks.iter().map(|k| value(method, *k));
            row(method.title.clone(), values, emphasis(method))
        };
        Table {
            caption,
            header: with_first("method", header),
            rows: rows.iter().map(line).collect(),
            notes: Vec::new(),
        }
    };
    let over = format!(
        "averaged over {} in and out of domain",
        family_list(families)
    );
    let caption = format!(
        "pass@k in percent, {over}: mean ± standard deviation over {}.",
        counted(seeds, "seed")
    );
    let mut scores = table(&score, &methods, caption);
    scores.notes = gaps(study, &methods, families);
    methods.retain(|method| method.key != study.baseline);
    let baseline = study.title(study.baseline);
    let caption =
        format!("pass@k minus that of {baseline} in points, {over}, with 95 % intervals.");
    Some([scores, table(&difference, &methods, caption)])
}

/// When each method reaches the baseline's final reward; `None` if no method has rewards.
pub(super) fn convergence(
    study: &Study,
    methods: &[&Method],
    families: &[Family],
) -> Option<Table> {
    let line = |method: &&Method| {
        let pair = (method.key.as_str(), study.baseline);
        let of_family = |family: &Family| races(study, pair, *family).into_values().collect();
        let by_family: Vec<Vec<Race>> = families.iter().map(of_family).collect();
        let all: Vec<Race> = by_family.iter().flatten().copied().collect();
        if all.is_empty() {
            return None;
        }
        let steps = by_family.iter().map(|races| steps_cell(races));
        let shares = [
            share_cell(&all, |reached| reached.of_steps),
            share_cell(&all, |reached| reached.of_samples),
            share_cell(&all, |reached| reached.of_seconds),
        ];
        Some(row(
            method.title.clone(),
            steps.chain(shares),
            emphasis(method),
        ))
    };
    let rows: Vec<Row> = methods.iter().filter_map(line).collect();
    let step = |family: &Family| format!("{}: step", family.name());
    let shares = ["share of steps", "share of completions", "share of time"];
    let header = families.iter().map(step).chain(shares.map(str::to_owned));
    let baseline = study.title(study.baseline);
    (!rows.is_empty()).then(|| Table {
        caption: format!(
            "First step at which the mean reward of a tenth of the steps is at least that of the last tenth of {baseline} with \
             the same seed: mean ± standard deviation over seeds. Shares are of the whole course of {baseline}, over the \
             families and seeds that both have."
        ),
        header: with_first("method", header.collect()),
        rows,
        notes: vec![format!(
            "A noisy curve meets a level early by chance; the row of {baseline} itself shows how early."
        )],
    })
}

fn steps_cell(races: &[Race]) -> String {
    let reached = races.iter().filter_map(|race| race.ours);
    let steps: Vec<f64> = reached.map(|reached| reached.step as f64).collect();
    match (steps.len(), races.len()) {
        (_, 0) => EMPTY.to_owned(),
        (0, runs) => format!("not reached (0 of {runs})"),
        (count, runs) if count == runs => Unit::Whole.summary(summarize(&steps), count),
        (count, runs) => {
            let steps = Unit::Whole.summary(summarize(&steps), count);
            format!("{steps} ({count} of {runs})")
        }
    }
}

fn share_cell(races: &[Race], share: impl Fn(Reached) -> f64) -> String {
    let shares: Vec<f64> = races
        .iter()
        .filter_map(|race| race.ours.map(&share))
        .collect();
    match statistics::mean(&shares) {
        Some(mean) if shares.len() == races.len() => percent(mean),
        Some(_) | None => format!("not all reached ({} of {})", shares.len(), races.len()),
    }
}

/// Mean seconds per phase and run; `None` if no run of the methods has any.
pub(super) fn timing(study: &Study, methods: &[&Method]) -> Option<Table> {
    let runs = |method: &Method| {
        let all = study.results.iter();
        all.filter(|run| run.method.key == method.key && !run.timing_s.is_empty())
            .collect::<Vec<_>>()
    };
    let mut methods = methods.to_vec();
    methods.retain(|method| !runs(method).is_empty());
    let phases: BTreeSet<&str> = methods
        .iter()
        .flat_map(|method| runs(method))
        .flat_map(|run| run.timing_s.keys().map(String::as_str))
        .collect();
    let value = |method: &Method, phase: &str| {
        let seconds = runs(method)
            .into_iter()
            .map(|run| run.timing_s.get(phase).copied());
        let seconds: Vec<f64> = seconds.map(|seconds| seconds.unwrap_or(0.0)).collect();
        let whole: Vec<f64> = runs(method).iter().map(|run| run.wall_seconds).collect();
        let (mean, whole) = (statistics::mean(&seconds), statistics::mean(&whole));
        match mean.zip(whole) {
            Some((mean, whole)) => format!("{mean:.1} ({:.0} %)", 100.0 * mean / whole.max(1e-9)),
            None => EMPTY.to_owned(),
        }
    };
    let line = |phase: &&str| {
        let values = methods.iter().map(|method| value(method, phase));
        row((*phase).to_owned(), values, Emphasis::None)
    };
    let header = methods.iter().map(|method| method.title.clone()).collect();
    (!phases.is_empty()).then(|| Table {
        caption: "Seconds per phase: mean over runs, and the share of the run's whole time. Phases may overlap or contain one another."
            .to_owned(),
        header: with_first("phase", header),
        rows: phases.iter().map(line).collect(),
        notes: Vec::new(),
    })
}
