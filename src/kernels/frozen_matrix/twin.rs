//! The products on slices: the oracle of the parity tests and the path of the CPU device.
//! It knows no tensors.
//!
//! Up to [`FEW_ROWS`] rows of x are multiplied with four weight rows at a time, whose bytes are read once. For more rows a
//! chunk of weight rows is decoded into a scratch that the last cache holds, and all threads work on its product.

use std::cell::Cell;
use std::ops::Range;

use super::few_rows::{self, FEW_ROWS};
use super::{FrozenMatrix, Storage};
use crate::kernels::product::{Matrix, ResultParts, Sum, multiply_into};

/// Decoded values that exist at a time: 8 MiB.
const CHUNK_VALUES: usize = 1 << 21;

thread_local! {
    /// Decoded values, kept from call to call: memory that is new has to be cleared page by page.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// `x [n, in] · W[rows]ᵀ`, `[n, rows]`.
pub(super) fn linear(x: &[f32], weight: &FrozenMatrix, rows: Range<usize>) -> Vec<f32> {
    let [_, width] = weight.shape();
    let count = x.len() / width.max(1);
    let mut result = vec![0.0; count * rows.len()];
    if count <= FEW_ROWS {
        few_rows::linear(x, weight, rows, &mut result);
        return result;
    }
    let x = Matrix::rows(x, [count, width], width);
    let chunk = rows_per_chunk(weight);
    let parts = ResultParts::new(&mut result, [count, rows.len()]).tiles([count, chunk]);
    let mut scratch = SCRATCH.take();
    for (index, part) in parts.into_iter().enumerate() {
        let start = rows.start + index * chunk;
        let chunk = start..(start + chunk).min(rows.end);
        let shape = [chunk.len(), width];
        let values = Matrix::rows(values(weight, chunk, &mut scratch), shape, width);
        let part = part.on_all_threads();
        multiply_into(part, x, values.transposed(), 1.0, Sum::Replace);
    }
    SCRATCH.set(scratch);
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
    if count == 0 {
        return result;
    }
    let chunk = rows_per_chunk(weight);
    let mut scratch = SCRATCH.take();
    for start in rows.clone().step_by(chunk) {
        let chunk = start..(start + chunk).min(rows.end);
        let shape = [count, chunk.len()];
        let upstream = Matrix::rows(&upstream[start - rows.start..], shape, rows.len());
        let shape = [chunk.len(), width];
        let values = Matrix::rows(values(weight, chunk, &mut scratch), shape, width);
        let part = ResultParts::new(&mut result, [count, width]).whole();
        multiply_into(part.on_all_threads(), upstream, values, 1.0, Sum::Add);
    }
    SCRATCH.set(scratch);
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

/// Weight rows that are multiplied at a time: all of them where nothing has to be decoded.
fn rows_per_chunk(weight: &FrozenMatrix) -> usize {
    let [rows, width] = weight.shape();
    if weight.storage() == Storage::F32 && weight.stored().floats(0..rows).is_some() {
        return rows.max(1);
    }
    (CHUNK_VALUES / width.max(1)).max(64)
}

/// The values of some rows: where they are, or decoded into a scratch that is kept.
fn values<'a>(
    weight: &'a FrozenMatrix,
    rows: Range<usize>,
    scratch: &'a mut Vec<f32>,
) -> &'a [f32] {
    if let Some(values) = weight.stored().floats(rows.clone()) {
        return values;
    }
    scratch.resize(rows.len() * weight.shape()[1], 0.0);
    weight.copy_rows(rows, scratch);
    scratch
}
