//! The study's charts as SVG texts, drawn by the plotting library `kuva`.
//!
//! Knows nothing of files or of the report's text. A chart whose data are all missing is left out; a panel without data says so.

mod ablation;
mod controls;
mod curves;
mod figure;
mod learning;
mod legend;
pub mod pass;
mod share;
mod style;
pub mod svg;

use self::style::Style;
use self::svg::Description;
use crate::study::results::collection::Study;
use crate::study::results::result::{Family, Method, Role};
use crate::study::text::distinct;

/// A drawn chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// File stem, title and caption.
    pub description: Description,
    /// The picture; its root element is `svg`, without an XML declaration, so that a page can hold it in line.
    pub svg: String,
    /// The exact commands behind its numbers, once each, in order.
    pub commands: Vec<String>,
}

impl Chart {
    fn new(svg: String, description: Description, commands: Vec<String>) -> Self {
        Self {
            description,
            svg,
            commands,
        }
    }
}

/// The charts of a study by the section they belong to.
#[derive(Debug, Clone)]
pub struct Charts {
    /// Reward against steps, samples, time.
    pub rewards: Vec<Chart>,
    /// Accuracy against steps, samples, time.
    pub accuracies: Vec<Chart>,
    /// Share of selected actions by source.
    pub selected: Option<Chart>,
    /// pass@k.
    pub pass_at_k: Option<Chart>,
    /// Bars, one per family with controls.
    pub controls: Vec<Chart>,
    /// Reward and accuracy of each control against steps, samples, time.
    pub control_curves: Vec<Chart>,
}

impl Charts {
    /// Every chart, in the order of the report.
    pub fn all(&self) -> impl Iterator<Item = &Chart> {
        self.rewards
            .iter()
            .chain(&self.accuracies)
            .chain(&self.selected)
            .chain(&self.pass_at_k)
            .chain(&self.controls)
            .chain(&self.control_curves)
    }
}

/// Draws everything that the results allow.
#[must_use]
pub fn draw(study: &Study) -> Charts {
    let styles = Styles::new(study);
    let control_curves = curves::Against::ALL
        .into_iter()
        .flat_map(|against| controls::curves(study, against));
    Charts {
        rewards: learning::rewards(study, &styles),
        accuracies: learning::accuracies(study, &styles),
        selected: share::selected(study),
        pass_at_k: pass::pass_at_k(study, &styles),
        controls: ablation::differences(study),
        control_curves: control_curves.collect(),
    }
}

/// One look per method of the paper's table, the same in every chart.
struct Styles {
    keys: Vec<String>,
}

impl Styles {
    /// The first looks are the easiest to tell apart: the proposed methods and their counterparts have them.
    fn new(study: &Study) -> Self {
        let proposed = study.methods(&[Role::Proposed]);
        let pairs = proposed
            .iter()
            .flat_map(|method| [method.key.as_str(), study.counterpart(method)]);
        let others = study.methods(&[Role::Reference, Role::Proposed]);
        let others = others.iter().map(|method| method.key.as_str());
        let keys = distinct(pairs.chain(others));
        Self {
            keys: keys.into_iter().map(str::to_owned).collect(),
        }
    }

    fn of(&self, key: &str) -> Style {
        let known = self.keys.iter().position(|known| known == key);
        Style::number(known.unwrap_or(self.keys.len()))
    }
}

/// The commands of every run of these methods and families, once each.
fn commands_of(study: &Study, methods: &[&Method], families: &[Family]) -> Vec<String> {
    let pairs = methods
        .iter()
        .flat_map(|method| families.iter().map(move |family| (method, *family)));
    let runs = pairs.flat_map(|(method, family)| study.runs(&method.key, family));
    distinct(runs.flat_map(|run| &run.commands))
        .into_iter()
        .cloned()
        .collect()
}
