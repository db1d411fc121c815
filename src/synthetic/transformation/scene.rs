//! Objects on a grid of places on the ground, and what of them may occur. It knows no change and no picture.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::super::attributes::{Color, Material, Shape, Size};
use super::super::family::Difficulty;
use super::super::fingerprint::thousandths;
use super::function::Function;

/// Right, away from the central camera; whole numbers from `-reach` to `reach`.
pub(super) type Cell = (i32, i32);

/// What may occur at a difficulty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Fewest and most objects.
    pub objects: (usize, usize),
    /// Most functions of an answer.
    pub calls: usize,
    /// Places from the middle to each side.
    pub reach: i32,
    pub shapes: &'static [Shape],
    pub sizes: &'static [Size],
    pub colors: &'static [Color],
    pub materials: &'static [Material],
    /// What may change.
    pub functions: &'static [Function],
    /// Whether objects also move diagonally.
    pub diagonal: bool,
    /// How far objects stand from the middle of their cells at most.
    pub aside: f32,
}

impl Rules {
    pub(super) const fn of(difficulty: Difficulty) -> Self {
        const SHAPES: &[Shape] = &[Shape::Cube, Shape::Sphere, Shape::Cylinder];
        match difficulty {
            Difficulty::Easy => Self {
                objects: (2, 3),
                calls: 1,
                reach: 1,
                shapes: SHAPES,
                sizes: &[Size::Small, Size::Large],
                colors: &[Color::Red, Color::Blue, Color::Green, Color::Yellow],
                materials: &[Material::Rubber, Material::Metal],
                functions: &[Function::Size, Function::Color, Function::Position],
                diagonal: false,
                aside: 0.0,
            },
            Difficulty::Full => Self {
                objects: (4, 6),
                calls: 4,
                reach: 2,
                shapes: SHAPES,
                sizes: &[Size::Small, Size::Medium, Size::Large],
                colors: &[
                    Color::Yellow,
                    Color::Gray,
                    Color::Cyan,
                    Color::Blue,
                    Color::Brown,
                    Color::Green,
                    Color::Red,
                    Color::Purple,
                ],
                materials: &[Material::Glass, Material::Metal, Material::Rubber],
                functions: &Function::ALL,
                diagonal: true,
                aside: 0.1,
            },
        }
    }
}

/// One object; its id is its index in the scene.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Object {
    pub shape: Shape,
    pub size: Size,
    pub color: Color,
    pub material: Material,
    pub cell: Cell,
    /// How far it stands from the middle of its cell, in cells.
    pub aside: (f32, f32),
}

impl Object {
    /// Everything but the place.
    pub(super) fn looks(&self) -> (Shape, Size, Color, Material) {
        (self.shape, self.size, self.color, self.material)
    }

    /// `small red rubber cube`.
    pub(super) fn words(&self) -> String {
        let (size, color) = (self.size.name(), self.color.name());
        format!(
            "{size} {color} {} {}",
            self.material.name(),
            self.shape.name()
        )
    }

    /// `small red`: what changes at easy difficulty.
    pub(super) fn short_words(&self) -> String {
        format!("{} {}", self.size.name(), self.color.name())
    }

    /// Half its width in cells.
    pub(super) const fn radius(&self) -> f32 {
        match self.size {
            Size::Small => 0.27,
            Size::Medium => 0.36,
            Size::Large => 0.46,
        }
    }

    /// Where it stands on the ground.
    pub(super) fn spot(&self) -> (f32, f32) {
        (
            self.cell.0 as f32 + self.aside.0,
            self.cell.1 as f32 + self.aside.1,
        )
    }

    /// What can be seen of it.
    pub(super) fn print(&self) -> [u32; 6] {
        let (x, y) = self.spot();
        [
            self.shape as u32,
            self.size as u32,
            self.color as u32,
            self.material as u32,
            thousandths(x),
            thousandths(y),
        ]
    }
}

/// Draws objects in different places, no two of them alike; at easy difficulty no two share size and colour.
pub(super) fn draw(rng: &mut impl Rng, rules: &Rules, difficulty: Difficulty) -> Vec<Object> {
    let count = rng.random_range(rules.objects.0..=rules.objects.1);
    let range = -rules.reach..=rules.reach;
    let mut cells: Vec<Cell> = range
        .clone()
        .flat_map(|x| range.clone().map(move |y| (x, y)))
        .collect();
    cells.shuffle(rng);
    let mut objects: Vec<Object> = Vec::new();
    while objects.len() < count {
        let object = Object {
            shape: pick(rng, rules.shapes),
            size: pick(rng, rules.sizes),
            color: pick(rng, rules.colors),
            material: pick(rng, rules.materials),
            cell: cells[objects.len()],
            aside: (
                rng.random_range(-rules.aside..=rules.aside),
                rng.random_range(-rules.aside..=rules.aside),
            ),
        };
        let alike = |other: &Object| match difficulty {
            Difficulty::Easy => (other.size, other.color) == (object.size, object.color),
            Difficulty::Full => other.looks() == object.looks(),
        };
        if !objects.iter().any(alike) {
            objects.push(object);
        }
    }
    objects
}

/// One of several values.
pub(super) fn pick<T: Copy>(rng: &mut impl Rng, values: &[T]) -> T {
    *values.choose(rng).expect("every list of values has some")
}

#[cfg(test)]
pub(super) mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn objects_differ_and_stand_apart() {
        for difficulty in Difficulty::ALL {
            let rules = Rules::of(difficulty);
            for seed in 0..300 {
                let objects = draw(&mut ChaCha8Rng::seed_from_u64(seed), &rules, difficulty);
                assert!((rules.objects.0..=rules.objects.1).contains(&objects.len()));
                for (index, a) in objects.iter().enumerate() {
                    assert!(a.cell.0.abs() <= rules.reach && a.cell.1.abs() <= rules.reach);
                    for b in &objects[..index] {
                        assert!(a.cell != b.cell && a.looks() != b.looks(), "{a:?} {b:?}");
                    }
                }
            }
        }
    }
}
