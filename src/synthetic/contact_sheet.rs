//! Some examples of a split side by side, each with its question and answer: for a person's eyes.

use tiny_skia::{FilterQuality, Pixmap, PixmapPaint, Transform};

use super::drawn::Drawn;
use super::error::SyntheticError;
use super::options::SyntheticOptions;
use super::text::{Lettering, Typeface};
use super::{draw, picture};

const COLUMNS: usize = 4;
const ROWS: usize = 3;
/// Pixels per side of a shown picture.
const SHOWN: f32 = 252.0;
const GAP: f32 = 12.0;
const LINE: f32 = 18.0;

const QUESTION: Lettering = Lettering {
    typeface: Typeface::Sans,
    height: 17.0,
    weight: 0.35,
    slant: 0.0,
    color: [40, 40, 48],
};
const ANSWER: Lettering = Lettering {
    weight: 0.9,
    color: [0, 90, 60],
    ..QUESTION
};

/// An example as it is laid out.
struct Tile {
    pictures: Vec<Pixmap>,
    question: Vec<String>,
    answer: Vec<String>,
}

/// Renders the first twelve examples of the options as one PNG; `count`, `out` and the experts change nothing.
///
/// # Errors
/// An option is out of range, or the picture cannot be encoded.
pub fn contact_sheet(options: &SyntheticOptions) -> Result<Vec<u8>, SyntheticError> {
    options.check()?;
    let tiles: Vec<Tile> = (0..COLUMNS * ROWS)
        .map(|index| lay_out(draw(options, index).as_ref(), options.size))
        .collect();
    let heights: Vec<f32> = tiles.chunks(COLUMNS).map(height).collect();
    let width = GAP + COLUMNS as f32 * (tile_width(&tiles[0]) + GAP);
    let total = GAP + heights.iter().map(|height| height + GAP).sum::<f32>();
    let mut sheet = picture::canvas(width as u32, total as u32, [255, 255, 255]);
    let mut top = GAP;
    for (row, height) in tiles.chunks(COLUMNS).zip(heights) {
        for (column, tile) in row.iter().enumerate() {
            let left = GAP + column as f32 * (tile_width(tile) + GAP);
            show(&mut sheet, tile, left, top);
        }
        top += height + GAP;
    }
    picture::encode(&sheet).map_err(|source| SyntheticError::Encode {
        path: "contact sheet".into(),
        source,
    })
}

fn lay_out(drawn: &dyn Drawn, size: u32) -> Tile {
    let pictures: Vec<Pixmap> = drawn
        .pictures(size)
        .into_iter()
        .map(|(_, canvas)| canvas)
        .collect();
    let mut tile = Tile {
        pictures,
        question: Vec::new(),
        answer: Vec::new(),
    };
    let width = tile_width(&tile);
    tile.question = QUESTION.wrap(&drawn.problem(), width);
    tile.answer = ANSWER.wrap(&drawn.answer(), width);
    tile
}

fn tile_width(tile: &Tile) -> f32 {
    let pictures = tile.pictures.len() as f32;
    pictures * SHOWN + (pictures - 1.0) * 4.0
}

/// The height of a row of tiles.
fn height(row: &[Tile]) -> f32 {
    let lines = |tile: &Tile| tile.question.len() + tile.answer.len();
    let most = row.iter().map(lines).max().unwrap_or(0);
    SHOWN + GAP + LINE * most as f32
}

fn show(sheet: &mut Pixmap, tile: &Tile, left: f32, top: f32) {
    for (index, picture) in tile.pictures.iter().enumerate() {
        let scale = SHOWN / picture.width() as f32;
        // Enlarged pictures keep their pixels: what is seen is what a model gets.
        let quality = if scale > 1.0 {
            FilterQuality::Nearest
        } else {
            FilterQuality::Bilinear
        };
        let paint = PixmapPaint {
            quality,
            ..PixmapPaint::default()
        };
        let x = left + index as f32 * (SHOWN + 4.0);
        let place = Transform::from_row(scale, 0.0, 0.0, scale, x, top);
        sheet.draw_pixmap(0, 0, picture.as_ref(), &paint, place, None);
    }
    let mut baseline = top + SHOWN + LINE;
    for (lettering, lines) in [(&QUESTION, &tile.question), (&ANSWER, &tile.answer)] {
        for line in lines {
            lettering.draw(sheet, line, (left, baseline));
            baseline += LINE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::family::{Family, Split};
    use super::*;

    #[test]
    fn sheets_hold_twelve_examples_of_one_or_two_pictures() {
        for (family, width) in [(Family::Structure, 1068), (Family::Transformation, 2092)] {
            let options = SyntheticOptions::new(family, Split::Train, 1, 1, "unused");
            let sheet = image::load_from_memory(&contact_sheet(&options).unwrap()).unwrap();
            assert_eq!(sheet.width(), width);
            assert!(sheet.height() as f32 > 3.0 * (SHOWN + GAP + 2.0 * LINE));
        }
    }

    #[test]
    fn impossible_options_are_named() {
        let mut options = SyntheticOptions::new(Family::Structure, Split::Train, 1, 1, "unused");
        options.size = 10;
        assert!(
            contact_sheet(&options)
                .unwrap_err()
                .to_string()
                .contains("`size` is 10")
        );
    }
}
