//! The product for few rows of x, as in decoding: the weights are read once for all of them, and reading them is the work.
//! It knows no tensors.

use std::ops::Range;

use rayon::prelude::*;

use super::decode::Row;
use super::storage::Stored;
use super::{FrozenMatrix, Storage};
use crate::kernels::product::{ResultPart, ResultParts};
use crate::kernels::vector_math::{LANES, VectorTask, multiply_add, run};

/// Most rows of x for which this beats the product of decoded chunks.
pub(super) const FEW_ROWS: usize = 16;

/// Most rows of x for which decoding bf16 once more is cheaper than a store and a load of the decoded values.
const TWICE: usize = 2;
/// Columns that are decoded at a time: 8 KiB stay in the first cache.
const PIECE: usize = 2048;
/// Weights that are worth a task.
const TASK_VALUES: usize = 1 << 16;

/// `result [n, rows] = x [n, in] · W[rows]ᵀ` for n up to [`FEW_ROWS`].
pub(super) fn linear(x: &[f32], weight: &FrozenMatrix, rows: Range<usize>, result: &mut [f32]) {
    let [_, width] = weight.shape();
    let count = x.len() / width.max(1);
    if count == 0 {
        return;
    }
    let per_task = (TASK_VALUES / width).max(1);
    ResultParts::new(result, [count, rows.len()])
        .tiles([count, per_task])
        .into_par_iter()
        .enumerate()
        .for_each_init(
            || vec![0.0; PIECE],
            |scratch, (index, part)| {
                run(Task {
                    x,
                    weight: weight.stored(),
                    first: rows.start + index * per_task,
                    scratch,
                    part,
                });
            },
        );
}

/// The products with some weight rows.
struct Task<'a> {
    x: &'a [f32],
    weight: Stored<'a>,
    /// The row of the first column of `part`.
    first: usize,
    scratch: &'a mut [f32],
    part: ResultPart<'a>,
}

impl VectorTask for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(mut self) {
        let [count, rows] = self.part.shape();
        for index in 0..rows {
            let mut sums = [0.0; FEW_ROWS];
            self.add_products::<FMA>(self.first + index, &mut sums[..count]);
            for token in 0..count {
                self.part.row(token)[index] = sums[token];
            }
        }
    }
}

impl Task<'_> {
    /// Adds the products of all rows of x with one weight row.
    #[inline(always)]
    fn add_products<const FMA: bool>(&mut self, row: usize, sums: &mut [f32]) {
        let [_, width] = self.weight.shape;
        if let Some(values) = self.weight.floats(row..row + 1) {
            for (sum, x) in sums.iter_mut().zip(self.x.chunks_exact(width)) {
                *sum += dot::<FMA>(x, values);
            }
            return;
        }
        if self.weight.storage == Storage::Bf16 && sums.len() <= TWICE {
            let values = self.weight.rows(row..row + 1);
            for (sum, x) in sums.iter_mut().zip(self.x.chunks_exact(width)) {
                *sum += dot_bf16::<FMA>(x, values);
            }
            return;
        }
        for start in (0..width).step_by(PIECE) {
            let columns = start..(start + PIECE).min(width);
            let values = &mut self.scratch[..columns.len()];
            Row::new(self.weight, row, columns.clone(), values).run::<FMA>();
            for (sum, x) in sums.iter_mut().zip(self.x.chunks_exact(width)) {
                *sum += dot::<FMA>(&x[columns.clone()], values);
            }
        }
    }
}

/// Σ x · w. One vector of sums only: of several the compiler makes scalars.
#[inline(always)]
fn dot<const FMA: bool>(x: &[f32], weights: &[f32]) -> f32 {
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (weights, weights_rest) = weights.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, weights) in x.iter().zip(weights) {
        for lane in 0..LANES {
            sums[lane] = multiply_add::<FMA>(x[lane], weights[lane], sums[lane]);
        }
    }
    let rest = x_rest
        .iter()
        .zip(weights_rest)
        .map(|(x, weight)| x * weight);
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

/// Σ x · w with w as the bits of bf16.
#[inline(always)]
fn dot_bf16<const FMA: bool>(x: &[f32], weights: &[u8]) -> f32 {
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (weights, weights_rest) = weights.as_chunks::<{ 2 * LANES }>();
    let mut sums = [0.0; LANES];
    for (x, weights) in x.iter().zip(weights) {
        let words = weights.as_chunks::<2>().0;
        for lane in 0..LANES {
            sums[lane] = multiply_add::<FMA>(x[lane], bf16(words[lane]), sums[lane]);
        }
    }
    let words = weights_rest.as_chunks::<2>().0;
    let rest = x_rest.iter().zip(words).map(|(x, word)| x * bf16(*word));
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

#[inline(always)]
fn bf16(word: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16)
}
