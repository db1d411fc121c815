//! The products on slices: the oracle of the parity tests and the path of the CPU device.
//! It knows no tensors; blocks of weight rows are decoded into a scratch of each thread and shared out among threads.

use std::ops::Range;

use rayon::prelude::*;

use super::FrozenMatrix;
use crate::kernels::product::{Matrix, ResultParts, Sum, multiply_into};

/// `x [n, in] · W[rows]ᵀ`, `[n, rows]`.
pub(super) fn linear(x: &[f32], weight: &FrozenMatrix, rows: Range<usize>) -> Vec<f32> {
    let [_, width] = weight.shape();
    let count = x.len() / width.max(1);
    let mut result = vec![0.0; count * rows.len()];
    let x = Matrix::rows(x, [count, width], width);
    let block = rows_per_block(width);
    ResultParts::new(&mut result, [count, rows.len()])
        .tiles([count.max(1), block])
        .into_par_iter()
        .enumerate()
        .for_each_init(Vec::new, |scratch, (index, part)| {
            let start = rows.start + index * block;
            let end = (start + block).min(rows.end);
            let values = decoded(weight, start..end, scratch);
            let values = Matrix::rows(values, [end - start, width], width);
            multiply_into(part, x, values.transposed(), 1.0, Sum::Replace);
        });
    result
}

/// `upstream [n, rows] · W[rows]`, `[n, in]`.
pub(super) fn linear_backward(
    upstream: &[f32],
    weight: &FrozenMatrix,
    rows: Range<usize>,
) -> Vec<f32> {
    let [_, width] = weight.shape();
    let count = upstream.len() / rows.len().max(1);
    let mut result = vec![0.0; count * width];
    let block = rows_per_block(width);
    let mut scratch = Vec::new();
    for start in rows.clone().step_by(block) {
        let end = (start + block).min(rows.end);
        let values = decoded(weight, start..end, &mut scratch);
        let values = Matrix::rows(values, [end - start, width], width);
        let upstream = Matrix::rows(
            &upstream[start - rows.start..],
            [count, end - start],
            rows.len(),
        );
        let part = ResultParts::new(&mut result, [count, width]).whole();
        multiply_into(part, upstream, values, 1.0, Sum::Add);
    }
    result
}

/// Row `ids[i]` of W as row i; NaN where there is no such row.
pub(super) fn gather(ids: &[i64], weight: &FrozenMatrix) -> Vec<f32> {
    let [rows, width] = weight.shape();
    let mut result = vec![f32::NAN; ids.len() * width];
    for (values, id) in result.chunks_exact_mut(width.max(1)).zip(ids) {
        if let Some(row) = usize::try_from(*id).ok().filter(|row| *row < rows) {
            weight.copy_row(row, 0..width, values);
        }
    }
    result
}

/// The values of some rows in a scratch that is kept.
fn decoded<'a>(weight: &FrozenMatrix, rows: Range<usize>, scratch: &'a mut Vec<f32>) -> &'a [f32] {
    let [_, width] = weight.shape();
    scratch.resize(rows.len() * width, 0.0);
    for (values, row) in scratch.chunks_exact_mut(width.max(1)).zip(rows) {
        weight.copy_row(row, 0..width, values);
    }
    scratch
}

/// Values of decoded rows that one thread keeps in its cache.
const SCRATCH_VALUES: usize = 1 << 17;

fn rows_per_block(width: usize) -> usize {
    (SCRATCH_VALUES / width.max(1)).clamp(16, 256)
}
