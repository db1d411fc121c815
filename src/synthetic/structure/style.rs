//! How the diagrams of a split look. It draws nothing.

use super::super::family::Split;
use super::super::picture::Rgb;
use super::super::text::Typeface;

/// How a split looks.
pub(super) struct Style {
    pub paper: Rgb,
    /// Lines of squared paper.
    pub grid: Option<Rgb>,
    pub ink: Rgb,
    /// Over the inside of closed figures.
    pub tint: Option<Rgb>,
    pub text: Rgb,
    pub typeface: Typeface,
    /// Extra thickness of letters in parts of their height.
    pub weight: f32,
    pub slant: f32,
    /// Thickness of lines in hundredths of the picture's side.
    pub width: f32,
}

/// In domain: thin black lines on white, upright bold letters.
const IN_DOMAIN: Style = Style {
    paper: [255, 255, 255],
    grid: None,
    ink: [20, 20, 20],
    tint: None,
    text: [20, 20, 20],
    typeface: Typeface::Sans,
    weight: 0.06,
    slant: 0.0,
    width: 0.9,
};

/// Out of domain: thick blue lines on squared paper, tinted figures, red slanted letters of a typewriter.
const OUT_OF_DOMAIN: Style = Style {
    paper: [252, 249, 238],
    grid: Some([226, 226, 214]),
    ink: [34, 70, 150],
    tint: Some([90, 150, 220]),
    text: [150, 24, 40],
    typeface: Typeface::Typewriter,
    weight: 0.02,
    slant: 0.2,
    width: 1.8,
};

impl Style {
    pub(super) const fn of(split: Split) -> &'static Self {
        match split {
            Split::TestOod => &OUT_OF_DOMAIN,
            _ => &IN_DOMAIN,
        }
    }
}
