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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TokenRow;

    /// Two rows of the first prompt, one of the second, none of the third.
    fn batch() -> TokenBatch {
        let row = |prompt, ids: &[u32]| TokenRow::plain(prompt, ids.to_vec());
        let prompt = |id: &str| {
            std::sync::Arc::new(crate::record::Prompt {
                id: id.to_owned(),
                rendered: String::new(),
                input_ids: vec![1],
                positions: vec![[0; 3]],
                rope_delta: 0,
                images: Vec::new(),
            })
        };
        TokenBatch {
            prompts: ["a", "b", "c"].map(prompt).to_vec(),
            rows: vec![row(0, &[5, 6, 7]), row(1, &[8]), row(0, &[9, 10])],
        }
    }

    #[test]
    fn values_of_tokens_are_cut_and_spread_by_row() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let rows = split_rows(&values, &batch());
        assert_eq!(rows, [vec![1.0, 2.0, 3.0], vec![4.0], vec![5.0, 6.0]]);
        let device = Device::flex().autodiff();
        let leaf = Tensor::<1>::from_floats(values, &device).require_grad();
        let spread = spread(leaf.clone(), &batch(), 3, &device);
        let factors = Tensor::<2>::from_floats(
            [[1.0, 10.0, 100.0], [2.0, 20.0, 200.0], [3.0, 30.0, 300.0]],
            &device,
        );
        let sum = (spread.clone() * factors).sum();
        let read = |tensor: Tensor<1>| -> Vec<f32> {
            tensor
                .without_autodiff()
                .into_data()
                .try_into_vec()
                .expect("f32")
        };
        assert_eq!(
            read(spread.reshape([9])),
            [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 5.0, 6.0, 0.0]
        );
        let gradients = sum.backward();
        let gradient = leaf.grad(&gradients).expect("tracked");
        assert_eq!(
            read(gradient),
            [1.0, 10.0, 100.0, 2.0, 3.0, 30.0],
            "padding pulls at nothing"
        );
    }

    #[test]
    fn rows_of_equal_lengths_add_up() {
        let mut sums = vec![vec![1.0, 2.0], vec![3.0]];
        add_rows(&mut sums, &[vec![0.5, 0.25], vec![-3.0]]);
        assert_eq!(sums, [vec![1.5, 2.25], vec![0.0]]);
    }
}
