//! How methods and sources are told apart: by colour, by dashes and by marker, each enough alone.
//!
//! Colours are Okabe and Ito's, which colour-blind readers tell apart; their yellow is left out because it is too light for
//! lines on white. Ink, paper and grid follow the reader's light or dark setting.

use kuva::plot::LineStyle;
use kuva::plot::scatter::MarkerShape;
use kuva::render::theme::Theme;

/// Colour of text, axes and the seventh series: whatever the reader's text colour is.
pub const INK: &str = "currentColor";
/// Background; the page's style sheet may replace it.
pub const PAPER: &str = "#fffffe";
/// Grid lines: the same grey on white and on black.
const GRID: &str = "#80808050";

/// The look of one series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    /// A CSS colour.
    pub color: &'static str,
    /// SVG `stroke-dasharray`; empty = solid.
    pub dash: &'static str,
    /// Shape of the points.
    pub marker: MarkerShape,
}

/// Blue, vermilion, bluish green, reddish purple, orange, sky blue, black or white.
const COLORS: [&str; 7] = [
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK,
];
const DASHES: [&str; 5] = ["", "7 3", "2 2", "9 3 2 3", "14 4"];
const MARKERS: [MarkerShape; 7] = [
    MarkerShape::Circle,
    MarkerShape::Square,
    MarkerShape::Triangle,
    MarkerShape::Diamond,
    MarkerShape::TriangleDown,
    MarkerShape::Cross,
    MarkerShape::Plus,
];

impl Style {
    /// The look of the series number `index`; no two of the first 35 are equal in colour and dashes.
    #[must_use]
    pub const fn number(index: usize) -> Self {
        Self {
            color: COLORS[index % COLORS.len()],
            dash: DASHES[index % DASHES.len()],
            marker: MARKERS[index % MARKERS.len()],
        }
    }

    /// The dashes as the plotting library takes them.
    #[must_use]
    pub fn line(&self) -> LineStyle {
        if self.dash.is_empty() {
            LineStyle::Solid
        } else {
            LineStyle::Custom(self.dash.to_owned())
        }
    }
}

/// The chart's own colours, all of which work on light and on dark paper.
#[must_use]
pub fn theme() -> Theme {
    Theme {
        background: PAPER.to_owned(),
        axis_color: INK.to_owned(),
        grid_color: GRID.to_owned(),
        tick_color: INK.to_owned(),
        text_color: INK.to_owned(),
        ..Theme::light()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_differ_in_more_than_colour() {
        let styles: Vec<Style> = (0..35).map(Style::number).collect();
        for (index, style) in styles.iter().enumerate() {
            for other in &styles[..index] {
                assert!(
                    (style.color, style.dash) != (other.color, other.dash),
                    "{style:?}"
                );
            }
        }
        for pair in styles.windows(2) {
            assert_ne!(pair[0].color, pair[1].color, "neighbours");
            assert_ne!(pair[0].dash, pair[1].dash, "neighbours in grey");
            assert_ne!(pair[0].marker, pair[1].marker, "neighbours in grey");
        }
    }
}
