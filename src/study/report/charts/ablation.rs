//! Controls and ablations as bars: the paired difference to the baseline, with its interval.

use kuva::plot::BarPlot;
use kuva::render::annotations::ReferenceLine;
use kuva::render::figure::Figure;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

use super::chart::{Chart, command_of};
use super::style::{INK, Style, theme};
use super::svg::{self, Description};
use crate::study::results::collection::{Measure, Study};
use crate::study::results::result::{Family, Method, Role};
use crate::study::results::statistics::Estimate;
use crate::study::results::text::counted;

/// Height of a bar with its gap, and what the panel needs besides.
const BAR: f64 = 28.0;
const AROUND: f64 = 96.0;
/// Widths of a panel: labels of the longest name, and the bars.
const CHARACTER: f64 = 7.4;
const BARS: f64 = 430.0;

/// Bars of one family, the proposed methods first; `None` if no control was run there.
fn bars<'a>(study: &Study<'a>, family: Family) -> Option<Vec<(&'a Method, Estimate)>> {
    let roles = [Role::EqualBudget, Role::Control, Role::Ablation];
    let others = study.methods(&roles);
    let proposed = study.methods(&[Role::Proposed]);
    let bar = |method: &'a Method| {
        let pair = (method.key.as_str(), study.baseline);
        let cells = Study::cells(&[family]);
        Some((method, study.difference(pair, Measure::Accuracy, &cells)?))
    };
    let others: Vec<_> = others.into_iter().filter_map(bar).collect();
    let proposed = proposed.into_iter().filter_map(bar);
    (!others.is_empty()).then(|| proposed.chain(others).collect())
}

/// One chart per family with controls or ablations.
pub(super) fn differences(study: &Study) -> Vec<Chart> {
    let chart = |family: Family| Some(chart(study, family, &bars(study, family)?));
    Family::ALL.into_iter().filter_map(chart).collect()
}

/// The name, and how few seeds there are if they are too few for a useful interval.
fn label(method: &Method, estimate: &Estimate) -> String {
    match estimate.count {
        1 | 2 => format!("{} ({})", method.title, counted(estimate.count, "seed")),
        _ => method.title.clone(),
    }
}

/// Room for every bar, and for the intervals of three seeds or more: that of two can be ten times as long as all others.
fn range(bars: &[(&Method, Estimate)]) -> (f64, f64) {
    let ends = bars.iter().flat_map(|(_, estimate)| {
        let solid = estimate.interval.filter(|_| estimate.count > 2);
        let (low, high) = solid.unwrap_or((estimate.mean, estimate.mean));
        [100.0 * low, 100.0 * high]
    });
    ends.fold((0.0, 0.0), |(low, high), end| (end.min(low), end.max(high)))
}

fn chart(study: &Study, family: Family, bars: &[(&Method, Estimate)]) -> Chart {
    let baseline = study.title(study.baseline);
    let (name, count) = (family.name(), bars.len() as f64);
    let mut plot = BarPlot::new().with_horizontal(true).with_width(0.62);
    let mut errors = Vec::new();
    // The library counts categories from the bottom.
    for (method, estimate) in bars.iter().rev() {
        let style = Style::number(usize::from(method.role != Role::Proposed));
        plot = plot.with_group(
            svg::plain(&label(method, estimate)),
            vec![(100.0 * estimate.mean, style.color)],
        );
        let half = estimate
            .interval
            .map_or(0.0, |(_, high)| high - estimate.mean);
        errors.push((100.0 * half, 100.0 * half));
    }
    let plots = vec![Plot::Bar(
        plot.with_asymmetric_error(errors)
            .with_error_color(INK)
            .with_error_cap_width(0.25),
    )];
    let (low, high) = range(bars);
    let room = 0.06 * (high - low).max(0.1);
    let lengths = bars
        .iter()
        .map(|(method, estimate)| label(method, estimate).chars().count());
    let longest = lengths.max().unwrap_or(0);
    let labels = CHARACTER * longest as f64 + 24.0;
    let layout = Layout::auto_from_plots(&plots)
        .with_title(format!("{name}: difference to {}", svg::plain(baseline)))
        .with_x_label("points of accuracy, mean of both domains, with 95 % interval")
        .with_theme(theme())
        .with_title_size(14)
        .with_label_size(12)
        .with_tick_size(12)
        .with_x_axis_min(low - room)
        .with_x_axis_max(high + room)
        .with_x_tick_format(TickFormat::Auto)
        .with_force_margins(labels, 20.0)
        .with_reference_line(ReferenceLine::vertical(0.0).with_color(INK));
    let scene = Figure::new(1, 1)
        .with_plots(vec![plots])
        .with_layouts(vec![layout])
        .with_cell_size(labels + BARS, AROUND + BAR * count)
        .render();
    let description = Description {
        name: format!("controls-{name}"),
        title: format!("Controls and ablations, {name}"),
        caption: format!(
            "Accuracy on {name}, the mean of both domains, minus that of {baseline}: mean of the differences of equal seeds, \
             with Student's t interval at 95 %. Blue: as proposed; orange: controls and ablations. One seed gives no \
             interval; that of two may leave the chart."
        ),
    };
    let shown: Vec<&Method> = study
        .method(study.baseline)
        .into_iter()
        .chain(bars.iter().map(|(method, _)| *method))
        .collect();
    let command = command_of(study, &shown, &[family]);
    Chart::new(svg::text(&scene, &description), description, command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::fixture;

    #[test]
    fn an_interval_of_two_seeds_does_not_squeeze_the_others() {
        let method = fixture::method("luffy", Role::Control);
        let estimate = |count, low, high| Estimate {
            count,
            mean: (low + high) / 2.0,
            interval: Some((low, high)),
        };
        let bars = [
            (&method, estimate(3, -0.02, 0.06)),
            (&method, estimate(2, -0.5, 0.58)),
        ];
        let (low, high) = range(&bars);
        assert!(
            (low + 2.0).abs() < 1e-9 && (high - 6.0).abs() < 1e-9,
            "{low} {high}"
        );
        assert_eq!(label(&method, &bars[0].1), "The luffy");
        assert_eq!(label(&method, &bars[1].1), "The luffy (2 seeds)");
    }
}
