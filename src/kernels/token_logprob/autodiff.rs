//! The operation in Burn's autodiff graph: what the forward pass keeps and how the gradients are registered.
//! It knows no kernel; the work is done by the inner backend.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{AutodiffBackend, Backend, TensorMetadata};
use burn::tensor::{Shape, Slice};

use super::backward::{Saved, TokenLogprobBackward, Upstream, Wanted};
use super::{Head, PerRow, Settings, Statistics, Suppression, TokenLogprobOps};

/// Backward step from hidden states to them and a dense head; only numbers per row of the forward pass are kept.
#[derive(Debug)]
struct DenseStep;

impl<B: TokenLogprobBackward> Backward<B, 2> for DenseStep {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [hidden_node, head_node] = ops.parents;
        let upstream = Upstream::<B>::new(grads.consume::<B>(&ops.node), ops.state.settings);
        let wanted = Wanted {
            hidden: hidden_node.is_some(),
            head: head_node.is_some(),
        };
        let (hidden, head) = B::backward(ops.state, upstream, wanted);
        for (node, gradient) in [(hidden_node, hidden), (head_node, head)] {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

/// Backward step from hidden states to them alone: the head is frozen.
#[derive(Debug)]
struct FrozenStep;

impl<B: TokenLogprobBackward> Backward<B, 1> for FrozenStep {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let upstream = Upstream::<B>::new(grads.consume::<B>(&ops.node), ops.state.settings);
        let wanted = Wanted {
            hidden: node.is_some(),
            head: false,
        };
        let (hidden, _) = B::backward(ops.state, upstream, wanted);
        if let (Some(node), Some(gradient)) = (node, hidden) {
            grads.register::<B>(node.id, gradient);
        }
    }
}

/// Backward step from ready logits, in place if the graph was their last owner.
#[derive(Debug)]
struct LogitsLogprobStep;

/// What the backward pass from ready logits needs of the forward pass.
#[derive(Debug, Clone)]
struct SavedLogits<B: TokenLogprobOps> {
    logits: FloatTensor<B>,
    targets: IntTensor<B>,
    mask: Option<FloatTensor<B>>,
    logsumexp: FloatTensor<B>,
    entropies: FloatTensor<B>,
    settings: Settings,
}

impl<B: TokenLogprobOps> Backward<B, 1> for LogitsLogprobStep {
    type State = SavedLogits<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [logits_node] = ops.parents;
        let saved = ops.state;
        let upstream = Upstream::<B>::new(grads.consume::<B>(&ops.node), saved.settings);
        if let Some(node) = logits_node {
            let per_row = PerRow {
                targets: saved.targets,
                logsumexp: saved.logsumexp,
                upstream: upstream.logprobs,
                entropies: saved.entropies,
                entropy_upstream: upstream.entropies,
            };
            let suppression = Suppression::new(saved.mask);
            let gradient = B::logits_gradient(saved.logits, per_row, suppression, saved.settings);
            grads.register::<B>(node.id, gradient);
        }
    }
}

/// One node has one output: with an entropy gradient log-probabilities and entropies leave it as the rows of [2, T].
fn output<B: Backend>(
    logprobs: FloatTensor<B>,
    entropies: FloatTensor<B>,
    settings: Settings,
) -> FloatTensor<B> {
    if !settings.entropy_gradient {
        return logprobs;
    }
    let row = |values: FloatTensor<B>| {
        let length = values.shape()[0];
        B::float_reshape(values, Shape::new([1, length]))
    };
    B::float_cat(vec![row(logprobs), row(entropies)], 0)
}

/// One row [T] of [2, T].
fn row<B: Backend>(rows: FloatTensor<B>, index: usize) -> FloatTensor<B> {
    let length = rows.shape()[1];
    let rows = B::float_slice(rows, &[Slice::from(index..index + 1), Slice::full()]);
    B::float_reshape(rows, Shape::new([length]))
}

impl<B: Backend> Upstream<B> {
    fn new(output: FloatTensor<B>, settings: Settings) -> Self {
        if settings.entropy_gradient {
            Self {
                logprobs: row::<B>(output.clone(), 0),
                entropies: row::<B>(output, 1),
            }
        } else {
            Self {
                logprobs: output.clone(),
                entropies: output,
            }
        }
    }
}

/// Runs the forward pass and registers its step.
fn forward<B, C, S, const N: usize>(
    step: S,
    nodes: [NodeGuard; N],
    inputs: Inputs<B>,
) -> Statistics<Autodiff<B, C>>
where
    B: TokenLogprobBackward,
    C: CheckpointStrategy,
    S: Backward<B, N, State = Saved<B>>,
{
    let Inputs {
        hidden,
        head,
        targets,
        mask,
        settings,
    } = inputs;
    let (logprobs, entropies, logsumexp) = B::token_logprob(
        hidden.clone(),
        head.clone(),
        targets.clone(),
        Suppression::new(mask.clone()),
        settings,
    );
    let result = output::<B>(logprobs, entropies.clone(), settings);
    let result = match step.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(
            Saved {
                hidden,
                head,
                targets,
                mask,
                logsumexp: logsumexp.clone(),
                entropies: entropies.clone(),
                settings,
            },
            result,
        ),
        OpsKind::UnTracked(prep) => prep.finish(result),
    };
    statistics::<B, C>(result, entropies, logsumexp, settings)
}

/// The forward pass without its graph.
struct Inputs<B: Backend> {
    hidden: FloatTensor<B>,
    head: Head<B>,
    targets: IntTensor<B>,
    mask: Option<FloatTensor<B>>,
    settings: Settings,
}

impl<B: TokenLogprobBackward, C: CheckpointStrategy> TokenLogprobOps for Autodiff<B, C> {
    fn token_logprob(
        hidden: FloatTensor<Self>,
        head: Head<Self>,
        targets: IntTensor<Self>,
        suppression: Suppression<Self>,
        settings: Settings,
    ) -> Statistics<Self> {
        let node = hidden.node();
        let inputs = |hidden: FloatTensor<Self>, head| Inputs::<B> {
            hidden: hidden.into_primitive(),
            head,
            targets,
            mask: inner_mask(suppression),
            settings,
        };
        match head {
            Head::Dense(weight) => {
                let nodes = [node, weight.node()];
                let head = Head::Dense(weight.into_primitive());
                forward::<B, C, _, 2>(DenseStep, nodes, inputs(hidden, head))
            }
            Head::Frozen(weight) => {
                let head = Head::Frozen(weight);
                forward::<B, C, _, 1>(FrozenStep, [node], inputs(hidden, head))
            }
        }
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
        let result = output::<B>(logprobs, entropies.clone(), settings);
        let result = match LogitsLogprobStep
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(
                SavedLogits {
                    logits,
                    targets,
                    mask,
                    logsumexp: logsumexp.clone(),
                    entropies: entropies.clone(),
                    settings,
                },
                result,
            ),
            OpsKind::UnTracked(prep) => prep.finish(result),
        };
        statistics::<B, C>(result, entropies, logsumexp, settings)
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
            entropies: per_row.entropies.into_primitive(),
            entropy_upstream: per_row.entropy_upstream.into_primitive(),
        };
        let suppression = Suppression::new(inner_mask(suppression));
        let gradient = B::logits_gradient(logits.into_primitive(), per_row, suppression, settings);
        Self::from_inner(gradient)
    }
}

/// The tracked output of [`output`] taken apart again.
fn statistics<B: TokenLogprobOps, C: CheckpointStrategy>(
    result: FloatTensor<Autodiff<B, C>>,
    entropies: FloatTensor<B>,
    logsumexp: FloatTensor<B>,
    settings: Settings,
) -> Statistics<Autodiff<B, C>> {
    let logsumexp = Autodiff::<B, C>::from_inner(logsumexp);
    if settings.entropy_gradient {
        let logprobs = row::<Autodiff<B, C>>(result.clone(), 0);
        return (logprobs, row::<Autodiff<B, C>>(result, 1), logsumexp);
    }
    (result, Autodiff::<B, C>::from_inner(entropies), logsumexp)
}

fn inner_mask<B: TokenLogprobOps, C: CheckpointStrategy>(
    suppression: Suppression<Autodiff<B, C>>,
) -> Option<FloatTensor<B>> {
    suppression.mask().map(|mask| mask.into_primitive())
}
