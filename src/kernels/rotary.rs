//! Rotation of pairs of values by angles per token ("rotate_half"), forward and backward. It knows tensors, not positions.
//!
//! With E = 2h, for e < h: `y[e] = x[e] cos[e] − x[e + h] sin[e]`, `y[e + h] = x[e + h] cos[e] + x[e] sin[e]`; the backward
//! pass turns by the opposite angle. Counterpart: transformers' `apply_multimodal_rotary_pos_emb`.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::cubecl::prelude::BufferIOAttr::{ReadOnly, WriteOnly};
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::assemble::Shader;
use super::flex_slices::{floats, from_floats};
use super::launch::{contiguous, empty, launch};
use super::shape_check::ShapeCheck;
use super::vector_math::{VectorTask, rows_per_task, run};

/// Every head of every token turned by its token's angles; differentiable towards `x`.
///
/// # Shapes
/// `x` `[n, H, E]`, `cosines` and `sines` `[n, E/2]`, result `[n, H, E]`.
///
/// # Panics
/// If the shapes disagree.
pub fn rotary(x: Tensor<3>, cosines: Tensor<2>, sines: Tensor<2>) -> Tensor<3> {
    let [count, _, width] = x.dims();
    ShapeCheck::new("rotary")
        .tensor("cosines", "nh", &cosines.dims())
        .tensor("sines", "nh", &sines.dims())
        .tensor("half of x", "nh", &[count, width / 2]);
    assert!(
        width.is_multiple_of(2),
        "rotary: a head of {width} values has no halves"
    );
    Tensor::from_dispatch(Dispatch::rotary(
        x.into_dispatch(),
        cosines.into_dispatch(),
        sines.into_dispatch(),
        Turn::Forward,
    ))
}

/// Which way the angles turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Forward,
    Back,
}

impl Turn {
    const fn sign(self) -> f32 {
        match self {
            Self::Forward => 1.0,
            Self::Back => -1.0,
        }
    }
}

/// Routes the operation to WGSL or to the CPU twin; all floats are f32.
#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait RotaryOps: Backend {
    fn rotary(
        x: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct RotaryStep;

impl<B: RotaryOps> Backward<B, 1> for RotaryStep {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, graph: &mut Gradients, _: &mut Checkpointer) {
        let upstream = graph.consume::<B>(&ops.node);
        let (cosines, sines) = ops.state;
        let [node] = ops.parents;
        if let Some(node) = node {
            let gradient = B::rotary(upstream, cosines, sines, Turn::Back);
            graph.register::<B>(node.id, gradient);
        }
    }
}

impl<B: RotaryOps, C: CheckpointStrategy> RotaryOps for Autodiff<B, C> {
    fn rotary(
        x: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self> {
        let node = x.node();
        let (cosines, sines) = (cosines.into_primitive(), sines.into_primitive());
        let y = B::rotary(x.into_primitive(), cosines.clone(), sines.clone(), turn);
        match RotaryStep.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((cosines, sines), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// One token: all of its heads.
struct Token<'a> {
    x: &'a [f32],
    cosines: &'a [f32],
    sines: &'a [f32],
    sign: f32,
    result: &'a mut [f32],
}

impl VectorTask for Token<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let half = self.cosines.len();
        let heads = self.x.chunks_exact(2 * half);
        for (x, result) in heads.zip(self.result.chunks_exact_mut(2 * half)) {
            let ((low, high), (to_low, to_high)) = (x.split_at(half), result.split_at_mut(half));
            for e in 0..half {
                let (cosine, sine) = (self.cosines[e], self.sines[e] * self.sign);
                to_low[e] = low[e] * cosine - high[e] * sine;
                to_high[e] = high[e] * cosine + low[e] * sine;
            }
        }
    }
}

impl RotaryOps for Flex {
    fn rotary(x: FlexTensor, cosines: FlexTensor, sines: FlexTensor, turn: Turn) -> FlexTensor {
        let [count, heads, width] = x.layout().shape().dims();
        let (x, cosines, sines) = (floats(&x), floats(&cosines), floats(&sines));
        let mut y = vec![0.0; x.len()];
        let (size, half) = ((heads * width).max(1), (width / 2).max(1));
        y.par_chunks_exact_mut(size)
            .zip(x.par_chunks_exact(size))
            .zip(
                cosines
                    .par_chunks_exact(half)
                    .zip(sines.par_chunks_exact(half)),
            )
            .with_min_len(rows_per_task(size))
            .for_each(|((result, x), (cosines, sines))| {
                run(Token {
                    x,
                    cosines,
                    sines,
                    sign: turn.sign(),
                    result,
                });
            });
        from_floats(y, [count, heads, width])
    }
}

/// Invocations per workgroup.
const WORKGROUP: u32 = 256;

/// The only variant.
pub(crate) fn shaders() -> Vec<Shader> {
    vec![Shader {
        name: "rotary",
        source: include_str!("../../shaders/rotary.wgsl"),
        shared: &[include_str!("../../shaders/shared/index.wgsl")],
        tunables: vec![],
        workgroup: WORKGROUP,
    }]
}

impl RotaryOps for CubeBackend {
    fn rotary(x: CubeTensor, cosines: CubeTensor, sines: CubeTensor, turn: Turn) -> CubeTensor {
        let (x, cosines, sines) = (contiguous(x), contiguous(cosines), contiguous(sines));
        let [count, heads, width] = x.meta.shape().dims();
        let y = empty(&x, [count, heads, width], DType::F32);
        let pairs = count * heads * width / 2;
        launch(
            shaders().remove(0),
            &[
                (&x, ReadOnly),
                (&cosines, ReadOnly),
                (&sines, ReadOnly),
                (&y, WriteOnly),
            ],
            &[
                pairs as u32,
                heads as u32,
                (width / 2) as u32,
                turn.sign().to_bits(),
            ],
            pairs.div_ceil(WORKGROUP as usize) as u32,
        );
        y
    }
}
