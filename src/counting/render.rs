//! A scene -> PNG bytes. It knows neither questions nor files.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError};
use tiny_skia::{FillRule, Paint, Path, PathBuilder, Pixmap, Rect, Transform};

use super::Split;
use super::scene::{Color, Object, Scene, Shape};

/// How a split looks.
struct Style {
    background: [u8; 3],
    /// Slanted stripes over the background.
    stripes: Option<[u8; 3]>,
    shade: fn(Color) -> [u8; 3],
}

/// In domain: clear colours on plain light grey.
const IN_DOMAIN: Style = Style {
    background: [236, 236, 232],
    stripes: None,
    shade: clear_shade,
};

/// Out of domain: muted shades on striped pale blue. Chosen so that a small model that answers three in four
/// questions in domain answers about half of these: far off, yet above guessing.
const OUT_OF_DOMAIN: Style = Style {
    background: [226, 230, 240],
    stripes: Some([218, 222, 234]),
    shade: muted_shade,
};

const fn clear_shade(color: Color) -> [u8; 3] {
    match color {
        Color::Red => [214, 39, 40],
        Color::Blue => [31, 90, 200],
        Color::Green => [40, 160, 60],
        Color::Yellow => [242, 200, 15],
        Color::Purple => [140, 65, 180],
        Color::Cyan => [30, 185, 205],
    }
}

const fn muted_shade(color: Color) -> [u8; 3] {
    match color {
        Color::Red => [178, 52, 72],
        Color::Blue => [92, 136, 214],
        Color::Green => [96, 140, 62],
        Color::Yellow => [232, 172, 58],
        Color::Purple => [160, 112, 196],
        Color::Cyan => [70, 156, 156],
    }
}

/// Renders a scene as an RGB PNG of `size` x `size` pixels.
///
/// # Errors
/// The encoder fails, or no picture of this size can be allocated.
pub(super) fn render(scene: &Scene, split: Split, size: u32) -> Result<Vec<u8>, ImageError> {
    let style = if split == Split::TestOod {
        OUT_OF_DOMAIN
    } else {
        IN_DOMAIN
    };
    let too_large = || {
        ImageError::Limits(image::error::LimitError::from_kind(
            image::error::LimitErrorKind::DimensionError,
        ))
    };
    let mut canvas = Pixmap::new(size, size).ok_or_else(too_large)?;
    draw_background(&mut canvas, &style);
    let cell = size as f32 / scene.grid as f32;
    for object in &scene.objects {
        draw_object(&mut canvas, object, cell, &style);
    }
    let rgb: Vec<u8> = canvas
        .data()
        .chunks_exact(4)
        .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
        .collect();
    let mut png = Vec::new();
    PngEncoder::new(&mut png).write_image(&rgb, size, size, ExtendedColorType::Rgb8)?;
    Ok(png)
}

fn paint([red, green, blue]: [u8; 3]) -> Paint<'static> {
    let mut paint = Paint {
        anti_alias: true,
        ..Paint::default()
    };
    paint.set_color_rgba8(red, green, blue, 255);
    paint
}

fn draw_background(canvas: &mut Pixmap, style: &Style) {
    let side = canvas.width() as f32;
    let [red, green, blue] = style.background;
    canvas.fill(tiny_skia::Color::from_rgba8(red, green, blue, 255));
    let Some(color) = style.stripes else { return };
    let width = side / 14.0;
    let Some(stripe) = Rect::from_xywh(-side, 0.0, 4.0 * side, width) else {
        return;
    };
    for index in -14..28 {
        let slant = Transform::from_translate(0.0, 2.0 * width * index as f32).pre_rotate(30.0);
        canvas.fill_rect(stripe, &paint(color), slant, None);
    }
}

fn draw_object(canvas: &mut Pixmap, object: &Object, cell: f32, style: &Style) {
    let radius = object.size.radius();
    let Some(path) = shape_path(object.shape, radius) else {
        return;
    };
    let place = Transform::from_scale(cell, cell)
        .pre_translate(object.x, object.y)
        .pre_rotate(object.angle.to_degrees());
    canvas.fill_path(
        &path,
        &paint((style.shade)(object.color)),
        FillRule::Winding,
        place,
        None,
    );
}

/// The shape around the origin; areas of one size look alike.
fn shape_path(shape: Shape, radius: f32) -> Option<Path> {
    match shape {
        Shape::Circle => PathBuilder::from_circle(0.0, 0.0, radius),
        Shape::Square => polygon(
            &[(45.0, 1.2), (135.0, 1.2), (225.0, 1.2), (315.0, 1.2)],
            radius,
        ),
        Shape::Triangle => polygon(&[(-90.0, 1.2), (30.0, 1.2), (150.0, 1.2)], radius),
        Shape::Star => {
            let corner = |index: usize| {
                (
                    -90.0 + 36.0 * index as f32,
                    if index % 2 == 0 { 1.2 } else { 0.55 },
                )
            };
            polygon(&std::array::from_fn::<_, 10, _>(corner), radius)
        }
    }
}

/// A closed line through corners given as angle in degrees and distance in radii.
fn polygon(corners: &[(f32, f32)], radius: f32) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (index, (degrees, distance)) in corners.iter().enumerate() {
        let (sine, cosine) = degrees.to_radians().sin_cos();
        let (x, y) = (cosine * distance * radius, sine * distance * radius);
        if index == 0 {
            builder.move_to(x, y)
        } else {
            builder.line_to(x, y)
        }
    }
    builder.close();
    builder.finish()
}

#[cfg(test)]
mod tests {
    use image::GenericImageView;

    use super::super::Difficulty;
    use super::super::scene::tests::scene;
    use super::*;

    #[test]
    fn every_object_shows_its_shade_at_its_centre() {
        for (split, style) in [(Split::Train, IN_DOMAIN), (Split::TestOod, OUT_OF_DOMAIN)] {
            for seed in 0..20 {
                let scene = scene(seed, split, Difficulty::Full);
                let picture = image::load_from_memory(&render(&scene, split, 84).unwrap()).unwrap();
                assert_eq!(picture.dimensions(), (84, 84));
                assert_eq!(picture.color(), image::ColorType::Rgb8);
                for object in &scene.objects {
                    let pixel =
                        picture.get_pixel((object.x * 28.0) as u32, (object.y * 28.0) as u32);
                    assert_eq!(pixel.0[..3], (style.shade)(object.color), "{object:?}");
                }
            }
        }
    }

    #[test]
    fn the_picture_border_is_background() {
        let scene = scene(3, Split::Test, Difficulty::Easy);
        let picture = image::load_from_memory(&render(&scene, Split::Test, 84).unwrap()).unwrap();
        for step in 0..84 {
            for (x, y) in [(step, 0), (step, 83), (0, step), (83, step)] {
                assert_eq!(picture.get_pixel(x, y).0[..3], IN_DOMAIN.background);
            }
        }
    }
}
