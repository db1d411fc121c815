//! pass@k for k = 1, 2, 4, ... up to the completions per row (the paper's Fig. 5).

use std::sync::Arc;

use kuva::render::layout::TickFormat;

use super::chart::{Chart, command_of};
use super::curves::{SHARES, percent};
use super::figure::{Axes, Grid, Panel, Point, Series, draw};
use super::styles::Styles;
use super::svg::Description;
use crate::study::results::collection::{Cell, Measure, Study};
use crate::study::results::result::{Domain, Method, Role};
use crate::study::results::statistics::summarize;

/// 1, 2, 4, ... up to `largest`, and `largest` itself.
#[must_use]
pub fn powers_of_two(largest: u32) -> Vec<u32> {
    let double = |k: &u32| k.checked_mul(2);
    let mut powers: Vec<u32> = std::iter::successors(Some(1), double)
        .take_while(|k| *k <= largest)
        .collect();
    if powers.last().is_some_and(|last| *last < largest) {
        powers.push(largest);
    }
    powers
}

/// A panel per family and domain; `None` if nothing was measured.
pub(super) fn pass_at_k(study: &Study, styles: &Styles) -> Option<Chart> {
    let mut methods = study.methods(&[Role::Reference, Role::Proposed]);
    methods.retain(|method| study.largest_k(&[&method.key]).is_some());
    let keys: Vec<&str> = methods.iter().map(|method| method.key.as_str()).collect();
    let ks = powers_of_two(study.largest_k(&keys)?);
    let families = study.families(&methods);
    let series = |method: &Method, cell: Cell| {
        let point = |k: &u32| {
            let seeds = study.per_seed(&method.key, Measure::PassAt(*k), &[cell]);
            let summary = summarize(&seeds.into_values().collect::<Vec<f64>>())?;
            Some(Point {
                x: f64::from(*k).log2(),
                y: summary.mean,
                deviation: summary.deviation,
            })
        };
        Series {
            style: styles.of(&method.key),
            points: ks.iter().filter_map(point).collect(),
        }
    };
    let panel = |cell: Cell| {
        let mut series: Vec<Series> = methods.iter().map(|method| series(method, cell)).collect();
        series.retain(|series| !series.points.is_empty());
        Panel {
            title: format!("{}, {}", cell.0.name(), cell.1.title()),
            series,
        }
    };
    let cells = Domain::ALL
        .into_iter()
        .flat_map(|domain| families.iter().map(move |family| (*family, domain)));
    let description = Description {
        name: "pass-at-k".to_owned(),
        title: "pass@k".to_owned(),
        caption: "Probability that one of k sampled completions is right, by the unbiased estimator 1 − C(n−c, k)/C(n, k): \
                  mean over seeds, the band one standard deviation to either side."
            .to_owned(),
    };
    let legend = methods
        .iter()
        .map(|method| (method.title.clone(), styles.of(&method.key)))
        .collect();
    let grid = Grid {
        columns: families.len(),
        panels: cells.map(panel).collect(),
        legend,
        axes: Axes {
            x_label: "k".to_owned(),
            y_label: "pass@k".to_owned(),
            x_format: TickFormat::Custom(Arc::new(|power: f64| format!("{:.0}", power.exp2()))),
            y_format: percent(),
            x_step: Some(1.0),
            y_range: SHARES,
        },
    };
    let command = command_of(study, &methods, &families);
    Some(Chart::new(draw(grid, &description), description, command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_doubles_and_ends_at_the_largest() {
        assert_eq!(powers_of_two(64), [1, 2, 4, 8, 16, 32, 64]);
        assert_eq!(powers_of_two(10), [1, 2, 4, 8, 10]);
        assert_eq!(powers_of_two(1), [1]);
        assert_eq!(powers_of_two(u32::MAX).len(), 33);
    }
}
