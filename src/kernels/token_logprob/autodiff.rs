//! The operation in Burn's autodiff graph: what the forward pass keeps and how the gradients are registered.
//! It knows no kernel; the work is done by the inner backend.

use burn::backend::AutodiffBackend;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::chunks::{self, Saved, Wanted};
use super::{PerRow, Settings, Statistics, Suppression, TokenLogprobOps};

/// Backward step from hidden states; only the log-sum-exp of the forward pass is kept.
#[derive(Debug)]
struct TokenLogprobStep;

impl<B: TokenLogprobOps> Backward<B, 2> for TokenLogprobStep {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [hidden_node, weight_node] = ops.parents;
        let upstream = grads.consume::<B>(&ops.node);
        let wanted = Wanted {
            hidden: hidden_node.is_some(),
            weight: weight_node.is_some(),
        };
        let (hidden, weight) = chunks::backward::<B>(ops.state, &upstream, wanted);
        for (node, gradient) in [(hidden_node, hidden), (weight_node, weight)] {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Backward step from ready logits, in place if the graph was their last owner.
#[derive(Debug)]
struct LogitsLogprobStep;

/// Logits, targets, suppression mask, log-sum-exp, settings.
type LogitsState<B> = (
    FloatTensor<B>,
    IntTensor<B>,
    Option<FloatTensor<B>>,
    FloatTensor<B>,
    Settings,
);

impl<B: TokenLogprobOps> Backward<B, 1> for LogitsLogprobStep {
    type State = LogitsState<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [logits_node] = ops.parents;
        let upstream = grads.consume::<B>(&ops.node);
        let (logits, targets, mask, logsumexp, settings) = ops.state;
        if let Some(node) = logits_node {
            let per_row = PerRow {
                targets,
                logsumexp,
                upstream,
            };
            let gradient = B::logits_gradient(logits, per_row, Suppression::new(mask), settings);
            grads.register::<B>(node.id, gradient);
        }
    }
}

impl<B: TokenLogprobOps, C: CheckpointStrategy> TokenLogprobOps for Autodiff<B, C> {
    fn token_logprob(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        let mask = inner_mask(suppression);
        let nodes = [hidden.node(), weight.node()];
        let (hidden, weight) = (hidden.into_primitive(), weight.into_primitive());
        let (logprobs, entropies, logsumexp) =
            chunks::forward::<B>(&hidden, &weight, &targets, mask.clone(), settings);
        let logprobs = match TokenLogprobStep
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let logsumexp = logsumexp.clone();
                prep.finish(
                    Saved {
                        hidden,
                        weight,
                        targets,
                        mask,
                        logsumexp,
                        settings,
                    },
                    logprobs,
                )
            }
            OpsKind::UnTracked(prep) => prep.finish(logprobs),
        };
        (
            logprobs,
            Self::from_inner(entropies),
            Self::from_inner(logsumexp),
        )
    }

    fn logits_logprob(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        let mask = inner_mask(suppression);
        let node = logits.node();
        let logits = logits.into_primitive();
        let (logprobs, entropies, logsumexp) = B::logits_logprob(
            logits.clone(),
            targets.clone(),
            Suppression::new(mask.clone()),
            settings,
        );
        let logprobs = match LogitsLogprobStep
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(
                (logits, targets, mask, logsumexp.clone(), settings),
                logprobs,
            ),
            OpsKind::UnTracked(prep) => prep.finish(logprobs),
        };
        (
            logprobs,
            Self::from_inner(entropies),
            Self::from_inner(logsumexp),
        )
    }

    /// The gradient of the gradient does not exist: Burn's autodiff is of first order.
    fn logits_gradient(
        logits: FloatTensor<Self>,
        per_row: PerRow<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> FloatTensor<Self> {
        let per_row = PerRow {
            targets: per_row.targets,
            logsumexp: per_row.logsumexp.into_primitive(),
            upstream: per_row.upstream.into_primitive(),
        };
        let suppression = Suppression::new(inner_mask(suppression));
        let gradient = B::logits_gradient(logits.into_primitive(), per_row, suppression, settings);
        Self::from_inner(gradient)
    }
}

fn inner_mask<B: TokenLogprobOps, C: CheckpointStrategy>(
    suppression: Suppression<Autodiff<B, C>>,
) -> Option<FloatTensor<B>> {
    suppression.mask().map(|mask| mask.into_primitive())
}
