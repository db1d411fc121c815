//! The solid renderer out of domain: outlined vehicles from the side on dotted paper, as far from the lit solids as
//! Super-CLEVR is from CLEVR. It knows no question.

use tiny_skia::{LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Stroke, Transform};

use super::super::attributes::{Color, Material, Shape};
use super::super::picture::{Place, Rgb, canvas, ellipse, fill, line, linear, lit, plain, polygon};
use super::scene::{Object, Scene};

const PAPER: Rgb = [247, 240, 222];
const DOTS: Rgb = [222, 208, 178];
const INK: Rgb = [38, 34, 48];
const GLASS: Rgb = [232, 244, 250];

const fn shade(color: Color) -> Rgb {
    match color {
        Color::Red => [226, 96, 88],
        Color::Blue => [96, 142, 222],
        Color::Green => [112, 178, 96],
        Color::Yellow => [238, 196, 84],
        Color::Purple => [172, 122, 206],
        Color::Cyan => [104, 200, 196],
        Color::Gray => [152, 154, 164],
        Color::Brown => [168, 124, 88],
    }
}

/// A part of a vehicle around the origin, in radii, driving to the right.
enum Part {
    /// In the vehicle's colour.
    Body(&'static [Place]),
    /// Windows and sails.
    Window(&'static [Place]),
    /// A wheel's middle and radius.
    Wheel(Place, f32),
}

const CAR: &[Part] = &[
    Part::Body(&[
        (-1.1, 0.4),
        (-1.1, 0.0),
        (-0.65, -0.1),
        (-0.35, -0.6),
        (0.4, -0.6),
        (0.7, -0.1),
        (1.1, 0.05),
        (1.1, 0.4),
    ]),
    Part::Window(&[(-0.42, -0.1), (-0.2, -0.44), (0.3, -0.44), (0.45, -0.1)]),
    Part::Wheel((-0.6, 0.42), 0.28),
    Part::Wheel((0.6, 0.42), 0.28),
];
const BUS: &[Part] = &[
    Part::Body(&[
        (-1.1, 0.5),
        (-1.1, -0.75),
        (1.0, -0.75),
        (1.1, 0.0),
        (1.1, 0.5),
    ]),
    Part::Window(&[(-0.9, -0.1), (-0.9, -0.5), (-0.4, -0.5), (-0.4, -0.1)]),
    Part::Window(&[(-0.2, -0.1), (-0.2, -0.5), (0.3, -0.5), (0.3, -0.1)]),
    Part::Window(&[(0.5, -0.1), (0.5, -0.5), (0.86, -0.5), (0.93, -0.1)]),
    Part::Wheel((-0.6, 0.52), 0.26),
    Part::Wheel((0.6, 0.52), 0.26),
];
const TRUCK: &[Part] = &[
    Part::Body(&[(-1.1, 0.4), (-1.1, -0.8), (0.3, -0.8), (0.3, 0.4)]),
    Part::Body(&[
        (0.42, 0.4),
        (0.42, -0.35),
        (0.8, -0.35),
        (1.1, 0.0),
        (1.1, 0.4),
    ]),
    Part::Window(&[(0.55, 0.0), (0.55, -0.22), (0.74, -0.22), (0.92, 0.0)]),
    Part::Wheel((-0.65, 0.45), 0.28),
    Part::Wheel((0.7, 0.45), 0.28),
];
const BOAT: &[Part] = &[
    Part::Body(&[(-1.1, 0.2), (1.1, 0.2), (0.7, 0.75), (-0.75, 0.75)]),
    Part::Window(&[(-0.1, 0.05), (-0.1, -1.0), (0.8, 0.05)]),
    Part::Body(&[(-0.25, 0.05), (-0.25, -0.8), (-0.85, 0.05)]),
];
const PLANE: &[Part] = &[
    Part::Body(&[
        (-1.1, -0.6),
        (-0.8, -0.6),
        (-0.5, -0.15),
        (0.7, -0.15),
        (1.15, 0.1),
        (0.7, 0.32),
        (-0.7, 0.32),
        (-0.95, 0.0),
    ]),
    Part::Body(&[(-0.15, 0.05), (0.25, 0.05), (-0.2, 0.75), (-0.5, 0.75)]),
    Part::Window(&[(0.55, 0.02), (0.6, -0.12), (0.75, -0.12), (0.92, 0.02)]),
];

/// Draws the scene on `size` x `size` pixels.
pub(super) fn render(scene: &Scene, size: u32) -> Pixmap {
    let side = size as f32;
    let mut canvas = canvas(size, size, PAPER);
    let (cell, step) = (side / scene.grid as f32, side / 14.0);
    let mut dots = PathBuilder::new();
    for index in 0..14 * 14 {
        let (column, row) = ((index % 14) as f32, (index / 14) as f32);
        let shift = 0.25 + 0.5 * (row as usize % 2) as f32;
        dots.push_circle((column + shift) * step, (row + 0.5) * step, 0.16 * step);
    }
    fill(&mut canvas, dots.finish(), &plain(DOTS));
    for object in &scene.objects {
        draw(&mut canvas, object, cell);
    }
    canvas
}

fn draw(canvas: &mut Pixmap, object: &Object, cell: f32) {
    let radius = 1.1 * object.radius() * cell;
    let (x, y) = (object.x * cell, object.y * cell);
    let facing = if object.angle < std::f32::consts::PI {
        1.0
    } else {
        -1.0
    };
    let tilt = 12.0 * object.angle.sin();
    let place = Transform::from_translate(x, y)
        .pre_rotate(tilt)
        .pre_scale(facing * radius, radius);
    let ink = (0.09_f32).max(0.8 / radius);
    for part in parts(object.shape) {
        let (path, paint) = match part {
            Part::Body(corners) => (polygon(corners), body(object)),
            Part::Window(corners) => (polygon(corners), plain(GLASS)),
            Part::Wheel(middle, radius) => {
                (ellipse(*middle, *radius, *radius), plain(lit(INK, 1.25)))
            }
        };
        paint_part(canvas, path, &paint, (place, ink));
    }
    if object.material == Some(Material::Metal) {
        let shine = line(&[(-0.85, 0.22), (0.85, 0.22)]);
        let white = plain([255, 255, 255]);
        stroke_placed(canvas, shine, &white, (place, 0.16));
    }
}

const fn parts(shape: Shape) -> &'static [Part] {
    match shape {
        Shape::Bus => BUS,
        Shape::Truck => TRUCK,
        Shape::Boat => BOAT,
        Shape::Plane => PLANE,
        _ => CAR,
    }
}

/// Rubber is of one colour; metal runs from light to dark.
fn body(object: &Object) -> Paint<'static> {
    let color = shade(object.color);
    if object.material == Some(Material::Metal) {
        let stops = [
            (0.0, lit(color, 1.7), 1.0),
            (0.45, color, 1.0),
            (1.0, lit(color, 0.55), 1.0),
        ];
        linear((0.0, -0.8), (0.0, 0.7), &stops)
    } else {
        plain(color)
    }
}

fn paint_part(
    canvas: &mut Pixmap,
    path: Option<Path>,
    paint: &Paint<'_>,
    (place, ink): (Transform, f32),
) {
    if let Some(path) = &path {
        canvas.fill_path(path, paint, tiny_skia::FillRule::Winding, place, None);
    }
    stroke_placed(canvas, path, &plain(INK), (place, ink));
}

fn stroke_placed(
    canvas: &mut Pixmap,
    path: Option<Path>,
    paint: &Paint<'_>,
    (place, width): (Transform, f32),
) {
    if let Some(path) = path {
        let stroke = Stroke {
            width,
            line_cap: LineCap::Round,
            line_join: LineJoin::Round,
            ..Stroke::default()
        };
        canvas.stroke_path(&path, paint, &stroke, place, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::attributes::Size;
    use super::*;

    #[test]
    fn vehicles_look_different_and_stay_in_their_cell() {
        let shapes = [
            Shape::Car,
            Shape::Bus,
            Shape::Truck,
            Shape::Boat,
            Shape::Plane,
        ];
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for shape in shapes {
            for material in [Material::Rubber, Material::Metal] {
                for angle in [0.0, 4.0] {
                    let object = Object {
                        shape,
                        color: Color::Red,
                        size: Size::Large,
                        material: Some(material),
                        x: 1.5,
                        y: 1.5,
                        angle,
                    };
                    let empty = render(
                        &Scene {
                            grid: 3,
                            objects: vec![],
                        },
                        84,
                    );
                    let picture = render(
                        &Scene {
                            grid: 3,
                            objects: vec![object],
                        },
                        84,
                    );
                    let outside = |index: &usize| {
                        !(28..56).contains(&(index % 84)) || !(28..56).contains(&(index / 84))
                    };
                    assert!(
                        (0..84 * 84)
                            .filter(outside)
                            .all(|index| picture.pixels()[index] == empty.pixels()[index])
                    );
                    assert!(
                        !seen.iter().any(|other| other == picture.data()),
                        "{shape:?} {material:?}"
                    );
                    seen.push(picture.data().to_vec());
                }
            }
        }
    }
}
