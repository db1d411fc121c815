//! Cubes, spheres and cylinders of rubber, metal or glass, as a camera above the ground sees them. It knows no scene.

use std::f32::consts::FRAC_PI_2;

use tiny_skia::Pixmap;

use super::attributes::{Color, Material, Shape};
use super::camera::{Camera, LIGHT};
use super::picture::{
    Place, Rgb, Stops, ellipse, fill, line, linear, lit, plain, polygon, radial, stroke, veil,
};

/// Every cube stands turned by this much, so that the central camera sees two of its sides.
const CUBE_TURN: f32 = 0.5;

/// One object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Solid {
    pub shape: Shape,
    pub color: Color,
    pub material: Material,
    /// Half its width in units of the scene.
    pub radius: f32,
    /// Where it stands on the ground.
    pub x: f32,
    pub y: f32,
}

/// The clear colours of the renderer.
pub(crate) const fn shade(color: Color) -> Rgb {
    match color {
        Color::Red => [205, 38, 38],
        Color::Blue => [38, 84, 205],
        Color::Green => [34, 145, 55],
        Color::Yellow => [240, 205, 30],
        Color::Purple => [140, 55, 185],
        Color::Cyan => [40, 195, 210],
        Color::Gray => [118, 122, 126],
        Color::Brown => [132, 80, 36],
    }
}

/// Draws the objects, far ones first, each over its shadow.
pub(crate) fn draw_all(canvas: &mut Pixmap, camera: &Camera, solids: &[Solid]) {
    let mut ordered: Vec<&Solid> = solids.iter().collect();
    ordered.sort_by(|a, b| camera.depth(b.x, b.y).total_cmp(&camera.depth(a.x, a.y)));
    for solid in &ordered {
        draw_shadow(canvas, camera, solid);
    }
    for solid in ordered {
        let pen = Pen::of(solid);
        match solid.shape {
            Shape::Sphere => draw_sphere(canvas, camera, solid, &pen),
            Shape::Cylinder => draw_cylinder(canvas, camera, solid, &pen),
            _ => draw_cube(canvas, camera, solid, &pen),
        }
    }
}

/// What the light does on a material.
struct Pen {
    color: Rgb,
    material: Material,
    opacity: f32,
}

impl Pen {
    fn of(solid: &Solid) -> Self {
        let opacity = if solid.material == Material::Glass {
            0.42
        } else {
            1.0
        };
        Self {
            color: shade(solid.color),
            material: solid.material,
            opacity,
        }
    }

    /// From the lit to the dark end of a surface that receives this much light in its middle.
    fn stops(&self, light: f32) -> Vec<(f32, Rgb, f32)> {
        let at = |position: f32, light: f32| (position, lit(self.color, light), self.opacity);
        match self.material {
            Material::Rubber => vec![at(0.0, 1.08 * light), at(1.0, 0.86 * light)],
            Material::Metal => vec![
                at(0.0, 1.15 * light),
                at(0.22, 1.3 * light),
                at(0.34, 1.85 * light.max(0.8)),
                at(0.46, 1.25 * light),
                at(0.75, 0.7 * light),
                at(1.0, 0.5 * light),
            ],
            Material::Glass => vec![at(0.0, 1.5), at(0.5, 1.2 * light), at(1.0, light)],
        }
    }

    fn rim(&self) -> Rgb {
        match self.material {
            Material::Glass => lit(self.color, 0.75),
            Material::Rubber | Material::Metal => lit(self.color, 0.55),
        }
    }
}

fn draw_shadow(canvas: &mut Pixmap, camera: &Camera, solid: &Solid) {
    let length = 0.55 * solid.radius;
    let middle = camera.project([
        solid.x - LIGHT[0] * length,
        solid.y - LIGHT[1] * length,
        0.0,
    ]);
    let across = 1.12 * solid.radius * camera.scale;
    let opacity = if solid.material == Material::Glass {
        0.12
    } else {
        0.24
    };
    let shadow = ellipse(middle, across, across * camera.pitch.sin());
    fill(canvas, shadow, &veil([30, 30, 40], opacity));
}

fn draw_sphere(canvas: &mut Pixmap, camera: &Camera, solid: &Solid, pen: &Pen) {
    let middle = camera.project([solid.x, solid.y, solid.radius]);
    let radius = solid.radius * camera.scale;
    let (right, down) = camera.light();
    let towards_light = |share: f32| {
        (
            middle.0 + share * radius * right,
            middle.1 + share * radius * down,
        )
    };
    let color = pen.color;
    let stops: Vec<(f32, Rgb, f32)> = match pen.material {
        Material::Rubber => vec![
            (0.0, lit(color, 1.12), 1.0),
            (0.6, color, 1.0),
            (1.0, lit(color, 0.68), 1.0),
        ],
        Material::Metal => vec![
            (0.0, lit(color, 1.6), 1.0),
            (0.3, lit(color, 1.1), 1.0),
            (0.62, lit(color, 0.7), 1.0),
            (0.86, lit(color, 0.5), 1.0),
            (1.0, lit(color, 0.85), 1.0),
        ],
        Material::Glass => vec![
            (0.0, lit(color, 1.6), 0.3),
            (0.7, color, 0.38),
            (1.0, lit(color, 0.9), 0.75),
        ],
    };
    let ball = || ellipse(middle, radius, radius);
    fill(
        canvas,
        ball(),
        &radial(towards_light(0.45), middle, radius, &stops),
    );
    stroke(canvas, ball(), &veil(pen.rim(), 0.8), camera.rim());
    match pen.material {
        Material::Metal => {
            let spot = ellipse(towards_light(0.5), 0.25 * radius, 0.2 * radius);
            fill(canvas, spot, &veil([255, 255, 255], 0.95));
        }
        Material::Glass => {
            let spot = ellipse(towards_light(0.55), 0.16 * radius, 0.12 * radius);
            fill(canvas, spot, &veil([255, 255, 255], 0.9));
        }
        Material::Rubber => {}
    }
}

fn draw_cylinder(canvas: &mut Pixmap, camera: &Camera, solid: &Solid, pen: &Pen) {
    let (radius, height) = (0.86 * solid.radius, 1.75 * solid.radius);
    let (foot, head) = (
        camera.project([solid.x, solid.y, 0.0]),
        camera.project([solid.x, solid.y, height]),
    );
    let across = radius * camera.scale;
    let down = across * camera.pitch.sin();
    let half = |middle: Place, turn: f32| {
        (0..=24).map(move |step| {
            let angle = turn + std::f32::consts::PI * step as f32 / 24.0;
            (
                middle.0 + across * angle.cos(),
                middle.1 + down * angle.sin(),
            )
        })
    };
    // Right to left along the lower half of the foot, then left to right along the upper half of the head.
    let side: Vec<Place> = half(foot, 0.0)
        .chain(half(head, std::f32::consts::PI))
        .collect();
    let (mut left, mut right) = ((foot.0 - across, foot.1), (foot.0 + across, foot.1));
    if camera.light().0 > 0.0 {
        std::mem::swap(&mut left, &mut right);
    }
    if pen.material == Material::Glass {
        stroke(
            canvas,
            ellipse(foot, across, down),
            &veil(pen.rim(), 0.5),
            0.7 * camera.rim(),
        );
    }
    fill(
        canvas,
        polygon(&side),
        &linear(left, right, &pen.stops(0.92)),
    );
    stroke(canvas, polygon(&side), &veil(pen.rim(), 0.8), camera.rim());
    let lid = || ellipse(head, across, down);
    let top = match pen.material {
        Material::Metal => linear(
            (head.0 - across, head.1 - down),
            (head.0 + across, head.1 + down),
            &pen.stops(1.12),
        ),
        Material::Rubber => plain(lit(pen.color, 1.16)),
        Material::Glass => veil(lit(pen.color, 1.45), 0.55),
    };
    fill(canvas, lid(), &top);
    stroke(canvas, lid(), &veil(pen.rim(), 0.8), camera.rim());
}

fn draw_cube(canvas: &mut Pixmap, camera: &Camera, solid: &Solid, pen: &Pen) {
    let half = 0.8 * solid.radius;
    let corner = |index: usize, height: f32| {
        let angle = CUBE_TURN + FRAC_PI_2 * (index as f32 + 0.5);
        let reach = half * std::f32::consts::SQRT_2;
        camera.project([
            solid.x + reach * angle.cos(),
            solid.y + reach * angle.sin(),
            height,
        ])
    };
    let height = 2.0 * half;
    let rim = |opacity: f32| veil(pen.rim(), opacity);
    let width = camera.rim();
    if pen.material == Material::Glass {
        for index in 0..4 {
            let hidden = [
                corner(index, height),
                corner(index, 0.0),
                corner(index + 1, 0.0),
            ];
            stroke(canvas, line(&hidden), &rim(0.4), 0.7 * width);
        }
    }
    for index in 0..4 {
        let angle = CUBE_TURN + FRAC_PI_2 * (index as f32 + 1.0);
        let outward = [angle.cos(), angle.sin(), 0.0];
        if !camera.sees(outward) {
            continue;
        }
        let bright = 0.72 + 0.45 * (outward[0] * LIGHT[0] + outward[1] * LIGHT[1]).max(0.0);
        let (first, second) = (index, index + 1);
        let side = [
            corner(first, 0.0),
            corner(second, 0.0),
            corner(second, height),
            corner(first, height),
        ];
        let stops = pen.stops(bright);
        fill(canvas, polygon(&side), &across(&side, &stops));
        stroke(canvas, polygon(&side), &rim(0.8), width);
    }
    let lid: Vec<Place> = (0..4).map(|index| corner(index, height)).collect();
    fill(canvas, polygon(&lid), &across(&lid, &pen.stops(1.1)));
    stroke(canvas, polygon(&lid), &rim(0.8), width);
}

/// A gradient from the upper left to the lower right of a face.
fn across(corners: &[Place], stops: Stops<'_>) -> tiny_skia::Paint<'static> {
    let of = |pick: fn(f32, f32) -> f32, part: fn(&Place) -> f32| {
        corners.iter().map(part).reduce(pick).unwrap_or(0.0)
    };
    let (left, top) = (of(f32::min, |place| place.0), of(f32::min, |place| place.1));
    let (right, bottom) = (of(f32::max, |place| place.0), of(f32::max, |place| place.1));
    linear((left, top), (right, bottom), stops)
}

#[cfg(test)]
mod tests {
    use super::super::picture::canvas;
    use super::*;

    const CAMERA: Camera = Camera {
        yaw: 0.0,
        pitch: 0.9,
        scale: 40.0,
        origin: (40.0, 50.0),
    };

    fn solid(shape: Shape, material: Material, color: Color) -> Solid {
        Solid {
            shape,
            color,
            material,
            radius: 0.4,
            x: 0.0,
            y: 0.0,
        }
    }

    fn picture(solids: &[Solid], camera: Camera) -> Pixmap {
        let mut canvas = canvas(80, 80, [200, 200, 200]);
        draw_all(&mut canvas, &camera, solids);
        canvas
    }

    fn differ(a: &Pixmap, b: &Pixmap) -> usize {
        a.pixels()
            .iter()
            .zip(b.pixels())
            .filter(|(a, b)| a != b)
            .count()
    }

    #[test]
    fn shapes_materials_and_colours_can_be_told_apart() {
        let mut seen: Vec<Pixmap> = vec![picture(&[], CAMERA)];
        for shape in [Shape::Cube, Shape::Sphere, Shape::Cylinder] {
            for material in [Material::Rubber, Material::Metal, Material::Glass] {
                for color in [Color::Red, Color::Gray, Color::Brown, Color::Cyan] {
                    let new = picture(&[solid(shape, material, color)], CAMERA);
                    assert!(
                        seen.iter().all(|old| differ(old, &new) > 200),
                        "{shape:?} {material:?} {color:?}"
                    );
                    seen.push(new);
                }
            }
        }
    }

    #[test]
    fn near_objects_hide_far_ones_whatever_their_order() {
        let near = Solid {
            y: -0.3,
            ..solid(Shape::Cube, Material::Rubber, Color::Red)
        };
        let far = Solid {
            y: 0.3,
            ..solid(Shape::Cube, Material::Rubber, Color::Blue)
        };
        let (one, other) = (picture(&[near, far], CAMERA), picture(&[far, near], CAMERA));
        assert_eq!(differ(&one, &other), 0);
        let behind = Camera {
            yaw: std::f32::consts::PI,
            ..CAMERA
        };
        assert!(
            differ(&one, &picture(&[near, far], behind)) > 200,
            "from behind the blue one is near"
        );
    }

    #[test]
    fn glass_lets_through_what_stands_behind() {
        let behind = Solid {
            y: 0.5,
            ..solid(Shape::Cube, Material::Rubber, Color::Blue)
        };
        for shape in [Shape::Cube, Shape::Sphere, Shape::Cylinder] {
            let hidden = |material| {
                let front = solid(shape, material, Color::Red);
                let (alone, both) = (picture(&[front], CAMERA), picture(&[behind, front], CAMERA));
                let middle = |picture: &Pixmap| picture.pixel(40, 30).map(|pixel| pixel.blue());
                middle(&alone) == middle(&both)
            };
            assert!(
                hidden(Material::Rubber) && !hidden(Material::Glass),
                "{shape:?}"
            );
        }
    }
}
