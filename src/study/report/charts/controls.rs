//! Reward and accuracy of every control and ablation over training, a panel each.

use super::chart::{Chart, command_of};
use super::curves::{ACCURACY, Against, Quantity, REWARD, axes, series};
use super::figure::{Grid, Panel, draw};
use super::style::Style;
use super::svg::Description;
use crate::study::results::collection::Study;
use crate::study::results::result::{Family, Method, Role};
use crate::study::results::text::distinct;

/// Reward and held-out accuracy of every control and ablation, a panel each, with the methods that it is read against.
pub(super) fn curves(study: &Study, against: Against) -> Vec<Chart> {
    let roles = [Role::EqualBudget, Role::Control, Role::Ablation];
    let mut charts = Vec::new();
    for family in study.families(&study.methods(&roles)) {
        for quantity in [Quantity::Reward, Quantity::HeldOut(None)] {
            charts.extend(control_chart(study, family, quantity, against));
        }
    }
    charts
}

fn control_chart(
    study: &Study,
    family: Family,
    quantity: Quantity,
    against: Against,
) -> Option<Chart> {
    let has_curve = |method: &&Method| {
        let alone = [(*method, Style::number(0))];
        !series(study, &alone, family, quantity, against).is_empty()
    };
    let mut methods = study.methods(&[Role::EqualBudget, Role::Control, Role::Ablation]);
    methods.retain(has_curve);
    let first = *methods.first()?;
    // Beside each: the counterpart that most of them share, and the first proposed method with that counterpart.
    let counterpart = study.counterpart(first);
    let mut proposed = study.methods(&[Role::Proposed]);
    proposed.retain(|method| study.counterpart(method) == counterpart);
    let beside: Vec<&Method> = study
        .method(counterpart)
        .into_iter()
        .chain(proposed.first().copied())
        .collect();
    let panel = |method: &&Method| {
        let mut shown: Vec<(&Method, Style)> = Vec::new();
        for (index, method) in beside.iter().chain([method]).enumerate() {
            shown.push((method, Style::number(CONTROL_STYLES[index.min(2)])));
        }
        Panel {
            title: method.title.clone(),
            series: series(study, &shown, family, quantity, against),
        }
    };
    let mut panels: Vec<Panel> = methods.iter().map(panel).collect();
    let (name, what) = match quantity {
        Quantity::Reward => (REWARD, "Mean reward of the policy's own samples"),
        _ => (ACCURACY, "Held-out accuracy, the mean of both domains"),
    };
    let mut axes = axes(against, &mut panels, name);
    axes.y_range = axes.y_range.common(&panels);
    let (family_name, words) = (family.name(), against.words());
    let description = Description {
        name: format!("controls-{family_name}-{name}-against-{}", against.name()),
        title: format!("Controls and ablations, {family_name}: {name} against {words}"),
        caption: format!(
            "{what} on {family_name}, against {words}: each control and ablation in a panel of its own, with the same two \
             methods beside it in all. Mean over seeds, the band one standard deviation to either side."
        ),
    };
    let mut legend: Vec<(String, Style)> = Vec::new();
    let named = beside.iter().map(|method| method.title.clone());
    for (index, title) in named.chain(["the panel's method".to_owned()]).enumerate() {
        legend.push((title, Style::number(CONTROL_STYLES[index.min(2)])));
    }
    let grid = Grid {
        columns: methods.len().min(3),
        panels,
        legend,
        axes,
    };
    let drawn = distinct(beside.iter().chain(&methods).copied());
    let command = command_of(study, &drawn, &[family]);
    Some(Chart::new(draw(grid, &description), description, command))
}

/// Counterpart, proposed method, and the method of the panel.
const CONTROL_STYLES: [usize; 3] = [1, 0, 2];
