//! Questions about a scene, after CLEVR-Math, with answer and written reasoning. It knows no picture and no split.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::Difficulty;
use super::scene::{Color, Object, Shape, Size, Vocabulary};

/// Which objects are meant; `None` leaves an attribute open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Filter {
    pub size: Option<Size>,
    pub color: Option<Color>,
    pub shape: Option<Shape>,
}

/// What is done with the objects that are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// They are counted.
    Count,
    /// They are taken away and the rest is counted.
    Subtract,
    /// This many of them are added and all objects are counted.
    Add(usize),
}

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub operation: Operation,
    pub filter: Filter,
}

impl Filter {
    fn matches(&self, object: &Object) -> bool {
        self.size.is_none_or(|size| size == object.size)
            && self.color.is_none_or(|color| color == object.color)
            && self.shape.is_none_or(|shape| shape == object.shape)
    }

    /// `small red circle`, `red objects`, `objects`, as the number of them asks.
    fn noun(&self, count: usize) -> String {
        let words = [self.size.map(Size::name), self.color.map(Color::name)];
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
    /// Draws a question: about all objects, a colour or a shape; at full difficulty also about combinations,
    /// and with objects taken away or added.
    pub(super) fn draw(
        rng: &mut impl Rng,
        objects: &[Object],
        vocabulary: Vocabulary,
        difficulty: Difficulty,
    ) -> Self {
        let kinds = if difficulty == Difficulty::Easy { 3 } else { 6 };
        let color = pick(
            rng,
            objects.iter().map(|object| object.color),
            vocabulary.colors,
        );
        let shape = pick(
            rng,
            objects.iter().map(|object| object.shape),
            vocabulary.asked_shapes,
        );
        let all = Filter::default();
        let both = Filter {
            color: Some(color),
            shape: Some(shape),
            ..all
        };
        let (operation, filter) = match rng.random_range(0..kinds) {
            0 => (Operation::Count, all),
            1 => (
                Operation::Count,
                Filter {
                    color: Some(color),
                    ..all
                },
            ),
            2 => (
                Operation::Count,
                Filter {
                    shape: Some(shape),
                    ..all
                },
            ),
            3 => (
                Operation::Count,
                Filter {
                    size: Size::BOTH.choose(rng).copied(),
                    ..both
                },
            ),
            4 => (
                Operation::Subtract,
                if rng.random_bool(0.5) {
                    both
                } else {
                    Filter {
                        color: Some(color),
                        ..all
                    }
                },
            ),
            _ => (Operation::Add(rng.random_range(1..=3)), both),
        };
        Self { operation, filter }
    }

    /// The question in words.
    pub(super) fn text(&self) -> String {
        let meant = |count| self.filter.noun(count);
        match self.operation {
            Operation::Count => format!("How many {} are there?", meant(2)),
            Operation::Subtract => format!("Subtract all {}. How many objects are left?", meant(2)),
            Operation::Add(count) => {
                format!("Add {count} {}. How many objects are there?", meant(count))
            }
        }
    }

    /// Whether this object makes the answer larger by one.
    pub(super) fn counts(&self, object: &Object) -> bool {
        match self.operation {
            Operation::Count => self.filter.matches(object),
            Operation::Subtract => !self.filter.matches(object),
            Operation::Add(_) => true,
        }
    }

    /// The object, changed as little as needed for it to count.
    pub(super) fn made_to_count(&self, mut object: Object, vocabulary: Vocabulary) -> Object {
        match self.operation {
            Operation::Count => {
                object.size = self.filter.size.unwrap_or(object.size);
                object.color = self.filter.color.unwrap_or(object.color);
                object.shape = self.filter.shape.unwrap_or(object.shape);
            }
            Operation::Subtract => {
                let other = vocabulary
                    .colors
                    .iter()
                    .find(|color| Some(**color) != self.filter.color);
                if let (true, Some(other)) = (self.filter.matches(&object), other) {
                    object.color = *other;
                }
            }
            Operation::Add(_) => {}
        }
        object
    }

    /// The number of objects asked for.
    pub(super) fn answer(&self, objects: &[Object]) -> usize {
        let added = if let Operation::Add(count) = self.operation {
            count
        } else {
            0
        };
        objects.iter().filter(|object| self.counts(object)).count() + added
    }

    /// Reasoning that leads from the objects, in reading order, to the answer.
    ///
    /// Easy: what is asked about each object and the count, `red blue red: 2 red`. Full: every object whole,
    /// `small red circle, large blue square: 2 minus 1 leaves 1`.
    pub(super) fn reasoning(&self, objects: &[Object], difficulty: Difficulty) -> String {
        let whole = difficulty == Difficulty::Full;
        let separator = if whole { ", " } else { " " };
        let seen: Vec<String> = objects
            .iter()
            .map(|object| self.seen(object, whole))
            .collect();
        let seen = if seen.is_empty() {
            "nothing".into()
        } else {
            seen.join(separator)
        };
        let (total, answer) = (objects.len(), self.answer(objects));
        match self.operation {
            Operation::Count if !whole && self.filter.color.is_some() => {
                format!(
                    "{seen}: {answer} {}",
                    self.filter.color.map_or("", Color::name)
                )
            }
            Operation::Count => format!("{seen}: {answer} {}", self.filter.noun(answer)),
            Operation::Subtract => {
                format!("{seen}: {total} minus {} leaves {answer}", total - answer)
            }
            Operation::Add(count) => format!("{seen}: {total} plus {count} makes {answer}"),
        }
    }

    fn seen(&self, object: &Object, whole: bool) -> String {
        let Object {
            size, color, shape, ..
        } = *object;
        match (whole, self.filter.color) {
            (true, _) => format!("{} {} {}", size.name(), color.name(), shape.name()),
            (false, Some(_)) => color.name().into(),
            (false, None) => shape.name().into(),
        }
    }
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
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::Split;
    use super::super::scene::tests::scene;
    use super::*;

    fn object(size: Size, color: Color, shape: Shape) -> Object {
        Object {
            shape,
            color,
            size,
            x: 0.5,
            y: 0.5,
            angle: 0.0,
        }
    }

    fn objects() -> Vec<Object> {
        vec![
            object(Size::Small, Color::Red, Shape::Circle),
            object(Size::Large, Color::Blue, Shape::Square),
            object(Size::Large, Color::Red, Shape::Square),
        ]
    }

    const RED: Filter = Filter {
        size: None,
        color: Some(Color::Red),
        shape: None,
    };
    const RED_SQUARES: Filter = Filter {
        size: None,
        color: Some(Color::Red),
        shape: Some(Shape::Square),
    };

    #[test]
    fn easy_questions_by_hand() {
        let shape = Filter {
            shape: Some(Shape::Square),
            ..Filter::default()
        };
        let circle = Filter {
            shape: Some(Shape::Circle),
            ..Filter::default()
        };
        let absent = Filter {
            color: Some(Color::Green),
            ..Filter::default()
        };
        for (filter, text, reasoning, answer) in [
            (
                Filter::default(),
                "How many objects are there?",
                "circle square square: 3 objects",
                3,
            ),
            (
                RED,
                "How many red objects are there?",
                "red blue red: 2 red",
                2,
            ),
            (
                shape,
                "How many squares are there?",
                "circle square square: 2 squares",
                2,
            ),
            (
                absent,
                "How many green objects are there?",
                "red blue red: 0 green",
                0,
            ),
            (
                circle,
                "How many circles are there?",
                "circle square square: 1 circle",
                1,
            ),
        ] {
            let question = Question {
                operation: Operation::Count,
                filter,
            };
            assert_eq!(question.text(), text);
            assert_eq!(question.reasoning(&objects(), Difficulty::Easy), reasoning);
            assert_eq!(question.answer(&objects()), answer);
        }
    }

    #[test]
    fn full_questions_by_hand() {
        let list = "small red circle, large blue square, large red square";
        let large = Filter {
            size: Some(Size::Large),
            ..RED_SQUARES
        };
        for (operation, filter, text, reasoning, answer) in [
            (
                Operation::Count,
                large,
                "How many large red squares are there?",
                "1 large red square",
                1,
            ),
            (
                Operation::Subtract,
                RED,
                "Subtract all red objects. How many objects are left?",
                "3 minus 2 leaves 1",
                1,
            ),
            (
                Operation::Add(2),
                RED_SQUARES,
                "Add 2 red squares. How many objects are there?",
                "3 plus 2 makes 5",
                5,
            ),
            (
                Operation::Add(1),
                RED,
                "Add 1 red object. How many objects are there?",
                "3 plus 1 makes 4",
                4,
            ),
        ] {
            let question = Question { operation, filter };
            assert_eq!(question.text(), text);
            assert_eq!(
                question.reasoning(&objects(), Difficulty::Full),
                format!("{list}: {reasoning}")
            );
            assert_eq!(question.answer(&objects()), answer);
        }
    }

    #[test]
    fn an_object_can_be_made_to_count() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for seed in 0..300 {
            let vocabulary = Vocabulary::of(Split::Train, Difficulty::Full);
            let objects = scene(seed, Split::Train, Difficulty::Full).objects;
            let question = Question::draw(&mut rng, &objects, vocabulary, Difficulty::Full);
            for object in objects {
                assert!(
                    question.counts(&question.made_to_count(object, vocabulary)),
                    "{question:?} {object:?}"
                );
            }
        }
    }

    #[test]
    fn answers_are_spread_and_zero_is_rare() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = [0; 7];
        for seed in 0..3000 {
            let objects = scene(seed, Split::Train, Difficulty::Easy).objects;
            let vocabulary = Vocabulary::of(Split::Train, Difficulty::Easy);
            let question = Question::draw(&mut rng, &objects, vocabulary, Difficulty::Easy);
            assert!(
                question
                    .reasoning(&objects, Difficulty::Easy)
                    .split(' ')
                    .count()
                    <= 8
            );
            seen[question.answer(&objects)] += 1;
        }
        assert!(
            seen.iter().all(|count| *count > 100) && *seen.iter().max().unwrap() < 1100,
            "{seen:?}"
        );
    }
}
