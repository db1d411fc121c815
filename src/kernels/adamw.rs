//! One update of AdamW in place: a parameter and its two moments are read and written once.
//! It knows tensors and scalars, not names, steps or schedules.
//!
//! `m ← β₁ m + (1−β₁) g`, `v ← β₂ v + (1−β₂) g²`, `p ← decay · p − rate · m / (sqrt(v) / root_correction + ε)`.
//! Counterpart: `torch.optim.AdamW` with `fused=True`.

use burn::backend::autodiff::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{AutodiffBackend, Backend, Dispatch, Flex, backend_extension};
use burn::cubecl::prelude::BufferIOAttr::{ReadOnly, ReadWrite};
use burn::tensor::Tensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

use super::assemble::Shader;
use super::flex_slices::floats;
use super::launch::{contiguous, launch, owned};
use super::shape_check::ShapeCheck;
use super::vector_math::{ELEMENTS_PER_TASK, VectorTask, run};

/// The scalars of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// What is left of the parameter: 1 − learning rate · weight decay.
    pub decay: f64,
    /// β₁, decay of the mean.
    pub beta1: f64,
    /// β₂, decay of the mean square.
    pub beta2: f64,
    /// Learning rate / (1 − β₁ᵗ).
    pub rate: f64,
    /// sqrt(1 − β₂ᵗ).
    pub root_correction: f64,
    /// ε, added to the root.
    pub epsilon: f64,
}

/// A parameter and its moments, `[elements]` each.
#[derive(Debug, Clone)]
pub struct AdamWState {
    /// The parameter.
    pub parameter: Tensor<1>,
    /// Mean of the gradients.
    pub exp_avg: Tensor<1>,
    /// Mean of the squares of the gradients.
    pub exp_avg_sq: Tensor<1>,
}

/// The state after one update; in the memory of the tensors that nobody else holds, without another buffer of their size.
///
/// # Shapes
/// Everything `[elements]`, f32. Not differentiable.
///
/// # Panics
/// If the shapes disagree.
#[must_use]
pub fn adamw(state: AdamWState, gradient: Tensor<1>, step: &AdamWStep) -> AdamWState {
    ShapeCheck::new("adamw")
        .tensor("parameter", "e", &state.parameter.dims())
        .tensor("exp_avg", "e", &state.exp_avg.dims())
        .tensor("exp_avg_sq", "e", &state.exp_avg_sq.dims())
        .tensor("gradient", "e", &gradient.dims());
    let (parameter, exp_avg, exp_avg_sq) = Dispatch::adamw(
        state.parameter.into_dispatch(),
        state.exp_avg.into_dispatch(),
        state.exp_avg_sq.into_dispatch(),
        gradient.into_dispatch(),
        Scalars::new(step),
    );
    AdamWState {
        parameter: Tensor::from_dispatch(parameter),
        exp_avg: Tensor::from_dispatch(exp_avg),
        exp_avg_sq: Tensor::from_dispatch(exp_avg_sq),
    }
}

/// The scalars as the kernels read them; 1 − β is rounded once, not taken from a rounded β.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalars {
    decay: f32,
    beta1: f32,
    own1: f32,
    beta2: f32,
    own2: f32,
    rate: f32,
    root_correction: f32,
    epsilon: f32,
}

impl Scalars {
    fn new(step: &AdamWStep) -> Self {
        Self {
            decay: step.decay as f32,
            beta1: step.beta1 as f32,
            own1: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            own2: (1.0 - step.beta2) as f32,
            rate: step.rate as f32,
            root_correction: step.root_correction as f32,
            epsilon: step.epsilon as f32,
        }
    }
}

/// Routes the operation to WGSL or to the CPU twin.
#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait AdamWOps: Backend {
    /// Parameter and moments after one update.
    fn adamw(
        parameter: FloatTensor<Self>,
        exp_avg: FloatTensor<Self>,
        exp_avg_sq: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scalars: Scalars,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl AdamWOps for Flex {
    fn adamw(
        parameter: FlexTensor,
        exp_avg: FlexTensor,
        exp_avg_sq: FlexTensor,
        gradient: FlexTensor,
        scalars: Scalars,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let mut state = [parameter, exp_avg, exp_avg_sq].map(|tensor| tensor.to_contiguous());
        // A tensor that somebody else still holds is copied here.
        let [parameter, exp_avg, exp_avg_sq] = state.each_mut().map(FlexTensor::storage_mut::<f32>);
        update(parameter, exp_avg, exp_avg_sq, &floats(&gradient), scalars);
        state.into()
    }
}

/// The update on slices of equal length, shared out among threads.
fn update(
    parameter: &mut [f32],
    exp_avg: &mut [f32],
    exp_avg_sq: &mut [f32],
    gradient: &[f32],
    scalars: Scalars,
) {
    let parts = parameter
        .par_chunks_mut(ELEMENTS_PER_TASK)
        .zip(exp_avg.par_chunks_mut(ELEMENTS_PER_TASK))
        .zip(exp_avg_sq.par_chunks_mut(ELEMENTS_PER_TASK))
        .zip(gradient.par_chunks(ELEMENTS_PER_TASK));
    parts.for_each(|(((parameter, exp_avg), exp_avg_sq), gradient)| {
        run(Update {
            parameter,
            exp_avg,
            exp_avg_sq,
            gradient,
            scalars,
        });
    });
}

struct Update<'a> {
    parameter: &'a mut [f32],
    exp_avg: &'a mut [f32],
    exp_avg_sq: &'a mut [f32],
    gradient: &'a [f32],
    scalars: Scalars,
}

impl VectorTask for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let s = self.scalars;
        let moments = self.exp_avg.iter_mut().zip(self.exp_avg_sq);
        let elements = self.parameter.iter_mut().zip(moments).zip(self.gradient);
        for ((parameter, (mean, square)), &g) in elements {
            *mean = s.beta1 * *mean + s.own1 * g;
            *square = s.beta2 * *square + s.own2 * (g * g);
            let denominator = square.sqrt() / s.root_correction + s.epsilon;
            *parameter = s.decay * *parameter - s.rate * (*mean / denominator);
        }
    }
}

impl AdamWOps for CubeBackend {
    fn adamw(
        parameter: CubeTensor,
        exp_avg: CubeTensor,
        exp_avg_sq: CubeTensor,
        gradient: CubeTensor,
        scalars: Scalars,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let gradient = contiguous(gradient);
        let state = [parameter, exp_avg, exp_avg_sq].map(owned);
        let elements = gradient.meta.num_elements();
        let [parameter, exp_avg, exp_avg_sq] = &state;
        let scalars = [
            scalars.decay,
            scalars.beta1,
            scalars.own1,
            scalars.beta2,
            scalars.own2,
            scalars.rate,
            scalars.root_correction,
            scalars.epsilon,
        ];
        let mut params = vec![elements as u32];
        params.extend(scalars.map(f32::to_bits));
        launch(
            shader(),
            &[
                (&gradient, ReadOnly),
                (parameter, ReadWrite),
                (exp_avg, ReadWrite),
                (exp_avg_sq, ReadWrite),
            ],
            &params,
            elements.div_ceil(WORKGROUP as usize) as u32,
        );
        state.into()
    }
}

impl<B: AdamWOps, C: CheckpointStrategy> AdamWOps for Autodiff<B, C> {
    fn adamw(
        parameter: FloatTensor<Self>,
        exp_avg: FloatTensor<Self>,
        exp_avg_sq: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        scalars: Scalars,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        // An update has no gradient.
        let (parameter, exp_avg, exp_avg_sq) = B::adamw(
            parameter.into_primitive(),
            exp_avg.into_primitive(),
            exp_avg_sq.into_primitive(),
            gradient.into_primitive(),
            scalars,
        );
        (
            Self::from_inner(parameter),
            Self::from_inner(exp_avg),
            Self::from_inner(exp_avg_sq),
        )
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
        name: "adamw",
        source: include_str!("../../shaders/adamw.wgsl"),
        shared: &[include_str!("../../shaders/shared/index.wgsl")],
        tunables: vec![],
        workgroup: WORKGROUP,
    }
}
