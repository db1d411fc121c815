//! The loss on each backend: the WGSL kernel, the CPU twin, and the step in Burn's autodiff graph.
//! It knows no formula.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Flex, TensorMetadata};
use burn::cubecl::prelude::BufferIOAttr;
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;

use super::super::assemble::Shader;
use super::super::flex_slices::{floats, from_floats};
use super::super::launch::{contiguous, empty, launch};
use super::{PolicyLossOps, Settings, Streams, Surrogate, TERMS, twin};

impl PolicyLossOps for CubeBackend {
    fn policy_loss(
        logprobs: CubeTensor,
        streams: Streams<Self>,
        settings: Settings,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        launch_policy_loss(logprobs, pack(streams), &settings)
    }
}

impl PolicyLossOps for Flex {
    fn policy_loss(
        logprobs: FlexTensor,
        streams: Streams<Self>,
        settings: Settings,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [rows, tokens] = logprobs.shape().dims();
        let result = twin::compute(
            &twin::Rows {
                logprobs: &floats(&logprobs),
                old: &floats(&streams.old),
                reference: settings
                    .has_reference
                    .then_some(&*floats(&streams.reference)),
                advantages: &floats(&streams.advantages),
                mask: &floats(&streams.mask),
                weights: &floats(&streams.weights),
                kl_weights: &floats(&streams.kl_weights),
                surrogate_weights: &floats(&streams.surrogate_weights),
                options: &settings.options,
            },
            tokens,
        );
        (
            from_floats(vec![result.loss], [1]),
            from_floats(result.terms, [TERMS, rows, tokens]),
            from_floats(result.gradient, [rows, tokens]),
        )
    }
}

/// The backward step: the gradient of the forward pass times the upstream number.
#[derive(Debug)]
struct PolicyLossStep;

impl<B: Backend> Backward<B, 1> for PolicyLossStep {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [node] = ops.parents;
        let upstream = grads.consume::<B>(&ops.node);
        if let Some(node) = node {
            let upstream = B::float_reshape(upstream, Shape::new([1, 1]));
            grads.register::<B>(node.id, B::float_mul(ops.state, upstream));
        }
    }
}

impl<B: PolicyLossOps, C: CheckpointStrategy> PolicyLossOps for Autodiff<B, C> {
    fn policy_loss(
        logprobs: FloatTensor<Self>,
        streams: Streams<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let node = logprobs.node();
        let streams = Streams {
            old: streams.old.into_primitive(),
            reference: streams.reference.into_primitive(),
            advantages: streams.advantages.into_primitive(),
            mask: streams.mask.into_primitive(),
            weights: streams.weights.into_primitive(),
            kl_weights: streams.kl_weights.into_primitive(),
            surrogate_weights: streams.surrogate_weights.into_primitive(),
        };
        let (loss, terms, gradient) = B::policy_loss(logprobs.into_primitive(), streams, settings);
        let loss = match PolicyLossStep
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(gradient.clone(), loss),
            OpsKind::UnTracked(prep) => prep.finish(loss),
        };
        (loss, Self::from_inner(terms), Self::from_inner(gradient))
    }
}

/// The kernel; it has one variant.
pub(crate) fn shaders() -> Vec<Shader> {
    vec![Shader {
        name: "policy_loss",
        source: include_str!("../../../shaders/policy_loss.wgsl"),
        shared: &[include_str!("../../../shaders/shared/index.wgsl")],
        tunables: Vec::new(),
        workgroup: 64,
    }]
}

/// Planes of the packed constants.
const STREAMS: usize = 7;

/// The constants as one tensor [7, R, T]: separate ones would need more bindings than every adapter has.
fn pack(streams: Streams<CubeBackend>) -> CubeTensor {
    let Streams {
        old,
        reference,
        advantages,
        mask,
        weights,
        kl_weights,
        surrogate_weights,
    } = streams;
    let planes: [CubeTensor; STREAMS] = [
        old,
        reference,
        advantages,
        mask,
        weights,
        kl_weights,
        surrogate_weights,
    ];
    let [rows, tokens] = planes[0].meta.shape().dims();
    let plane = |tensor| CubeBackend::float_reshape(tensor, Shape::new([1, rows, tokens]));
    CubeBackend::float_cat(planes.map(plane).to_vec(), 0)
}

/// Runs the WGSL kernel, one workgroup per row, and adds up the rows.
fn launch_policy_loss(
    logprobs: CubeTensor,
    streams: CubeTensor,
    settings: &Settings,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let (logprobs, streams) = (contiguous(logprobs), contiguous(streams));
    let [rows, tokens] = logprobs.meta.shape().dims();
    assert!(
        STREAMS * rows * tokens <= u32::MAX as usize,
        "policy_loss: [{STREAMS}, {rows}, {tokens}] has more than 2^32 elements"
    );
    let terms = empty(&logprobs, [TERMS, rows, tokens], DType::F32);
    let gradient = empty(&logprobs, [rows, tokens], DType::F32);
    let row_loss = empty(&logprobs, [rows], DType::F32);
    let options = &settings.options;
    let (surrogate, positive, negative) = match options.surrogate {
        Surrogate::Clipped => (0, 1.0, 1.0),
        Surrogate::Cispo => (1, 1.0, 1.0),
        Surrogate::Sapo { positive, negative } => (2, positive, negative),
    };
    let params = [
        rows as u32,
        tokens as u32,
        surrogate,
        positive.to_bits(),
        negative.to_bits(),
        u32::from(options.sequence_level),
        u32::from(settings.has_reference),
        u32::from(options.bias_corrected_kl),
        options.epsilon_low.to_bits(),
        options.epsilon_high.to_bits(),
        options.delta.unwrap_or(f32::MAX).to_bits(),
        options.beta.to_bits(),
        f32::NAN.to_bits(),
    ];
    let buffers = [
        (&logprobs, BufferIOAttr::ReadOnly),
        (&streams, BufferIOAttr::ReadOnly),
        (&terms, BufferIOAttr::WriteOnly),
        (&gradient, BufferIOAttr::WriteOnly),
        (&row_loss, BufferIOAttr::WriteOnly),
    ];
    launch(shaders().remove(0), &buffers, &params, rows as u32);
    (CubeBackend::float_sum(row_loss), terms, gradient)
}
