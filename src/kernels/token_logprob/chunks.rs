//! Forward and backward from hidden states: chunks of rows whose logits fit one small buffer.
//! It knows any backend's matrix product and nothing of how the softmax runs.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::Slice;

use super::{PerRow, Settings, Statistics, Suppression, TokenLogprobOps};

/// Most bytes of logits that exist at a time: half of what every adapter accepts as one storage binding (128 MiB).
pub const LOGITS_CHUNK_BYTES: usize = 64 << 20;

/// Rows whose logits fit the budget, at least one.
fn rows_per_chunk(vocabulary: usize) -> usize {
    (LOGITS_CHUNK_BYTES / (vocabulary.max(1) * size_of::<f32>())).max(1)
}

/// The row ranges of the chunks of `rows` tokens.
fn ranges(rows: usize, vocabulary: usize) -> Vec<Slice> {
    let chunk = rows_per_chunk(vocabulary);
    let range = |start: usize| Slice::from(start..(start + chunk).min(rows));
    // No rows still make one chunk, an empty one, so that the results have their shapes.
    (0..rows.max(1)).step_by(chunk).map(range).collect()
}

/// Log-probabilities, entropies and log-sum-exp of `hidden` `[T, D]` under the head `weight` `[V, D]`.
pub(super) fn forward<B: TokenLogprobOps>(
    hidden: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    targets: &IntTensor<B>,
    mask: Option<FloatTensor<B>>,
    settings: Settings,
) -> Statistics<B> {
    let (mut logprobs, mut entropies, mut logsumexp) = (Vec::new(), Vec::new(), Vec::new());
    for rows in ranges(hidden.shape()[0], weight.shape()[0]) {
        let logits = logits::<B>(hidden, weight, rows);
        let targets = B::int_slice(targets.clone(), &[rows]);
        let chunk = B::logits_logprob(logits, targets, Suppression::new(mask.clone()), settings);
        logprobs.push(chunk.0);
        entropies.push(chunk.1);
        logsumexp.push(chunk.2);
    }
    (
        join::<B>(logprobs),
        join::<B>(entropies),
        join::<B>(logsumexp),
    )
}

/// What the backward pass needs of the forward pass: handles of the inputs and one number per token.
#[derive(Debug, Clone)]
pub(super) struct Saved<B: TokenLogprobOps> {
    pub(super) hidden: FloatTensor<B>,
    pub(super) weight: FloatTensor<B>,
    pub(super) targets: IntTensor<B>,
    pub(super) mask: Option<FloatTensor<B>>,
    pub(super) logsumexp: FloatTensor<B>,
    pub(super) entropies: FloatTensor<B>,
    pub(super) settings: Settings,
}

/// Gradients with respect to log-probabilities and entropies, `[T]` each; the latter are read with an entropy gradient only.
#[derive(Debug, Clone)]
pub(super) struct Upstream<B: Backend> {
    pub(super) logprobs: FloatTensor<B>,
    pub(super) entropies: FloatTensor<B>,
}

/// Which gradients somebody waits for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) hidden: bool,
    pub(super) weight: bool,
}

/// Gradients to `hidden` and `weight`; each chunk's logits are computed again and become their own gradient.
pub(super) fn backward<B: TokenLogprobOps>(
    saved: Saved<B>,
    upstream: &Upstream<B>,
    wanted: Wanted,
) -> (Option<FloatTensor<B>>, Option<FloatTensor<B>>) {
    let Saved {
        hidden,
        weight,
        targets,
        mask,
        logsumexp,
        entropies,
        settings,
    } = saved;
    let mut hidden_gradients = Vec::new();
    let mut weight_gradient: Option<FloatTensor<B>> = None;
    for rows in ranges(hidden.shape()[0], weight.shape()[0]) {
        let logits = logits::<B>(&hidden, &weight, rows);
        let part = |values: &FloatTensor<B>| B::float_slice(values.clone(), &[rows]);
        let per_row = PerRow {
            targets: B::int_slice(targets.clone(), &[rows]),
            logsumexp: part(&logsumexp),
            upstream: part(&upstream.logprobs),
            entropies: part(&entropies),
            entropy_upstream: part(&upstream.entropies),
        };
        let suppression = Suppression::new(mask.clone());
        let gradient = B::logits_gradient(logits, per_row, suppression, settings);
        if wanted.hidden {
            hidden_gradients.push(B::float_matmul(gradient.clone(), weight.clone()));
        }
        if wanted.weight {
            let hidden_rows = B::float_slice(hidden.clone(), &[rows, Slice::full()]);
            let part = B::float_matmul(B::float_transpose(gradient), hidden_rows);
            weight_gradient = Some(match weight_gradient {
                Some(sum) => B::float_add(sum, part),
                None => part,
            });
        }
    }
    (
        wanted.hidden.then(|| join::<B>(hidden_gradients)),
        weight_gradient,
    )
}

/// Logits `[chunk, V]` of some rows.
fn logits<B: TokenLogprobOps>(
    hidden: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    rows: Slice,
) -> FloatTensor<B> {
    let hidden_rows = B::float_slice(hidden.clone(), &[rows, Slice::full()]);
    B::float_matmul(hidden_rows, B::float_transpose(weight.clone()))
}

/// The chunks one after the other along the first dimension.
fn join<B: TokenLogprobOps>(mut chunks: Vec<FloatTensor<B>>) -> FloatTensor<B> {
    if chunks.len() == 1 {
        return chunks.remove(0);
    }
    B::float_cat(chunks, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_all_rows_and_stay_below_the_budget() {
        let vocabulary = 151_936;
        let parts = ranges(513, vocabulary);
        let mut next = 0;
        for part in &parts {
            let end = part.end.expect("bounded");
            assert_eq!(part.start, next);
            assert!((end - next) as usize * vocabulary * 4 <= LOGITS_CHUNK_BYTES);
            next = end;
        }
        assert_eq!((next, parts.len()), (513, 5));
    }

    #[test]
    fn a_row_larger_than_the_budget_is_its_own_chunk() {
        assert_eq!(ranges(3, LOGITS_CHUNK_BYTES).len(), 3);
    }
}
