//! Curves over training: one run's rewards or accuracies, averaged over seeds, against steps, samples or time.
//!
//! Seeds are averaged step by step: at a step that all seeds logged, x is their mean number of samples or seconds there.
//! Does not know which methods stand in which chart.

use std::collections::BTreeMap;
use std::sync::Arc;

use kuva::render::layout::TickFormat;

use super::figure::{Axes, Panel, Point, Series, YRange};
use super::style::Style;
use crate::study::results::collection::Study;
use crate::study::results::result::{Domain, Evaluation, Family, Method, RunResult, Step};
use crate::study::results::statistics::{mean, summarize, tenth};

/// More points than a panel has room for only make the file larger.
const POINTS: usize = 60;

/// What a curve is drawn against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    Steps,
    Samples,
    Time,
}

impl Against {
    pub(super) const ALL: [Self; 3] = [Self::Steps, Self::Samples, Self::Time];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Samples => "samples",
            Self::Time => "time",
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Steps => "optimizer steps",
            Self::Samples => "scored completions",
            Self::Time => "training time",
        }
    }

    fn of(self, (step, samples, seconds): (u64, u64, f64)) -> f64 {
        match self {
            Self::Steps => step as f64,
            Self::Samples => samples as f64,
            Self::Time => seconds,
        }
    }
}

/// What a curve shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    Reward,
    TrainingAccuracy,
    /// Of one domain, or the mean of both.
    HeldOut(Option<Domain>),
}

impl Quantity {
    /// Whether any run of the method has it.
    pub(super) fn is_known(self, study: &Study, method: &Method) -> bool {
        let mut runs = study.results.iter();
        runs.any(|run| run.method.key == method.key && !curve(run, self).is_empty())
    }
}

/// (step, samples, seconds) -> value of one run.
type Curve = BTreeMap<u64, ((u64, u64, f64), f64)>;

/// Training values are means of a tenth of the steps ending there, at the start of those there are.
fn curve(run: &RunResult, quantity: Quantity) -> Curve {
    if let Quantity::HeldOut(domain) = quantity {
        return held_out(run, domain);
    }
    let value = |step: &Step| match quantity {
        Quantity::Reward => step.reward,
        _ => step.accuracy,
    };
    let logged: Vec<_> = run
        .steps
        .iter()
        .filter_map(|step| Some(((step.step, step.samples, step.wall_seconds), value(step)?)))
        .collect();
    let values: Vec<f64> = logged.iter().map(|(_, value)| *value).collect();
    let window = tenth(values.len());
    let smooth = |index: usize| mean(&values[(index + 1).saturating_sub(window)..=index]);
    let places = logged.iter().enumerate();
    places
        .filter_map(|(index, (place, _))| Some((place.0, (*place, smooth(index)?))))
        .collect()
}

/// Mean over the splits of a domain, or over both domains where both were evaluated at the same step.
fn held_out(run: &RunResult, domain: Option<Domain>) -> Curve {
    let mut steps: BTreeMap<u64, Vec<&Evaluation>> = BTreeMap::new();
    for evaluation in &run.evaluations {
        steps.entry(evaluation.step).or_default().push(evaluation);
    }
    let value = |evaluations: &[&Evaluation]| {
        let of = |domain: Domain| {
            let wanted = evaluations.iter().filter(|one| one.domain == domain);
            mean(&wanted.map(|one| one.accuracy).collect::<Vec<f64>>())
        };
        match domain {
            Some(domain) => of(domain),
            None => mean(&[of(Domain::In)?, of(Domain::Out)?]),
        }
    };
    let place = |one: &Evaluation| (one.step, one.samples, one.wall_seconds);
    steps
        .into_iter()
        .filter_map(|(step, all)| Some((step, (place(all[0]), value(&all)?))))
        .collect()
}

/// Mean and deviation over the runs at the steps that all of them have, thinned.
fn average(runs: &[&RunResult], quantity: Quantity, against: Against) -> Vec<Point> {
    let curves: Vec<Curve> = runs
        .iter()
        .map(|run| curve(run, quantity))
        .filter(|curve| !curve.is_empty())
        .collect();
    let Some(first) = curves.first() else {
        return Vec::new();
    };
    let point = |step: &u64| {
        let here: Option<Vec<_>> = curves.iter().map(|curve| curve.get(step)).collect();
        let here = here?;
        let places: Vec<f64> = here.iter().map(|(place, _)| against.of(*place)).collect();
        let values: Vec<f64> = here.iter().map(|(_, value)| *value).collect();
        let summary = summarize(&values)?;
        Some(Point {
            x: mean(&places)?,
            y: summary.mean,
            deviation: summary.deviation,
        })
    };
    let points: Vec<Point> = first.keys().filter_map(point).collect();
    let stride = points.len().div_ceil(POINTS).max(1);
    let last = points.len().saturating_sub(1);
    let kept = points.into_iter().enumerate();
    kept.filter(|(index, _)| (last - index) % stride == 0)
        .map(|(_, point)| point)
        .collect()
}

/// No share is outside, and markers at its ends are whole.
pub(super) const SHARES: YRange = YRange::FittingWithin(-0.02, 1.02);

/// Labels of y, also in names of charts.
pub(super) const REWARD: &str = "reward";
/// As [`REWARD`].
pub(super) const ACCURACY: &str = "accuracy";

/// Seconds become minutes or hours where they are many.
fn in_readable_time(panels: &mut [Panel]) -> &'static str {
    let points = |panels: &[Panel]| -> Vec<f64> {
        let series = panels.iter().flat_map(|panel| &panel.series);
        series
            .flat_map(|series| &series.points)
            .map(|point| point.x)
            .collect()
    };
    let longest = points(panels).into_iter().fold(0.0, f64::max);
    let (unit, label) = match longest {
        seconds if seconds > 7200.0 => (3600.0, "training time (h)"),
        seconds if seconds > 240.0 => (60.0, "training time (min)"),
        _ => (1.0, "training time (s)"),
    };
    for series in panels.iter_mut().flat_map(|panel| &mut panel.series) {
        series.points.iter_mut().for_each(|point| point.x /= unit);
    }
    label
}

/// Axes for these panels, whose time is brought into a readable unit.
pub(super) fn axes(against: Against, panels: &mut [Panel], y_label: &str) -> Axes {
    let x_label = match against {
        Against::Time => in_readable_time(panels),
        _ => against.words(),
    };
    let (y_format, y_range) = if y_label == REWARD {
        (TickFormat::Auto, YRange::Fitting)
    } else {
        (percent(), SHARES)
    };
    Axes {
        x_label: x_label.to_owned(),
        y_label: y_label.to_owned(),
        x_format: TickFormat::Custom(Arc::new(short_number)),
        y_format,
        x_step: None,
        y_range,
    }
}

/// `12k` for 12000.
fn short_number(value: f64) -> String {
    let (value, suffix) = if value.abs() >= 1000.0 {
        (value / 1000.0, "k")
    } else {
        (value, "")
    };
    let text = format!("{value:.2}");
    format!(
        "{}{suffix}",
        text.trim_end_matches('0').trim_end_matches('.')
    )
}

/// A share as percent.
pub(super) fn percent() -> TickFormat {
    TickFormat::Custom(Arc::new(percent_text))
}

fn percent_text(share: f64) -> String {
    let text = format!("{:.1}", 100.0 * share);
    format!("{} %", text.trim_end_matches(".0"))
}

/// One line per method that has the quantity in the family.
pub(super) fn series(
    study: &Study,
    methods: &[(&Method, Style)],
    family: Family,
    quantity: Quantity,
    against: Against,
) -> Vec<Series> {
    let one = |(method, style): &(&Method, Style)| Series {
        style: *style,
        points: average(&study.runs(&method.key, family), quantity, against),
    };
    let mut series: Vec<Series> = methods.iter().map(one).collect();
    series.retain(|series| !series.points.is_empty());
    series
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::fixture::{method, run};
    use crate::study::results::result::Role;

    /// Rewards 0.03 a step against 0.05 a step; a tenth of 20 steps is two.
    #[test]
    fn seeds_are_averaged_step_by_step() {
        let base = || method("base", Role::Reference);
        let mut runs = [
            run(base(), Family::Counting, 1, 3),
            run(base(), Family::Counting, 2, 5),
        ];
        runs[1].steps.pop();
        let runs: Vec<&RunResult> = runs.iter().collect();
        let points = average(&runs, Quantity::Reward, Against::Samples);
        assert_eq!(points.len(), 19, "the steps that both have");
        let third = points[2];
        assert_eq!(third.x, 24.0, "8 samples a step");
        assert!((third.y - 0.1).abs() < 1e-12, "mean of .075 and .125");
        let deviation = third.deviation.expect("two seeds");
        assert!(
            (deviation - 0.05 / 2.0_f64.sqrt()).abs() < 1e-12,
            "{deviation}"
        );
        let both = average(&runs, Quantity::HeldOut(None), Against::Time);
        assert_eq!((both.len(), both[0].x), (1, 40.0));
        assert!((both[0].y - 0.35).abs() < 1e-12, "mean of .3 .2 .5 .4");
    }

    #[test]
    fn ticks_are_short() {
        let texts = [0.0, 25.0, 2500.0, 120_000.0].map(short_number);
        assert_eq!(texts, ["0", "25", "2.5k", "120k"]);
        let percents = [0.0, 0.375, 0.4, 1.0].map(percent_text);
        assert_eq!(percents, ["0 %", "37.5 %", "40 %", "100 %"]);
    }
}
