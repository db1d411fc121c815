//! Written reasoning from seen objects to a number, in three wordings. It knows no right and wrong.

use super::super::attributes::{Color, Material, Size};
use super::super::drawn::Wording;
use super::super::family::Difficulty;
use super::question::{Filter, Question, Step};
use super::scene::Object;

/// Reasoning that leads from the objects, in reading order, to the answer, which may be miscounted.
///
/// `Row`, easy: what is asked about each object and the count, `red blue red: 2 red`. `Row`, full: every object whole,
/// `small red circle, large blue square: 2 minus 1 leaves 1`. `Terse`: only what stands after the colon.
pub(super) fn reasoning(
    question: &Question,
    (objects, answer): (&[Object], usize),
    difficulty: Difficulty,
    wording: Wording,
) -> String {
    let result = result(question, objects, answer);
    let easy = difficulty == Difficulty::Easy;
    match wording {
        Wording::Row => {
            let seen: Vec<String> = objects
                .iter()
                .map(|object| {
                    if easy {
                        focus(&question.of_interest(), object).into()
                    } else {
                        words(object)
                    }
                })
                .collect();
            let list = match (seen.is_empty(), easy) {
                (true, _) => "nothing".into(),
                (false, true) => seen.join(" "),
                (false, false) => seen.join(", "),
            };
            match (
                easy && question.steps.is_empty(),
                question.asked.color,
                question.asked.material,
            ) {
                (true, Some(color), _) => format!("{list}: {answer} {}", color.name()),
                (true, _, Some(material)) => format!("{list}: {answer} {}", material.name()),
                _ => format!("{list}: {result}"),
            }
        }
        Wording::Terse => result,
        Wording::Verbose => {
            let seen: Vec<String> = objects
                .iter()
                .map(|object| format!("a {}", words(object)))
                .collect();
            let seen = if seen.is_empty() {
                "nothing".into()
            } else {
                seen.join(", ")
            };
            format!("The picture shows {seen}. I get {result}. The answer is {answer}.")
        }
    }
}

/// What stands in each cell, row by row, and the result: `- red - - blue - - - -: 1 red`.
///
/// A word a cell: the place of a word tells the cell it speaks of.
pub(super) fn cell_by_cell(
    question: &Question,
    (objects, answer): (&[Object], usize),
    grid: usize,
) -> String {
    let mut cells = vec!["-"; grid * grid];
    for object in objects {
        cells[object.cell(grid)] = object.color.name();
    }
    let result = match (question.steps.as_slice(), question.asked.color) {
        ([], Some(color)) => format!("{answer} {}", color.name()),
        _ => result(question, objects, answer),
    };
    format!("{}: {result}", cells.join(" "))
}

/// `2 red circles`, `5 minus 2 leaves 3, 3 plus 1 makes 4`.
fn result(question: &Question, objects: &[Object], answer: usize) -> String {
    let is_asked = |object: &&Object| question.asked.matches(object);
    let mut left: Vec<&Object> = objects.iter().filter(is_asked).collect();
    let Some(last) = question.steps.len().checked_sub(1) else {
        return format!("{answer} {}", question.asked.noun(answer));
    };
    let (mut count, mut parts) = (left.len(), Vec::new());
    for (index, step) in question.steps.iter().enumerate() {
        let noun = match (index, question.asked) {
            (0, asked) if asked != Filter::ALL => format!(" {}", asked.noun(count)),
            _ => String::new(),
        };
        let (before, outcome) = (count, |count| if index == last { answer } else { count });
        match step {
            Step::Subtract(taken) => {
                left.retain(|object| !taken.matches(object));
                let removed = before - left.len();
                count = left.len();
                parts.push(format!(
                    "{before}{noun} minus {removed} leaves {}",
                    outcome(count)
                ));
            }
            Step::Add(added, _) => {
                count += added;
                parts.push(format!(
                    "{before}{noun} plus {added} makes {}",
                    outcome(count)
                ));
            }
        }
    }
    parts.join(", ")
}

/// `small red metal cube`.
fn words(object: &Object) -> String {
    let (size, color) = (Size::name(object.size), Color::name(object.color));
    let material = object
        .material
        .map_or(String::new(), |material| format!("{} ", material.name()));
    format!("{size} {color} {material}{}", object.shape.name())
}

/// The attribute that the filter looks at; its shape if it looks at none.
fn focus(filter: &Filter, object: &Object) -> &'static str {
    match (filter.color, filter.material, object.material) {
        (Some(_), ..) => object.color.name(),
        (None, Some(_), Some(material)) => Material::name(material),
        _ => object.shape.name(),
    }
}

impl Question {
    /// The filter whose attribute decides: what is asked for, or what is taken away.
    fn of_interest(&self) -> Filter {
        match self.steps.first() {
            Some(Step::Subtract(taken)) => *taken,
            _ => self.asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::attributes::Shape;
    use super::super::question::tests::{RED, RED_CUBES, objects};
    use super::*;

    fn said(steps: &[Step], asked: Filter, difficulty: Difficulty, wording: Wording) -> String {
        let question = Question {
            steps: steps.to_vec(),
            asked,
        };
        let answer = question.answer(&objects());
        reasoning(&question, (&objects(), answer), difficulty, wording)
    }

    #[test]
    fn cells_are_named_in_reading_order() {
        let question = |steps: &[Step], asked| Question {
            steps: steps.to_vec(),
            asked,
        };
        let mut seen = objects();
        for (object, (x, y)) in seen.iter_mut().zip([(1.5, 0.5), (0.5, 1.5), (1.2, 1.9)]) {
            (object.x, object.y) = (x, y);
        }
        let said = |question: Question| cell_by_cell(&question, (&seen, question.answer(&seen)), 2);
        assert_eq!(said(question(&[], RED)), "- red blue red: 2 red");
        assert_eq!(
            said(question(&[], Filter::ALL)),
            "- red blue red: 3 objects"
        );
        assert_eq!(
            said(question(&[Step::Subtract(RED)], Filter::ALL)),
            "- red blue red: 3 minus 2 leaves 1"
        );
    }

    #[test]
    fn easy_reasoning_by_hand() {
        let all = Filter::ALL;
        let cases: [(&[Step], Filter, &str); 8] = [
            (&[], all, "sphere cube cube: 3 objects"),
            (&[], RED, "red blue red: 2 red"),
            (
                &[],
                Filter {
                    color: Some(Color::Green),
                    ..all
                },
                "red blue red: 0 green",
            ),
            (
                &[],
                Filter {
                    material: Some(Material::Metal),
                    ..all
                },
                "metal metal metal: 3 metal",
            ),
            (
                &[],
                Filter {
                    shape: Some(Shape::Cube),
                    ..all
                },
                "sphere cube cube: 2 cubes",
            ),
            (
                &[],
                Filter {
                    shape: Some(Shape::Sphere),
                    ..all
                },
                "sphere cube cube: 1 sphere",
            ),
            (
                &[Step::Subtract(RED)],
                all,
                "red blue red: 3 minus 2 leaves 1",
            ),
            (
                &[Step::Add(2, RED)],
                all,
                "sphere cube cube: 3 plus 2 makes 5",
            ),
        ];
        for (steps, asked, expected) in cases {
            assert_eq!(said(steps, asked, Difficulty::Easy, Wording::Row), expected);
        }
    }

    #[test]
    fn full_reasoning_by_hand() {
        let list = "small red metal sphere, large blue metal cube, large red metal cube";
        let all = Filter::ALL;
        let large = Filter {
            size: Some(Size::Large),
            ..RED_CUBES
        };
        let two = [Step::Subtract(RED_CUBES), Step::Subtract(RED)];
        let cases: [(&[Step], Filter, &str); 5] = [
            (&[], large, "1 large red cube"),
            (&[Step::Subtract(RED)], all, "3 minus 2 leaves 1"),
            (&[Step::Add(1, RED)], all, "3 plus 1 makes 4"),
            (&two, all, "3 minus 1 leaves 2, 2 minus 1 leaves 1"),
            (
                &[Step::Subtract(RED_CUBES)],
                RED,
                "2 red objects minus 1 leaves 1",
            ),
        ];
        for (steps, asked, expected) in cases {
            assert_eq!(
                said(steps, asked, Difficulty::Full, Wording::Row),
                format!("{list}: {expected}")
            );
            assert_eq!(
                said(steps, asked, Difficulty::Full, Wording::Terse),
                expected
            );
        }
        assert_eq!(
            said(&[], RED, Difficulty::Easy, Wording::Verbose),
            "The picture shows a small red metal sphere, a large blue metal cube, a large red metal cube. \
             I get 2 red objects. The answer is 2."
        );
    }

    #[test]
    fn a_miscount_shows_in_the_last_number_alone() {
        let question = Question {
            steps: vec![Step::Subtract(RED_CUBES), Step::Add(2, RED)],
            asked: Filter::ALL,
        };
        let wrong = reasoning(&question, (&objects(), 5), Difficulty::Easy, Wording::Terse);
        assert_eq!(wrong, "3 minus 1 leaves 2, 2 plus 2 makes 5");
    }
}
