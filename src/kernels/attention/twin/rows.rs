//! One row of scores at a time, over vector lanes: maximum, exponentials, gradients.
//!
//! Knows no tile and no head.

use std::ops::Range;

use super::LOWEST;
use crate::kernels::vector_math::{LANES, VectorTask, exp, run};

/// The largest value, [`LOWEST`] of none.
pub(super) fn highest(row: &[f32]) -> f32 {
    run(Highest(row))
}

/// Replaces a row by exp(x − shift) and gives the sum.
pub(super) fn exponentials(row: &mut [f32], shift: f32) -> f32 {
    run(Exponentials { row, shift })
}

/// Multiplies a row.
pub(super) fn scale(row: &mut [f32], factor: f32) {
    run(Scale { row, factor });
}

/// Zeros where a query does not see.
pub(super) fn hide(row: &mut [f32], visible: &Range<usize>) {
    row[..visible.start].fill(0.0);
    row[visible.end..].fill(0.0);
}

/// What the backward pass knows of a query and a head.
#[derive(Debug, Clone, Copy)]
pub(super) struct Statistics {
    pub lse: f32,
    /// Sum over E of the gradient to the output times the output.
    pub delta: f32,
    /// Of the scores.
    pub scale: f32,
}

impl Statistics {
    /// Replaces scores by their weights p = exp(s − lse), and the gradients to the weights by those to the scores before
    /// they were scaled: p (g − delta) · scale.
    pub fn differentiate(self, scores: &mut [f32], gradients: &mut [f32]) {
        run(ScoreGradients {
            scores,
            gradients,
            statistics: self,
        });
    }
}

struct Highest<'a>(&'a [f32]);

impl VectorTask for Highest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f32 {
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        let (blocks, rest) = self.0.as_chunks::<LANES>();
        let mut lanes = [LOWEST; LANES];
        for block in blocks {
            for lane in 0..LANES {
                lanes[lane] = larger(block[lane], lanes[lane]);
            }
        }
        lanes.iter().chain(rest).fold(LOWEST, |a, &b| larger(b, a))
    }
}

struct Exponentials<'a> {
    row: &'a mut [f32],
    shift: f32,
}

impl VectorTask for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f32 {
        let (blocks, rest) = self.row.as_chunks_mut::<LANES>();
        let mut sums = [0.0; LANES];
        for block in blocks {
            for lane in 0..LANES {
                block[lane] = exp::<FMA>(block[lane] - self.shift);
                sums[lane] += block[lane];
            }
        }
        let mut total: f32 = sums.iter().sum();
        for value in rest {
            *value = exp::<FMA>(*value - self.shift);
            total += *value;
        }
        total
    }
}

struct Scale<'a> {
    row: &'a mut [f32],
    factor: f32,
}

impl VectorTask for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for value in self.row {
            *value *= self.factor;
        }
    }
}

struct ScoreGradients<'a> {
    scores: &'a mut [f32],
    gradients: &'a mut [f32],
    statistics: Statistics,
}

impl VectorTask for ScoreGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Statistics { lse, delta, scale } = self.statistics;
        let one = |score: &mut f32, gradient: &mut f32| {
            *score = exp::<FMA>(*score - lse);
            *gradient = *score * (*gradient - delta) * scale;
        };
        let (score_blocks, score_rest) = self.scores.as_chunks_mut::<LANES>();
        let (blocks, rest) = self.gradients.as_chunks_mut::<LANES>();
        for (scores, gradients) in score_blocks.iter_mut().zip(blocks) {
            for lane in 0..LANES {
                one(&mut scores[lane], &mut gradients[lane]);
            }
        }
        for (score, gradient) in score_rest.iter_mut().zip(rest) {
            one(score, gradient);
        }
    }
}
