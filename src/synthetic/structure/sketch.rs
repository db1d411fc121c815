//! Diagrams that are not to scale, as in many school books: one shape per kind with the problem's numbers beside it, so that
//! the numbers must be read. It knows no pixel.

use super::kind::Kind;
use super::mark::{Mark, UNKNOWN, degrees};

impl Kind {
    /// The marks of the easy problem's diagram: the figure of typical numbers, with the texts of these.
    pub(super) fn sketch(self, values: &[u32]) -> Vec<Mark> {
        let mut marks = self.figure(&self.typical(values));
        let mut values = values.iter();
        for mark in &mut marks {
            match mark {
                Mark::Angle { text, .. } if text != UNKNOWN => {
                    values
                        .next()
                        .into_iter()
                        .for_each(|value| *text = degrees(*value));
                }
                Mark::Length { text, .. } if text != UNKNOWN => {
                    values
                        .next()
                        .into_iter()
                        .for_each(|value| *text = value.to_string());
                }
                _ => {}
            }
        }
        marks
    }

    /// Numbers whose figure stands for all figures of the kind; only acute, right and obtuse angles look different.
    fn typical(self, values: &[u32]) -> Vec<u32> {
        match self {
            Self::TriangleAngles => vec![65, 60],
            Self::InscribedAngle => vec![100],
            Self::RectangleArea | Self::RectanglePerimeter => vec![6, 4],
            Self::RightTriangle => vec![40],
            Self::SquarePerimeter => vec![5],
            Self::CorrespondingAngles
            | Self::AlternateAngles
            | Self::CointeriorAngles
            | Self::LinearPair
            | Self::VerticalAngles => {
                let angle = values[0];
                vec![if angle == 90 {
                    90
                } else if angle < 90 {
                    60
                } else {
                    120
                }]
            }
            _ => values.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::super::super::family::{Difficulty, Split};
    use super::*;

    #[test]
    fn every_number_stands_where_the_true_figure_has_it() {
        for split in [Split::Train, Split::TestOod] {
            for kind in Kind::of(split, Difficulty::Easy) {
                for seed in 0..50 {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    let values = kind.values(&mut rng, Difficulty::Easy);
                    assert_eq!(texts(&kind.sketch(&values)), texts(&kind.figure(&values)));
                }
            }
        }
    }

    #[test]
    fn the_shape_tells_nothing_but_acute_or_obtuse() {
        let shape = |kind: Kind, values: &[u32]| {
            let marks = kind.sketch(values);
            marks
                .into_iter()
                .filter(|mark| !matches!(mark, Mark::Angle { .. } | Mark::Length { .. }))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shape(Kind::RectangleArea, &[9, 3]),
            shape(Kind::RectangleArea, &[4, 4])
        );
        assert_eq!(
            shape(Kind::TriangleAngles, &[40, 100]),
            shape(Kind::TriangleAngles, &[80, 50])
        );
        assert_eq!(
            shape(Kind::AlternateAngles, &[50]),
            shape(Kind::AlternateAngles, &[80])
        );
        assert_ne!(
            shape(Kind::AlternateAngles, &[50]),
            shape(Kind::AlternateAngles, &[130])
        );
    }

    fn texts(marks: &[Mark]) -> Vec<String> {
        let text = |mark: &Mark| match mark {
            Mark::Angle { text, .. } | Mark::Length { text, .. } => Some(text.clone()),
            _ => None,
        };
        marks.iter().filter_map(text).collect()
    }
}
