//! Root-mean-square norm of rows, forward and backward. It knows tensors, not what a row is.
//!
//! `y[i] = x[i] · scale[i] · w` with `scale[i] = 1 / sqrt(mean(x[i]²) + eps)`. Counterpart: transformers' `Qwen2RMSNorm`.

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
use super::vector_math::{LANES, VectorTask, multiply_add, rows_per_task, run};

/// The norm of each row of `x`, times `weight`; differentiable towards both.
///
/// # Shapes
/// `x` `[n, D]`, `weight` `[D]`, result `[n, D]`.
///
/// # Panics
/// If the shapes disagree.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    ShapeCheck::new("rms_norm")
        .tensor("x", "nD", &x.dims())
        .tensor("weight", "D", &weight.dims());
    let (y, _) = Dispatch::rms_norm(x.into_dispatch(), weight.into_dispatch(), eps as f32);
    Tensor::from_dispatch(y)
}

/// Routes the operation to WGSL or to the CPU twin; all floats are f32.
#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait RmsNormOps: Backend {
    /// `(y [n, D], scale [n])`.
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradient to x: `scale (g − x scale² mean(g x))` with `g = upstream · w`.
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Gradient to the weight: `Σ_i upstream[i] · x[i] · scale[i]`.
    fn rms_norm_weight_backward(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct RmsNormStep;

impl<B: RmsNormOps> Backward<B, 2> for RmsNormStep {
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, graph: &mut Gradients, _: &mut Checkpointer) {
        let upstream = graph.consume::<B>(&ops.node);
        let (x, weight, scale) = ops.state;
        let [x_node, weight_node] = ops.parents;
        if let Some(node) = weight_node {
            let gradient = B::rms_norm_weight_backward(x.clone(), scale.clone(), upstream.clone());
            graph.register::<B>(node.id, gradient);
        }
        if let Some(node) = x_node {
            graph.register::<B>(node.id, B::rms_norm_backward(x, weight, scale, upstream));
        }
    }
}

impl<B: RmsNormOps, C: CheckpointStrategy> RmsNormOps for Autodiff<B, C> {
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let (y, scale) = B::rms_norm(x.clone(), weight.clone(), eps);
        let y = match RmsNormStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, weight, scale.clone()), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        };
        (y, Self::from_inner(scale))
    }

    /// The gradient of the gradient does not exist: Burn's autodiff is of first order.
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::from_inner(B::rms_norm_backward(
            x.into_primitive(),
            weight.into_primitive(),
            scale.into_primitive(),
            upstream.into_primitive(),
        ))
    }

    fn rms_norm_weight_backward(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        upstream: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::from_inner(B::rms_norm_weight_backward(
            x.into_primitive(),
            scale.into_primitive(),
            upstream.into_primitive(),
        ))
    }
}

/// Σ a · b over a row.
struct Dot<'a>(&'a [f32], &'a [f32]);

impl VectorTask for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f32 {
        let (left, left_rest) = self.0.as_chunks::<LANES>();
        let (right, right_rest) = self.1.as_chunks::<LANES>();
        let mut sums = [0.0; LANES];
        for (left, right) in left.iter().zip(right) {
            for lane in 0..LANES {
                sums[lane] = multiply_add::<FMA>(left[lane], right[lane], sums[lane]);
            }
        }
        let rest: f32 = left_rest.iter().zip(right_rest).map(|(a, b)| a * b).sum();
        sums.iter().sum::<f32>() + rest
    }
}

/// One row of the gradient to x; `g` is scratch for upstream · w.
struct RowGradient<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    upstream: &'a [f32],
    scale: f32,
    result: &'a mut [f32],
}

impl VectorTask for RowGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self {
            x,
            weight,
            upstream,
            scale,
            result,
        } = self;
        for ((result, up), weight) in result.iter_mut().zip(upstream).zip(weight) {
            *result = up * weight;
        }
        let product = Dot(result, x).run::<FMA>();
        let factor = product * scale * scale * scale / x.len() as f32;
        for (result, x) in result.iter_mut().zip(x) {
            *result = *result * scale - x * factor;
        }
    }
}

impl RmsNormOps for Flex {
    fn rms_norm(x: FlexTensor, weight: FlexTensor, eps: f32) -> (FlexTensor, FlexTensor) {
        let [count, width] = x.layout().shape().dims();
        let (x, weight) = (floats(&x), floats(&weight));
        let (mut y, mut scales) = (vec![0.0; x.len()], vec![0.0; count]);
        let size = width.max(1);
        y.par_chunks_exact_mut(size)
            .zip(x.par_chunks_exact(size))
            .zip(&mut scales)
            .with_min_len(rows_per_task(width))
            .for_each(|((y, x), scale)| {
                *scale = 1.0 / (run(Dot(x, x)) / width as f32 + eps).sqrt();
                for ((y, x), weight) in y.iter_mut().zip(x).zip(weight.iter()) {
                    *y = x * *scale * weight;
                }
            });
        (from_floats(y, [count, width]), from_floats(scales, [count]))
    }

    fn rms_norm_backward(
        x: FlexTensor,
        weight: FlexTensor,
        scale: FlexTensor,
        upstream: FlexTensor,
    ) -> FlexTensor {
        let [count, width] = x.layout().shape().dims();
        let (x, weight) = (floats(&x), floats(&weight));
        let (scale, upstream) = (floats(&scale), floats(&upstream));
        let mut gradient = vec![0.0; x.len()];
        let size = width.max(1);
        gradient
            .par_chunks_exact_mut(size)
            .zip(
                x.par_chunks_exact(size)
                    .zip(upstream.par_chunks_exact(size)),
            )
            .zip(scale.par_iter())
            .with_min_len(rows_per_task(width))
            .for_each(|((result, (x, upstream)), scale)| {
                run(RowGradient {
                    x,
                    weight: &weight,
                    upstream,
                    scale: *scale,
                    result,
                });
            });
        from_floats(gradient, [count, width])
    }

    fn rms_norm_weight_backward(
        x: FlexTensor,
        scale: FlexTensor,
        upstream: FlexTensor,
    ) -> FlexTensor {
        let [_, width] = x.layout().shape().dims::<2>();
        let (x, scale, upstream) = (floats(&x), floats(&scale), floats(&upstream));
        let mut gradient = vec![0.0; width];
        let size = width.max(1);
        for ((x, upstream), scale) in x
            .chunks_exact(size)
            .zip(upstream.chunks_exact(size))
            .zip(scale.iter())
        {
            for ((sum, x), upstream) in gradient.iter_mut().zip(x).zip(upstream) {
                *sum += x * upstream * scale;
            }
        }
        from_floats(gradient, [width])
    }
}

/// Invocations per workgroup of all three shaders.
const WORKGROUP: u32 = 64;

/// The three passes.
#[derive(Debug, Clone, Copy)]
enum Pass {
    Forward,
    Backward,
    WeightBackward,
}

/// The forward pass and both backward passes.
pub(crate) fn shaders() -> Vec<Shader> {
    [Pass::Forward, Pass::Backward, Pass::WeightBackward]
        .map(shader)
        .to_vec()
}

fn shader(pass: Pass) -> Shader {
    let (name, source) = match pass {
        Pass::Forward => ("rms_norm", include_str!("../../shaders/rms_norm.wgsl")),
        Pass::Backward => (
            "rms_norm_backward",
            include_str!("../../shaders/rms_norm_backward.wgsl"),
        ),
        Pass::WeightBackward => (
            "rms_norm_weight_backward",
            include_str!("../../shaders/rms_norm_weight_backward.wgsl"),
        ),
    };
    Shader {
        name,
        source,
        shared: &[include_str!("../../shaders/shared/index.wgsl")],
        tunables: vec![],
        workgroup: WORKGROUP,
    }
}

impl RmsNormOps for CubeBackend {
    fn rms_norm(x: CubeTensor, weight: CubeTensor, eps: f32) -> (CubeTensor, CubeTensor) {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let [count, width] = x.meta.shape().dims();
        let y = empty(&x, [count, width], DType::F32);
        let scale = empty(&x, [count], DType::F32);
        launch(
            shader(Pass::Forward),
            &[
                (&x, ReadOnly),
                (&weight, ReadOnly),
                (&y, WriteOnly),
                (&scale, WriteOnly),
            ],
            &[count as u32, width as u32, eps.to_bits()],
            count as u32,
        );
        (y, scale)
    }

    fn rms_norm_backward(
        x: CubeTensor,
        weight: CubeTensor,
        scale: CubeTensor,
        upstream: CubeTensor,
    ) -> CubeTensor {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let (scale, upstream) = (contiguous(scale), contiguous(upstream));
        let [count, width] = x.meta.shape().dims();
        let gradient = empty(&x, [count, width], DType::F32);
        launch(
            shader(Pass::Backward),
            &[
                (&x, ReadOnly),
                (&weight, ReadOnly),
                (&scale, ReadOnly),
                (&upstream, ReadOnly),
                (&gradient, WriteOnly),
            ],
            &[count as u32, width as u32],
            count as u32,
        );
        gradient
    }

    fn rms_norm_weight_backward(
        x: CubeTensor,
        scale: CubeTensor,
        upstream: CubeTensor,
    ) -> CubeTensor {
        let (x, scale, upstream) = (contiguous(x), contiguous(scale), contiguous(upstream));
        let [count, width] = x.meta.shape().dims();
        let gradient = empty(&x, [width], DType::F32);
        launch(
            shader(Pass::WeightBackward),
            &[
                (&x, ReadOnly),
                (&scale, ReadOnly),
                (&upstream, ReadOnly),
                (&gradient, WriteOnly),
            ],
            &[count as u32, width as u32],
            width.div_ceil(WORKGROUP as usize) as u32,
        );
        gradient
    }
}
