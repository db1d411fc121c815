//! A transformation in words: the tuples of the problem and three ways to reason. It knows no right and wrong.

use super::super::drawn::Wording;
use super::super::family::Difficulty;
use super::change::{self, Call, Value};
use super::scene::{Object, Rules};

/// `Initial objects: (0, 'cube', 'small', 'red', 'rubber'), (1, ...)`.
pub(super) fn problem(objects: &[Object]) -> String {
    let tuple = |(id, object): (usize, &Object)| {
        let (shape, size) = (object.shape.name(), object.size.name());
        let (color, material) = (object.color.name(), object.material.name());
        format!("({id}, '{shape}', '{size}', '{color}', '{material}')")
    };
    let tuples: Vec<String> = objects.iter().enumerate().map(tuple).collect();
    format!("Initial objects: {}.", tuples.join(", "))
}

/// What stands in each place as the central camera sees it, far ones first: `- small red metal cube - -`.
pub(super) fn row_by_row(objects: &[Object], reach: i32, difficulty: Difficulty) -> String {
    let rows = (-reach..=reach).rev();
    let places = rows.flat_map(|away| (-reach..=reach).map(move |right| (right, away)));
    let words = places.map(|place| {
        let found = objects.iter().find(|object| object.cell == place);
        let words = match difficulty {
            Difficulty::Easy => Object::short_words,
            Difficulty::Full => Object::words,
        };
        found.map_or_else(|| "-".to_owned(), words)
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The reasoning that ends in these calls.
pub(super) fn reasoning(
    objects: &[Object],
    calls: &[Call],
    difficulty: Difficulty,
    wording: Wording,
) -> String {
    match (wording, difficulty) {
        (Wording::Row, Difficulty::Easy) => short(objects, calls),
        (Wording::Row, Difficulty::Full) => whole(objects, calls),
        (Wording::Terse, _) => {
            let told = |call: &Call| format!("object {}: {}", call.object, brief(objects, call));
            calls.iter().map(told).collect::<Vec<_>>().join("; ")
        }
        (Wording::Verbose, _) => {
            let functions = if calls.len() == 1 {
                "function is"
            } else {
                "functions are"
            };
            format!(
                "I compare the two pictures. {} So {} {functions} needed.",
                whole(objects, calls),
                calls.len()
            )
        }
    }
}

/// Both pictures place by place, then what changed: `- small red - ... to - large red - ...: 1 small to large`.
///
/// A word pair a place, so that it can be seen and compared one place at a time.
fn short(objects: &[Object], calls: &[Call]) -> String {
    let reach = Rules::of(Difficulty::Easy).reach;
    let [before, after] = [objects.to_vec(), change::after(objects, calls)]
        .map(|objects| row_by_row(&objects, reach, Difficulty::Easy));
    let changes: Vec<String> = calls
        .iter()
        .map(|call| format!("{} {}", call.object, brief(objects, call)))
        .collect();
    format!("{before} to {after}: {}", changes.join(", "))
}

/// One sentence for each object.
fn whole(objects: &[Object], calls: &[Call]) -> String {
    let told = |(id, object): (usize, &Object)| {
        let changes: Vec<String> = of(calls, id).map(|call| clause(objects, call)).collect();
        let changes = if changes.is_empty() {
            "stays the same".into()
        } else {
            changes.join(" and ")
        };
        format!("Object {id}, the {}, {changes}.", object.words())
    };
    objects
        .iter()
        .enumerate()
        .map(told)
        .collect::<Vec<_>>()
        .join(" ")
}

fn of(calls: &[Call], object: usize) -> impl Iterator<Item = &Call> {
    calls.iter().filter(move |call| call.object == object)
}

/// `blue to green`, `moved left`.
fn brief(objects: &[Object], call: &Call) -> String {
    match call.value.before(&objects[call.object]) {
        Some(before) => format!("{} to {}", before.name(), call.value.name()),
        None => format!("moved {}", call.value.name()),
    }
}

/// `changes its color from blue to green`, `moves to the left`.
fn clause(objects: &[Object], call: &Call) -> String {
    let attribute = match call.value {
        Value::Position(way) => return format!("moves {}", way.name().replace('_', " and ")),
        Value::Size(_) => "size",
        Value::Color(_) => "color",
        Value::Material(_) => "material",
        Value::Shape(_) => "shape",
    };
    format!("changes its {attribute} from {}", brief(objects, call))
}

#[cfg(test)]
mod tests {
    use super::super::super::attributes::{Color, Material, Shape, Size};
    use super::super::change::Direction;
    use super::*;

    fn objects() -> [Object; 2] {
        let object = |shape, color| Object {
            shape,
            size: Size::Small,
            color,
            material: Material::Metal,
            cell: (0, 0),
            aside: (0.0, 0.0),
        };
        [
            object(Shape::Cube, Color::Red),
            object(Shape::Sphere, Color::Blue),
        ]
    }

    fn calls() -> [Call; 2] {
        let left = Direction {
            right: -1,
            away: -1,
        };
        [
            Call {
                object: 1,
                value: Value::Color(Color::Green),
            },
            Call {
                object: 1,
                value: Value::Position(left),
            },
        ]
    }

    #[test]
    fn problems_list_tuples_in_the_order_of_the_prompt() {
        assert_eq!(
            problem(&objects()),
            "Initial objects: (0, 'cube', 'small', 'red', 'metal'), (1, 'sphere', 'small', 'blue', 'metal')."
        );
    }

    #[test]
    fn each_wording_by_hand() {
        let said = |difficulty, wording| reasoning(&objects(), &calls(), difficulty, wording);
        assert_eq!(
            said(Difficulty::Easy, Wording::Row),
            "- - - - small red - - - - to - - - - small red - small green - -: 1 blue to green, 1 moved front_left"
        );
        assert_eq!(
            said(Difficulty::Full, Wording::Row),
            "Object 0, the small red metal cube, stays the same. \
             Object 1, the small blue metal sphere, changes its color from blue to green and moves front and left."
        );
        assert_eq!(
            said(Difficulty::Easy, Wording::Terse),
            "object 1: blue to green; object 1: moved front_left"
        );
        let verbose = said(Difficulty::Full, Wording::Verbose);
        assert!(
            verbose.starts_with("I compare the two pictures. Object 0,"),
            "{verbose}"
        );
        assert!(
            verbose.ends_with(" So 2 functions are needed."),
            "{verbose}"
        );
    }
}
