//! Questions about a scene, after CLEVR-Math, and their answers. It knows no picture, no split and no reasoning.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::super::attributes::{Color, Material, Shape, Size};
use super::super::family::{Difficulty, Renderer};
use super::scene::{Object, SIZES, Vocabulary};

/// Which objects are meant; `None` leaves an attribute open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Filter {
    pub size: Option<Size>,
    pub color: Option<Color>,
    pub material: Option<Material>,
    pub shape: Option<Shape>,
}

/// What is done before the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// These are taken away.
    Subtract(Filter),
    /// This many of these are added; then all objects are asked for.
    Add(usize, Filter),
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub steps: Vec<Step>,
    /// What is counted in the end.
    pub asked: Filter,
}

impl Filter {
    /// Every object.
    pub(super) const ALL: Self = Self {
        size: None,
        color: None,
        material: None,
        shape: None,
    };

    pub(super) fn matches(&self, object: &Object) -> bool {
        self.size.is_none_or(|size| size == object.size)
            && self.color.is_none_or(|color| color == object.color)
            && (self.material.is_none() || self.material == object.material)
            && self.shape.is_none_or(|shape| shape == object.shape)
    }

    /// `small red circle`, `red objects`, `objects`, as the number of them asks.
    pub(super) fn noun(&self, count: usize) -> String {
        let words = [
            self.size.map(Size::name),
            self.color.map(Color::name),
            self.material.map(Material::name),
        ];
        let noun = match (self.shape, count) {
            (None, 1) => "object",
            (None, _) => "objects",
            (Some(shape), 1) => shape.name(),
            (Some(shape), _) => shape.plural(),
        };
        words
            .into_iter()
            .flatten()
            .chain([noun])
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Question {
    /// Draws a question that the objects make interesting: answers of 0 stay rare.
    pub(super) fn draw(
        rng: &mut impl Rng,
        objects: &[Object],
        vocabulary: Vocabulary,
        (renderer, difficulty): (Renderer, Difficulty),
    ) -> Self {
        match renderer {
            Renderer::Flat => Self::draw_flat(rng, objects, vocabulary, difficulty),
            Renderer::Grid => Self::draw_grid(rng, objects, vocabulary),
            Renderer::Solid => Self::draw_solid(rng, objects, vocabulary, difficulty),
        }
    }

    /// About all objects, a colour or a shape; at full difficulty also about combinations, and with objects taken
    /// away or added.
    fn draw_flat(
        rng: &mut impl Rng,
        objects: &[Object],
        vocabulary: Vocabulary,
        difficulty: Difficulty,
    ) -> Self {
        let kinds = if difficulty == Difficulty::Easy { 3 } else { 6 };
        let colors = objects.iter().map(|object| object.color);
        let color = Some(pick(rng, colors, vocabulary.colors));
        let shapes = objects.iter().map(|object| object.shape);
        let shape = Some(pick(rng, shapes, vocabulary.asked_shapes));
        let all = Filter::ALL;
        let both = Filter {
            color,
            shape,
            ..all
        };
        let (steps, asked) = match rng.random_range(0..kinds) {
            0 => (vec![], all),
            1 => (vec![], Filter { color, ..all }),
            2 => (vec![], Filter { shape, ..all }),
            3 => {
                let size = SIZES.choose(rng).copied();
                (vec![], Filter { size, ..both })
            }
            4 => {
                let taken = if rng.random_bool(0.5) {
                    both
                } else {
                    Filter { color, ..all }
                };
                (vec![Step::Subtract(taken)], all)
            }
            _ => (vec![Step::Add(rng.random_range(1..=3), both)], all),
        };
        Self { steps, asked }
    }

    /// Half of the questions count a colour, the others all objects or what is left without a colour.
    fn draw_grid(rng: &mut impl Rng, objects: &[Object], vocabulary: Vocabulary) -> Self {
        let colors = objects.iter().map(|object| object.color);
        let color = Filter {
            color: Some(pick(rng, colors, vocabulary.colors)),
            ..Filter::ALL
        };
        let (steps, asked) = match rng.random_range(0..4) {
            0 => (vec![], Filter::ALL),
            1 => (vec![Step::Subtract(color)], Filter::ALL),
            _ => (vec![], color),
        };
        Self { steps, asked }
    }

    /// Easy: half of the questions count, the others take a colour away or add one or two objects. Full: also several
    /// attributes at once, two steps, and a part of what is left.
    fn draw_solid(
        rng: &mut impl Rng,
        objects: &[Object],
        vocabulary: Vocabulary,
        difficulty: Difficulty,
    ) -> Self {
        let attributes = if difficulty == Difficulty::Easy { 1 } else { 3 };
        let mut filter = || draw_filter(rng, objects, vocabulary, attributes);
        let (first, second) = (filter(), filter());
        let added = rng.random_range(1..=if attributes == 1 { 2 } else { 3 });
        let take = Step::Subtract;
        let (steps, asked) = match (rng.random_range(0..8), difficulty) {
            (0, _) => (vec![], Filter::ALL),
            (1..=3, _) => (vec![], first),
            (4 | 5, Difficulty::Easy) | (4, Difficulty::Full) => (vec![take(first)], Filter::ALL),
            (_, Difficulty::Easy) | (5, Difficulty::Full) => {
                (vec![Step::Add(added, first)], Filter::ALL)
            }
            (6, Difficulty::Full) if first != second => (vec![take(first)], second),
            _ if rng.random_bool(0.5) => (vec![take(first), take(second)], Filter::ALL),
            _ => (vec![take(first), Step::Add(added, second)], Filter::ALL),
        };
        Self { steps, asked }
    }

    /// The question in words.
    pub(super) fn text(&self) -> String {
        let mut ending = "there";
        let mut sentences = String::new();
        for step in &self.steps {
            match step {
                Step::Subtract(taken) => {
                    sentences += &format!("Subtract all {}. ", taken.noun(2));
                    ending = "left";
                }
                Step::Add(count, added) => {
                    sentences += &format!("Add {count} {}. ", added.noun(*count));
                    ending = "there";
                }
            }
        }
        sentences + &format!("How many {} are {ending}?", self.asked.noun(2))
    }

    /// Whether this object makes the answer larger by one.
    pub(super) fn counts(&self, object: &Object) -> bool {
        let stays = |step: &Step| match step {
            Step::Subtract(taken) => !taken.matches(object),
            Step::Add(..) => true,
        };
        self.asked.matches(object) && self.steps.iter().all(stays)
    }

    /// The object, changed as little as is needed for it to count.
    pub(super) fn made_to_count(&self, mut object: Object, vocabulary: Vocabulary) -> Object {
        let asked = self.asked;
        object.size = asked.size.unwrap_or(object.size);
        object.color = asked.color.unwrap_or(object.color);
        object.material = asked.material.or(object.material);
        object.shape = asked.shape.unwrap_or(object.shape);
        let recolored = vocabulary.colors.iter().map(|color| Object {
            color: *color,
            ..object
        });
        let reshaped = vocabulary.shapes.iter().map(|shape| Object {
            shape: *shape,
            ..object
        });
        let remade = vocabulary.materials.iter().map(|material| Object {
            material: Some(*material),
            ..object
        });
        let resized = SIZES.iter().map(|size| Object {
            size: *size,
            ..object
        });
        let mut candidates = std::iter::once(object)
            .chain(recolored)
            .chain(reshaped)
            .chain(remade)
            .chain(resized);
        candidates
            .find(|object| self.counts(object))
            .unwrap_or(object)
    }

    /// The number of objects asked for.
    pub(super) fn answer(&self, objects: &[Object]) -> usize {
        let added: usize = self.steps.iter().map(Step::added).sum();
        objects.iter().filter(|object| self.counts(object)).count() + added
    }
}

impl Step {
    fn added(&self) -> usize {
        match self {
            Self::Add(count, _) => *count,
            Self::Subtract(_) => 0,
        }
    }
}

/// One to `most` attributes: five times in six those of an object that is there.
fn draw_filter(
    rng: &mut impl Rng,
    objects: &[Object],
    vocabulary: Vocabulary,
    most: usize,
) -> Filter {
    let there = if rng.random_ratio(5, 6) {
        objects.choose(rng)
    } else {
        None
    };
    let shapes = vocabulary.asked_shapes;
    let (mut filter, full) = (Filter::ALL, most > 1);
    for _ in 0..rng.random_range(1..=most) {
        match rng.random_range(0..if full { 4 } else { 3 }) {
            0 => {
                filter.material = there.map_or_else(
                    || vocabulary.materials.choose(rng).copied(),
                    |object| object.material,
                )
            }
            1 if !shapes.is_empty() => {
                filter.shape = there
                    .map(|object| object.shape)
                    .or_else(|| shapes.choose(rng).copied());
            }
            3 => {
                filter.size = there
                    .map(|object| object.size)
                    .or_else(|| SIZES.choose(rng).copied())
            }
            _ => {
                filter.color = there
                    .map(|object| object.color)
                    .or_else(|| vocabulary.colors.choose(rng).copied())
            }
        }
    }
    filter
}

/// An attribute to ask for: one that is present five times in six, so that the answer 0 stays rare.
fn pick<T: Copy + PartialEq>(
    rng: &mut impl Rng,
    present: impl Iterator<Item = T>,
    asked: &[T],
) -> T {
    let present: Vec<T> = present.collect();
    let (here, absent): (Vec<T>, Vec<T>) = asked.iter().partition(|value| present.contains(value));
    let pool = if here.is_empty() || (!absent.is_empty() && rng.random_ratio(1, 6)) {
        absent
    } else {
        here
    };
    *pool
        .choose(rng)
        .expect("the two parts together hold every value that is asked for")
}

#[cfg(test)]
pub(super) mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::super::family::Split;
    use super::super::scene::tests::scene;
    use super::*;

    fn object(size: Size, color: Color, shape: Shape) -> Object {
        Object {
            shape,
            color,
            size,
            material: Some(Material::Metal),
            x: 0.5,
            y: 0.5,
            angle: 0.0,
        }
    }

    pub(in crate::synthetic::counting) fn objects() -> Vec<Object> {
        vec![
            object(Size::Small, Color::Red, Shape::Sphere),
            object(Size::Large, Color::Blue, Shape::Cube),
            object(Size::Large, Color::Red, Shape::Cube),
        ]
    }

    pub(in crate::synthetic::counting) const RED: Filter = Filter {
        color: Some(Color::Red),
        ..Filter::ALL
    };
    pub(in crate::synthetic::counting) const RED_CUBES: Filter = Filter {
        shape: Some(Shape::Cube),
        ..RED
    };

    #[test]
    fn questions_by_hand() {
        let (all, metal) = (
            Filter::ALL,
            Filter {
                material: Some(Material::Metal),
                ..Filter::ALL
            },
        );
        let large = Filter {
            size: Some(Size::Large),
            ..RED_CUBES
        };
        let cases: [(&[Step], Filter, &str, usize); 8] = [
            (&[], all, "How many objects are there?", 3),
            (&[], RED, "How many red objects are there?", 2),
            (&[], metal, "How many metal objects are there?", 3),
            (&[], large, "How many large red cubes are there?", 1),
            (
                &[Step::Subtract(RED)],
                all,
                "Subtract all red objects. How many objects are left?",
                1,
            ),
            (
                &[Step::Add(2, RED_CUBES)],
                all,
                "Add 2 red cubes. How many objects are there?",
                5,
            ),
            (
                &[Step::Subtract(RED_CUBES), Step::Add(1, RED)],
                all,
                "Subtract all red cubes. Add 1 red object. How many objects are there?",
                3,
            ),
            (
                &[Step::Subtract(RED_CUBES)],
                RED,
                "Subtract all red cubes. How many red objects are left?",
                1,
            ),
        ];
        for (steps, asked, text, answer) in cases {
            let question = Question {
                steps: steps.to_vec(),
                asked,
            };
            assert_eq!(
                (question.text().as_str(), question.answer(&objects())),
                (text, answer)
            );
        }
    }

    pub(in crate::synthetic::counting) fn all_kinds()
    -> impl Iterator<Item = (Renderer, Split, Difficulty)> {
        Renderer::ALL.into_iter().flat_map(|renderer| {
            [Split::Train, Split::TestOod]
                .into_iter()
                .flat_map(move |split| {
                    Difficulty::ALL.map(move |difficulty| (renderer, split, difficulty))
                })
        })
    }

    #[test]
    fn an_object_can_be_made_to_count() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut impossible = 0;
        for (renderer, split, difficulty) in all_kinds() {
            let vocabulary = Vocabulary::of(renderer, split, difficulty);
            for seed in 0..300 {
                let objects = scene(seed, renderer, split, difficulty).objects;
                let question =
                    Question::draw(&mut rng, &objects, vocabulary, (renderer, difficulty));
                for object in objects {
                    impossible +=
                        usize::from(!question.counts(&question.made_to_count(object, vocabulary)));
                }
            }
        }
        // Only two removals can leave nothing that counts.
        assert!(impossible < 60, "{impossible} of 8400");
    }

    #[test]
    fn answers_are_spread_and_zero_is_rare() {
        for renderer in Renderer::ALL {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let (mut seen, difficulty) = ([0; 9], Difficulty::Easy);
            let vocabulary = Vocabulary::of(renderer, Split::Train, difficulty);
            for seed in 0..3000 {
                let objects = scene(seed, renderer, Split::Train, difficulty).objects;
                let question =
                    Question::draw(&mut rng, &objects, vocabulary, (renderer, difficulty));
                seen[question.answer(&objects)] += 1;
            }
            let most = *seen.iter().max().unwrap();
            assert!(
                seen[..7].iter().all(|count| *count > 100) && most < 1100,
                "{seen:?}"
            );
        }
    }
}
