//! What stands in a counting picture: objects with looks and places. It draws nothing and asks nothing.

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::super::attributes::{Color, Material, Shape, Size};
use super::super::family::{Difficulty, Renderer, Split};
use super::super::fingerprint::{fingerprint, thousandths};

/// Both sizes of counting scenes.
pub(super) const SIZES: [Size; 2] = [Size::Small, Size::Large];

/// The words of a split.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vocabulary {
    /// Shapes that may stand in a scene.
    pub shapes: &'static [Shape],
    /// Shapes that questions ask for: the easy questions use no word that training does not show.
    pub asked_shapes: &'static [Shape],
    /// Colours, all of which questions ask for.
    pub colors: &'static [Color],
    /// Materials; none where they cannot be seen.
    pub materials: &'static [Material],
}

impl Vocabulary {
    pub(super) const fn of(renderer: Renderer, split: Split, difficulty: Difficulty) -> Self {
        let easy = matches!(difficulty, Difficulty::Easy);
        match renderer {
            Renderer::Flat | Renderer::Grid => Self::flat(split, easy),
            Renderer::Solid => Self::solid(split, easy),
        }
    }

    const fn flat(split: Split, easy: bool) -> Self {
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
        Self {
            shapes,
            asked_shapes: if easy { SHAPES } else { shapes },
            colors: if easy { COLORS.split_at(4).0 } else { COLORS },
            materials: &[],
        }
    }

    const fn solid(split: Split, easy: bool) -> Self {
        const SHAPES: &[Shape] = &[Shape::Cube, Shape::Sphere, Shape::Cylinder];
        const SHAPES_OUT: &[Shape] = &[
            Shape::Car,
            Shape::Bus,
            Shape::Truck,
            Shape::Boat,
            Shape::Plane,
        ];
        const COLORS: &[Color] = &[
            Color::Red,
            Color::Blue,
            Color::Green,
            Color::Yellow,
            Color::Purple,
            Color::Cyan,
            Color::Gray,
            Color::Brown,
        ];
        let is_out = matches!(split, Split::TestOod);
        let shapes = if is_out { SHAPES_OUT } else { SHAPES };
        Self {
            shapes,
            asked_shapes: if easy && is_out { &[] } else { shapes },
            colors: if easy { COLORS.split_at(4).0 } else { COLORS },
            materials: &[Material::Rubber, Material::Metal],
        }
    }
}

/// One object; x and y are its centre in cells of the scene's grid.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Object {
    pub shape: Shape,
    pub color: Color,
    pub size: Size,
    /// `None` where it cannot be seen.
    pub material: Option<Material>,
    pub x: f32,
    pub y: f32,
    /// Turn in radians; upright in domain.
    pub angle: f32,
}

impl Object {
    /// Radius of the circle around which the shape is drawn, in cells of the scene's grid.
    pub(super) const fn radius(&self) -> f32 {
        radius(self.size)
    }

    /// The cell of a grid that it stands in, counted row by row.
    pub(super) fn cell(&self, grid: usize) -> usize {
        let place = |value: f32| (value.max(0.0) as usize).min(grid - 1);
        place(self.y) * grid + place(self.x)
    }
}

const fn radius(size: Size) -> f32 {
    match size {
        Size::Small => 0.22,
        Size::Medium | Size::Large => 0.36,
    }
}

/// A picture's objects in reading order: row by row, each from left to right.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scene {
    /// Cells per side; an object stays inside its own cell, so none overlap.
    pub grid: usize,
    pub objects: Vec<Object>,
}

/// Cells per side for at most `max_objects` objects: half as many cells again, so that places stay open.
pub(super) const fn grid_for(max_objects: usize) -> usize {
    let cells = max_objects + max_objects.div_ceil(2);
    let mut side = 1;
    while side * side < cells {
        side += 1;
    }
    side
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
            let size = SIZES[rng.random_range(0..2)];
            // A square's corner is 1.2 radii from its centre.
            let slack = 0.48 - 1.2 * radius(size);
            let mut place = |index: usize| index as f32 + 0.5 + rng.random_range(-slack..=slack);
            let (x, y) = (place(cell % grid), place(cell / grid));
            let turn = rng.random_range(0.0..std::f32::consts::TAU);
            let angle = if split == Split::TestOod { turn } else { 0.0 };
            Object {
                shape,
                color,
                size,
                material: vocabulary.materials.choose(rng).copied(),
                x,
                y,
                angle,
            }
        };
        let objects = cells.into_iter().map(object).collect();
        Self { grid, objects }
    }

    /// A number for everything that can be seen.
    pub(super) fn fingerprint(&self) -> u64 {
        let values = |object: &Object| {
            let place = [object.x, object.y].map(thousandths);
            let looks = [object.shape as u32, object.color as u32, object.size as u32];
            let material = object.material.map(|material| material as u32);
            looks.into_iter().chain(place).chain(material)
        };
        fingerprint(self.objects.iter().flat_map(values))
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

    pub(in crate::synthetic::counting) fn scene(
        seed: u64,
        renderer: Renderer,
        split: Split,
        difficulty: Difficulty,
    ) -> Scene {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let vocabulary = Vocabulary::of(renderer, split, difficulty);
        Scene::draw(&mut rng, split, vocabulary, 6)
    }

    #[test]
    fn objects_keep_apart_and_inside() {
        for seed in 0..200 {
            let scene = scene(seed, Renderer::Flat, Split::TestOod, Difficulty::Full);
            assert!((1..=6).contains(&scene.objects.len()));
            for (index, a) in scene.objects.iter().enumerate() {
                let reach = 1.2 * a.radius();
                assert!(
                    a.x - reach > 0.0 && a.x + reach < scene.grid as f32,
                    "{a:?}"
                );
                for b in &scene.objects[..index] {
                    let apart = (a.x - b.x).abs().max((a.y - b.y).abs());
                    assert!(apart > reach + 1.2 * b.radius(), "{a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn objects_stand_in_reading_order() {
        let place = |object: &Object| (object.y.floor() as usize, object.x.floor() as usize);
        for seed in 0..50 {
            let scene = scene(seed, Renderer::Solid, Split::Train, Difficulty::Easy);
            assert!(scene.objects.iter().map(place).is_sorted(), "{scene:?}");
        }
    }

    #[test]
    fn train_and_test_share_no_scene() {
        for renderer in Renderer::ALL {
            let fingerprints = |split| {
                let draw = move |seed| scene(seed, renderer, split, Difficulty::Easy).fingerprint();
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
    }

    #[test]
    fn only_solids_have_a_material_and_out_of_domain_has_its_own_shapes() {
        let objects = |renderer, split| {
            let of = move |seed| scene(seed, renderer, split, Difficulty::Full).objects;
            (0..50).flat_map(of).collect::<Vec<_>>()
        };
        assert!(
            objects(Renderer::Flat, Split::Train)
                .iter()
                .all(|object| object.material.is_none())
        );
        let (inside, outside) = (
            objects(Renderer::Solid, Split::Train),
            objects(Renderer::Solid, Split::TestOod),
        );
        assert!(inside.iter().all(|object| object.material.is_some()));
        assert!(
            outside
                .iter()
                .all(|object| inside.iter().all(|other| other.shape != object.shape))
        );
    }

    #[test]
    fn grids_leave_places_open() {
        assert_eq!([1, 2, 6, 10, 12].map(grid_for), [2, 2, 3, 4, 5]);
    }
}
