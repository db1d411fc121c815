//! Log-probability of each target token under a language-model head, without ever holding all logits.
//! It knows hidden states and a weight matrix, not which model they come from.
//!
//! With `x[t, j] = (hidden[t] · weight[j]) / temperature`, suppressed tokens left out of every sum:
//! `logsumexp[t] = ln Σ_j exp x[t, j]`, `logprobs[t] = x[t, targets[t]] − logsumexp[t]`,
//! `entropies[t] = −Σ_j p ln p` with `p = exp(x[t, j] − logsumexp[t])`; d entropies[t] / d x[t, j] = −p (ln p + entropies[t]).
//! Logits exist for a tile of the vocabulary at a time; what they add to these sums is merged into a state of a few numbers per
//! token. Counterpart in TRL: `selective_log_softmax` and `entropy_from_logits`.

mod autodiff;
mod backends;
mod backward;
mod cpu;
mod gpu;
mod products;
#[cfg(test)]
mod tests;
mod tiles;
mod twin;

use std::sync::Arc;

pub(crate) use gpu::shaders;
pub use tiles::LOGITS_CHUNK_BYTES;

use burn::backend::Backend;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Dispatch, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Int, Tensor};

use super::frozen_matrix::{FrozenMatrix, WeightMatrix};
use super::shape_check::ShapeCheck;
use super::temperature::TEMPERATURES;
use tiles::Tiles;

/// Log-probability given to a suppressed target: its probability is zero, but the value is finite, so that a mask
/// of zeros removes it from a loss.
pub const SUPPRESSED_LOGPROB: f32 = -1.0e30;

/// What the softmax of [`token_logprob`] does besides the plain definition.
#[derive(Debug, Clone)]
pub struct TokenLogprobOptions {
    /// The logits are divided by it; within [`TEMPERATURES`].
    pub temperature: f32,
    /// `[V]`: 1 for a token of probability zero, 0 for every other; at least one token must remain.
    pub suppressed: Option<Tensor<1>>,
    /// Whether to compute the entropies; they are zero otherwise.
    pub with_entropy: bool,
    /// Whether the entropies are differentiable, which computes them in any case.
    pub entropy_gradient: bool,
}

impl Default for TokenLogprobOptions {
    /// The plain softmax with entropies.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            suppressed: None,
            with_entropy: true,
            entropy_gradient: false,
        }
    }
}

/// Results per token, `[T]` each.
#[derive(Debug, Clone)]
pub struct TokenLogprob {
    /// Log-probability of the target token, at most zero; differentiable.
    /// NaN if the target is not in `0..V`, [`SUPPRESSED_LOGPROB`] if it is suppressed; both have gradient zero.
    pub logprobs: Tensor<1>,
    /// Entropy of the distribution in nats; differentiable if asked for.
    pub entropies: Tensor<1>,
    /// Logarithm of the sum of the exponentials of the scaled logits; not differentiable.
    pub logsumexp: Tensor<1>,
}

/// Log-probabilities of target tokens from hidden states and the head; the logits exist in tiles of the vocabulary only,
/// of at most [`LOGITS_CHUNK_BYTES`].
///
/// Gradients flow to `hidden` and a dense `head`; a head that is frozen or not tracked costs no gradient.
///
/// # Shapes
/// `hidden` `[T, D]`, `head` `[V, D]`, `targets` `[T]`, results `[T]`.
///
/// # Panics
/// If the shapes disagree, or the temperature is out of range.
pub fn token_logprob(
    hidden: Tensor<2>,
    head: &WeightMatrix,
    targets: Tensor<1, Int>,
    options: &TokenLogprobOptions,
) -> TokenLogprob {
    in_tiles(hidden, head, targets, options, LOGITS_CHUNK_BYTES)
}

/// The same with tiles of at most `tile_bytes`.
fn in_tiles(
    hidden: Tensor<2>,
    head: &WeightMatrix,
    targets: Tensor<1, Int>,
    options: &TokenLogprobOptions,
    tile_bytes: usize,
) -> TokenLogprob {
    let shapes = ShapeCheck::new("token_logprob")
        .tensor("hidden", "TD", &hidden.dims())
        .tensor("head", "VD", &head.shape())
        .tensor("targets", "T", &targets.dims());
    check_options(shapes, options);
    let head = match head {
        WeightMatrix::Dense(weight) => {
            Head::Dense(single_precision(weight.clone()).into_dispatch())
        }
        WeightMatrix::Frozen(weight) => Head::Frozen(Arc::clone(weight)),
    };
    results(Dispatch::token_logprob(
        single_precision(hidden).into_dispatch(),
        head,
        targets.into_dispatch(),
        suppression(options),
        Settings {
            tile_bytes,
            ..Settings::new(options)
        },
    ))
}

/// The same from ready logits, with a gradient to them.
///
/// # Shapes
/// `logits` `[T, V]`, `targets` `[T]`, results `[T]`.
///
/// # Panics
/// If the shapes disagree, or the temperature is out of range.
pub fn logits_logprob(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    options: &TokenLogprobOptions,
) -> TokenLogprob {
    let shapes = ShapeCheck::new("logits_logprob")
        .tensor("logits", "TV", &logits.dims())
        .tensor("targets", "T", &targets.dims());
    check_options(shapes, options);
    results(Dispatch::logits_logprob(
        single_precision(logits).into_dispatch(),
        targets.into_dispatch(),
        suppression(options),
        Settings::new(options),
    ))
}

/// Scalars of one call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) inverse_temperature: f32,
    pub(crate) with_entropy: bool,
    pub(crate) entropy_gradient: bool,
    /// Most bytes of logits at a time, where they are computed here.
    pub(crate) tile_bytes: usize,
}

impl Settings {
    fn new(options: &TokenLogprobOptions) -> Self {
        Self {
            inverse_temperature: 1.0 / options.temperature,
            with_entropy: options.with_entropy || options.entropy_gradient,
            entropy_gradient: options.entropy_gradient,
            tile_bytes: LOGITS_CHUNK_BYTES,
        }
    }
}

/// The head `[V, D]`.
#[derive(Debug, Clone, ExtensionType)]
pub(crate) enum Head<B: Backend> {
    Dense(FloatTensor<B>),
    Frozen(Arc<FrozenMatrix>),
}

impl<B: Backend> Head<B> {
    fn vocabulary(&self) -> usize {
        match self {
            Self::Dense(weight) => weight.shape()[0],
            Self::Frozen(weight) => weight.shape()[0],
        }
    }
}

/// The suppression mask on its way through Burn's dispatch, which takes no optional tensors.
#[derive(ExtensionType)]
pub(crate) enum Suppression<B: Backend> {
    Nothing,
    Mask(FloatTensor<B>),
}

impl<B: Backend> Suppression<B> {
    fn new(mask: Option<FloatTensor<B>>) -> Self {
        mask.map_or(Self::Nothing, Self::Mask)
    }

    fn mask(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Nothing => None,
            Self::Mask(mask) => Some(mask),
        }
    }
}

/// What the gradient needs per row, `[T]` each.
#[derive(ExtensionType)]
pub(crate) struct PerRow<B: Backend> {
    pub(crate) targets: IntTensor<B>,
    pub(crate) logsumexp: FloatTensor<B>,
    /// Gradient with respect to the log-probabilities.
    pub(crate) upstream: FloatTensor<B>,
    /// Read with `entropy_gradient` only.
    pub(crate) entropies: FloatTensor<B>,
    /// Gradient with respect to the entropies; read with `entropy_gradient` only.
    pub(crate) entropy_upstream: FloatTensor<B>,
}

/// `(logprobs, entropies, logsumexp)`, `[T]` each.
pub(crate) type Statistics<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// Routes the operation to WGSL or to the CPU twin; all floats are f32.
#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait TokenLogprobOps: Backend {
    /// Statistics of `[T, V]` logits that are computed and dropped tile by tile.
    fn token_logprob(
        hidden: FloatTensor<Self>,
        #[extension_type] head: Head<Self>,
        targets: IntTensor<Self>,
        #[extension_type] suppression: Suppression<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Statistics of ready `[T, V]` logits.
    fn logits_logprob(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        #[extension_type] suppression: Suppression<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradient `[T, V]` with respect to the logits, in their memory if nobody else holds it.
    fn logits_gradient(
        logits: FloatTensor<Self>,
        #[extension_type] per_row: PerRow<Self>,
        #[extension_type] suppression: Suppression<Self>,
        settings: Settings,
    ) -> FloatTensor<Self>;
}

fn tiles_of<B: Backend>(hidden: &FloatTensor<B>, head: &Head<B>, settings: Settings) -> Tiles {
    let [rows, width] = hidden.shape().dims();
    Tiles::new([rows, width, head.vocabulary()], settings.tile_bytes)
}

fn check_options(shapes: ShapeCheck, options: &TokenLogprobOptions) {
    let temperature = options.temperature;
    assert!(
        TEMPERATURES.contains(&temperature),
        "the temperature must be 1e-6 to 1e6, found {temperature}"
    );
    if let Some(mask) = &options.suppressed {
        shapes.tensor("suppressed", "V", &mask.dims());
    }
}

fn suppression(options: &TokenLogprobOptions) -> Suppression<Dispatch> {
    let mask = options.suppressed.clone();
    Suppression::new(mask.map(|mask| single_precision(mask).into_dispatch()))
}

/// The kernels compute in f32; gradients are cast back by the autodiff of the cast.
fn single_precision<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.dtype() == DType::F32 {
        tensor
    } else {
        tensor.cast(FloatDType::F32)
    }
}

fn results((logprobs, entropies, logsumexp): Statistics<Dispatch>) -> TokenLogprob {
    TokenLogprob {
        logprobs: Tensor::from_dispatch(logprobs),
        entropies: Tensor::from_dispatch(entropies),
        logsumexp: Tensor::from_dispatch(logsumexp),
    }
}
