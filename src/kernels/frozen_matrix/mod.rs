//! Products with weight matrices that do not train, in the bits in which they are stored.
//! It knows matrices and row numbers, not what a layer is.
//!
//! `linear(x, W) = x · Wᵀ` with W `[out, in]`, its gradient to x, and rows of W by number. Nothing of W is ever stored as
//! f32: the CPU decodes blocks of rows into its caches, a GPU decodes words in its registers.

mod autodiff;
mod backends;
mod decode;
mod encode;
mod few_rows;
mod gpu;
mod matrix;
mod storage;
mod twin;
mod upload;
mod weight;

use std::ops::Range;
use std::sync::Arc;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, backend_extension};

pub(crate) use gpu::shaders;
pub use matrix::FrozenMatrix;
pub use storage::{SharedBytes, Storage};
pub use weight::WeightMatrix;

/// Routes the operations to WGSL or to the CPU twin; all floats are f32.
#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait FrozenMatrixOps: Backend {
    /// `x [n, in] · W[rows]ᵀ`, `[n, rows]`; differentiable towards x, and keeps nothing for it but the handle of W.
    fn frozen_linear(
        x: FloatTensor<Self>,
        weight: Arc<FrozenMatrix>,
        rows: Range<usize>,
    ) -> FloatTensor<Self>;

    /// `upstream [n, rows] · W[rows]`, `[n, in]`: what [`Self::frozen_linear`] passes back to x.
    fn frozen_linear_backward(
        upstream: FloatTensor<Self>,
        weight: Arc<FrozenMatrix>,
        rows: Range<usize>,
    ) -> FloatTensor<Self>;

    /// Row `ids[i]` of W as row i, `[n, in]`; a row of NaN where there is no such row.
    fn frozen_gather(ids: IntTensor<Self>, weight: Arc<FrozenMatrix>) -> FloatTensor<Self>;
}
