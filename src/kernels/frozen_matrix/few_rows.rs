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

/// Most rows of x for which bf16 is decoded once more instead of stored and loaded.
const TWICE: usize = 2;
/// Weight rows that are multiplied together.
const GROUP: usize = 4;
/// Columns that are decoded at a time: with the rows of a group half of a first-level cache.
const PIECE: usize = 1024;
/// Weights that are worth a task.
const TASK_VALUES: usize = 1 << 16;

/// `result [n, rows] = x [n, in] · W[rows]ᵀ` for n up to [`FEW_ROWS`].
pub(super) fn linear(x: &[f32], weight: &FrozenMatrix, rows: Range<usize>, result: &mut [f32]) {
    let [_, width] = weight.shape();
    let count = x.len() / width.max(1);
    if count == 0 {
        return;
    }
    let per_task = (TASK_VALUES / width).next_multiple_of(GROUP).max(GROUP);
    ResultParts::new(result, [count, rows.len()])
        .tiles([count, per_task])
        .into_par_iter()
        .enumerate()
        .for_each_init(
            || vec![0.0; GROUP * PIECE],
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
        if self.weight.storage == Storage::Bf16 && count <= TWICE {
            self.read_bf16::<FMA>();
            return;
        }
        let mut sums = [[[0.0; LANES]; GROUP]; FEW_ROWS];
        let sums = &mut sums[..count];
        for start in (0..rows).step_by(GROUP) {
            let size = GROUP.min(rows - start);
            self.group::<FMA>(start, size, sums);
            for token in 0..count {
                let results = &mut self.part.row(token)[start..start + size];
                for member in 0..size {
                    results[member] = total(sums[token][member]);
                }
            }
        }
    }
}

/// Sums of a row of x with every weight row of a group, lane by lane.
type Sums = [[f32; LANES]; GROUP];

impl Task<'_> {
    #[inline(always)]
    fn read_bf16<const FMA: bool>(&mut self) {
        let [_, width] = self.weight.shape;
        let [count, rows] = self.part.shape();
        for index in 0..rows {
            let row = self.first + index;
            let values = self.weight.rows(row..row + 1);
            for token in 0..count {
                let x = &self.x[token * width..][..width];
                self.part.row(token)[index] = dot_bf16::<FMA>(x, values);
            }
        }
    }

    /// Products with `size` weight rows, decoded piece by piece.
    #[inline(always)]
    fn group<const FMA: bool>(&mut self, start: usize, size: usize, sums: &mut [Sums]) {
        let [_, width] = self.weight.shape;
        for sums in sums.iter_mut() {
            *sums = [[0.0; LANES]; GROUP];
        }
        for piece in (0..width).step_by(PIECE) {
            let columns = piece..(piece + PIECE).min(width);
            let mut values: [&[f32]; GROUP] = [&[]; GROUP];
            let scratch = self.scratch.chunks_exact_mut(PIECE);
            for (member, (values, scratch)) in values.iter_mut().zip(scratch).enumerate() {
                // A group that is not full repeats its last row.
                let row = self.first + start + member.min(size - 1);
                *values = if let Some(row) = self.weight.floats(row..row + 1) {
                    &row[columns.clone()]
                } else {
                    let out = &mut scratch[..columns.len()];
                    Row::new(self.weight, row, columns.clone(), out).run::<FMA>();
                    out
                };
            }
            for token in 0..sums.len() {
                let x = &self.x[token * width..][columns.clone()];
                add_products::<FMA>(x, values, &mut sums[token]);
            }
        }
    }
}

/// Adds x · w, lane by lane. The form decides the speed: sums that are added up here would keep the compiler from vectors.
#[inline(always)]
fn add_products<const FMA: bool>(x: &[f32], weights: [&[f32]; GROUP], sums: &mut Sums) {
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (a, a_rest) = weights[0].as_chunks::<LANES>();
    let (b, b_rest) = weights[1].as_chunks::<LANES>();
    let (c, c_rest) = weights[2].as_chunks::<LANES>();
    let (d, d_rest) = weights[3].as_chunks::<LANES>();
    let steps = x.len();
    let (a, b, c, d) = (&a[..steps], &b[..steps], &c[..steps], &d[..steps]);
    let [mut to_a, mut to_b, mut to_c, mut to_d] = *sums;
    for step in 0..steps {
        let (x, a, b, c, d) = (&x[step], &a[step], &b[step], &c[step], &d[step]);
        for lane in 0..LANES {
            to_a[lane] = multiply_add::<FMA>(x[lane], a[lane], to_a[lane]);
        }
        for lane in 0..LANES {
            to_b[lane] = multiply_add::<FMA>(x[lane], b[lane], to_b[lane]);
        }
        for lane in 0..LANES {
            to_c[lane] = multiply_add::<FMA>(x[lane], c[lane], to_c[lane]);
        }
        for lane in 0..LANES {
            to_d[lane] = multiply_add::<FMA>(x[lane], d[lane], to_d[lane]);
        }
    }
    *sums = [to_a, to_b, to_c, to_d];
    if !x_rest.is_empty() {
        add_rest(x_rest, [a_rest, b_rest, c_rest, d_rest], sums);
    }
}

/// What is left of a row whose length is no multiple of the lanes.
#[inline(never)]
fn add_rest(x: &[f32], weights: [&[f32]; GROUP], sums: &mut Sums) {
    for (sums, weights) in sums.iter_mut().zip(weights) {
        for (sum, (x, weight)) in sums.iter_mut().zip(x.iter().zip(weights)) {
            *sum += x * weight;
        }
    }
}

#[inline(always)]
fn total(lanes: [f32; LANES]) -> f32 {
    lanes.iter().sum()
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
