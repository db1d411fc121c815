//! A grid of panels with lines over a common legend, as one SVG text.
//!
//! Knows points and labels only, not what they measure.

use kuva::plot::{LinePlot, ScatterPlot};
use kuva::render::annotations::TextAnnotation;
use kuva::render::figure::Figure;
use kuva::render::layout::{Layout, TickFormat};
use kuva::render::plots::Plot;

use super::legend;
use super::style::{INK, Style, theme};
use super::svg::{self, Description};

/// Width and height of a panel in pixels.
const CELL: (f64, f64) = (340.0, 250.0);
/// Margins around the plot of each panel, so that those of a row and of a column line up.
const MARGINS_X: (f64, f64) = (62.0, 14.0);
const MARGINS_Y: (f64, f64) = (32.0, 50.0);
/// Panels of a row where nothing asks for another number.
const ROW: usize = 3;
/// Points of a line that carry a marker.
const MARKED: usize = 6;

/// Mean over seeds at one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Place.
    pub x: f64,
    /// Mean.
    pub y: f64,
    /// Deviation; `None` for one seed.
    pub deviation: Option<f64>,
}

/// One line of a panel.
#[derive(Debug, Clone)]
pub struct Series {
    /// Its look.
    pub style: Style,
    /// In order of x.
    pub points: Vec<Point>,
}

/// One plot of the grid.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Above it.
    pub title: String,
    /// Its lines; none = the panel says that there are no data.
    pub series: Vec<Series>,
}

/// Labels and ranges that the panels share.
#[derive(Clone)]
pub struct Axes {
    /// Below each panel.
    pub x_label: String,
    /// Left of each panel.
    pub y_label: String,
    /// How x is written.
    pub x_format: TickFormat,
    /// How y is written.
    pub y_format: TickFormat,
    /// Distance of the ticks of x; `None` = chosen by the library.
    pub x_step: Option<f64>,
    /// Range of y.
    pub y_range: YRange,
}

/// Which values a panel has room for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum YRange {
    /// Those of its points, with a margin.
    Fitting,
    /// As `Fitting`, but nothing below the first or above the second value.
    FittingWithin(f64, f64),
    /// From the first to the second value.
    Exactly(f64, f64),
}

impl YRange {
    /// The range for these series; from 0 to 1 without any point.
    fn of(self, series: &mut dyn Iterator<Item = &Series>) -> (f64, f64) {
        let (lowest, highest) = match self {
            Self::Exactly(low, high) => return (low, high),
            Self::Fitting => (f64::MIN, f64::MAX),
            Self::FittingWithin(lowest, highest) => (lowest, highest),
        };
        let points: Vec<&Point> = series.flat_map(|series| &series.points).collect();
        let spread = |point: &&Point| point.deviation.unwrap_or(0.0);
        let low = points
            .iter()
            .map(|point| point.y - spread(point))
            .reduce(f64::min);
        let high = points
            .iter()
            .map(|point| point.y + spread(point))
            .reduce(f64::max);
        let (low, high) = low.zip(high).unwrap_or((0.0, 1.0));
        let room = 0.05 * (high - low).max(1e-3);
        ((low - room).max(lowest), (high + room).min(highest))
    }

    /// The range that all the panels share, so that they can be compared.
    #[must_use]
    pub fn common(self, panels: &[Panel]) -> Self {
        let (low, high) = self.of(&mut panels.iter().flat_map(|panel| &panel.series));
        Self::Exactly(low, high)
    }
}

/// A whole chart.
#[derive(Clone)]
pub struct Grid {
    /// Panels per row; one = all in a row of up to three.
    pub columns: usize,
    /// Row by row.
    pub panels: Vec<Panel>,
    /// Names and looks, in order.
    pub legend: Vec<(String, Style)>,
    /// What the panels share.
    pub axes: Axes,
}

/// The chart as SVG.
#[must_use]
pub fn draw(grid: Grid, description: &Description) -> String {
    let columns = match grid.columns {
        0 | 1 => grid.panels.len().clamp(1, ROW),
        columns => columns,
    };
    let title_size = title_size(&grid.panels);
    let rows = grid.panels.len().div_ceil(columns).max(1);
    let layouts = grid
        .panels
        .iter()
        .map(|panel| layout(panel, &grid.axes, title_size))
        .collect();
    let plots = grid
        .panels
        .iter()
        .map(|panel| plots(&panel.series))
        .collect();
    let figure = Figure::new(rows, columns)
        .with_plots(plots)
        .with_layouts(layouts)
        .with_cell_size(CELL.0, CELL.1)
        .with_spacing(8.0);
    let mut scene = figure.render();
    legend::append(&mut scene, &grid.legend);
    svg::text(&scene, description)
}

/// Bands lie below all lines, and lines below all markers.
fn plots(series: &[Series]) -> Vec<Plot> {
    let mut lines = Vec::new();
    let mut marks = Vec::new();
    for (index, Series { style, points }) in series.iter().enumerate() {
        let mut line = LinePlot::new()
            .with_data(points.iter().map(|point| (point.x, point.y)))
            .with_color(style.color)
            .with_stroke_width(1.8)
            .with_line_style(style.line());
        if points.iter().any(|point| point.deviation.is_some()) {
            let at = |sign: f64| {
                let bound = move |point: &Point| point.y + sign * point.deviation.unwrap_or(0.0);
                points.iter().map(bound).collect::<Vec<f64>>()
            };
            line = line.with_band(at(-1.0), at(1.0));
        }
        if let Some(band) = &mut line.band {
            band.opacity = 0.15;
        }
        lines.push(Plot::Line(line));
        let stride = points.len().div_ceil(MARKED).max(1);
        // Markers of neighbouring series stand at different places.
        let offset = index * stride / series.len().max(1);
        let marked = points.iter().skip(offset).step_by(stride);
        let scatter = ScatterPlot::new()
            .with_data(marked.map(|point| (point.x, point.y)))
            .with_color(style.color)
            .with_marker(style.marker)
            .with_size(3.5);
        marks.push(Plot::Scatter(scatter));
    }
    if lines.is_empty() {
        lines.push(Plot::Line(LinePlot::new()));
    }
    lines.into_iter().chain(marks).collect()
}

fn layout(panel: &Panel, axes: &Axes, title_size: u32) -> Layout {
    let points = || panel.series.iter().flat_map(|series| &series.points);
    let x_max = points()
        .map(|point| point.x)
        .reduce(f64::max)
        .unwrap_or(1.0);
    let x_min = points()
        .map(|point| point.x)
        .reduce(f64::min)
        .unwrap_or(0.0);
    let (y_min, y_max) = axes.y_range.of(&mut panel.series.iter());
    let x_min = x_min.min(0.0);
    let x_max = if x_max > x_min { x_max } else { x_min + 1.0 };
    // A marker on the edge of the plot would be cut in half.
    let room = 0.02 * (x_max - x_min);
    let x_min = if points().any(|point| point.x <= x_min) {
        x_min - room
    } else {
        x_min
    };
    let x_max = x_max + room;
    let mut layout = Layout::new((x_min, x_max), (y_min, y_max))
        .with_title(svg::plain(&panel.title))
        .with_x_label(svg::plain(&axes.x_label))
        .with_y_label(svg::plain(&axes.y_label))
        .with_theme(theme())
        .with_title_size(title_size)
        .with_label_size(12)
        .with_tick_size(11)
        .with_ticks(5)
        .with_x_tick_format(axes.x_format.clone())
        .with_y_tick_format(axes.y_format.clone())
        .with_x_axis_min(x_min)
        .with_x_axis_max(x_max)
        .with_y_axis_min(y_min)
        .with_y_axis_max(y_max)
        .with_force_margins(MARGINS_X.0, MARGINS_X.1)
        .with_force_margins_y(MARGINS_Y.0, MARGINS_Y.1);
    if let Some(step) = axes.x_step {
        layout = layout.with_x_tick_step(step);
    }
    if panel.series.is_empty() {
        let middle = (y_min + y_max) / 2.0;
        let note = TextAnnotation::new("no data", x_max / 2.0, middle).with_color(INK);
        layout = layout.with_annotation(note);
    }
    layout
}

/// Long titles are set smaller, so that none runs into the next panel's.
fn title_size(panels: &[Panel]) -> u32 {
    let lengths = panels.iter().map(|panel| panel.title.chars().count());
    let fitting = 1.6 * CELL.0 / lengths.max().unwrap_or(0).max(1) as f64;
    fitting.clamp(9.0, 14.0) as u32
}
