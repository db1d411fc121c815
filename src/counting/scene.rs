//! What stands in a picture: objects with shape, colour, size and place. It draws nothing and asks nothing.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::{Difficulty, Split};

/// An object's outline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Circle,
    Square,
    Triangle,
    /// Only out of domain.
    Star,
}

/// An object's colour; its shade depends on the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Color {
    Red,
    Blue,
    Green,
    Yellow,
    Purple,
    Cyan,
}

/// An object's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Large,
}

impl Shape {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Star => "star",
        }
    }

    pub(super) const fn plural(self) -> &'static str {
        match self {
            Self::Circle => "circles",
            Self::Square => "squares",
            Self::Triangle => "triangles",
            Self::Star => "stars",
        }
    }
}

impl Color {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Blue => "blue",
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Purple => "purple",
            Self::Cyan => "cyan",
        }
    }
}

impl Size {
    pub(super) const BOTH: [Self; 2] = [Self::Small, Self::Large];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }

    /// Radius of the circle around which the shape is drawn, in cells of the scene's grid.
    pub(super) const fn radius(self) -> f32 {
        match self {
            Self::Small => 0.22,
            Self::Large => 0.36,
        }
    }
}

/// The shapes and colours of a split.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vocabulary {
    /// Shapes that may stand in a scene.
    pub shapes: &'static [Shape],
    /// Shapes that questions ask for: the easy questions use no word that training does not show.
    pub asked_shapes: &'static [Shape],
    /// Colours, all of which questions ask for.
    pub colors: &'static [Color],
}

impl Vocabulary {
    pub(super) const fn of(split: Split, difficulty: Difficulty) -> Self {
        const SHAPES: &[Shape] = &[Shape::Circle, Shape::Square, Shape::Triangle];
        const SHAPES_OUT: &[Shape] = &[Shape::Circle, Shape::Square, Shape::Triangle, Shape::Star];
        const COLORS: &[Color] = &[
            Color::Red,
            Color::Blue,
            Color::Green,
            Color::Yellow,
            Color::Purple,
            Color::Cyan,
        ];
        let shapes = if matches!(split, Split::TestOod) {
            SHAPES_OUT
        } else {
            SHAPES
        };
        match difficulty {
            Difficulty::Easy => Self {
                shapes,
                asked_shapes: SHAPES,
                colors: COLORS.split_at(4).0,
            },
            Difficulty::Full => Self {
                shapes,
                asked_shapes: shapes,
                colors: COLORS,
            },
        }
    }
}

/// One object; x and y are its centre in cells of the scene's grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Object {
    pub shape: Shape,
    pub color: Color,
    pub size: Size,
    pub x: f32,
    pub y: f32,
    /// Turn in radians; upright in domain.
    pub angle: f32,
}

/// A picture's objects in reading order: row by row, each from left to right.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scene {
    /// Cells per side; an object stays inside its own cell, so none overlap.
    pub grid: usize,
    pub objects: Vec<Object>,
}

/// Cells per side for at most `max_objects` objects: half as many cells again, so that places stay open.
pub(super) fn grid_for(max_objects: usize) -> usize {
    let cells = max_objects + max_objects.div_ceil(2);
    (1..)
        .find(|side| side * side >= cells)
        .expect("some square exceeds any number")
}

impl Scene {
    /// Draws a scene that belongs to the split: 1 to `max_objects` objects from up to three colours and shapes.
    pub(super) fn draw(
        rng: &mut impl Rng,
        split: Split,
        vocabulary: Vocabulary,
        max_objects: usize,
    ) -> Self {
        loop {
            let scene = Self::draw_any(rng, split, vocabulary, max_objects);
            // Every scene belongs to exactly one of train (4 in 5) and test, whatever the seed.
            if split == Split::TestOod || (scene.fingerprint() % 5 == 0) == (split == Split::Test) {
                return scene;
            }
        }
    }

    fn draw_any(
        rng: &mut impl Rng,
        split: Split,
        vocabulary: Vocabulary,
        max_objects: usize,
    ) -> Self {
        let grid = grid_for(max_objects);
        let count = rng.random_range(1..=max_objects);
        let shapes = some_of(rng, vocabulary.shapes);
        let colors = some_of(rng, vocabulary.colors);
        let mut cells: Vec<usize> = (0..grid * grid).collect();
        cells.shuffle(rng);
        cells.truncate(count);
        cells.sort_unstable();
        let object = |cell: usize| {
            let shape = shapes[rng.random_range(0..shapes.len())];
            let color = colors[rng.random_range(0..colors.len())];
            let size = Size::BOTH[rng.random_range(0..2)];
            // A square's corner is 1.2 radii from its centre.
            let slack = 0.48 - 1.2 * size.radius();
            let mut place = |index: usize| index as f32 + 0.5 + rng.random_range(-slack..=slack);
            let (x, y) = (place(cell % grid), place(cell / grid));
            let turn = rng.random_range(0.0..std::f32::consts::TAU);
            let angle = if split == Split::TestOod { turn } else { 0.0 };
            Object {
                shape,
                color,
                size,
                x,
                y,
                angle,
            }
        };
        let objects = cells.into_iter().map(object).collect();
        Self { grid, objects }
    }

    /// FNV-1a over everything that can be seen; the same on every platform and for every seed.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for object in &self.objects {
            let place = [object.x, object.y].map(|value| (value * 1000.0).round() as u32);
            let looks = [object.shape as u32, object.color as u32, object.size as u32];
            for value in looks.into_iter().chain(place) {
                for byte in value.to_le_bytes() {
                    hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
        }
        // The last steps of FNV barely reach the low bits that the split is chosen by.
        hash ^ (hash >> 32)
    }
}

/// One to three different entries.
fn some_of<T: Copy>(rng: &mut impl Rng, all: &[T]) -> Vec<T> {
    let count = rng.random_range(1..=3);
    all.choose_multiple(rng, count).copied().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    pub(in crate::counting) fn scene(seed: u64, split: Split, difficulty: Difficulty) -> Scene {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Scene::draw(&mut rng, split, Vocabulary::of(split, difficulty), 6)
    }

    #[test]
    fn objects_keep_apart_and_inside() {
        for seed in 0..200 {
            let scene = scene(seed, Split::TestOod, Difficulty::Full);
            assert!((1..=6).contains(&scene.objects.len()));
            for (index, a) in scene.objects.iter().enumerate() {
                let reach = 1.2 * a.size.radius();
                assert!(
                    a.x - reach > 0.0 && a.x + reach < scene.grid as f32,
                    "{a:?}"
                );
                for b in &scene.objects[..index] {
                    let apart = (a.x - b.x).abs().max((a.y - b.y).abs());
                    assert!(apart > reach + 1.2 * b.size.radius(), "{a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn objects_stand_in_reading_order() {
        let place = |object: &Object| (object.y.floor() as usize, object.x.floor() as usize);
        for seed in 0..50 {
            let scene = scene(seed, Split::Train, Difficulty::Easy);
            assert!(scene.objects.iter().map(place).is_sorted(), "{scene:?}");
        }
    }

    #[test]
    fn train_and_test_share_no_scene() {
        let fingerprints = |split| {
            let draw = move |seed| scene(seed, split, Difficulty::Easy).fingerprint();
            (0..3000)
                .map(draw)
                .collect::<std::collections::HashSet<_>>()
        };
        let (train, test) = (fingerprints(Split::Train), fingerprints(Split::Test));
        assert!(train.is_disjoint(&test));
        assert!(
            train.iter().all(|print| print % 5 != 0) && test.iter().all(|print| print % 5 == 0)
        );
    }

    #[test]
    fn grids_leave_places_open() {
        assert_eq!([1, 2, 6, 10, 12].map(grid_for), [2, 2, 3, 4, 5]);
    }
}
