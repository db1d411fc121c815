//! Who wrote the selected actions, over training and per family (the paper's Fig. 4).

use kuva::render::layout::TickFormat;

use super::chart::{Chart, command_of};
use super::curves::percent;
use super::figure::{Axes, Grid, Panel, Point, Series, YRange, draw};
use super::style::Style;
use super::svg::Description;
use crate::study::results::collection::Study;
use crate::study::results::result::{Method, Role, RunResult, Step};
use crate::study::results::statistics::{mean, summarize, tenth};
use crate::study::results::text::distinct;

/// One chart; a row of panels per proposed method, a column per family. `None` without any external action.
pub(super) fn selected(study: &Study) -> Option<Chart> {
    let external = |run: &RunResult| run.steps.iter().any(|step| !step.external_share.is_empty());
    let mut methods = study.methods(&[Role::Proposed]);
    methods.retain(|method| {
        let mut runs = study.results.iter();
        runs.any(|run| run.method.key == method.key && external(run))
    });
    let families = study.families(&methods);
    let sources = sources(study, &methods);
    if sources.is_empty() {
        return None;
    }
    let panel = |method: &Method, family| {
        let runs = study.runs(&method.key, family);
        let series = |(index, source): (usize, &Option<String>)| Series {
            style: Style::number(index),
            points: average(&runs, source.as_deref()),
        };
        let mut series: Vec<Series> = sources.iter().enumerate().map(series).collect();
        series.retain(|series| !series.points.is_empty());
        Panel {
            title: format!("{}: {}", family.name(), method.title),
            series,
        }
    };
    let panels = methods
        .iter()
        .flat_map(|method| families.iter().map(move |family| panel(method, *family)))
        .collect();
    let name = |source: &Option<String>| source.clone().unwrap_or_else(|| "policy".to_owned());
    let legend = sources.iter().enumerate();
    let legend = legend
        .map(|(index, source)| (name(source), Style::number(index)))
        .collect();
    let description = Description {
        name: "selected-share".to_owned(),
        title: "Share of the selected actions by source".to_owned(),
        caption: "Share of the actions that entered the loss, by who wrote them: mean over seeds of a tenth of the steps \
                  ending there, the band one standard deviation to either side."
            .to_owned(),
    };
    let axes = Axes {
        x_label: "optimizer steps".to_owned(),
        y_label: "share of selected".to_owned(),
        x_format: TickFormat::Auto,
        y_format: percent(),
        x_step: None,
        y_range: YRange::Exactly(-0.02, 1.02),
    };
    let command = command_of(study, &methods, &families);
    let grid = Grid {
        columns: families.len(),
        panels,
        legend,
        axes,
    };
    Some(Chart::new(draw(grid, &description), description, command))
}

/// The policy (`None`), then every external model; nothing without external models.
fn sources(study: &Study, methods: &[&Method]) -> Vec<Option<String>> {
    let runs = study.results.iter();
    let mut names: Vec<&String> = runs
        .filter(|run| methods.iter().any(|method| method.key == run.method.key))
        .flat_map(|run| &run.steps)
        .flat_map(|step| step.external_share.keys())
        .collect();
    names.sort();
    let names = distinct(names);
    let policy = (!names.is_empty()).then_some(None);
    policy
        .into_iter()
        .chain(names.into_iter().map(|name| Some(name.clone())))
        .collect()
}

fn share(step: &Step, source: Option<&str>) -> f64 {
    match source {
        Some(source) => step.external_share.get(source).copied().unwrap_or(0.0),
        None => 1.0 - step.external_share.values().sum::<f64>(),
    }
}

/// At most this many points.
const POINTS: usize = 60;

fn average(runs: &[&RunResult], source: Option<&str>) -> Vec<Point> {
    let shortest = runs.iter().map(|run| run.steps.len()).min().unwrap_or(0);
    let stride = shortest.div_ceil(POINTS).max(1);
    let smooth = |run: &RunResult, index: usize| {
        let from = (index + 1).saturating_sub(tenth(run.steps.len()));
        let window = run.steps[from..=index].iter();
        mean(&window.map(|step| share(step, source)).collect::<Vec<f64>>())
    };
    let point = |index: usize| {
        let values: Option<Vec<f64>> = runs.iter().map(|run| smooth(run, index)).collect();
        let summary = summarize(&values?)?;
        Some(Point {
            x: runs.first()?.steps[index].step as f64,
            y: summary.mean,
            deviation: summary.deviation,
        })
    };
    (0..shortest)
        .filter(|index| (shortest - 1 - index) % stride == 0)
        .filter_map(point)
        .collect()
}
