//! What is done to the objects of a scene: Reason-RFT's five functions. It knows no picture and no wording.

use std::fmt;

use rand::Rng;
use rand::seq::IteratorRandom;

use super::super::attributes::{Color, Material, Shape, Size};
use super::function::Function;
use super::scene::{Cell, Object, Rules, pick};

/// A direction as the central camera sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Direction {
    /// -1 left, 1 right.
    pub right: i32,
    /// -1 front, 1 behind.
    pub away: i32,
}

/// The value of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    Size(Size),
    Color(Color),
    Material(Material),
    Shape(Shape),
    Position(Direction),
}

/// `func(object_id, value)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub object: usize,
    pub value: Value,
}

impl Direction {
    /// Every direction, or those along the grid.
    pub(super) fn all(diagonal: bool) -> impl Iterator<Item = Self> {
        let steps = [-1, 0, 1];
        let both = steps
            .into_iter()
            .flat_map(move |right| steps.map(|away| Self { right, away }));
        both.filter(move |way| match way.right.abs() + way.away.abs() {
            0 => false,
            1 => true,
            _ => diagonal,
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match (self.away, self.right) {
            (-1, -1) => "front_left",
            (-1, 0) => "front",
            (-1, _) => "front_right",
            (1, -1) => "behind_left",
            (1, 0) => "behind",
            (1, _) => "behind_right",
            (_, -1) => "left",
            _ => "right",
        }
    }

    /// The direction from one cell to another, if it is one of the eight.
    fn between(from: Cell, to: Cell) -> Option<Self> {
        let (x, y) = (to.0 - from.0, to.1 - from.1);
        let straight = x == 0 || y == 0 || x.abs() == y.abs();
        ((x, y) != (0, 0) && straight).then_some(Self {
            right: x.signum(),
            away: y.signum(),
        })
    }
}

impl Value {
    pub(super) const fn function(self) -> Function {
        match self {
            Self::Size(_) => Function::Size,
            Self::Color(_) => Function::Color,
            Self::Material(_) => Function::Material,
            Self::Shape(_) => Function::Shape,
            Self::Position(_) => Function::Position,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Size(size) => size.name(),
            Self::Color(color) => color.name(),
            Self::Material(material) => material.name(),
            Self::Shape(shape) => shape.name(),
            Self::Position(direction) => direction.name(),
        }
    }

    /// A value of the function at random.
    pub(super) fn draw(rng: &mut impl Rng, function: Function, rules: &Rules) -> Self {
        match function {
            Function::Size => Self::Size(pick(rng, rules.sizes)),
            Function::Color => Self::Color(pick(rng, rules.colors)),
            Function::Material => Self::Material(pick(rng, rules.materials)),
            Function::Shape => Self::Shape(pick(rng, rules.shapes)),
            Function::Position => {
                let way = Direction::all(rules.diagonal).choose(rng);
                Self::Position(way.expect("there are four directions at least"))
            }
        }
    }

    /// A value of any function at random; functions are equally frequent.
    pub(super) fn draw_any(rng: &mut impl Rng, rules: &Rules) -> Self {
        let function = pick(rng, rules.functions);
        Self::draw(rng, function, rules)
    }

    /// What the object has in place of the value; an object's place has no name.
    pub(super) const fn before(self, object: &Object) -> Option<Self> {
        match self {
            Self::Size(_) => Some(Self::Size(object.size)),
            Self::Color(_) => Some(Self::Color(object.color)),
            Self::Material(_) => Some(Self::Material(object.material)),
            Self::Shape(_) => Some(Self::Shape(object.shape)),
            Self::Position(_) => None,
        }
    }
}

impl Call {
    /// The key by which the calls of an answer stand in order.
    pub(super) fn order(&self) -> (usize, Function) {
        (self.object, self.value.function())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let function = self.value.function().name();
        write!(text, "{function}({}, '{}')", self.object, self.value.name())
    }
}

/// `change_size(0, 'small'), change_color(2, 'red')`.
pub(super) fn answer(calls: &[Call]) -> String {
    let calls: Vec<String> = calls.iter().map(Call::to_string).collect();
    calls.join(", ")
}

/// The objects after these calls, whatever stands in the way; a move goes one place far.
pub(super) fn after(objects: &[Object], calls: &[Call]) -> Vec<Object> {
    let mut after = objects.to_vec();
    for call in calls {
        change(&mut after[call.object], call.value, 1);
    }
    after
}

fn change(object: &mut Object, value: Value, steps: i32) {
    match value {
        Value::Size(size) => object.size = size,
        Value::Color(color) => object.color = color,
        Value::Material(material) => object.material = material,
        Value::Shape(shape) => object.shape = shape,
        Value::Position(way) => {
            object.cell.0 += steps * way.right;
            object.cell.1 += steps * way.away;
        }
    }
}

/// Draws changes of the objects, in the order of objects and functions, with the objects after them. What is drawn is
/// the only shortest explanation of what can be seen.
pub(super) fn draw(
    rng: &mut impl Rng,
    objects: &[Object],
    rules: &Rules,
) -> (Vec<Call>, Vec<Object>) {
    let count = rng.random_range(1..=rules.calls);
    loop {
        let (mut calls, mut after): (Vec<Call>, _) = (Vec::new(), objects.to_vec());
        for _ in 0..count {
            let call = Call {
                object: rng.random_range(0..objects.len()),
                value: Value::draw_any(rng, rules),
            };
            let is_new = calls.iter().all(|made| made.order() != call.order());
            let steps = rng.random_range(1..=rules.reach);
            if is_new && let Some(changed) = apply(&call, steps, &after, rules) {
                // A place that another object left would look as if that one had changed.
                let left = objects.iter().any(|object| object.cell == changed.cell);
                if call.value.function() != Function::Position || !left {
                    after[call.object] = changed;
                    calls.push(call);
                }
            }
        }
        calls.sort_by_key(Call::order);
        if calls.len() == count && is_only_explanation(objects, &after, count) {
            return (calls, after);
        }
    }
}

/// The object after the call; `None` if the call changes nothing or leads off the ground or into another object.
fn apply(call: &Call, steps: i32, objects: &[Object], rules: &Rules) -> Option<Object> {
    let mut object = objects[call.object];
    if call.value.before(&object) == Some(call.value) {
        return None;
    }
    change(&mut object, call.value, steps);
    let on_ground = object.cell.0.abs() <= rules.reach && object.cell.1.abs() <= rules.reach;
    let collides = |(index, other): (usize, &Object)| {
        index != call.object && (other.cell == object.cell || other.looks() == object.looks())
    };
    (on_ground && !objects.iter().enumerate().any(collides)).then_some(object)
}

/// Whether no other way to match the objects before with those after needs so few functions.
fn is_only_explanation(before: &[Object], after: &[Object], calls: usize) -> bool {
    explanations(before, after, 0, &mut vec![false; after.len()], calls) == 1
}

/// Ways to match the objects from `index` on with those not yet taken by at most `left` functions.
fn explanations(
    before: &[Object],
    after: &[Object],
    index: usize,
    taken: &mut [bool],
    left: usize,
) -> usize {
    let Some(object) = before.get(index) else {
        return 1;
    };
    let mut found = 0;
    for candidate in 0..after.len() {
        if taken[candidate] {
            continue;
        }
        if let Some(rest) =
            functions_between(object, &after[candidate]).and_then(|n| left.checked_sub(n))
        {
            taken[candidate] = true;
            found += explanations(before, after, index + 1, taken, rest);
            taken[candidate] = false;
        }
    }
    found
}

/// Functions that turn one object into the other; `None` if no single move leads from place to place.
fn functions_between(from: &Object, to: &Object) -> Option<usize> {
    let moves = usize::from(from.cell != to.cell);
    if moves == 1 {
        Direction::between(from.cell, to.cell)?;
    }
    let differ = [
        from.shape != to.shape,
        from.size != to.size,
        from.color != to.color,
        from.material != to.material,
    ];
    Some(moves + differ.into_iter().filter(|differs| *differs).count())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::super::family::Difficulty;
    use super::super::scene;
    use super::*;

    #[test]
    fn answers_are_written_as_reason_rft_writes_them() {
        let calls = [
            Call {
                object: 1,
                value: Value::Color(Color::Red),
            },
            Call {
                object: 2,
                value: Value::Position(Direction { right: 1, away: -1 }),
            },
        ];
        assert_eq!(
            answer(&calls),
            "change_color(1, 'red'), change_position(2, 'front_right')"
        );
        let names: Vec<_> = Direction::all(true).map(Direction::name).collect();
        for name in [
            "front",
            "behind",
            "left",
            "right",
            "front_left",
            "front_right",
            "behind_left",
            "behind_right",
        ] {
            assert!(names.contains(&name), "{name}");
        }
        assert_eq!((names.len(), Direction::all(false).count()), (8, 4));
    }

    #[test]
    fn the_calls_lead_from_the_objects_to_those_after() {
        for difficulty in Difficulty::ALL {
            let rules = Rules::of(difficulty);
            let mut counts = [0; 5];
            let mut functions = [0; 5];
            for seed in 0..400 {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let before = scene::draw(&mut rng, &rules, difficulty);
                let (calls, after) = draw(&mut rng, &before, &rules);
                counts[calls.len()] += 1;
                assert!(calls.is_sorted_by_key(Call::order), "{calls:?}");
                let changes: usize = before
                    .iter()
                    .zip(&after)
                    .map(|(a, b)| functions_between(a, b).unwrap())
                    .sum();
                assert_eq!(changes, calls.len());
                for call in &calls {
                    functions[call.value.function() as usize] += 1;
                    let (from, to) = (&before[call.object], &after[call.object]);
                    match call.value {
                        Value::Position(way) => {
                            assert_eq!(Direction::between(from.cell, to.cell), Some(way))
                        }
                        value => assert_eq!(value.before(to), Some(value)),
                    }
                }
            }
            assert!(
                counts[1..=rules.calls].iter().all(|count| *count > 70),
                "{counts:?}"
            );
            for function in Function::ALL {
                let (count, drawn) = (
                    functions[function as usize],
                    rules.functions.contains(&function),
                );
                assert!(if drawn { count > 30 } else { count == 0 }, "{functions:?}");
            }
        }
    }

    #[test]
    fn a_swap_of_looks_has_two_explanations() {
        let rules = Rules::of(Difficulty::Easy);
        let object = |color, cell| Object {
            shape: Shape::Cube,
            size: Size::Small,
            color,
            material: Material::Rubber,
            cell,
            aside: (0.0, 0.0),
        };
        let before = [object(Color::Red, (0, 0)), object(Color::Blue, (1, 0))];
        let moved = [object(Color::Red, (-1, 0)), object(Color::Blue, (1, 0))];
        let swapped = [object(Color::Blue, (0, 0)), object(Color::Red, (1, 0))];
        assert!(is_only_explanation(&before, &moved, 1));
        assert!(!is_only_explanation(&before, &swapped, 2));
        let call = Call {
            object: 0,
            value: Value::Position(Direction { right: 1, away: 0 }),
        };
        assert_eq!(apply(&call, 1, &before, &rules), None, "the place is taken");
    }
}
