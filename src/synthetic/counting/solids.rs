//! The solid renderer in domain: lit cubes, spheres and cylinders on a table, as in CLEVR. It knows no question.

use tiny_skia::Pixmap;

use super::super::attributes::Material;
use super::super::camera::Camera;
use super::super::picture::{canvas, fill, linear, polygon};
use super::super::solid::{Solid, draw_all};
use super::scene::{Object, Scene};

/// Draws the scene on `size` x `size` pixels; each object fills its own cell.
pub(super) fn render(scene: &Scene, size: u32) -> Pixmap {
    let side = size as f32;
    let mut canvas = canvas(size, size, [205, 207, 210]);
    let table = polygon(&[(0.0, 0.0), (side, 0.0), (side, side), (0.0, side)]);
    let stops = [(0.0, [196, 199, 204], 1.0), (1.0, [226, 226, 224], 1.0)];
    fill(&mut canvas, table, &linear((0.0, 0.0), (0.0, side), &stops));
    let camera = Camera {
        yaw: 0.0,
        pitch: 0.75,
        scale: side / scene.grid as f32,
        origin: (0.0, 0.0),
    };
    let solids: Vec<Solid> = scene
        .objects
        .iter()
        .map(|object| solid(object, camera.pitch))
        .collect();
    draw_all(&mut canvas, &camera, &solids);
    canvas
}

/// The object, standing so that its middle appears where the scene has it.
fn solid(object: &Object, pitch: f32) -> Solid {
    let radius = 0.92 * object.radius();
    let (sine, cosine) = pitch.sin_cos();
    Solid {
        shape: object.shape,
        color: object.color,
        material: object.material.unwrap_or(Material::Rubber),
        radius,
        x: object.x,
        y: -(object.y + 0.9 * radius * cosine) / sine,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::attributes::{Color, Shape, Size};
    use super::super::super::solid::shade;
    use super::*;

    fn picture_of(material: Material, color: Color, shape: Shape) -> Pixmap {
        let object = Object {
            shape,
            color,
            size: Size::Large,
            material: Some(material),
            x: 0.5,
            y: 0.5,
            angle: 0.0,
        };
        render(
            &Scene {
                grid: 1,
                objects: vec![object],
            },
            28,
        )
    }

    /// Pixels whose every channel exceeds 235.
    fn highlights(picture: &Pixmap) -> usize {
        let bright = |pixel: &&tiny_skia::PremultipliedColorU8| {
            pixel.red().min(pixel.green()).min(pixel.blue()) > 235
        };
        picture.pixels().iter().filter(bright).count()
    }

    #[test]
    fn metal_shines_and_rubber_does_not() {
        for color in [Color::Red, Color::Blue, Color::Green] {
            for shape in [Shape::Cube, Shape::Sphere, Shape::Cylinder] {
                assert_eq!(
                    highlights(&picture_of(Material::Rubber, color, shape)),
                    0,
                    "{color:?} {shape:?}"
                );
                assert!(
                    highlights(&picture_of(Material::Metal, color, shape)) > 1,
                    "{color:?} {shape:?}"
                );
            }
        }
    }

    #[test]
    fn objects_stand_in_the_middle_of_their_place_in_their_colour() {
        for shape in [Shape::Cube, Shape::Sphere, Shape::Cylinder] {
            let picture = picture_of(Material::Rubber, Color::Red, shape);
            let is_red = |x: usize, y: usize| {
                let pixel = picture.pixels()[y * 28 + x];
                i32::from(pixel.red()) - i32::from(pixel.green()) > 70
            };
            let places: Vec<(usize, usize)> = (0..28 * 28)
                .map(|i| (i % 28, i / 28))
                .filter(|(x, y)| is_red(*x, *y))
                .collect();
            let mean = |pick: fn(&(usize, usize)) -> usize| {
                places.iter().map(pick).sum::<usize>() as f32 / places.len() as f32
            };
            assert!(
                (mean(|place| place.0) - 13.5).abs() < 1.5
                    && (mean(|place| place.1) - 13.5).abs() < 1.5,
                "{shape:?}"
            );
            assert!(places.len() > 100, "{shape:?}: {}", places.len());
        }
        assert!(shade(Color::Red)[0] > 150);
    }
}
