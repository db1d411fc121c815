//! The flat renderer: shapes of one colour, plain in domain, muted on stripes out of domain. It knows no question.

use tiny_skia::{FillRule, Path, PathBuilder, Pixmap, Rect, Transform};

use super::super::attributes::{Color, Shape};
use super::super::family::Split;
use super::super::picture::{Place, Rgb, canvas, plain, polygon};
use super::scene::{Object, Scene};

/// How a split looks.
struct Style {
    background: Rgb,
    /// Slanted stripes over the background.
    stripes: Option<Rgb>,
    shade: fn(Color) -> Rgb,
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

const fn clear_shade(color: Color) -> Rgb {
    match color {
        Color::Red => [214, 39, 40],
        Color::Blue => [31, 90, 200],
        Color::Green => [40, 160, 60],
        Color::Yellow => [242, 200, 15],
        Color::Purple => [140, 65, 180],
        Color::Cyan => [30, 185, 205],
        Color::Gray => [120, 124, 128],
        Color::Brown => [130, 82, 40],
    }
}

const fn muted_shade(color: Color) -> Rgb {
    match color {
        Color::Red => [178, 52, 72],
        Color::Blue => [92, 136, 214],
        Color::Green => [96, 140, 62],
        Color::Yellow => [232, 172, 58],
        Color::Purple => [160, 112, 196],
        Color::Cyan => [70, 156, 156],
        Color::Gray => [140, 140, 150],
        Color::Brown => [150, 112, 84],
    }
}

/// Draws the scene on `size` x `size` pixels.
pub(super) fn render(scene: &Scene, split: Split, size: u32) -> Pixmap {
    let style = if split == Split::TestOod {
        OUT_OF_DOMAIN
    } else {
        IN_DOMAIN
    };
    let mut canvas = canvas(size, size, style.background);
    draw_stripes(&mut canvas, &style);
    let cell = size as f32 / scene.grid as f32;
    for object in &scene.objects {
        draw_object(&mut canvas, object, cell, &style);
    }
    canvas
}

fn draw_stripes(canvas: &mut Pixmap, style: &Style) {
    let Some(color) = style.stripes else { return };
    let side = canvas.width() as f32;
    let width = side / 14.0;
    let Some(stripe) = Rect::from_xywh(-side, 0.0, 4.0 * side, width) else {
        return;
    };
    for index in -14..28 {
        let slant = Transform::from_translate(0.0, 2.0 * width * index as f32).pre_rotate(30.0);
        canvas.fill_rect(stripe, &plain(color), slant, None);
    }
}

fn draw_object(canvas: &mut Pixmap, object: &Object, cell: f32, style: &Style) {
    let Some(path) = shape_path(object.shape, object.radius()) else {
        return;
    };
    let place = Transform::from_scale(cell, cell)
        .pre_translate(object.x, object.y)
        .pre_rotate(object.angle.to_degrees());
    let paint = plain((style.shade)(object.color));
    canvas.fill_path(&path, &paint, FillRule::Winding, place, None);
}

/// The shape around the origin; areas of one size look alike.
fn shape_path(shape: Shape, radius: f32) -> Option<Path> {
    match shape {
        Shape::Square => corners(
            &[45.0, 135.0, 225.0, 315.0].map(|angle| (angle, 1.2)),
            radius,
        ),
        Shape::Triangle => corners(&[-90.0, 30.0, 150.0].map(|angle| (angle, 1.2)), radius),
        Shape::Star => {
            let corner = |index: usize| {
                let distance = if index % 2 == 0 { 1.2 } else { 0.55 };
                (-90.0 + 36.0 * index as f32, distance)
            };
            corners(&std::array::from_fn::<_, 10, _>(corner), radius)
        }
        _ => PathBuilder::from_circle(0.0, 0.0, radius),
    }
}

/// A closed line through corners given as angle in degrees and distance in radii.
fn corners(corners: &[(f32, f32)], radius: f32) -> Option<Path> {
    let place = |(degrees, distance): &(f32, f32)| {
        let (sine, cosine) = degrees.to_radians().sin_cos();
        (cosine * distance * radius, sine * distance * radius)
    };
    let places: Vec<Place> = corners.iter().map(place).collect();
    polygon(&places)
}

#[cfg(test)]
mod tests {
    use super::super::super::family::{Difficulty, Renderer};
    use super::super::scene::tests::scene;
    use super::*;

    fn pixel(canvas: &Pixmap, x: u32, y: u32) -> Rgb {
        let pixel = canvas.pixel(x, y).unwrap();
        [pixel.red(), pixel.green(), pixel.blue()]
    }

    #[test]
    fn every_object_shows_its_shade_at_its_centre() {
        for (split, style) in [(Split::Train, IN_DOMAIN), (Split::TestOod, OUT_OF_DOMAIN)] {
            for seed in 0..20 {
                let scene = scene(seed, Renderer::Flat, split, Difficulty::Full);
                let picture = render(&scene, split, 84);
                for object in &scene.objects {
                    let found = pixel(&picture, (object.x * 28.0) as u32, (object.y * 28.0) as u32);
                    assert_eq!(found, (style.shade)(object.color), "{object:?}");
                }
            }
        }
    }

    #[test]
    fn the_picture_border_is_background() {
        let scene = scene(3, Renderer::Flat, Split::Test, Difficulty::Easy);
        let picture = render(&scene, Split::Test, 84);
        for step in 0..84 {
            for (x, y) in [(step, 0), (step, 83), (0, step), (83, step)] {
                assert_eq!(pixel(&picture, x, y), IN_DOMAIN.background);
            }
        }
    }
}
