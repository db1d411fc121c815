//! Drawing on a square canvas, and the canvas as PNG bytes. It knows nothing of what is drawn.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};
use tiny_skia::{
    Color, FillRule, GradientStop, LineCap, LineJoin, LinearGradient, Paint, Path, PathBuilder,
    Pixmap, Point, RadialGradient, Rect, Shader, SpreadMode, Stroke, Transform,
};

/// Red, green, blue.
pub(crate) type Rgb = [u8; 3];

/// A place in pixels: right, down.
pub(crate) type Place = (f32, f32);

/// Stops of a gradient: position from 0 to 1, colour, opacity.
pub(crate) type Stops<'a> = &'a [(f32, Rgb, f32)];

/// An empty square canvas; `side` lies within the checked option `size`.
pub(crate) fn canvas(width: u32, height: u32, background: Rgb) -> Pixmap {
    let mut canvas = Pixmap::new(width, height).expect("the options allow no size that cannot be");
    let [red, green, blue] = background;
    canvas.fill(Color::from_rgba8(red, green, blue, 255));
    canvas
}

/// An RGB PNG.
///
/// # Errors
/// The encoder fails.
pub(crate) fn encode(canvas: &Pixmap) -> Result<Vec<u8>, ImageError> {
    let rgb: Vec<u8> = canvas
        .data()
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    let mut png = Vec::new();
    let (width, height) = (canvas.width(), canvas.height());
    PngEncoder::new(&mut png).write_image(&rgb, width, height, ExtendedColorType::Rgb8)?;
    Ok(png)
}

/// Between two colours: `share` 0 gives the first, 1 the second.
pub(crate) fn mix(first: Rgb, second: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|index| {
        let (a, b) = (f32::from(first[index]), f32::from(second[index]));
        (a + (b - a) * share).round().clamp(0.0, 255.0) as u8
    })
}

/// A colour in more light (above 1: towards white) or less (below 1: towards black).
pub(crate) fn lit(color: Rgb, light: f32) -> Rgb {
    if light <= 1.0 {
        mix([0, 0, 0], color, light)
    } else {
        mix(color, [255, 255, 255], (light - 1.0).min(1.0))
    }
}

fn shade([red, green, blue]: Rgb, opacity: f32) -> Color {
    let mut color = Color::from_rgba8(red, green, blue, 255);
    color.set_alpha(opacity.clamp(0.0, 1.0));
    color
}

fn paint(shader: Shader<'static>) -> Paint<'static> {
    Paint {
        shader,
        anti_alias: true,
        ..Paint::default()
    }
}

/// One colour.
pub(crate) fn plain(color: Rgb) -> Paint<'static> {
    paint(Shader::SolidColor(shade(color, 1.0)))
}

/// One colour that lets through what lies under it.
pub(crate) fn veil(color: Rgb, opacity: f32) -> Paint<'static> {
    paint(Shader::SolidColor(shade(color, opacity)))
}

fn stops_of(stops: Stops<'_>) -> Vec<GradientStop> {
    stops
        .iter()
        .map(|(at, color, opacity)| GradientStop::new(*at, shade(*color, *opacity)))
        .collect()
}

/// Colours that change from one place to another.
pub(crate) fn linear(from: Place, to: Place, stops: Stops<'_>) -> Paint<'static> {
    let (start, end) = (Point::from_xy(from.0, from.1), Point::from_xy(to.0, to.1));
    let mode = SpreadMode::Pad;
    let shader = LinearGradient::new(start, end, stops_of(stops), mode, Transform::identity());
    paint(shader.unwrap_or(Shader::SolidColor(shade(stops[0].1, stops[0].2))))
}

/// Colours that change from a focus to the rim of a circle.
pub(crate) fn radial(focus: Place, centre: Place, radius: f32, stops: Stops<'_>) -> Paint<'static> {
    let (start, end) = (
        Point::from_xy(focus.0, focus.1),
        Point::from_xy(centre.0, centre.1),
    );
    let (mode, identity) = (SpreadMode::Pad, Transform::identity());
    let shader = RadialGradient::new(start, 0.0, end, radius, stops_of(stops), mode, identity);
    paint(shader.unwrap_or(Shader::SolidColor(shade(stops[0].1, stops[0].2))))
}

/// A closed line through the corners; `None` if they have no area or no length.
pub(crate) fn polygon(corners: &[Place]) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (index, (x, y)) in corners.iter().enumerate() {
        if index == 0 {
            builder.move_to(*x, *y);
        } else {
            builder.line_to(*x, *y);
        }
    }
    builder.close();
    builder.finish()
}

/// An open line through the places.
pub(crate) fn line(places: &[Place]) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (index, (x, y)) in places.iter().enumerate() {
        if index == 0 {
            builder.move_to(*x, *y);
        } else {
            builder.line_to(*x, *y);
        }
    }
    builder.finish()
}

/// An ellipse with axes along the picture's sides.
pub(crate) fn ellipse((x, y): Place, across: f32, down: f32) -> Option<Path> {
    PathBuilder::from_oval(Rect::from_ltrb(x - across, y - down, x + across, y + down)?)
}

/// Fills a path; one that has no area draws nothing.
pub(crate) fn fill(canvas: &mut Pixmap, path: Option<Path>, paint: &Paint<'_>) {
    if let Some(path) = path {
        let (rule, identity) = (FillRule::Winding, Transform::identity());
        canvas.fill_path(&path, paint, rule, identity, None);
    }
}

/// Draws a path's line with round ends and corners.
pub(crate) fn stroke(canvas: &mut Pixmap, path: Option<Path>, paint: &Paint<'_>, width: f32) {
    if let Some(path) = path {
        let stroke = Stroke {
            width,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        canvas.stroke_path(&path, paint, &stroke, Transform::identity(), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_moves_colours_towards_black_and_white() {
        assert_eq!(lit([100, 200, 0], 1.0), [100, 200, 0]);
        assert_eq!(lit([100, 200, 0], 0.5), [50, 100, 0]);
        assert_eq!(lit([100, 200, 0], 2.0), [255, 255, 255]);
        assert_eq!(mix([0, 0, 0], [255, 255, 255], 0.0), [0, 0, 0]);
    }

    #[test]
    fn a_picture_survives_its_encoding() {
        let mut canvas = canvas(8, 6, [10, 20, 30]);
        fill(
            &mut canvas,
            polygon(&[(0.0, 0.0), (4.0, 0.0), (4.0, 6.0), (0.0, 6.0)]),
            &plain([200, 0, 0]),
        );
        let picture = image::load_from_memory(&encode(&canvas).unwrap())
            .unwrap()
            .to_rgb8();
        assert_eq!(picture.dimensions(), (8, 6));
        assert_eq!(
            (picture.get_pixel(1, 1).0, picture.get_pixel(6, 5).0),
            ([200, 0, 0], [10, 20, 30])
        );
    }

    #[test]
    fn what_has_no_area_draws_nothing() {
        let mut canvas = canvas(4, 4, [1, 2, 3]);
        let before = canvas.data().to_vec();
        fill(&mut canvas, polygon(&[]), &plain([9, 9, 9]));
        fill(
            &mut canvas,
            ellipse((2.0, 2.0), 0.0, 0.0),
            &plain([9, 9, 9]),
        );
        stroke(&mut canvas, line(&[]), &plain([9, 9, 9]), 1.0);
        assert_eq!(canvas.data(), before);
    }
}
