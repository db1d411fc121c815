//! The study's charts as SVG texts, drawn by the plotting library `kuva`.
//!
//! Knows nothing of files or of the report's text. A chart whose data are all missing is left out; a panel without data says so.

mod ablation;
mod chart;
mod controls;
mod curves;
mod figure;
mod learning;
mod legend;
pub mod pass;
mod share;
mod style;
mod styles;
pub mod svg;

pub use chart::Chart;

use styles::Styles;

use crate::study::results::collection::Study;

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
