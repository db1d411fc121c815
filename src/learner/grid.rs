//! Between rows of different lengths and rectangles: where tokens lie, cutting and spreading.
//!
//! Knows nothing of models and losses.

use burn::tensor::{Device, Tensor};

use crate::model::index_tensor;
use crate::record::TokenBatch;

/// Where the tokens of a batch lie in the padded grid.
pub(super) struct Grid {
    /// Rows per prompt.
    pub share: usize,
    /// Longest completion.
    pub tokens: usize,
    /// Padded row of each row of the batch.
    pub places: Vec<usize>,
    /// [rows][T] padded ids.
    pub ids: Vec<Vec<u32>>,
}

impl Grid {
    /// Every prompt gets as many rows as the one with most, every row as many tokens as the longest.
    pub(super) fn new(batch: &TokenBatch) -> Self {
        let mut counts = vec![0usize; batch.prompts.len()];
        let within: Vec<usize> = batch
            .rows
            .iter()
            .map(|row| {
                counts[row.prompt] += 1;
                counts[row.prompt] - 1
            })
            .collect();
        let share = counts.iter().copied().max().unwrap_or(0);
        let tokens = batch
            .rows
            .iter()
            .map(|row| row.token_ids.len())
            .max()
            .unwrap_or(0);
        let mut ids = vec![vec![0; tokens]; share * batch.prompts.len()];
        let places: Vec<usize> = batch
            .rows
            .iter()
            .zip(within)
            .map(|(row, nth)| row.prompt * share + nth)
            .collect();
        for (row, place) in batch.rows.iter().zip(&places) {
            ids[*place][..row.token_ids.len()].copy_from_slice(&row.token_ids);
        }
        Self {
            share,
            tokens,
            places,
            ids,
        }
    }
}

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
