//! Grouped-query attention over blocks of keys, some of them shared by several rows.
//!
//! A completion attends to its prompt and to itself. The prompt's keys exist once for all completions of a group: the
//! queries of the whole group are laid side by side and multiplied with them, so nothing is repeated, neither while
//! sampling nor in training. Knows nothing of rotary positions, caches or layers.

use burn::tensor::Tensor;

/// Stands for "not visible"; finite, so that a product with zero stays zero.
pub(crate) const MASKED: f32 = -1.0e30;

/// Keys and values that rows of queries can see.
#[derive(Debug, Clone)]
pub(crate) struct KeyBlock {
    /// [B/share, K, S, E]
    pub keys: Tensor<4>,
    /// [B/share, K, S, E]
    pub values: Tensor<4>,
    /// Added to the scores: [B/share or 1, 1, T or 1, S] of 0 or [`MASKED`].
    pub mask: Option<Tensor<4>>,
    /// How many consecutive rows share one row of keys.
    pub share: usize,
}

/// softmax(q kᵀ / sqrt(E) + mask) v over all blocks together.
///
/// # Shapes
/// queries [B, H, T, E]; result [B, H, T, E]. Query head h reads key head h / (H/K).
pub(crate) fn attend(queries: Tensor<4>, blocks: &[KeyBlock]) -> Tensor<4> {
    let [_, _, _, width] = queries.dims();
    let queries = queries.mul_scalar(1.0 / (width as f64).sqrt());
    let scores: Vec<Tensor<4>> = blocks
        .iter()
        .map(|block| block.scores(queries.clone()))
        .collect();
    // The softmax runs over all blocks without laying their scores side by side: one common maximum, one common sum.
    // The maximum only keeps exp in range, its gradient cancels; hence detached.
    let maximum = scores
        .iter()
        .map(|score| score.clone().detach().max_dim(3))
        .reduce(Tensor::max_pair);
    let maximum = maximum.expect("at least one block of keys");
    let mut total: Option<(Tensor<4>, Tensor<4>)> = None;
    for (block, score) in blocks.iter().zip(scores) {
        let weights = (score - maximum.clone()).exp();
        let (sum, value) = (weights.clone().sum_dim(3), block.values_of(weights));
        total = Some(match total {
            None => (sum, value),
            Some((sums, values)) => (sums + sum, values + value),
        });
    }
    let (sum, value) = total.expect("at least one block of keys");
    value / sum
}

impl KeyBlock {
    /// [B, H, T, E] -> [B/share, K, share · H/K · T, E]: all queries that meet the same keys, as rows of one matrix.
    fn gather(&self, rows: Tensor<4>) -> Tensor<4> {
        let [batch, heads, tokens, width] = rows.dims();
        let [owners, groups, _, _] = self.keys.dims();
        let per_group = heads / groups;
        if self.share == 1 {
            return rows.reshape([batch, groups, per_group * tokens, width]);
        }
        let split = rows.reshape([owners, self.share, groups, per_group * tokens, width]);
        split
            .swap_dims(1, 2)
            .reshape([owners, groups, self.share * per_group * tokens, width])
    }

    /// The inverse of [`KeyBlock::gather`].
    fn scatter(&self, rows: Tensor<4>, [batch, heads, tokens]: [usize; 3]) -> Tensor<4> {
        let [owners, groups, count, width] = rows.dims();
        if self.share == 1 {
            return rows.reshape([batch, heads, tokens, width]);
        }
        let split = rows.reshape([owners, groups, self.share, count / self.share, width]);
        split.swap_dims(1, 2).reshape([batch, heads, tokens, width])
    }

    /// [B, H, T, S] scores of the queries with these keys, masked.
    fn scores(&self, queries: Tensor<4>) -> Tensor<4> {
        let [batch, heads, tokens, _] = queries.dims();
        let product = self
            .gather(queries)
            .matmul(self.keys.clone().swap_dims(2, 3));
        let scores = self.scatter(product, [batch, heads, tokens]);
        match &self.mask {
            None => scores,
            Some(mask) => scores + self.repeat_for_rows(mask.clone()),
        }
    }

    /// A mask per owner of keys, once for each of its rows.
    fn repeat_for_rows(&self, mask: Tensor<4>) -> Tensor<4> {
        let [owners, _, tokens, keys] = mask.dims();
        if self.share == 1 || owners == 1 {
            return mask;
        }
        mask.reshape([owners, 1, tokens, keys])
            .repeat_dim(1, self.share)
            .reshape([owners * self.share, 1, tokens, keys])
    }

    /// [B, H, T, E]: the values weighted by [B, H, T, S].
    fn values_of(&self, weights: Tensor<4>) -> Tensor<4> {
        let [batch, heads, tokens, _] = weights.dims();
        let product = self.gather(weights).matmul(self.values.clone());
        self.scatter(product, [batch, heads, tokens])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, activation::softmax};

    /// Shared blocks give what repeated keys in one long sequence give.
    #[test]
    fn blocks_equal_one_repeated_sequence() {
        let device = Device::flex();
        let random =
            |shape: [usize; 4]| Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        let (owners, share, groups, per_group, tokens, prompt, own, width) =
            (2, 3, 2, 2, 5, 7, 5, 4);
        let (batch, heads) = (owners * share, groups * per_group);
        let queries = random([batch, heads, tokens, width]);
        let (prompt_keys, prompt_values) = (
            random([owners, groups, prompt, width]),
            random([owners, groups, prompt, width]),
        );
        let (own_keys, own_values) = (
            random([batch, groups, own, width]),
            random([batch, groups, own, width]),
        );
        let mask = Tensor::<4>::full([1, 1, tokens, own], MASKED, &device).triu(1);
        let blocks = [
            KeyBlock {
                keys: prompt_keys.clone(),
                values: prompt_values.clone(),
                mask: None,
                share,
            },
            KeyBlock {
                keys: own_keys.clone(),
                values: own_values.clone(),
                mask: Some(mask.clone()),
                share: 1,
            },
        ];
        let found = attend(queries.clone(), &blocks);

        let repeat = |shared: Tensor<4>, own: Tensor<4>| {
            let [_, _, length, _] = shared.dims();
            let rows = shared
                .unsqueeze_dim::<5>(1)
                .repeat_dim(1, share)
                .reshape([batch, groups, length, width]);
            let both = Tensor::cat(vec![rows, own], 2);
            let total = length + tokens;
            both.unsqueeze_dim::<5>(2)
                .repeat_dim(2, per_group)
                .reshape([batch, heads, total, width])
        };
        let keys = repeat(prompt_keys, own_keys);
        let values = repeat(prompt_values, own_values);
        let open = Tensor::<4>::zeros([1, 1, tokens, prompt], &device);
        let scores =
            queries.matmul(keys.swap_dims(2, 3)).div_scalar(2.0) + Tensor::cat(vec![open, mask], 3);
        let expected = softmax(scores, 3).matmul(values);
        let worst: f32 = (found - expected).abs().max().into_scalar();
        assert!(worst < 1e-5, "largest difference {worst}");
    }
}
