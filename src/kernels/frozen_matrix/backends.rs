//! The operations on a GPU and on the CPU: which code runs where.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn_flex::FlexTensor;

use super::{FrozenMatrix, FrozenMatrixOps, gpu, twin};
use crate::kernels::flex_slices::{floats, from_floats, integers};

impl FrozenMatrixOps for Flex {
    fn frozen_linear(x: FlexTensor, weight: Arc<FrozenMatrix>, rows: Range<usize>) -> FlexTensor {
        let [count, _] = x.layout().shape().dims::<2>();
        let y = twin::linear(&floats(&x), &weight, rows.clone());
        from_floats(y, [count, rows.len()])
    }

    fn frozen_linear_backward(
        upstream: FlexTensor,
        weight: Arc<FrozenMatrix>,
        rows: Range<usize>,
    ) -> FlexTensor {
        let [count, _] = upstream.layout().shape().dims::<2>();
        let to_x = twin::linear_backward(&floats(&upstream), &weight, rows);
        from_floats(to_x, [count, weight.shape()[1]])
    }

    fn frozen_gather(ids: FlexTensor, weight: Arc<FrozenMatrix>) -> FlexTensor {
        let ids = integers(&ids);
        from_floats(twin::gather(&ids, &weight), [ids.len(), weight.shape()[1]])
    }
}

impl FrozenMatrixOps for CubeBackend {
    fn frozen_linear(x: CubeTensor, weight: Arc<FrozenMatrix>, rows: Range<usize>) -> CubeTensor {
        gpu::linear(x, &weight, rows)
    }

    fn frozen_linear_backward(
        upstream: CubeTensor,
        weight: Arc<FrozenMatrix>,
        rows: Range<usize>,
    ) -> CubeTensor {
        gpu::linear_backward(upstream, &weight, rows)
    }

    fn frozen_gather(ids: CubeTensor, weight: Arc<FrozenMatrix>) -> CubeTensor {
        gpu::gather(ids, &weight)
    }
}
