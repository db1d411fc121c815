//! Structure perception: geometric diagrams whose numbers stand in the picture, with a choice or a number as answer.
//! It knows neither files nor other families.

mod choices;
mod figure;
mod kind;
mod labels;
mod mark;
mod render;
mod sketch;
mod style;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use tiny_skia::Pixmap;

use super::drawn::{Drawn, Statement, Wording};
use super::family::{Difficulty, Split};
use super::fingerprint::{fingerprint, letters, thousandths};
use choices::Choices;
use kind::{Kind, number};
use render::Pose;

/// A problem with its numbers and how its diagram lies.
struct Structure {
    kind: Kind,
    values: Vec<u32>,
    /// `None` where a number is asked for.
    choices: Option<Choices>,
    pose: Pose,
    split: Split,
    difficulty: Difficulty,
}

/// What somebody takes from the diagram and makes of it.
#[derive(Debug, Clone, PartialEq)]
struct Reading {
    values: Vec<u32>,
    result: f64,
    choice: Option<usize>,
}

/// Draws an example that belongs to the split; half of the problems have choices.
pub(super) fn draw(rng: &mut ChaCha8Rng, split: Split, difficulty: Difficulty) -> Box<dyn Drawn> {
    loop {
        let drawn = Structure::draw(rng, split, difficulty);
        let is_test = drawn.fingerprint() % 5 == 0;
        // Out of domain no kind and no style is that of training.
        if split == Split::TestOod || split.is_test() == is_test {
            return Box::new(drawn);
        }
    }
}

impl Structure {
    fn draw(rng: &mut ChaCha8Rng, split: Split, difficulty: Difficulty) -> Self {
        let kinds = Kind::of(split, difficulty);
        let kind = kinds[rng.random_range(0..kinds.len())];
        let values = kind.values(rng, difficulty);
        let (_, result) = kind.sum(&values);
        let choices = rng.random_bool(0.5).then(|| {
            let step = step(kind, result, difficulty);
            Choices::draw(rng, result, step)
        });
        let pose = pose(rng, split, difficulty);
        Self {
            kind,
            values,
            choices,
            pose,
            split,
            difficulty,
        }
    }

    fn right(&self) -> Reading {
        Reading {
            values: self.values.clone(),
            result: self.kind.sum(&self.values).1,
            choice: self.choices.as_ref().map(|choices| choices.right),
        }
    }

    fn answer_of(&self, reading: &Reading) -> String {
        match reading.choice {
            Some(choice) => Choices::letter(choice).into(),
            None => number(reading.result),
        }
    }

    /// A number misread, a sum that slips, or the choice beside the right one: whatever is wrong in the end.
    fn mistaken(&self, rng: &mut ChaCha8Rng) -> Reading {
        let right = self.right();
        let step = step(self.kind, right.result, self.difficulty);
        loop {
            let mut reading = right.clone();
            let change = f64::from(rng.random_range(1..=2_u8))
                * if rng.random_bool(0.5) { step } else { -step };
            match rng.random_range(0..3) {
                0 => {
                    let index = rng.random_range(0..reading.values.len());
                    let unit = if self.kind.is_angle() { 10 } else { 1 };
                    let value = &mut reading.values[index];
                    *value = if rng.random_bool(0.5) {
                        *value + unit
                    } else {
                        value.saturating_sub(unit).max(1)
                    };
                    reading.result = self.kind.sum(&reading.values).1;
                }
                1 => reading.result += change,
                _ => {}
            }
            reading.choice = match (&self.choices, reading == right) {
                (Some(choices), true) => {
                    Some((choices.right + 1 + rng.random_range(0..3_usize)) % 4)
                }
                (Some(choices), false) => Some(choices.nearest(reading.result)),
                (None, _) => None,
            };
            if reading.result > 0.0 && self.answer_of(&reading) != self.answer_of(&right) {
                return reading;
            }
        }
    }

    fn reasoning_of(&self, reading: &Reading, wording: Wording) -> String {
        let (left, _) = self.kind.sum(&reading.values);
        let result = number(reading.result);
        let letter = reading.choice.map(Choices::letter);
        let choice =
            |before: &str| letter.map_or(String::new(), |letter| format!("{before}{letter}"));
        let rule = self.kind.rule();
        match (wording, self.difficulty) {
            (Wording::Row, Difficulty::Easy) => format!("{left} = {result}{}", choice(", ")),
            (Wording::Row, Difficulty::Full) => {
                format!("{rule} {left} = {result}{}.", choice(", which is choice "))
            }
            (Wording::Terse, _) => format!("It is {result}{}.", choice(", so ")),
            (Wording::Verbose, _) => {
                let seen: Vec<String> = reading.values.iter().map(u32::to_string).collect();
                let seen = seen.join(" and ");
                let ending = letter.map_or(String::new(), |letter| {
                    format!(" The right choice is {letter}.")
                });
                format!("The picture shows {seen}. {rule} Therefore {left} = {result}.{ending}")
            }
        }
    }
}

/// How a diagram lies: in easy problems in domain nearly upright and never mirrored, so that a small model finds the numbers.
fn pose(rng: &mut ChaCha8Rng, split: Split, difficulty: Difficulty) -> Pose {
    let (tilt, mirrored) = match (split, difficulty) {
        (Split::TestOod, Difficulty::Easy) => (0.2, 0.5),
        (Split::TestOod, Difficulty::Full) => (0.6, 0.5),
        (_, Difficulty::Easy) => (0.04, 0.0),
        (_, Difficulty::Full) => (0.2, 0.5),
    };
    Pose {
        turn: rng.random_range(-tilt..=tilt),
        mirrored: rng.random_bool(mirrored),
    }
}

/// By how much wrong results miss: a multiple of this.
fn step(kind: Kind, result: f64, difficulty: Difficulty) -> f64 {
    match (kind.is_angle() || kind == Kind::RegularPolygon, difficulty) {
        (true, Difficulty::Easy) => 10.0,
        (true, Difficulty::Full) => 5.0,
        (false, _) => (result / 10.0).round().max(1.0),
    }
}

impl Drawn for Structure {
    fn problem(&self) -> String {
        let question = self.kind.question();
        match &self.choices {
            Some(choices) => format!("{question} {}", choices.text()),
            None => question.into(),
        }
    }

    fn answer(&self) -> String {
        self.answer_of(&self.right())
    }

    fn reasoning(&self) -> String {
        self.reasoning_of(&self.right(), Wording::Row)
    }

    fn naming(&self) -> (String, String) {
        let seen: Vec<String> = self.values.iter().map(u32::to_string).collect();
        ("Name the numbers.".to_owned(), seen.join(", "))
    }

    fn level(&self) -> usize {
        self.kind.level()
    }

    fn kind(&self) -> String {
        self.kind.name().into()
    }

    fn fingerprint(&self) -> u64 {
        let pose = [thousandths(self.pose.turn), u32::from(self.pose.mirrored)];
        let values = self.values.iter().copied().chain(pose);
        fingerprint(letters(self.kind.name()).chain(values))
    }

    fn pictures(&self, size: u32) -> Vec<(&'static str, Pixmap)> {
        let marks = match self.difficulty {
            Difficulty::Easy => self.kind.sketch(&self.values),
            Difficulty::Full => self.kind.figure(&self.values),
        };
        vec![("", render::render(&marks, self.pose, self.split, size))]
    }

    fn statement(&self, rng: &mut ChaCha8Rng, right: bool, wording: Wording) -> Statement {
        let reading = if right {
            self.right()
        } else {
            self.mistaken(rng)
        };
        Statement {
            reasoning: self.reasoning_of(&reading, wording),
            answer: self.answer_of(&reading),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use super::*;

    fn structure(seed: u64, split: Split, difficulty: Difficulty) -> Structure {
        Structure::draw(&mut ChaCha8Rng::seed_from_u64(seed), split, difficulty)
    }

    fn triangle(choices: Option<Choices>, difficulty: Difficulty) -> Structure {
        Structure {
            kind: Kind::TriangleAngles,
            values: vec![50, 60],
            choices,
            pose: Pose {
                turn: 0.0,
                mirrored: false,
            },
            split: Split::Train,
            difficulty,
        }
    }

    #[test]
    fn problems_answers_and_wordings_by_hand() {
        let choices = Choices {
            numbers: [50.0, 60.0, 70.0, 90.0],
            right: 2,
        };
        let (numeric, choice) = (
            triangle(None, Difficulty::Easy),
            triangle(Some(choices), Difficulty::Full),
        );
        assert_eq!(
            (numeric.problem().as_str(), numeric.answer().as_str()),
            ("Find the angle x of the triangle.", "70")
        );
        assert_eq!(numeric.reasoning(), "180 - 50 - 60 = 70");
        assert_eq!(
            choice.problem(),
            "Find the angle x of the triangle. Choices: A. 50 B. 60 C. 70 D. 90"
        );
        assert_eq!(choice.answer(), "C");
        assert_eq!(
            choice.reasoning(),
            "The angles of a triangle add up to 180. 180 - 50 - 60 = 70, which is choice C."
        );
        assert_eq!(
            choice.reasoning_of(&choice.right(), Wording::Terse),
            "It is 70, so C."
        );
        assert_eq!(
            choice.reasoning_of(&choice.right(), Wording::Verbose),
            "The picture shows 50 and 60. The angles of a triangle add up to 180. \
             Therefore 180 - 50 - 60 = 70. The right choice is C."
        );
    }

    #[test]
    fn mistakes_are_of_every_kind_and_never_right() {
        for (split, difficulty) in [
            (Split::Train, Difficulty::Easy),
            (Split::TestOod, Difficulty::Full),
        ] {
            let mut kinds = [0; 3];
            for seed in 0..500 {
                let drawn = structure(seed, split, difficulty);
                let wrong = drawn.mistaken(&mut ChaCha8Rng::seed_from_u64(seed));
                assert_ne!(drawn.answer_of(&wrong), drawn.answer(), "{wrong:?}");
                assert!(wrong.result > 0.0);
                let right = drawn.right();
                kinds[if wrong.values != right.values {
                    0
                } else {
                    1 + usize::from(wrong.result == right.result)
                }] += 1;
            }
            assert!(
                kinds.iter().all(|count| *count > 60),
                "misread, slipped, beside: {kinds:?}"
            );
        }
    }

    #[test]
    fn choices_and_numbers_are_equally_frequent_and_every_kind_occurs() {
        for split in [Split::Train, Split::Test, Split::TestOod] {
            let (mut letters, mut kinds) = (0, HashSet::new());
            for seed in 0..1000 {
                let drawn = draw(
                    &mut ChaCha8Rng::seed_from_u64(seed),
                    split,
                    Difficulty::Full,
                );
                letters += usize::from("ABCD".contains(&drawn.answer()));
                kinds.insert(drawn.kind());
            }
            assert!((430..570).contains(&letters), "{letters}");
            assert_eq!(kinds.len(), Kind::of(split, Difficulty::Full).len());
        }
    }

    #[test]
    fn the_domains_are_drawn_in_different_styles() {
        let mut drawn = triangle(None, Difficulty::Easy);
        let (_, inside) = drawn.pictures(84).remove(0);
        drawn.split = Split::TestOod;
        let (_, outside) = drawn.pictures(84).remove(0);
        let differ = inside
            .pixels()
            .iter()
            .zip(outside.pixels())
            .filter(|(a, b)| a != b);
        assert!(differ.count() > 84 * 84 / 2);
    }
}
