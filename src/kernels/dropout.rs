//! Dropout whose mask is a function of a seed and a place, so that nothing of it is kept. It knows values, not layers.
//!
//! `y[i] = x[i] / (1 − p)` where the hash of (seed, i) falls into the kept part, else 0; the gradient passes through the
//! same mask. Counterpart: PEFT's `lora_dropout`, with numbers of its own.

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
use super::vector_math::{ELEMENTS_PER_TASK, VectorTask, run};

/// `x` with each value zeroed with `probability`, the others divided by `1 − probability`; differentiable.
///
/// The same seed zeroes the same places, on every device.
///
/// # Shapes
/// `x` and the result `[n, D]`.
///
/// # Panics
/// If the probability is not at least 0 and below 1.
pub fn dropout(x: Tensor<2>, probability: f32, seed: u64) -> Tensor<2> {
    assert!(
        (0.0..1.0).contains(&probability),
        "dropout: the probability must be at least 0 and below 1, found {probability}"
    );
    if probability == 0.0 {
        return x;
    }
    Tensor::from_dispatch(Dispatch::dropout(
        x.into_dispatch(),
        Mask::new(probability, seed),
    ))
}

/// Which places are kept, and what they are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mask {
    low: u32,
    high: u32,
    threshold: u32,
    scale: f32,
}

impl Mask {
    fn new(probability: f32, seed: u64) -> Self {
        // SplitMix64: seeds that differ in one bit have keys that differ in half of them.
        let key = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let key = key ^ (key >> 31);
        Self {
            low: key as u32,
            high: (key >> 32) as u32,
            // A cast of a float stops at the largest number.
            threshold: (f64::from(probability) * f64::from(u32::MAX)).round() as u32,
            scale: (1.0 / (1.0 - f64::from(probability))) as f32,
        }
    }

    /// Whether a place is kept.
    #[inline(always)]
    fn keeps(self, index: u32) -> bool {
        mixed(mixed(index.wrapping_add(self.low)) ^ self.high) >= self.threshold
    }
}

/// The finaliser of MurmurHash3; shaders/dropout.wgsl has the same function.
#[inline(always)]
fn mixed(word: u32) -> u32 {
    let first = (word ^ (word >> 16)).wrapping_mul(0x85eb_ca6b);
    let second = (first ^ (first >> 13)).wrapping_mul(0xc2b2_ae35);
    second ^ (second >> 16)
}

/// Routes the operation to WGSL or to the CPU twin; all floats are f32.
#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait DropoutOps: Backend {
    /// Also its own gradient.
    fn dropout(x: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct DropoutStep;

impl<B: DropoutOps> Backward<B, 1> for DropoutStep {
    type State = Mask;

    fn backward(self, ops: Ops<Self::State, 1>, graph: &mut Gradients, _: &mut Checkpointer) {
        let upstream = graph.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            graph.register::<B>(node.id, B::dropout(upstream, ops.state));
        }
    }
}

impl<B: DropoutOps, C: CheckpointStrategy> DropoutOps for Autodiff<B, C> {
    fn dropout(x: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self> {
        let node = x.node();
        let y = B::dropout(x.into_primitive(), mask);
        match DropoutStep.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(mask, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// A run of values that begins at a place.
struct Values<'a> {
    mask: Mask,
    start: u32,
    x: &'a [f32],
    result: &'a mut [f32],
}

impl VectorTask for Values<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (index, (result, x)) in self.result.iter_mut().zip(self.x).enumerate() {
            let kept = self.mask.keeps(self.start.wrapping_add(index as u32));
            *result = if kept { x * self.mask.scale } else { 0.0 };
        }
    }
}

impl DropoutOps for Flex {
    fn dropout(x: FlexTensor, mask: Mask) -> FlexTensor {
        let [count, width] = x.layout().shape().dims();
        let x = floats(&x);
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(ELEMENTS_PER_TASK)
            .zip(x.par_chunks(ELEMENTS_PER_TASK))
            .enumerate()
            .for_each(|(chunk, (result, x))| {
                run(Values {
                    mask,
                    start: (chunk * ELEMENTS_PER_TASK) as u32,
                    x,
                    result,
                });
            });
        from_floats(y, [count, width])
    }
}

/// Invocations per workgroup.
const WORKGROUP: u32 = 256;

/// The only variant.
pub(crate) fn shaders() -> Vec<Shader> {
    vec![shader()]
}

fn shader() -> Shader {
    Shader {
        name: "dropout",
        source: include_str!("../../shaders/dropout.wgsl"),
        shared: &[include_str!("../../shaders/shared/index.wgsl")],
        tunables: vec![],
        workgroup: WORKGROUP,
    }
}

impl DropoutOps for CubeBackend {
    fn dropout(x: CubeTensor, mask: Mask) -> CubeTensor {
        let x = contiguous(x);
        let [count, width] = x.meta.shape().dims();
        let y = empty(&x, [count, width], DType::F32);
        let size = count * width;
        launch(
            shader(),
            &[(&x, ReadOnly), (&y, WriteOnly)],
            &[
                size as u32,
                mask.low,
                mask.high,
                mask.threshold,
                mask.scale.to_bits(),
            ],
            size.div_ceil(WORKGROUP as usize) as u32,
        );
        y
    }
}
