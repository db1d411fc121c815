//! The operation in Burn's autodiff graph: it keeps its inputs, its output and one number per query and head.
//! It knows no kernel; the work is done by the inner backend.

use std::sync::Arc;

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients as Graph;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{AutodiffBackend, TensorMetadata};
use burn::tensor::Shape;

use super::{AttentionOps, Gradients, Inputs, Spans};

#[derive(Debug)]
struct AttentionStep;

/// Queries, keys, values, output, log-sum-exp, spans.
type State<B> = (
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
    FloatTensor<B>,
    Arc<Spans>,
);

impl<B: AttentionOps> Backward<B, 3> for AttentionStep {
    type State = State<B>;

    fn backward(self, ops: Ops<Self::State, 3>, graph: &mut Graph, _: &mut Checkpointer) {
        let upstream = graph.consume::<B>(&ops.node);
        let (queries, keys, values, out, lse, spans) = ops.state;
        let [count, heads] = lse.shape().dims();
        let column = Shape::new([count, heads, 1]);
        let delta = B::float_sum_dim(B::float_mul(upstream.clone(), out), 2);
        let statistics = B::float_cat(vec![B::float_reshape(lse, column), delta], 2);
        let inputs = Inputs {
            queries,
            keys,
            values,
        };
        let (to_queries, to_keys, to_values) =
            B::packed_attention_backward(inputs, upstream, statistics, spans);
        for (node, gradient) in ops
            .parents
            .into_iter()
            .zip([to_queries, to_keys, to_values])
        {
            if let Some(node) = node {
                graph.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: AttentionOps, C: CheckpointStrategy> AttentionOps for Autodiff<B, C> {
    fn packed_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        spans: Arc<Spans>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [queries.node(), keys.node(), values.node()];
        let (queries, keys, values) = (
            queries.into_primitive(),
            keys.into_primitive(),
            values.into_primitive(),
        );
        let (out, lse) = B::packed_attention(
            queries.clone(),
            keys.clone(),
            values.clone(),
            Arc::clone(&spans),
        );
        let out = match AttentionStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(
                (queries, keys, values, out.clone(), lse.clone(), spans),
                out,
            ),
            OpsKind::UnTracked(prep) => prep.finish(out),
        };
        (out, Self::from_inner(lse))
    }

    /// The gradient of the gradient does not exist: Burn's autodiff is of first order.
    fn packed_attention_backward(
        inputs: Inputs<Self>,
        upstream: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        spans: Arc<Spans>,
    ) -> Gradients<Self> {
        let inputs = Inputs {
            queries: inputs.queries.into_primitive(),
            keys: inputs.keys.into_primitive(),
            values: inputs.values.into_primitive(),
        };
        let (to_queries, to_keys, to_values) = B::packed_attention_backward(
            inputs,
            upstream.into_primitive(),
            statistics.into_primitive(),
            spans,
        );
        (
            Self::from_inner(to_queries),
            Self::from_inner(to_keys),
            Self::from_inner(to_values),
        )
    }
}
