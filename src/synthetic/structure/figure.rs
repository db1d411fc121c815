//! The diagram of each kind of problem, true to its numbers. It knows no pixel.

use super::kind::Kind;
use super::mark::{Mark, Point, UNKNOWN, angle, degrees, length, meet, polar, triangle};

impl Kind {
    /// The marks of the diagram that shows these numbers.
    pub(super) fn figure(self, values: &[u32]) -> Vec<Mark> {
        let value = |index: usize| values[index] as f32;
        match self {
            Self::TriangleAngles
            | Self::IsoscelesTriangle
            | Self::RightTriangle
            | Self::ExteriorAngle => self.triangle(values),
            Self::CorrespondingAngles | Self::AlternateAngles | Self::CointeriorAngles => {
                self.parallels(values[0])
            }
            Self::LinearPair | Self::VerticalAngles => self.crossing(values[0]),
            Self::InscribedAngle | Self::Semicircle | Self::CircleArea | Self::Tangent => {
                self.on_a_circle(values[0])
            }
            Self::QuadrilateralAngles => {
                let (a, b) = ((0.0, 0.0), (1.0, 0.0));
                let d = polar(a, value(0), 0.85);
                let c = meet((d, value(0) - 180.0 + value(2)), (b, 180.0 - value(1)));
                vec![
                    Mark::Polygon(vec![a, b, c, d]),
                    angle(a, [b, d], degrees(values[0])),
                    angle(b, [a, c], degrees(values[1])),
                    angle(d, [a, c], degrees(values[2])),
                    angle(c, [b, d], UNKNOWN),
                ]
            }
            Self::Parallelogram => {
                let (a, b) = ((0.0, 0.0), (1.3, 0.0));
                let d = polar(a, value(0), 0.85);
                let c = (d.0 + 1.3, d.1);
                vec![
                    Mark::Polygon(vec![a, b, c, d]),
                    angle(a, [b, d], degrees(values[0])),
                    angle(b, [a, c], UNKNOWN),
                ]
            }
            Self::RegularPolygon => {
                let turn = 360.0 / value(0);
                let corner = |index: u32| polar((0.0, 0.0), 90.0 + turn * index as f32, 1.0);
                let corners: Vec<Point> = (0..values[0]).map(corner).collect();
                let sides = [corners[1], corners[corners.len() - 1]];
                let x = angle(corners[0], sides, UNKNOWN);
                vec![Mark::Polygon(corners), x]
            }
            _ => self.with_lengths(values),
        }
    }

    /// A triangle whose angles are given and asked for.
    fn triangle(self, values: &[u32]) -> Vec<Mark> {
        let value = |index: usize| values[index] as f32;
        match self {
            Self::IsoscelesTriangle => {
                let base = (180.0 - value(0)) / 2.0;
                let [a, b, c] = triangle(base, base);
                vec![
                    Mark::Polygon(vec![a, b, c]),
                    Mark::Tick([a, c]),
                    Mark::Tick([b, c]),
                    angle(c, [a, b], degrees(values[0])),
                    angle(a, [b, c], UNKNOWN),
                ]
            }
            Self::RightTriangle => {
                let [a, b, c] = triangle(value(0), 90.0);
                vec![
                    Mark::Polygon(vec![a, b, c]),
                    Mark::RightAngle {
                        at: b,
                        sides: [a, c],
                    },
                    angle(a, [b, c], degrees(values[0])),
                    angle(c, [a, b], UNKNOWN),
                ]
            }
            Self::ExteriorAngle => {
                let [a, b, c] = triangle(value(0), 180.0 - value(0) - value(1));
                let end = (1.55, 0.0);
                vec![
                    Mark::Polygon(vec![a, b, c]),
                    Mark::Line(vec![b, end]),
                    angle(a, [b, c], degrees(values[0])),
                    angle(c, [a, b], degrees(values[1])),
                    angle(b, [end, c], UNKNOWN),
                ]
            }
            _ => {
                let [a, b, c] = triangle(value(0), value(1));
                vec![
                    Mark::Polygon(vec![a, b, c]),
                    angle(a, [b, c], degrees(values[0])),
                    angle(b, [a, c], degrees(values[1])),
                    angle(c, [a, b], UNKNOWN),
                ]
            }
        }
    }

    /// Two parallel lines and one that crosses both.
    fn parallels(self, given: u32) -> Vec<Mark> {
        let slope = match self {
            Self::CointeriorAngles => 180.0 - given as f32,
            _ => given as f32,
        };
        let lean = 0.7 / slope.to_radians().tan();
        let (low, high) = ((-lean, -0.7), (lean, 0.7));
        let (up, down) = (polar(high, slope, 0.4), polar(low, slope + 180.0, 0.4));
        let along = |point: Point, distance: f32| (point.0 + distance, point.1);
        let span = 1.05;
        let (left, right) = ((-span, 0.7), (span, 0.7));
        let sides = match self {
            Self::CorrespondingAngles => [along(high, 1.0), up],
            Self::AlternateAngles => [along(high, -1.0), low],
            _ => [along(high, 1.0), low],
        };
        vec![
            Mark::Line(vec![left, right]),
            Mark::Line(vec![(-span, -0.7), (span, -0.7)]),
            Mark::Arrow([(-span, 0.7), (-0.4, 0.7)]),
            Mark::Arrow([(-span, -0.7), (-0.4, -0.7)]),
            Mark::Line(vec![down, up]),
            angle(high, sides, degrees(given)),
            angle(low, [along(low, 1.0), high], UNKNOWN),
        ]
    }

    /// Angles at one point of a line.
    fn crossing(self, given: u32) -> Vec<Mark> {
        let (middle, slope) = ((0.0, 0.0), given as f32);
        let (left, right) = ((-1.0, 0.0), (1.0, 0.0));
        let (up, down) = (polar(middle, slope, 0.9), polar(middle, slope + 180.0, 0.9));
        let is_ray = self == Self::LinearPair;
        let other = if is_ray {
            vec![middle, up]
        } else {
            vec![down, up]
        };
        let unknown = if is_ray { [left, up] } else { [left, down] };
        vec![
            Mark::Line(vec![left, right]),
            Mark::Line(other),
            angle(middle, [right, up], degrees(given)),
            angle(middle, unknown, UNKNOWN),
        ]
    }

    fn on_a_circle(self, given: u32) -> Vec<Mark> {
        let (middle, value) = ((0.0, 0.0), given as f32);
        let on = |direction: f32| polar(middle, direction, 1.0);
        let mut marks = vec![Mark::Circle(middle, 1.0)];
        match self {
            Self::InscribedAngle => {
                let (a, b, top) = (on(270.0 - value / 2.0), on(270.0 + value / 2.0), on(98.0));
                marks.extend([
                    Mark::Dot(middle),
                    Mark::Line(vec![a, middle, b]),
                    Mark::Line(vec![a, top, b]),
                    angle(middle, [a, b], degrees(given)),
                    angle(top, [a, b], UNKNOWN),
                ]);
            }
            Self::Semicircle => {
                let (a, b, top) = (on(180.0), on(0.0), on(2.0 * value));
                marks.extend([
                    Mark::Dot(middle),
                    Mark::Polygon(vec![a, b, top]),
                    angle(a, [b, top], degrees(given)),
                    angle(b, [a, top], UNKNOWN),
                ]);
            }
            Self::Tangent => {
                let (touch, far) = (on(270.0), (value.to_radians().tan(), -1.0));
                marks.extend([
                    Mark::Polygon(vec![middle, touch, far]),
                    Mark::Line(vec![(-0.9, -1.0), (far.0 + 0.25, -1.0)]),
                    Mark::RightAngle {
                        at: touch,
                        sides: [middle, far],
                    },
                    angle(middle, [touch, far], degrees(given)),
                    angle(far, [touch, middle], UNKNOWN),
                ]);
            }
            _ => marks.extend([
                Mark::Dot(middle),
                Mark::Line(vec![middle, on(0.0)]),
                length([middle, on(0.0)], (0.0, -1.0), given),
            ]),
        }
        marks
    }

    fn with_lengths(self, values: &[u32]) -> Vec<Mark> {
        let (first, last) = (values[0] as f32, values[values.len() - 1] as f32);
        let origin = (0.0, 0.0);
        match self {
            Self::TriangleArea => {
                let (b, foot, top) = ((first, 0.0), (0.4 * first, 0.0), (0.4 * first, last));
                vec![
                    Mark::Polygon(vec![origin, b, top]),
                    Mark::Line(vec![foot, top]),
                    Mark::RightAngle {
                        at: foot,
                        sides: [b, top],
                    },
                    length([origin, b], top, values[0]),
                    length([foot, top], origin, values[1]),
                ]
            }
            Self::Hypotenuse => {
                let (b, top) = ((last, 0.0), (0.0, first));
                let (ends, text) = ([b, top], UNKNOWN.to_owned());
                vec![
                    Mark::Polygon(vec![origin, b, top]),
                    Mark::RightAngle {
                        at: origin,
                        sides: [b, top],
                    },
                    length([origin, top], b, values[0]),
                    length([origin, b], top, values[1]),
                    Mark::Length {
                        ends,
                        away_from: origin,
                        text,
                    },
                ]
            }
            Self::TrapezoidArea => {
                let (right, top_right, top) = ((values[1] as f32, 0.0), (first, last), (0.0, last));
                vec![
                    Mark::Polygon(vec![origin, right, top_right, top]),
                    Mark::RightAngle {
                        at: origin,
                        sides: [right, top],
                    },
                    Mark::RightAngle {
                        at: top,
                        sides: [origin, top_right],
                    },
                    length([top, top_right], origin, values[0]),
                    length([origin, right], top, values[1]),
                    length([origin, top], right, values[2]),
                ]
            }
            Self::SimilarTriangles => similar_triangles(values),
            _ => {
                let (width, height) = (first, last);
                let (b, c, d) = ((width, 0.0), (width, height), (0.0, height));
                let mut marks = vec![Mark::Polygon(vec![origin, b, c, d])];
                marks.push(length([origin, b], c, values[0]));
                if values.len() > 1 {
                    marks.push(length([b, c], d, values[1]));
                } else {
                    let sides = [[origin, b], [b, c], [c, d], [d, origin]];
                    marks.extend(sides.map(Mark::Tick));
                }
                marks
            }
        }
    }
}

/// Left a triangle with the first two sides, right its enlargement with the third and the unknown one.
fn similar_triangles(values: &[u32]) -> Vec<Mark> {
    let (side, base, large) = (values[0] as f32, values[1] as f32, values[2] as f32);
    let mut marks = Vec::new();
    // Drawn less enlarged than it is where the small one would become too small to read.
    let ratio = (large / base).min(2.0);
    let gap = 0.55 * base;
    for (start, scale) in [(0.0, 1.0), (base + gap, ratio)] {
        let (a, b) = ((start, 0.0), (start + scale * base, 0.0));
        let c = polar(a, 72.0, scale * side.max(0.6 * base));
        let is_small = scale == 1.0;
        let text = if is_small {
            values[0].to_string()
        } else {
            UNKNOWN.to_owned()
        };
        marks.extend([
            Mark::Polygon(vec![a, b, c]),
            length([a, b], c, if is_small { values[1] } else { values[2] }),
            Mark::Length {
                ends: [a, c],
                away_from: b,
                text,
            },
        ]);
    }
    marks
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::super::family::{Difficulty, Split};
    use super::*;

    fn between(at: Point, [a, b]: [Point; 2]) -> f32 {
        let direction = |to: Point| (to.1 - at.1).atan2(to.0 - at.0).to_degrees();
        let turn = (direction(a) - direction(b)).rem_euclid(360.0);
        turn.min(360.0 - turn)
    }

    #[test]
    fn every_angle_of_every_figure_is_as_large_as_it_says() {
        for split in [Split::Train, Split::TestOod] {
            for kind in Kind::of(split, Difficulty::Full) {
                for seed in 0..100 {
                    let values =
                        kind.values(&mut ChaCha8Rng::seed_from_u64(seed), Difficulty::Full);
                    let (_, result) = kind.sum(&values);
                    let mut unknown = 0;
                    for mark in kind.figure(&values) {
                        match mark {
                            Mark::Angle { at, sides, text } => {
                                let stated = text
                                    .strip_suffix('°')
                                    .map_or(result as f32, |text| text.parse().unwrap());
                                unknown += usize::from(text == UNKNOWN);
                                assert!(
                                    (between(at, sides) - stated).abs() < 0.1,
                                    "{kind:?} {values:?} {text}"
                                );
                            }
                            Mark::RightAngle { at, sides } => {
                                assert!(
                                    (between(at, sides) - 90.0).abs() < 0.1,
                                    "{kind:?} {values:?}"
                                );
                            }
                            Mark::Length { text, .. } => unknown += usize::from(text == UNKNOWN),
                            _ => {}
                        }
                    }
                    assert_eq!(
                        unknown,
                        usize::from(kind.question().contains(" x")),
                        "{kind:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_number_of_the_sum_can_be_seen() {
        for split in [Split::Train, Split::TestOod] {
            for kind in Kind::of(split, Difficulty::Full)
                .iter()
                .filter(|kind| **kind != Kind::RegularPolygon)
            {
                let values = kind.values(&mut ChaCha8Rng::seed_from_u64(5), Difficulty::Full);
                let texts: Vec<String> = kind
                    .figure(&values)
                    .into_iter()
                    .filter_map(|mark| match mark {
                        Mark::Angle { text, .. } | Mark::Length { text, .. } => {
                            Some(text.trim_end_matches('°').to_owned())
                        }
                        _ => None,
                    })
                    .collect();
                assert!(
                    values
                        .iter()
                        .all(|value| texts.contains(&value.to_string())),
                    "{kind:?} {texts:?}"
                );
            }
        }
    }
}
