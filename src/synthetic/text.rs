//! Text as filled outlines, in any height, turn and weight. It knows no picture's content.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, GlyphId, OutlineCurve};
use tiny_skia::{FillRule, LineJoin, Path, PathBuilder, Pixmap, Stroke, Transform};

use super::picture::{Place, Rgb, plain};

/// Which typeface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typeface {
    /// All characters of one width, upright and clear.
    Typewriter,
    /// Of natural width.
    Sans,
}

/// How text looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lettering {
    pub typeface: Typeface,
    /// Pixels from the ascent to the descent.
    pub height: f32,
    /// Pixels by which every stroke is thicker than in the typeface.
    pub weight: f32,
    /// Lean to the right; 0.2 looks like italics.
    pub slant: f32,
    pub color: Rgb,
}

static TYPEWRITER: LazyLock<FontRef<'static>> =
    LazyLock::new(|| open(epaint_default_fonts::HACK_REGULAR));
static SANS: LazyLock<FontRef<'static>> =
    LazyLock::new(|| open(epaint_default_fonts::UBUNTU_LIGHT));

fn open(bytes: &'static [u8]) -> FontRef<'static> {
    FontRef::try_from_slice(bytes).expect("the built-in typefaces are whole")
}

impl Lettering {
    fn font(&self) -> &'static FontRef<'static> {
        match self.typeface {
            Typeface::Typewriter => &TYPEWRITER,
            Typeface::Sans => &SANS,
        }
    }

    /// The typewriter's zero has a dot inside and looks like an eight in small pictures: its letter O stands in.
    fn glyph(&self, letter: char) -> GlyphId {
        let dotted = letter == '0' && self.typeface == Typeface::Typewriter;
        self.font().glyph_id(if dotted { 'O' } else { letter })
    }

    /// Pixels per unit of the typeface.
    fn scale(&self) -> f32 {
        self.height / self.font().height_unscaled()
    }

    /// Pixels from the left of the first character to the right of the last.
    pub(crate) fn width(&self, text: &str) -> f32 {
        let advance = |letter| self.font().h_advance_unscaled(self.glyph(letter));
        text.chars().map(advance).sum::<f32>() * self.scale()
    }

    /// Pixels from the baseline to the top of a digit.
    pub(crate) fn digit_height(&self) -> f32 {
        let font = self.font();
        let outline = font.outline(font.glyph_id('0'));
        outline.map_or(0.7 * self.height, |outline| {
            outline.bounds.max.y.max(outline.bounds.min.y) * self.scale()
        })
    }

    /// Draws the text with its middle (of the digits' height) at a place.
    pub(crate) fn draw_centred(&self, canvas: &mut Pixmap, text: &str, (x, y): Place) {
        let left = x - 0.5 * self.width(text);
        self.draw(canvas, text, (left, y + 0.5 * self.digit_height()));
    }

    /// Draws the text with the left end of its baseline at a place.
    pub(crate) fn draw(&self, canvas: &mut Pixmap, text: &str, (x, y): Place) {
        let Some(path) = self.outline(text) else {
            return;
        };
        let (paint, scale) = (plain(self.color), self.scale());
        let place = Transform::from_row(scale, 0.0, self.slant * scale, -scale, x, y);
        canvas.fill_path(&path, &paint, FillRule::Winding, place, None);
        if self.weight > 0.0 {
            let stroke = Stroke {
                width: self.weight / scale,
                line_join: LineJoin::Round,
                ..Stroke::default()
            };
            canvas.stroke_path(&path, &paint, &stroke, place, None);
        }
    }

    /// The characters side by side in units of the typeface, upwards positive; `None` if nothing is to be seen.
    fn outline(&self, text: &str) -> Option<Path> {
        let (font, mut builder, mut left) = (self.font(), PathBuilder::new(), 0.0);
        for letter in text.chars() {
            let glyph = self.glyph(letter);
            let mut end = None;
            for curve in font
                .outline(glyph)
                .into_iter()
                .flat_map(|shape| shape.curves)
            {
                end = Some(push(&mut builder, left, end, curve));
            }
            builder.close();
            left += font.h_advance_unscaled(glyph);
        }
        builder.finish()
    }

    /// The text in lines of at most this many pixels, broken at spaces; a line break in the text stays.
    pub(crate) fn wrap(&self, text: &str, width: f32) -> Vec<String> {
        let mut lines = Vec::new();
        for paragraph in text.lines() {
            let mut line = String::new();
            for word in paragraph.split(' ') {
                let longer = if line.is_empty() {
                    word.to_owned()
                } else {
                    format!("{line} {word}")
                };
                if line.is_empty() || self.width(&longer) <= width {
                    line = longer;
                } else {
                    lines.push(std::mem::replace(&mut line, word.to_owned()));
                }
            }
            lines.push(line);
        }
        lines
    }
}

/// Adds a curve, after a move where it does not begin where the last one ended; returns its end.
fn push(
    builder: &mut PathBuilder,
    left: f32,
    last: Option<(f32, f32)>,
    curve: OutlineCurve,
) -> (f32, f32) {
    let place = |point: ab_glyph::Point| (left + point.x, point.y);
    let (start, end) = match &curve {
        OutlineCurve::Line(a, b)
        | OutlineCurve::Quad(a, _, b)
        | OutlineCurve::Cubic(a, _, _, b) => (place(*a), place(*b)),
    };
    if last != Some(start) {
        builder.close();
        builder.move_to(start.0, start.1);
    }
    match curve {
        OutlineCurve::Line(..) => builder.line_to(end.0, end.1),
        OutlineCurve::Quad(_, control, _) => {
            let (x, y) = place(control);
            builder.quad_to(x, y, end.0, end.1);
        }
        OutlineCurve::Cubic(_, first, second, _) => {
            let ((a, b), (c, d)) = (place(first), place(second));
            builder.cubic_to(a, b, c, d, end.0, end.1);
        }
    }
    end
}

#[cfg(test)]
mod tests {
    use super::super::picture::canvas;
    use super::*;

    const PLAIN: Lettering = Lettering {
        typeface: Typeface::Typewriter,
        height: 20.0,
        weight: 0.0,
        slant: 0.0,
        color: [0, 0, 0],
    };

    fn dark_columns(lettering: &Lettering, text: &str) -> Vec<usize> {
        let mut canvas = canvas(100, 40, [255, 255, 255]);
        lettering.draw_centred(&mut canvas, text, (50.0, 20.0));
        let dark = |x: &usize| (0..40).any(|y| canvas.pixels()[y * 100 + x].red() < 128);
        (0..100).filter(dark).collect()
    }

    #[test]
    fn text_stands_in_the_middle_and_as_wide_as_it_says() {
        for text in ["50°", "8", "x = 3.5"] {
            let columns = dark_columns(&PLAIN, text);
            let (first, last) = (columns[0] as f32, columns[columns.len() - 1] as f32);
            assert!(
                (first + last - 99.0).abs() < 4.0,
                "{text}: {first} to {last}"
            );
            assert!(last - first < PLAIN.width(text), "{text}");
        }
    }

    #[test]
    fn every_character_that_is_used_can_be_seen() {
        let printable = ('!'..='~').chain("°π²×÷√".chars());
        for typeface in [Typeface::Typewriter, Typeface::Sans] {
            let lettering = Lettering { typeface, ..PLAIN };
            for letter in printable.clone() {
                assert!(
                    !dark_columns(&lettering, &letter.to_string()).is_empty(),
                    "{letter}"
                );
            }
        }
    }

    #[test]
    fn weight_and_typeface_change_the_look() {
        let bold = Lettering {
            weight: 1.5,
            ..PLAIN
        };
        let sans = Lettering {
            typeface: Typeface::Sans,
            ..PLAIN
        };
        let plain = dark_columns(&PLAIN, "111");
        assert!(dark_columns(&bold, "111").len() > plain.len());
        assert!(sans.width("111") != PLAIN.width("111"));
    }

    #[test]
    fn lines_break_at_spaces_and_lose_no_word() {
        let text = "one two three four five\nsix";
        let lines = PLAIN.wrap(text, PLAIN.width("one two three"));
        assert_eq!(lines, ["one two three", "four five", "six"]);
        assert_eq!(PLAIN.wrap("averylongword b", 5.0), ["averylongword", "b"]);
    }
}
