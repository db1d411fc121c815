//! The kinds of geometry problem: their numbers, questions, rules and sums. It draws no diagram.

use rand::Rng;
use rand::seq::IndexedRandom;

use super::super::family::{Difficulty, Split};

/// One kind of problem; the order of a kind's numbers is that of its sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    TriangleAngles,
    CorrespondingAngles,
    AlternateAngles,
    CointeriorAngles,
    InscribedAngle,
    RectangleArea,
    RectanglePerimeter,
    TriangleArea,
    IsoscelesTriangle,
    ExteriorAngle,
    Semicircle,
    Hypotenuse,
    CircleArea,
    // From here on out of domain.
    LinearPair,
    VerticalAngles,
    RightTriangle,
    SquarePerimeter,
    QuadrilateralAngles,
    Parallelogram,
    TrapezoidArea,
    SimilarTriangles,
    Tangent,
    RegularPolygon,
}

use Kind::{
    AlternateAngles, CircleArea, CointeriorAngles, CorrespondingAngles, ExteriorAngle, Hypotenuse,
    InscribedAngle, IsoscelesTriangle, LinearPair, Parallelogram, QuadrilateralAngles,
    RectangleArea, RectanglePerimeter, RegularPolygon, RightTriangle, Semicircle, SimilarTriangles,
    SquarePerimeter, Tangent, TrapezoidArea, TriangleAngles, TriangleArea, VerticalAngles,
};

const IN_DOMAIN: &[Kind] = &[
    TriangleAngles,
    CorrespondingAngles,
    AlternateAngles,
    CointeriorAngles,
    InscribedAngle,
    RectangleArea,
    RectanglePerimeter,
    TriangleArea,
    IsoscelesTriangle,
    ExteriorAngle,
    Semicircle,
    Hypotenuse,
    CircleArea,
];
const OUT_OF_DOMAIN: &[Kind] = &[
    LinearPair,
    VerticalAngles,
    RightTriangle,
    SquarePerimeter,
    QuadrilateralAngles,
    Parallelogram,
    TrapezoidArea,
    SimilarTriangles,
    Tangent,
    RegularPolygon,
];
/// How many of the kinds in each list the easy problems have.
const EASY: (usize, usize) = (7, 4);

/// Right triangles with whole sides.
const TRIPLES: [(u32, u32); 8] = [
    (3, 4),
    (6, 8),
    (5, 12),
    (9, 12),
    (8, 15),
    (12, 16),
    (7, 24),
    (15, 20),
];

impl Kind {
    /// The kinds of a split.
    pub(super) fn of(split: Split, difficulty: Difficulty) -> &'static [Self] {
        let (kinds, easy) = if split == Split::TestOod {
            (OUT_OF_DOMAIN, EASY.1)
        } else {
            (IN_DOMAIN, EASY.0)
        };
        match difficulty {
            Difficulty::Easy => &kinds[..easy],
            Difficulty::Full => kinds,
        }
    }

    /// The name in rows.
    pub(super) const fn name(self) -> &'static str {
        match self {
            TriangleAngles => "triangle_angles",
            CorrespondingAngles => "corresponding_angles",
            AlternateAngles => "alternate_angles",
            CointeriorAngles => "cointerior_angles",
            InscribedAngle => "inscribed_angle",
            RectangleArea => "rectangle_area",
            RectanglePerimeter => "rectangle_perimeter",
            TriangleArea => "triangle_area",
            IsoscelesTriangle => "isosceles_triangle",
            ExteriorAngle => "exterior_angle",
            Semicircle => "semicircle",
            Hypotenuse => "hypotenuse",
            CircleArea => "circle_area",
            LinearPair => "linear_pair",
            VerticalAngles => "vertical_angles",
            RightTriangle => "right_triangle",
            SquarePerimeter => "square_perimeter",
            QuadrilateralAngles => "quadrilateral_angles",
            Parallelogram => "parallelogram",
            TrapezoidArea => "trapezoid_area",
            SimilarTriangles => "similar_triangles",
            Tangent => "tangent",
            RegularPolygon => "regular_polygon",
        }
    }

    /// The question; no number of the diagram stands in it.
    pub(super) const fn question(self) -> &'static str {
        match self {
            TriangleAngles => "Find the angle x of the triangle.",
            CorrespondingAngles | AlternateAngles | CointeriorAngles => {
                "The two lines are parallel. Find the angle x."
            }
            InscribedAngle => "Find the angle x on the circle.",
            RectangleArea => "Find the area of the rectangle.",
            RectanglePerimeter => "Find the perimeter of the rectangle.",
            TriangleArea => "Find the area of the triangle.",
            IsoscelesTriangle => "The marked sides are equal. Find the angle x.",
            ExteriorAngle => "One side of the triangle is extended. Find the angle x.",
            Semicircle => "One side of the triangle is a diameter. Find the angle x.",
            Hypotenuse => "Find the side x of the right triangle.",
            CircleArea => "Find the area of the circle. Use 3.14 for pi.",
            LinearPair => "The angles stand on a straight line. Find the angle x.",
            VerticalAngles => "Two lines cross. Find the angle x.",
            RightTriangle => "Find the angle x of the right triangle.",
            SquarePerimeter => "Find the perimeter of the square.",
            QuadrilateralAngles => "Find the angle x of the quadrilateral.",
            Parallelogram => "Find the angle x of the parallelogram.",
            TrapezoidArea => "Find the area of the trapezoid.",
            SimilarTriangles => "The two triangles are similar. Find the side x.",
            Tangent => "The line touches the circle. Find the angle x.",
            RegularPolygon => "All sides and angles are equal. Find the angle x.",
        }
    }

    /// The sentence that the sum rests on.
    pub(super) const fn rule(self) -> &'static str {
        match self {
            TriangleAngles => "The angles of a triangle add up to 180.",
            CorrespondingAngles => "Corresponding angles at parallel lines are equal.",
            AlternateAngles => "Alternate angles at parallel lines are equal.",
            CointeriorAngles => "Angles on one side between parallel lines add up to 180.",
            InscribedAngle => "An inscribed angle is half of the central angle.",
            RectangleArea => "The area is length times width.",
            RectanglePerimeter => "The perimeter is twice the sum of length and width.",
            TriangleArea => "The area is half of base times height.",
            IsoscelesTriangle => "The two base angles are equal.",
            ExteriorAngle => "An exterior angle is the sum of the two opposite angles.",
            Semicircle => "The angle on a diameter is 90.",
            Hypotenuse => "The squares of the short sides add up to that of the long side.",
            CircleArea => "The area is pi times the squared radius.",
            LinearPair => "Angles on a straight line add up to 180.",
            VerticalAngles => "Vertical angles are equal.",
            RightTriangle => "The acute angles of a right triangle add up to 90.",
            SquarePerimeter => "A square has four equal sides.",
            QuadrilateralAngles => "The angles of a quadrilateral add up to 360.",
            Parallelogram => "Neighbouring angles of a parallelogram add up to 180.",
            TrapezoidArea => "The area is half of the sum of the parallel sides times the height.",
            SimilarTriangles => "Sides of similar triangles have the same ratio.",
            Tangent => "A tangent is perpendicular to the radius.",
            RegularPolygon => "The angles of n equal sides add up to (n - 2) times 180.",
        }
    }

    /// The left side of the sum and its value.
    pub(super) fn sum(self, values: &[u32]) -> (String, f64) {
        let number = |index: usize| f64::from(values[index]);
        let (first, last) = (values[0], values[values.len() - 1]);
        let (a, b) = (number(0), number(values.len() - 1));
        match self {
            TriangleAngles => (format!("180 - {first} - {last}"), 180.0 - a - b),
            CorrespondingAngles | AlternateAngles | VerticalAngles => ("x".into(), a),
            CointeriorAngles | LinearPair | Parallelogram => (format!("180 - {first}"), 180.0 - a),
            InscribedAngle => (format!("{first} / 2"), a / 2.0),
            RectangleArea => (format!("{first} * {last}"), a * b),
            RectanglePerimeter => (format!("2 * ({first} + {last})"), 2.0 * (a + b)),
            TriangleArea => (format!("{first} * {last} / 2"), a * b / 2.0),
            IsoscelesTriangle => (format!("(180 - {first}) / 2"), (180.0 - a) / 2.0),
            ExteriorAngle => (format!("{first} + {last}"), a + b),
            Semicircle | RightTriangle | Tangent => (format!("90 - {first}"), 90.0 - a),
            Hypotenuse => {
                let squares = a * a + b * b;
                (format!("root of {first}^2 + {last}^2"), squares.sqrt())
            }
            CircleArea => (format!("3.14 * {first} * {first}"), 314.0 * a * a / 100.0),
            SquarePerimeter => (format!("4 * {first}"), 4.0 * a),
            QuadrilateralAngles => {
                let middle = values[1];
                let rest = 360.0 - a - number(1) - b;
                (format!("360 - {first} - {middle} - {last}"), rest)
            }
            TrapezoidArea => {
                let middle = values[1];
                let area = (a + number(1)) * b / 2.0;
                (format!("({first} + {middle}) * {last} / 2"), area)
            }
            SimilarTriangles => {
                let middle = values[1];
                (format!("{first} * {last} / {middle}"), a * b / number(1))
            }
            RegularPolygon => (
                format!("({first} - 2) * 180 / {first}"),
                (a - 2.0) * 180.0 / a,
            ),
        }
    }

    /// Steps of the sum.
    pub(super) const fn level(self) -> usize {
        match self {
            CorrespondingAngles | AlternateAngles | VerticalAngles | CointeriorAngles
            | LinearPair | Parallelogram | InscribedAngle | RectangleArea | ExteriorAngle
            | Semicircle | RightTriangle | Tangent | SquarePerimeter => 1,
            TriangleAngles | RectanglePerimeter | TriangleArea | IsoscelesTriangle | CircleArea
            | SimilarTriangles => 2,
            Hypotenuse | QuadrilateralAngles | TrapezoidArea | RegularPolygon => 3,
        }
    }

    /// Whether its numbers are angles.
    pub(super) const fn is_angle(self) -> bool {
        !matches!(
            self,
            RectangleArea
                | RectanglePerimeter
                | TriangleArea
                | Hypotenuse
                | CircleArea
                | SquarePerimeter
                | TrapezoidArea
                | SimilarTriangles
                | RegularPolygon
        )
    }

    /// Draws the numbers that the diagram shows.
    pub(super) fn values(self, rng: &mut impl Rng, difficulty: Difficulty) -> Vec<u32> {
        let easy = difficulty == Difficulty::Easy;
        let step = if easy { 10 } else { 1 };
        let mut angle = |low: u32, high: u32| step * rng.random_range(low / step..=high / step);
        match self {
            TriangleAngles => {
                let least = if easy { 40 } else { 30 };
                let first = angle(least, 140 - least);
                let last = angle(least, 180 - least - first);
                vec![first, last]
            }
            CorrespondingAngles | AlternateAngles | CointeriorAngles | LinearPair
            | VerticalAngles => vec![angle(50, 130)],
            InscribedAngle => vec![if easy {
                angle(60, 160)
            } else {
                2 * angle(30, 80)
            }],
            IsoscelesTriangle => vec![2 * angle(20, 60)],
            ExteriorAngle => vec![angle(35, 75), angle(35, 75)],
            Semicircle | RightTriangle | Tangent => vec![angle(30, 60)],
            QuadrilateralAngles => {
                let (first, last) = (angle(70, 110), angle(70, 110));
                vec![first, angle(75, 105), last]
            }
            Parallelogram => vec![angle(50, 80)],
            _ => self.lengths(rng, easy),
        }
    }

    fn lengths(self, rng: &mut impl Rng, easy: bool) -> Vec<u32> {
        let most = if easy { 9 } else { 20 };
        let mut length = |low: u32, high: u32| rng.random_range(low..=high);
        match self {
            RectangleArea | RectanglePerimeter => {
                let width = length(3, most);
                vec![width, length(width.div_ceil(3).max(2), width)]
            }
            TriangleArea => {
                let base = 2 * length(2, most / 2);
                vec![base, length(base.div_ceil(2).max(2), base)]
            }
            Hypotenuse => {
                let (a, b) = *TRIPLES.choose(rng).expect("there are some");
                vec![a, b]
            }
            CircleArea => vec![length(2, 10)],
            TrapezoidArea => {
                let (short, height) = (length(3, 9), 2 * length(2, 4));
                vec![short, short + length(2, 6), height]
            }
            SimilarTriangles => {
                let (side, base) = (length(2, 6), length(3, 7));
                vec![side, base, base * length(2, 3)]
            }
            RegularPolygon => vec![[5, 6, 8, 9, 10][length(0, 4) as usize]],
            _ => vec![length(2, most)],
        }
    }
}

/// A number as it is written: whole, or with at most two digits after the point.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn sums_by_hand() {
        let cases: [(Kind, &[u32], &str, &str); 21] = [
            (TriangleAngles, &[50, 60], "180 - 50 - 60", "70"),
            (AlternateAngles, &[70], "x", "70"),
            (CointeriorAngles, &[70], "180 - 70", "110"),
            (InscribedAngle, &[90], "90 / 2", "45"),
            (RectangleArea, &[6, 4], "6 * 4", "24"),
            (RectanglePerimeter, &[6, 4], "2 * (6 + 4)", "20"),
            (TriangleArea, &[6, 5], "6 * 5 / 2", "15"),
            (IsoscelesTriangle, &[40], "(180 - 40) / 2", "70"),
            (ExteriorAngle, &[40, 65], "40 + 65", "105"),
            (Semicircle, &[37], "90 - 37", "53"),
            (Hypotenuse, &[5, 12], "root of 5^2 + 12^2", "13"),
            (CircleArea, &[3], "3.14 * 3 * 3", "28.26"),
            (LinearPair, &[70], "180 - 70", "110"),
            (VerticalAngles, &[70], "x", "70"),
            (RightTriangle, &[40], "90 - 40", "50"),
            (SquarePerimeter, &[7], "4 * 7", "28"),
            (
                QuadrilateralAngles,
                &[80, 90, 100],
                "360 - 80 - 90 - 100",
                "90",
            ),
            (Parallelogram, &[65], "180 - 65", "115"),
            (TrapezoidArea, &[4, 6, 5], "(4 + 6) * 5 / 2", "25"),
            (SimilarTriangles, &[3, 4, 8], "3 * 8 / 4", "6"),
            (RegularPolygon, &[5], "(5 - 2) * 180 / 5", "108"),
        ];
        for (kind, values, left, result) in cases {
            let (text, value) = kind.sum(values);
            assert_eq!(
                (text.as_str(), number(value).as_str()),
                (left, result),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn numbers_are_possible_and_results_have_two_digits_at_most() {
        for (split, difficulty) in [
            (Split::Train, Difficulty::Easy),
            (Split::Train, Difficulty::Full),
            (Split::TestOod, Difficulty::Easy),
            (Split::TestOod, Difficulty::Full),
        ] {
            for kind in Kind::of(split, difficulty) {
                for seed in 0..300 {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    let values = kind.values(&mut rng, difficulty);
                    let (_, result) = kind.sum(&values);
                    assert!(
                        result >= 2.0
                            && number(result).parse::<f64>()
                                == Ok((result * 100.0).round() / 100.0)
                    );
                    if kind.is_angle() {
                        assert!((15.0..=150.0).contains(&result), "{kind:?} {values:?}");
                    }
                    if difficulty == Difficulty::Easy {
                        assert!(
                            result <= 160.0 && result.fract() == 0.0,
                            "{kind:?} {values:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn no_kind_is_in_both_domains() {
        let (inside, outside) = (
            Kind::of(Split::Train, Difficulty::Full),
            Kind::of(Split::TestOod, Difficulty::Full),
        );
        assert!(inside.iter().all(|kind| !outside.contains(kind)));
        assert_eq!(Kind::of(Split::Test, Difficulty::Full), inside);
        let names: std::collections::HashSet<_> = inside
            .iter()
            .chain(outside)
            .map(|kind| kind.name())
            .collect();
        assert_eq!(names.len(), 23);
    }
}
