//! What the backward pass from hidden states takes and gives on any backend that holds values.
//! It knows tensors, not how the gradients are computed.

use burn::backend::Backend;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::tiles::Tiles;
use super::{Head, PerRow, Settings, TokenLogprobOps, tiles_of};

/// What the backward pass needs of the forward pass: handles of the inputs and a few numbers per token.
#[derive(Debug, Clone)]
pub(super) struct Saved<B: Backend> {
    pub(super) hidden: FloatTensor<B>,
    pub(super) head: Head<B>,
    pub(super) targets: IntTensor<B>,
    pub(super) mask: Option<FloatTensor<B>>,
    pub(super) logsumexp: FloatTensor<B>,
    pub(super) entropies: FloatTensor<B>,
    pub(super) settings: Settings,
}

impl<B: Backend> Saved<B> {
    pub(super) fn tiles(&self) -> Tiles {
        tiles_of::<B>(&self.hidden, &self.head, self.settings)
    }

    pub(super) fn per_row(&self, upstream: Upstream<B>) -> PerRow<B> {
        PerRow {
            targets: self.targets.clone(),
            logsumexp: self.logsumexp.clone(),
            upstream: upstream.logprobs,
            entropies: self.entropies.clone(),
            entropy_upstream: upstream.entropies,
        }
    }
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
    pub(super) head: bool,
}

/// The backward pass from hidden states, on the backends that hold values.
pub(super) trait TokenLogprobBackward: TokenLogprobOps {
    /// Gradients to the hidden states `[T, D]` and the head `[V, D]`, those that are wanted.
    fn backward(
        saved: Saved<Self>,
        upstream: Upstream<Self>,
        wanted: Wanted,
    ) -> (Option<FloatTensor<Self>>, Option<FloatTensor<Self>>);
}
