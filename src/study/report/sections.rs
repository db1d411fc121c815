//! What the report says, in order: the claims first, then the tables and charts behind them, then how it was made.

use super::document::{Block, Document, Section, Table};
use super::{runs, tables};
use crate::study::report::charts::{Chart, Charts};
use crate::study::results::claims::{EXPECTED_GAIN, claims};
use crate::study::results::collection::{Measure, Study};
use crate::study::results::result::{Family, Method, Role};
use crate::study::results::text::{family_list, listed};

/// The heading of every report.
pub(super) const TITLE: &str = "Vision-EKIPL: the study";

/// The whole report.
#[must_use]
pub fn document<'a>(study: &Study, charts: &'a Charts) -> Document<'a> {
    let core = study.methods(&[Role::Reference, Role::Proposed]);
    let families = study.families(&core);
    let sections = [
        claims_section(study),
        accuracy_section(study, &core, &families),
        learning_section(study, charts, &families),
        selected_section(charts),
        pass_section(study, charts, &core, &families),
        controls_section(study, charts),
        time_section(study),
        Section {
            title: "Runs".to_owned(),
            blocks: runs::blocks(study),
        },
        method_section(),
    ];
    let mut sections = Vec::from(sections);
    sections.retain(|section| !section.blocks.is_empty());
    Document {
        title: TITLE.to_owned(),
        sections,
    }
}

fn section<'a>(title: &str, blocks: Vec<Block<'a>>) -> Section<'a> {
    Section {
        title: title.to_owned(),
        blocks,
    }
}

fn chart_blocks<'a>(
    charts: impl IntoIterator<Item = &'a Chart>,
) -> impl Iterator<Item = Block<'a>> {
    charts.into_iter().map(Block::Chart)
}

fn claims_section<'a>(study: &Study) -> Section<'a> {
    let claims = claims(study);
    let block = if claims.is_empty() {
        Block::Text(
            "No proposed method has a result or a planned run, so no claim can be judged."
                .to_owned(),
        )
    } else {
        Block::Claims(claims)
    };
    let rule = "Holds: the whole 95 % interval over seeds is on the claimed side. Does not hold: it is on the other side. \
                Open: it includes the bound, or seeds or runs are missing."
        .to_owned();
    section("The claims", vec![Block::Text(rule), block])
}

fn accuracy_section<'a>(study: &Study, core: &[&Method], families: &[Family]) -> Section<'a> {
    if core.is_empty() {
        return section("Accuracy", Vec::new());
    }
    let mut blocks = vec![
        Block::Table(tables::scores(study, core, families, Measure::Accuracy)),
        Block::Table(tables::differences(study, core, families)),
    ];
    blocks.extend(exact_match(study, core, families).map(Block::Table));
    section("Accuracy", blocks)
}

/// Transformation gives partial credit, so exact matches stand beside it.
fn exact_match(study: &Study, methods: &[&Method], families: &[Family]) -> Option<Table> {
    let transformation = [Family::Transformation];
    let wanted = families.contains(&Family::Transformation);
    wanted.then(|| {
        let mut table = tables::scores(study, methods, &transformation, Measure::ExactMatch);
        table.notes.clear();
        table
    })
}

fn learning_section<'a>(study: &Study, charts: &'a Charts, families: &[Family]) -> Section<'a> {
    let roles = [Role::Reference, Role::Proposed, Role::EqualBudget];
    let table = tables::convergence(study, &study.methods(&roles), families);
    let mut blocks: Vec<Block> = table.map(Block::Table).into_iter().collect();
    blocks.extend(chart_blocks(
        charts.rewards.iter().chain(&charts.accuracies),
    ));
    section("Learning", blocks)
}

fn selected_section<'a>(charts: &'a Charts) -> Section<'a> {
    section(
        "Selected actions by source",
        chart_blocks(&charts.selected).collect(),
    )
}

fn pass_section<'a>(
    study: &Study,
    charts: &'a Charts,
    core: &[&Method],
    families: &[Family],
) -> Section<'a> {
    let tables = tables::pass_at_k(study, core, families);
    let mut blocks: Vec<Block> = tables.into_iter().flatten().map(Block::Table).collect();
    blocks.extend(chart_blocks(&charts.pass_at_k));
    section("pass@k", blocks)
}

fn controls_section<'a>(study: &Study, charts: &'a Charts) -> Section<'a> {
    let title = "Controls and ablations";
    let others = study.methods(&[Role::EqualBudget, Role::Control, Role::Ablation]);
    if others.is_empty() {
        return section(title, Vec::new());
    }
    let families = study.families(&others);
    let beside = study.methods(&[Role::Proposed]);
    let baseline = study.method(study.baseline);
    let methods: Vec<&Method> = baseline.into_iter().chain(beside).chain(others).collect();
    let mut blocks = vec![
        Block::Text(reaching(study, &methods, &families)),
        Block::Table(tables::scores(
            study,
            &methods,
            &families,
            Measure::Accuracy,
        )),
        Block::Table(tables::differences(study, &methods, &families)),
    ];
    blocks.extend(exact_match(study, &methods, &families).map(Block::Table));
    blocks.extend(chart_blocks(
        charts.controls.iter().chain(&charts.control_curves),
    ));
    section(title, blocks)
}

/// Which methods gain what the paper promises, whatever they are called.
fn reaching(study: &Study, methods: &[&Method], families: &[Family]) -> String {
    let gains = |method: &&&Method| {
        let pair = (method.key.as_str(), study.baseline);
        let cells = Study::cells(families);
        let estimate = study.difference(pair, Measure::Accuracy, &cells);
        estimate.is_some_and(|estimate| {
            let clear = estimate.interval.is_some_and(|(low, _)| low > 0.0);
            clear && estimate.mean >= EXPECTED_GAIN
        })
    };
    let titles: Vec<&str> = methods
        .iter()
        .filter(gains)
        .map(|method| method.title.as_str())
        .collect();
    let (over, baseline) = (family_list(families), study.title(study.baseline));
    match titles.as_slice() {
        [] => format!(
            "No method is 5 points or more above {baseline} on {over} with an interval clear of zero."
        ),
        titles => format!(
            "5 points or more above {baseline} on {over}, with an interval clear of zero: {}.",
            listed(titles)
        ),
    }
}

fn time_section<'a>(study: &Study) -> Section<'a> {
    let mut methods = study.methods(&[Role::Proposed]);
    methods.splice(0..0, study.method(study.baseline));
    let table = tables::timing(study, &methods);
    section(
        "Where the time goes",
        table.map(Block::Table).into_iter().collect(),
    )
}

fn method_section<'a>() -> Section<'a> {
    let points = [
        "One value per seed: the mean over the splits of a domain, then over domains and families. Means, deviations (divisor \
         n − 1) and intervals are over these values.",
        "A difference is taken between runs of the same seed. Its interval is the mean ± t · s/√n with Student's t for n − 1 \
         degrees of freedom; with few seeds it is wide, and that is the point.",
        "Where runs of different families are taken as independent, each family is a stratum, and the degrees of freedom are \
         Welch and Satterthwaite's.",
        "pass@k is 1 − C(n−c, k)/C(n, k) per row, n completions of which c are right, averaged over rows.",
        "Intervals are over seeds: they cover training and sampling, not the choice of the test rows. No correction for several \
         comparisons is made.",
        "All numbers follow from the result files of the runs (JSON, one per run), which hold each row's score and count of right \
         completions; results.csv has one line per run and split.",
    ];
    let points = points.iter().map(|point| (*point).to_owned()).collect();
    section("How the numbers are made", vec![Block::List(points)])
}
