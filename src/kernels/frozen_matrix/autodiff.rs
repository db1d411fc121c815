//! The operations in Burn's autodiff graph: a gradient to x alone. It knows no kernel.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::AutodiffBackend;
use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::{FrozenMatrix, FrozenMatrixOps};

#[derive(Debug)]
struct LinearStep;

impl<B: FrozenMatrixOps> Backward<B, 1> for LinearStep {
    type State = (Arc<FrozenMatrix>, Range<usize>);

    fn backward(self, ops: Ops<Self::State, 1>, graph: &mut Gradients, _: &mut Checkpointer) {
        let upstream = graph.consume::<B>(&ops.node);
        let (weight, rows) = ops.state;
        if let [Some(node)] = ops.parents {
            graph.register::<B>(node.id, B::frozen_linear_backward(upstream, weight, rows));
        }
    }
}

impl<B: FrozenMatrixOps, C: CheckpointStrategy> FrozenMatrixOps for Autodiff<B, C> {
    fn frozen_linear(
        x: FloatTensor<Self>,
        weight: Arc<FrozenMatrix>,
        rows: Range<usize>,
    ) -> FloatTensor<Self> {
        let node = x.node();
        let y = B::frozen_linear(x.into_primitive(), Arc::clone(&weight), rows.clone());
        match LinearStep.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((weight, rows), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    /// The gradient of the gradient does not exist: Burn's autodiff is of first order.
    fn frozen_linear_backward(
        upstream: FloatTensor<Self>,
        weight: Arc<FrozenMatrix>,
        rows: Range<usize>,
    ) -> FloatTensor<Self> {
        Self::from_inner(B::frozen_linear_backward(
            upstream.into_primitive(),
            weight,
            rows,
        ))
    }

    fn frozen_gather(ids: IntTensor<Self>, weight: Arc<FrozenMatrix>) -> FloatTensor<Self> {
        Self::from_inner(B::frozen_gather(ids, weight))
    }
}
