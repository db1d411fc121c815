//! Between rows of different lengths and rectangles: where tokens lie, cutting and spreading.
//!
//! Knows nothing of models and losses.

use burn::tensor::{Device, Tensor};

use crate::model::index_tensor;
use crate::record::TokenBatch;

/// Adds rows of equal lengths.
pub(super) fn add_rows(sums: &mut [Vec<f32>], added: &[Vec<f32>]) {
    for (sums, added) in sums.iter_mut().zip(added) {
        sums.iter_mut()
            .zip(added)
            .for_each(|(sum, value)| *sum += value);
    }
}

/// Cuts values of all real tokens into rows.
pub(super) fn split_rows(values: &[f32], batch: &TokenBatch) -> Vec<Vec<f32>> {
    let mut rest = values;
    let cut = |length: usize, rest: &mut &[f32]| {
        let (row, tail) = rest.split_at(length);
        *rest = tail;
        row.to_vec()
    };
    batch
        .rows
        .iter()
        .map(|row| cut(row.token_ids.len(), &mut rest))
        .collect()
}

/// [n] real tokens -> [R, T], 0 past a row's end; differentiable.
pub(super) fn spread(
    values: Tensor<1>,
    batch: &TokenBatch,
    tokens: usize,
    device: &Device,
) -> Tensor<2> {
    let count = values.dims()[0];
    if count == batch.rows.len() * tokens {
        return values.reshape([batch.rows.len(), tokens]);
    }
    let mut places = vec![count as u32; batch.rows.len() * tokens];
    let mut next = 0;
    for (row, content) in batch.rows.iter().enumerate() {
        for index in 0..content.token_ids.len() {
            places[row * tokens + index] = next;
            next += 1;
        }
    }
    let padded = Tensor::cat(vec![values, Tensor::zeros([1], device)], 0);
    padded
        .select(0, index_tensor(&places, device))
        .reshape([batch.rows.len(), tokens])
}
