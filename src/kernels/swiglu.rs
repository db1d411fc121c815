//! The gated unit `silu(gate) · up`, forward and backward. It knows tensors, not what they hold.
//!
//! `silu(x) = x / (1 + exp(−x))`. Counterpart: transformers' `Qwen2MLP`.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{AutodiffBackend, Backend, Dispatch, Flex, backend_extension};
use burn::cubecl::prelude::BufferIOAttr::{ReadOnly, WriteOnly};
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::assemble::Shader;
use super::flex_slices::{floats, from_floats};
use super::launch::{contiguous, empty, launch};
use super::shape_check::ShapeCheck;
use super::vector_math::{ELEMENTS_PER_TASK, VectorTask, exp, run};

/// `silu(gate) · up`, value by value; differentiable towards both.
///
/// # Shapes
/// `gate`, `up` and the result `[n, I]`.
///
/// # Panics
/// If the shapes disagree.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    ShapeCheck::new("swiglu")
        .tensor("gate", "nI", &gate.dims())
        .tensor("up", "nI", &up.dims());
    Tensor::from_dispatch(Dispatch::swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// Routes the operation to WGSL or to the CPU twin; all floats are f32.
#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait SwigluOps: Backend {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Gradients to gate and up.
    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

#[derive(Debug)]
struct SwigluStep;

impl<B: SwigluOps> Backward<B, 2> for SwigluStep {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, graph: &mut Gradients, _: &mut Checkpointer) {
        let upstream = graph.consume::<B>(&ops.node);
        let (gate, up) = ops.state;
        let (to_gate, to_up) = B::swiglu_backward(gate, up, upstream);
        for (node, gradient) in ops.parents.into_iter().zip([to_gate, to_up]) {
            if let Some(node) = node {
                graph.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: SwigluOps, C: CheckpointStrategy> SwigluOps for Autodiff<B, C> {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [gate.node(), up.node()];
        let (gate, up) = (gate.into_primitive(), up.into_primitive());
        let y = B::swiglu(gate.clone(), up.clone());
        match SwigluStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((gate, up), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    /// The gradient of the gradient does not exist: Burn's autodiff is of first order.
    fn swiglu_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (to_gate, to_up) = B::swiglu_backward(
            gate.into_primitive(),
            up.into_primitive(),
            upstream.into_primitive(),
        );
        (Self::from_inner(to_gate), Self::from_inner(to_up))
    }
}

struct Values<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    result: &'a mut [f32],
}

impl VectorTask for Values<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for ((result, gate), up) in self.result.iter_mut().zip(self.gate).zip(self.up) {
            *result = gate * up / (1.0 + exp::<FMA>(-gate));
        }
    }
}

struct Slopes<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    upstream: &'a [f32],
    to_gate: &'a mut [f32],
    to_up: &'a mut [f32],
}

impl VectorTask for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let inputs = self.gate.iter().zip(self.up).zip(self.upstream);
        let outputs = self.to_gate.iter_mut().zip(self.to_up);
        for (((gate, up), upstream), (to_gate, to_up)) in inputs.zip(outputs) {
            let sigmoid = 1.0 / (1.0 + exp::<FMA>(-gate));
            *to_up = upstream * gate * sigmoid;
            *to_gate = upstream * up * sigmoid * (1.0 + gate * (1.0 - sigmoid));
        }
    }
}

impl SwigluOps for Flex {
    fn swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        let [count, width] = gate.layout().shape().dims();
        let (gate, up) = (floats(&gate), floats(&up));
        let mut y = vec![0.0; gate.len()];
        y.par_chunks_mut(ELEMENTS_PER_TASK)
            .zip(gate.par_chunks(ELEMENTS_PER_TASK))
            .zip(up.par_chunks(ELEMENTS_PER_TASK))
            .for_each(|((result, gate), up)| run(Values { gate, up, result }));
        from_floats(y, [count, width])
    }

    fn swiglu_backward(
        gate: FlexTensor,
        up: FlexTensor,
        upstream: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        let [count, width] = gate.layout().shape().dims();
        let (gate, up, upstream) = (floats(&gate), floats(&up), floats(&upstream));
        let (mut to_gate, mut to_up) = (vec![0.0; gate.len()], vec![0.0; gate.len()]);
        let inputs = gate
            .par_chunks(ELEMENTS_PER_TASK)
            .zip(up.par_chunks(ELEMENTS_PER_TASK))
            .zip(upstream.par_chunks(ELEMENTS_PER_TASK));
        to_gate
            .par_chunks_mut(ELEMENTS_PER_TASK)
            .zip(to_up.par_chunks_mut(ELEMENTS_PER_TASK))
            .zip(inputs)
            .for_each(|((to_gate, to_up), ((gate, up), upstream))| {
                run(Slopes {
                    gate,
                    up,
                    upstream,
                    to_gate,
                    to_up,
                });
            });
        (
            from_floats(to_gate, [count, width]),
            from_floats(to_up, [count, width]),
        )
    }
}

/// Invocations per workgroup of both shaders.
const WORKGROUP: u32 = 256;

/// The forward and the backward pass.
pub(crate) fn shaders() -> Vec<Shader> {
    vec![forward_shader(), backward_shader()]
}

fn forward_shader() -> Shader {
    Shader {
        name: "swiglu",
        source: include_str!("../../shaders/swiglu.wgsl"),
        shared: &[include_str!("../../shaders/shared/index.wgsl")],
        tunables: vec![],
        workgroup: WORKGROUP,
    }
}

fn backward_shader() -> Shader {
    Shader {
        name: "swiglu_backward",
        source: include_str!("../../shaders/swiglu_backward.wgsl"),
        ..forward_shader()
    }
}

impl SwigluOps for CubeBackend {
    fn swiglu(gate: CubeTensor, up: CubeTensor) -> CubeTensor {
        let (gate, up) = (contiguous(gate), contiguous(up));
        let [count, width] = gate.meta.shape().dims();
        let y = empty(&gate, [count, width], DType::F32);
        let size = count * width;
        launch(
            forward_shader(),
            &[(&gate, ReadOnly), (&up, ReadOnly), (&y, WriteOnly)],
            &[size as u32],
            size.div_ceil(WORKGROUP as usize) as u32,
        );
        y
    }

    fn swiglu_backward(
        gate: CubeTensor,
        up: CubeTensor,
        upstream: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        let (gate, up, upstream) = (contiguous(gate), contiguous(up), contiguous(upstream));
        let [count, width] = gate.meta.shape().dims();
        let to_gate = empty(&gate, [count, width], DType::F32);
        let to_up = empty(&gate, [count, width], DType::F32);
        let size = count * width;
        launch(
            backward_shader(),
            &[
                (&gate, ReadOnly),
                (&up, ReadOnly),
                (&upstream, ReadOnly),
                (&to_gate, WriteOnly),
                (&to_up, WriteOnly),
            ],
            &[size as u32],
            size.div_ceil(WORKGROUP as usize) as u32,
        );
        (to_gate, to_up)
    }
}
