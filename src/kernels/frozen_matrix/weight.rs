//! A weight matrix that trains or one that does not, behind one set of products.
//! It knows the products, not where they run.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::Dispatch;
use burn::tensor::{Int, Tensor};

use super::{FrozenMatrix, FrozenMatrixOps};
use crate::kernels::shape_check::ShapeCheck;

/// The weights of a linear layer or of an embedding, `[out, in]`.
#[derive(Debug, Clone)]
pub enum WeightMatrix {
    /// f32 in the device's memory; may be tracked.
    Dense(Tensor<2>),
    /// Never trains; in the bits in which it is stored.
    Frozen(Arc<FrozenMatrix>),
}

impl WeightMatrix {
    /// `[out, in]`
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::Dense(weight) => weight.dims(),
            Self::Frozen(weight) => weight.shape(),
        }
    }

    /// `x [n, in] · Wᵀ`, `[n, out]`; differentiable towards x and a dense weight.
    ///
    /// # Panics
    /// If `in` disagrees.
    #[must_use]
    pub fn linear(&self, x: Tensor<2>) -> Tensor<2> {
        self.check("linear", "x", "ni", &x.dims());
        match self {
            Self::Dense(weight) => x.matmul(weight.clone().transpose()),
            Self::Frozen(weight) => frozen_linear(x, weight, 0..weight.shape()[0]),
        }
    }

    /// The results of some rows of W only, `[n, rows]`.
    ///
    /// # Panics
    /// If `in` disagrees or the rows are outside of W.
    #[must_use]
    pub fn linear_rows(&self, x: Tensor<2>, rows: Range<usize>) -> Tensor<2> {
        self.check("linear_rows", "x", "ni", &x.dims());
        match self {
            Self::Dense(weight) => x.matmul(weight.clone().slice([rows]).transpose()),
            Self::Frozen(weight) => frozen_linear(x, weight, rows),
        }
    }

    /// `upstream [n, rows] · W[rows]`, `[n, in]`: what [`Self::linear_rows`] passes back to x. Not differentiable.
    ///
    /// # Panics
    /// If the rows are outside of W or not as many as `upstream` has columns.
    #[must_use]
    pub fn linear_rows_backward(&self, upstream: Tensor<2>, rows: Range<usize>) -> Tensor<2> {
        ShapeCheck::new("linear_rows_backward")
            .tensor("upstream", "nr", &upstream.dims())
            .tensor("rows", "r", &[rows.len()]);
        match self {
            Self::Dense(weight) => upstream.matmul(weight.clone().slice([rows])),
            Self::Frozen(weight) => {
                weight.check_rows(&rows);
                Tensor::from_dispatch(Dispatch::frozen_linear_backward(
                    upstream.into_dispatch(),
                    Arc::clone(weight),
                    rows,
                ))
            }
        }
    }

    /// Row `ids[i]` of W as row i, `[n, in]`; differentiable towards a dense weight. Ids are below `out`.
    #[must_use]
    pub fn gather(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight.clone().select(0, ids),
            Self::Frozen(weight) => Tensor::from_dispatch(Dispatch::frozen_gather(
                ids.into_dispatch(),
                Arc::clone(weight),
            )),
        }
    }

    fn check(&self, operation: &'static str, name: &'static str, letters: &str, shape: &[usize]) {
        ShapeCheck::new(operation)
            .tensor("weight", "oi", &self.shape())
            .tensor(name, letters, shape);
    }
}

fn frozen_linear(x: Tensor<2>, weight: &Arc<FrozenMatrix>, rows: Range<usize>) -> Tensor<2> {
    weight.check_rows(&rows);
    Tensor::from_dispatch(Dispatch::frozen_linear(
        x.into_dispatch(),
        Arc::clone(weight),
        rows,
    ))
}
