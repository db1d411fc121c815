//! Spatial transformation: two pictures of objects on the ground, before and after one to four changes.
//! It knows neither files nor other families.

mod change;
mod describe;
mod function;
mod mistake;
mod scene;

use rand_chacha::ChaCha8Rng;
use tiny_skia::Pixmap;

use super::camera::{Camera, draw_ground};
use super::drawn::{Drawn, Statement, Wording};
use super::family::{Difficulty, Split};
use super::fingerprint::fingerprint;
use super::picture::canvas;
use super::solid::{Solid, draw_all};
use change::Call;
use scene::{Object, Rules};

/// How the cameras stand.
struct Cameras {
    /// Of the left and the right one, in radians around the scene.
    side: f32,
    /// Angle by which all look down.
    pitch: f32,
    /// From the scene's origin to the edge of the picture, in cells.
    half: f32,
}

impl Cameras {
    /// Easy: nearly from above and at right angles, so that every place of the grid fills a square of the picture.
    const fn of(difficulty: Difficulty, reach: i32) -> Self {
        match difficulty {
            Difficulty::Easy => Self {
                side: std::f32::consts::FRAC_PI_2,
                pitch: 1.2,
                half: reach as f32 + 0.5,
            },
            Difficulty::Full => Self {
                side: 0.87,
                pitch: 0.92,
                half: reach as f32 * std::f32::consts::SQRT_2 + 0.52,
            },
        }
    }
}

/// The objects before and after, and what was done to them.
struct Transformation {
    before: Vec<Object>,
    after: Vec<Object>,
    calls: Vec<Call>,
    difficulty: Difficulty,
    /// From where the final scene is seen.
    view: View,
}

/// Which camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Centre,
    Left,
    Right,
}

/// Draws an example that belongs to the split. The three test splits show the same scenes; left and right show
/// their end from another side.
pub(super) fn draw(rng: &mut ChaCha8Rng, split: Split, difficulty: Difficulty) -> Box<dyn Drawn> {
    let rules = Rules::of(difficulty);
    let view = match split {
        Split::TestOodLeft => View::Left,
        Split::TestOodRight => View::Right,
        Split::Train | Split::Test | Split::TestOod => View::Centre,
    };
    loop {
        let before = scene::draw(rng, &rules, difficulty);
        let (calls, after) = change::draw(rng, &before, &rules);
        let drawn = Transformation {
            before,
            after,
            calls,
            difficulty,
            view,
        };
        if split.is_test() == (drawn.fingerprint() % 5 == 0) {
            return Box::new(drawn);
        }
    }
}

impl Drawn for Transformation {
    fn problem(&self) -> String {
        describe::problem(&self.before)
    }

    fn answer(&self) -> String {
        change::answer(&self.calls)
    }

    fn reasoning(&self) -> String {
        describe::reasoning(&self.before, &self.calls, self.difficulty, Wording::Row)
    }

    fn naming(&self) -> (String, String) {
        let reach = Rules::of(self.difficulty).reach;
        let task = format!(
            "Name the objects of the last picture row by row. {}",
            self.problem()
        );
        (
            task,
            describe::row_by_row(&self.after, reach, self.difficulty),
        )
    }

    fn level(&self) -> usize {
        self.calls.len()
    }

    fn kind(&self) -> String {
        let names: Vec<_> = self
            .calls
            .iter()
            .map(|call| call.value.function().name())
            .collect();
        names.join("+")
    }

    fn fingerprint(&self) -> u64 {
        let objects = self.before.iter().chain(&self.after);
        fingerprint(objects.flat_map(Object::print))
    }

    fn pictures(&self, size: u32) -> Vec<(&'static str, Pixmap)> {
        let draw = |objects: &[Object], view| render(objects, view, self.difficulty, size);
        let last = match self.view {
            View::Centre => "-fin.C",
            View::Left => "-fin.L",
            View::Right => "-fin.R",
        };
        vec![
            ("-init.C", draw(&self.before, View::Centre)),
            (last, draw(&self.after, self.view)),
        ]
    }

    fn statement(&self, rng: &mut ChaCha8Rng, right: bool, wording: Wording) -> Statement {
        let rules = Rules::of(self.difficulty);
        let calls = if right {
            self.calls.clone()
        } else {
            mistake::mistaken(rng, &self.before, &self.calls, &rules)
        };
        Statement {
            reasoning: describe::reasoning(&self.before, &calls, self.difficulty, wording),
            answer: change::answer(&calls),
        }
    }
}

/// The objects on their mat.
fn render(objects: &[Object], view: View, difficulty: Difficulty, size: u32) -> Pixmap {
    let (side, reach) = (size as f32, Rules::of(difficulty).reach);
    let cameras = Cameras::of(difficulty, reach);
    let camera = Camera {
        yaw: match view {
            View::Centre => 0.0,
            View::Left => cameras.side,
            View::Right => -cameras.side,
        },
        pitch: cameras.pitch,
        scale: side / (2.0 * cameras.half),
        origin: (0.5 * side, 0.54 * side),
    };
    let reach = reach as f32;
    let mut canvas = canvas(size, size, [176, 182, 190]);
    draw_ground(&mut canvas, &camera, reach + 0.5);
    let solid = |object: &Object| {
        let (x, y) = object.spot();
        Solid {
            shape: object.shape,
            color: object.color,
            material: object.material,
            radius: object.radius(),
            x,
            y,
        }
    };
    let solids: Vec<Solid> = objects.iter().map(solid).collect();
    draw_all(&mut canvas, &camera, &solids);
    canvas
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn drawn(seed: u64, split: Split, difficulty: Difficulty) -> Box<dyn Drawn> {
        draw(&mut ChaCha8Rng::seed_from_u64(seed), split, difficulty)
    }

    #[test]
    fn the_side_views_show_the_test_scenes_with_another_end() {
        for seed in 0..20 {
            let [centre, left, right] = [Split::Test, Split::TestOodLeft, Split::TestOodRight]
                .map(|split| drawn(seed, split, Difficulty::Easy));
            for side in [&left, &right] {
                assert_eq!(
                    (side.problem(), side.answer()),
                    (centre.problem(), centre.answer())
                );
                assert_eq!(side.fingerprint(), centre.fingerprint());
            }
            let [centre, left, right] = [centre, left, right].map(|drawn| drawn.pictures(84));
            assert_eq!(
                [&centre, &left, &right].map(|both| both[1].0),
                ["-fin.C", "-fin.L", "-fin.R"]
            );
            assert!(
                centre[0].1 == left[0].1 && centre[0].1 == right[0].1,
                "the same beginning"
            );
            assert!(
                centre[1].1 != left[1].1 && left[1].1 != right[1].1,
                "another end"
            );
        }
    }

    #[test]
    fn every_object_is_seen_from_every_side() {
        for (difficulty, view) in [
            (Difficulty::Easy, View::Left),
            (Difficulty::Easy, View::Right),
            (Difficulty::Full, View::Centre),
            (Difficulty::Full, View::Left),
            (Difficulty::Full, View::Right),
        ] {
            let rules = Rules::of(difficulty);
            for seed in 0..12 {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let objects = scene::draw(&mut rng, &rules, difficulty);
                let whole = render(&objects, view, difficulty, 224);
                for index in 0..objects.len() {
                    let mut rest = objects.clone();
                    let object = rest.remove(index);
                    let without = render(&rest, view, difficulty, 224);
                    let seen = whole
                        .pixels()
                        .iter()
                        .zip(without.pixels())
                        .filter(|(a, b)| a != b)
                        .count();
                    let alone = render(&[object], view, difficulty, 224);
                    let empty = render(&[], view, difficulty, 224);
                    let size = alone
                        .pixels()
                        .iter()
                        .zip(empty.pixels())
                        .filter(|(a, b)| a != b)
                        .count();
                    assert!(
                        3 * seen > size,
                        "{seen} of {size} pixels of {object:?} in {objects:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_move_shows_in_its_direction() {
        let rules = Rules::of(Difficulty::Full);
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let object = scene::draw(&mut rng, &rules, Difficulty::Full)[0];
        let middle = |cell| {
            let picture = render(
                &[Object { cell, ..object }],
                View::Centre,
                Difficulty::Full,
                224,
            );
            let empty = render(&[], View::Centre, Difficulty::Full, 224);
            let differs = |index: &usize| picture.pixels()[*index] != empty.pixels()[*index];
            let places: Vec<usize> = (0..224 * 224).filter(differs).collect();
            let mean = |part: fn(usize) -> usize| {
                places.iter().map(|index| part(*index)).sum::<usize>() / places.len()
            };
            (mean(|index| index % 224), mean(|index| index / 224))
        };
        let start = middle((0, 0));
        assert!(
            middle((1, 0)).0 > start.0 && middle((-1, 0)).0 < start.0,
            "right and left"
        );
        assert!(
            middle((0, 1)).1 < start.1 && middle((0, -1)).1 > start.1,
            "behind and front"
        );
    }

    #[test]
    fn wordings_end_in_the_answer_that_is_given() {
        let drawn = drawn(3, Split::Train, Difficulty::Full);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for wording in Wording::ALL {
            assert_eq!(
                drawn.statement(&mut rng, true, wording).answer,
                drawn.answer()
            );
            assert_ne!(
                drawn.statement(&mut rng, false, wording).answer,
                drawn.answer()
            );
        }
        assert_eq!(
            drawn.statement(&mut rng, true, Wording::Row).reasoning,
            drawn.reasoning()
        );
    }
}
